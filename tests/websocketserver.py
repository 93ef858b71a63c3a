"""
The server's side of a WebSocket (RFC 6455), sans-io, for tests that decide about every byte.

As L{tests.websocketclient}, of which it is the other end, it sends whatever it is told to::

    server = WebSocketServer()
    frames = server.receive(data)
    transport.write(server.acceptance() + server.frame(TEXT, b"hello"))
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

from tests.websocketclient import Frame, FrameReader, WebSocketClient

__all__ = ["WebSocketServer"]


class WebSocketServer:
    """
    One connection's server.

    @ivar request: the lines of the client's request, once it is there.
    @ivar headers: its headers, with names in lower case.
    """

    def __init__(self) -> None:
        self.request: list[str] = []
        self.headers: dict[str, str] = {}
        self._data = b""
        self._reader = FrameReader(masked=True)

    @staticmethod
    def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = False) -> bytes:
        """A frame, with the shortest form of its length."""
        return WebSocketClient.frame(opcode, payload, final=final, masked=masked)

    def acceptance(self, status: str = "101 Switching Protocols", **headers: str) -> bytes:
        """
        The answer that opens the WebSocket.

        @param headers: added, or put in place of the usual ones; an underscore stands for a hyphen. An empty value
            leaves the header out.
        """
        digest = sha1(self.headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        usual = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": b64encode(digest).decode(),
        }
        usual.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in usual.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def receive(self, data: bytes) -> list[Frame]:
        """
        Take what came.

        @return: the frames that are complete by now.
        """
        if not self.request:
            self._data += data
            head, end, data = self._data.partition(b"\r\n\r\n")
            if not end:
                return []
            self.request = head.decode("ascii").split("\r\n")
            pairs = (line.partition(": ") for line in self.request[1:])
            self.headers = {name.lower(): value for name, _, value in pairs}
        return self._reader.receive(data)
