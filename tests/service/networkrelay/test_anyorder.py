"""Tests for a relay to which anything is said, in any order: nothing is left of it in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.networkrelay.accessclientendpoint import AccessTarget
from tests.net.sides import Peer
from tests.service.networkrelay.relayfixture import CREDENTIALS, NONSENSE, JsonPeer, Relay

T = TypeVar("T")

SIZES = (0, 1, 1000, 70_000)

FILES = (
    CREDENTIALS,
    {**CREDENTIALS, "edge-agents": {"box": "agent secret"}},
    {**CREDENTIALS, "access-client-secrets": []},
    {**CREDENTIALS, "edge-agent-targets": {"box": ["allow 10.0.0.1"]}},
)


class Crowd:
    """All who come to a relay. Each method of theirs takes a number, which chooses what it does it with."""

    def __init__(self) -> None:
        self.relay = Relay()
        self.agents: list[JsonPeer] = []
        self.clients: list[JsonPeer] = []
        self.peers: list[Peer] = []

    def _one(self, of: Sequence[T], number: int) -> list[T]:
        return [of[number % len(of)]] if of else []

    def _present(self, of: Sequence[JsonPeer], number: int) -> list[JsonPeer]:
        return self._one([each for each in of if each.reason is None and each.closed is None], number)

    def agent(self, number: int) -> None:
        """An agent comes, maybe with a wrong secret."""
        secrets = ("agent secret", "another secret")
        self.agents.append(self.relay.edgeAgent(("box", "My_Box")[number % 2], secrets[number // 2 % 2]))

    def client(self, number: int) -> None:
        """A client comes, maybe for an agent that is not here."""
        self.clients.append(
            self.relay.accessClient(("box", "My_Box", "nobody")[number % 3], ("h", "10.0.0.1")[number % 2])
        )

    def ownAgent(self, number: int) -> None:
        """An agent of ours comes."""
        self.relay.own()

    def ownClient(self, number: int) -> None:
        """A client of ours comes."""
        peer, connecting = self.relay.access(AccessTarget("box", "h", 22, "udp" if number % 2 else "tcp"))
        connecting.addErrback(lambda failure: None)
        self.peers.append(peer)

    def agentSays(self, number: int) -> None:
        """An agent says something about a connection, old or new."""
        for agent in self._present(self.agents, number):
            wishes = [each for each in agent.heard if each["kind"] == "initiate_connection"]
            for wish in self._one(wishes, number // 2):
                connection = wish["connection_id"]
                says: list[dict[str, Any]] = [
                    {"kind": "initiate_connection_ok"},
                    {"kind": "initiate_connection_ok"},
                    {"kind": "initiate_connection_error", "message": "no"},
                    {"kind": "connection_reset", "message": "gone"},
                    {"kind": "connection_reset", "message": "Connection closed by target"},
                ]
                for each in self._one(says, number // 8):
                    agent.say(connection_id=connection, **each)

    def agentSends(self, number: int) -> None:
        """An agent sends payload."""
        for agent in self._present(self.agents, number):
            wishes = [each for each in agent.heard if each["kind"] == "initiate_connection"]
            for wish in self._one(wishes, number // 2):
                agent.send(bytes(SIZES[number % 4]), connection_id=wish["connection_id"])

    def clientSends(self, number: int) -> None:
        """A client sends payload."""
        for client in self._present(self.clients, number):
            client.send(bytes(SIZES[number // 4 % 4]))

    def originConnects(self, number: int) -> None:
        """The last wish of an agent of ours is granted, unless nobody has it any more."""
        if self.relay.origins.attempts and not self.relay.origins.attempts[-1].connected.called:
            self.peers.append(self.relay.originAccepts())

    def peerSends(self, number: int) -> None:
        """Somebody behind an agent of ours, or a client of ours, sends something."""
        for peer in self._one([each for each in self.peers if each.transport and each.reason is None], number):
            peer.transport.write(bytes(SIZES[number // 4 % 4]))
            self.relay.pump()

    def peerEnds(self, number: int) -> None:
        """They end the connection, one direction of it, or cut it off."""
        for peer in self._one([each for each in self.peers if each.transport and each.reason is None], number):
            ways = (peer.transport.loseConnection, peer.transport.loseWriteConnection, peer.transport.abortConnection)
            ways[number % 3]()
            self.relay.pump()

    def leaves(self, number: int) -> None:
        """An agent or client closes, or is lost."""
        for peer in self._present((*self.agents, *self.clients), number // 2):
            if number % 2:
                peer.close()
            else:
                peer.transport.abortConnection()
                self.relay.pump()

    def nonsense(self, number: int) -> None:
        """An agent or client says something that is none of it."""
        for peer in self._present((*self.agents, *self.clients), number):
            peer.write(NONSENSE[number % len(NONSENSE)])

    def stalls(self, number: int) -> None:
        """An agent or client reads no more; or all do again."""
        for index, peer in enumerate((*self.agents, *self.clients)):
            peer.link.bToA.stalled = number % 3 > 0 and (peer.link.bToA.stalled or index % 2 == number % 2)
        self.relay.pump()

    def credentials(self, number: int) -> None:
        """The credentials file changes."""
        self.relay.write(FILES[number % len(FILES)])
        self.relay.wait(2.0)

    def waits(self, number: int) -> None:
        """Time passes."""
        self.relay.wait((0.25, 5.0, 16.0, 21.0)[number % 4])

    def leave(self) -> None:
        """All are gone."""
        for link in self.relay.links:
            link.aToB.stalled = link.bToA.stalled = False
            link.a.abortConnection()
        self.relay.pump()
        self.relay.wait(30.0)


MODULES = [f"gateway.service.networkrelay.{name}" for name in ("agentvisit", "clientvisit", "jsonstream", "session")]
"""Those of connections that are to end."""

DEEDS = sorted(name for name in vars(Crowd) if not name.startswith("_") and name != "leave")


class AnyOrderTests(SynchronousTestCase):
    """A relay outlives whatever is said to it."""

    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    @given(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 255)), max_size=40))
    def test_nothingIsLeft(self, deeds: list[tuple[str, int]]) -> None:
        """Whoever does what, no error is logged, and in the end nobody is counted, or held, any more."""
        crowd = Crowd()
        for name, number in deeds:
            getattr(crowd, name)(number)
        crowd.leave()
        relay = crowd.relay
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(len(relay.relay.clients), 0)
        self.assertEqual(relay.relay.clients.streams._going, set())
        self.assertEqual(relay.door.sessions, set())
        self.assertEqual(relay.visitors._admission.connections, 0)
        waiting = [each for each in relay.clock.getDelayedCalls() if cast(Any, each).func.__module__ in MODULES]
        self.assertEqual(waiting, [])
