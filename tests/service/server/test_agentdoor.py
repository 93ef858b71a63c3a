"""
Tests for the door that agents come to: the gateway's side is real, and the agent says whatever the test wants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.agents import AgentAuthority, AgentEntry
from gateway.domain.grant import EVERYTHING, Grant
from gateway.domain.limits import Admission, Bans
from gateway.domain.registry import PortRules, Registry
from gateway.domain.targets import Target
from gateway.domain.tokens import hashToken
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.mux import MuxSession, MuxSettings
from gateway.net.opening import OpeningEndpoint
from gateway.service.controlstream import BURST
from gateway.service.server.agentdoor import AgentDoor, AgentDoorSettings
from gateway.service.server.agentsession import AgentSession
from gateway.service.server.attached import Visitor
from gateway.service.server.destinations import RouteEndpoint
from gateway.testing import FlowLink, flowPair
from gateway.wire.agentcontrol import (
    Ack,
    ControlReader,
    Drain,
    Message,
    Ping,
    Pong,
    Refused,
    Register,
    SecretCredential,
    Service,
    Update,
    encode,
)
from gateway.wire.window import WindowBudget
from tests.domain.test_registry import RecordingDoors
from tests.net.sides import Peer

SECRET = "correct-horse-battery-staple"
PEER = "192.0.2.7"
WEB = Service(key="web", kind="http", hostnames=("app.example.com",))
SSH = Service(key="ssh", kind="tcp", port=2222)


class _Control(Protocol):
    """The agent's end of the control stream."""

    def __init__(self, agent: RawAgent) -> None:
        self._agent = agent
        self._reader = ControlReader(client=True)

    def dataReceived(self, data: bytes) -> None:
        self._agent.heard += self._reader.receive(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The session tells."""


class RawAgent:
    """
    An agent that does as it is told.

    @ivar heard: what the gateway said.
    @ivar streams: that the gateway opened.
    @ivar opened: called for each of them.
    @ivar reason: why the session is over.
    """

    def __init__(self, door: AgentDoor, clock: Clock, *, host: str = PEER, certificate: str | None = None) -> None:
        self.heard: list[Message] = []
        self.streams: list[Peer] = []
        self.opened: Callable[[], object] = lambda: None
        self.reason: Failure | None = None
        self.clock = clock
        # An agent that finds the gateway dead would hide what the gateway finds.
        settings = MuxSettings(pingInterval=0)
        self.mux = MuxSession(
            clock,
            client=True,
            factory=Factory.forProtocol(self._stream),
            settings=settings,
            ended=lambda reason: setattr(self, "reason", reason),
        )
        arrived = door.arrive(host, "plain", certificate=certificate)
        self.link: FlowLink | None = None
        if arrived is not None:
            self.link = flowPair(self.mux, arrived)
            self.pump()

    def _stream(self) -> Peer:
        self.streams.append(Peer())
        self.opened()
        return self.streams[-1]

    def pump(self) -> None:
        """Let everything happen that takes no time."""
        assert self.link is not None
        for _ in range(1000):
            self.clock.advance(0)
            if not self.link.step():
                return

    def say(self, *messages: Message | bytes) -> list[Message]:
        """Say something on the control stream, which is opened if it is not there, and hear what is said to it."""
        if not hasattr(self, "control"):
            self.control = self.mux.open(Factory.forProtocol(lambda: _Control(self)))
        before = len(self.heard)
        for message in messages:
            data = message if isinstance(message, bytes) else encode(message)
            self.control.transport.write(data)  # type: ignore[attr-defined]
        self.pump()
        return self.heard[before:]

    def register(
        self, *services: Service, name: str = "box", secret: str | None = SECRET, replica: str = ""
    ) -> Message:
        """Register, and hear the answer."""
        credential = None if secret is None else SecretCredential(secret=secret)
        (answer,) = self.say(Register(version=1, agent=name, replica=replica, credential=credential, services=services))
        return answer


class AgentDoorTestCase(SynchronousTestCase):
    """
    A door.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.doors = RecordingDoors()
        self.registry = Registry(PortRules(), self.doors)
        self.entry = AgentEntry("*", EVERYTHING, (hashToken(SECRET),), ("ab" * 32,))
        self.authority = AgentAuthority([self.entry])
        self.bans = Bans(threshold=3)
        self.admission = Admission(0.0, unauthenticatedPerAddress=3, bans=self.bans)
        self.door = AgentDoor(
            self.clock,
            self.registry,
            self.authority,
            settings=AgentDoorSettings(mux=MuxSettings(pingInterval=15.0), publicHost="gw.example"),
            admission=self.admission,
            bans=self.bans,
            windows=WindowBudget(),
            wallClock=self.clock.seconds,
        )

    def come(self, **options: object) -> RawAgent:
        """An agent's carrier comes."""
        return RawAgent(self.door, self.clock, **options)  # type: ignore[arg-type]

    def attached(self, *services: Service, **options: object) -> RawAgent:
        """An agent that has registered."""
        agent = self.come()
        self.assertIsInstance(agent.register(*services, **options), Ack)  # type: ignore[arg-type]
        return agent

    def grant(self, **limits: object) -> None:
        """Every agent may have so much, from now on."""
        grant = replace(EVERYTHING, **limits)  # type: ignore[arg-type]
        self.authority.replaceEntries([replace(self.entry, grant=grant)])

    def session(self) -> AgentSession:
        """The only session."""
        (session,) = self.door.sessions
        assert isinstance(session, AgentSession)
        return session

    def assertRefused(self, answer: Message, code: str) -> None:
        """It is a refusal."""
        assert isinstance(answer, Refused), answer
        self.assertEqual(answer.code, code)


class RegisterTests(AgentDoorTestCase):
    """
    The first message.
    """

    def test_registers(self) -> None:
        """An agent is told its session, the interval of pings, and what became of each service, in order."""
        answer = self.come().register(WEB, SSH)
        assert isinstance(answer, Ack)
        self.assertEqual(answer.ping, 15.0)
        self.assertTrue(answer.session.startswith("box-"))
        self.assertEqual([each.key for each in answer.services], ["web", "ssh"])
        self.assertEqual(
            [each.address for each in answer.services], ["https://app.example.com", "tcp://gw.example:2222"]
        )
        self.assertEqual(self.admission.unauthenticated, 0)

    def test_noCertificate(self) -> None:
        """A name whose TLS could not end here is not said to be at https; what is missing is told, and in the log."""
        names = {"app.example.com": "http://app.example.com", "a.example": "https://a.example", "b.example": ""}
        passed = Service(key="a", kind="tls", hostnames=("a.example",))
        raw = Service(key="b", kind="tls", tls="terminate", hostnames=("b.example",))
        self.door.isCertified = lambda name: False
        with capturedLogs() as events:
            answer = self.come().register(WEB, passed, raw)
        assert isinstance(answer, Ack)
        self.assertEqual([each.address for each in answer.services], list(names.values()))
        missing = [
            "The gateway has no certificate for app.example.com.",
            "",
            "The gateway has no certificate for b.example.",
        ]
        self.assertEqual([each.details for each in answer.services], missing)
        self.assertEqual({each.code for each in answer.services}, {""})
        logged = [each["details"] for each in events if each.get("event") == "agent.service-incomplete"]
        self.assertEqual(logged, [each for each in missing if each])

    def test_noPort(self) -> None:
        """Where no port leads to a service, that is told."""
        self.door.settings = replace(self.door.settings, tlsPort=0)
        answer = self.come().register(Service(key="a", kind="tls", hostnames=("a.example",)))
        assert isinstance(answer, Ack)
        (status,) = answer.services
        self.assertEqual((status.address, status.details), ("", "The gateway has no port that leads there."))

    def test_addresses(self) -> None:
        """An agent is told where visitors reach its services, by the ports that there are."""
        passed = Service(key="a", kind="tls", hostnames=("a.example",))
        raw = Service(key="b", kind="tls", tls="terminate", hostnames=("b.example",))
        for ports, expected in (
            ((443, 80), ["https://app.example.com", "https://a.example", "tls://b.example"]),
            ((8443, 80), ["https://app.example.com:8443", "https://a.example:8443", "tls://b.example:8443"]),
        ):
            self.door.settings = replace(self.door.settings, tlsPort=ports[0], httpPort=ports[1])
            answer = self.come().register(WEB, passed, raw)
            assert isinstance(answer, Ack)
            self.assertEqual([each.address for each in answer.services], expected)
        for number, address in ((80, "http://app.example.com"), (8080, "http://app.example.com:8080")):
            self.door.settings = replace(self.door.settings, tlsPort=0, httpPort=number)
            answer = self.come().register(WEB, passed)
            assert isinstance(answer, Ack)
            self.assertEqual([each.address for each in answer.services], [address, ""])
        node = Service(key="node", kind="http", prefixes=("/node",))
        for ports, address in (
            ((443, 0), "https://gw.example/node"),
            ((0, 8080), "http://gw.example:8080/node"),
            ((0, 0), ""),
        ):
            self.door.settings = replace(self.door.settings, tlsPort=ports[0], httpPort=ports[1])
            answer = self.come().register(node)
            assert isinstance(answer, Ack)
            self.assertEqual([each.address for each in answer.services], [address])

    def test_wrongSecret(self) -> None:
        """A wrong secret is refused in words that tell nothing, and the carrier is closed."""
        agent = self.come()
        self.assertRefused(agent.register(secret="wrong"), "unauthorized")
        assert agent.reason is not None
        self.assertTrue(agent.reason.check(ConnectionDone))
        self.assertEqual(self.door.sessions, set())
        self.assertEqual(self.admission.connections, 0)

    def test_ban(self) -> None:
        """An address with too many wrong secrets is shut out, the right one or not."""
        for _ in range(3):
            self.come().register(secret="wrong")
        self.assertIsNone(self.come().link)
        self.assertIsNotNone(self.come(host="192.0.2.8").link)

    def test_certificate(self) -> None:
        """A client certificate proves an agent that says no secret."""
        self.assertIsInstance(self.come(certificate="ab" * 32).register(secret=None), Ack)
        self.assertRefused(self.come(certificate="cd" * 32).register(secret=None), "unauthorized")
        self.assertRefused(self.come().register(secret=None), "unauthorized")

    def test_late(self) -> None:
        """An agent has ten seconds to register."""
        agent = self.come()
        agent.say()  # the control stream is there, and nothing on it
        self.clock.advance(9.9)
        agent.pump()
        self.assertIsNone(agent.reason)
        self.clock.advance(0.2)
        agent.pump()
        self.assertRefused(agent.heard[0], "register-timeout")
        self.assertIsNotNone(agent.reason)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_notAnAgent(self) -> None:
        """What is no message of the protocol is refused, and the log has one line."""
        with capturedLogs() as events:
            agent = self.come()
            self.assertRefused(agent.say(b"GET / HTTP/1.1\r\n")[0], "invalid-message")
        self.assertEqual([each["event"] for each in events if "event" in each], ["agent.refused"])
        self.assertIsNotNone(agent.reason)

    def test_notYamux(self) -> None:
        """Neither is a carrier on which something else is spoken."""
        peer = Peer()
        arrived = self.door.arrive(PEER, "plain")
        assert arrived is not None
        link = flowPair(peer, arrived)
        peer.transport.write(b"SSH-2.0-OpenSSH\r\n")
        link.pump()
        self.clock.advance(5)
        link.pump()
        self.assertTrue(link.b.disconnected)
        self.assertEqual(self.admission.connections, 0)

    def test_outOfTurn(self) -> None:
        """A session begins with a registration."""
        self.assertRefused(self.come().say(Ping(id=1))[0], "unexpected-message")

    def test_tooManyCarriers(self) -> None:
        """An address has so many carriers that have not registered."""
        agents = [self.come() for _ in range(3)]
        self.assertIsNone(self.come().link)
        agents[0].register()
        self.assertIsNotNone(self.come().link)

    def test_streamBeforeRegistration(self) -> None:
        """An agent opens no other stream, before it has registered or after."""
        agent = self.come()
        for _ in range(2):
            agent.say()
            peer = Peer()
            agent.mux.open(Factory.forProtocol(lambda: peer))  # noqa: B023  # at once
            agent.pump()
            self.assertIsNotNone(peer.reason)
            if not self.door.sessions:
                agent.register()

    def test_draining(self) -> None:
        """No carrier is taken while the gateway stops, and on those that there are nobody registers."""
        agent = self.come()
        self.door.drain(10.0)
        self.assertIsNone(self.come().link)
        self.assertRefused(agent.register(), "shutting-down")

    def test_refusedOnce(self) -> None:
        """What comes right behind a registration that is refused is not looked at."""
        register = Register(version=1, agent="box", credential=SecretCredential(secret="wrong"))
        behind: list[Message] = [Ping(id=1), Pong(id=1), Drain(seconds=1.0), Update(services=())]
        for number, more in enumerate(behind):
            agent = self.come(host=f"192.0.2.{number + 100}")
            self.assertRefused(agent.say(encode(register) + encode(more))[0], "unauthorized")
            self.assertEqual(len(agent.heard), 1)
            self.assertEqual(self.flushLoggedErrors(), [])


class ReplicaTests(AgentDoorTestCase):
    """
    Several sessions of one agent.
    """

    def test_takesOver(self) -> None:
        """A new session of the same replica takes over at once, with names and ports that are never free between."""
        ghost = self.attached(WEB, SSH)
        agent = self.attached(WEB, SSH)
        ghost.pump()
        self.assertRefused(ghost.heard[-1], "replaced")
        self.assertIsNotNone(ghost.reason)
        self.assertEqual(self.doors.history, ["open tcp port 2222"])
        self.assertEqual(len(self.door.sessions), 1)
        self.assertIsNone(agent.reason)

    def test_takesOverFromTheDead(self) -> None:
        """So does one whose old session does not even take what is said to it."""
        ghost = self.attached(WEB)
        assert ghost.link is not None
        ghost.link.cut()
        agent = self.attached(WEB)
        self.assertEqual(len(self.door.sessions), 2, "until it is cut off")
        self.clock.advance(6)
        ghost.link.cut()
        self.assertEqual([each.agent for each in self.registry.attachments], ["box"])
        route = self.registry.host("app.example.com")
        assert route is not None
        self.assertEqual(len(route.replicas), 1)
        self.assertIsNone(agent.reason)

    def test_isToldFirst(self) -> None:
        """A visitor who was about to be served by the old one comes to the new one, which was told before what it has."""
        ghost = self.attached(WEB)
        route = self.registry.host("app.example.com")
        assert route is not None
        RouteEndpoint(route, Visitor(None, None), self.clock).connect(Factory.forProtocol(Peer))
        ghost.pump()
        agent = self.come()
        heard: list[int] = []
        agent.opened = lambda: heard.append(len(agent.heard))
        agent.register(WEB)
        self.assertEqual(heard, [1])

    def test_sideBySide(self) -> None:
        """Other replicas live beside it."""
        self.attached(WEB)
        self.attached(WEB, replica="b")
        route = self.registry.host("app.example.com")
        assert route is not None
        self.assertEqual(len(route.replicas), 2)

    def test_tooMany(self) -> None:
        """An agent has so many sessions, of which one that is taken over from is none."""
        self.grant(sessions=1)
        self.attached()
        self.assertRefused(self.come().register(replica="b"), "too-many-sessions")
        self.attached()


class SessionTests(AgentDoorTestCase):
    """
    L{AgentSession}, on what an agent says later.
    """

    def test_ping(self) -> None:
        """A ping is answered."""
        self.assertEqual(self.attached().say(Ping(id=7)), [Pong(id=7)])

    def test_update(self) -> None:
        """Services can be changed; what is withdrawn is free."""
        agent = self.attached(WEB)
        (answer,) = agent.say(Update(services=(SSH,), request=5))
        assert isinstance(answer, Ack)
        self.assertEqual((answer.request, [each.key for each in answer.services]), (5, ["ssh"]))
        self.assertIsNone(self.registry.host("app.example.com"))

    def test_registersTwice(self) -> None:
        """A second registration is refused and ends the session."""
        agent = self.attached(WEB)
        self.assertRefused(agent.register(), "unexpected-message")
        self.assertIsNotNone(agent.reason)
        self.assertIsNone(self.registry.host("app.example.com"))

    def test_tooManyServices(self) -> None:
        """What is beyond the limit is not served, and told; the rest is."""
        self.grant(services=1)
        answer = self.come().register(WEB, SSH)
        assert isinstance(answer, Ack)
        self.assertEqual([each.code for each in answer.services], ["", "too-many-services"])

    def test_taken(self) -> None:
        """A name that another agent has is told to be taken, in a sentence and in the log."""
        self.attached(WEB)
        with capturedLogs() as events:
            answer = self.come().register(WEB, SSH, name="other")
        assert isinstance(answer, Ack)
        self.assertEqual([each.code for each in answer.services], ["taken", ""])
        self.assertIn("agent.service-refused", [each.get("event") for each in events])

    def test_agentDrains(self) -> None:
        """An agent that drains gives up its names, and keeps its streams; its successor takes over from nobody."""
        agent = self.attached(WEB)
        endpoint = self.session().endpointFor(WEB, Visitor(None, None))
        near = Peer()
        endpoint.connect(Factory.forProtocol(lambda: near))
        agent.pump()
        agent.streams[0].transport.write(b'{"ok":true}\n')
        agent.say(Drain(seconds=30.0))
        self.assertIsNone(self.registry.host("app.example.com"))
        self.attached(WEB)
        agent.pump()
        self.assertIsNone(agent.reason)
        agent.streams[0].transport.write(b"still here")
        agent.pump()
        self.assertEqual(near.received, b"still here")

    def test_drainsOnce(self) -> None:
        """An agent that says again and again that it drains makes one line in the log."""
        agent = self.attached(WEB)
        with capturedLogs() as events:
            agent.say(*[Drain(seconds=30.0)] * 50)
        self.assertEqual([each["event"] for each in events if "event" in each], ["agent.draining"])

    def test_changesAreLogged(self) -> None:
        """Of the services in an update, those of which nothing new is to be said are not in the log."""
        agent = self.attached(WEB, SSH)
        with capturedLogs() as events:
            for healthy in (False, True, True):
                agent.say(
                    Update(services=(Service(key="web", kind="http", hostnames=WEB.hostnames, healthy=healthy), SSH))
                )
            self.assertEqual([each for each in events if "event" in each], [])
            agent.say(Update(services=(WEB, Service(key="ssh", kind="tcp", port=2223))))
        self.assertEqual([each["service"] for each in events if "event" in each], ["ssh"])

    def test_lastWord(self) -> None:
        """Nothing counts that comes after an agent said that it ends the session."""
        agent = self.attached(WEB)
        agent.say(encode(Refused(code="shutting-down", details="Bye.")) + encode(Update(services=(SSH,))))
        self.assertEqual(self.doors.history, [])

    def test_agentLeaves(self) -> None:
        """An agent that says that it ends the session is gone."""
        agent = self.attached(WEB, SSH)
        agent.say(Refused(code="shutting-down", details="Bye."))
        self.assertIsNotNone(agent.reason)
        self.assertEqual(self.doors.isOpen, [])

    def test_controlStreamEnds(self) -> None:
        """A session ends with its control stream."""
        agent = self.attached(WEB)
        agent.control.transport.loseConnection()  # type: ignore[attr-defined]
        agent.pump()
        self.assertIsNotNone(agent.reason)
        self.assertEqual(self.door.sessions, set())

    def test_dead(self) -> None:
        """An agent of which nothing comes any more is found dead within two intervals, and its names are free."""
        agent = self.attached(WEB, SSH)
        assert agent.link is not None
        agent.link.cut()
        for _ in range(30):
            self.assertNotEqual(self.door.sessions, set())
            self.clock.advance(1)
            agent.link.step()
        agent.link.b.step()
        self.assertEqual(self.door.sessions, set())
        self.assertEqual(self.doors.isOpen, [])

    def test_facts(self) -> None:
        """There is something to tell of a session, and the last ping is a real one."""
        agent = self.attached(WEB)
        self.clock.advance(15)
        agent.pump()
        self.clock.advance(4)
        facts = self.session().facts()
        self.assertEqual((facts.agent, facts.peer, facts.carrier, facts.streams), ("box", PEER, "plain", 0))
        self.assertEqual(facts.seconds, 19)
        self.assertEqual(facts.lastPing, 4)
        self.assertEqual([str(place) for place in facts.places], ["app.example.com"])

    def test_pace(self) -> None:
        """An agent that says more than there is to say is heard later, but whole."""
        agent = self.attached(WEB)
        update = encode(Update(services=(WEB,)))
        count = 2 * BURST // len(update)
        self.assertLess(len(agent.say(update * count)), count)
        for _ in range(10):
            self.clock.advance(1.0)
            agent.pump()
        self.assertEqual(len(agent.heard), count + 1)
        self.assertEqual(agent.say(Ping(id=7)), [Pong(id=7)])
        agent.say(update * count)
        agent.mux.abortConnection()
        agent.pump()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_backPressure(self) -> None:
        """An agent that does not read the answers to its pings is not read for ever."""
        agent = self.attached()
        agent.control.transport.pauseProducing()  # type: ignore[attr-defined]
        for _ in range(40):
            agent.say(b"".join(encode(Ping(id=each)) for each in range(2000)))
        assert agent.link is not None
        self.assertLess(agent.link.bToA.highWater, 1024 * 1024)
        self.assertIsNone(agent.reason)


class StreamTests(AgentDoorTestCase):
    """
    L{AgentSession}'s endpoints.
    """

    def refusal(self, endpoint: object) -> DialFailure:
        """Why an endpoint leads nowhere."""
        dialled = endpoint.connect(Factory.forProtocol(Peer))  # type: ignore[attr-defined]
        error = self.failureResultOf(dialled, DialFailed).value
        assert isinstance(error, DialFailed)
        return error.kind

    def test_targets(self) -> None:
        """Targets behind an agent are for those who say that they take them."""
        agent = self.attached()
        target = Target("db.internal", 5432)
        self.assertEqual(self.refusal(self.session().targetEndpoint(target, Visitor(None, None))), DialFailure.DENIED)
        agent.say(Update(services=(), targets=True))
        endpoint = self.session().targetEndpoint(target, Visitor(None, None))
        self.assertIsInstance(endpoint, OpeningEndpoint)

    def test_datagramsLeaveRoom(self) -> None:
        """Visitors by UDP, whose addresses may be forged, take at most three quarters of a session's streams."""
        self.door.settings = replace(self.door.settings, mux=MuxSettings(pingInterval=15.0, streams=8))
        dns = Service(key="dns", kind="udp", port=5353)
        agent = self.attached(dns, WEB)
        forged = Visitor(None, None, isDatagram=True)
        for _ in range(6):
            self.session().endpointFor(dns, forged).connect(Factory.forProtocol(Peer))
        self.assertEqual(self.refusal(self.session().endpointFor(dns, forged)), DialFailure.UNAVAILABLE)
        self.session().endpointFor(WEB, Visitor(None, None)).connect(Factory.forProtocol(Peer))
        agent.pump()
        self.assertEqual(len(agent.streams), 7)

    def test_draining(self) -> None:
        """A session that drains takes no new streams."""
        self.attached(WEB)
        session = self.session()
        session.drain(10.0, "We stop.")
        endpoint = session.endpointFor(WEB, Visitor(None, None))
        self.assertEqual(self.refusal(endpoint), DialFailure.UNAVAILABLE)


class AuthorityTests(AgentDoorTestCase):
    """
    Changes of what agents may do.
    """

    def test_revoked(self) -> None:
        """An agent that is not known any more is told, and cut off."""
        agent = self.attached(WEB)
        self.authority.replaceEntries([])
        self.door.authorityChanged()
        agent.pump()
        self.assertRefused(agent.heard[-1], "revoked")
        self.assertIsNotNone(agent.reason)

    def test_narrowed(self) -> None:
        """One that may do less keeps what it may still have, and is told of the rest."""
        agent = self.attached(WEB, SSH)
        self.authority.replaceEntries([replace(self.entry, grant=Grant(EVERYTHING.hostnames))])
        self.door.authorityChanged()
        agent.pump()
        answer = agent.heard[-1]
        assert isinstance(answer, Ack)
        self.assertEqual([each.code for each in answer.services], ["", "not-allowed"])
        self.assertEqual(self.doors.isOpen, [])
        self.assertIsNone(agent.reason)

    def test_afterTakeover(self) -> None:
        """A change reaches everybody, also while a session that was taken over from does not take the good-bye."""
        ghost = self.attached(WEB)
        assert ghost.link is not None
        ghost.link.cut()
        agent = self.attached(WEB, SSH)
        self.authority.replaceEntries([replace(self.entry, grant=Grant(EVERYTHING.hostnames))])
        self.door.authorityChanged()
        agent.pump()
        answer = agent.heard[-1]
        assert isinstance(answer, Ack)
        self.assertEqual([each.code for each in answer.services], ["", "not-allowed"])

    def test_revokedAtOnce(self) -> None:
        """What a revoked agent held is free at once, though it does not take the good-bye, which is said once."""
        agent = self.attached(WEB)
        assert agent.link is not None
        agent.link.cut()
        self.authority.replaceEntries([])
        with capturedLogs() as events:
            for _ in range(2):
                self.door.authorityChanged()
        self.assertEqual([each["event"] for each in events if "event" in each], ["agent.ended"])
        self.assertIsNone(self.registry.host("app.example.com"))

    def test_unchanged(self) -> None:
        """Others hear nothing."""
        agent = self.attached(WEB)
        self.door.authorityChanged()
        agent.pump()
        self.assertEqual(len(agent.heard), 1)

    def test_expires(self) -> None:
        """A session ends when its credential expires."""
        self.authority.replaceEntries([replace(self.entry, expires=100.0)])
        agent = self.attached(WEB)
        for _ in range(10):
            self.assertIsNone(agent.reason)
            self.clock.advance(9.999)
            agent.pump()
        self.clock.advance(0.1)
        agent.pump()
        self.assertRefused(agent.heard[-1], "revoked")


class StoppingTests(AgentDoorTestCase):
    """
    The gateway stops.
    """

    def test_drain(self) -> None:
        """Agents are told how long there is, and that no stream comes any more; those that there are go on."""
        agent = self.attached(WEB)
        near = Peer()
        self.session().endpointFor(WEB, Visitor(None, None)).connect(Factory.forProtocol(lambda: near))
        agent.pump()
        self.door.drain(20.0)
        agent.pump()
        message = agent.heard[-1]
        assert isinstance(message, Drain)
        self.assertEqual(message.seconds, 20.0)
        self.assertIsNone(agent.reason)
        agent.streams[0].transport.write(b'{"ok":true}\nstill here')
        agent.pump()
        self.assertEqual(near.received, b"still here")

    def test_close(self) -> None:
        """All sessions end, and whoever waits for that is told when the last one has."""
        agents = [self.attached(WEB), self.attached(replica="b")]
        closed = Deferred.fromCoroutine(self.door.close())
        self.assertNoResult(closed)
        for agent in agents:
            agent.pump()
            self.assertRefused(agent.heard[-1], "shutting-down")
        self.successResultOf(closed)
        self.successResultOf(Deferred.fromCoroutine(self.door.close()))

    def test_closeAfterDrain(self) -> None:
        """So do those that were told to drain."""
        agent = self.attached(WEB)
        self.door.drain(20.0)
        agent.pump()
        closed = Deferred.fromCoroutine(self.door.close())
        agent.pump()
        self.successResultOf(closed)
        self.assertIsNotNone(agent.reason)
