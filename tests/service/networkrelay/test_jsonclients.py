"""Tests for L{gateway.service.networkrelay.clientvisit}: transcripts."""

from __future__ import annotations

from gateway.wire.networkrelay import CLIENT_PATH, MAX_DATA, MAX_START
from tests.net.sides import pattern
from tests.service.networkrelay.relayfixture import NONSENSE, JsonPeer, RelayTests


class ClientTests(RelayTests):
    """An access client is connected, or told why not."""

    def assertRefused(self, client: JsonPeer, message: str, code: int = 1000) -> None:
        """Assert that it was told an error, and closed."""
        self.assertEqual(client.heard, [{"kind": "error", "message": message}])
        self.assertEqual(client.closed, (code, ""))
        self.relay.pump()
        self.assertIsNotNone(client.reason)

    def test_connected(self) -> None:
        """The agent is asked for what the client asks for, and bytes go both ways."""
        agent, client = self.relay.edgeAgent(), self.relay.accessClient(host="DB.lan", port=5432)
        connection = agent.connection
        self.assertEqual(
            agent.heard,
            [
                {
                    "kind": "initiate_connection",
                    "target_ip": "db.lan",
                    "target_port": 5432,
                    "protocol": "tcp",
                    "connection_id": connection,
                }
            ],
        )
        self.assertEqual(client.heard, [])
        agent.accept()
        self.assertEqual(client.kinds, ["start_ok"])
        client.send(b"question")
        agent.send(b"answer", connection_id=connection)
        self.assertEqual((agent.payload, client.payload), (b"question", b"answer"))
        self.assertEqual({each["connection_id"] for each in client.heard}, {client.heard[0]["connection_id"]})

    def test_ipv6(self) -> None:
        """A target may be an address of IPv6."""
        agent = self.relay.edgeAgent()
        self.relay.accessClient(host="fd00::1")
        self.assertEqual(agent.heard[0]["target_ip"], "fd00::1")

    def test_refused(self) -> None:
        """What is wrong is said in the words of the original."""
        self.record()
        self.assertRefused(self.relay.accessClient(secret="wrong"), "Invalid access client secret", 1008)
        self.assertEqual(len(self.logged("client.ended")), 1)
        self.assertRefused(self.relay.accessClient("nobody"), "Agent not registered")
        self.assertRefused(self.relay.accessClient("a b"), "Agent not registered")
        agent = self.relay.edgeAgent()
        client = self.relay.accessClient()
        agent.say(kind="initiate_connection_error", connection_id=agent.connection, message="[Errno 111] refused")
        self.assertRefused(client, "Error initiating connection: [Errno 111] refused")
        client = self.relay.accessClient()
        agent.say(kind="connection_reset", connection_id=agent.connection, message="not this one")
        self.assertRefused(client, "Error initiating connection: not this one")
        self.assertEqual(len(self.logged("client.failed")), 4)
        self.assertRefused(
            self.relay.accessClient(host="no host!"),
            "Error initiating connection: The host 'no host!' holds ' ', which no host may hold.",
        )
        self.assertRefused(
            self.relay.accessClient(protocol="udp"),
            "Error initiating connection: Unsupported protocol: 'udp' needs the access-client of txgateway.",
        )
        self.assertEqual(agent.kinds, ["initiate_connection"] * 2)

    def test_noAnswer(self) -> None:
        """An agent that does not answer is waited for until the dial's time is up, and told that nobody waits."""
        agent, client = self.relay.edgeAgent(), self.relay.accessClient()
        limit = self.relay.visitors.settings.dialTimeout
        self.relay.wait(limit - 0.25)
        self.assertEqual(client.heard, [])
        self.relay.wait(0.25)
        self.assertRefused(client, "Error initiating connection: There was no answer within 20 seconds.")
        self.assertEqual(agent.kinds, ["initiate_connection", "connection_close"])
        agent.accept()
        self.assertEqual(agent.kinds, ["initiate_connection", "connection_close"])

    def test_leavesWhileDialling(self) -> None:
        """A client that leaves is not waited for."""
        agent, client = self.relay.edgeAgent(), self.relay.accessClient()
        client.close()
        self.assertEqual(agent.kinds, ["initiate_connection", "connection_close"])
        self.assertEqual(len(self.relay.relay.clients), 0)

    def test_late(self) -> None:
        """Who says nothing within the time is told so."""
        client = self.relay.come(CLIENT_PATH)
        self.relay.wait(10.0)
        self.assertRefused(client, "The access client did not say in time where to connect it.", 1008)

    def test_nonsense(self) -> None:
        """Whoever says something wrong, at any step, is told what; the log has a line, and the relay goes on."""
        for message in NONSENSE:
            self.record()
            client = self.relay.come(CLIENT_PATH)
            client.write(message)
            self.assertEqual(client.kinds, ["error"])
            self.assertIn("The message cannot be read", client.heard[0]["message"])
            self.assertEqual(client.closed, (1008, ""))
            self.assertEqual([each["event"] for each in self.events], ["client.ended"])
        agent = self.relay.edgeAgent()
        for message in (each for each in NONSENSE if b"tcp_data" in each or b"start" in each or each == b"{"):
            client = self.relay.accessClient()
            agent.accept()
            client.write(message)
            self.assertEqual(client.kinds, ["start_ok", "error"])
            self.assertEqual(agent.kinds[-1], "connection_close")
            client = self.relay.accessClient()
            client.write(message)  # while it is dialled
            self.assertEqual(client.kinds, ["error"])
            self.assertEqual(agent.kinds[-1], "connection_close")
        self.assertEqual(len(self.relay.relay.clients), 0)

    def test_targetEnds(self) -> None:
        """The end of the target is that of the client, with all that came before, and without an error."""
        agent, client, connection = self.relay.joined()
        agent.send(b"bye", connection_id=connection)
        agent.say(kind="connection_reset", connection_id=connection, message="Connection closed by target")
        self.assertEqual((client.payload, client.closed), (b"bye", (1000, "")))
        self.assertEqual(client.kinds, ["start_ok", "tcp_data"])
        agent.send(b"late", connection_id=connection)
        agent.say(kind="connection_reset", connection_id=connection, message="again")
        self.assertIsNone(agent.closed)

    def test_targetIsReset(self) -> None:
        """A reset is told."""
        agent, client, connection = self.relay.joined()
        agent.say(kind="connection_reset", connection_id=connection, message="Connection reset while writing data")
        self.assertEqual(client.kinds, ["start_ok", "error"])
        self.assertEqual(client.closed, (1011, ""))

    def test_agentIsLost(self) -> None:
        """So is an agent that is gone, before it answered and after."""
        agent, client, _ = self.relay.joined()
        waiting = self.relay.accessClient()
        agent.transport.abortConnection()
        self.relay.pump()
        self.assertEqual(client.kinds, ["start_ok", "error"])
        self.assertEqual(client.closed, (1011, ""))
        self.assertRefused(waiting, "Error initiating connection: The agent went away.")

    def test_clientEnds(self) -> None:
        """When the client closes, the agent is told; when it is lost, too."""
        for close in (JsonPeer.close, lambda client: client.transport.abortConnection()):
            agent, client, connection = self.relay.joined()
            close(client)
            self.relay.pump()
            self.assertEqual(agent.heard[-1]["kind"], "connection_close")
            self.assertEqual(agent.heard[-1]["connection_id"], connection)

    def test_manyAtOnce(self) -> None:
        """Connections through one agent are kept apart."""
        agent = self.relay.edgeAgent()
        pairs = []
        for _ in range(20):
            client = self.relay.accessClient()
            pairs.append((client, agent.accept()))
        for number, (_, connection) in enumerate(pairs):
            agent.send(f"{number}".encode(), connection_id=connection)
        self.assertEqual([client.payload for client, _ in pairs], [f"{number}".encode() for number in range(20)])

    def test_large(self) -> None:
        """Payload of any size gets through, in messages that are not too long for the other end."""
        agent, client, connection = self.relay.joined()
        data = pattern(150_000)
        client.send(data)
        self.assertEqual(agent.payload, data)
        agent.send(data, connection_id=connection)
        self.assertEqual(client.payload, data)
        for peer in (agent, client):
            sizes = [len(each["data_base64"]) for each in peer.heard if each["kind"] == "tcp_data"]
            self.assertLessEqual(max(sizes), (MAX_DATA + 2) // 3 * 4)

    def test_tooLongFirst(self) -> None:
        """Before it is known who comes a message is shorter than later; one that is not is in the log, too."""
        self.record()
        client = self.relay.come(CLIENT_PATH)
        client.write(b" " * (MAX_START + 1))
        self.assertEqual(client.closed and client.closed[0], 1009)
        (event,) = self.events
        self.assertEqual((event["event"], event["code"]), ("client.ended", "lost"))
        self.assertIn(f"exceeds payload limit of {MAX_START}", event["details"])
        agent, client, _ = self.relay.joined()
        client.send(b"hello", more="x" * MAX_START)
        self.assertEqual(agent.payload, b"hello")

    def test_stopping(self) -> None:
        """A relay that stops tells its clients and its agents."""
        agent, client, _ = self.relay.joined()
        self.relay.relay.close()
        self.relay.pump()
        self.assertEqual(client.heard[-1], {"kind": "error", "message": "The relay is shutting down."})
        self.assertEqual(client.closed, (1001, ""))
        for session in tuple(self.relay.door.sessions):
            session.end("shutting-down", "The gateway is shutting down.")
        self.relay.pump()
        self.assertEqual(agent.closed, (1001, "The gateway is shutting down."))
