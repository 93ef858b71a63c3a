"""Tests for a relay and parts of ours, which speak the agent protocol to one another, beside others that do not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, Prepared
from gateway.net.websocketendpoints import WebSocketClientEndpoint
from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.accessclientendpoint import AccessTarget
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.wire.agentcontrol import SUBPROTOCOL, Service
from gateway.wire.datagrams import LENGTH
from gateway.wire.networkrelay import AGENT_PATH, CLIENT_PATH
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.sides import Peer, pattern
from tests.service.networkrelay.relayfixture import CREDENTIALS, Relay, RelayTests

SSH = AccessTarget("box", "10.0.0.1", 22, "tcp")
DNS = AccessTarget("box", "10.0.0.1", 53, "udp")


class NegotiationTests(RelayTests):
    """Which dialect is spoken is settled when the WebSocket opens."""

    def test_offered(self) -> None:
        """Who offers the agent protocol is answered with it, and with bytes; among other offers, too."""
        for path in (AGENT_PATH, CLIENT_PATH):
            for offer in (SUBPROTOCOL, f"chat, {SUBPROTOCOL}"):
                peer = self.relay.come(path, Sec_WebSocket_Protocol=offer)
                assert peer.socket.answer is not None
                self.assertEqual(peer.socket.answer.headers["sec-websocket-protocol"], SUBPROTOCOL)
                peer.write(b"{}")
                self.assertEqual(peer.closed and peer.closed[0], 1003)

    def test_otherOffers(self) -> None:
        """Who offers something else alone is spoken to in messages."""
        peer = self.relay.come(CLIENT_PATH, Sec_WebSocket_Protocol="chat")
        assert peer.socket.answer is not None
        self.assertNotIn("sec-websocket-protocol", peer.socket.answer.headers)
        peer.write(b"{}")
        self.assertEqual(peer.kinds, ["error"])


class OwnTests(RelayTests):
    """Agents and clients of ours at a relay of ours."""

    def test_connection(self) -> None:
        """A connection is a stream all the way: bytes go both ways, and each direction ends by itself."""
        self.relay.own()
        peer, connecting = self.relay.access(SSH)
        origin = self.relay.originAccepts()
        self.successResultOf(connecting)
        self.assertEqual(self.relay.asked, [("10.0.0.1", 22, False)])
        peer.transport.write(b"hello")
        peer.transport.loseWriteConnection()
        self.relay.pump()
        self.assertEqual((bytes(origin.received), origin.ended), (b"hello", True))
        origin.transport.write(pattern(1_000_000))
        origin.transport.loseConnection()
        self.relay.pump()
        self.assertEqual((bytes(peer.received), peer.ended), (pattern(1_000_000), True))

    def test_datagrams(self) -> None:
        """With udp, datagrams travel with their lengths."""
        self.relay.own()
        peer, connecting = self.relay.access(DNS)
        origin = self.relay.originAccepts()
        self.successResultOf(connecting)
        self.assertEqual(self.relay.asked, [("10.0.0.1", 53, True)])
        peer.transport.write(LENGTH.pack(5) + b"query" + LENGTH.pack(0))
        self.relay.pump()
        self.assertEqual(origin.received, LENGTH.pack(5) + b"query" + LENGTH.pack(0))

    def test_datagramsEnd(self) -> None:
        """A connection of datagrams ends when there are none for a while, as nobody says that it is over."""
        self.relay.own()
        peer, connecting = self.relay.access(DNS)
        self.relay.originAccepts()
        self.successResultOf(connecting)
        self.relay.wait(self.relay.visitors.datagramIdle * 1.5)
        self.assertIsNotNone(peer.reason)

    def test_addresses(self) -> None:
        """Targets are addresses and names, and agents have any names."""
        self.relay.own("My_Box", "another secret")
        for host in ("fd00::1", "db.lan"):
            self.relay.access(AccessTarget("My_Box", host, 22, "tcp"))
            self.assertEqual(self.relay.asked.pop(), (host, 22, False))

    def assertFails(self, target: AccessTarget, details: str, secret: str = "client secret") -> None:
        """Assert that a client is told this."""
        _, connecting = self.relay.access(target, secret)
        error = self.failureResultOf(connecting, DialFailed).value
        self.assertIn(details, error.details)

    def test_refused(self) -> None:
        """What is wrong is said in the same words as in messages."""
        self.assertFails(SSH, "Invalid access client secret", "wrong")
        self.assertFails(SSH, "Agent not registered")
        self.relay.own()
        self.assertFails(SSH, "Invalid access client secret", "agent secret")
        self.assertEqual(self.relay.asked, [])

    def test_rules(self) -> None:
        """A client is held to its rules for each connection, and an agent to its own."""
        self.relay.own()
        self.relay.write(
            {
                **CREDENTIALS,
                "access-clients": {"alice": {"secret": "a", "agents": ["box"], "targets": ["allow 10.0.0.1:22"]}},
                "edge-agent-targets": {"box": ["allow 10.0.0.0/8"]},
            }
        )
        self.relay.wait(2.0)
        self.assertFails(DNS, "not allowed", "a")
        self.assertFails(AccessTarget("box", "192.0.2.1", 22, "tcp"), "not allowed")
        self.relay.access(SSH, "a")
        self.assertEqual(self.relay.asked, [("10.0.0.1", 22, False)])

    def test_isNoAgent(self) -> None:
        """An access client serves nothing, and no name leads to it, whatever it registers as."""
        request = WebSocketRequest("relay.example", CLIENT_PATH, subprotocols=(SUBPROTOCOL,))
        ours = self.relay.agent(
            "box",
            secret="client secret",
            carrier=WebSocketClientEndpoint(self.relay.clock, self.relay.network, request),
            services=(Service(key="web", kind="http", hostnames=("app.example.com",)),),
        )
        ours.start()
        self.relay.acceptOwn()
        self.relay.wait(1.0)
        self.assertEqual(len(self.relay.relay.clients), 1)
        self.assertEqual(list(self.relay.registry.replicas("box")), [])
        self.assertEqual(self.relay.registry.routes, {})
        self.assertEqual(self.relay.relay.clients.door.registry.routes, {})

    def test_revoked(self) -> None:
        """One whose secret is taken out of the file is cut off."""
        self.relay.own()
        peer, _ = self.relay.access(SSH)
        self.relay.originAccepts()
        self.relay.write({**CREDENTIALS, "access-client-secrets": ["another"]})
        self.relay.wait(2.0)
        self.assertIsNotNone(peer.reason)
        self.assertEqual(len(self.relay.relay.clients), 0)
        self.assertEqual(len(list(self.relay.registry.replicas("box"))), 1)


class MixedTests(RelayTests):
    """Either dialect reaches the other."""

    def test_oldClient(self) -> None:
        """An access client of http-network-relay's reaches what is behind an agent of ours."""
        self.relay.own()
        client = self.relay.accessClient()
        origin = self.relay.originAccepts()
        self.assertEqual(client.kinds, ["start_ok"])
        client.send(b"hello")
        origin.transport.write(b"world")
        self.relay.pump()
        self.assertEqual((bytes(origin.received), client.payload), (b"hello", b"world"))
        origin.transport.loseConnection()
        self.relay.pump()
        self.assertEqual(client.closed, (1000, ""))

    def test_oldClientIsReset(self) -> None:
        """It is told of a target that broke off."""
        self.relay.own()
        client = self.relay.accessClient()
        origin = self.relay.originAccepts()
        origin.transport.abortConnection()
        self.relay.pump()
        self.assertEqual((client.kinds, client.closed), (["start_ok", "error"], (1011, "")))

    def test_oldAgent(self) -> None:
        """A client of ours reaches what is behind an agent of http-network-relay's, but not by UDP."""
        agent = self.relay.edgeAgent()
        peer, connecting = self.relay.access(SSH)
        connection = agent.accept()
        self.successResultOf(connecting)
        peer.transport.write(b"hello")
        agent.send(b"world", connection_id=connection)
        self.assertEqual((agent.payload, bytes(peer.received)), (b"hello", b"world"))
        agent.say(kind="connection_reset", connection_id=connection, message="Connection closed by target")
        self.assertTrue(peer.ended)
        _, connecting = self.relay.access(DNS)
        self.assertIn("without UDP", self.failureResultOf(connecting, DialFailed).value.details)

    def test_otherAgents(self) -> None:
        """Access clients of both dialects reach agents of the gateway's that let them, and no others."""
        self.relay.attached("alice")
        (session,) = self.relay.registry.replicas("alice")
        client = self.relay.accessClient("alice")
        self.assertIn("lets nobody name targets", client.heard[0]["message"])
        assert IAgentSession.providedBy(session)
        session.takesTargets = True
        client = self.relay.accessClient("alice")
        origin = self.relay.originAccepts()
        self.assertEqual(client.kinds, ["start_ok"])
        self.assertEqual(self.relay.preambles[-1].to, ("10.0.0.1", 22))
        peer, connecting = self.relay.access(AccessTarget("alice", "10.0.0.1", 22, "tcp"))
        self.relay.originAccepts().transport.write(b"hello")
        self.relay.pump()
        self.successResultOf(connecting)
        self.assertEqual(peer.received, b"hello")
        self.assertEqual(origin.received, b"")

    def test_otherDoors(self) -> None:
        """An agent of ours that is attached here is reached by name from other doors."""
        self.relay.own()
        peer = Peer()
        endpoint = self.relay.destinations.endpointFor(Target("db.lan.via.box.agent", 5432), Visitor(None, None))
        assert endpoint is not None
        endpoint.connect(Prepared(peer))
        self.relay.pump()
        self.relay.originAccepts().transport.write(b"hello")
        self.relay.pump()
        self.assertEqual(self.relay.asked, [("db.lan", 5432, False)])
        self.assertEqual(peer.received, b"hello")

    def test_takesOver(self) -> None:
        """An agent that was moved to ours takes its name over from the old one, and the other way round."""
        old = self.relay.edgeAgent()
        self.relay.own()
        self.assertIsNotNone(old.closed)
        self.relay.accessClient()
        self.assertEqual(len(self.relay.asked), 1)
        again = self.relay.edgeAgent()
        self.relay.accessClient()
        self.assertEqual((len(self.relay.asked), again.kinds), (1, ["initiate_connection"]))


class StartTests(SynchronousTestCase):
    """A relay needs its credentials at the start."""

    def test_unusable(self) -> None:
        """What is wrong with them is one line that names the file."""
        for text, problem in (("{", "not JSON"), ('{"edge-agents": []}', "Expected `object`")):
            error = self.assertRaises(ConfigurationError, Relay, text)
            self.assertRegex(str(error), rf"credentials.json: .*{problem}")
