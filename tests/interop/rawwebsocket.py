"""
A WebSocket client of bare sockets (RFC 6455), for tests and benchmarks.

It exists because a library refuses to say what a hostile or broken client says: unmasked frames, half a
fragment, garbage, a TCP connection that just ends. It blocks, always with a deadline, and shares no code with
the gateways that it talks to. For example::

    client = RawWebSocket.connect(("127.0.0.1", 9000), "/")
    client.sendText('{"_":"hello","version":1}')
    message = client.receive(5.0)
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class NothingCame(Exception):
    """The deadline passed before a whole frame or response had come."""


class ConnectionLost(Exception):
    """TCP ended, cleanly or not, where a frame or a response was awaited."""


class HandshakeRefused(Exception):
    """The server answered the upgrade request with something other than 101."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came from the server."""

    opcode: int
    payload: bytes
    final: bool = True


def encodeFrame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """
    Encode one frame with the shortest length form (RFC 6455, section 5.2).

    @param masked: mask with a random key, as clients must; C{False} is a protocol error on purpose.
    """
    maskBit = 0x80 if masked else 0
    size = len(payload)
    first = (0x80 if final else 0) | opcode
    if size < 126:
        header = struct.pack("!BB", first, maskBit | size)
    elif size < 65536:
        header = struct.pack("!BBH", first, maskBit | 126, size)
    else:
        header = struct.pack("!BBQ", first, maskBit | 127, size)
    if not masked:
        return header + payload
    key = os.urandom(4)
    return header + key + _mask(payload, key)


def _mask(payload: bytes, key: bytes) -> bytes:
    """XOR C{payload} with the repeated C{key}, as one big integer instead of byte by byte."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def handshakeRequest(host: str, path: str, headers: Mapping[str, str], key: str) -> bytes:
    """Return the bytes of an upgrade request (RFC 6455, section 4.1); C{headers} replace the usual ones."""
    fields = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


@dataclass(slots=True)
class RawWebSocket:
    """
    One connection, after its handshake.

    @ivar socket: the TCP or TLS socket, for those who need to do something unspeakable to it.
    """

    socket: socket.socket
    _buffer: bytearray = field(default_factory=bytearray)

    @classmethod
    def connect(
        cls,
        address: tuple[str, int],
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        source: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
    ) -> RawWebSocket:
        """
        Connect and shake hands.

        @param source: the local address to connect from; all of 127/8 will do on Linux.
        @param timeout: seconds for the whole.

        @raise HandshakeRefused: the server did not switch protocols.
        @raise ConnectionLost: the server closed the connection instead of answering; so does failing TLS.
        @raise NothingCame: the answer was not complete in time.
        """
        deadline = time.monotonic() + timeout
        stream = connectStream(address, source=source, tls=tls, timeout=timeout)
        client = cls(stream)
        try:
            client._shakeHands(f"{address[0]}:{address[1]}", path, headers or {}, deadline)
        except BaseException:
            client.drop()
            raise
        return client

    def _shakeHands(self, host: str, path: str, headers: Mapping[str, str], deadline: float) -> None:
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        self._sendall(handshakeRequest(host, path, headers, key))
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more(deadline)
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            raise HandshakeRefused(status, bytes(self._buffer))
        accept = base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID).digest())
        if accept not in head:
            raise ConnectionLost("wrong Sec-WebSocket-Accept")

    def sendText(self, text: str) -> None:
        """Send one text message."""
        self._sendall(encodeFrame(TEXT, text.encode("utf-8")))

    def sendBinary(self, payload: bytes) -> None:
        """Send one binary message in one frame, of any size."""
        self._sendall(encodeFrame(BINARY, payload))

    def sendClose(self, code: int = 1000) -> None:
        """Send a Close frame and keep the TCP connection open."""
        self._sendall(encodeFrame(CLOSE, struct.pack("!H", code)))

    def sendFrame(self, opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> None:
        """Send any frame, allowed or not."""
        self._sendall(encodeFrame(opcode, payload, final=final, masked=masked))

    def sendRaw(self, data: bytes) -> None:
        """Send bytes that need not be a frame."""
        self._sendall(data)

    def receive(self, timeout: float) -> Frame:
        """
        Return the next frame; a server's pings are answered on the way and not returned.

        @param timeout: seconds until L{NothingCame}.

        @raise ConnectionLost: TCP ended instead.
        """
        deadline = time.monotonic() + timeout
        while True:
            frame = self._frame(deadline)
            if frame.opcode != PING:
                return frame
            self.sendFrame(PONG, frame.payload)

    def _frame(self, deadline: float) -> Frame:
        while True:
            frame = self._takeFrame()
            if frame is not None:
                return frame
            self._more(deadline)

    def _takeFrame(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            if len(buffer) < 4:
                return None
            (size,) = struct.unpack_from("!H", buffer, 2)
            start = 4
        elif size == 127:
            if len(buffer) < 10:
                return None
            (size,) = struct.unpack_from("!Q", buffer, 2)
            start = 10
        if len(buffer) < start + size:
            return None
        frame = Frame(buffer[0] & 0x0F, bytes(buffer[start : start + size]), bool(buffer[0] & 0x80))
        del buffer[: start + size]
        return frame

    def _more(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NothingCame
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(262144)
        except TimeoutError:
            raise NothingCame from None
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        if not data:
            raise ConnectionLost("end of file")
        self._buffer += data

    def _sendall(self, data: bytes) -> None:
        self.socket.settimeout(30.0)
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def drop(self) -> None:
        """End TCP without a Close frame."""
        self.socket.close()


def connectStream(
    address: tuple[str, int], *, source: str | None = None, tls: ssl.SSLContext | None = None, timeout: float
) -> socket.socket:
    """
    Open a TCP connection to C{address}, with TLS on it when there is a context.

    @raise ConnectionLost: TLS failed. OSErrors of TCP itself pass.
    """
    plain = socket.create_connection(address, timeout, source_address=(source, 0) if source else None)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return plain
    try:
        return tls.wrap_socket(plain, server_hostname=address[0])
    except (ssl.SSLError, OSError) as error:
        plain.close()
        raise ConnectionLost(str(error)) from error
