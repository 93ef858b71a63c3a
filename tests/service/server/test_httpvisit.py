"""
Tests for requests on their way to a service: on which connection, and for how long.
"""

from __future__ import annotations

from msgspec.structs import replace

from gateway.net.httpsettings import HttpSettings
from tests.net.sides import Peer
from tests.service.server import test_httpdoor
from tests.service.server.test_httpdoor import APP, BOB, GET, OK


class HttpVisitTests(test_httpdoor.HttpDoorTestCase):
    """
    One request after another.
    """

    def test_bodiesAreNotRisked(self) -> None:
        """What cannot be sent again, as a body, goes on no connection that may have been hung up on."""
        visitor = self.ask(APP)
        self.answer(self.doors.originAccepts())
        self.doors.wait(2)
        self.send(visitor, b"PUT / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 5\r\n\r\nhello")
        self.assertEqual(len(self.doors.preambles), 2)
        origin = self.doors.originAccepts()
        self.assertTrue(origin.received.endswith(b"hello"))
        self.answer(origin)
        self.doors.wait(2)
        self.send(visitor, APP)
        self.assertEqual(len(self.doors.preambles), 2)

    def test_originExchanged(self) -> None:
        """When an agent has put another origin in the place of one, no more requests are sent to that."""
        agent = self.doors.attached("bob", BOB)
        visitor = self.ask(GET % b"bob.example.com")
        before = self.doors.originAccepts()
        self.answer(before)
        agent.offer((replace(BOB, generation=1),))
        self.doors.pump()
        self.send(visitor, GET % b"bob.example.com")
        after = self.doors.originAccepts()
        self.assertIsNot(after, before)
        self.answer(after)
        self.assertEqual(visitor.received, OK + OK)
        self.doors.wait(2)
        self.assertTrue(before.ended)
        self.assertFalse(after.ended)

    def test_otherSettings(self) -> None:
        """Other limits, as after a reload, hold for the next connection to an origin, and none is kept that has others."""
        idle, busy = self.ask(APP), self.come()
        first = self.doors.originAccepts()
        self.send(busy, APP)
        second = self.doors.originAccepts()
        self.answer(first)
        self.doors.http.use(HttpSettings())
        self.doors.pump()
        self.assertFalse(first.ended)
        self.doors.http.use(HttpSettings(dialTimeout=1.0))
        self.doors.pump()
        self.assertEqual((first.ended, second.ended), (True, False))
        self.answer(second)
        self.assertEqual((busy.received, second.ended), (OK, True))
        self.send(idle, APP)
        self.doors.wait(1.5)
        self.assertIn(b"504 Gateway Timeout", idle.received)

    def upload(self) -> tuple[Peer, Peer]:
        """A visitor sends a lot, of which the origin, which is returned, too, takes 300 kB at a time."""
        visitor = self.ask(b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 50000000\r\n\r\n")
        origin = self.doors.originAccepts()
        taken = 0

        def take(data: bytes) -> None:
            nonlocal taken
            taken += len(data)
            if taken // 300_000 > (taken - len(data)) // 300_000:
                origin.transport.pauseProducing()

        origin.dataReceived = take  # type: ignore[method-assign]
        for _ in range(80):
            self.send(visitor, bytes(100_000))
        return visitor, origin

    def test_originTakesNothing(self) -> None:
        """An origin that does not take a request is waited for as long as one that does not answer."""
        visitor, _ = self.upload()
        self.doors.wait(299)
        self.assertEqual(visitor.received, b"")
        self.doors.wait(4)
        self.assertIn(b"504 Gateway Timeout", visitor.received)
        self.assertEqual(self.doors.http.exchanges, set())

    def test_originTakesSome(self) -> None:
        """It may take it as slowly as it likes, as long as it takes some."""
        visitor, origin = self.upload()
        for _ in range(5):
            self.doors.wait(250)
            self.assertEqual(visitor.received, b"")
            origin.transport.resumeProducing()
            self.doors.pump()
