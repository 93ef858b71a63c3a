"""Tests for L{gateway.service.relay.service}: a command line to a running relay, and its end."""

from __future__ import annotations

import os
import signal
from io import FileIO
from typing import cast

from twisted.application.service import IServiceMaker
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.mux import MuxSession
from gateway.net.stdio import Streams
from gateway.service.relay.options import RelayOptions
from gateway.service.relay.service import CLOSE_TIMEOUT, IReactor, RelayService
from gateway.testing import FlowLink, flowPair
from tests.net.sides import Peer
from tests.service.tabby.test_service import Reactor

ADDRESS = IPv4Address("TCP", "192.0.2.7", 1234)
BOTH = ("--listen", "tcp:1:interface=127.0.0.1", "--to", "tcp:192.0.2.1:22")


class ServiceTestCase(SynchronousTestCase):
    """A service on a reactor in memory."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.links: list[FlowLink] = []
        self.options = RelayOptions()

    def make(self, *words: str, streams: Streams | None = None) -> RelayService:
        """The service of a command line."""
        self.options.parseOptions(list(words))
        return RelayService(cast(IReactor, self.reactor), self.options, streams)

    def start(self, *words: str, streams: Streams | None = None) -> RelayService:
        """The service of a command line, started as twistd does."""
        service = self.make(*words, streams=streams)
        service.privilegedStartService()
        service.startService()
        return service

    def visit(self, server: int = 0) -> Peer:
        """A visitor of one of the reactor's servers."""
        protocol = self.reactor.tcpServers[server][1].buildProtocol(ADDRESS)
        assert protocol is not None
        visitor = Peer()
        self.links.append(flowPair(visitor, protocol))
        return visitor

    def accept(self) -> Peer:
        """Let the reactor's last attempt to connect succeed."""
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(ADDRESS)
        assert protocol is not None
        origin = Peer()
        self.links.append(flowPair(protocol, origin))
        return origin

    def pump(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(10):
            self.reactor.advance(0)
            for link in self.links:
                link.pump()


class RelayTests(ServiceTestCase):
    """From where to where."""

    def test_relays(self) -> None:
        """Whoever connects to any of the listening endpoints is connected to the other one."""
        self.start(*BOTH, "--listen", "tcp:2:interface=127.0.0.1")
        self.assertEqual([(port, interface) for port, _, _, interface in self.reactor.tcpServers],
                         [(1, "127.0.0.1"), (2, "127.0.0.1")])  # fmt: skip
        for server in (0, 1):
            visitor = self.visit(server)
            self.assertEqual(self.reactor.tcpClients[-1][:2], ("192.0.2.1", 22))
            origin = self.accept()
            visitor.transport.write(b"hello")
            self.pump()
            self.assertEqual(origin.received, b"hello")

    def test_nothingBeforeStart(self) -> None:
        """To make the service opens and dials nothing."""
        self.make(*BOTH)
        self.assertEqual((self.reactor.tcpServers, self.reactor.tcpClients), ([], []))

    def test_badEndpoints(self) -> None:
        """An endpoint that cannot be used is refused by the name of its option, in one line."""
        for words, option in (
            (("--listen", "nonsense:1", "--to", "tcp:1.2.3.4:1"), "--listen: "),
            (("--listen", "tcp:1", "--to", "nonsense:1"), "--to: "),
        ):
            self.options = RelayOptions()
            with self.assertRaises(usage.UsageError) as caught:
                self.make(*words)
            self.assertTrue(str(caught.exception).startswith(option))
            self.assertNotIn("\n", str(caught.exception))

    def test_limits(self) -> None:
        """The limits of the command line are the door's."""
        door = self.make(
            *BOTH, "--dial-timeout", "3", "--idle-timeout", "0", "--memory", "2", "--max-connections", "1"
        ).door
        self.assertEqual((door.settings.dialTimeout, door.settings.idleTimeout), (3, None))
        self.assertEqual(door.budget.limit, 2 * 1024 * 1024)

    def test_plugin(self) -> None:
        """twistd finds it by its name."""
        (maker,) = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "relay"]
        self.assertIs(maker.options, RelayOptions)


class StopTests(ServiceTestCase):
    """SIGTERM, from the reactor on."""

    def stop(self, service: RelayService) -> Deferred[None]:
        """Stop it; the Deferred."""
        stopped = service.stopService()
        self.pump()
        return stopped

    def test_empty(self) -> None:
        """Without relays it stops at once, and signals are whose they were."""
        before = signal.getsignal(signal.SIGINT)
        self.successResultOf(self.stop(self.start(*BOTH)))
        self.assertEqual([port.stopped for port in self.reactor.ports], [1])
        self.assertEqual(signal.getsignal(signal.SIGINT), before)

    def test_drain(self) -> None:
        """Relays may go on until they end by themselves."""
        service = self.start(*BOTH)
        visitor, origin = self.visit(), self.accept()
        stopped = self.stop(service)
        self.assertEqual([port.stopped for port in self.reactor.ports], [1])
        visitor.transport.write(b"still")
        self.pump()
        self.assertEqual(origin.received, b"still")
        self.assertNoResult(stopped)
        for peer in (visitor, origin):
            peer.transport.loseConnection()
        self.pump()
        self.successResultOf(stopped)

    def test_drainIsOver(self) -> None:
        """When time is up, and not before, the others are closed; whoever does not take that is cut off a little later."""
        service = self.start(*BOTH, "--drain", "30")
        visitor, origin = self.visit(), self.accept()
        stopped = self.stop(service)
        self.reactor.advance(29.75)
        self.pump()
        self.assertFalse(visitor.ended)
        self.links[0].bToA.stalled = True
        origin.transport.write(b"unread")
        self.pump()
        self.reactor.advance(0.25)
        self.pump()
        self.assertNoResult(stopped)
        self.reactor.advance(CLOSE_TIMEOUT)
        self.pump()
        self.successResultOf(stopped)
        self.assertTrue(self.links[0].b.disconnected)

    def test_hurry(self) -> None:
        """A second signal means now."""
        service = self.start(*BOTH, "--drain", "1000")
        visitor = self.visit()
        self.accept()
        stopped = self.stop(service)
        signal.raise_signal(signal.SIGINT)
        self.pump()
        self.assertTrue(visitor.ended)
        visitor.transport.loseConnection()
        self.pump()
        self.successResultOf(stopped)

    def test_session(self) -> None:
        """A session on which relays went is closed with everything that was written to it."""
        service = self.start("--listen", "tcp:1", "--to", "yamux:tcp:192.0.2.1:9000")
        self.visit()
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(ADDRESS)
        assert protocol is not None
        server = MuxSession(self.reactor, client=False)
        self.links.append(flowPair(protocol, server))
        self.pump()
        stopped = self.stop(service)
        self.successResultOf(stopped)
        self.assertTrue(self.links[-1].b.disconnected)


class OnceTests(ServiceTestCase):
    """With standard input and output, which are pipes here that nobody reads from."""

    def setUp(self) -> None:
        super().setUp()
        reading, writing = os.pipe()
        self.streams = Streams(FileIO(reading, "rb"), FileIO(writing, "wb"))
        for each in (self.streams.input, self.streams.output):
            self.addCleanup(each.close)

    def test_nobodyThere(self) -> None:
        """When the dial fails, the process stops with status 1."""
        self.start("--listen", "stdio:", "--to", "tcp:192.0.2.1:22", streams=self.streams)
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))  # type: ignore[arg-type]  # not looked at
        self.pump()
        self.assertEqual((self.options.exitStatus, self.reactor.hasStopped), (1, True))
        self.assertTrue(self.streams.output.closed)

    def test_end(self) -> None:
        """When both sides have ended, it stops with status 0."""
        self.start("--listen", "stdio:", "--to", "tcp:192.0.2.1:22", streams=self.streams)
        origin = self.accept()
        origin.transport.loseConnection()
        self.pump()
        (transport,) = self.reactor.getWriters()
        done = transport.doWrite()
        assert done is None
        transport.readConnectionLost(Failure(ConnectionDone()))  # of standard input
        self.pump()
        self.assertEqual((self.options.exitStatus, self.reactor.hasStopped), (0, True))

    def test_oneVisitor(self) -> None:
        """C{--to stdio:} takes one visitor."""
        self.start("--listen", "tcp:1", "--to", "stdio:", streams=self.streams)
        self.visit()
        self.assertIsNone(self.reactor.tcpServers[0][1].buildProtocol(ADDRESS))

    def test_stopped(self) -> None:
        """When it is stopped, it does not drain, and stops the reactor no second time."""
        service = self.start("--listen", "stdio:", "--to", "tcp:192.0.2.1:22", streams=self.streams)
        self.accept()
        stopped = service.stopService()
        for link in self.links:
            link.pump()
        self.reactor.advance(CLOSE_TIMEOUT)
        self.pump()
        self.successResultOf(stopped)
        self.assertEqual((self.options.exitStatus, self.reactor.hasStopped), (1, False))
