"""
http-network-relay's messages, sans-io, for all three parts: the relay, its edge agents and its access clients.

All of them speak JSON in the text messages of a WebSocket, an object C{{"inner": {"kind": ...}}} each, with payload as
base64. An agent says C{start} and waits for connections to open; an access client says C{start} for its one connection.
C{docs/reference/protocols/network-relay.md} is the specification::

    start = decodeClientStart(message)                       # ClientStart("box", "10.0.0.1", 22, "tcp", secret="...")
    agent.sendText(encode(InitiateConnection("10.0.0.1", 22, "tcp", "c1")))
    decodeFromAgent(message)                                 # ConnectionOpened("c1")

There is one function for each place in a conversation, which reads what may be said there and nothing else. Keys that
are not known are skipped: agents are free to say more.

No part says when one direction of a connection ends, and nobody says how much it can take. Our own parts therefore
speak the agent protocol among themselves, which they ask for with the subprotocol
L{SUBPROTOCOL<gateway.wire.agentcontrol.SUBPROTOCOL>}; whoever does not know it answers without one, and is spoken to as
described here.
"""

__all__ = [
    "AGENT_KEEP_ALIVE",
    "AGENT_PATH",
    "CLIENT_PATH",
    "CLOSED_BY_TARGET",
    "GOING_AWAY",
    "INTERNAL",
    "INVALID_MESSAGE",
    "INVALID_SECRET",
    "MAX_DATA",
    "MAX_MESSAGE",
    "MAX_START",
    "NORMAL",
    "NOT_INITIATED",
    "NOT_REGISTERED",
    "POLICY",
    "RELAY_KEEP_ALIVE",
    "AgentData",
    "AgentStart",
    "ClientData",
    "ClientStart",
    "ConnectionClose",
    "ConnectionFailed",
    "ConnectionOpened",
    "ConnectionReset",
    "Error",
    "FromAgent",
    "InitiateConnection",
    "KeepAlive",
    "Message",
    "StartOk",
    "ToAgent",
    "ToClient",
    "agentLabel",
    "decodeAgentStart",
    "decodeClientStart",
    "decodeFromAgent",
    "decodeFromClient",
    "decodeToAgent",
    "decodeToClient",
    "encode",
]

import re
from hashlib import sha256
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec.structs import force_setattr

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError

AGENT_PATH = "/ws_for_edge_agents"
CLIENT_PATH = "/ws_for_access_clients"

MAX_MESSAGE = 256 * 1024
"""Bytes: the longest message. The original's newest parts read 128 KiB at once, which base64 makes 171 KiB of."""

MAX_START = 64 * 1024
"""Bytes: the longest first message, whose sender has not proved yet who it is."""

MAX_DATA = 64 * 1024
"""Bytes: the most payload in one message of ours."""

AGENT_KEEP_ALIVE = 10.0
RELAY_KEEP_ALIVE = 30.0
"""Seconds between the C{keep_alive}s of an agent, and of a relay."""

NORMAL, GOING_AWAY, POLICY, INTERNAL = 1000, 1001, 1008, 1011
"""Codes with which our relay closes a WebSocket (RFC 6455, section 7.4.1). The original's says none but the first."""

INVALID_MESSAGE = "invalid-message"
"""The code of all that is raised here."""

INVALID_SECRET = "Invalid access client secret"
NOT_REGISTERED = "Agent not registered"
NOT_INITIATED = "Error initiating connection: {message}"
"""What the original's relay says in an C{error}, which people look for in their ssh client's output."""

CLOSED_BY_TARGET = "Connection closed by target"
"""What the original's newest agents say in a C{connection_reset} when the target has ended well."""

_MAX_TEXT = 256

_ID = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Secret = Annotated[str, msgspec.Meta(max_length=8192)]
_Name = Annotated[str, msgspec.Meta(max_length=255)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Protocol = Annotated[str, msgspec.Meta(max_length=16)]


def _line(text: str) -> str:
    """Text of a peer's as a person can be shown it."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:_MAX_TEXT])


class _Message(msgspec.Struct, frozen=True, tag_field="kind", omit_defaults=True):
    """What all of the following are."""


class AgentStart(_Message, frozen=True, tag="start", omit_defaults=False, rename={"lastError": "last_error"}):
    """
    The agent's first message.

    @ivar name: any text.
    @ivar lastError: why its last session ended, as far as it can tell.
    """

    name: _Name
    secret: _Secret
    lastError: str | None = None

    def __repr__(self) -> str:
        return f"AgentStart(name={self.name!r}, secret=..., lastError={self.lastError!r:.80})"

    @property
    def takesKeepAlive(self) -> bool:
        """Whether the agent can be sent L{KeepAlive}. An old one dies of it, and says so when it is back."""
        return "tag 'keep_alive' found" not in (self.lastError or "")


class InitiateConnection(
    _Message,
    frozen=True,
    tag="initiate_connection",
    rename={"host": "target_ip", "port": "target_port", "connection": "connection_id"},
):
    """
    The relay wants a connection. The agent answers with L{ConnectionOpened} or L{ConnectionFailed}.

    @ivar host: a name or an address, not yet normalised.
    @ivar protocol: C{tcp}, all that these messages can carry.
    @ivar connection: names it from now on. The original's are UUIDs.
    """

    host: _Name
    port: _Port
    protocol: _Protocol
    connection: _ID


class ConnectionOpened(_Message, frozen=True, tag="initiate_connection_ok", rename={"connection": "connection_id"}):
    """The target is connected."""

    connection: _ID


class _Ending(_Message, frozen=True, rename={"connection": "connection_id"}):
    """
    @ivar message: why, on one line.
    """

    message: str
    connection: _ID

    def __post_init__(self) -> None:
        force_setattr(self, "message", _line(self.message))


class ConnectionFailed(_Ending, frozen=True, tag="initiate_connection_error"):
    """The target could not be connected."""


class ConnectionReset(_Ending, frozen=True, tag="connection_reset"):
    """The agent says that a connection is over."""


class ConnectionClose(_Ending, frozen=True, tag="connection_close"):
    """The relay says that a connection is over."""


class AgentData(_Message, frozen=True, tag="tcp_data", rename={"data": "data_base64", "connection": "connection_id"}):
    """
    Payload of one of an agent's connections, in either direction.
    """

    data: bytes
    connection: _ID


class KeepAlive(_Message, frozen=True, tag="keep_alive"):
    """The sender is alive. Nobody answers."""


class ClientStart(
    _Message,
    frozen=True,
    tag="start",
    rename={"agent": "connection_target", "host": "target_ip", "port": "target_port"},
):
    """
    The access client's first message: what to connect it to.

    @ivar agent: the name of an agent.
    @ivar host: a name or an address as the agent sees it, not yet normalised.
    @ivar protocol: C{tcp}, all that these messages can carry.
    """

    agent: _Name
    host: _Name
    port: _Port
    protocol: _Protocol
    secret: _Secret

    def __repr__(self) -> str:
        return (
            f"ClientStart(agent={self.agent!r}, host={self.host!r}, port={self.port!r}, protocol={self.protocol!r},"
            " secret=...)"
        )


class StartOk(_Message, frozen=True, tag="start_ok", rename={"connection": "connection_id"}):
    """The target is connected."""

    connection: str = ""


class Error(_Message, frozen=True, tag="error"):
    """
    Nothing more comes.

    @ivar message: why, on one line.
    """

    message: str

    def __post_init__(self) -> None:
        force_setattr(self, "message", _line(self.message))


class ClientData(_Message, frozen=True, tag="tcp_data", rename={"data": "data_base64", "connection": "connection_id"}):
    """
    Payload of an access client's connection, in either direction.

    @ivar connection: of the relay's L{StartOk}, which it says again; a client leaves it away.
    """

    data: bytes
    connection: str = ""


FromAgent = ConnectionOpened | ConnectionFailed | AgentData | ConnectionReset | KeepAlive
ToAgent = InitiateConnection | AgentData | ConnectionClose | KeepAlive
ToClient = StartOk | Error | ClientData
Message = AgentStart | FromAgent | ToAgent | ClientStart | ToClient

T = TypeVar("T")


class _Envelope(msgspec.Struct, Generic[T]):
    """What is around a message."""

    inner: T


_ENCODER = msgspec.json.Encoder()
_AGENT_START = msgspec.json.Decoder(_Envelope[AgentStart])
_CLIENT_START = msgspec.json.Decoder(_Envelope[ClientStart])
_FROM_AGENT = msgspec.json.Decoder(_Envelope[FromAgent])
_TO_AGENT = msgspec.json.Decoder(_Envelope[ToAgent])
_FROM_CLIENT = msgspec.json.Decoder(_Envelope[ClientData])
_TO_CLIENT = msgspec.json.Decoder(_Envelope[ToClient])


def _decode(decoder: msgspec.json.Decoder[_Envelope[T]], data: bytes) -> T:
    if len(data) > MAX_MESSAGE:
        raise RemoteProtocolError(INVALID_MESSAGE, f"The message is longer than {MAX_MESSAGE} bytes.")
    try:
        return decoder.decode(data).inner
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        # What msgspec says names the place and what belongs there. It may quote a word of the peer's, too.
        reason = ascii(str(e))[1:-1][:200] if isinstance(e, msgspec.ValidationError) else "it is not JSON"
        raise RemoteProtocolError(INVALID_MESSAGE, f"The message cannot be read: {reason}.") from None


def decodeAgentStart(data: bytes) -> AgentStart:
    """
    Read the first message of an agent.

    @raise RemoteProtocolError: L{INVALID_MESSAGE}; as in all of these functions, nothing else is ever raised.
    """
    return _decode(_AGENT_START, data)


def decodeFromAgent(data: bytes) -> FromAgent:
    """Read a later message of an agent."""
    return _decode(_FROM_AGENT, data)


def decodeToAgent(data: bytes) -> ToAgent:
    """Read what the relay tells an agent."""
    return _decode(_TO_AGENT, data)


def decodeClientStart(data: bytes) -> ClientStart:
    """Read the first message of an access client."""
    return _decode(_CLIENT_START, data)


def decodeFromClient(data: bytes) -> ClientData:
    """Read a later message of an access client."""
    return _decode(_FROM_CLIENT, data)


def decodeToClient(data: bytes) -> ToClient:
    """Read what the relay tells an access client."""
    return _decode(_TO_CLIENT, data)


def encode(message: Message) -> str:
    """
    @return: the text of a WebSocket message.
    @raise LocalProtocolError: it is longer than our own parts take.
    """
    data = _ENCODER.encode(_Envelope(message))
    if len(data) > MAX_MESSAGE:
        raise LocalProtocolError(f"a message would have {len(data)} bytes")
    return data.decode()


_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def agentLabel(name: str) -> str:
    """
    The label by which an agent goes where names are host names: in the agent protocol and in C{HOST.via.LABEL.agent}.
    Names of http-network-relay's agents are any text.

    @return: the name itself where it is a label; otherwise what is left of it in lower case, and eight digits that make
        it different from others': C{my-box-5c2c1a2f} for C{My_Box}.
    """
    if _LABEL.fullmatch(name):
        return name
    words = re.sub(r"[^a-z0-9]+", "-", name.lower())[:50].strip("-")
    return f"{words or 'agent'}-{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
