"""
Tests for L{gateway.net.httppool}.
"""

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.http1client import HttpClientConnection
from gateway.net.httppool import OriginPool
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.testing import FlowEndpoint, FlowLink
from gateway.wire.http1 import RequestHead
from tests.net.httpends import Exchange
from tests.net.sides import Peer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class PoolTests(SynchronousTestCase):
    """Connections are made when there is none that waits."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = FlowEndpoint()
        self.links: list[FlowLink] = []
        self.make()

    def make(self, settings: HttpSettings = HttpSettings()) -> None:  # noqa: B008  # frozen
        """Make the pool."""
        self.pool = OriginPool(lambda: self.endpoint, settings=settings, sweep=Sweep(self.clock))

    def accept(self, dial: "Deferred[HttpClientConnection]") -> HttpClientConnection:
        """Let the last dial arrive."""
        self.links.append(self.endpoint.attempts[-1].accept(Peer()))
        return self.successResultOf(dial)

    def dialled(self) -> HttpClientConnection:
        """@return: a new connection."""
        return self.accept(self.pool.dial())

    def use(self, connection: HttpClientConnection, response: bytes = OK) -> None:
        """Make an exchange on a connection."""
        (link,) = [each for each in self.links if each.a.protocol is connection]
        connection.send(RequestHead("GET", "/", "1.1", [("host", "a")]), 0, Exchange()).finish()
        link.pump()
        link.b.write(response)
        link.pump()

    def link(self, connection: HttpClientConnection) -> FlowLink:
        """@return: that of a connection."""
        return next(each for each in self.links if each.a.protocol is connection)

    def test_dial(self) -> None:
        """There is nothing to take at first; what is dialled is the caller's, and comes back when it is idle."""
        self.assertIsNone(self.pool.take(True))
        connection = self.dialled()
        self.assertIsNone(self.pool.take(True))
        self.use(connection)
        self.assertIs(self.pool.take(True), connection)
        self.assertIsNone(self.pool.take(True))

    def test_newestFirst(self) -> None:
        """The connection that was used last is taken first."""
        first, second, third = self.dialled(), self.dialled(), self.dialled()
        for each in (first, third, second):
            self.use(each)
        self.assertEqual([self.pool.take(True) for _ in range(4)], [second, third, first, None])

    def test_notIdempotent(self) -> None:
        """A request that may not be repeated gets one that was in use a moment ago, or none."""
        connection = self.dialled()
        self.use(connection)
        self.clock.advance(1.0)
        self.assertIs(self.pool.take(False), connection)
        self.use(connection)
        self.clock.advance(1.1)
        self.assertIsNone(self.pool.take(False))
        self.assertIs(self.pool.take(True), connection)

    def test_lost(self) -> None:
        """One whose origin hung up is not there any more."""
        connection = self.dialled()
        self.use(connection)
        self.link(connection).b.loseConnection()
        self.link(connection).pump()
        self.assertIsNone(self.pool.take(True))

    def test_originsWord(self) -> None:
        """One is kept no longer than the origin keeps it."""
        connection = self.dialled()
        self.use(connection, OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\n\r\n"))
        self.clock.advance(3.9)
        self.assertIs(self.pool.take(True), connection)
        self.use(connection)
        self.clock.advance(4.0)
        self.assertIsNone(self.pool.take(True))
        self.link(connection).pump()
        self.assertTrue(self.link(connection).a.disconnected)

    def test_idleTooLong(self) -> None:
        """One that waits too long is closed, and the clock is left alone then."""
        self.make(HttpSettings(originIdleTimeout=10.0))
        connection = self.dialled()
        self.use(connection)
        self.clock.pump([1.0] * 9)
        self.assertFalse(self.link(connection).a.disconnecting)
        self.clock.pump([1.0])
        self.link(connection).pump()
        self.assertTrue(self.link(connection).a.disconnected)
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_limit(self) -> None:
        """Of more than may wait the oldest is closed."""
        self.make(HttpSettings(originIdle=2))
        connections = [self.dialled() for _ in range(3)]
        for each in connections:
            self.use(each)
        self.assertEqual([self.pool.take(True) for _ in range(3)], [connections[2], connections[1], None])
        self.link(connections[0]).pump()
        self.assertTrue(self.link(connections[0]).a.disconnected)

    def test_close(self) -> None:
        """When it is closed those that wait are closed, and the others when they are idle again."""
        waiting, busy = self.dialled(), self.dialled()
        self.use(waiting)
        self.pool.close()
        self.link(waiting).pump()
        self.assertTrue(self.link(waiting).a.disconnected)
        self.assertFalse(self.link(busy).a.disconnecting)
        self.use(busy)
        self.assertTrue(self.link(busy).a.disconnected)
        self.assertIsNone(self.pool.take(True))

    def test_dialFails(self) -> None:
        """A dial that fails says why."""
        dial = self.pool.dial()
        self.endpoint.attempts[0].fail(ConnectionRefusedError())
        self.assertEqual(self.failureResultOf(dial, DialFailed).value.kind, DialFailure.REFUSED)

    def test_dialTimeout(self) -> None:
        """One that takes too long is given up."""
        dial = self.pool.dial()
        self.clock.advance(19.9)
        self.assertNoResult(dial)
        self.clock.advance(0.1)
        self.assertEqual(self.failureResultOf(dial, DialFailed).value.kind, DialFailure.TIMEOUT)
        self.assertTrue(self.endpoint.attempts[0].cancelled)

    def test_dialCancelled(self) -> None:
        """The caller may give it up, too, and no call is left."""
        dial = self.pool.dial()
        dial.cancel()
        self.assertEqual(self.failureResultOf(dial, DialFailed).value.kind, DialFailure.CANCELLED)
        self.assertTrue(self.endpoint.attempts[0].cancelled)
        self.assertEqual(self.clock.getDelayedCalls(), [])
