"""
The first message of a TLS client, sans-io: read enough of it to know where the visitor wants to go.

A door that passes TLS through untouched looks at the ClientHello (RFC 8446, section 4.1.2) for the server name, and
answers a visitor that it cannot serve in TLS's own words::

    hello = parseClientHello(data)          # or None: not all there yet
    if hello is not None and hello.serverName not in routes:
        transport.write(alert(Alert.UNRECOGNIZED_NAME))

The message may be spread over several records, and these over many reads. L{ClientHelloReader} remembers how far it
got, so that a visitor who sends byte by byte costs no more than others.

Nothing is decided about what TLS itself decides later: ciphers, key shares and the rest are skipped. Lengths are all
checked, since who skips by a wrong length reads a name that the server behind does not.
"""

__all__ = ["Alert", "ClientHello", "ClientHelloReader", "Code", "HelloRefused", "alert", "parseClientHello"]

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.hostname import isHostName

LIMIT = 16 * 1024
"""Bytes, with the headers of the records. A browser's is 2 KiB, most of it a key share of ML-KEM."""

_RECORD_HEADER = 5
_MAX_RECORD = 1 << 14
_MESSAGE_HEADER = 4

_HANDSHAKE = 0x16
_ALERT = 0x15
_CLIENT_HELLO = 1
_TLS = 3
_FATAL = 2

_SERVER_NAME = 0
_ALPN = 16
_SUPPORTED_VERSIONS = 43
_ENCRYPTED_CLIENT_HELLO = 0xFE0D

_HTTP = re.compile(rb"[A-Z]{3,16} ")
_MAYBE_HTTP = re.compile(rb"[A-Z]{1,16}")


class Alert(IntEnum):
    """Why a door ends a handshake that it has not begun (RFC 8446, section 6.2)."""

    HANDSHAKE_FAILURE = 40
    ILLEGAL_PARAMETER = 47
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    PROTOCOL_VERSION = 70
    INTERNAL_ERROR = 80
    UNRECOGNIZED_NAME = 112
    NO_APPLICATION_PROTOCOL = 120


def alert(description: Alert) -> bytes:
    """The record that tells a client why its connection is closed now."""
    return bytes((_ALERT, _TLS, 3, 0, 2, _FATAL, description))


class Code(StrEnum):
    """What may be wrong with the first bytes on a TLS port."""

    NOT_TLS = "not-tls"
    PLAIN_HTTP = "plain-http"
    SSL2 = "ssl2"
    BAD_CLIENT_HELLO = "bad-client-hello"
    CLIENT_HELLO_TOO_LONG = "client-hello-too-long"
    BAD_SERVER_NAME = "bad-server-name"


class HelloRefused(RemoteProtocolError):
    """
    This is no ClientHello that a door takes.

    @ivar alert: what to write before closing; empty when the client would not understand it. After C{plain-http} an
        answer in HTTP is understood.
    """

    def __init__(self, code: Code, details: str, description: Alert | None) -> None:
        super().__init__(code, details)
        self.alert = b"" if description is None else alert(description)


@dataclass(frozen=True, slots=True)
class ClientHello:
    """
    What a client wants, as it says in the clear.

    @ivar serverName: a host name in lower case (RFC 6066, section 3), or C{None}.
    @ivar protocols: the application protocols offered, best first (RFC 7301).
    @ivar versions: the versions of TLS spoken, e.g. C{0x0304} for 1.3, best first; without reserved values (RFC 8701).
        Clients older than TLS 1.3 name the newest only.
    @ivar encrypted: there is an Encrypted Client Hello (RFC 9849), so the server name may be a cover. Browsers send
        one that is filled at random when they have none.
    """

    serverName: str | None
    protocols: tuple[bytes, ...]
    versions: tuple[int, ...]
    encrypted: bool


def _bad(details: str, description: Alert = Alert.DECODE_ERROR) -> HelloRefused:
    return HelloRefused(Code.BAD_CLIENT_HELLO, f"The ClientHello is broken: {details}.", description)


class _Fields:
    """
    Reads what is composed of numbers and of bytes with a length before them (RFC 8446, section 3).

    A ClientHello has some fifty of these, so none of its methods calls another one.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._position = 0
        self._end = len(data)

    def __bool__(self) -> bool:
        return self._position < self._end

    def take(self, count: int) -> bytes:
        start, end = self._position, self._position + count
        if end > self._end:
            raise self._short()
        self._position = end
        return self._data[start:end]

    def number(self, size: int) -> int:
        start, end = self._position, self._position + size
        if end > self._end:
            raise self._short()
        self._position = end
        return int.from_bytes(self._data[start:end], "big")

    def vector(self, size: int) -> bytes:
        """Bytes after their length, which is a number of so many bytes."""
        start = self._position + size
        # What is cut off of the number makes it smaller, and then even its end is too far.
        end = start + int.from_bytes(self._data[self._position : start], "big")
        if end > self._end:
            raise self._short()
        self._position = end
        return self._data[start:end]

    def _short(self) -> HelloRefused:
        return _bad(f"{self._what} ends too early")

    def end(self) -> None:
        if self:
            raise _bad(f"{self._what} is longer than it says")


def _list(data: bytes, size: int, what: str) -> bytes:
    """The only list in an extension, which holds something."""
    fields = _Fields(data, what)
    inside = fields.vector(size)
    fields.end()
    if not inside:
        raise _bad(f"{what} is empty")
    return inside


def _serverName(data: bytes) -> str:
    names = _Fields(_list(data, 2, "the server name"), "the server name")
    kind, sent = names.number(1), names.vector(2)
    if kind != 0 or names:
        # No other kind was ever defined, and of one kind there may be one name only.
        raise _bad("it has not exactly one server name", Alert.ILLEGAL_PARAMETER)
    name = sent.decode("latin-1").lower()
    if not (sent.isascii() and isHostName(name)):
        raise HelloRefused(
            Code.BAD_SERVER_NAME, f"The server name {name!a:.60} is not a host name.", Alert.UNRECOGNIZED_NAME
        )
    return name


def _protocols(data: bytes) -> tuple[bytes, ...]:
    fields = _Fields(_list(data, 2, "the list of protocols"), "the list of protocols")
    protocols = []
    while fields:
        protocol = fields.vector(1)
        if not protocol:
            raise _bad("a protocol is empty")
        protocols.append(protocol)
    return tuple(protocols)


def _versions(data: bytes) -> tuple[int, ...]:
    fields = _Fields(_list(data, 1, "the list of versions"), "the list of versions")
    versions = []
    while fields:
        version = fields.number(2)
        if version & 0x0F0F != 0x0A0A:
            versions.append(version)
    return tuple(versions)


def _parseBody(body: bytes) -> ClientHello:
    fields = _Fields(body, "it")
    versions: tuple[int, ...] = (fields.number(2),)
    fields.take(32)
    if len(fields.vector(1)) > 32:
        raise _bad("the session is longer than 32 bytes")
    ciphers = fields.vector(2)
    if not ciphers or len(ciphers) % 2:
        raise _bad("the list of ciphers is empty or odd")
    if not fields.vector(1):
        raise _bad("the list of compressions is empty")
    extensions: dict[int, bytes] = {}
    if fields:  # before TLS 1.3 there may be none
        each = _Fields(fields.vector(2), "the list of extensions")
        fields.end()
        while each:
            kind, data = each.number(2), each.vector(2)
            if kind in extensions:
                raise _bad(f"the extension {kind} comes twice", Alert.ILLEGAL_PARAMETER)
            extensions[kind] = data
    if _SUPPORTED_VERSIONS in extensions:
        versions = _versions(extensions[_SUPPORTED_VERSIONS])
    return ClientHello(
        _serverName(extensions[_SERVER_NAME]) if _SERVER_NAME in extensions else None,
        _protocols(extensions[_ALPN]) if _ALPN in extensions else (),
        versions,
        _ENCRYPTED_CLIENT_HELLO in extensions,
    )


def _refuseOthers(data: bytes) -> None:
    """
    @return: if more bytes are needed to tell what this is.
    @raise HelloRefused: with what it is.
    """
    if _HTTP.match(data):
        raise HelloRefused(
            Code.PLAIN_HTTP, "This is plain HTTP on a port for TLS; the address begins with https.", None
        )
    if _MAYBE_HTTP.fullmatch(data):
        return
    if data[0] & 0x80:
        if len(data) < 3:
            return
        if data[2] == _CLIENT_HELLO:
            raise HelloRefused(Code.SSL2, "SSL 2 is not spoken here, nor are its greetings.", Alert.PROTOCOL_VERSION)
    raise HelloRefused(Code.NOT_TLS, "This is not TLS.", None)


class ClientHelloReader:
    """
    Reads one ClientHello.

    @param limit: bytes from the first one on among which it must end.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._position = 0
        self._message = bytearray()

    def read(self, data: bytes) -> ClientHello | None:
        """
        @param data: all bytes from the first one on; the same ones as before and more. What follows the ClientHello
            in later records is not looked at.
        @return: what it says; C{None} when more bytes are needed.
        @raise HelloRefused: never before the fault is there, and then whatever follows.
        """
        if data and data[0] != _HANDSHAKE:
            _refuseOthers(data[: self._limit])
            return None
        end = min(len(data), self._limit)
        while self._position < end:
            start = self._position + _RECORD_HEADER
            header = data[self._position : min(start, end)]
            if header[0] != _HANDSHAKE or header[1:2] not in (b"", bytes((_TLS,))):
                raise _bad("a record in it is no handshake of TLS")
            if len(header) < _RECORD_HEADER:
                break
            length = int.from_bytes(header[3:], "big")
            if not 0 < length <= _MAX_RECORD:
                raise _bad(f"a record of {length} bytes", Alert.ILLEGAL_PARAMETER)
            if start + length > end:
                break
            self._position = start + length
            self._message += data[start : self._position]
            if (hello := self._parseMessage()) is not None:
                return hello
        if end == self._limit:
            self._tooLong()
        return None

    def _tooLong(self) -> None:
        raise HelloRefused(
            Code.CLIENT_HELLO_TOO_LONG, f"The ClientHello is longer than {self._limit} bytes.", Alert.HANDSHAKE_FAILURE
        )

    def _parseMessage(self) -> ClientHello | None:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise _bad("it is another message")
        if len(message) < _MESSAGE_HEADER:
            return None
        length = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER], "big")
        if length > self._limit:
            self._tooLong()
        if len(message) < length:
            return None
        if len(message) > length:
            raise _bad("something follows it in its record")
        return _parseBody(bytes(message[_MESSAGE_HEADER:]))


def parseClientHello(data: bytes, limit: int = LIMIT) -> ClientHello | None:
    """
    Read a ClientHello from the beginning of what a client sent; see L{ClientHelloReader.read}.

    @param limit: bytes from the first one on among which it must end.
    """
    return ClientHelloReader(limit).read(data)
