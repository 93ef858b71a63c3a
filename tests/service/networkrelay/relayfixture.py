"""
A network relay in memory, and what comes to it: agents and clients that say what a test has them say, in
http-network-relay's messages, and agents of our own::

    relay = Relay()
    agent = relay.edgeAgent("box")                              # has said start
    client = relay.accessClient("box", "10.0.0.1", 22)            # too
    agent.say(kind="initiate_connection_ok", connection_id=agent.heard[-1]["connection_id"])
    assert client.kinds == ["start_ok"]

The relay's end is the real one.
"""

from __future__ import annotations

import json
import struct
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.limits import Admission
from gateway.net.budget import StallBudget
from gateway.net.relay import RelaySettings
from gateway.service.metrics import Metrics
from gateway.service.networkrelay.accessclientendpoint import AccessEndpoint, AccessTarget
from gateway.service.networkrelay.door import RelayDoorSettings
from gateway.service.networkrelay.edgeagentclient import EdgeAgentClient
from gateway.service.networkrelay.edgeagenttargets import EdgeTargets
from gateway.service.networkrelay.relay import NetworkRelay
from gateway.service.server.destinations import Destinations
from gateway.service.server.usage import RouteLimits
from gateway.service.server.visitors import Visitors
from gateway.testing import FlowLink, flowPair
from gateway.wire.networkrelay import AGENT_PATH, CLIENT_PATH
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.sides import Peer
from tests.service.tunnelfixture import Tunnel
from tests.websocketclient import BINARY, CLOSE, PING, PONG, TEXT, WebSocketClient

CREDENTIALS = {
    "edge-agents": {"box": "agent secret", "My_Box": "another secret"},
    "access-client-secrets": ["client secret"],
}


class JsonPeer(Protocol):
    """
    A program at the other end of a WebSocket.

    @ivar heard: what is inside of all messages that came.
    @ivar closed: the code and the reason of the relay's Close.
    @ivar reason: what its connection ended with.
    @ivar link: its connection, of which it has the end C{a}.
    """

    transport: Any
    link: FlowLink

    def __init__(self, relay: Relay, path: str, **headers: str) -> None:
        self.relay = relay
        self.socket = WebSocketClient()
        self.heard: list[dict[str, Any]] = []
        self.binary = b""
        self.closed: tuple[int, str] | None = None
        self.reason: Failure | None = None
        self._request = self.socket.request(path, **headers)

    def connectionMade(self) -> None:
        """Ask for a WebSocket."""
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Record messages, and answer as everybody does."""
        for frame in self.socket.receive(data):
            if frame.opcode == TEXT:
                message = json.loads(frame.payload)
                assert list(message) == ["inner"], message
                self.heard.append(message["inner"])
            elif frame.opcode == BINARY:
                self.binary += frame.payload
            elif frame.opcode == PING:
                self.transport.write(self.socket.frame(PONG, frame.payload))
            elif frame.opcode == CLOSE:
                (code,) = struct.unpack("!H", frame.payload[:2])
                self.closed = code, frame.payload[2:].decode()
                self.transport.write(self.socket.frame(CLOSE, frame.payload[:2]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record how it ended."""
        self.reason = reason

    @property
    def status(self) -> int:
        """Of the answer to the request."""
        assert self.socket.answer is not None
        return self.socket.answer.status

    @property
    def kinds(self) -> list[str]:
        """Of all messages."""
        return [each["kind"] for each in self.heard]

    @property
    def payload(self) -> bytes:
        """All that came in tcp_data."""
        return b"".join(b64decode(each["data_base64"]) for each in self.heard if each["kind"] == "tcp_data")

    def write(self, text: bytes, opcode: int = TEXT) -> None:
        """Send a message as it stands."""
        self.transport.write(self.socket.frame(opcode, text))
        self.relay.pump()

    def say(self, **inner: Any) -> None:
        """Send a message."""
        self.write(json.dumps({"inner": inner}).encode())

    def send(self, data: bytes, **more: str) -> None:
        """Send payload."""
        self.say(kind="tcp_data", data_base64=b64encode(data).decode(), **more)

    def close(self, code: int = 1000) -> None:
        """Make the closing handshake."""
        self.transport.write(self.socket.frame(CLOSE, struct.pack("!H", code)))
        self.relay.pump()

    # -- An agent's

    @property
    def connection(self) -> str:
        """The name of the connection that it was asked for last."""
        return next(
            str(each["connection_id"]) for each in reversed(self.heard) if each["kind"] == "initiate_connection"
        )

    def accept(self) -> str:
        """The target of the last wish is connected. Return the connection's name."""
        connection = self.connection
        self.say(kind="initiate_connection_ok", connection_id=connection)
        return connection


class Targets(EdgeTargets):
    """
    Those of an agent of ours, which are all the test's.
    """

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay.clock)  # type: ignore[arg-type]  # nobody dials with it
        self._relay = relay

    def endpointFor(self, host: str, port: int, *, isDatagram: bool) -> tuple[IStreamClientEndpoint, RelaySettings]:
        self._relay.asked.append((host, port, isDatagram))
        return self._relay.origins, RelaySettings()


class Relay(Tunnel):
    """
    A relay and its gateway.

    @param credentials: what is in the file.
    @ivar asked: what agents of ours were asked to connect to: host, port, and whether it is UDP.
    """

    def __init__(self, credentials: object = CREDENTIALS, *, settings: RelayDoorSettings | None = None) -> None:
        self.path = Path(tempfile.mkdtemp()) / "credentials.json"
        self.settings = settings or RelayDoorSettings()
        self.asked: list[tuple[str, int, bool]] = []
        self.write(credentials)
        super().__init__()

    def write(self, credentials: object) -> None:
        """Write the credentials file anew."""
        self.path.write_text(credentials if isinstance(credentials, str) else json.dumps(credentials))

    def startGateway(self) -> None:
        super().startGateway()
        self.metrics = Metrics()
        self.visitors = Visitors(
            self.clock,
            admission=Admission(0.0),
            settings=RelaySettings(),
            limits=RouteLimits(),
            budget=StallBudget(),
            metrics=self.metrics,
        )
        self.destinations = Destinations(self.registry, self.clock)
        self.relay = NetworkRelay(
            self.clock,
            str(self.path),
            self.door,
            self.visitors,
            self.doors,
            Admission(0.0),
            self.settings,
            self.credentialsChanged,
        )
        self.credentialsChanged()
        self.relay.startService()

    def credentialsChanged(self) -> None:
        """As the gateway does."""
        self.authority.replaceEntries([*self.relay.entries, self.entry])
        self.door.authorityChanged()

    # -- Who comes

    def come(self, path: str, *, host: str = "192.0.2.7", **headers: str) -> JsonPeer:
        """A program that asks for a WebSocket."""
        peer = JsonPeer(self, path, **headers)
        peer.link = self.join(self.connect(peer, host))
        return peer

    def connect(self, protocol: Protocol, host: str = "192.0.2.7") -> FlowLink:
        """A connection to the relay's port."""
        arrival = self.relay.factory.buildProtocol(IPv4Address("TCP", host, 1))
        assert arrival is not None, "the door is full"
        return flowPair(protocol, arrival)

    def edgeAgent(self, name: str = "box", secret: str = "agent secret", **more: Any) -> JsonPeer:
        """An agent that has said start."""
        peer = self.come(AGENT_PATH)
        peer.say(kind="start", name=name, secret=secret, last_error=more.pop("last_error", None), **more)
        return peer

    def accessClient(
        self,
        agent: str = "box",
        host: str = "10.0.0.1",
        port: int = 22,
        *,
        protocol: str = "tcp",
        secret: str = "client secret",
    ) -> JsonPeer:
        """An access client that has said start."""
        peer = self.come(CLIENT_PATH)
        peer.say(
            kind="start",
            connection_target=agent,
            target_ip=host,
            target_port=port,
            protocol=protocol,
            secret=secret,
        )
        return peer

    # -- Our own

    def own(self, name: str = "box", secret: str = "agent secret") -> EdgeAgentClient:
        """An edge agent of ours, which is attached. Its connections lead to the test's origins."""
        request = WebSocketRequest("relay.example", AGENT_PATH)
        client = EdgeAgentClient(
            self.clock, self.network, request, name, lambda: secret, Targets(self), random=lambda: 1.0
        )
        client.start()
        self.acceptOwn()
        return client

    def access(self, target: AccessTarget, secret: str = "client secret") -> tuple[Peer, Deferred[IProtocol]]:
        """An access client of ours that connects. Return our side of it, and what becomes of it."""
        peer = Peer()
        request = WebSocketRequest("relay.example", CLIENT_PATH)
        endpoint = AccessEndpoint(self.clock, self.network, request, target, lambda: secret)
        connecting = endpoint.connect(Factory.forProtocol(lambda: peer))
        self.acceptOwn()
        return peer, connecting

    def acceptOwn(self) -> None:
        """The last one to dial comes to the relay."""
        arrival = self.relay.factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 1))
        assert arrival is not None, "the door is full"
        self.join(self.network.attempts[-1].accept(arrival))

    def joined(self) -> tuple[JsonPeer, JsonPeer, str]:
        """An agent, a client, and the name of the connection between them."""
        agent, client = self.edgeAgent(), self.accessClient()
        return agent, client, agent.accept()


NONSENSE = (
    b"",
    b"{",
    b"null",
    b'{"inner": {}}',
    b'{"inner": {"kind": "nothing"}}',
    b'{"inner": {"kind": "start"}}',
    b'{"inner": {"kind": "tcp_data", "connection_id": "c", "data_base64": "?"}}',
    b'{"inner": {"kind": "initiate_connection_ok"}}',
)
"""Messages that are none, at any step."""


class RelayTests(SynchronousTestCase):
    """What the tests have in common."""

    def setUp(self) -> None:
        self.relay = Relay()

    def logged(self, event: str) -> list[LogEvent]:
        """The facts of all events of a name."""
        return [each for each in self.events if each.get("event") == event]

    def record(self) -> None:
        """Look at the log from now on."""
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
