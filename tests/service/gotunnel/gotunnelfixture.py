"""
Agents of go-tunnel's at a door in memory, as scripts of a test::

    tunnel = GoTunnel()
    agent = tunnel.agent({"app.example.com": "http"})
    assert agent.heard == [{"type": "ack", "ok": True}]

The server's end is the real one. What an agent says is what the test has it say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.grant import EVERYTHING, Grant
from gateway.domain.limits import Ticket
from gateway.net.mux import MuxSession, MuxSettings
from gateway.service.gotunnel.door import GoTunnelDialect
from gateway.testing import flowPair
from tests.net.muxpair import Applications
from tests.net.sides import Peer
from tests.service.tunnelfixture import Tunnel

SECRET = "supersecretjwtkey"
"""That of the example which people copy."""

ACKNOWLEDGED = {"type": "ack", "ok": True}


def objects(data: bytes | bytearray) -> list[dict[str, Any]]:
    """The messages on a control stream."""
    return [json.loads(line) for line in data.splitlines()]


class ScriptedAgent:
    """
    An agent's end of a session.

    @ivar control: its end of the control stream.
    @ivar visitors: its ends of the streams that the server opened, as L{Peer}s.
    @ivar ended: what its session ended with.
    """

    def __init__(self, tunnel: GoTunnel, peer: str) -> None:
        self._tunnel = tunnel
        self.applications = Applications(Peer)
        self.visitors: list[Any] = self.applications.made
        self.ended: list[Failure] = []
        self.control = Peer()
        self.mux = MuxSession(
            tunnel.clock,
            client=True,
            factory=self.applications,
            settings=MuxSettings(pingInterval=0),
            ended=self.ended.append,
        )
        ticket = tunnel.door.admit(peer)
        assert isinstance(ticket, Ticket), "the door is full"
        self.link = flowPair(self.mux, tunnel.dialect.arrive(peer, ticket), tlsManners=True)
        tunnel.links.append(self.link)
        tunnel.pump()

    def open(self) -> None:
        """Open the control stream."""
        self.mux.open(Factory.forProtocol(lambda: self.control))
        self._tunnel.pump()

    def say(self, message: Mapping[str, Any] | bytes) -> None:
        """Write on the control stream."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        self.control.transport.write(data)
        self._tunnel.pump()

    def register(self, modes: Mapping[str, str] | None, token: str | None = None) -> None:
        """Say the first message, with a token that is good if nothing else is said."""
        if token is None:
            token = self._tunnel.dialect.tokens.make("mytunnel", 3600, now=self._tunnel.clock.seconds())
        routes = modes and dict.fromkeys(modes, "127.0.0.1:8080")
        self.say({"type": "register", "token": token, "routes": routes, "modes": modes})

    def pong(self) -> None:
        """Answer a ping, by a clock of its own."""
        self.say({"type": "pong", "ts": 1_700_000_000_012})

    @property
    def heard(self) -> list[dict[str, Any]]:
        """All that the server said."""
        return objects(self.control.received)

    @property
    def pings(self) -> int:
        """How often it asked."""
        return sum(each["type"] == "ping" for each in self.heard)


class GoTunnel(Tunnel):
    """A door for agents of go-tunnel's."""

    def __init__(self, *, grant: Grant = EVERYTHING, **options: Any) -> None:
        super().__init__(**options)
        self.dialect = GoTunnelDialect(self.door, GoTunnelTokens(SECRET), grant)

    def arrived(self, peer: str = "192.0.2.7") -> ScriptedAgent:
        """An agent that has opened its control stream, and said nothing."""
        agent = ScriptedAgent(self, peer)
        agent.open()
        return agent

    def theirs(self, modes: Mapping[str, str] | None, token: str | None = None) -> ScriptedAgent:
        """An agent that has registered names, each with a mode."""
        agent = self.arrived()
        agent.register(modes, token)
        return agent

    def names(self) -> list[str]:
        """What is served."""
        return sorted(str(place.name) for place in self.registry.routes)
