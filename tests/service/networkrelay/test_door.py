"""Tests for L{gateway.service.networkrelay.door}, and for what a relay is within its gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.identity import Identity
from gateway.domain.limits import Admission
from gateway.domain.targets import Target, parseRuleLine
from gateway.net.dial import DialFailed, Prepared
from gateway.service.networkrelay.door import RelayDoorSettings
from gateway.service.networkrelay.relay import NetworkRelay
from gateway.service.networkrelay.session import LINGER
from gateway.service.server.attached import Visitor
from gateway.service.tabby.options import TabbyOptions
from gateway.service.tabby.service import IReactor, TabbyService
from gateway.wire.networkrelay import AGENT_PATH, CLIENT_PATH
from tests.net.sides import Peer
from tests.service.networkrelay.relayfixture import CREDENTIALS, JsonPeer, RelayTests
from tests.service.server.doorsfixture import OWN, Doors
from tests.websocketclient import TEXT, WebSocketClient


class PageTests(RelayTests):
    """Somebody who wants no WebSocket gets a short page."""

    def ask(self, head: bytes) -> bytes:
        """What is answered to a request."""
        peer = Peer()
        self.relay.join(self.relay.connect(peer))
        peer.transport.write(head + b"\r\nHost: relay\r\n\r\n")
        self.relay.pump()
        return bytes(peer.received)

    def test_pages(self) -> None:
        """What it is, whether it is up, and what is no page."""
        for path, status in (("/", 200), ("/healthz", 200), (AGENT_PATH, 426), (CLIENT_PATH, 426), ("/x", 404)):
            self.assertIn(f"HTTP/1.1 {status} ".encode(), self.ask(f"GET {path} HTTP/1.1".encode()))
        self.assertIn(b"HTTP/1.1 405 ", self.ask(b"POST / HTTP/1.1"))
        self.relay.door.draining = True
        self.assertIn(b"HTTP/1.1 503 ", self.ask(b"GET /healthz HTTP/1.1"))

    def test_nobody(self) -> None:
        """A WebSocket opens at two paths, and to no page."""
        self.assertEqual(self.relay.come("/agent").status, 404)
        for path in (AGENT_PATH, CLIENT_PATH):
            self.assertEqual(self.relay.come(path, Origin="https://evil.example").status, 403)
            peer = self.relay.come(path)
            self.assertEqual(peer.status, 101)
            assert peer.socket.answer is not None
            self.assertNotIn("sec-websocket-protocol", peer.socket.answer.headers)

    def test_draining(self) -> None:
        """A relay that stops takes nobody."""
        self.relay.door.draining = self.relay.relay.clients.door.draining = True
        for path in (AGENT_PATH, CLIENT_PATH):
            self.assertEqual(self.relay.come(path).status, 503)


class OtherDoorTests(RelayTests):
    """An agent that came here is one of the gateway's."""

    def dial(self, name: str, port: int, *, isDatagram: bool = False) -> tuple[Peer, list[Any]]:
        """A visitor of another door goes to a name."""
        peer = Peer()
        outcome: list[Any] = []
        endpoint = self.relay.destinations.endpointFor(Target(name, port), Visitor(None, None, isDatagram=isDatagram))
        assert endpoint is not None
        dialled: Deferred[Any] = endpoint.connect(Factory.forProtocol(lambda: peer))
        dialled.addBoth(outcome.append)
        self.relay.pump()
        return peer, outcome

    def test_target(self) -> None:
        """Names of the gateway's lead to it."""
        agent = self.relay.edgeAgent()
        for name, host in (("box.agent", "127.0.0.1"), ("db.lan.via.box.agent", "db.lan")):
            peer, outcome = self.dial(name, 22)
            self.assertEqual(agent.heard[-1]["target_ip"], host)
            connection = agent.accept()
            self.assertEqual(outcome, [peer])
            agent.send(b"SSH-2.0", connection_id=connection)
            self.assertEqual(peer.received, b"SSH-2.0")
            peer.transport.loseConnection()
            self.relay.pump()
            self.assertEqual(agent.kinds[-1], "connection_close")

    def test_tabby(self) -> None:
        """A user of Tabby Web's reaches what is behind it, where their token's rules allow that."""
        agent = self.relay.edgeAgent()
        options = TabbyOptions()
        options.parseOptions(["--state", self.mktemp()])
        tabby = TabbyService(cast(IReactor, MemoryReactorClock()), options, self.relay.destinations)
        alice = Identity("alice", (parseRuleLine("allow *.via.box.agent:22"),))
        peers: dict[tuple[str, int], Peer] = {}
        for name, port, isAllowed in (("db.lan.via.box.agent", 22, True), ("db.lan.via.box.agent", 23, False)):
            peer = peers[name, port] = Peer()
            outcome: list[Any] = []
            tabby._endpointFor(Target(name, port), alice).connect(Prepared(peer)).addErrback(outcome.append)
            self.relay.pump()
            self.assertEqual(not outcome, isAllowed)
        connection = agent.accept()
        agent.send(b"SSH-2.0", connection_id=connection)
        self.assertEqual(peers["db.lan.via.box.agent", 22].received, b"SSH-2.0")
        self.assertEqual(agent.kinds, ["initiate_connection"])

    def test_nothingElse(self) -> None:
        """It has no services, and carries no datagrams, which is said."""
        self.relay.edgeAgent()
        for name, isDatagram, details in (
            ("web.box.agent", False, "serves nothing"),
            ("a.via.box.agent", True, "without UDP"),
        ):
            _, (failure,) = self.dial(name, 53, isDatagram=isDatagram)
            failure.trap(DialFailed)
            self.assertIn(details, failure.value.details)

    def test_visitorHasSaidAll(self) -> None:
        """A visitor that has no more to say still gets answers, until none came for a minute."""
        agent = self.relay.edgeAgent()
        peer, _ = self.dial("box.agent", 80)
        connection = agent.accept()
        peer.transport.write(b"GET /")
        peer.transport.loseWriteConnection()
        for _ in range(3):
            self.wait(agent, LINGER - 1.0)
            agent.send(b"x", connection_id=connection)
        self.assertEqual(peer.received, b"xxx")
        self.wait(agent, LINGER - 0.25)
        self.assertIsNone(peer.reason)
        self.relay.wait(0.25)
        self.assertIsNotNone(peer.reason)
        self.assertEqual(agent.kinds[-1], "connection_close")

    def wait(self, agent: JsonPeer, seconds: float) -> None:
        """Let time pass for an agent that says that it lives."""
        self.relay.wait(30.0)
        agent.say(kind="keep_alive")
        self.relay.wait(seconds - 30.0)
        agent.say(kind="keep_alive")


class OwnNameTests(SynchronousTestCase):
    """The same door at the gateway's own name, inside of TLS."""

    def setUp(self) -> None:
        self.doors = Doors()
        path = Path(self.mktemp())
        path.write_text(json.dumps(CREDENTIALS))
        doors = self.doors
        relay = NetworkRelay(
            doors.clock,
            str(path),
            doors.door,
            doors.visitors,
            doors.doors,
            Admission(0.0),
            RelayDoorSettings(),
            lambda: None,
        )
        doors.authority.replaceEntries(relay.entries)
        for each in (AGENT_PATH, CLIENT_PATH):
            doors.site.add(each, relay.door.arriveInside)

    def ask(self, request: bytes, *, isSecure: bool = True) -> Peer:
        """Somebody sends a request to the gateway's own name."""
        visitor = self.doors.comeTLS(OWN, b"http/1.1") if isSecure else self.doors.come(self.doors.http.arrive)
        visitor.transport.write(request)
        self.doors.pump()
        return visitor

    def test_agent(self) -> None:
        """An agent is taken there, and is no visitor any more."""
        agent = self.ask(WebSocketClient.request(AGENT_PATH, Host=OWN))
        self.assertIn(b" 101 ", agent.received)
        self.assertEqual(self.doors.admission.connections, 0)
        start = b'{"inner": {"kind": "start", "name": "box", "secret": "agent secret", "last_error": null}}'
        agent.transport.write(WebSocketClient.frame(TEXT, start))
        self.doors.pump()
        self.assertEqual(len(list(self.doors.registry.replicas("box"))), 1)
        agent.transport.loseConnection()
        self.doors.pump()
        self.assertEqual(list(self.doors.registry.replicas("box")), [])

    def test_refused(self) -> None:
        """Without TLS, or without a WebSocket, the page of the gateway's own says so; nobody stays counted."""
        upgrade = WebSocketClient.request(CLIENT_PATH, Host=OWN)
        fromPage = WebSocketClient.request(CLIENT_PATH, Host=OWN, Origin="https://evil.example")
        plain = f"GET {CLIENT_PATH} HTTP/1.1\r\nHost: {OWN}\r\n\r\n".encode()
        for request, isSecure, status in (
            (upgrade, False, b" 403 "),
            (plain, True, b" 426 "),
            (fromPage, True, b" 403 "),
        ):
            visitor = self.ask(request, isSecure=isSecure)
            self.assertIn(status, visitor.received)
            visitor.transport.loseConnection()
            self.doors.pump()
            self.assertEqual(self.doors.admission.connections, 0)


class CredentialsTests(RelayTests):
    """The credentials file is read again when it changes."""

    def change(self, **keys: object) -> None:
        """Write the file anew, and let the relay look."""
        self.relay.write({**CREDENTIALS, **{key.replace("_", "-"): value for key, value in keys.items()}})
        self.relay.wait(2.0)

    def test_revoked(self) -> None:
        """Who is not in it any more is cut off; the others are not disturbed."""
        agent, client, _ = self.relay.joined()
        other = self.relay.edgeAgent("My_Box", "another secret")
        self.record()
        self.change(edge_agents={"box": "agent secret"}, access_client_secrets=["client secret"])
        self.assertEqual(other.closed and other.closed[0], 1008)
        client.send(b"still here")
        self.assertEqual(agent.payload, b"still here")
        self.assertEqual(len(self.logged("networkrelay.credentials")), 1)
        self.change(access_client_secrets=["a new one"])
        self.assertEqual(client.heard[-1]["message"], "The secret of this access client is not good any more.")
        self.assertEqual(self.relay.accessClient().heard[0]["message"], "Invalid access client secret")
        self.assertIsNone(self.relay.accessClient(secret="a new one").closed)
        self.assertIsNone(agent.closed)

    def test_changedBack(self) -> None:
        """A file that is the same is not read again."""
        self.record()
        self.relay.wait(10.0)
        self.assertEqual(self.logged("networkrelay.credentials"), [])

    def test_unusable(self) -> None:
        """One that cannot be used changes nothing, and is logged once."""
        agent, client, _ = self.relay.joined()
        self.record()
        self.relay.write("{")
        self.relay.wait(10.0)
        self.assertEqual(len(self.logged("networkrelay.credentials-failed")), 1)
        self.assertNotIn("secret", str(self.logged("networkrelay.credentials-failed")))
        self.relay.path.unlink()
        self.relay.wait(10.0)
        self.assertEqual(len(self.logged("networkrelay.credentials-failed")), 2)
        client.send(b"x")
        self.assertEqual(agent.payload, b"x")
        self.change()
        self.assertEqual(len(self.logged("networkrelay.credentials")), 1)

    def test_clientRules(self) -> None:
        """A client is held to its rules, for each connection."""
        agent = self.relay.edgeAgent()
        self.change(
            access_clients={"alice": {"secret": "a", "agents": ["box"], "targets": ["allow 10.0.0.5:22"]}},
        )
        refused = "Error initiating connection: "
        for name, host, port, message in (
            ("box", "10.0.0.5", 23, "Connections to 10.0.0.5:23 are not allowed (no rule allows it)."),
            ("box", "db.lan", 22, "Connections to db.lan:22 are not allowed (no rule allows it)."),
            ("My_Box", "10.0.0.5", 22, "This access client may not go to the agent my-box-3485ebdc."),
        ):
            client = self.relay.accessClient(name, host, port, secret="a")
            self.assertEqual(client.heard, [{"kind": "error", "message": refused + message}])
        self.assertIsNone(self.relay.accessClient(host="10.0.0.5", secret="a").closed)
        self.assertEqual(agent.kinds, ["initiate_connection"])

    def test_agentRules(self) -> None:
        """What may be reached through an agent may be said, and counts at every door."""
        agent = self.relay.edgeAgent()
        self.change(edge_agent_targets={"box": ["allow 10.0.0.5:22"]})
        self.assertIsNone(agent.closed)
        client = self.relay.accessClient(host="10.0.0.6")
        self.assertIn("not allowed", client.heard[0]["message"])
        endpoint = self.relay.destinations.endpointFor(Target("10.0.0.6.via.box.agent", 22), Visitor(None, None))
        assert endpoint is not None
        self.failureResultOf(endpoint.connect(Factory()), DialFailed)
        self.assertIsNone(self.relay.accessClient(host="10.0.0.5").closed)
        self.assertEqual(agent.kinds, ["initiate_connection"])
