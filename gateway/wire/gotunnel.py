"""
go-tunnel's protocol, sans-io, for both ends: the control stream and the preamble of the others.

Agents and servers of go-tunnel are in use, and ours work with them. In a yamux session on TLS the agent's first stream
carries JSON messages; each stream of the server's is for one visitor, and begins with the host name that was asked
for. C{docs/reference/protocols/gotunnel.md} is the specification::

    reader = ControlReader(client=False)                            # the server's end
    [register] = reader.receive(b'{"type":"register",...}\\n')
    control.write(encode(Ack(ok=True)))
    stream.write(encodePreamble(register.routes[0].key))            # and then the visitor's bytes

Tokens are not looked at here. A message of an unknown type is skipped: go-tunnel's own agent does that, and an answer
that would tell a newer peer about it does not exist. But the first message has to be the one that belongs there.

Who writes, writes one message and then waits for the other end's, as go-tunnel's reader forgets what has come behind
the message that it wanted.
"""

__all__ = [
    "AUTH_FAILED",
    "HOST_TAKEN",
    "MAX_MESSAGE",
    "MAX_ROUTES",
    "NO_ROUTES",
    "Ack",
    "ControlReader",
    "Message",
    "Mode",
    "Ping",
    "Pong",
    "Register",
    "Route",
    "encode",
    "encodePreamble",
    "parsePreamble",
]

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from gateway.wire.agentcontrol import SessionError
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.hostname import MAX_HOST_NAME, isHostName

MAX_MESSAGE = 64 * 1024
"""Bytes: the longest message."""

MAX_ROUTES = 256
"""Of one agent."""

AUTH_FAILED = "auth failed"
NO_ROUTES = "no routes"
HOST_TAKEN = "host already registered: {host}"
"""What go-tunnel's server says in an C{ack}, which people look for in its agent's log."""

_VERSION = 1
_HEADER_SIZE = 3
_MAX_KEY = MAX_HOST_NAME + len("*.") + len(":65535")
_MAX_TEXT = 256


class Mode(StrEnum):
    """What visitors of a route speak inside of TLS: HTTP, or anything."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Route:
    """
    A host name and what is behind it.

    @ivar name: in lower case, without a port; C{*.} in front stands for one label.
    @ivar key: the same as the agent spells it. A stream must name it like that, or go-tunnel's agent does not find it.
    @ivar target: where the agent finds the origin. Of no use to anybody else.
    """

    name: str
    key: str
    target: str
    mode: Mode = Mode.HTTP


@dataclass(frozen=True, slots=True)
class Register:
    """
    The agent's first message.

    @ivar token: a JWT, not looked at; may be empty.
    @ivar routes: may be empty, for which a server refuses the agent; each name is there once.
    """

    token: str
    routes: tuple[Route, ...]

    def __repr__(self) -> str:
        return f"Register(token=..., routes={self.routes!r})"


@dataclass(frozen=True, slots=True)
class Ack:
    """
    The server's answer. One that is not C{ok} ends the session.

    @ivar error: why not, on one line; empty when all is well.
    """

    ok: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """
    Are you alive? The server asks, every 15 seconds.

    @ivar ts: milliseconds since 1970, by its clock.
    """

    ts: int = 0


@dataclass(frozen=True, slots=True)
class Pong:
    """
    The agent's answer, within 20 seconds.

    @ivar ts: milliseconds. From go-tunnel's agent by its own clock, and not the ping's.
    """

    ts: int = 0


Message = Register | Ack | Ping | Pong

_Time = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Head(msgspec.Struct):
    """What is asked of a message first."""

    type: str


class _Fields(msgspec.Struct):
    """Every field that there is, in every message; Go says C{null} for a map that was never made."""

    token: str = ""
    routes: dict[str, str] | None = None
    modes: dict[str, str] | None = None
    ok: bool = False
    error: str | None = None
    ts: _Time = 0


_HEAD = msgspec.json.Decoder(_Head)
_FIELDS = msgspec.json.Decoder(_Fields)
_TYPES = ("register", "ack", "ping", "pong")


def _invalid(details: str) -> RemoteProtocolError:
    return RemoteProtocolError(SessionError.INVALID_MESSAGE, details)


def _unexpected(kind: str) -> RemoteProtocolError:
    return RemoteProtocolError(SessionError.UNEXPECTED_MESSAGE, f"A message of type {kind!a:.40} is out of turn here.")


def _hostName(key: str) -> str | None:
    # On another port than 443, go-tunnel finds an agent only if that port is in the name.
    name, colon, port = key.lower().partition(":")
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    return name if key.isascii() and isHostName(name.removeprefix("*.")) else None


def _routes(targets: dict[str, str], modes: dict[str, str]) -> tuple[Route, ...]:
    if len(targets) > MAX_ROUTES:
        raise _invalid(f"There are more than {MAX_ROUTES} routes.")
    routes: dict[str, Route] = {}
    for key, target in targets.items():
        name = _hostName(key)
        if name is None:
            raise _invalid(f"{key!a:.80} is not a host name.")
        if name in routes:
            raise _invalid(f"The host {name} is there twice.")
        if len(target) > _MAX_TEXT or not target.isprintable():
            raise _invalid(f"The target of {name} is not a line of at most {_MAX_TEXT} characters.")
        # Anything else is HTTP to go-tunnel.
        mode = Mode.TCP if modes.get(key, "").lower() == Mode.TCP else Mode.HTTP
        routes[name] = Route(name, key, target, mode)
    return tuple(routes.values())


def _line(text: str) -> str:
    """Text of a peer's as a person can be shown it."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:_MAX_TEXT])


def _decode(value: bytes) -> Message | str:
    """
    @return: the message, or its type if that is not known.
    """
    try:
        kind = _HEAD.decode(value).type
        if kind not in _TYPES:
            return kind
        fields = _FIELDS.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        reason = ascii(str(e))[1:-1][:200] if isinstance(e, msgspec.ValidationError) else "it is not JSON"
        raise _invalid(f"The message cannot be read: {reason}.") from None
    match kind:
        case "register":
            return Register(fields.token, _routes(fields.routes or {}, fields.modes or {}))
        case "ack":
            return Ack(fields.ok, _line(fields.error or ""))
        case "ping":
            return Ping(fields.ts)
    return Pong(fields.ts)


def encode(message: Message) -> bytes:
    """
    @return: the message with a line end.
    @raise LocalProtocolError: it is longer than the other end takes.
    """
    fields: dict[str, object]
    match message:
        case Register(token, routes):
            fields = {
                "type": "register",
                "token": token,
                "routes": {route.key: route.target for route in routes},
                "modes": {route.key: route.mode for route in routes},
            }
        case Ack(ok, error):
            fields = {"type": "ack", "ok": ok} | ({"error": error} if error else {})
        case Ping(ts):
            fields = {"type": "ping", "ts": ts}
        case Pong(ts):
            fields = {"type": "pong", "ts": ts}
    line = msgspec.json.encode(fields)
    if len(line) > MAX_MESSAGE:
        raise LocalProtocolError(f"a message would have {len(line)} bytes")
    return line + b"\n"


_SPACE = re.compile(rb"[ \t\r\n]*")
_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class _Objects:
    """
    Cuts a stream into JSON objects, wherever the lines end: go-tunnel ends one after each, and does not ask for it.

    Every byte is looked at once, however small the pieces are. What is between the braces is not checked.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._inString = False

    def receive(self, data: bytes) -> Iterator[bytes]:
        """
        @return: the objects that are whole now, each before what comes after it is looked at: so it does not depend on
            the pieces in which they come which mistake is found first.
        """
        buffer = self._buffer
        buffer += data
        while True:
            if not self._scanned:
                space = _SPACE.match(buffer)
                del buffer[: space.end() if space else 0]
                if buffer and not buffer.startswith(b"{"):
                    raise _invalid("The message cannot be read: it is not a JSON object.")
            end = self._findEnd()
            if (len(buffer) if end is None else end) > MAX_MESSAGE:
                raise _invalid(f"A message is longer than {MAX_MESSAGE} bytes.")
            if end is None:
                return
            whole = bytes(buffer[:end])
            del buffer[:end]
            self._scanned = 0
            yield whole

    def _findEnd(self) -> int | None:
        buffer, position = self._buffer, self._scanned
        while (found := (_INSIDE if self._inString else _OUTSIDE).search(buffer, position)) is not None:
            position = found.end()
            match found[0]:
                case b"\\":
                    if position == len(buffer):
                        self._scanned = position - 1
                        return None
                    position += 1
                case b'"':
                    self._inString = not self._inString
                case b"{":
                    self._depth += 1
                case b"}":
                    self._depth -= 1
                    if self._depth == 0:
                        return position
        self._scanned = len(buffer)
        return None


class ControlReader:
    """
    What comes on the control stream, for one end of it.

    @param client: whether that is the agent's end, as in L{Session<gateway.wire.yamux.Session>}.
    """

    def __init__(self, *, client: bool) -> None:
        self._objects = _Objects()
        self._expected: tuple[type[Message], ...] = (Ack,) if client else (Register,)
        # A second ack comes from no server of go-tunnel; ours says with it why it ends the session.
        self._next: tuple[type[Message], ...] = (Ping, Ack) if client else (Pong,)
        self._isFirst = True

    def receive(self, data: bytes) -> list[Message]:
        """
        Take what arrived, in pieces of any size.

        @return: the messages that are whole now.
        @raise RemoteProtocolError: C{invalid-message} or C{unexpected-message}. The session is to be ended with it, and
            the messages before the wrong one in C{data} are lost with it. Its details may be told in an L{Ack}.
        """
        messages = []
        for value in self._objects.receive(data):
            message = _decode(value)
            if isinstance(message, str):
                if self._isFirst:
                    raise _unexpected(message)
                continue
            if not isinstance(message, self._expected):
                raise _unexpected(type(message).__name__.lower())
            self._isFirst, self._expected = False, self._next
            messages.append(message)
        return messages


def encodePreamble(key: str) -> bytes:
    """
    The beginning of a visitor's stream.

    @param key: of the route, as the agent spells it.
    """
    name = key.encode("ascii")
    return bytes((_VERSION,)) + len(name).to_bytes(2, "big") + name


def parsePreamble(buffer: bytes | bytearray) -> tuple[str, int] | None:
    """
    Read the beginning of a visitor's stream.

    @param buffer: from the first byte on; may hold more than the preamble.
    @return: the host name that was asked for, in lower case and without a port, and the preamble's length in bytes;
        C{None} when more are needed. What cannot become a preamble is not waited for.
    @raise RemoteProtocolError: C{bad-preamble}.
    """
    if buffer and buffer[0] != _VERSION:
        raise RemoteProtocolError("bad-preamble", f"The stream begins with version {buffer[0]} instead of {_VERSION}.")
    if len(buffer) < _HEADER_SIZE:
        return None
    length = int.from_bytes(buffer[1:_HEADER_SIZE], "big")
    if not 0 < length <= _MAX_KEY:
        raise RemoteProtocolError("bad-preamble", f"The stream's host name has {length} bytes.")
    end = _HEADER_SIZE + length
    if len(buffer) < end:
        return None
    key = buffer[_HEADER_SIZE:end].decode("latin-1")
    name = _hostName(key)
    if name is None:
        raise RemoteProtocolError("bad-preamble", f"The stream's host name is none: {key!a:.60}.")
    return name, end
