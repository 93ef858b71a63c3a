"""
The control stream of the agent protocol: JSON messages, one per line, sans-io, for both ends.

It is the first stream that an agent opens in its session. There the agent says who it is and what it serves, and
both ends say that they are alive, and when they are going. C{docs/reference/protocols/agent.md} is the specification::

    reader = ControlReader(client=False)                       # the gateway's end
    messages = reader.receive(b'{"type":"register",...}\\n')    # [Register(...)]
    stream.write(encode(Ack(session="s1", ping=15, services=())))

What is checked here is all that can be known without asking anybody: types, lengths, the syntax of names, the range of
ports, what is there twice. Who may have what is decided elsewhere. The same checks serve an agent that reads its
configuration: C{decode(encode(register).rstrip())} raises what the gateway would refuse.

An unknown message ends the session, as nobody knows what it asked for. An unknown field is skipped, so that newer
peers may say more.

Length: every message of one stream, and the one reader that knows their order.
"""

__all__ = [
    "ALPN",
    "MAX_ACK",
    "MAX_HOSTNAMES",
    "MAX_MESSAGE",
    "MAX_SERVICES",
    "SUBPROTOCOL",
    "VERSION",
    "Ack",
    "ControlReader",
    "Credential",
    "Drain",
    "JwtCredential",
    "Message",
    "Ping",
    "Pong",
    "Refused",
    "Register",
    "SecretCredential",
    "Service",
    "ServiceError",
    "ServiceStatus",
    "SessionError",
    "Text",
    "Update",
    "Word",
    "decode",
    "encode",
]

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.hostname import isHostName
from gateway.wire.httpoptions import MAX_PREFIXES, HttpOptions, Prefix

ALPN = b"gateway/1"
SUBPROTOCOL = "gateway.v1"
"""What a carrier says that it carries, in TLS and in a WebSocket (section "Carrier")."""

VERSION = 1
"""The only version of the protocol that there is."""

MAX_MESSAGE = 64 * 1024
"""Bytes: the longest message, without its line end."""

MAX_ACK = 256 * 1024
"""Bytes: the longest C{ack}, which says something of every service in a longest C{register}."""

MAX_SERVICES = 256
MAX_HOSTNAMES = 64
"""Of one service."""


class SessionError(StrEnum):
    """Why a session ends: the codes of C{refused}. The first four are raised here."""

    INVALID_MESSAGE = "invalid-message"
    UNKNOWN_MESSAGE = "unknown-message"
    UNEXPECTED_MESSAGE = "unexpected-message"
    UNSUPPORTED_VERSION = "unsupported-version"

    UNAUTHORIZED = "unauthorized"
    REGISTER_TIMEOUT = "register-timeout"
    TOO_MANY_SESSIONS = "too-many-sessions"
    REPLACED = "replaced"
    REVOKED = "revoked"
    SHUTTING_DOWN = "shutting-down"


class ServiceError(StrEnum):
    """Why a service is not served: the codes in an C{ack}."""

    NOT_ALLOWED = "not-allowed"
    TAKEN = "taken"
    UNAVAILABLE = "unavailable"
    TOO_MANY_SERVICES = "too-many-services"
    INVALID_OPTIONS = "invalid-options"


# Python's $ matches before a line end, too, and so is not used here.
_Label = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
_Replica = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{0,64}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z")]
"""A line that can be logged as it is."""
Word = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{0,64}\Z")]
"""A code, or empty."""
_Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]  # what every language's JSON can hold


class _Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all of the following are."""


class SecretCredential(_Value, frozen=True, tag_field="kind", tag="secret"):
    """A secret that the gateway knows."""

    secret: _Secret

    def __repr__(self) -> str:
        return "SecretCredential(secret=...)"


class JwtCredential(_Value, frozen=True, tag_field="kind", tag="jwt"):
    """A JSON Web Token, in its compact form."""

    jwt: _Secret

    def __repr__(self) -> str:
        return "JwtCredential(jwt=...)"


Credential = SecretCredential | JwtCredential


class Service(_Value, frozen=True):
    """
    Something that an agent serves.

    @ivar key: the agent's own name for it: one label, different from those of its other services. Streams name it.
    @ivar kind: how visitors find it: C{tls} by the name in a ClientHello, C{http} by the Host of a request or by the
        beginning of its path, C{tcp} and C{udp} by a port of its own.
    @ivar hostnames: for C{tls} and C{http}: at most L{MAX_HOSTNAMES}; in lower case, in ASCII, without a trailing dot.
        C{*.} in front stands for one label. All of an agent's are different.
    @ivar port: for C{tcp} and C{udp}; 0 leaves the choice to the gateway.
    @ivar tls: for C{tls}: whether the visitor's TLS goes through to the origin, or ends at the gateway.
    @ivar healthy: C{False} takes no visitors but keeps names and ports.
    @ivar prefixes: for C{http}: where it is at the gateway's own name. All of an agent's are different.
    @ivar http: for C{http}: what the gateway does with requests and responses; C{None}: nothing of its own.
    @ivar generation: another one when what is behind it is: streams to the one before are not used for new requests.
    """

    key: _Label
    kind: Literal["tls", "http", "tcp", "udp"]
    hostnames: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_HOSTNAMES)] = ()
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    tls: Literal["passthrough", "terminate"] = "passthrough"
    healthy: bool = True
    prefixes: Annotated[tuple[Prefix, ...], msgspec.Meta(max_length=MAX_PREFIXES)] = ()
    http: HttpOptions | None = None
    generation: _Number = 0

    def __post_init__(self) -> None:
        """
        @raise ValueError: fields contradict one another, or a name is none.
        """
        if self.kind in ("tls", "http"):
            if not (self.hostnames or self.prefixes):
                either = "hostnames or prefixes" if self.kind == "http" else "hostnames"
                raise ValueError(f"A service of kind {self.kind} needs {either}")
            if self.port:
                raise ValueError(f"A service of kind {self.kind} has no port")
        elif self.hostnames:
            raise ValueError(f"A service of kind {self.kind} has no hostnames")
        for name in self.hostnames:
            if not isHostName(name.removeprefix("*.")):
                raise ValueError(f"{name:.80} is not a host name in lower case")
        if self.tls == "terminate" and self.kind != "tls":
            raise ValueError("Only a service of kind tls has a field tls")
        if (self.prefixes or self.http is not None) and self.kind != "http":
            raise ValueError("Only a service of kind http has prefixes and a field http")


Services = Annotated[tuple[Service, ...], msgspec.Meta(max_length=MAX_SERVICES)]


def _checkDifferent(services: Iterable[Service]) -> None:
    """
    @raise ValueError: two services share a key, a host name, a prefix or a port.
    """
    seen: set[object] = set()
    for service in services:
        ports = [f"{service.kind} port {service.port}"] if service.port else []
        names = (*(f"hostname {name}" for name in service.hostnames), *(f"prefix {each}" for each in service.prefixes))
        for what in (f"key {service.key}", *names, *ports):
            if what in seen:
                raise ValueError(f"The {what} is there twice")
            seen.add(what)


class Register(_Value, frozen=True, tag="register"):
    """
    The agent's first message.

    @ivar version: L{VERSION}.
    @ivar agent: its name, one label.
    @ivar replica: which of several processes of that name it is, the same again after a restart: a session takes over
        from one of the same agent and replica. Empty for the only one.
    @ivar software: name and version, for people.
    @ivar credential: what proves the name; C{None} when the carrier did, with a client certificate.
    @ivar services: what it serves, if anything.
    @ivar targets: the agent takes streams to targets. To which ones, it decides itself.
    @ivar request: comes back in the C{ack}.
    """

    version: Literal[1]
    agent: _Label
    replica: _Replica = ""
    software: Text = ""
    credential: Credential | None = None
    services: Services = ()
    targets: bool = False
    request: _Number = 0

    def __post_init__(self) -> None:
        _checkDifferent(self.services)


class Update(_Value, frozen=True, tag="update"):
    """
    What the agent serves from now on, instead of all that it said before. Fields as in L{Register}.
    """

    services: Services
    targets: bool = False
    request: _Number = 0

    def __post_init__(self) -> None:
        _checkDifferent(self.services)


class ServiceStatus(_Value, frozen=True):
    """
    What became of a service.

    @ivar address: where visitors reach it, as a URL. Empty when they do not.
    @ivar code: why it is not served: a L{ServiceError}, or one of a newer gateway's.
    @ivar details: a sentence for a person: why it is not served, or what it lacks although it is.
    """

    key: _Label
    address: Text = ""
    code: Word = ""
    details: Text = ""


class Ack(_Value, frozen=True, tag="ack"):
    """
    The gateway's answer to L{Register} and L{Update}; and said again whenever something in it changes.

    @ivar session: names the session in both ends' logs.
    @ivar ping: seconds between pings, for both ends.
    @ivar services: each of those asked for, in that order.
    @ivar request: of the message that is answered, the last one if this is said again.
    """

    session: Text
    ping: Annotated[float, msgspec.Meta(ge=1, le=3600)]
    services: Annotated[tuple[ServiceStatus, ...], msgspec.Meta(max_length=MAX_SERVICES)]
    request: _Number = 0


class Refused(_Value, frozen=True, tag="refused"):
    """
    The session is over; either end says it last.

    @ivar code: a L{SessionError}, or one of a newer peer's.
    @ivar details: a sentence for a person.
    """

    code: Word
    details: Text


class Ping(_Value, frozen=True, tag="ping"):
    """Are you alive? Either end asks."""

    id: _Number


class Pong(_Value, frozen=True, tag="pong"):
    """The answer to the L{Ping} with that number."""

    id: _Number


class Drain(_Value, frozen=True, tag="drain"):
    """
    The sender takes no new streams and ends the session when those that there are have ended; either end.

    @ivar seconds: from now, after which it ends the session all the same.
    @ivar reason: a sentence for a person.
    """

    seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)]
    reason: Text = ""


Message = Register | Update | Ack | Refused | Ping | Pong | Drain

_KINDS: tuple[type[Message], ...] = (Register, Update, Ack, Refused, Ping, Pong, Drain)
_DECODERS = {kind.__struct_config__.tag: msgspec.json.Decoder(kind) for kind in _KINDS}
_ENCODER = msgspec.json.Encoder()


class _Head(msgspec.Struct):
    """What is asked of a message first."""

    type: str
    version: int = VERSION


_HEAD = msgspec.json.Decoder(_Head)


_PATTERN = re.compile(r" matching regex .*(?= - at )")


def _invalid(error: Exception) -> RemoteProtocolError:
    """What msgspec says names the place and what belongs there. It may quote a word of the peer's, too."""
    reason = "it is not JSON"
    if isinstance(error, msgspec.ValidationError):
        reason = ascii(_PATTERN.sub(" of the right form", str(error)))[1:-1][:200]
    return RemoteProtocolError(SessionError.INVALID_MESSAGE, f"The message cannot be read: {reason}.")


def decode(line: bytes | bytearray) -> Message:
    """
    Read one message.

    @param line: without its line end.
    @raise RemoteProtocolError: C{invalid-message}, C{unknown-message} or C{unsupported-version}. Nothing else is ever
        raised.
    """
    try:
        head = _HEAD.decode(line)
        decoder = _DECODERS.get(head.type)
        if decoder is None:
            raise RemoteProtocolError(SessionError.UNKNOWN_MESSAGE, f"There is no message of type {head.type!a:.40}.")
        if head.version != VERSION:
            details = f"The version that is spoken here is {VERSION}."
            raise RemoteProtocolError(SessionError.UNSUPPORTED_VERSION, details)
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise _invalid(e) from None


def encode(message: Message) -> bytes:
    """
    @return: the message with its line end.
    @raise LocalProtocolError: it is longer than the other end takes.
    """
    line = _ENCODER.encode(message)
    if len(line) > (MAX_ACK if isinstance(message, Ack) else MAX_MESSAGE):
        raise LocalProtocolError(f"a message would have {len(line)} bytes")
    return line + b"\n"


class ControlReader:
    """
    What comes on the control stream, for one end of it.

    @param client: whether that is the agent's end, as in L{Session<gateway.wire.yamux.Session>}.
    """

    __slots__ = ("_first", "_isFirst", "_limit", "_next", "_partial")

    def __init__(self, *, client: bool) -> None:
        self._first: tuple[type[Message], ...] = (Ack, Refused) if client else (Register,)
        self._next: tuple[type[Message], ...] = (Refused, Ping, Pong, Drain, Ack if client else Update)
        self._isFirst = True
        self._limit = MAX_ACK if client else MAX_MESSAGE
        self._partial = bytearray()

    def receive(self, data: bytes) -> list[Message]:
        """
        Take what arrived, in pieces of any size.

        @return: the messages that are whole now.
        @raise RemoteProtocolError: with one of the first four of L{SessionError}. The session is to be ended with it;
            the messages before the wrong one in C{data} are lost with it.
        """
        *lines, rest = data.split(b"\n")
        messages = []
        for line in lines:
            self._extend(line)
            messages.append(self._read(self._partial))
            self._partial.clear()
        self._extend(rest)
        return messages

    def _extend(self, data: bytes) -> None:
        if len(self._partial) + len(data) > self._limit:
            details = f"A message is longer than {self._limit} bytes."
            raise RemoteProtocolError(SessionError.INVALID_MESSAGE, details)
        self._partial += data

    def _read(self, line: bytearray) -> Message:
        message = decode(line)
        if not isinstance(message, self._first if self._isFirst else self._next):
            details = f"A message of type {message.__struct_config__.tag} is out of turn here."
            raise RemoteProtocolError(SessionError.UNEXPECTED_MESSAGE, details)
        self._isFirst = False
        return message
