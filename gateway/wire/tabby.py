"""
The control protocol of Tabby's connection gateway, sans-io.

Tabby Web, a terminal in the browser, reaches ssh and telnet hosts through a WebSocket that carries JSON control
messages in text frames and, once connected, opaque bytes in binary frames. This module turns the messages
into values and back, and keeps the two conversations (client listener, management listener) in order. It follows
the protocol of tabby-connection-gateway 0.3.0 as its real clients speak it::

    conversation = ClientConversation(authRequired=True)
    send(conversation.greet())
    message = conversation.receive(b'{"_":"hello","version":1,"auth_token":"..."}')   # a Hello
    send(conversation.ready())

The client's side of a conversation::

    gateway: hello --> client: hello --> gateway: ready --> client: connect --> gateway: connected --> bytes
       HELLO              AUTHENTICATING       CONNECT             DIALING             OPEN
"""

__all__ = [
    "MAX_MESSAGE",
    "VERSION",
    "AuthorizeClient",
    "ClientConversation",
    "Code",
    "Connect",
    "Hello",
    "ManagementConversation",
    "Message",
    "State",
    "Unknown",
    "decode",
    "encodeError",
    "encodeNotice",
]

from dataclasses import dataclass
from enum import Enum, StrEnum

import msgspec

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError

VERSION = 1
"""The only version of the protocol that there is."""

MAX_MESSAGE = 16 * 1024
"""Bytes: the longest control message. Real ones stay under 1 KiB."""

MAX_PORT = 65535


class Code(StrEnum):
    """
    The error codes. The first five are the original's own; clients show only the C{details} beside them.
    """

    EXPECTED_HELLO = "expected-hello"
    EXPECTED_AUTH_TOKEN = "expected-auth-token"
    INCORRECT_AUTH_TOKEN = "incorrect-auth-token"
    EXPECTED_CONNECT = "expected-connect"
    CONNECTION_FAILED = "connection-failed"

    INVALID_MESSAGE = "invalid-message"
    TARGET_DENIED = "target-denied"
    RATE_LIMITED = "rate-limited"
    QUOTA_EXCEEDED = "quota-exceeded"
    CONNECT_TIMEOUT = "connect-timeout"
    HANDSHAKE_TIMEOUT = "handshake-timeout"
    IDLE_TIMEOUT = "idle-timeout"
    SESSION_EXPIRED = "session-expired"
    CONNECTION_CLOSED = "connection-closed"
    CONNECTION_RESET = "connection-reset"
    SHUTTING_DOWN = "shutting-down"

    EXPECTED_TOKEN = "expected-token"
    UNEXPECTED_COMMAND = "unexpected-command"


@dataclass(frozen=True, slots=True)
class Hello:
    """
    The client's greeting.

    @ivar authToken: the token presented; C{None} when it is missing, null or empty.
    """

    authToken: str | None

    def __repr__(self) -> str:
        return "Hello(authToken=...)" if self.authToken else "Hello(authToken=None)"


@dataclass(frozen=True, slots=True)
class Connect:
    """
    The client's wish.

    @ivar host: the target's name or address, not yet normalised; C{None} when the client leaves the choice to
        the gateway, as Tabby Web's telnet does.
    @ivar port: 1 to 65535; C{None} together with the host only.
    """

    host: str | None
    port: int | None


@dataclass(frozen=True, slots=True)
class AuthorizeClient:
    """
    The management client announces a one-shot token.

    @ivar token: never empty; C{None} when it is missing, null or empty.
    """

    token: str | None

    def __repr__(self) -> str:
        return "AuthorizeClient(token=...)" if self.token else "AuthorizeClient(token=None)"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-formed message of a kind that this protocol does not have."""

    kind: str


Message = Hello | Connect | AuthorizeClient | Unknown


def _invalid(details: str) -> RemoteProtocolError:
    return RemoteProtocolError(Code.INVALID_MESSAGE, details)


def _text(fields: dict[str, object], key: str) -> str | None:
    value = fields.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _invalid(f"The field {key} must be a string.")
    return value


def _port(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_PORT:
        raise _invalid("The field port must be a number from 1 to 65535.")
    return value


def decode(payload: bytes) -> Message:
    """
    Read one control message.

    @param payload: the whole message, from a text or a binary frame.
    @raise RemoteProtocolError: with C{invalid-message}, when it is too long, not JSON, not an object, or when a
        field has the wrong type. Nothing else is ever raised.
    """
    if len(payload) > MAX_MESSAGE:
        raise _invalid(f"The message is longer than {MAX_MESSAGE} bytes.")
    try:
        fields = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _invalid("The message is not JSON.") from None
    if not isinstance(fields, dict):
        raise _invalid("The message is not a JSON object.")
    match kind := fields.get("_"):
        case "hello":
            return Hello(_text(fields, "auth_token"))
        case "connect":
            host, port = _text(fields, "host"), _port(fields.get("port"))
            if (host is None) != (port is None):
                raise _invalid("The message connect needs both host and port, or neither.")
            return Connect(host, port)
        case "authorize-client":
            return AuthorizeClient(_text(fields, "token"))
        case _:
            return Unknown(kind[:32] if isinstance(kind, str) else "")


def _encode(**fields: object) -> str:
    return msgspec.json.encode({"_" if key == "kind" else key: fields[key] for key in fields}).decode()


def encodeError(code: str, details: str) -> str:
    """
    @param details: a sentence for a person: it is all that the Tabby app shows.
    """
    return _encode(kind="error", code=code, details=details)


def encodeNotice(kind: str, details: str) -> str:
    """
    A message that asks nothing of the client. The real ones log it and go on, as with every kind that they do not
    know.
    """
    return _encode(kind=kind, details=details)


_READY = _encode(kind="ready")
_CONNECTED = _encode(kind="connected")


class State(Enum):
    """Where a conversation stands; see the picture in the module's docstring."""

    GREETING = "greeting"
    HELLO = "hello"
    AUTHENTICATING = "authenticating"
    CONNECT = "connect"
    DIALING = "dialing"
    OPEN = "open"
    CLOSED = "closed"


class ClientConversation:
    """
    The gateway's side of one client's conversation.

    The verbs L{greet}, L{ready}, L{connected} and L{fail} return the text message to send, and L{receive} takes what
    comes. A verb out of turn raises L{LocalProtocolError}.

    @ivar state: the present L{State}.
    """

    __slots__ = ("_authRequired", "state")

    def __init__(self, *, authRequired: bool) -> None:
        self._authRequired = authRequired
        self.state = State.GREETING

    def _go(self, expected: State, following: State) -> None:
        if self.state is not expected:
            raise LocalProtocolError(f"cannot go from {self.state} to {following}")
        self.state = following

    @property
    def carriesData(self) -> bool:
        """Whether binary frames are payload by now, rather than control messages."""
        return self.state is State.OPEN or self.state is State.DIALING

    def greet(self) -> str:
        """The gateway's C{hello}."""
        self._go(State.GREETING, State.HELLO)
        return _encode(kind="hello", version=VERSION, auth_required=self._authRequired)

    def receive(self, payload: bytes) -> Hello | Connect | None:
        """
        Take a control message of the client.

        @return: the L{Hello} or L{Connect} to act on; C{None} for a message that changes nothing: any control
            message, well-formed or not, once the client asked to be connected (the original dies of them).
        @raise RemoteProtocolError: when the message is malformed or out of turn. The conversation is not closed by
            that: answer with L{fail}.
        @raise LocalProtocolError: when it is the gateway's turn, to L{greet} or to say L{ready}.
        """
        if self.carriesData or self.state is State.CLOSED:
            return None
        if self.state not in (State.HELLO, State.CONNECT):
            raise LocalProtocolError(f"a message was read in the state {self.state}")
        message = decode(payload)
        if self.state is State.HELLO:
            if not isinstance(message, Hello):
                raise RemoteProtocolError(Code.EXPECTED_HELLO, "The first message must be a hello.")
            self.state = State.AUTHENTICATING
            return message
        if not isinstance(message, Connect):
            raise RemoteProtocolError(Code.EXPECTED_CONNECT, "The message after hello must be a connect.")
        self.state = State.DIALING
        return message

    def ready(self) -> str:
        """The client is who it says: tell it."""
        self._go(State.AUTHENTICATING, State.CONNECT)
        return _READY

    def connected(self) -> str:
        """The target is there: tell the client."""
        self._go(State.DIALING, State.OPEN)
        return _CONNECTED

    def fail(self, code: str, details: str) -> str:
        """End the conversation, from any state but C{CLOSED}."""
        if self.state is State.CLOSED:
            raise LocalProtocolError("the conversation has ended already")
        self.state = State.CLOSED
        return encodeError(code, details)


class ManagementConversation:
    """
    The gateway's side of a management client's conversation: one hello of ours, one message of theirs.

    @cvar ACKNOWLEDGEMENT: our answer to a token that was taken. The original answers nothing, and Tabby Web's back
        end does not read it.
    """

    __slots__ = ()

    GREETING = _encode(kind="hello", version=VERSION)
    ACKNOWLEDGEMENT = _encode(kind="ok")

    @staticmethod
    def receive(payload: bytes) -> str:
        """
        @return: the one-shot token to authorise, never empty.
        @raise RemoteProtocolError: C{invalid-message}, C{expected-token} or C{unexpected-command}.
        """
        message = decode(payload)
        if not isinstance(message, AuthorizeClient):
            raise RemoteProtocolError(Code.UNEXPECTED_COMMAND, "The only command here is authorize-client.")
        if message.token is None:
            raise RemoteProtocolError(Code.EXPECTED_TOKEN, "The command authorize-client needs a token.")
        return message.token
