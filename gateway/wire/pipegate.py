"""
PipeGate's messages, sans-io, for both ends: HTTP requests and responses as JSON, with JSON in strings inside of it.

Clients and servers of PipeGate are in use, and ours work with them. A client opens a WebSocket, and then each request
of a visitor's is one text message to it, and each response one text message back::

    text = encode(RequestMessage.of(identifier, head, b""))     # the server's end
    message = decodeRequest(text)                               # the client's end
    head, body = message.read()
    text = encode(ResponseMessage.of(message.correlationID, "GET", responseHead, b"<h1>Hello</h1>"))
    responseHead, body = decodeResponse(text).read("GET")       # the server's end again

Bodies are text, so what is not cannot be carried: then there is a C{not-text}. Of what JSON objects have no place for,
as much is saved as both of PipeGate's own ends understand: repeated headers are folded, as HTTP allows (RFC 9110,
section 5.3), and those that may not be, which are cookies that are set, differ in case. PipeGate's own client folds
these, too, and they are taken apart again: where the next one begins can be told, as no cookie holds a comma (RFC 6265,
section 4.1.1) but in a date. Of a repeated query parameter the last is left, as with PipeGate's own server.
C{docs/reference/protocols/pipegate.md} is the specification.
"""

__all__ = [
    "MAX_REQUEST",
    "MAX_RESPONSE",
    "METHODS",
    "NOT_TEXT",
    "TOKEN_HEADER",
    "RequestMessage",
    "ResponseMessage",
    "decodeRequest",
    "decodeResponse",
    "encode",
    "isConnectionID",
]

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.http1body import endToEnd

TOKEN_HEADER = "pipegate_client_token"
"""In lower case. It has the token of whoever opens a WebSocket."""

METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"))

MAX_REQUEST = 1024 * 1024
"""Bytes of the longest request message: what PipeGate's client takes, by the default of its WebSocket library."""

MAX_RESPONSE = 16 * 1024 * 1024
"""The same of a response message, and of PipeGate's server."""

NOT_TEXT = "not-text"
"""The code of a body that cannot be carried."""

_MAX_FIELDS = 100
_MAX_FIELDS_SIZE = 32 * 1024
_MAX_PARAMETERS = 1000

_INVALID = "invalid-message"
_CORRELATION = "x-pipegate-correlation-id"
_FRAMING = ("content-length", "expect", "trailer")
"""What is about how a message of HTTP's comes, and so not true of what is in a message here."""

_UNCOMPRESSED = ("accept-encoding", "identity")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ID = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9._~-]{1,64}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHARSET = re.compile(r"(;\s*charset\s*=\s*)(\"?)([^\s;\"]+)\2", re.IGNORECASE)
_TEXT = re.compile(r"(text/|application/(.*\+)?(json|xml|javascript|x-www-form-urlencoded)\b)", re.IGNORECASE)
_NEXT_COOKIE = re.compile(r",\s*(?=[!#$%&'*+.^_`|~0-9A-Za-z-]+=)")
_SINGLE_BYTES = re.compile(r"iso-?8859-[0-9]{1,2}|windows-125[0-8]|cp125[0-8]|us-ascii|ascii|latin-?1", re.IGNORECASE)

Fields = Sequence[tuple[str, str]]

T = TypeVar("T")


def isConnectionID(text: str) -> bool:
    """Whether that may be the first segment of a path which names a client: at most 64 unreserved characters."""
    return _ID.fullmatch(text) is not None


def _invalid(details: str) -> RemoteProtocolError:
    return RemoteProtocolError(_INVALID, details)


def _notText(what: str) -> RemoteProtocolError:
    details = (
        f"The body of this {what} is not text, and PipeGate's messages carry text alone."
        " Between gateway pipegate-client and gateway pipegate-server any bytes may pass."
    )
    return RemoteProtocolError(NOT_TEXT, details)


# -- Headers


def _spelling(name: str, index: int) -> str:
    """One of the many ways to write a name in upper and lower case, which HTTP does not tell apart."""
    letters = (place for place, each in enumerate(name) if each.isalpha())
    flips = {place for bit, place in enumerate(letters) if index >> bit & 1}
    return "".join(each.upper() if place in flips else each for place, each in enumerate(name))


def _object(fields: Fields) -> dict[str, str]:
    """Headers with each name once, as a JSON object has them."""
    found: dict[str, str] = {}
    cookies = 0
    for name, value in fields:
        if name == "set-cookie":
            name, cookies = _spelling(name, cookies), cookies + 1
        if name in found:
            value = f"{found[name]}{'; ' if name == 'cookie' else ', '}{value}"
        found[name] = value
    return found


def _fields(text: str) -> list[tuple[str, str]]:
    """
    The headers in a message, names in lower case, without those that are for one connection.

    @raise RemoteProtocolError: C{invalid-message}.
    """
    if not text:
        return []
    if len(text) > _MAX_FIELDS_SIZE:
        raise _invalid(f"The headers are longer than {_MAX_FIELDS_SIZE} characters.")
    headers = _decode(_HEADERS, text)
    if len(headers) > _MAX_FIELDS:
        raise _invalid(f"There are more than {_MAX_FIELDS} headers.")
    fields = []
    for name, value in headers.items():
        value = value.strip(" \t")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise _invalid(f"The header {name!a:.60} is none that HTTP can carry.")
        values = _NEXT_COOKIE.split(value) if name.lower() == "set-cookie" else [value]
        fields += [(name.lower(), each) for each in values]
    return endToEnd(fields)


def _without(fields: Iterable[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in fields if name not in names]


def _one(fields: Fields, name: str) -> str | None:
    return next((value for key, value in fields if key == name), None)


# -- Text


def _charset(fields: Fields) -> str:
    """What a body's bytes mean, as far as we follow it: what it says, if that is a code of one byte, or else UTF-8."""
    found = _CHARSET.search(_one(fields, "content-type") or "")
    return found[3] if found is not None and _SINGLE_BYTES.fullmatch(found[3]) else "utf-8"


def _encoded(text: str, fields: Fields) -> tuple[bytes, list[tuple[str, str]]]:
    """A body as bytes again, and its headers, which say it when those are not the bytes that it once had."""
    try:
        return text.encode(_charset(fields)), list(fields)
    except (UnicodeEncodeError, LookupError):
        return text.encode(), _inUTF8(fields)


def _inUTF8(fields: Fields) -> list[tuple[str, str]]:
    return [(name, _CHARSET.sub(r"\1utf-8", value) if name == "content-type" else value) for name, value in fields]


def _isDamaged(text: str, body: bytes, fields: Fields) -> bool:
    """
    Whether this was made of something else than text by whoever decoded it: PipeGate's client puts replacement
    characters where bytes mean nothing. A page may have one of its own, and then its length is what it says.
    """
    if _REPLACEMENT not in text:
        return False
    length, coding = _one(fields, "content-length"), _one(fields, "content-encoding")
    if length is not None and coding is None:
        return length != str(len(body))
    return not _TEXT.match(_one(fields, "content-type") or "")


# -- Messages


class RequestMessage(
    msgspec.Struct,
    frozen=True,
    rename={"correlationID": "correlation_id", "path": "url_path", "query": "url_query"},
):
    """
    A visitor's request.

    @ivar correlationID: comes back with the response.
    @ivar path: without the identifier of the connection, and without a leading slash. Percent-encoded when we send it;
        PipeGate's own server decodes it.
    @ivar query: a JSON object of strings, or of lists of strings; or nothing.
    @ivar headers: a JSON object of strings, or nothing.
    """

    correlationID: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    path: str
    query: str
    method: str
    headers: str
    body: str

    @classmethod
    def of(cls, identifier: str, head: RequestHead, body: bytes) -> "RequestMessage":
        """
        @param identifier: a UUID.
        @param head: whose target is what the origin is to be asked for.
        @raise RemoteProtocolError: C{not-text}, or C{invalid-message}: there is no end of parameters.
        """
        path, _, query = head.target.partition("?")
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise _notText("request") from None
        try:
            parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            raise _invalid(f"The query has more than {_MAX_PARAMETERS} parameters.") from None
        # Who reads the response decodes it, and what was compressed with something newer would not be text.
        fields = _without(endToEnd(head.headers), *_FRAMING, "accept-encoding", _CORRELATION)
        fields += [_UNCOMPRESSED, (_CORRELATION, identifier.replace("-", ""))]
        if body or head.get("content-length") is not None:
            fields.append(("content-length", str(len(body))))
        return cls(
            identifier, path.removeprefix("/"), _json(dict(parameters)), head.method, _json(_object(fields)), text
        )

    def read(self) -> tuple[RequestHead, bytes]:
        """
        The request, for the origin. Its headers do not say how long the body is, and ask for a response that is not
        compressed, as that has to be text.

        @raise RemoteProtocolError: C{invalid-message}.
        """
        if self.method not in METHODS:
            raise _invalid(f"The method {self.method!a:.20} is not one of PipeGate's.")
        query = _decode(_QUERY, self.query) if self.query else {}
        path = re.sub("%(?![0-9A-Fa-f]{2})", "%25", self.path)
        target = "/" + quote(path, safe="/%:@!$&'()*+,;=~")
        if query:
            target += "?" + urlencode(query, doseq=True)
        fields = _without(_fields(self.headers), *_FRAMING, "accept-encoding")
        return RequestHead(self.method, target, "1.1", [*fields, _UNCOMPRESSED]), self.body.encode()


class ResponseMessage(msgspec.Struct, frozen=True, rename={"correlationID": "correlation_id", "status": "status_code"}):
    """
    The response to it.

    @ivar headers: a JSON object of strings, or nothing.
    """

    correlationID: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    headers: str
    body: str
    status: int

    @classmethod
    def of(cls, identifier: str, method: str, head: ResponseHead, body: bytes) -> "ResponseMessage":
        """
        @param identifier: of the request.
        @param method: of the request.
        @param head: of a response that is not compressed.
        @raise RemoteProtocolError: C{not-text}.
        """
        try:
            if (head.get("content-encoding") or "identity").lower() != "identity":
                raise ValueError
            text = body.decode(_charset(head.headers))
        except (ValueError, LookupError):
            raise _notText("response") from None
        fields = _without(endToEnd(head.headers), "content-encoding", "trailer")
        if method != "HEAD" and head.status != HTTPStatus.NOT_MODIFIED:
            fields = _without(_inUTF8(fields), "content-length")
            if head.status != HTTPStatus.NO_CONTENT:
                fields.append(("content-length", str(len(text.encode()))))
        return cls(identifier, _json(_object(fields)), text, head.status)

    def read(self, method: str) -> tuple[ResponseHead, bytes]:
        """
        The response, for the visitor. Its headers say how long the body is only where there is none.

        @param method: of the request.
        @raise RemoteProtocolError: C{invalid-message} or C{not-text}.
        """
        if not 200 <= self.status <= 599:
            raise _invalid(f"{self.status} is not the status of a response.")
        fields = _without(_fields(self.headers), "trailer")
        if method == "HEAD" or self.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            # What the headers say is true of the response to a GET, and was true of its bytes before it was decoded.
            isDecoded = _one(fields, "content-encoding") is not None
            lengths = [value for name, value in fields if name == "content-length"]
            isTrue = not isDecoded and len(lengths) == 1 and _LENGTH.fullmatch(lengths[0])
            fields = _without(fields, "content-encoding", *(() if isTrue else ("content-length",)))
            return self._head(fields), b""
        body, rewritten = _encoded(self.body, fields)
        if _isDamaged(self.body, body, fields):
            raise _notText("response")
        return self._head(_without(rewritten, "content-length", "content-encoding")), body

    def _head(self, fields: Fields) -> ResponseHead:
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = ""
        return ResponseHead(self.status, reason, "1.1", fields)


_ENCODER = msgspec.json.Encoder()
_REQUEST = msgspec.json.Decoder(RequestMessage)
_RESPONSE = msgspec.json.Decoder(ResponseMessage)
_HEADERS = msgspec.json.Decoder(dict[str, str])
_QUERY = msgspec.json.Decoder(dict[str, str | list[str]])


def _json(value: object) -> str:
    return _ENCODER.encode(value).decode()


def _decode(decoder: "msgspec.json.Decoder[T]", data: str | bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        reason = ascii(str(e))[1:-1][:200] if isinstance(e, msgspec.ValidationError) else "it is not JSON"
        raise _invalid(f"The message cannot be read: {reason}.") from None


def encode(message: RequestMessage | ResponseMessage) -> str:
    """The text of a message."""
    return _json(message)


def decodeRequest(data: bytes) -> RequestMessage:
    """
    Read a server's message, as far as it says which request it is.

    @raise RemoteProtocolError: C{invalid-message}.
    """
    return _decode(_REQUEST, data)


def decodeResponse(data: bytes) -> ResponseMessage:
    """
    Read a client's message, as far as it says whose response it is.

    @raise RemoteProtocolError: C{invalid-message}.
    """
    return _decode(_RESPONSE, data)
