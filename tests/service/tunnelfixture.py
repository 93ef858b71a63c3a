"""
A gateway's agent door and agents in memory, joined by links that a test can cut or stall::

    tunnel = Tunnel()
    client = tunnel.agent("box", services=(Service(key="ssh", kind="tcp", port=2222),))
    client.start()
    tunnel.accept()                             # the client's carrier reaches the door
    visitor = tunnel.visit("ssh")               # a Peer, whose stream leads to an origin of the test's
    tunnel.wait(10.0)

Both ends are the real ones. Only the network, the clock and the ports are not there.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from gateway.domain.agents import AgentAuthority, AgentEntry
from gateway.domain.grant import EVERYTHING, Grant
from gateway.domain.limits import Admission, Bans
from gateway.domain.registry import PortRules, Registry
from gateway.domain.tokens import hashToken
from gateway.net.incoming import IncomingStreams, Taken
from gateway.net.mux import MuxSettings
from gateway.net.relay import RelaySettings
from gateway.service.agent.client import AgentClient
from gateway.service.server.agentdoor import AgentDoor, AgentDoorSettings
from gateway.service.server.attached import Visitor
from gateway.service.server.destinations import RouteEndpoint
from gateway.testing import FlowEndpoint, FlowLink
from gateway.wire.agentcontrol import Register, SecretCredential, Service
from gateway.wire.preamble import Preamble
from gateway.wire.window import WindowBudget
from tests.domain.test_registry import RecordingDoors
from tests.net.sides import Peer

SECRET = "correct-horse-battery-staple"
"""What proves the name of every agent here."""

PING = 5.0
"""Seconds between pings, of both ends."""


def middle() -> float:
    """In the place of chance."""
    return 0.5


class Tunnel:
    """
    One gateway, and all that attach to it.

    @ivar network: where agents dial to; an attempt hangs until L{accept}, or what the test does with it.
    @ivar links: each carrier that was accepted; C{a} is the agent's end.
    @ivar origins: where the agents' streams lead to; an attempt hangs until the test does something with it.
    @ivar preambles: of all streams that agents took.
    @ivar taken: what became of them.
    """

    def __init__(self, *, grant: Grant = EVERYTHING, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.network = FlowEndpoint()
        self.origins = FlowEndpoint()
        self.links: list[FlowLink] = []
        self.preambles: list[Preamble] = []
        self.taken: list[Taken] = []
        self.entry = AgentEntry("*", grant, secrets=(hashToken(SECRET),))
        self.windows = WindowBudget()
        self.startGateway()

    def startGateway(self) -> None:
        """A gateway that knows nothing of the one before."""
        self.doors = RecordingDoors()
        self.registry = Registry(PortRules(automatic=(20000, 20002)), self.doors, random=middle)
        self.authority = AgentAuthority([self.entry])
        self.door = AgentDoor(
            self.clock,
            self.registry,
            self.authority,
            settings=AgentDoorSettings(
                pingInterval=PING, mux=MuxSettings(pingInterval=PING, pings=32), publicHost="gw.example"
            ),
            admission=Admission(0.0),
            bans=Bans(threshold=1000),
            windows=self.windows,
            wallClock=self.clock.seconds,
        )

    # -- Agents

    def agent(
        self,
        name: str = "box",
        *,
        services: tuple[Service, ...] = (),
        replica: str = "",
        secret: str = SECRET,
        carrier: IStreamClientEndpoint | None = None,
        **options: Any,
    ) -> AgentClient:
        """An agent that was not started."""

        def introduce() -> Register:
            return Register(version=1, agent=name, replica=replica, credential=SecretCredential(secret=secret))

        visitors = IncomingStreams(self.clock, self._decide, self.taken.append)
        client = AgentClient(
            self.clock, carrier or self.network, introduce, visitors, random=middle, windows=self.windows, **options
        )
        client.offer(services)
        return client

    def attached(self, name: str = "box", *services: Service, **options: Any) -> AgentClient:
        """An agent that is attached."""
        client = self.agent(name, services=services, **options)
        client.start()
        self.accept()
        return client

    def _decide(self, preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        self.preambles.append(preamble)
        return self.origins, RelaySettings()

    def arrival(self) -> IProtocol:
        """The gateway's end of a carrier."""
        arrived = self.door.arrive("192.0.2.7", "plain")
        assert arrived is not None, "the door is full"
        return arrived

    def accept(self) -> FlowLink:
        """The last attempt of an agent to connect succeeds, and everybody says what there is to say."""
        return self.join(self.network.attempts[-1].accept(self.arrival()))

    def join(self, link: FlowLink) -> FlowLink:
        """A connection of a test's own making belongs to this from now on."""
        self.links.append(link)
        self.pump()
        return link

    # -- Visitors

    def visit(self, name: str | None = None, port: int | None = None) -> tuple[Peer, Deferred[IProtocol]]:
        """
        A visitor dials a host name or a port.

        @return: their side of the stream, and what becomes of the dial.
        """
        if name is not None:
            route = self.registry.host(name)
        else:
            route = next((each for each in self.registry.routes.values() if each.place.name == port), None)
        assert route is not None, f"nobody serves {name or port}"
        peer = Peer()
        endpoint = RouteEndpoint(route, Visitor(None, None, name), self.clock)
        dialled = endpoint.connect(Factory.forProtocol(lambda: peer))
        self.pump()
        return peer, dialled

    def originAccepts(self) -> Peer:
        """The last dial of an agent to an origin succeeds."""
        origin = Peer()
        self.join(self.origins.attempts[-1].accept(origin))
        return origin

    # -- Time

    def _turn(self) -> bool:
        due = any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
        self.clock.advance(0)
        busy = [link.step() for link in self.links]
        return any(busy) or due

    def pump(self) -> None:
        """Let everything happen that takes no time."""
        for _ in range(100_000):
            if not self._turn():
                return
        raise AssertionError("still busy")

    def wait(self, seconds: float) -> None:
        """Let time pass, a quarter of a second at a time."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
            self.pump()
