"""
HTTP/1.1 heads: that of a request or of a response to a value, and back to bytes (RFC 9112).

What a head says of the message that it begins is for L{gateway.wire.http1body}, and not looked at here. The grammar is
llhttp's (by way of httptools), which is Node's, without those few things in which it is lenient::

    head = parseRequestHead(b"GET /healthz HTTP/1.1\\r\\nHost: gw\\r\\n\\r\\n")
    assert head is not None and head.path == "/healthz" and head.get("host") == "gw"
    assert encodeRequestHead(head) == b"GET /healthz HTTP/1.1\\r\\nHost: gw\\r\\n\\r\\n"

Names are in lower case in values, and spelled as they mostly are in bytes.
"""

__all__ = [
    "RequestHead",
    "Response",
    "ResponseHead",
    "encodeFields",
    "encodeRequestHead",
    "encodeResponseHead",
    "parseRequestHead",
    "parseResponseHead",
]

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import httptools

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError

_END = b"\r\n\r\n"
_BEGINNINGS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n")
"""Of a method, of "HTTP", or of an empty line before either. TLS begins with none, and may never send an L{_END}."""
_RESPONSE = b"HTTP/1."

_VERSIONS = {"HTTP/1.0": "1.0", "HTTP/1.1": "1.1"}
_OTHER_VERSION = re.compile(r"[A-Z][A-Z-]* \S+ HTTP/[0-9]\.[0-9]", re.ASCII)
_STATUS = re.compile(r"([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?", re.ASCII)
_CONTROLS = bytes(each for each in (*range(0x20), 0x7F) if each != 0x09)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_SPELLINGS = {"etag": "ETag", "id": "ID", "ip": "IP", "te": "TE", "ua": "UA", "websocket": "WebSocket", "www": "WWW"}
"""Parts of names that do not begin with the one capital that they have. It matters to nobody who reads by the rules."""


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


# Heads are values, and not to be changed. They are not frozen only because a request makes six of them on its way, and
# to make a frozen one takes four times as long.
@dataclass(slots=True)
class RequestHead(_Headers):
    """
    The head of one request.

    @ivar method: as sent, e.g. C{"GET"}.
    @ivar target: as sent, e.g. C{"/a?b"}; never empty.
    @ivar version: C{"1.0"} or C{"1.1"}; C{"2"} where it did not come in bytes of HTTP/1.
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


@dataclass(slots=True)
class ResponseHead(_Headers):
    """
    The head of one response.

    @ivar status: of three digits.
    @ivar reason: the words after it, which may be none.
    @ivar version: as that of a L{RequestHead}.
    @ivar headers: as those of a L{RequestHead}.
    """

    status: int
    reason: str
    version: str
    headers: Sequence[tuple[str, str]]


class _Fields:
    """What httptools calls back, and only that which a look at the first line does not tell."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def _notOne(kind: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"bad-{kind}", f"This is not an HTTP/1 {kind}.")


def _find(kind: str, data: bytes, limit: int) -> tuple[str, bytes] | None:
    """
    @param kind: C{request} or C{response}.
    @return: the first line, and the whole head; C{None} when more bytes are needed.
    """
    end = data.find(_END, 0, limit)
    if end < 0:
        if data and data[0] not in _BEGINNINGS:
            raise _notOne(kind)
        if kind == "response" and not _RESPONSE.startswith(data.lstrip(b"\r\n")[: len(_RESPONSE)]):
            raise _notOne(kind)  # as what speaks first in another protocol, and then waits
        if len(data) >= limit:
            if kind == "request" and data.find(b"\r\n", 2, limit) < 0:
                raise RemoteProtocolError("uri-too-long", f"The request's first line is longer than {limit} bytes.")
            raise RemoteProtocolError("head-too-large", f"The {kind}'s head is longer than {limit} bytes.")
        return None
    # One empty line before is overlooked (RFC 9112, section 2.2); llhttp overlooks any number, and of bare LF too.
    start = 2 if data.startswith(b"\r\n") else 0
    line = data[start : data.find(b"\r\n", start)]
    if not line or line[0] in b"\r\n":
        raise _notOne(kind)
    return line.decode("latin-1"), data[start : end + len(_END)]


def _read(
    parserClass: Callable[[_Fields], httptools.HttpRequestParser | httptools.HttpResponseParser],
    kind: str,
    head: bytes,
    maxFields: int,
) -> list[tuple[str, str]]:
    collected = _Fields()
    try:
        parserClass(collected).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        # Of a complete head it only says that it does not know what comes after a 101 without Upgrade, or how long the
        # body of this request is: that is for http1body to say.
        if not collected.complete:
            raise _notOne(kind) from None
    if not collected.complete:
        raise _notOne(kind)
    if len(collected.fields) > maxFields:
        raise RemoteProtocolError("head-too-large", f"The {kind}'s head has more than {maxFields} fields.")
    return collected.fields


def parseRequestHead(data: bytes, limit: int = 16 * 1024, maxFields: int = 100) -> RequestHead | None:
    """
    Read a request's head from the beginning of what a client sent. What else a server must look at before it believes
    it is in L{gateway.wire.http1body}.

    @param data: from the first byte on; may hold more than the head, which ends with the first empty line.
    @param limit: the longest head, in bytes.
    @param maxFields: how many fields it may have.
    @return: the head, or C{None} when more bytes are needed.
    @raise RemoteProtocolError: C{bad-request}, C{version}, C{uri-too-long} or C{head-too-large}.
    """
    if (found := _find("request", data, limit)) is None:
        return None
    line, head = found
    # llhttp lets more than one space through, and RTSP.
    method, _, rest = line.partition(" ")
    target, _, protocol = rest.partition(" ")
    if (version := _VERSIONS.get(protocol)) is None:
        if _OTHER_VERSION.fullmatch(line):
            raise RemoteProtocolError("version", "This version of HTTP is not spoken here.")
        raise _notOne("request")
    return RequestHead(method, target, version, _read(httptools.HttpRequestParser, "request", head, maxFields))


def parseResponseHead(data: bytes, limit: int = 16 * 1024, maxFields: int = 100) -> ResponseHead | None:
    """
    Read a response's head from the beginning of what a server sent.

    @param data: from the first byte on; may hold more than the head, which ends with the first empty line.
    @param limit: the longest head, in bytes.
    @param maxFields: how many fields it may have.
    @return: the head, or C{None} when more bytes are needed.
    @raise RemoteProtocolError: C{bad-response} or C{head-too-large}.
    """
    if (found := _find("response", data, limit)) is None:
        return None
    line, head = found
    # llhttp lets anything through behind the status.
    protocol, _, rest = line.partition(" ")
    if (version := _VERSIONS.get(protocol)) is None or not (match := _STATUS.fullmatch(rest)):
        raise _notOne("response")
    fields = _read(httptools.HttpResponseParser, "response", head, maxFields)
    return ResponseHead(int(match[1]), match[2] or "", version, fields)


def encodeRequestHead(head: RequestHead) -> bytes:
    """
    @return: the head as HTTP/1.1, whatever version it came in, up to and with the empty line.
    @raise LocalProtocolError: when something in it would end a line, or the target.
    """
    if not head.method or not head.target or " " in head.target or " " in head.method:
        raise LocalProtocolError("a request line of other than three parts")
    return _encode(f"{head.method} {head.target} HTTP/1.1\r\n", head.headers)


def encodeResponseHead(head: ResponseHead) -> bytes:
    """
    @return: the head as HTTP/1.1, whatever version it came in, up to and with the empty line.
    @raise LocalProtocolError: when something in it would end a line.
    """
    return _encode(f"HTTP/1.1 {head.status} {head.reason}\r\n", head.headers)


def encodeFields(fields: Sequence[tuple[str, str]]) -> bytes:
    """
    @return: the lines of these fields, with names as they are mostly spelled, and the empty line.
    @raise LocalProtocolError: when a name is not one, or a value would end its line.
    """
    return _encode("", fields)


def _encode(line: str, fields: Sequence[tuple[str, str]]) -> bytes:
    text = line + "".join([f"{_spelled(name)}: {value}\r\n" for name, value in fields]) + "\r\n"
    data = text.encode("latin-1")
    # What came by HTTP/1 was looked at. HTTP/2 frames its fields by their length, so that anything fits in them.
    ends = len(fields) + (2 if line else 1)
    if data.count(b"\r\n") != ends or len(data.translate(None, _CONTROLS)) != len(data) - 2 * ends:
        raise LocalProtocolError("a control character in a head")
    return data


@lru_cache(maxsize=1024)
def _spelled(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise LocalProtocolError("a field with a name that is not one")
    return "-".join(_SPELLINGS.get(part) or part.capitalize() for part in name.split("-"))


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
