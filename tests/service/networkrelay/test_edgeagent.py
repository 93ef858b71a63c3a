"""
Tests for the edge agent as one service, and for the access client as one process, with a relay as http-network-relay's
at the other end of a network in memory.
"""

from __future__ import annotations

import io
import json
import os
import sys
from io import FileIO
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.stdio import Streams
from gateway.net.websocket import WebSocketServerFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.edge_agent_tap import Options, makeService
from gateway.service.networkrelay.accessclient import AccessClient
from gateway.service.networkrelay.accessclientoptions import AccessClientOptions
from gateway.service.networkrelay.edgeagent import EdgeAgentService
from gateway.testing import FlowLink, flowPair
from gateway.wire.networkrelay import ClientData, Error, InitiateConnection, Message, StartOk, encode
from tests.net.sides import Peer
from tests.service.agent.test_service import Reactor
from tests.service.networkrelay.edgefixture import JsonPeer

RELAY, SSH = 9000, 22


class PartTestCase(SynchronousTestCase):
    """A part on a reactor in memory."""

    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        self.links: list[FlowLink] = []
        self.errors = io.StringIO()
        self.patch(sys, "stderr", self.errors)
        self.patch(os, "environ", {"HTTP_NETWORK_RELAY_SECRET": "s3cret"})
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def named(self, name: str) -> list[LogEvent]:
        """The events of a name."""
        return [each for each in self.events if each.get("event") == name]

    def pump(self, seconds: float = 0) -> None:
        """Let everything happen in so much time."""
        self.reactor.advance(seconds)
        for _ in range(10):
            self.reactor.advance(0)
            for link in self.links:
                link.pump()

    def dialled(self, port: int) -> Any:
        """The protocol of the last connection to a port."""
        factories = [each[2] for each in self.reactor.tcpClients if each[1] == port]
        return factories[-1].buildProtocol(None)

    def acceptRelay(self) -> JsonPeer:
        """The relay takes the last connection."""
        peer = JsonPeer()
        factory = WebSocketServerFactory(
            lambda address: peer, clock=self.reactor, settings=WebSocketSettings(pingInterval=0)
        )
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        self.links.append(flowPair(self.dialled(RELAY), protocol))
        self.pump()
        return peer

    def say(self, peer: JsonPeer, *messages: Message) -> None:
        """The relay says something."""
        for message in messages:
            peer.channel.sendText(encode(message))
        self.pump()


class EdgeAgentTests(PartTestCase):
    """L{EdgeAgentService}."""

    def start(self, *words: str, host: str = "127.0.0.1") -> EdgeAgentService:
        """Start one."""
        options = Options()
        options.parseOptions(["--relay-url", f"ws://{host}:{RELAY}/ws_for_edge_agents", "--name", "box", *words])
        service = EdgeAgentService(self.reactor, options)
        service.privilegedStartService()
        service.startService()
        return service

    def test_leads(self) -> None:
        """It attaches with the name and secret that it was given, and dials what it is asked for."""
        self.start()
        peer = self.acceptRelay()
        (start,) = peer.take()
        self.assertEqual(json.loads(start)["inner"], {
            "kind": "start", "name": "box", "secret": "s3cret", "last_error": None,
        })  # fmt: skip
        self.say(peer, InitiateConnection("192.0.2.1", SSH, "tcp", "c1"))
        origin = Peer()
        self.links.append(flowPair(self.dialled(SSH), origin))
        self.pump()
        self.assertIn(b"initiate_connection_ok", peer.take()[0])

    def test_rules(self) -> None:
        """What C{--allow} does not hold is not dialled."""
        self.start("--allow", "192.0.2.1:22")
        peer = self.acceptRelay()
        peer.take()
        self.say(peer, InitiateConnection("192.0.2.2", SSH, "tcp", "c1"))
        self.assertIn(b"initiate_connection_error", peer.take()[0])
        self.assertEqual([each[1] for each in self.reactor.tcpClients], [RELAY])
        self.assertEqual(len(self.named("agent.visit-failed")), 1)

    def test_stop(self) -> None:
        """It leaves at once when nobody is there, and says so last."""
        service = self.start()
        peer = self.acceptRelay()
        stopped = service.stopService()
        self.pump()
        self.successResultOf(stopped)
        self.assertTrue(peer.isEnded)
        self.assertEqual(self.events[-1]["event"], "agent.stopped")

    def test_drain(self) -> None:
        """Connections have as long as C{--drain} says."""
        service = self.start("--drain", "5")
        peer = self.acceptRelay()
        self.say(peer, InitiateConnection("192.0.2.1", SSH, "tcp", "c1"))
        self.links.append(flowPair(self.dialled(SSH), Peer()))
        self.pump()
        stopped = service.stopService()
        self.pump(4.9)
        self.assertNoResult(stopped)
        self.pump(0.2)
        self.pump()
        self.successResultOf(stopped)

    def test_unencrypted(self) -> None:
        """A relay elsewhere without TLS is worth a warning, one on this machine is not."""
        self.start()
        self.assertEqual(self.named("edge-agent.unencrypted"), [])
        self.start(host="192.0.2.9")
        self.assertEqual(len(self.named("edge-agent.unencrypted")), 1)

    def test_plugin(self) -> None:
        """The twistd plugin makes it, and without a secret there is one line and status 2."""
        options = Options()
        options.parseOptions([])
        self.assertIsInstance(makeService(options), EdgeAgentService)
        os.environ.clear()
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertEqual(error.code, 2)
        self.assertEqual(len(self.errors.getvalue().splitlines()), 1)


class AccessClientTests(PartTestCase):
    """L{AccessClient}, with standard input and output that are pipes here."""

    def setUp(self) -> None:
        super().setUp()
        reading, self.typing = os.pipe()
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.streams = Streams(FileIO(reading, "rb"), FileIO(writing, "wb"))
        for number in (self.typing, self.reading):
            self.addCleanup(os.close, number)
        for each in (self.streams.input, self.streams.output):
            self.addCleanup(each.close)

    def start(self, *words: str, isPiped: bool = True) -> AccessClient:
        """Start one."""
        options = AccessClientOptions()
        url = f"ws://127.0.0.1:{RELAY}/ws_for_access_clients"
        options.parseOptions(["box", "192.0.2.1", "22", "tcp", "--relay-url", url, *words])
        client = AccessClient(self.reactor, options, self.streams if isPiped else None)
        client.start()
        return client

    def assertOver(self, client: AccessClient, status: int, problem: str) -> None:
        """The process ends with a status, after a line for people."""
        self.pump()
        self.assertEqual((client.status, self.reactor.hasStopped), (status, True))
        self.assertEqual(self.errors.getvalue(), f"access-client: error: {problem}\n" if problem else "")

    def test_end(self) -> None:
        """When the target has ended, all that it sent is written, and the status is 0."""
        client = self.start()
        peer = self.acceptRelay()
        self.say(peer, StartOk(), ClientData(b"hello"))
        self.assertEqual(os.read(self.reading, 64), b"hello")
        peer.channel.close(1000)
        self.pump()
        (transport,) = self.reactor.getWriters()
        transport.connectionLost(Failure(transport.doWrite()))  # as the reactor does
        self.assertOver(client, 0, "")

    def test_input(self) -> None:
        """What is typed goes to the relay; an end of it ends nothing yet."""
        self.start()
        peer = self.acceptRelay()
        self.say(peer, StartOk())
        peer.take()
        os.write(self.typing, b"typed")
        (reader,) = [each for each in self.reactor.getReaders() if each.fileno() == self.streams.input.fileno()]
        reader.doRead()
        self.pump()
        self.assertIn(b"dHlwZWQ=", peer.take()[0])
        reader.readConnectionLost(Failure(ConnectionDone()))
        self.pump()
        self.assertFalse(self.reactor.hasStopped)

    def test_refused(self) -> None:
        """What the relay refuses it with is the line."""
        client = self.start()
        self.say(self.acceptRelay(), Error("Agent not registered"))
        self.assertOver(client, 1, "Agent not registered")

    def test_lost(self) -> None:
        """A relay that is lost is told from a target that has ended."""
        client = self.start()
        peer = self.acceptRelay()
        self.say(peer, StartOk())
        peer.channel.abortConnection()
        self.assertOver(client, 1, "The connection to the relay was lost.")

    def test_listen(self) -> None:
        """With C{--listen} each connection is led there, and the end of one is not the end."""
        client = self.start("--listen", "127.0.0.1:2222", isPiped=False)
        self.assertEqual(len(self.named("access-client.listening")), 1)
        ((port, factory, _, interface),) = self.reactor.tcpServers
        self.assertEqual((port, interface), (2222, "127.0.0.1"))
        visitor = Peer()
        self.links.append(flowPair(visitor, factory.buildProtocol(None)))
        peer = self.acceptRelay()
        self.say(peer, StartOk(), ClientData(b"hello"))
        self.assertEqual(bytes(visitor.received), b"hello")
        peer.channel.close(1000)
        self.pump()
        self.assertTrue(visitor.ended)
        self.assertEqual((client.status, self.reactor.hasStopped), (0, False))
