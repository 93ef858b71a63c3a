"""
HTTP/1.1 heads: that of a request or of a response to a value, a small response to bytes (RFC 9112).

The doors that speak WebSocket look at a request's head before they decide whether to upgrade it, and answer
everything else with a short page; a client looks at the head of the answer. The grammar is llhttp's (by way of
httptools), so that what we accept is what Node accepts, no more::

    head = parseRequestHead(b"GET /healthz HTTP/1.1\\r\\nHost: gw\\r\\n\\r\\n")
    assert head is not None and head.path == "/healthz" and head.get("host") == "gw"
"""

__all__ = ["RequestHead", "Response", "ResponseHead", "parseRequestHead", "parseResponseHead"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import httptools

from gateway.wire.errors import RemoteProtocolError

_END = b"\r\n\r\n"
_BEGINNINGS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n")
"""Of a method, of "HTTP", or of an empty line before either. TLS begins with none, and may never send an L{_END}."""
_VERSIONS = ("1.0", "1.1")


class _Headers:
    """What can be asked about the headers of a head."""

    __slots__ = ()

    headers: Sequence[tuple[str, str]]

    def get(self, name: str) -> str | None:
        """
        @param name: in lower case.
        @return: the first value of a header, or C{None}.
        """
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        """
        @param name: in lower case.
        @return: the value of each line of a header, in the order sent.
        """
        return [value for key, value in self.headers if key == name]

    def members(self, name: str) -> list[str]:
        """The members of a comma-separated header over all its lines, in the order sent (RFC 9110, section 5.6.1)."""
        return [member for each in ",".join(self.all(name)).split(",") if (member := each.strip(" \t"))]

    def tokens(self, name: str) -> set[str]:
        """The L{members} of a header for which neither case nor order matters, in lower case."""
        return {member.lower() for member in self.members(name)}


@dataclass(frozen=True, slots=True)
class RequestHead(_Headers):
    """
    The head of one request.

    @ivar method: as sent, e.g. C{"GET"}.
    @ivar target: as sent, e.g. C{"/a?b"}; never empty.
    @ivar version: C{"1.0"} or C{"1.1"}.
    @ivar headers: name in lower case and value, in the order sent. Decoded as ISO 8859-1, which loses nothing.
    """

    method: str
    target: str
    version: str
    headers: Sequence[tuple[str, str]]

    @property
    def path(self) -> str:
        """The target up to its query."""
        return self.target.partition("?")[0]

    @property
    def wantsWebSocket(self) -> bool:
        """Whether this asks for an upgrade to WebSocket (RFC 6455, section 4.2.1), well-formed or not."""
        return "websocket" in self.tokens("upgrade")


@dataclass(frozen=True, slots=True)
class ResponseHead(_Headers):
    """
    The head of one response.

    @ivar status: of three digits.
    @ivar reason: the words after it, which may be none.
    @ivar version: C{"1.0"} or C{"1.1"}.
    @ivar headers: as those of a L{RequestHead}.
    """

    status: int
    reason: str
    version: str
    headers: Sequence[tuple[str, str]]


class _Collector:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.text = b""
        self.headers: list[tuple[str, str]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.text += url

    def on_status(self, reason: bytes) -> None:
        self.text += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


_Parser = TypeVar("_Parser", httptools.HttpRequestParser, httptools.HttpResponseParser)


def _parseHead(
    parserClass: Callable[[_Collector], _Parser], kind: str, data: bytes, limit: int
) -> tuple[_Parser, str, _Collector] | None:
    """
    @param kind: C{request} or C{response}.
    @return: the parser after the head, the version, and what was collected; C{None} when more bytes are needed.
    """
    end = data.find(_END, 0, limit)
    if end < 0:
        if data and data[0] not in _BEGINNINGS:
            raise RemoteProtocolError(f"bad-{kind}", f"This is not an HTTP/1 {kind}.")
        if len(data) >= limit:
            raise RemoteProtocolError("head-too-large", f"The {kind}'s head is longer than {limit} bytes.")
        return None
    collector = _Collector()
    parser = parserClass(collector)
    try:
        parser.feed_data(data[: end + len(_END)])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        # Of a complete head it only says that it does not know what comes after a 101 without Upgrade.
        if not collector.complete:
            raise RemoteProtocolError(f"bad-{kind}", f"This is not an HTTP/1 {kind}.") from None
    version = parser.get_http_version()
    if version not in _VERSIONS:  # empty lines alone count as version 0.0
        raise RemoteProtocolError(f"bad-{kind}", f"This is not an HTTP/1 {kind}.")
    return parser, version, collector


def parseRequestHead(data: bytes, limit: int = 16 * 1024) -> RequestHead | None:
    """
    Read a request's head from the beginning of what a client sent.

    @param data: from the first byte on; may hold more than the head.
    @param limit: the longest head, in bytes.
    @return: the head, or C{None} when more bytes are needed.
    @raise RemoteProtocolError: C{bad-request} or C{head-too-large}.
    """
    if (read := _parseHead(httptools.HttpRequestParser, "request", data, limit)) is None:
        return None
    parser, version, collector = read
    return RequestHead(
        parser.get_method().decode("latin-1"), collector.text.decode("latin-1"), version, collector.headers
    )


def parseResponseHead(data: bytes, limit: int = 16 * 1024) -> ResponseHead | None:
    """
    Read a response's head from the beginning of what a server sent.

    @param data: from the first byte on; may hold more than the head.
    @param limit: the longest head, in bytes.
    @return: the head, or C{None} when more bytes are needed.
    @raise RemoteProtocolError: C{bad-response} or C{head-too-large}.
    """
    if (read := _parseHead(httptools.HttpResponseParser, "response", data, limit)) is None:
        return None
    parser, version, collector = read
    return ResponseHead(parser.get_status_code(), collector.text.decode("latin-1"), version, collector.headers)


@dataclass(frozen=True, slots=True)
class Response:
    """
    A whole short response, after which the connection ends.

    @ivar contentType: with its charset.
    """

    status: int
    body: bytes
    contentType: str = "text/plain; charset=utf-8"
    headers: Sequence[tuple[str, str]] = ()

    def encode(self, *, withBody: bool = True) -> bytes:
        """
        @param withBody: C{False} for the answer to a HEAD request.
        """
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.contentType}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        head = "\r\n".join(lines).encode("latin-1") + _END
        return head + self.body if withBody else head
