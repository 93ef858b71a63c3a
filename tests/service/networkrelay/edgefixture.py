"""
A relay in memory, in either dialect, and the edge agents and access clients that connect to it::

    relay = Relay()
    agent = relay.agent("box")
    agent.start()
    peer = relay.acceptJson()               # as http-network-relay would: a test says what it says
    relay.acceptOwn()                       # or as ours does: the gateway's door for agents
    relay.say(peer, KeepAlive())
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.addresses import normaliseHost
from gateway.net.dial import DialFailed
from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.relay import Outcome, RelaySettings
from gateway.net.websocket import WebSocketServerFactory
from gateway.net.websocketendpoints import ChannelStream
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.networkrelay.accessclientendpoint import AccessEndpoint, AccessTarget
from gateway.service.networkrelay.edgeagentclient import EdgeAgentClient
from gateway.service.networkrelay.edgeagenttargets import EdgeTargets
from gateway.service.server.clientstreams import ClientStreams
from gateway.service.server.destinations import Destinations
from gateway.wire.agentcontrol import SUBPROTOCOL
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.networkrelay import MAX_MESSAGE, Message, encode
from gateway.wire.upgraderequest import WebSocketRequest
from tests.service.server.doorsfixture import Doors
from tests.service.tunnelfixture import SECRET

__all__ = ["JsonPeer", "Relay"]

_SETTINGS = WebSocketSettings(maxMessage=MAX_MESSAGE, pingInterval=0)


class _Targets(EdgeTargets):
    """
    Leads to endpoints of the test's.

    @ivar asked: for which targets.
    @ivar closed: what was told of connections that are over.
    @ivar failed: the same of those that never were.
    """

    def __init__(self, relay: Relay, refusal: DialFailed | None = None) -> None:
        super().__init__(relay.clock)  # type: ignore[arg-type]  # nobody dials with it
        self._relay = relay
        self.refusal = refusal
        self.asked: list[tuple[str, int, bool]] = []
        self.closed: list[tuple[str, Outcome]] = []
        self.failed: list[tuple[str, str]] = []

    def endpointFor(self, host: str, port: int, *, isDatagram: bool) -> tuple[IStreamClientEndpoint, RelaySettings]:
        self.asked.append((normaliseHost(host), port, isDatagram))
        if self.refusal is not None:
            raise self.refusal
        return self._relay.origins, RelaySettings()

    def visitClosed(self, to: str, outcome: Outcome) -> None:
        self.closed.append((to, outcome))

    def visitFailed(self, to: str, problem: str) -> None:
        self.failed.append((to, problem))


@implementer(IWebSocketReceiver, IWebSocketGate)
class JsonPeer:
    """
    A relay that knows http-network-relay's messages alone.

    @ivar received: what it was sent, as it came.
    @ivar end: why the WebSocket is gone; C{None} while it is not.
    """

    channel: IWebSocketChannel

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.head: RequestHead | None = None
        self.end: Failure | None = None

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Take everybody."""
        self.head = head
        return self

    def plain(self, head: RequestHead) -> Response:
        """Not asked."""
        raise AssertionError(head)

    def failed(self, reason: Failure) -> None:
        """Recorded."""
        self.end = reason

    def opened(self, channel: IWebSocketChannel) -> None:
        self.channel = channel

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary
        self.received.append(payload)

    def lost(self, reason: Failure) -> None:
        self.end = reason

    @property
    def isEnded(self) -> bool:
        """Whether the WebSocket was closed properly."""
        return self.end is not None and self.end.check(ConnectionDone) is not None

    def take(self) -> list[bytes]:
        """What was sent since the last time."""
        received, self.received = self.received, []
        return received


class _OwnGate(ChannelStream):
    """A relay of ours, which speaks the agent protocol where it is on offer."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Take the offer."""
        channel.subprotocol = SUBPROTOCOL
        return self


class Relay(Doors):
    """
    @ivar network: where agents and clients dial to; an attempt hangs until one of the methods takes it.
    @ivar origins: where agents dial to.
    @ivar targets: of the last agent that was made.
    """

    targets: _Targets

    def startGateway(self) -> None:
        super().startGateway()
        self.streams = ClientStreams(self.visitors, Destinations(self.registry, self.clock))
        self.door.clientStreams = self.streams.factoryFor

    def edge(self, name: str = "box", *, secret: str = SECRET, refusal: DialFailed | None = None) -> EdgeAgentClient:
        """An edge agent that was not started."""
        self.targets = _Targets(self, refusal)
        return EdgeAgentClient(
            self.clock,
            self.network,
            WebSocketRequest("relay.example", "/ws_for_edge_agents"),
            name,
            lambda: secret,
            self.targets,
            random=lambda: 1.0,
        )

    def access(self, target: AccessTarget, *, secret: str = SECRET) -> AccessEndpoint:
        """An access client's endpoint."""
        request = WebSocketRequest("relay.example", "/ws_for_access_clients")
        return AccessEndpoint(self.clock, self.network, request, target, lambda: secret)

    def _accept(self, gate: Any) -> None:
        factory = WebSocketServerFactory(lambda address: gate, clock=self.clock, settings=_SETTINGS)
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        self.join(self.network.attempts[-1].accept(protocol))

    def acceptJson(self) -> JsonPeer:
        """The last attempt comes to a relay of http-network-relay's."""
        peer = JsonPeer()
        self._accept(peer)
        return peer

    def acceptOwn(self) -> None:
        """The last attempt comes to a relay of ours."""
        self._accept(_OwnGate(self.arrival()))

    def say(self, peer: JsonPeer, *messages: Message | str) -> None:
        """The relay sends messages, or texts that are none."""
        for message in messages:
            peer.channel.sendText(message if isinstance(message, str) else encode(message))
        self.pump()
