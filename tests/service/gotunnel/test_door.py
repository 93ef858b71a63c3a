"""Tests for L{gateway.service.gotunnel.door} and L{gateway.service.gotunnel.session}."""

import json
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.grant import Grant
from gateway.domain.routes import Place, hostPlace
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure
from gateway.service.gotunnel.session import GoTunnelSession
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.wire.agentcontrol import Service, SessionError
from gateway.wire.gotunnel import MAX_MESSAGE, encodePreamble
from tests.net.sides import Peer
from tests.service.gotunnel.gotunnelfixture import ACKNOWLEDGED, SECRET, GoTunnel, ScriptedAgent

APP, SSH = "app.example.com", "ssh.example.com"

NONE: dict[str, str] = {}


def made(peer: Peer) -> Factory:
    """The factory of one protocol."""
    return Factory.forProtocol(lambda: peer)


class GoTunnelTests(SynchronousTestCase):
    """What tests of the server's end have in common."""

    def setUp(self) -> None:
        self.tunnel = GoTunnel()

    def refused(self, agent: ScriptedAgent, error: str) -> None:
        """The agent was told this alone, and its session is over."""
        self.assertEqual(agent.heard, [{"type": "ack", "ok": False, "error": error}])
        self.tunnel.wait(6)
        self.assertEqual(len(agent.ended), 1)

    def session(self, name: str = APP) -> GoTunnelSession:
        """Who serves a name."""
        (session,) = self.tunnel.registry.routes[hostPlace(name)].replicas
        assert isinstance(session, GoTunnelSession)
        return session

    def silence(self, agent: ScriptedAgent) -> None:
        """From now on nothing arrives from an agent, and nobody is told."""
        agent.link.aToB.stalled = True


class RegistrationTests(GoTunnelTests):
    """The first message and its answer."""

    def test_registered(self) -> None:
        """Names are served from the C{ack} on: mode http as HTTP, mode tcp as bytes inside of TLS that ends here."""
        agent = self.tunnel.theirs({APP: "http", SSH: "tcp"})
        self.assertEqual(agent.heard, [ACKNOWLEDGED])
        services = {place.name: route.service for place, route in self.tunnel.registry.routes.items()}
        self.assertEqual(services[APP].kind, "http")
        self.assertEqual((services[SSH].kind, services[SSH].tls), ("tls", "terminate"))
        self.assertTrue(IAgentSession.providedBy(self.session()))

    def test_token(self) -> None:
        """An agent with a secret that differs, an old token or none is told C{auth failed}."""
        tokens = GoTunnelTokens(SECRET)
        for token in ("", "x", tokens.make("a", 10, now=-1000), GoTunnelTokens("another").make("a", 3600, now=0)):
            self.refused(self.tunnel.theirs({APP: "http"}, token), "auth failed")
        self.assertEqual(self.tunnel.names(), [])

    def test_noBan(self) -> None:
        """Wrong tokens shut nobody out who has a good one, and comes from the same address."""
        for _ in range(30):
            self.refused(self.tunnel.theirs({APP: "http"}, "x"), "auth failed")
        self.assertEqual(self.tunnel.theirs({APP: "http"}).heard, [ACKNOWLEDGED])

    def test_noRoutes(self) -> None:
        """An agent without routes is told so."""
        for modes in (None, NONE):
            self.refused(self.tunnel.theirs(modes), "no routes")

    def test_tokenFirst(self) -> None:
        """Who cannot prove anything is told nothing about routes."""
        self.tunnel.theirs({APP: "http"})
        for modes in (None, {APP: "http"}):
            self.refused(self.tunnel.theirs(modes, "x"), "auth failed")

    def test_names(self) -> None:
        """A configured list of names holds agents to it: all or nothing is served."""
        self.tunnel = GoTunnel(grant=Grant(hostnames=("*.example.com",)))
        self.assertEqual(self.tunnel.theirs({APP: "http"}).heard, [ACKNOWLEDGED])
        agent = self.tunnel.theirs({SSH: "tcp", "app.example.eu": "http"})
        self.refused(agent, "The agent may not have the name app.example.eu.")
        self.assertEqual(self.tunnel.names(), [APP])

    def test_ownName(self) -> None:
        """The gateway's own name is nobody's."""
        self.tunnel.doors.ours.add(Place("host", "gw.example"))
        agent = self.tunnel.theirs({"gw.example": "http"})
        self.assertFalse(agent.heard[0]["ok"])
        self.assertEqual(self.tunnel.names(), [])

    def test_deadline(self) -> None:
        """An agent that does not register in time is told so, and cut off."""
        for opens in (True, False):
            agent = ScriptedAgent(self.tunnel, "192.0.2.7")
            if opens:
                agent.open()
            self.tunnel.wait(9.75)
            self.assertEqual(agent.ended, [])
            self.tunnel.wait(0.25)
            self.tunnel.wait(6)
            self.assertEqual(len(agent.ended), 1)
            self.assertEqual([each["ok"] for each in agent.heard], [False] if opens else [])

    def test_oneStream(self) -> None:
        """Streams besides the control stream are refused, before and after the registration."""
        agent = self.tunnel.arrived()
        more = [Peer(), Peer()]
        for peer in more:
            agent.mux.open(made(peer))
            self.tunnel.pump()
            self.assertIsNotNone(peer.reason)
            agent.register({APP: "http"})
        self.assertEqual(agent.heard[0], ACKNOWLEDGED)

    def test_leaves(self) -> None:
        """When an agent leaves its names are free at once."""
        for leave in (
            lambda agent: agent.control.transport.loseConnection(),
            lambda agent: agent.mux.close(),
            lambda agent: agent.mux.abortConnection(),
        ):
            agent = self.tunnel.theirs({APP: "http", SSH: "tcp"})
            self.assertEqual(agent.heard, [ACKNOWLEDGED])
            leave(agent)
            self.tunnel.pump()
            self.tunnel.wait(0.25)
            self.assertEqual((self.tunnel.names(), self.tunnel.door.sessions), ([], set()))
        self.assertEqual(self.tunnel.clock.getDelayedCalls(), [])

    def test_draining(self) -> None:
        """A server that stops ends sessions, and says why."""
        agent = self.tunnel.theirs({APP: "http"})
        self.tunnel.door.drain(10)
        closed = Deferred.fromCoroutine(self.tunnel.door.close())
        self.tunnel.wait(6)
        self.successResultOf(closed)
        self.assertEqual(agent.heard[-1], {"type": "ack", "ok": False, "error": "The gateway is shutting down."})
        self.assertEqual(len(agent.ended), 1)

    def test_registersTooLate(self) -> None:
        """Nobody registers while the server stops."""
        agent = self.tunnel.arrived()
        self.tunnel.door.drain(10)
        agent.register({APP: "http"})
        self.refused(agent, "The gateway is shutting down.")


class HostileTests(GoTunnelTests):
    """What is not the protocol ends the session, and no other."""

    FIRST = (
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]",
        b"{}",
        b'{"type":1}',
        b'{"type":"hello"}',
        b'{"type":"pong","ts":1}',
        b'{"type":"ping","ts":1}',
        b'{"type":"ack","ok":true}',
        b'{"type":"register","token":7}',
        b'{"type":"register","token":"","routes":[]}',
        b'{"type":"register","routes":{"-":"x"}}',
        b'{"type":"register","routes":{"a.example":"x","A.example":"y"}}',
        b'{"type":"register","routes":{"a.example":"x\\ny"}}',
        b'{"type":"register","token":"' + b"x" * MAX_MESSAGE,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        json.dumps({"type": "register", "routes": {f"h{n}.example": "x" for n in range(257)}}).encode(),
        b"\xff\xfe{}",
    )

    def test_first(self) -> None:
        """A first message that is wrong is answered with one that says so, and with the end."""
        for message in self.FIRST:
            with self.subTest(message[:60]):
                agent = self.tunnel.arrived()
                agent.say(message)
                self.tunnel.wait(6)
                self.assertEqual([each["ok"] for each in agent.heard], [False])
                self.assertEqual(len(agent.ended), 1)
        self.assertEqual((self.tunnel.names(), self.tunnel.door.sessions), ([], set()))
        self.assertEqual(self.tunnel.clock.getDelayedCalls(), [])

    def test_second(self) -> None:
        """So is a later one, and the names are free; another agent is not touched."""
        other = self.tunnel.theirs({SSH: "tcp"})
        for message in (b'{"type":"register","token":""}', b'{"type":"ping","ts":1}', b"{", b"nonsense"):
            with self.subTest(message):
                agent = self.tunnel.theirs({APP: "http"})
                agent.say(message + b" " * 10 + b"}")
                self.tunnel.wait(6)
                self.assertEqual([each["ok"] for each in agent.heard], [True, False])
                self.assertEqual(self.tunnel.names(), [SSH])
        self.assertEqual(other.ended, [])

    def test_unknown(self) -> None:
        """Messages of unknown types, and pongs that nobody asked for, are no harm."""
        agent = self.tunnel.theirs({APP: "http"})
        agent.say({"type": "stats", "streams": 3})
        agent.pong()
        self.tunnel.wait(6)
        self.assertEqual((agent.heard, agent.ended), ([ACKNOWLEDGED], []))


class HeartbeatTests(GoTunnelTests):
    """Dead agents are found."""

    def setUp(self) -> None:
        super().setUp()
        self.agent = self.tunnel.theirs({APP: "http"})

    def test_pings(self) -> None:
        """An agent is asked every 15 seconds, in milliseconds since 1970, and stays as long as it answers."""
        for count in range(1, 9):
            self.tunnel.wait(14.75)
            self.assertEqual(self.agent.pings, count - 1)
            self.tunnel.wait(0.25)
            self.assertEqual(self.agent.pings, count)
            self.agent.pong()
        self.assertEqual(self.agent.heard[-1], {"type": "ping", "ts": 120_000})
        self.assertEqual(self.agent.ended, [])

    def test_lastPing(self) -> None:
        """When it last answered is told as it is."""
        facts = self.session().facts()
        self.assertEqual((facts.lastPing, facts.carrier, facts.software), (None, "tls, go-tunnel", "mytunnel"))
        self.assertEqual(facts.places, [hostPlace(APP)])
        self.tunnel.wait(15)
        self.agent.pong()
        self.tunnel.wait(4)
        self.assertEqual(self.session().facts().lastPing, 4)

    def test_noPong(self) -> None:
        """Without an answer for 20 seconds the session ends and its names are free, though the connection stands."""
        self.tunnel.wait(34.75)
        self.assertEqual(self.tunnel.names(), [APP])
        self.tunnel.wait(0.25)
        self.assertEqual((self.tunnel.names(), self.tunnel.door.sessions), ([], set()))
        self.tunnel.wait(1)
        self.assertEqual(len(self.agent.ended), 1)

    def test_vanished(self) -> None:
        """An agent whose network is gone is found within two pings, as its silence is noticed besides."""
        self.agent.link.cut()
        self.tunnel.wait(2 * self.tunnel.door.settings.pingInterval)
        self.assertEqual((self.tunnel.names(), self.tunnel.door.sessions), ([], set()))

    def test_oneMissed(self) -> None:
        """The time runs from the first ping without an answer, whatever is asked meanwhile."""
        self.tunnel.wait(30)
        self.agent.pong()
        self.tunnel.wait(34)
        self.assertEqual(self.tunnel.names(), [APP])
        self.tunnel.wait(1)
        self.assertEqual(self.tunnel.names(), [])


class GhostTests(GoTunnelTests):
    """Who may have a name that another session has."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.tunnel.theirs({APP: "http", SSH: "tcp"})

    def test_living(self) -> None:
        """An agent that answers keeps its names; who wants one of them is refused, in go-tunnel's words."""
        second = self.tunnel.theirs({"other.example.com": "http", "APP.example.com": "http"})
        self.assertEqual((second.heard, self.first.pings), ([], 1))
        self.first.pong()
        self.refused(second, "host already registered: APP.example.com")
        self.assertEqual(self.tunnel.names(), [APP, SSH])
        self.assertEqual(self.first.ended, [])

    def test_ghost(self) -> None:
        """One that does not answer within a moment is gone, with all of its names, and the newcomer is served."""
        self.silence(self.first)
        second = self.tunnel.theirs({APP: "http"})
        ghost = self.session()
        self.tunnel.wait(1.25)
        self.assertEqual((second.heard, self.session()), ([], ghost))
        self.tunnel.wait(0.25)
        self.assertEqual(second.heard, [ACKNOWLEDGED])
        self.assertIsNot(self.session(), ghost)
        self.assertEqual(self.tunnel.names(), [APP])
        self.tunnel.wait(1)
        self.assertEqual(len(self.first.ended), 1)
        self.tunnel.wait(6)
        self.assertEqual(self.tunnel.names(), [APP])

    def test_lateAnswer(self) -> None:
        """An answer to an earlier ping counts: who says something lives."""
        self.tunnel.wait(15)
        second = self.tunnel.theirs({APP: "http"})
        self.assertEqual(self.first.pings, 2)
        self.first.pong()
        self.refused(second, f"host already registered: {APP}")

    def test_two(self) -> None:
        """Of two newcomers the first gets the ghost's name, and the second is refused once the first has answered."""
        self.silence(self.first)
        second, third = (self.tunnel.theirs({APP: "http"}) for _ in range(2))
        self.tunnel.wait(1.5)
        self.assertEqual((second.heard[0], third.heard), (ACKNOWLEDGED, []))
        self.assertEqual(second.pings, 1)
        second.pong()
        self.refused(third, f"host already registered: {APP}")
        self.assertEqual(second.ended, [])

    def test_severalHolders(self) -> None:
        """With one ghost and one that lives nothing is taken: the living one's name is not to be had."""
        other = self.tunnel.theirs({"other.example.com": "http"})
        self.silence(self.first)
        newcomer = self.tunnel.theirs({APP: "http", "other.example.com": "http"})
        other.pong()
        self.assertEqual(newcomer.heard, [])
        self.tunnel.wait(1.5)
        self.refused(newcomer, "host already registered: other.example.com")
        self.assertEqual(self.tunnel.names(), [APP, "other.example.com", SSH])

    def test_newcomerLeaves(self) -> None:
        """A newcomer that leaves while it waits costs nobody anything."""
        self.silence(self.first)
        second = self.tunnel.theirs({APP: "http"})
        second.mux.abortConnection()
        self.tunnel.wait(2)
        self.assertEqual(self.tunnel.names(), [APP, SSH])

    def test_holderLeaves(self) -> None:
        """A holder that leaves while it is asked leaves its names to who waits, at once."""
        second = self.tunnel.theirs({APP: "http"})
        self.first.mux.abortConnection()
        self.tunnel.pump()
        self.assertEqual(second.heard, [ACKNOWLEDGED])
        self.assertEqual(self.tunnel.names(), [APP])

    def test_otherDialect(self) -> None:
        """A name of an agent of our own dialect is not to be had."""
        self.tunnel.attached("box", Service(key="web", kind="http", hostnames=("web.example.com",)))
        newcomer = self.tunnel.theirs({"web.example.com": "http"})
        self.refused(newcomer, "host already registered: web.example.com")

    def test_differentNames(self) -> None:
        """Agents with the same issuer and different names do not mind one another."""
        self.assertEqual(self.tunnel.theirs({"other.example.com": "http"}).heard, [ACKNOWLEDGED])
        self.assertEqual(self.first.pings, 0)


class StreamTests(GoTunnelTests):
    """Visitors' streams."""

    def setUp(self) -> None:
        super().setUp()
        self.agent = self.tunnel.theirs({"App.Example.com:8443": "http", SSH: "tcp", "*.wild.example": "http"})

    def test_preamble(self) -> None:
        """A stream begins with the name as the agent spells it; then come the visitor's bytes, and the agent's back."""
        for name, key in ((APP, "App.Example.com:8443"), (SSH, SSH), ("a.wild.example", "*.wild.example")):
            peer, dialled = self.tunnel.visit(name)
            self.assertIs(self.successResultOf(dialled), peer)
            peer.transport.write(b"hello")
            self.tunnel.pump()
            stream = self.agent.visitors[-1]
            self.assertEqual(bytes(stream.received), encodePreamble(key) + b"hello")
            stream.transport.write(b"welcome")
            self.tunnel.pump()
            self.assertEqual(bytes(peer.received), b"welcome")
        self.assertEqual(self.session().load, 3)

    def test_halfClose(self) -> None:
        """Either direction ends alone."""
        peer, _ = self.tunnel.visit(SSH)
        peer.transport.loseWriteConnection()
        self.tunnel.pump()
        stream = self.agent.visitors[-1]
        self.assertTrue(stream.ended)
        stream.transport.write(b"still here")
        stream.transport.loseWriteConnection()
        self.tunnel.pump()
        self.assertEqual((bytes(peer.received), peer.ended), (b"still here", True))

    def test_refused(self) -> None:
        """An agent that resets a stream resets its visitor."""
        peer, _ = self.tunnel.visit(SSH)
        self.agent.visitors[-1].transport.abortConnection()
        self.tunnel.pump()
        self.assertIsNotNone(peer.reason)

    def test_gone(self) -> None:
        """When the agent goes so do its visitors."""
        peer, _ = self.tunnel.visit(SSH)
        self.agent.mux.abortConnection()
        self.tunnel.pump()
        self.assertIsNotNone(peer.reason)

    def test_draining(self) -> None:
        """A server that is about to stop opens no new streams, and those that there are go on."""
        peer, _ = self.tunnel.visit(SSH)
        self.tunnel.door.drain(10)
        _, dialled = self.tunnel.visit(SSH)
        self.assertIs(self.failureResultOf(dialled, DialFailed).value.kind, DialFailure.UNAVAILABLE)
        peer.transport.write(b"still here")
        self.tunnel.pump()
        self.assertTrue(self.agent.visitors[-1].received.endswith(b"still here"))

    def test_targets(self) -> None:
        """Nobody names targets behind an agent of go-tunnel's."""
        endpoint = self.session().targetEndpoint(Target("db.example", 5432), Visitor(None, None))
        dialled = endpoint.connect(made(Peer()))
        self.assertIs(self.failureResultOf(dialled, DialFailed).value.kind, DialFailure.DENIED)

    def test_moved(self) -> None:
        """What visits moved is added up."""
        session = self.session()
        session.moved(1, 20)
        session.moved(2, 30)
        facts = session.facts()
        self.assertEqual((facts.up, facts.down, facts.streams), (3, 50, 0))

    def test_codes(self) -> None:
        """A session that is ended tells the agent why, on its control stream."""
        self.session().end(SessionError.REVOKED, "No more of this.")
        self.tunnel.pump()
        self.assertEqual(self.agent.heard[-1], {"type": "ack", "ok": False, "error": "No more of this."})
        self.tunnel.wait(6)
        self.assertEqual(len(self.agent.ended), 1)

    def test_endedSessionsHoldNothing(self) -> None:
        """What a session held is free when it is ended, and not when its carrier is gone; it ends once."""
        session = self.session()
        self.assertTrue(session.facts().places)
        session.end(SessionError.REVOKED, "No more of this.")
        session.end(SessionError.REVOKED, "Nor of that.")
        self.assertEqual(session.facts().places, [])
        visitor = session.endpointFor(next(iter(session.services.values())), Visitor(None, None)).connect(made(Peer()))
        self.assertIs(self.failureResultOf(visitor, DialFailed).value.kind, DialFailure.UNAVAILABLE)
        self.tunnel.pump()
        self.assertEqual([each.get("error") for each in self.agent.heard[-2:]], [None, "No more of this."])


class ComingAndGoingTests(GoTunnelTests):
    """Agents that come, answer, fall silent, break rules and leave, as chance has it."""

    NAMES = tuple(f"h{number}.example.com" for number in range(8))

    def setUp(self) -> None:
        super().setUp()
        self.random = Random(11)
        self.agents: list[ScriptedAgent] = []

    def step(self) -> None:
        """Somebody does something."""
        chance = self.random.random()
        if chance < 0.3 or not self.agents:
            names = self.random.sample(self.NAMES, self.random.randint(1, 3))
            self.agents.append(self.tunnel.theirs(dict.fromkeys(names, "tcp")))
            return
        agent = self.random.choice(self.agents)
        if agent.ended or agent.control.reason is not None:
            self.agents.remove(agent)
        elif chance < 0.7:
            agent.pong()
        elif chance < 0.8:
            agent.mux.abortConnection()
        elif chance < 0.9:
            agent.link.cut()
        else:
            agent.say(b"nonsense")

    def test_names(self) -> None:
        """At any time each name has one agent, and that agent is attached; at the end nothing is left of all of them."""
        for _ in range(300):
            self.step()
            self.tunnel.pump()
            self.tunnel.wait(self.random.choice((0, 0.25, 1, 3)))
            for route in self.tunnel.registry.routes.values():
                (session,) = route.replicas
                self.assertIn(session, self.tunnel.door.sessions)
        self.tunnel.wait(60)
        self.assertEqual((self.tunnel.names(), self.tunnel.door.sessions), ([], set()))
        self.assertEqual(self.tunnel.clock.getDelayedCalls(), [])
