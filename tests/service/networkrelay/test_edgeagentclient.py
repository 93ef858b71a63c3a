"""
Tests for an edge agent's attachment to its relay, in both dialects: the network and the clock are not real.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure
from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.edgeagentclient import FIRST_PAUSE, LONGEST_PAUSE, STABLE
from gateway.service.networkrelay.edgeagentjson import SETTLED, STREAMS
from gateway.service.server.attached import Visitor
from gateway.wire.networkrelay import (
    AGENT_KEEP_ALIVE,
    CLOSED_BY_TARGET,
    AgentData,
    ConnectionClose,
    InitiateConnection,
    KeepAlive,
    agentLabel,
    encode,
)
from tests.net.sides import Peer, pattern
from tests.service.networkrelay.edgefixture import JsonPeer, Relay
from tests.service.tunnelfixture import SECRET


class EdgeAgentTestCase(SynchronousTestCase):
    """A relay."""

    def setUp(self) -> None:
        self.relay = Relay()
        self.clock = self.relay.clock
        self.attempts = self.relay.network.attempts

    def assertNextAttempt(self, seconds: float) -> None:
        """The next attempt is in so many seconds, and not before."""
        count = len(self.attempts)
        self.clock.advance(seconds - 0.01)
        self.assertEqual(len(self.attempts), count)
        self.clock.advance(0.02)
        self.assertEqual(len(self.attempts), count + 1)


class OwnDialectTests(EdgeAgentTestCase):
    """With a relay of ours the agent is as any agent."""

    def attached(self, name: str = "box") -> Any:
        """An agent that is attached."""
        agent = self.relay.edge(name)
        agent.start()
        self.relay.acceptOwn()
        return agent

    def session(self, name: str = "box") -> Any:
        """The agent's session at the relay."""
        (session,) = self.relay.registry.replicas(name)
        return session

    def test_attaches(self) -> None:
        """It registers by its name, with its secret, and takes targets."""
        self.attached()
        self.assertTrue(self.session().takesTargets)

    def test_name(self) -> None:
        """A name that is no label is made one, which the relay makes of it too."""
        self.attached("My Box")
        self.assertTrue(self.session(agentLabel("My Box")).takesTargets)

    def connect(self, target: Target, *, isDatagram: bool = False) -> tuple[Peer, Any]:
        """Somebody at the relay connects to a target. Return their side, and what becomes of it."""
        peer = Peer()
        endpoint = self.session().targetEndpoint(target, Visitor(None, None, isDatagram=isDatagram))
        connecting = endpoint.connect(Factory.forProtocol(lambda: peer))
        self.relay.pump()
        return peer, connecting

    def test_connection(self) -> None:
        """Bytes go both ways, and each direction ends alone."""
        agent = self.attached()
        peer, connecting = self.connect(Target("10.0.0.1", 22))
        self.assertEqual(self.relay.targets.asked, [("10.0.0.1", 22, False)])
        origin = self.relay.originAccepts()
        self.successResultOf(connecting)
        self.assertEqual(agent.streams, 1)
        peer.transport.write(b"hello")
        peer.transport.loseWriteConnection()
        self.relay.pump()
        self.assertEqual((bytes(origin.received), origin.ended), (b"hello", True))
        origin.transport.write(b"world")
        origin.transport.loseConnection()
        self.relay.pump()
        self.assertEqual((bytes(peer.received), peer.ended), (b"world", True))
        self.assertEqual([to for to, _ in self.relay.targets.closed], ["10.0.0.1:22"])
        self.assertEqual(agent.streams, 0)

    def test_datagrams(self) -> None:
        """A stream of datagrams leads to a target by UDP."""
        self.attached()
        self.connect(Target("10.0.0.1", 53), isDatagram=True)
        self.assertEqual(self.relay.targets.asked, [("10.0.0.1", 53, True)])

    def test_refused(self) -> None:
        """The agent's own word about a target reaches whoever wanted it."""
        self.attached()
        self.relay.targets.refusal = DialFailed(DialFailure.DENIED, "Not here.")
        _, connecting = self.connect(Target("10.0.0.1", 22))
        self.assertEqual(self.failureResultOf(connecting, DialFailed).value.details, "Not here.")
        self.assertEqual(self.relay.targets.failed, [("10.0.0.1:22", "Not here.")])

    def test_wrongSecret(self) -> None:
        """Who is refused is told why, and tries again after a pause."""
        agent = self.relay.edge(secret="wrong")
        agent.start()
        self.relay.acceptOwn()
        self.assertIn("Look at the name and at the secret.", agent.lastError or "")
        self.assertNextAttempt(FIRST_PAUSE)

    def test_replaced(self) -> None:
        """An agent whose place another one takes does not take it back at once: the two would take turns."""
        agent = self.attached()
        self.relay.edge().start()
        self.relay.acceptOwn()
        self.assertIn("Another process", agent.lastError or "")
        self.assertNextAttempt(LONGEST_PAUSE)

    def test_drain(self) -> None:
        """A relay that goes away is left for the next one at once, and connections through it go on."""
        agent = self.attached()
        peer, _ = self.connect(Target("10.0.0.1", 22))
        origin = self.relay.originAccepts()
        self.relay.door.drain(30.0)
        self.relay.pump()
        self.assertEqual(len(self.attempts), 2)
        origin.transport.write(b"still here")
        self.relay.pump()
        self.assertEqual(bytes(peer.received), b"still here")
        self.assertEqual(agent.streams, 1)

    def test_stop(self) -> None:
        """An agent that stops lets connections end, and takes no new ones."""
        agent = self.attached()
        peer, _ = self.connect(Target("10.0.0.1", 22))
        origin = self.relay.originAccepts()
        gone = agent.drain(10.0)
        self.relay.pump()
        self.assertNoResult(gone)
        origin.transport.loseConnection()
        peer.transport.loseConnection()
        self.relay.wait(1.0)
        self.successResultOf(gone)
        self.relay.wait(120.0)
        self.assertEqual(len(self.attempts), 1)


class PauseTests(EdgeAgentTestCase):
    """An agent without its relay tries again, less and less often."""

    def test_pauses(self) -> None:
        """The pause doubles from a second to a minute."""
        self.relay.edge().start()
        expected = FIRST_PAUSE
        for _ in range(9):
            self.attempts[-1].fail(ConnectionRefusedError())
            self.assertNextAttempt(expected)
            expected = min(2 * expected, LONGEST_PAUSE)
        self.assertEqual(expected, LONGEST_PAUSE)

    def test_stable(self) -> None:
        """A session that has lasted a minute makes it a second again, and a shorter one does not."""
        self.relay.edge().start()
        pauses = iter((FIRST_PAUSE, 2 * FIRST_PAUSE, FIRST_PAUSE))
        for lasts in (0.0, STABLE / 2, STABLE + 1):
            if lasts:
                peer = self.relay.acceptJson()
                for _ in range(int(lasts)):
                    self.clock.advance(1.0)
                    self.relay.say(peer, KeepAlive())
                peer.channel.close(1000)
                self.relay.pump()
            else:
                self.attempts[-1].fail(ConnectionRefusedError())
            self.assertNextAttempt(next(pauses))

    def test_noSecret(self) -> None:
        """A secret that cannot be read is no reason to give up: somebody may put it there."""
        agent = self.relay.edge()
        secrets: list[str] = []

        def read() -> str:
            if not secrets:
                raise ConfigurationError("there is no secret")
            return secrets[0]

        agent._readSecret = read
        agent.start()
        self.assertEqual((agent.lastError, len(self.attempts)), ("there is no secret.", 0))
        secrets.append(SECRET)
        self.assertNextAttempt(FIRST_PAUSE)

    def test_stopsMeanwhile(self) -> None:
        """Who stops in a pause, or in the middle of an attempt, is gone at once."""
        agent = self.relay.edge()
        agent.start()
        self.attempts[-1].fail(ConnectionRefusedError())
        self.successResultOf(agent.drain(10.0))
        agent = self.relay.edge()
        agent.start()
        gone = agent.drain(10.0)
        self.relay.pump()
        self.successResultOf(gone)
        self.assertTrue(self.attempts[-1].cancelled)


class JsonTests(EdgeAgentTestCase):
    """With another relay the agent speaks http-network-relay's messages."""

    def attached(self) -> JsonPeer:
        """An agent that has said who it is."""
        self.agent = self.relay.edge()
        self.agent.start()
        peer = self.relay.acceptJson()
        self.first = peer.take()
        return peer

    def told(self, peer: JsonPeer) -> list[dict[str, object]]:
        """What the agent has said since the last time, without what is around it."""
        return [json.loads(each)["inner"] for each in peer.take()]

    def opened(self, name: str = "c1") -> tuple[JsonPeer, Peer]:
        """A connection that stands: the relay, and the target."""
        peer = self.attached()
        return peer, self.open(peer, name)

    def open(self, peer: JsonPeer, name: str) -> Peer:
        """One more."""
        self.relay.say(peer, InitiateConnection("10.0.0.1", 22, "tcp", name))
        origin = self.relay.originAccepts()
        self.assertEqual(self.told(peer), [{"kind": "initiate_connection_ok", "connection_id": name}])
        return origin

    def test_start(self) -> None:
        """The first message is as the original's, and the offer of another dialect is in the request."""
        peer = self.attached()
        self.assertEqual(
            [json.loads(each) for each in self.first],
            [{"inner": {"kind": "start", "name": "box", "secret": SECRET, "last_error": None}}],
        )
        assert peer.head is not None
        self.assertEqual(peer.head.get("sec-websocket-protocol"), "gateway.v1")
        self.assertEqual(len(self.attempts), 1)

    def test_lastError(self) -> None:
        """The next session begins with why the last one ended."""
        peer = self.attached()
        peer.channel.close(1000)
        self.relay.wait(FIRST_PAUSE + 0.25)
        (start,) = self.told(self.relay.acceptJson())
        self.assertIn("sent the agent away", str(start["last_error"]))

    def test_keepAlive(self) -> None:
        """The agent says every ten seconds that it lives."""
        peer = self.attached()
        self.relay.wait(AGENT_KEEP_ALIVE - 0.25)
        self.assertEqual(self.told(peer), [])
        self.relay.wait(0.25)
        self.assertEqual(self.told(peer), [{"kind": "keep_alive"}])
        self.relay.wait(AGENT_KEEP_ALIVE)
        self.assertEqual(self.told(peer), [{"kind": "keep_alive"}])

    def test_connection(self) -> None:
        """Payload goes both ways, in base64 and in order."""
        peer, origin = self.opened()
        self.relay.say(peer, AgentData(b"hel", "c1"), AgentData(b"lo", "c1"))
        self.assertEqual(bytes(origin.received), b"hello")
        origin.transport.write(b"world")
        self.relay.pump()
        data = b64encode(b"world").decode()
        self.assertEqual(self.told(peer), [{"kind": "tcp_data", "connection_id": "c1", "data_base64": data}])
        self.assertEqual(self.agent.streams, 1)

    def test_targetEnds(self) -> None:
        """The end of what the target sends is told in the words of the original's newest agent."""
        peer, origin = self.opened()
        origin.transport.write(b"bye")
        origin.transport.loseConnection()
        self.relay.pump()
        self.relay.wait(0.25)
        data, end = self.told(peer)
        self.assertEqual(data["data_base64"], b64encode(b"bye").decode())
        self.assertEqual(end, {"kind": "connection_reset", "message": CLOSED_BY_TARGET, "connection_id": "c1"})
        self.assertEqual(self.agent.streams, 0)

    def test_targetResets(self) -> None:
        """A target that breaks off is told in other words."""
        peer, origin = self.opened()
        origin.transport.abortConnection()
        self.relay.wait(0.25)
        (end,) = self.told(peer)
        self.assertEqual(end["kind"], "connection_reset")
        self.assertNotEqual(end["message"], CLOSED_BY_TARGET)

    def test_relayCloses(self) -> None:
        """A connection that the relay closes is closed after what came before, and nothing more is said of it."""
        peer, origin = self.opened()
        self.relay.say(peer, AgentData(b"last words", "c1"), ConnectionClose("enough", "c1"))
        self.relay.wait(0.25)
        self.assertEqual((bytes(origin.received), origin.ended), (b"last words", True))
        self.assertEqual(self.told(peer), [])
        self.relay.say(peer, AgentData(b"late", "c1"), ConnectionClose("again", "c1"))
        self.assertIsNone(peer.end)

    def test_targetRefuses(self) -> None:
        """A target that cannot be reached is told with why."""
        peer = self.attached()
        self.relay.say(peer, InitiateConnection("10.0.0.1", 22, "tcp", "c1"))
        self.relay.origins.attempts[-1].fail(ConnectionRefusedError())
        self.relay.wait(0.25)
        (answer,) = self.told(peer)
        self.assertEqual(answer["kind"], "initiate_connection_error")
        self.assertEqual((answer["connection_id"], answer["message"]), ("c1", "The connection was refused."))
        self.assertEqual(self.relay.targets.failed, [("10.0.0.1:22", "The connection was refused.")])
        self.assertEqual(self.agent.streams, 0)

    def test_notAllowed(self) -> None:
        """A target that the agent's rules refuse is told so, and is not dialled."""
        peer = self.attached()
        self.relay.targets.refusal = DialFailed(DialFailure.DENIED, "Not here.")
        self.relay.say(peer, InitiateConnection("10.0.0.1", 22, "tcp", "c1"))
        self.assertEqual([each["message"] for each in self.told(peer)], ["Not here."])
        self.assertEqual(self.agent.streams, 0)

    def test_relayLeavesWhileDialling(self) -> None:
        """Whom nobody waits for is not dialled any longer."""
        peer = self.attached()
        self.relay.say(peer, InitiateConnection("10.0.0.1", 22, "tcp", "c1"), ConnectionClose("gone", "c1"))
        self.assertTrue(self.relay.origins.attempts[-1].cancelled)
        self.assertEqual(self.told(peer), [])

    def test_refusals(self) -> None:
        """What cannot be, and what is too much, is refused with a sentence."""
        peer, _ = self.opened("c1")
        for wish, part in (
            (InitiateConnection("10.0.0.1", 22, "tcp", "c1"), "of that id"),
            (InitiateConnection("10.0.0.1", 53, "udp", "c2"), "carries tcp, and not udp"),
        ):
            self.relay.say(peer, wish)
            (answer,) = self.told(peer)
            self.assertEqual(answer["kind"], "initiate_connection_error")
            self.assertIn(part, str(answer["message"]))

    def test_tooMany(self) -> None:
        """There is room for so many connections, and then there is none."""
        peer = self.attached()
        self.relay.say(
            peer, *(InitiateConnection("10.0.0.1", 22, "tcp", f"c{number}") for number in range(STREAMS + 1))
        )
        (answer,) = self.told(peer)
        self.assertIn(f"has {STREAMS} connections", str(answer["message"]))

    def test_malformed(self) -> None:
        """What is no message ends the session with a reason, and the agent comes again."""
        for text in ("", "{", "[]", '{"inner": {"kind": "start_ok"}}', '{"inner": {"kind": "tcp_data"}}'):
            peer, origin = self.opened()
            self.relay.say(peer, text)
            self.assertIsNotNone(peer.end, text)
            self.assertIsNotNone(origin.reason)
            self.assertIn("does not keep to the protocol", self.agent.lastError or "")
            self.agent.drain(0)

    def test_relayLost(self) -> None:
        """When the relay is gone, however properly, targets see that their connections were cut."""
        for isProper in (True, False):
            peer, origin = self.opened()
            if isProper:
                peer.channel.close(1000)
            else:
                peer.channel.abortConnection()
            self.relay.wait(0.25)
            assert origin.reason is not None
            self.assertFalse(origin.ended)
            self.assertEqual(self.agent.streams, 0)
            self.agent.drain(0)

    def test_settles(self) -> None:
        """An agent that is not sent away is attached, as nobody says so."""
        peer = self.attached()
        self.relay.wait(SETTLED)
        peer.channel.close(1000)
        self.relay.pump()
        self.assertEqual(self.agent.lastError, "The relay closed the connection.")

    def test_slowTarget(self) -> None:
        """What a target does not take waits at the relay, and comes when it does."""
        peer, origin = self.opened()
        link = self.relay.links[-1]
        link.aToB.stalled = True
        block = pattern(60_000)
        for _ in range(40):
            peer.channel.sendText(encode(AgentData(block, "c1")))
        self.relay.pump()
        self.assertLess(link.aToB.bufferedBytes, 1_000_000)
        link.aToB.stalled = False
        self.relay.wait(0.25)
        self.assertEqual(bytes(origin.received), block * 40)

    def test_slowRelay(self) -> None:
        """A relay that takes nothing stops the reading of targets."""
        peer, origin = self.opened()
        link, carrier = self.relay.links[-1], self.relay.links[-2]
        carrier.aToB.stalled = True
        origin.transport.write(pattern(4_000_000))
        self.relay.pump()
        self.assertGreater(link.bToA.bufferedBytes, 3_000_000)
        carrier.aToB.stalled = False
        self.relay.pump()
        self.assertEqual(len(b"".join(peer.received)) > 5_000_000, True)

    def test_stop(self) -> None:
        """An agent that stops refuses new connections, and leaves when the last one is over, or when time is up."""
        peer, origin = self.opened()
        gone = self.agent.drain(10.0)
        self.relay.say(peer, InitiateConnection("10.0.0.1", 22, "tcp", "c2"))
        (answer,) = self.told(peer)
        self.assertIn("stopping", str(answer["message"]))
        self.assertNoResult(gone)
        origin.transport.loseConnection()
        self.relay.wait(0.5)
        self.successResultOf(gone)
        self.assertTrue(peer.isEnded)
        peer, origin = self.opened()
        gone = self.agent.drain(10.0)
        self.relay.wait(10.25)
        self.successResultOf(gone)
