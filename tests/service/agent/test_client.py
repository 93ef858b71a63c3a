"""
Tests for an agent's attachment to its gateway: both ends are real, the network and the clock are not.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.agents import AgentAuthority
from gateway.domain.grant import EVERYTHING
from gateway.domain.routes import Place
from gateway.service.agent.attachedclient import Phase
from gateway.service.agent.backoff import LONGEST_PAUSE, Backoff
from gateway.service.agent.client import AgentClient
from gateway.service.agent.dialledsession import DIAL_TIMEOUT, REGISTER_TIMEOUT, SessionEnd
from gateway.service.configuration import ConfigurationError
from gateway.testing import FlowEndpoint
from gateway.wire.agentcontrol import Ack, Register, Service, ServiceStatus
from tests.domain.attachments import FakeAttachment
from tests.net.sides import Peer
from tests.service.tunnelfixture import PING, Tunnel

WEB = Service(key="web", kind="http", hostnames=("app.example.com",))
SSH = Service(key="ssh", kind="tcp", port=2222)
ANY = Service(key="any", kind="tcp")


class ClientTestCase(SynchronousTestCase):
    """
    A tunnel.
    """

    def setUp(self) -> None:
        self.tunnel = Tunnel()
        self.clock = self.tunnel.clock
        self.attempts = self.tunnel.network.attempts

    def assertNextAttempt(self, seconds: float) -> None:
        """The next attempt is in so many seconds, and not before."""
        count = len(self.attempts)
        if seconds:
            self.clock.advance(seconds - 0.001)
            self.assertEqual(len(self.attempts), count)
        self.clock.advance(0.002)
        self.assertEqual(len(self.attempts), count + 1)

    def refuse(self) -> None:
        """Nobody listens where the agent dials to."""
        self.attempts[-1].fail(ConnectionRefusedError())

    def serving(self) -> set[object]:
        """The names and ports that are served."""
        return {place.name for place in self.tunnel.registry.routes}


class AttachingTests(ClientTestCase):
    """
    L{AgentClient} attaches, and serves.
    """

    def test_serves(self) -> None:
        """What is offered is served as soon as the carrier is there."""
        client = self.tunnel.attached("box", WEB, SSH)
        self.assertIs(client.phase, Phase.ATTACHED)
        self.assertEqual(set(self.tunnel.registry.routes), {Place("host", "app.example.com"), Place("tcp", 2222)})
        self.assertEqual(client.statuses["ssh"].address, "tcp://gw.example:2222")

    def test_visit(self) -> None:
        """A visitor's bytes come to the origin, and the origin's to the visitor."""
        client = self.tunnel.attached("box", WEB)
        visitor, dialled = self.tunnel.visit("app.example.com")
        self.assertNoResult(dialled)
        origin = self.tunnel.originAccepts()
        self.successResultOf(dialled)
        self.assertEqual(client.streams, 1)
        visitor.transport.write(b"hello")
        self.tunnel.pump()
        self.assertEqual(origin.received, b"hello")
        origin.transport.write(b"world")
        self.tunnel.pump()
        self.assertEqual(visitor.received, b"world")

    def test_refusedService(self) -> None:
        """A service that is not served has its code and a line in the log, and harms no other."""
        other = FakeAttachment("other")
        self.tunnel.registry.attach(other)
        self.tunnel.registry.offer(other, [SSH])
        client = self.tunnel.attached("box", WEB, SSH)
        self.assertEqual(client.statuses["ssh"].code, "taken")
        self.assertEqual(client.statuses["web"].code, "")

    def test_incomplete(self) -> None:
        """Of a service that is served and lacks something, the log says both."""
        self.tunnel.door.isCertified = lambda name: False
        with capturedLogs() as events:
            self.tunnel.attached("box", WEB)
        logged = {each["event"]: each for each in events if "agent.serving" in each.get("event", "")}
        self.assertEqual(logged["agent.serving"]["address"], "http://app.example.com")
        self.assertIn("no certificate for app.example.com", logged["agent.serving-incomplete"]["details"])

    def test_update(self) -> None:
        """What is offered later is told in the same session; what stays is not touched."""
        client = self.tunnel.attached("box", WEB)
        client.offer((WEB, SSH))
        self.tunnel.pump()
        self.assertEqual(self.serving(), {"app.example.com", 2222})
        self.assertEqual(len(self.attempts), 1)

    def test_updatesArePaced(self) -> None:
        """There is one update in a second, and it says what is wanted in the end."""
        client = self.tunnel.attached("box", WEB)
        client.offer((SSH,))
        self.tunnel.pump()
        client.offer((WEB,))
        client.offer((WEB, SSH))
        self.clock.advance(0.999)
        self.tunnel.pump()
        self.assertEqual(self.serving(), {2222})
        self.clock.advance(0.002)
        self.tunnel.pump()
        self.assertEqual(self.serving(), {"app.example.com", 2222})

    def test_offerBeforeAck(self) -> None:
        """What is offered while the gateway has not answered yet is told when it has."""
        client = self.tunnel.agent("box", services=(WEB,))
        client.start()
        door = self.tunnel.door.arrive("192.0.2.7", "plain")
        assert door is not None
        self.tunnel.links.append(self.attempts[0].accept(door))
        client.offer((SSH,))
        self.tunnel.pump()
        self.assertEqual(self.serving(), {2222})

    def test_sameOffer(self) -> None:
        """What was said already is not said again."""
        client = self.tunnel.attached("box", WEB)
        link = self.tunnel.links[0]
        client.offer((WEB,))
        self.clock.advance(0)
        self.assertFalse(link.aToB.bufferedBytes)

    def test_noStreamBeforeAck(self) -> None:
        """A stream of the gateway's before the answer to the registration is reset."""
        client = self.tunnel.agent("box")
        client.start()
        door = self.tunnel.door.arrive("192.0.2.7", "plain")
        assert door is not None
        peer = Peer()
        link = self.attempts[0].accept(door)
        door.open(Factory.forProtocol(lambda: peer))  # type: ignore[attr-defined]  # it is a session
        self.tunnel.links.append(link)
        self.tunnel.pump()
        self.assertIsNotNone(peer.reason)
        self.assertIs(client.phase, Phase.ATTACHED)


class ChosenPortTests(ClientTestCase):
    """
    A port that the gateway chose is asked for again.
    """

    def reattached(self) -> AgentClient:
        """An agent with a port of the gateway's choice has lost its gateway, and a new one is there."""
        client = self.tunnel.attached("box", ANY)
        self.assertEqual(self.serving(), {20001})
        self.tunnel.wait(20)
        self.tunnel.links[0].b.abortConnection()
        self.tunnel.startGateway()
        self.tunnel.registry._random = lambda: 0.0
        return client

    def test_same(self) -> None:
        """The agent gets the port that it had, though the gateway has forgotten."""
        self.reattached()
        self.tunnel.pump()
        self.tunnel.accept()
        self.assertEqual(self.serving(), {20001})

    def test_taken(self) -> None:
        """When somebody else has it by now, any will do."""
        client = self.reattached()
        other = FakeAttachment("other")
        self.tunnel.registry.attach(other)
        self.tunnel.registry.offer(other, [Service(key="x", kind="tcp", port=20001)])
        self.tunnel.pump()
        self.tunnel.accept()
        self.assertEqual(self.serving(), {20000, 20001})
        self.assertEqual(client.statuses["any"].address, "tcp://gw.example:20000")

    def test_wantedElsewhere(self) -> None:
        """When another service is given that port meanwhile, it is asked for once."""
        client = self.tunnel.attached("box", ANY)
        fixed = Service(key="fixed", kind="tcp", port=20001)
        client.offer((ANY, fixed))
        self.tunnel.pump()
        self.assertEqual(client.statuses["fixed"].address, "tcp://gw.example:20001")
        client.offer((Service(key="any", kind="udp"), fixed))
        self.tunnel.wait(2)
        self.assertEqual(client.statuses["any"].address, "udp://gw.example:20001")

    def test_sameTwice(self) -> None:
        """A gateway that names one port for two services is asked for it by one of them."""
        client = self.tunnel.attached("box", WEB, ANY)
        session = next(iter(self.tunnel.door.sessions))
        statuses = tuple(ServiceStatus(key=key, address="tcp://gw.example:20001") for key in ("any", "more"))
        session._send(Ack(session="x", ping=PING, services=statuses))  # type: ignore[attr-defined]  # which it never does
        self.tunnel.pump()
        client.offer((ANY, Service(key="more", kind="tcp", port=20001)))
        self.tunnel.links[0].b.abortConnection()
        self.tunnel.startGateway()
        self.tunnel.wait(1)
        self.tunnel.accept()
        self.assertEqual(client.statuses["more"].address, "tcp://gw.example:20001")


class LosingTests(ClientTestCase):
    """
    What happens when there is no gateway.
    """

    def test_backoff(self) -> None:
        """Each failure doubles the pause, up to a limit."""
        self.tunnel.agent().start()
        # Three quarters, as chance has it here. For a while no pause is longer than two seconds.
        for pause in (0.375, 0.75, *[1.5] * 11, 3, 6, 12, 22.5, 22.5):
            self.refuse()
            self.assertNextAttempt(pause)

    def test_chance(self) -> None:
        """Chance halves a pause at most, and makes the longest twice as long at most."""
        self.assertEqual(Backoff(lambda: 0.0).next(0.0), 0.25)
        self.assertEqual(Backoff(lambda: 1.0).next(0.0), 0.5)
        self.assertEqual(Backoff(lambda: 1.0).longest(), 2 * LONGEST_PAUSE)

    def test_atOnceAfterStability(self) -> None:
        """A session that has lasted for ten seconds is followed by the next at once."""
        client = self.tunnel.attached("box", WEB)
        self.tunnel.wait(10)
        self.tunnel.links[0].b.abortConnection()
        self.tunnel.pump()
        self.assertEqual(len(self.attempts), 2)
        self.tunnel.accept()
        self.assertIs(client.phase, Phase.ATTACHED)
        self.assertEqual(self.serving(), {"app.example.com"})

    def test_notAtOnce(self) -> None:
        """One that has not is followed by a pause, which goes on to double."""
        self.tunnel.attached("box")
        self.tunnel.wait(9)
        self.tunnel.links[0].b.abortConnection()
        self.tunnel.links[0].pump()
        self.assertNextAttempt(0.375)
        self.tunnel.accept()
        self.tunnel.links[1].b.abortConnection()
        self.tunnel.links[1].pump()
        self.assertNextAttempt(0.75)

    def test_backWithinTwoSeconds(self) -> None:
        """When the gateway is back after an outage of 12 seconds, its names are served again within two."""
        self.tunnel.attached("box", WEB)
        self.tunnel.wait(20)
        self.tunnel.links[0].b.abortConnection()
        self.tunnel.startGateway()
        self.tunnel.pump()
        while self.clock.seconds() < 32:
            if not self.attempts[-1].connected.called:
                self.refuse()
            self.tunnel.wait(0.25)
        while self.attempts[-1].connected.called:
            self.tunnel.wait(0.25)
        self.assertLessEqual(self.clock.seconds(), 34)
        self.tunnel.accept()
        self.assertEqual(self.serving(), {"app.example.com"})

    def test_deadGateway(self) -> None:
        """A gateway that vanished without a word is noticed within two ping intervals."""
        self.tunnel.attached("box")
        self.tunnel.links[0].b.abortConnection()  # the gateway's ping interval is known by now
        self.tunnel.pump()
        self.tunnel.wait(1)
        self.tunnel.accept()
        self.tunnel.wait(20)
        self.tunnel.links[1].cut()
        self.tunnel.wait(2 * PING)
        self.assertEqual(len(self.attempts), 3)

    def test_dialTimeout(self) -> None:
        """A dial that comes to nothing is given up."""
        self.tunnel.agent().start()
        self.clock.advance(DIAL_TIMEOUT - 0.1)
        self.assertFalse(self.attempts[0].cancelled)
        self.clock.advance(0.2)
        self.assertTrue(self.attempts[0].cancelled)
        self.assertNextAttempt(0.375)

    def test_registerTimeout(self) -> None:
        """A gateway that does not answer the registration is given up."""
        self.tunnel.agent(ping=60.0).start()
        link = self.attempts[0].accept(Peer())
        link.pump()
        self.clock.advance(REGISTER_TIMEOUT - 0.1)
        self.assertFalse(link.a.aborted)
        self.clock.advance(0.2)
        self.assertTrue(link.a.aborted)
        link.pump()
        self.assertNextAttempt(0.375)

    def test_unreadableCredential(self) -> None:
        """A credential that cannot be read is a failed attempt: the file may be there next time."""
        problems = [ConfigurationError("gateway.secret-file: x: No such file or directory")]

        def introduce() -> Register:
            if problems:
                raise problems.pop()
            return Register(version=1, agent="box")

        network = FlowEndpoint()
        client = AgentClient(self.clock, network, introduce, Factory(), random=lambda: 1.0)
        client.start()
        self.assertIs(client.phase, Phase.WAITING)
        self.clock.advance(0.5)
        self.assertEqual(len(network.attempts), 1)

    def test_nonsense(self) -> None:
        """A gateway that says something else is left, and told why."""
        self.tunnel.agent().start()
        self.tunnel.accept()
        session = next(iter(self.tunnel.door.sessions))
        session._send(Register(version=1, agent="box"))  # type: ignore[attr-defined]  # which is no word of a gateway's
        self.tunnel.pump()
        self.assertEqual(self.tunnel.door.sessions, set())
        self.assertNextAttempt(0.375)


class RefusedTests(ClientTestCase):
    """
    What the gateway refuses is tried again, but slowly.
    """

    def test_unauthorized(self) -> None:
        """A wrong secret is tried again after 30 to 60 seconds."""
        client = self.tunnel.attached("box", secret="wrong")
        self.assertIs(client.phase, Phase.WAITING)
        self.assertNextAttempt(45)

    def test_words(self) -> None:
        """What to do about it is a sentence of its own, also if the gateway's has no end."""
        client = self.tunnel.attached("box")
        assert client._session is not None
        client.sessionOver(client._session, SessionEnd("Who are you", "unauthorized"))
        self.assertEqual(client.lastError, "Who are you. Look at the name and at the credential.")

    def test_replaced(self) -> None:
        """Who was replaced by another process does not fight for the name."""
        first = self.tunnel.attached("box", WEB)
        self.tunnel.wait(30)
        second = self.tunnel.attached("box", WEB)
        self.assertIs(first.phase, Phase.WAITING)
        self.assertIs(second.phase, Phase.ATTACHED)
        self.assertEqual(self.serving(), {"app.example.com"})
        self.assertNextAttempt(45)

    def test_replicas(self) -> None:
        """Another replica is no rival."""
        first = self.tunnel.attached("box", WEB, replica="a")
        second = self.tunnel.attached("box", WEB, replica="b")
        self.assertEqual([first.phase, second.phase], [Phase.ATTACHED] * 2)

    def test_revoked(self) -> None:
        """Who may not be here any more is told, and comes back slowly."""
        client = self.tunnel.attached("box", WEB)
        self.tunnel.door.authority = AgentAuthority([])
        self.tunnel.door.authorityChanged()
        self.tunnel.pump()
        self.assertIs(client.phase, Phase.WAITING)
        self.assertNextAttempt(45)

    def test_fullGateway(self) -> None:
        """A gateway that closes the connection at once is tried again as usual."""
        self.tunnel.agent().start()
        link = self.attempts[0].accept(Peer())
        link.b.loseConnection()
        link.pump()
        self.assertNextAttempt(0.375)


class LeavingTests(ClientTestCase):
    """
    The end of a session in order, which either end may want.
    """

    def visit(self) -> tuple[AgentClient, Peer, Peer]:
        """An agent with one visitor: the agent, the visitor and the origin."""
        client = self.tunnel.attached("box", WEB)
        visitor, dialled = self.tunnel.visit("app.example.com")
        origin = self.tunnel.originAccepts()
        self.successResultOf(dialled)
        return client, visitor, origin

    def test_drainIdle(self) -> None:
        """Without visitors there is nothing to wait for."""
        client = self.tunnel.attached("box", WEB)
        gone = client.drain(30)
        self.tunnel.pump()
        self.successResultOf(gone)
        self.assertIs(client.phase, Phase.IDLE)
        self.assertEqual(self.tunnel.door.sessions, set())
        self.assertTrue(self.tunnel.links[0].a.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """The names are given up at once, and the session lives as long as its visitors."""
        client, visitor, origin = self.visit()
        gone = client.drain(30)
        self.tunnel.pump()
        self.assertEqual(self.serving(), set())
        self.tunnel.wait(20)
        self.assertNoResult(gone)
        visitor.transport.write(b"still here")
        self.tunnel.pump()
        self.assertEqual(origin.received, b"still here")
        origin.transport.write(b"bye")
        self.tunnel.pump()
        self.assertEqual(visitor.received, b"bye")
        origin.transport.loseConnection()
        visitor.transport.loseConnection()
        self.tunnel.wait(1)
        self.successResultOf(gone)
        self.assertEqual(self.tunnel.door.sessions, set())

    def test_drainTimeout(self) -> None:
        """When time is up the session ends, whoever is in it."""
        client, visitor, origin = self.visit()
        gone = client.drain(5)
        self.tunnel.wait(4.75)
        self.assertNoResult(gone)
        self.tunnel.wait(0.25)
        self.successResultOf(gone)
        self.assertIsNotNone(visitor.reason)
        self.assertIsNotNone(origin.reason)

    def test_close(self) -> None:
        """Whoever has lost patience ends it at once."""
        client, _, _ = self.visit()
        gone = client.drain(30)
        self.tunnel.pump()
        client.close()
        self.tunnel.pump()
        self.successResultOf(gone)

    def test_drainWhileConnecting(self) -> None:
        """A dial is given up."""
        client = self.tunnel.agent()
        client.start()
        self.successResultOf(client.drain(30))
        self.assertTrue(self.attempts[0].cancelled)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drainWhileRegistering(self) -> None:
        """So is a session that the gateway has not acknowledged."""
        client = self.tunnel.agent()
        client.start()
        link = self.attempts[0].accept(Peer())
        gone = client.drain(30)
        self.tunnel.links.append(link)
        self.tunnel.pump()
        self.successResultOf(gone)

    def test_drainWhileWaiting(self) -> None:
        """There is no other attempt."""
        client = self.tunnel.agent()
        client.start()
        self.refuse()
        self.successResultOf(client.drain(30))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gatewayDrains(self) -> None:
        """When the gateway goes there is a new session at once, beside the old one, whose visitors go on."""
        client, visitor, origin = self.visit()
        self.tunnel.wait(20)
        self.tunnel.door.drain(30)
        self.tunnel.pump()
        self.assertEqual(len(self.attempts), 2)
        self.tunnel.startGateway()
        self.tunnel.accept()
        self.assertEqual(self.serving(), {"app.example.com"})
        origin.transport.write(b"go on")
        self.tunnel.pump()
        self.assertEqual(visitor.received, b"go on")
        self.assertEqual(client.streams, 1)
        self.tunnel.links[0].b.abortConnection()
        self.tunnel.pump()
        self.assertIs(client.phase, Phase.ATTACHED)
        self.assertEqual(len(self.attempts), 2)

    def test_move(self) -> None:
        """Told to go elsewhere, an agent does so at once, and its visitors finish where they are."""
        client, visitor, origin = self.visit()
        elsewhere = FlowEndpoint()
        client.move(elsewhere, lambda: Register(version=1, agent="box"), "tls://other")
        self.tunnel.pump()
        self.assertEqual(len(elsewhere.attempts), 1)
        origin.transport.write(b"bye")
        self.tunnel.pump()
        self.assertEqual(visitor.received, b"bye")
        origin.transport.loseConnection()
        visitor.transport.loseConnection()
        self.tunnel.wait(1)
        self.assertEqual(self.tunnel.door.sessions, set())

    def test_moveWhileConnecting(self) -> None:
        """A dial to where it was to go before is given up."""
        client = self.tunnel.agent()
        client.start()
        elsewhere = FlowEndpoint()
        client.move(elsewhere, lambda: Register(version=1, agent="box"), "tls://other")
        self.assertTrue(self.attempts[0].cancelled)
        self.assertEqual(len(elsewhere.attempts), 1)
        self.assertIs(client.phase, Phase.CONNECTING)

    def test_grant(self) -> None:
        """What the gateway says anew is taken to heart: a service that it took away is not served."""
        client = self.tunnel.attached("box", WEB)
        session = next(iter(self.tunnel.door.sessions))
        self.assertEqual(session.grant, EVERYTHING)
        self.assertEqual(client.statuses["web"].address, "https://app.example.com")
