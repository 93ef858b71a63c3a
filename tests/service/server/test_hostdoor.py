"""
Tests for the plain HTTP port, and for what is common to all HTTP.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import AccessRules
from gateway.service.server.hostdoor import hostOf
from gateway.service.server.visitors import RouteLimits
from gateway.wire.agentcontrol import Service
from gateway.wire.http1 import RequestHead
from gateway.wire.proxyheader import Tlv
from tests.net.sides import Peer
from tests.service.server.doorsfixture import PASSED, WEB, Doors

REQUEST = b"POST /form HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello"


class HostDoorTests(SynchronousTestCase):
    """
    L{HostDoor}.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.doors.attached("box", WEB, PASSED)

    def ask(self, request: bytes, **options: object) -> Peer:
        """A visitor sends a request to the plain port."""
        visitor = self.doors.come(self.doors.hosts.arrive, **options)  # type: ignore[arg-type]  # of Arrivals
        visitor.transport.write(request)
        self.doors.pump()
        return visitor

    def test_leadsOn(self) -> None:
        """The first request and all that follows it is the origin's, as it was sent."""
        request = REQUEST % b"app.example.com"
        visitor = self.ask(request)
        origin = self.doors.originAccepts()
        self.assertEqual(origin.received, request)
        origin.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.doors.pump()
        self.assertEqual(visitor.received, b"HTTP/1.1 204 No Content\r\n\r\n")
        visitor.transport.write(request)
        self.doors.pump()
        self.assertEqual(origin.received, request * 2)

    def test_oneAgent(self) -> None:
        """All of a connection goes to the agent of its first request: no name in a later one leads to another's."""
        self.doors.attached("bob", Service(key="web", kind="http", hostnames=("bob.example.com",)))
        request = REQUEST % b"app.example.com"
        visitor = self.ask(request)
        origin = self.doors.originAccepts()
        visitor.transport.write(REQUEST % b"bob.example.com")
        self.doors.pump()
        self.assertEqual(origin.received, request + REQUEST % b"bob.example.com")
        self.assertEqual(len(self.doors.preambles), 1)

    def test_tellsTheAgent(self) -> None:
        """The agent is told the name."""
        self.ask(REQUEST % b"APP.example.com.:8080")
        self.assertEqual(self.doors.preambles[0].header.get(Tlv.AUTHORITY), b"app.example.com")

    def test_byteByByte(self) -> None:
        """A head may come byte by byte."""
        self.ask(REQUEST % b"app.example.com", chunkSize=1)
        self.assertEqual(self.doors.originAccepts().received, REQUEST % b"app.example.com")

    def test_nobodyServes(self) -> None:
        """A page says that nobody serves a name; a name of passed-through TLS is none here."""
        for name in (b"nobody.example.com", b"tls.example.com"):
            visitor = self.ask(REQUEST % name)
            self.assertIn(b"404 Not Found", visitor.received)
            self.assertIn(name, visitor.received)
            self.assertTrue(visitor.ended)

    def test_originRefuses(self) -> None:
        """A page says that the origin refused."""
        visitor = self.ask(REQUEST % b"app.example.com")
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        self.assertIn(b"502 Bad Gateway", visitor.received)
        self.assertIn(b"refused", visitor.received)

    def test_originSilent(self) -> None:
        """Another one says that it did not answer."""
        visitor = self.ask(REQUEST % b"app.example.com")
        self.doors.origins.attempts[-1].fail(TimeoutError())
        self.doors.pump()
        self.assertIn(b"504 Gateway Timeout", visitor.received)

    def test_agentGone(self) -> None:
        """And another one that the agent went away."""
        visitor = self.ask(REQUEST % b"app.example.com")
        self.doors.links[0].a.abortConnection()
        self.doors.pump()
        self.assertIn(b"502 Bad Gateway", visitor.received)
        self.assertIn(b"went away", visitor.received)

    def test_head(self) -> None:
        """The answer to HEAD has no body."""
        visitor = self.ask(b"HEAD / HTTP/1.1\r\nHost: nobody.example.com\r\n\r\n")
        self.assertTrue(visitor.received.endswith(b"\r\n\r\n"))

    def test_tooMany(self) -> None:
        """A visitor beyond the route's limit gets a page."""
        self.doors = Doors(routeLimits=RouteLimits(connections=1))
        self.doors.attached("box", WEB)
        self.ask(REQUEST % b"app.example.com")
        self.assertIn(b"503 Service Unavailable", self.ask(REQUEST % b"app.example.com").received)

    def test_badRequests(self) -> None:
        """What is no request for one host gets a page that says so."""
        for request in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\nHost: app.example.com\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: app.example.com:x\r\n\r\n",
            b"what is this?\r\n\r\n",
        ):
            self.assertIn(b"400 Bad Request", self.ask(request).received)

    def test_longHead(self) -> None:
        """A head of more than 16 KiB gets a page."""
        visitor = self.ask(b"GET / HTTP/1.1\r\nHost: app.example.com\r\nX: " + b"x" * 16384)
        self.assertIn(b"431 Request Header", visitor.received)

    def test_tls(self) -> None:
        """TLS ends the connection."""
        self.assertIsNotNone(self.ask(b"\x16\x03\x01").reason)

    def test_slow(self) -> None:
        """Who does not finish the head is cut off after ten seconds."""
        visitor = self.ask(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n")
        self.doors.wait(9.75)
        self.assertIsNone(visitor.reason)
        self.doors.wait(0.5)
        self.assertIsNotNone(visitor.reason)

    def test_ownName(self) -> None:
        """The gateway's own name and addresses lead to its site, which takes no agents without TLS."""
        for host in (b"gw.example", b"192.0.2.1:80", b"[2001:db8::1]"):
            self.assertIn(b"it is up", self.ask(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host).received)
        upgrade = b"GET /agent HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        upgrade += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        self.assertIn(b"403 Forbidden", self.ask(upgrade).received)

    def test_access(self) -> None:
        """Who may not come is cut off."""
        self.doors.hosts.access = AccessRules.parse(["allow 10.0.0.0/8"])
        self.assertIsNotNone(self.doors.come(self.doors.hosts.arrive).reason)

    def test_lingers(self) -> None:
        """Who gets a page and goes on sending is not reset before it was read, but is cut off in the end."""
        visitor = self.ask(REQUEST % b"nobody.example.com")
        visitor.transport.write(b"more")
        self.doors.pump()
        self.assertFalse(self.doors.links[-1].b.disconnected)
        self.doors.wait(2.25)
        self.assertTrue(self.doors.links[-1].b.aborted)
        self.assertEqual(self.doors.admission.connections, 0)


class HostOfTests(SynchronousTestCase):
    """
    L{hostOf}.
    """

    def test_forms(self) -> None:
        """The name comes out in its one form, without the port."""
        for value, expected in (
            ("App.Example.com", "app.example.com"),
            ("app.example.com.:80", "app.example.com"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("a b", None),
            ("", None),
            ("app.example.com:", None),
            ("app.example.c\u00bam", None),
            ("app.example.com:8\u00b2", None),
        ):
            head = RequestHead("GET", "/", "1.1", [("host", value)])
            self.assertEqual(hostOf(head), expected, value)


class WildcardTests(SynchronousTestCase):
    """
    Names with wildcards.
    """

    def test_exactBeatsWildcard(self) -> None:
        """A name of its own comes before a wildcard, which holds one label."""
        doors = Doors()
        doors.attached("box", Service(key="any", kind="http", hostnames=("*.example.com",)), WEB)
        for host, key in ((b"app.example.com", "web"), (b"other.example.com", "any")):
            visitor = doors.come(doors.hosts.arrive)
            visitor.transport.write(REQUEST % host)
            doors.pump()
            self.assertEqual(doors.preambles[-1].to, key)
        visitor = doors.come(doors.hosts.arrive)
        visitor.transport.write(REQUEST % b"a.b.example.com")
        doors.pump()
        self.assertIn(b"404", visitor.received)
