"""
The load of the benchmarks: targets and clients that cost far less than a gateway does.

Targets are loops over blocking or polled sockets, run in processes of their own. Clients use buffers that were
built, and masked, before the clock starts, and only walk frame headers when they receive. A way to the target is a
L{Door}; its script is data, so that one loop serves a plain socket, a WebSocket and Tabby's protocol::

    stream = door.enter(address, port)
    seconds = download(stream, door, 512 * MIB)
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from tests.interop.rawwebsocket import BINARY, CLOSE, TEXT, encodeFrame, handshakeRequest

from .harness import HERE, MIB

TOKEN = "a-token-of-the-benchmark"

_BLOCK = bytes(MIB)
_TIMEOUT = 60.0
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_BYTE = b"x"
_BYTE_FRAME = b"\x82\x01x"

Exchange = tuple[bytes, bytes]
"""What to send, and what to have received before going on."""


class Counter(Protocol):
    """A number that two processes share."""

    value: int


# Targets. Each serves forever; the harness ends their process.


def echo(listener: socket.socket) -> None:
    """Send back what comes, on any number of connections."""
    poll = select.epoll()
    listener.setblocking(False)
    poll.register(listener, select.EPOLLIN)
    streams: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                stream, _ = listener.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                streams[stream.fileno()] = stream
                poll.register(stream, select.EPOLLIN)
                continue
            try:
                data = streams[number].recv(65536)
            except OSError:
                data = b""
            if data:
                streams[number].send(data)
            else:
                streams.pop(number).close()


def source(size: int, sent: Counter) -> Callable[[socket.socket], None]:
    """
    On each connection, send C{size} bytes after the first byte came.

    It waits because the original does not deliver what a target says at once.

    @param sent: counts the bytes that the kernel took.
    """

    def serve(listener: socket.socket) -> None:
        while True:
            stream, _ = listener.accept()
            # The client, or a gateway in despair, may end it before all is sent.
            with stream, suppress(OSError):
                if not stream.recv(1):
                    continue
                left = size
                while left:
                    taken = stream.send(_BLOCK[:left] if left < MIB else _BLOCK)
                    left -= taken
                    sent.value += taken
                stream.recv(1)

    return serve


def sink(size: int) -> Callable[[socket.socket], None]:
    """On each connection, receive C{size} bytes, then send one."""

    def serve(listener: socket.socket) -> None:
        buffer = bytearray(MIB)
        while True:
            stream, _ = listener.accept()
            with stream, suppress(OSError):
                left = size
                while left > 0 and (got := stream.recv_into(buffer)):
                    left -= got
                if not left:
                    stream.sendall(_BYTE)
                    stream.recv(1)

    return serve


def stone(listener: socket.socket) -> None:
    """Accept and never read."""
    streams = []
    while True:
        streams.append(listener.accept()[0])


# Ways to a target.


@dataclass(frozen=True, slots=True)
class Door:
    """
    How a client comes through a gateway, or past it.

    @ivar framed: whether bytes travel in WebSocket frames.
    @ivar controlled: whether Tabby's control messages come first.
    """

    framed: bool
    controlled: bool

    def opening(self, port: int) -> tuple[Exchange, ...]:
        """Return the exchanges after which bytes travel to the target at C{port}."""
        if not self.framed:
            return ()
        request = handshakeRequest(HERE, "/", {}, _KEY)
        if not self.controlled:
            return ((request, b"\r\n\r\n"),)
        hello = json.dumps({"_": "hello", "version": 1, "auth_token": TOKEN})
        connect = json.dumps({"_": "connect", "host": HERE, "port": port})
        return (
            (request, b"auth_required"),
            (encodeFrame(TEXT, hello.encode()), b'"ready"}'),
            (encodeFrame(TEXT, connect.encode()), b'"connected"}'),
        )

    def visit(self, port: int) -> tuple[Exchange, ...]:
        """Return the exchanges of a whole short visit: in, one byte there and back, and out."""
        if not self.framed:
            return ((_BYTE, _BYTE),)
        there = (encodeFrame(BINARY, _BYTE), _BYTE_FRAME)
        return (*self.opening(port), there, (encodeFrame(CLOSE, b"\x03\xe8"), b"\x88"))

    def wrap(self, payload: bytes) -> bytes:
        """Return C{payload} as it travels to the gateway."""
        return encodeFrame(BINARY, payload) if self.framed else payload

    def enter(self, address: tuple[str, int], port: int, *, receiveBuffer: int | None = None) -> socket.socket:
        """
        Connect to C{address} and on to the target at C{port}.

        @param receiveBuffer: bytes; keeps the kernel from hiding a client that does not read.
        """
        stream = socket.socket()
        try:
            if receiveBuffer is not None:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiveBuffer)
            stream.settimeout(_TIMEOUT)
            stream.connect(address)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request, reply in self.opening(port):
                stream.sendall(request)
                got = b""
                while reply not in got:
                    data = stream.recv(65536)
                    if not data:
                        raise ConnectionError(f"lost while awaiting {reply!r}; got {got!r}")
                    got += data
        except BaseException:
            stream.close()
            raise
        return stream


# Clients.


def download(stream: socket.socket, door: Door, size: int) -> float:
    """Start a L{source} and receive its C{size} bytes; return the seconds."""
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    begun = time.perf_counter()
    stream.sendall(door.wrap(_BYTE))
    received = 0
    skip = 0  # bytes of the present frame's payload that have not come yet
    kept = 0  # bytes of an incomplete header, moved to the front of the buffer
    while received < size:
        got = stream.recv_into(view[kept:])
        if not got:
            raise ConnectionError(f"the download ended after {received} bytes")
        end = kept + got
        kept = 0
        if not door.framed:
            received += got
            continue
        at = 0
        while at < end:
            if skip:
                taken = min(skip, end - at)
                skip -= taken
                at += taken
                received += taken
                continue
            short = buffer[at + 1] if at + 1 < end else 0
            head = 10 if short == 127 else 4 if short == 126 else 2
            if at + head > end:
                kept = end - at
                view[:kept] = bytes(view[at:end])
                break
            skip = short if head == 2 else int.from_bytes(view[at + 2 : at + head], "big")
            at += head
    return time.perf_counter() - begun


def upload(stream: socket.socket, door: Door, size: int, frame: int) -> float:
    """Send C{size} bytes to a L{sink}, in frames of C{frame} bytes, and await its reply; return the seconds."""
    batch = max(1, MIB // frame)
    block = door.wrap(bytes(frame)) * batch
    begun = time.perf_counter()
    for _ in range(size // (frame * batch)):
        stream.sendall(block)
    while _BYTE not in stream.recv(64):
        pass
    return time.perf_counter() - begun


def echoTimes(stream: socket.socket, door: Door, count: int) -> list[float]:
    """Send 64 bytes to an L{echo} and await them, C{count} times; return the microseconds of each, in order of size."""
    request = door.wrap(bytes(64))
    awaited = 66 if door.framed else 64
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        stream.sendall(request)
        got = 0
        while got < awaited:
            got += len(stream.recv(4096)) or _lost()
        times.append((time.perf_counter_ns() - begun) / 1000)
    return sorted(times)


def _lost() -> int:
    raise ConnectionError("the connection ended")


def visits(
    address: tuple[str, int], script: tuple[Exchange, ...], count: int, concurrency: int, *, keep: bool = False
) -> tuple[float, list[socket.socket]]:
    """
    Make C{count} connections that each go through C{script}, C{concurrency} at a time.

    They come from 250 addresses, as visitors do.

    @param keep: leave the connections open and return them.

    @return: the seconds and the connections.
    """
    poll = select.epoll()
    streams: dict[int, socket.socket] = {}
    progress: dict[int, tuple[int, bytes]] = {}
    kept: list[socket.socket] = []
    begun = time.perf_counter()
    made = done = 0
    try:
        while done < count:
            while made < count and len(streams) < concurrency:
                stream = socket.create_connection(address, _TIMEOUT, (f"127.0.1.{made % 250 + 1}", 0))
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                streams[stream.fileno()] = stream
                progress[stream.fileno()] = (0, b"")
                poll.register(stream, select.EPOLLIN)
                stream.send(script[0][0])
                made += 1
            ready = poll.poll(_TIMEOUT)
            if not ready:
                raise TimeoutError(f"{done} of {count} connections, then nothing for {_TIMEOUT:.0f} s")
            for number, _ in ready:
                stream = streams[number]
                step, got = progress[number]
                data = stream.recv(65536)
                if not data:
                    raise ConnectionError(f"step {step} of connection {done}: ended after {got!r}")
                got += data
                if script[step][1] not in got:
                    progress[number] = (step, got)
                    continue
                step += 1
                if step < len(script):
                    progress[number] = (step, b"")
                    stream.send(script[step][0])
                    continue
                poll.unregister(stream)
                del streams[number], progress[number]
                done += 1
                if keep:
                    kept.append(stream)
                else:
                    stream.close()
        return time.perf_counter() - begun, kept
    except BaseException:
        for stream in kept:
            stream.close()
        raise
    finally:
        poll.close()
        for stream in streams.values():
            stream.close()
