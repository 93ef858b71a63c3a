"""Tests for L{gateway.net.http2pool}."""

import gc

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.http2client import Http2ClientConnection
from gateway.net.http2pool import Http2OriginPool
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.testing import FlowEndpoint, FlowLink
from gateway.wire.http1 import RequestHead
from gateway.wire.http2frames import ACK, SETTINGS, frame, goAway
from tests.net.http2peer import Http2Peer, Recorder, setting
from tests.net.sides import Peer

OK = [(":status", "200")]


class Origin(Http2Peer):
    """The other end of a connection of a pool's, which the test takes turns with."""

    def __init__(self, test: "PoolTests", dialled: Http2ClientConnection, settings: bytes = b"") -> None:
        super().__init__()
        self.clock = test.clock
        self.connection = dialled
        (link,) = [each for each in test.links if each.a.protocol is dialled]
        self.transport = link.a
        self.send(frame(SETTINGS, 0, 0, settings), frame(SETTINGS, ACK, 0))

    def answer(self, stream: int) -> None:
        """Answer a request."""
        self.send(self.headers(stream, OK, end=True))


class PoolTests(SynchronousTestCase):
    """Connections are shared, and made when there is none to share."""

    def setUp(self) -> None:
        self.endpoint = FlowEndpoint()
        self.links: list[FlowLink] = []
        settings = HttpSettings(originIdleTimeout=60.0, dialTimeout=20.0)
        # The peers' clock is the pool's.
        self.clock = Http2Peer().clock
        self.pool = Http2OriginPool(lambda: self.endpoint, settings=settings, sweep=Sweep(self.clock))

    def accept(self) -> None:
        """Let the last dial arrive."""
        self.links.append(self.endpoint.attempts[-1].accept(Peer()))

    def dialled(self) -> Http2ClientConnection:
        """@return: a new connection."""
        dial = self.pool.dial()
        self.accept()
        return self.successResultOf(dial)

    def use(self, connection: Http2ClientConnection) -> Recorder:
        """Send a request."""
        exchange = Recorder()
        connection.send(RequestHead("GET", "/", "1.1", [("host", "a")]), 0, exchange)
        return exchange

    def test_oneForMany(self) -> None:
        """A connection is given out while it carries requests, and as long as the origin takes more."""
        self.assertIsNone(self.pool.take())
        connection = self.dialled()
        Origin(self, connection, setting(3, 2))
        self.use(connection)
        self.assertIs(self.pool.take(False), connection)
        self.use(connection)
        self.assertIsNone(self.pool.take())

    def test_oneDialForMany(self) -> None:
        """All who want a connection while one is being made get that one."""
        dials = [self.pool.dial() for _ in range(3)]
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.accept()
        self.assertEqual(len({self.successResultOf(each) for each in dials}), 1)

    def test_noMoreThanItTakes(self) -> None:
        """Who finds no room on a new connection waits for the next one."""
        dials = [self.pool.dial() for _ in range(101)]
        for each in dials:
            each.addCallback(self.use)
        self.accept()
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.assertNoResult(dials[-1])
        self.accept()
        self.successResultOf(dials[-1])

    def test_failure(self) -> None:
        """A dial that fails fails for all who wait, and the next one is another attempt."""
        dials = [self.pool.dial(), self.pool.dial()]
        self.endpoint.attempts[0].fail(ConnectionRefusedError())
        for each in dials:
            self.assertEqual(self.failureResultOf(each, DialFailed).value.kind, DialFailure.REFUSED)
        self.dialled()

    def test_timeout(self) -> None:
        """A dial does not take for ever."""
        dial = self.pool.dial()
        self.clock.advance(20.0)
        self.assertEqual(self.failureResultOf(dial, DialFailed).value.kind, DialFailure.TIMEOUT)

    def test_cancel(self) -> None:
        """Who gives up leaves the others waiting; when nobody is left the attempt is given up."""
        first, second = self.pool.dial(), self.pool.dial()
        for dial, cancelled in ((first, False), (second, True)):
            dial.cancel()
            self.failureResultOf(dial, CancelledError)
            self.assertEqual(self.endpoint.attempts[0].cancelled, cancelled)
        self.dialled()

    def test_cancelAmongFailures(self) -> None:
        """Who is told of a failure may make another one lose interest, who would have been told next."""
        first, second = self.pool.dial(), self.pool.dial()
        first.addErrback(lambda failure: second.cancel())
        self.endpoint.attempts[-1].fail(ConnectionRefusedError())
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_goodbye(self) -> None:
        """A connection whose origin takes no more is not given out, and finishes what it has."""
        connection = self.dialled()
        origin = Origin(self, connection)
        exchange = self.use(connection)
        origin.turn()
        origin.send(goAway(1, 0))
        self.assertIsNone(self.pool.take())
        origin.answer(1)
        self.assertEqual(exchange.trailers, ())

    def test_idle(self) -> None:
        """A connection that nobody uses is closed in time, used or not before."""
        unused, used = self.dialled(), self.dialled()
        origin = Origin(self, used)
        self.use(used)
        origin.turn()
        self.clock.pump([1.0] * 58)
        origin.answer(1)
        self.clock.pump([1.0] * 4)
        self.assertEqual([unused.isUsable, used.isUsable], [False, True])
        self.clock.pump([1.0] * 60)
        self.assertFalse(used.isUsable)

    def test_close(self) -> None:
        """A pool that is closed closes what is idle, and lets the rest finish first."""
        idle, busy = self.dialled(), self.dialled()
        origin = Origin(self, busy)
        self.use(busy)
        origin.turn()
        self.pool.close()
        self.assertEqual([idle.isUsable, busy.isUsable], [False, True])
        origin.answer(1)
        self.assertFalse(busy.isUsable)

    def test_lostBeforeItWasUsed(self) -> None:
        """A connection that ends is forgotten."""
        connection = self.dialled()
        connection.abortConnection()
        self.links[0].pump()
        self.assertIsNone(self.pool.take())
