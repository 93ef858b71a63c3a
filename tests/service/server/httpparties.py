"""
Visitors and origins on either side of an HTTP door, in memory, who notice when one gets what is another's::

    visitor = OldVisitor("v0")
    visitor.ask("POST", 5000, "chunked")
    visitor.send(100)                   # ... of the request
    visitor.answers                     # each of them is whole, and meant for this visitor's request, or a page

Every request says whose it is, in its target and in each byte of its body, and so does every byte that an origin
answers to it.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.testing import FlowLink
from gateway.wire.http1 import RequestHead, ResponseHead, parseRequestHead, parseResponseHead
from gateway.wire.http1body import BodyReader, requestLength, responseLength
from tests.net.sides import Peer

HOST = "app.example.com"
PAGES = {400, 404, 408, 413, 421, 429, 502, 503, 504}
"""What the gateway itself may say here."""


def words(tag: str, size: int) -> bytes:
    """So many bytes that say whose they are."""
    return (f"<{tag}>".encode() * (size // (len(tag) + 2) + 1))[:size]


@dataclass
class Asked:
    """
    A request of a visitor's.

    @ivar end: where it ends in all that the visitor has to send.
    """

    tag: str
    method: str
    size: int
    wantsUpgrade: bool = False
    end: int = 0


class Answer:
    """
    What a visitor got for a request.

    @ivar size: of the body, as the origin means it; C{None}: it is the gateway's own.
    """

    def __init__(self, asked: Asked, head: ResponseHead) -> None:
        self.asked = asked
        self.body = bytearray()
        self.size: int | None = None
        self._gzip = zlib.decompressobj(31) if head.get("content-encoding") else None
        if (tag := head.get("tag")) is None:
            assert head.status in PAGES and head.get("x-content-type-options"), head
        else:
            assert tag == asked.tag, f"{tag} was answered to {asked.tag}"
            self.size = 0 if asked.method == "HEAD" else int(head.get("size") or 0)

    def gotBody(self, data: bytes) -> None:
        """It is what was meant, so far."""
        self.body += data if self._gzip is None else self._gzip.decompress(data)
        if self.size is not None:
            assert self.body == words(self.asked.tag, self.size)[: len(self.body)]

    def gotEnd(self) -> None:
        """It says that it is whole."""
        assert self.size in (None, len(self.body)), "a response that was cut short looked whole"


class Reader:
    """
    Reads messages, one after the other, as they come.

    @ivar raw: what came behind a switch of protocols; C{None} before.
    """

    def __init__(self) -> None:
        self.raw: bytearray | None = None
        self.body: BodyReader | None = None
        self._data = b""

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._data += data
        while self._data and self.raw is None and self._readSome():
            pass
        if self.raw is not None:
            self.raw += self._data
            self._data = b""

    def _readSome(self) -> bool:
        if self.body is None:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return False
            self._data = rest
            self.body = BodyReader(self.gotHead(head + found))
        elif not self.body.isDone:
            pieces, behind = self.body.receive(self._data)
            self._data = bytes(behind)
            self.gotBody(b"".join(pieces))
        if self.body is not None and self.body.isDone:
            self.body = None
            self.gotEnd()
        return True

    def gotHead(self, data: bytes) -> int | None:
        """A message begins. Return how long its body is."""
        raise NotImplementedError

    def gotBody(self, data: bytes) -> None:
        """A piece of it."""
        raise NotImplementedError

    def gotEnd(self) -> None:
        """It is complete."""
        raise NotImplementedError


class OldVisitor(Peer, Reader):
    """
    A visitor with HTTP/1.

    @ivar line: all that it has to send, of which C{sent} bytes are.
    @ivar asked: its requests.
    @ivar answers: what it got for them.
    """

    link: FlowLink

    def __init__(self, name: str) -> None:
        Peer.__init__(self)
        Reader.__init__(self)
        self.name = name
        self.line = bytearray()
        self.sent = 0
        self.asked: list[Asked] = []
        self.answers: list[Answer] = []
        self.hasLeft = False
        self._answer: Answer | None = None

    @property
    def isWaiting(self) -> bool:
        """Whether it may expect an answer."""
        isThere = not (self.hasLeft or self.ended or self.reason)
        return isThere and self.raw is None and len(self.answers) < len(self.asked)

    def ask(self, method: str, size: int, manner: str) -> None:
        """Have one more request to send."""
        asked = Asked(f"{self.name}-{len(self.asked)}", method, size, manner == "upgrade" and not size)
        body = words(asked.tag, size)
        lines = [
            f"{method} /{asked.tag} HTTP/{'1.0' if manner == 'old' else '1.1'}",
            f"Host: {HOST}",
            "Accept-Encoding: gzip",
        ]
        if asked.wantsUpgrade:
            lines += ["Connection: Upgrade", "Upgrade: chat"]
        elif manner == "old":
            lines.append("Connection: keep-alive")
        elif manner == "expects" and size:
            lines.append("Expect: 100-continue")
        if manner == "chunked":
            lines.append("Transfer-Encoding: chunked")
            parts = [part for part in (body[: size // 2], body[size // 2 :]) if part]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        elif size:
            lines.append(f"Content-Length: {size}")
        self.line += "\r\n".join([*lines, "", ""]).encode() + body
        asked.end = len(self.line)
        self.asked.append(asked)

    def send(self, size: int) -> None:
        """Send so much more."""
        if not self.hasLeft and self.reason is None:
            self.transport.write(bytes(self.line[self.sent : self.sent + size]))
            self.sent = min(len(self.line), self.sent + size)

    def leave(self, how: str) -> None:
        """Say no more."""
        if self.reason is None and not (self.hasLeft and how == "half-close"):
            self.hasLeft = True
            verbs = {"abort": "abortConnection", "close": "loseConnection", "half-close": "loseWriteConnection"}
            getattr(self.transport, verbs[how])()

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.feed(data)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if self.body is not None:
            self.body.ended()  # there is no other end of it, and this one is clean
            self.gotEnd()

    def gotHead(self, data: bytes) -> int | None:
        head = parseResponseHead(data)
        assert head is not None
        self._answer = None
        if 100 <= head.status < 200 and head.status != 101:
            return 0
        assert len(self.answers) < len(self.asked), f"a response to nothing: {data!r}"
        asked = self.asked[len(self.answers)]
        if head.status == 101:
            assert asked.wantsUpgrade
            self.raw = bytearray()
        self._answer = Answer(asked, head)
        return responseLength(head, asked.method)

    def gotBody(self, data: bytes) -> None:
        assert self._answer is not None
        self._answer.gotBody(data)

    def gotEnd(self) -> None:
        if self._answer is not None:
            self._answer.gotEnd()
            self.answers.append(self._answer)


class Origin(Peer, Reader):
    """
    An origin's end of a connection.

    @param seen: the tags of all requests that any origin saw, and how often.
    @param find: the request with a tag.
    @ivar asked: the present request: its tag and method; C{None}: it was answered.
    @ivar line: what it has to send.
    """

    link: FlowLink

    def __init__(self, seen: Counter[str], find: Callable[[str], Asked]) -> None:
        Peer.__init__(self)
        Reader.__init__(self)
        self._seen = seen
        self._find = find
        self.asked: RequestHead | None = None
        self.line = b""
        self.switched: Asked | None = None
        self._body = bytearray()

    @property
    def isOver(self) -> bool:
        """Whether the connection is."""
        return self.ended or self.reason is not None

    @property
    def tag(self) -> str:
        """Of the present request."""
        assert self.asked is not None
        return self.asked.target[1:]

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.feed(data)

    def gotHead(self, data: bytes) -> int | None:
        head = parseRequestHead(data)
        assert head is not None and head.get("host") == HOST and head.get("x-forwarded-for"), data
        assert self.asked is None, "a request before the response to the one before"
        self.asked = head
        self._present = self._find(self.tag)
        self._body.clear()
        self._seen[self.tag] += 1
        return requestLength(head)

    def gotBody(self, data: bytes) -> None:
        self._body += data
        assert self._body == words(self._present.tag, self._present.size)[: len(self._body)]

    def gotEnd(self) -> None:
        assert len(self._body) == self._present.size

    def answer(self, size: int, framing: str) -> None:
        """Have an answer to send."""
        assert self.asked is not None
        lines = ["HTTP/1.1 200 OK", f"Tag: {self.tag}", f"Size: {size}", "Content-Type: text/plain"]
        body = words(self.tag, size)
        if framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
            body = (b"%x\r\n%b\r\n" % (size, body) if size else b"") + b"0\r\n\r\n"
        elif framing == "length":
            lines.append(f"Content-Length: {size}")
        else:
            lines.append("Connection: close")
        if self.asked.method == "HEAD":
            body = b""
        self.line = "\r\n".join([*lines, "", ""]).encode() + body
        self.asked = None

    def switch(self) -> None:
        """Switch protocols."""
        assert self.asked is not None
        self.switched = self._present
        self.raw = bytearray()
        self.line = f"HTTP/1.1 101 Now\r\nConnection: upgrade\r\nUpgrade: chat\r\nTag: {self.tag}\r\n\r\n".encode()
        self.line += words(self.tag, 1000)
        self.asked = None

    def send(self, size: int) -> None:
        """Send so much more."""
        if self.reason is None:
            self.transport.write(self.line[:size])
            self.line = self.line[size:]

    def finish(self) -> None:
        """End an answer without a length."""
        self.send(len(self.line))
        self.transport.loseConnection()

    def inform(self, status: int) -> None:
        """Say something before the answer."""
        self.transport.write(b"HTTP/1.1 %d Now\r\n\r\n" % status)

    def speakUnasked(self, what: bytes) -> None:
        """Say what nobody asked for."""
        self.transport.write(what)

    def hangUp(self, abort: bool) -> None:
        """Be gone."""
        (self.transport.abortConnection if abort else self.transport.loseConnection)()
