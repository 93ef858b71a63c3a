"""Tests for L{gateway.service.networkrelay.agentvisit} and L{gateway.service.networkrelay.session}: transcripts."""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol

from gateway.domain.targets import Target
from gateway.service.networkrelay.door import RelayDoorSettings
from gateway.service.networkrelay.session import JsonAgentSettings
from gateway.service.server.attached import Visitor
from gateway.wire.networkrelay import AGENT_PATH, MAX_START
from tests.net.sides import pattern
from tests.service.networkrelay.relayfixture import NONSENSE, JsonPeer, Relay, RelayTests
from tests.websocketclient import BINARY


class AgentTests(RelayTests):
    """An edge agent attaches, and is refused."""

    def assertRefused(self, agent: JsonPeer, reason: str, code: int = 1008) -> None:
        """Assert that it was told nothing but a Close, and its connection ended."""
        self.assertEqual((agent.heard, agent.closed), ([], (code, reason)))
        self.relay.pump()
        self.assertIsNotNone(agent.reason)

    def test_attached(self) -> None:
        """An agent with the right secret is an agent of the gateway's, and hears nothing."""
        self.record()
        agent = self.relay.edgeAgent(version="0.3", other=1)
        self.assertEqual((agent.heard, agent.closed), ([], None))
        (session,) = self.relay.registry.replicas("box")
        (attached,) = self.logged("agent.attached")
        self.assertEqual((attached["agent"], attached["carrier"]), ("box", "websocket, network-relay"))
        facts = session.facts()  # type: ignore[attr-defined]
        self.assertEqual((facts.peer, facts.streams), ("192.0.2.7", 0))
        agent.close()
        self.assertEqual(list(self.relay.registry.replicas("box")), [])
        self.assertEqual(len(self.logged("agent.detached")), 1)

    def test_refused(self) -> None:
        """One with a wrong secret, or a name that is not in the file, is closed, and the log has one line."""
        for name, secret in (("box", "wrong"), ("nobody", "agent secret"), ("box", "another secret"), ("", "")):
            self.record()
            self.assertRefused(
                self.relay.edgeAgent(name, secret),
                "The gateway does not know this agent, or its credential is not good.",
            )
            self.assertEqual(len(self.logged("agent.refused")), 1)
            self.assertNotIn(secret or "?", str(self.logged("agent.refused")).replace("the credential", ""))

    def test_oddName(self) -> None:
        """An agent whose name is no label goes by one."""
        self.relay.edgeAgent("My_Box", "another secret")
        self.assertEqual(len(list(self.relay.registry.replicas("my-box-3485ebdc"))), 1)
        client = self.relay.accessClient("My_Box")
        self.assertEqual(client.heard, [])

    def test_takesOver(self) -> None:
        """An agent that is back has its name at once, and the older session ends."""
        before = self.relay.edgeAgent()
        client = self.relay.accessClient()
        before.accept()
        after = self.relay.edgeAgent()
        self.assertEqual(before.closed, (1008, "A newer session of the same agent has taken over."))
        self.assertEqual(client.closed and client.closed[0], 1011)
        self.relay.accessClient()
        self.assertEqual(after.kinds, ["initiate_connection"])
        before.close()
        self.assertEqual(len(list(self.relay.registry.replicas("box"))), 1)

    def test_late(self) -> None:
        """Who says nothing within the time is closed."""
        agent = self.relay.come(AGENT_PATH)
        self.relay.wait(9.75)
        self.assertIsNone(agent.closed)
        self.relay.wait(0.25)
        self.assertRefused(agent, "No agent registered in time.")

    def test_nonsenseFirst(self) -> None:
        """Whoever begins with something else is told what is wrong with it, once, and the relay goes on."""
        for message in NONSENSE:
            self.record()
            agent = self.relay.come(AGENT_PATH)
            agent.write(message)
            assert agent.closed is not None, message
            self.assertEqual(agent.closed[0], 1008)
            self.assertIn("The message cannot be read", agent.closed[1])
            self.assertEqual(len(self.events), 1, self.events)
            self.assertEqual(self.events[0]["code"], "invalid-message")
        agent = self.relay.come(AGENT_PATH)
        agent.write(b"{}", BINARY)
        self.assertEqual(agent.closed, (1008, "A message is binary, and all are text here."))
        self.relay.edgeAgent()
        self.assertEqual(len(list(self.relay.registry.replicas("box"))), 1)

    def test_tooLongFirst(self) -> None:
        """Before it is known who comes a message is shorter than later; one that is not is in the log, too."""
        self.record()
        agent = self.relay.come(AGENT_PATH)
        agent.write(b" " * (MAX_START + 1))
        self.assertEqual(agent.closed and agent.closed[0], 1009)
        (event,) = self.events
        self.assertEqual((event["event"], event["code"]), ("agent.refused", "lost"))
        self.assertIn(f"exceeds payload limit of {MAX_START}", event["details"])
        agent, client, connection = self.relay.joined()
        agent.say(kind="tcp_data", connection_id=connection, data_base64="", more="x" * MAX_START)
        agent.send(b"hello", connection_id=connection)
        self.assertEqual(client.payload, b"hello")

    def test_nonsenseLater(self) -> None:
        """So is one that says something wrong later; its connections end."""
        for message in NONSENSE:
            agent, client, _ = self.relay.joined()
            self.record()
            agent.write(message)
            assert agent.closed is not None, message
            self.assertIn("The message cannot be read", agent.closed[1])
            self.assertEqual(client.kinds, ["start_ok", "error"])
            self.assertEqual(len(self.logged("agent.ended")), 1)
            self.assertEqual(list(self.relay.registry.replicas("box")), [])

    def test_keepAlive(self) -> None:
        """An agent hears every 30 seconds that the relay lives, unless it is one that dies of that."""
        agent = self.relay.edgeAgent()
        old = self.relay.edgeAgent(
            "My_Box", "another secret", last_error="... Input tag 'keep_alive' found using 'kind' does not match ..."
        )
        for _ in range(3):
            self.relay.wait(20.0)
            for each in (agent, old):
                each.say(kind="keep_alive")
        self.assertEqual((agent.kinds, old.kinds), (["keep_alive"] * 2, []))

    def test_silence(self) -> None:
        """An agent that says nothing for 45 seconds is gone; any message counts."""
        agent = self.relay.edgeAgent()
        self.relay.wait(40.0)
        agent.say(kind="connection_reset", connection_id="old", message="x")
        self.relay.wait(44.75)
        self.assertIsNone(agent.reason)
        self.record()
        self.relay.wait(0.25)
        self.assertIsNotNone(agent.reason)
        self.assertEqual([each["code"] for each in self.logged("agent.ended")], ["ping-timeout"])

    def test_wrongSecretsBan(self) -> None:
        """Whoever tries too many secrets is shut out, but not all who come by one proxy."""
        self.relay.door.bans._threshold = 3
        for _ in range(3):
            self.relay.edgeAgent(secret="wrong")
        agent = self.relay.edgeAgent()
        self.assertEqual(agent.closed and agent.closed[1][:14], "Too many wrong")
        for _ in range(5):
            peer = self.relay.come(AGENT_PATH, host="127.0.0.1")
            peer.say(kind="start", name="box", secret="wrong")
        peer = self.relay.come(AGENT_PATH, host="127.0.0.1")
        peer.say(kind="start", name="box", secret="agent secret")
        self.assertIsNone(peer.closed)

    def test_proxy(self) -> None:
        """A proxy on this machine says whose address counts."""
        peer = self.relay.come(AGENT_PATH, host="127.0.0.1", X_Forwarded_For="192.0.2.1, 203.0.113.9")
        peer.say(kind="start", name="box", secret="agent secret")
        (session,) = self.relay.door.sessions
        self.assertEqual(session.facts().peer, "203.0.113.9")
        peer = self.relay.come(AGENT_PATH, X_Forwarded_For="203.0.113.9")
        peer.say(kind="start", name="My_Box", secret="another secret")
        self.assertIn("192.0.2.7", [each.facts().peer for each in self.relay.door.sessions])


class _Pieces(Protocol):
    """Records what comes, as it comes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Record it."""
        self.pieces.append(data)


class SlownessTests(RelayTests):
    """Who does not read holds back who sends, and nobody for ever."""

    def test_slowClient(self) -> None:
        """An agent that sends to a client who does not read is not read itself, until the client reads again."""
        agent, client, connection = self.relay.joined()
        client.link.bToA.stalled = True
        data = pattern(60_000)
        for _ in range(50):
            agent.send(data, connection_id=connection)
        self.assertTrue(agent.link.b.readingPaused)
        self.assertGreater(agent.link.aToB.bufferedBytes, 40 * 80_000)
        self.assertLess(client.link.bToA.highWater, 400_000)
        self.relay.wait(30.0)  # it holds up nobody
        client.link.bToA.stalled = False
        self.relay.pump()
        self.assertEqual(client.payload, data * 50)
        self.assertFalse(agent.link.b.readingPaused)
        self.assertIsNone(client.closed)

    def test_empty(self) -> None:
        """Payload of no bytes is passed over: nothing of it is kept for a connection that is not there yet."""
        agent = self.relay.edgeAgent()
        (session,) = self.relay.registry.replicas("box")
        peer = _Pieces()
        endpoint = session.targetEndpoint(Target("10.0.0.1", 22), Visitor(None, None))  # type: ignore[attr-defined]
        connecting = endpoint.connect(Factory.forProtocol(lambda: peer))
        self.relay.pump()
        for _ in range(3):
            agent.send(b"", connection_id=agent.connection)
        agent.send(b"hello", connection_id=agent.connection)
        agent.accept()
        self.assertIs(self.successResultOf(connecting), peer)
        self.assertEqual(peer.pieces, [b"hello"])

    def test_slowAgent(self) -> None:
        """A client that sends to an agent who does not read is not read either."""
        agent, client, _ = self.relay.joined()
        agent.link.bToA.stalled = True
        data = pattern(60_000)
        for _ in range(50):
            client.send(data)
        self.assertTrue(client.link.b.readingPaused)
        self.assertLess(agent.link.bToA.highWater, 400_000)
        agent.link.bToA.stalled = False
        self.relay.pump()
        self.assertEqual(agent.payload, data * 50)

    def test_holdsUpOthers(self) -> None:
        """One that stops all others is cut off after a while, and they go on."""
        agent, stalled, connection = self.relay.joined()
        other = self.relay.accessClient()
        another = agent.accept()
        stalled.link.bToA.stalled = True
        for _ in range(10):
            agent.send(bytes(60_000), connection_id=connection)
        agent.send(b"for the other", connection_id=another)
        self.relay.wait(14.75)
        self.assertEqual(other.payload, b"")
        self.record()
        self.relay.wait(0.25)
        self.assertEqual(other.payload, b"for the other")
        self.assertEqual(len(self.logged("networkrelay.stalled")), 1)
        self.assertEqual(agent.heard[-1]["kind"], "connection_close")
        self.assertIn("did not read", agent.heard[-1]["message"])
        stalled.link.bToA.stalled = False
        self.relay.pump()
        self.assertEqual(stalled.kinds[-1], "error")
        self.assertEqual(stalled.closed, (1011, ""))

    def test_comesToStalled(self) -> None:
        """Somebody who comes when all is held up waits no longer than that."""
        agent, stalled, connection = self.relay.joined()
        stalled.link.bToA.stalled = True
        for _ in range(10):
            agent.send(bytes(60_000), connection_id=connection)
        self.relay.wait(20.0)
        other = self.relay.accessClient()
        agent.accept()
        self.assertEqual(other.heard, [])
        self.relay.wait(15.0)
        self.assertEqual(other.kinds, ["start_ok"])

    def test_silenceIsOurs(self) -> None:
        """An agent that is not read is not taken for silent."""
        agent, stalled, connection = self.relay.joined()
        stalled.link.bToA.stalled = True
        for _ in range(10):
            agent.send(bytes(60_000), connection_id=connection)
        self.relay.wait(55.0)
        self.assertIsNone(agent.closed)
        self.assertEqual(len(list(self.relay.registry.replicas("box"))), 1)

    def test_tooMany(self) -> None:
        """An agent has no more connections than it may."""
        self.relay = Relay(settings=RelayDoorSettings(json=JsonAgentSettings(streams=2)))
        agent = self.relay.edgeAgent()
        clients = [self.relay.accessClient() for _ in range(3)]
        self.assertEqual([client.kinds for client in clients], [[], [], ["error"]])
        self.assertIn("has 2 streams already", clients[2].heard[0]["message"])
        clients[0].close()
        self.assertIsNone(self.relay.accessClient().closed)
        self.assertIsNone(agent.closed)
