"""
HTTP/2's header lists, and the heads that they stand for (RFC 9113, section 8).

What an HTTP/2 client sends goes on as HTTP/1, where a line's end in a value would be the end of a line, and another
host than the one that the request was routed by a way around rules. So lists are held to all that the RFC says of
them, before they become heads::

    head, length = requestHead(event.fields, ended=event.ended)
    connection.sendFields(stream, responseFields(ResponseHead(200, "OK", "1.1", [("etag", '"1"')])))

A list that is not proper is a fault of its stream's, and no request.
"""

__all__ = [
    "malformed",
    "requestFields",
    "requestHead",
    "responseFields",
    "responseHead",
    "trailerFields",
    "trailers",
]

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus

from h2.errors import ErrorCodes

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.http1body import checkRequest, endToEnd, isTrailer

Fields = Sequence[tuple[str, str]]
RawFields = Iterable[tuple[bytes, bytes]]

_FOR_CONNECTIONS = frozenset(
    ("connection", "http2-settings", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
)
"""Which HTTP/2 does not have (RFC 9113, section 8.2.2)."""

_NOT_SENT = _FOR_CONNECTIONS | {"host", "te"}

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_NOT_IN_VALUES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS = re.compile(r"[1-5][0-9]{2}", re.ASCII)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def malformed(details: str) -> RemoteProtocolError:
    """A list that is not one: the end of its stream, with C{PROTOCOL_ERROR} (RFC 9113, section 8.1.1)."""
    return RemoteProtocolError(ErrorCodes.PROTOCOL_ERROR.name, details)


@lru_cache(maxsize=1024)
def _name(raw: bytes) -> str:
    if not _NAME.fullmatch(raw):
        raise malformed("A field's name is not one, or not in lower case.")
    name = raw.decode("ascii")
    if name in _FOR_CONNECTIONS:
        raise malformed("A field is about a connection, which HTTP/2 has other means for.")
    return name


def _read(fields: RawFields, known: tuple[bytes, ...]) -> tuple[dict[bytes, str], list[tuple[str, str]]]:
    """
    @param known: names of pseudo fields.
    @return: the pseudo fields, and the others.
    """
    pseudo: dict[bytes, str] = {}
    others: list[tuple[str, str]] = []
    for raw, value in fields:
        if _NOT_IN_VALUES.search(value) or value != value.strip(b" \t"):
            raise malformed("A field's value has something in it that is not text, or a space at an end.")
        if raw[:1] == b":":
            if others or raw not in known or raw in pseudo:
                raise malformed("There is a pseudo field where none may be, or one that nobody knows, or one twice.")
            pseudo[raw] = value.decode("latin-1")
        else:
            others.append((_name(raw), value.decode("latin-1")))
    return pseudo, others


def requestHead(fields: RawFields, *, ended: bool) -> tuple[RequestHead, int | None]:
    """
    @param ended: the request has no body.
    @return: the head, with one host, and of version 2, and the length of the body as those of
        L{gateway.net.httpinterfaces.IVisitorRequest}.
    @raise RemoteProtocolError: C{PROTOCOL_ERROR} for what is L{malformed}; C{bad-request} or C{method-refused} for what
        is a request, but none that can be taken, and may be answered.
    """
    pseudo, others = _read(fields, (b":method", b":scheme", b":authority", b":path"))
    method = pseudo.get(b":method", "")
    if not _METHOD.fullmatch(method):
        raise malformed("A request has no method.")
    isConnect = method == "CONNECT"
    path = pseudo.get(b":path", "")
    if isConnect:
        if b":path" in pseudo or b":scheme" in pseudo or not pseudo.get(b":authority"):
            raise malformed("A CONNECT has more than a host, or none.")
    elif not path.startswith("/") and (path != "*" or method != "OPTIONS"):
        raise malformed("A request has no path.")
    elif pseudo.get(b":scheme") not in ("http", "https"):
        raise malformed("A request has no scheme, or an unknown one.")
    host, length, kept = _sort(others, pseudo.get(b":authority"))
    head = checkRequest(RequestHead(method, path, "2", [("host", host), *endToEnd(kept)]))
    if not ended:
        return head, length
    if length:
        raise malformed("A request ends before its body.")
    return head, 0


def _sort(others: Fields, host: str | None) -> tuple[str, int | None, list[tuple[str, str]]]:
    """
    @param host: what :authority says.
    @return: the host, the length, and what else there is, cookies last and in one.
    """
    length: int | None = None
    kept: list[tuple[str, str]] = []
    cookies: list[str] = []
    for field in others:
        name, value = field
        if name == "host":
            if host is not None and value.lower() != host.lower():
                raise malformed("A request is for two hosts.")
            host = value
        elif name == "cookie":
            cookies.append(value)
        elif name == "te":
            if value.lower() != "trailers":
                raise malformed("A TE field says more than that there may be trailers.")
        else:
            if name == "content-length":
                length = _length(value, length)
            kept.append(field)
    if not host:
        raise malformed("A request is for no host.")
    if cookies:
        kept.append(("cookie", "; ".join(cookies)))
    return host, length, kept


def _length(value: str, before: int | None) -> int:
    if before is not None or not _LENGTH.fullmatch(value):
        raise malformed("The length is not a number of bytes, or there are two.")
    return int(value)


def responseHead(fields: RawFields, *, ended: bool, method: str) -> tuple[ResponseHead, int | None]:
    """
    @param ended: the response has no body.
    @param method: of the request.
    @return: the head, of version 2, and the length of the body, C{None} where it is unknown.
    @raise RemoteProtocolError: C{PROTOCOL_ERROR}.
    """
    pseudo, others = _read(fields, (b":status",))
    text = pseudo.get(b":status", "")
    if not _STATUS.fullmatch(text) or text == "101":
        raise malformed("A response has no status, or one that is not HTTP/2's.")
    status, length = int(text), None
    for name, value in others:
        if name == "content-length":
            length = _length(value, length)
    head = ResponseHead(status, _PHRASES.get(status, ""), "2", endToEnd(others))
    if method == "HEAD" or status < 200 or status in (204, 304):
        return head, 0
    if not ended:
        return head, length
    if length:
        raise malformed("A response ends before its body.")
    return head, 0


def trailers(fields: RawFields) -> list[tuple[str, str]]:
    """
    @return: those that may be there (RFC 9110, section 6.5.1).
    @raise RemoteProtocolError: C{PROTOCOL_ERROR}.
    """
    return [field for field in _read(fields, ())[1] if isTrailer(field[0])]


def requestFields(head: RequestHead, length: int | None) -> list[tuple[bytes, bytes]]:
    """
    A request's head, for an origin that is spoken to without TLS.

    @param length: of its body, which is added where it is not said.
    """
    host = head.get("host")
    fields = [
        (b":method", head.method.encode("latin-1")),
        (b":scheme", b"http"),
        *([] if host is None else [(b":authority", host.encode("latin-1"))]),
        (b":path", head.target.encode("latin-1")),
        (b"te", b"trailers"),  # which gRPC's servers insist on
        *trailerFields(head.headers),
    ]
    return _withLength(fields, head.headers, length or None)


def responseFields(head: ResponseHead, length: int | None = None) -> list[tuple[bytes, bytes]]:
    """
    A response's head.

    @param length: of its body, which is added where it is not said.
    """
    return _withLength([(b":status", b"%d" % head.status), *trailerFields(head.headers)], head.headers, length)


def _withLength(raw: list[tuple[bytes, bytes]], fields: Fields, length: int | None) -> list[tuple[bytes, bytes]]:
    if length is not None and "content-length" not in [name for name, _ in fields]:
        raw.append((b"content-length", b"%d" % length))
    return raw


def trailerFields(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Fields without pseudo fields."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields if name not in _NOT_SENT]
