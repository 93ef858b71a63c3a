"""
The client's side of a WebSocket (RFC 6455), sans-io, for tests that decide about every byte.

A client library keeps the rules, and so cannot show what a gateway does when they are broken. This one sends whatever
it is told to, and says of each frame that comes exactly what it was::

    client = WebSocketClient()
    transport.write(client.request("/", Host="gw"))
    transport.write(client.frame(TEXT, b'{"_":"hello"}'))
    for frame in client.receive(received):
        ...
"""

import struct
from dataclasses import dataclass
from typing import Self

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Answer",
    "Frame",
    "FrameReader",
    "WebSocketClient",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3
_MASK = b"\x37\xfa\x21\x3d"  # of section 5.7: what matters is that there is one


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the peer."""

    opcode: int
    payload: bytes
    final: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The answer to an HTTP request.

    @ivar headers: with names in lower case.
    @ivar body: of an answer that is not an upgrade, as far as it has come.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an answer from its first byte on."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)


class FrameReader:
    """
    Takes a peer's bytes apart.

    @param masked: whether its frames must be, as those of a client, or must not.
    """

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._data = b""

    def receive(self, data: bytes) -> list[Frame]:
        """
        Take what came.

        @return: the frames that are complete by now.
        """
        self._data += data
        frames: list[Frame] = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> Frame | None:
        data = self._data
        if len(data) < 2:
            return None
        assert bool(data[1] & 0x80) is self._masked, "a client must mask its frames, and a server must not"
        size, start = data[1] & 0x7F, 2
        if size > 125:
            form = "!H" if size == 126 else "!Q"
            start += struct.calcsize(form)
            if len(data) < start:
                return None
            (size,) = struct.unpack_from(form, data, 2)
        key = b""
        if self._masked:
            key = data[start : start + 4]
            start += 4
        if len(data) < start + size:
            return None
        payload = data[start : start + size]
        self._data = data[start + size :]
        return Frame(data[0] & 0x0F, _masked(payload, key) if key else payload, bool(data[0] & 0x80))


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)


class WebSocketClient:
    """
    One connection's client.

    @ivar answer: the answer to the request, once its head is there.
    """

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self._data = b""
        self._reader = FrameReader(masked=False)

    @staticmethod
    def request(path: str = "/", **headers: str) -> bytes:
        """
        An upgrade request.

        @param headers: added, or put in place of the usual ones; an underscore stands for a hyphen. An empty value
            leaves the header out.
        """
        usual = {
            "Host": "gateway.test",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": _KEY,
            "Sec-WebSocket-Version": "13",
        }
        usual.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in usual.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @staticmethod
    def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True) -> bytes:
        """A frame, with the shortest form of its length."""
        size, mask = len(payload), 0x80 if masked else 0
        first = (0x80 if final else 0) | opcode
        if size < 126:
            header = struct.pack("!BB", first, mask | size)
        elif size < 0x10000:
            header = struct.pack("!BBH", first, mask | 126, size)
        else:
            header = struct.pack("!BBQ", first, mask | 127, size)
        if not masked:
            return header + payload
        return header + _MASK + _masked(payload, _MASK)

    def receive(self, data: bytes) -> list[Frame]:
        """
        Take what came.

        @return: the frames that are complete by now.
        """
        if self.answer is None:
            self._data += data
            if b"\r\n\r\n" not in self._data:
                return []
            self.answer = Answer.parse(self._data)
            data = self.answer.body if self.answer.status == 101 else b""
        elif self.answer.status != 101:
            self.answer = Answer(self.answer.status, self.answer.headers, self.answer.body + data)
            return []
        return self._reader.receive(data)
