"""
HTTP/1.1 framing: what a head says of the message that it begins, and where its body ends (RFC 9112, sections 3 to 7).

Two who read the same bytes and do not agree where a request ends let a visitor hide one request in another's body. So
nothing is interpreted here that has two readings, not even where the RFC leaves a choice: it is refused, and what
passes is written anew, in one way. llhttp reads heads for us, but does not say where in the bytes a body ends, so the
grammar of chunks is our own::

    head = checkRequest(head)
    body = BodyReader(requestLength(head))
    pieces, rest = body.receive(data)           # rest: of the next request, when body.isDone

Length: what a head says and where its body ends are one matter, and to be seen together.
"""

__all__ = [
    "UNTIL_CLOSE",
    "BodyReader",
    "checkRequest",
    "chunkHead",
    "endToEnd",
    "isAuthority",
    "isTrailer",
    "keepsAlive",
    "lastChunk",
    "requestLength",
    "responseLength",
]

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv6Address

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.hostname import isHostName
from gateway.wire.http1 import RequestHead, ResponseHead, encodeFields

Buffer = bytes | memoryview

UNTIL_CLOSE = -1
"""The length of a response's body that ends with the connection."""

_MAX_AUTHORITY = 261
"""Characters: a name of 254, a colon, and a port, with a zero too many. What is longer is not worth remembering."""

MAX_CHUNK_LINE = 256
"""Bytes of the line before a chunk, with its extensions."""

MAX_EXTENSIONS = 16 * 1024
"""Bytes of extensions in one body. They are dropped, so more of them are only there to cost something."""

MAX_TRAILERS = 8 * 1024
"""Bytes of trailers."""

MAX_TRAILER_FIELDS = 50

_MAX_PIECES = 16
"""Pieces of payload from one read; more, and they are put together, as each of them is passed on by itself."""

_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
"""Less than 2**63, which is the most that llhttp and others can count."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb";" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})((?:" + _EXTENSION + rb")*)\r\n")
_PLAIN_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,254}))(?::([0-9]{1,5}))?", re.ASCII)
_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)

# fmt: off
_HOP_BY_HOP = frozenset((
    "connection", "http2-settings", "keep-alive", "proxy", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "transfer-encoding", "upgrade",
))
"""With Proxy, which is nobody's, and sets HTTP_PROXY for what is behind a CGI (CVE-2016-5385)."""

_NOT_BY_CONNECTION = frozenset((
    "authorization", "cache-control", "content-encoding", "content-length", "content-range", "content-type", "cookie",
    "expect", "forwarded", "host", "location", "set-cookie", "trailer", "www-authenticate", "x-real-ip",
    "x-request-id",
))
_NOT_IN_TRAILERS = _HOP_BY_HOP | _NOT_BY_CONNECTION | {
    "age", "date", "expires", "max-forwards", "pragma", "range", "retry-after", "vary", "warning",
}
# fmt: on
"""RFC 9110, section 6.5.1: framing, routing, what changes a request, who asks, and how to treat the content."""


def _bad(kind: str, details: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"bad-{kind}", details)


def isAuthority(text: str) -> bool:
    """Whether this is a host with or without a port, and nothing else."""
    return len(text) <= _MAX_AUTHORITY and _isAuthority(text)


@lru_cache(maxsize=4096)
def _isAuthority(text: str) -> bool:
    if not (match := _AUTHORITY.fullmatch(text)) or (match[3] and int(match[3]) > 0xFFFF):
        return False
    if match[1] is None:
        name = match[2].lower()
        return isHostName(name.removesuffix(".")) or _isIPv4(name)
    try:
        IPv6Address(match[1])
    except ValueError:
        return False
    return True


def _isIPv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(p.isdigit() and str(int(p)) == p and int(p) < 256 for p in parts)


def checkRequest(head: RequestHead) -> RequestHead:
    """
    Look whether a request is for one host, and where in it (RFC 9112, sections 3.2 and 3.3).

    @param head: as it was read, of any version.
    @return: it, with the target in origin-form (C{/path?query}), or C{*}.
    @raise RemoteProtocolError: C{bad-request}, or C{method-refused} for CONNECT.
    """
    if head.method == "CONNECT":
        raise RemoteProtocolError("method-refused", "This is no proxy: it does not CONNECT.")
    hosts = [value for name, value in head.headers if name == "host"]
    if len(hosts) != 1 and (hosts or head.version != "1.0"):
        raise _bad("request", "A request names one host, and this one does not.")
    if hosts and not isAuthority(hosts[0]):
        raise _bad("request", "The request's Host is not the name of one.")
    target = head.target
    if not target.isascii() or not target.isprintable() or " " in target or "#" in target:
        raise _bad("request", "The request's target is not one.")
    if target.startswith("/") or (target == "*" and head.method == "OPTIONS"):
        return head
    if not (match := _ABSOLUTE.fullmatch(target)):
        raise _bad("request", "The request's target is not one.")
    if not hosts or match[1].lower() != hosts[0].lower():
        raise _bad("request", "The request's target is on another host than its Host.")
    path = match[2]
    if not path.startswith("/"):
        path = "*" if head.method == "OPTIONS" and not path else "/" + path
    return replace(head, target=path)


def _framing(head: RequestHead | ResponseHead, kind: str) -> int | None:
    """
    @return: what Content-Length and Transfer-Encoding say: bytes, C{None} for chunked, L{UNTIL_CLOSE} for nothing.
    """
    length = coding = None
    for name, value in head.headers:
        if name == "content-length":
            if length is not None:
                raise _bad(kind, f"The {kind} has two lengths.")
            if not _LENGTH.fullmatch(value):
                raise _bad(kind, f"The {kind}'s Content-Length is not a number of bytes.")
            length = int(value)
        elif name == "transfer-encoding":
            coding = value if coding is None else f"{coding}, {value}"
    if coding is None:
        return UNTIL_CLOSE if length is None else length
    if length is not None:
        raise _bad(kind, f"The {kind} has both a length and a Transfer-Encoding.")
    if head.version == "1.0":
        raise _bad(kind, "There is no Transfer-Encoding in HTTP/1.0.")
    if coding.lower() != "chunked":
        code = "unsupported-coding" if kind == "request" else "bad-response"
        raise RemoteProtocolError(code, f"The {kind} has a Transfer-Encoding other than chunked.")
    return None


def requestLength(head: RequestHead) -> int | None:
    """
    How long a request's body is (RFC 9112, section 6.3).

    @return: bytes, 0 for none, or C{None} for one in chunks.
    @raise RemoteProtocolError: C{bad-request} when that is not said, or in two ways; C{unsupported-coding} for a
        Transfer-Encoding that is not C{chunked}.
    """
    length = _framing(head, "request")
    return 0 if length == UNTIL_CLOSE else length


def responseLength(head: ResponseHead, method: str) -> int | None:
    """
    How long a response's body is (RFC 9112, section 6.3).

    @param method: of the request.
    @return: bytes, 0 for none, C{None} for one in chunks, or L{UNTIL_CLOSE}.
    @raise RemoteProtocolError: C{bad-response} when that is not said, or in two ways.
    """
    length = _framing(head, "response")
    if method == "HEAD" or head.status == 304:
        return 0
    if head.status < 200 or head.status == 204:
        if length is None or length > 0:
            raise _bad("response", f"A response of {head.status} has no body, and this one says that it does.")
        return 0
    return length


def endToEnd(fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    The fields that are not for one connection only (RFC 9110, section 7.6.1): without the well-known ones that are,
    and those that Connection names. Fields that somebody behind us relies on are kept whatever Connection says.
    """
    named: frozenset[str] | set[str] = _HOP_BY_HOP
    for name, value in fields:
        if name == "connection":
            others = {each.strip(" \t").lower() for each in value.split(",")}
            others = {each for each in others if not each.startswith("x-forwarded-")} - _NOT_BY_CONNECTION
            named = named | others
    return [each for each in fields if each[0] not in named]


def keepsAlive(head: RequestHead | ResponseHead) -> bool:
    """Whether who sent this means to go on with the connection (RFC 9112, section 9.3)."""
    options: set[str] | None = None
    for name, value in head.headers:
        if name == "connection":
            options = {each.strip(" \t").lower() for each in value.split(",")} | (options or set())
    if options is None:
        return head.version != "1.0"
    return "close" not in options and (head.version != "1.0" or "keep-alive" in options)


class _At(Enum):
    """Where in a body in chunks the next byte is."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


class BodyReader:
    """
    Reads the body of one message.

    @ivar isDone: the body is complete.
    @ivar trailers: the fields behind a body in chunks, when it is; names in lower case, without those that may not be
        there (RFC 9110, section 6.5.1).
    """

    __slots__ = ("_at", "_extensions", "_held", "_left", "_untilClose", "isDone", "trailers")

    def __init__(self, length: int | None) -> None:
        """
        @param length: as L{requestLength} or L{responseLength} say.
        """
        self._at = None if length is not None else _At.SIZE
        self._untilClose = length == UNTIL_CLOSE
        self._left = length or 0
        self._held = b""
        self._extensions = 0
        self.isDone = length == 0
        self.trailers: list[tuple[str, str]] = []

    def receive(self, data: Buffer) -> tuple[list[Buffer], Buffer]:
        """
        Take what came.

        @param data: what follows what was given before. After the body is done everything is behind it.
        @return: the payload in it, in order, in pieces that are not empty, mostly views of C{data}; and what comes
            behind the body, which is empty until C{isDone}.
        @raise RemoteProtocolError: C{bad-body}. Nothing more may be given then.
        """
        if self.isDone:
            return [], data
        if not data:
            return [], b""
        if self._untilClose:
            return [data], b""
        if self._at is None:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                return [data], b""
            self.isDone = True
            if left == 0:
                return [data], b""
            view = memoryview(data)
            return [view[: self._left]], view[self._left :]
        return self._chunks(memoryview(self._held + data if self._held else data))

    def ended(self) -> None:
        """
        The connection ended.

        @raise RemoteProtocolError: C{cut-off} when the body was not complete.
        """
        if self._untilClose:
            self.isDone = True
        if not self.isDone:
            raise RemoteProtocolError("cut-off", "The connection ended before the body did.")

    def _chunks(self, view: memoryview) -> tuple[list[Buffer], Buffer]:
        pieces: list[Buffer] = []
        position, size = 0, len(view)
        self._held = b""
        while position < size and not self.isDone:
            if self._at is _At.DATA:
                end = min(position + self._left, size)
                pieces.append(view[position:end])
                self._left -= end - position
                position = end
                if self._left == 0:
                    self._at = _At.DATA_END
                continue
            if self._at is _At.SIZE:
                position = self._readWhole(view, position, pieces)
                end = self._readSize(view, position)
            elif self._at is _At.DATA_END:
                end = self._readDataEnd(view, position)
            else:
                end = self._readTrailers(view, position)
            if end == position:
                self._held = bytes(view[position:])
                break
            position = end
        if len(pieces) > _MAX_PIECES:
            pieces = [b"".join(pieces)]
        return pieces, view[position:] if self.isDone else b""

    def _readWhole(self, view: memoryview, position: int, pieces: list[Buffer]) -> int:
        """
        Read what makes up most of a body: chunks that are all there, and without extensions. A read may hold a hundred
        thousand of a byte, which take long enough as it is.

        @return: where they end.
        """
        while match := _PLAIN_CHUNK.match(view, position):
            begin = match.end()
            end = begin + int(match[1], 16)
            if end == begin or bytes(view[end : end + 2]) != b"\r\n":
                break
            pieces.append(view[begin:end])
            position = end + 2
        return position

    # Each reads one thing, and returns where it ends; or where it begins, when it is not all there.

    def _readSize(self, view: memoryview, start: int) -> int:
        if (match := _CHUNK.match(view, start, start + MAX_CHUNK_LINE)) is None:
            line = bytes(view[start : start + MAX_CHUNK_LINE])
            if b"\n" in line:
                raise _bad("body", "The line before a chunk does not say how long it is.")
            if len(line) == MAX_CHUNK_LINE:
                raise _bad("body", f"The line before a chunk is longer than {MAX_CHUNK_LINE} bytes.")
            return start
        if extensions := match[2]:
            self._extensions += len(extensions)
            if self._extensions > MAX_EXTENSIONS:
                raise _bad("body", f"There are more than {MAX_EXTENSIONS} bytes of extensions to chunks.")
        self._left = int(match[1], 16)
        self._at = _At.DATA if self._left else _At.TRAILERS
        return match.end()

    def _readDataEnd(self, view: memoryview, start: int) -> int:
        end = bytes(view[start : start + 2])
        if end == b"\r\n":
            self._at = _At.SIZE
            return start + 2
        if end != b"\r":
            raise _bad("body", "A chunk is longer than it says.")
        return start

    def _readTrailers(self, view: memoryview, start: int) -> int:
        data = bytes(view[start : start + MAX_TRAILERS])
        if data.startswith(b"\r\n"):
            self.isDone = True
            return start + 2
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) >= MAX_TRAILERS:
                raise _bad("body", f"The trailers are longer than {MAX_TRAILERS} bytes.")
            return start
        lines = data[:end].decode("latin-1").split("\r\n")
        if len(lines) > MAX_TRAILER_FIELDS:
            raise _bad("body", f"There are more than {MAX_TRAILER_FIELDS} trailers.")
        for line in lines:
            if not (match := _FIELD.fullmatch(line)):
                raise _bad("body", "What comes behind the last chunk is no trailer.")
            name = match[1].lower()
            if isTrailer(name):
                self.trailers.append((name, match[2].rstrip(" \t")))
        self.isDone = True
        return start + end + 4


def isTrailer(name: str) -> bool:
    """
    Whether a field may come behind a body, in any version of HTTP (RFC 9110, section 6.5.1).

    @param name: in lower case.
    """
    return name not in _NOT_IN_TRAILERS and not name.startswith(("x-forwarded-", "if-", "proxy-"))


def chunkHead(size: int) -> bytes:
    """
    @param size: of a chunk, more than 0.
    @return: what comes before it. C{CRLF} comes behind it.
    """
    return b"%x\r\n" % size


def lastChunk(trailers: Sequence[tuple[str, str]] = ()) -> bytes:
    """
    @return: what comes behind the last chunk of payload.
    @raise LocalProtocolError: when a trailer would end its line.
    """
    return b"0\r\n" + encodeFields(trailers) if trailers else b"0\r\n\r\n"
