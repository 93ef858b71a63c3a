"""
Tests for the public TLS port.
"""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import AccessRules
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.usage import RouteLimits
from gateway.testing import flowPair
from gateway.wire.agentcontrol import Service
from gateway.wire.clienthello import Alert, alert
from gateway.wire.proxyheader import Tlv
from tests.service.server.doorsfixture import ENDED, OWN, PASSED, WEB, Doors, TLSClient, TLSPeer, clientHello, wrapped


class TlsDoorTestCase(SynchronousTestCase):
    """
    A TLS port with an agent behind it.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.doors.attached("box", WEB, PASSED, ENDED)

    def assertAlert(self, peer: TLSPeer, reason: str) -> None:
        """The visitor was told by an alert."""
        assert peer.reason is not None
        self.assertIsInstance(peer.reason.value, SSL.Error)
        self.assertIn(reason, str(peer.reason.value))


class PassthroughTests(TlsDoorTestCase):
    """
    TLS that ends at the origin.
    """

    def test_untouched(self) -> None:
        """The origin gets the visitor's bytes from the first one on, and the visitor the origin's."""
        hello = clientHello("tls.example.com")
        visitor = self.doors.come(self.doors.tls.arrive)
        visitor.transport.write(hello)
        self.doors.pump()
        origin = self.doors.originAccepts()
        self.assertEqual(origin.received, hello)
        origin.transport.write(b"whatever it says")
        self.doors.pump()
        self.assertEqual(visitor.received, b"whatever it says")
        visitor.transport.write(b"more")
        self.doors.pump()
        self.assertEqual(origin.received, hello + b"more")

    def test_byteByByte(self) -> None:
        """A ClientHello that comes byte by byte is understood and passed on whole."""
        hello = clientHello("tls.example.com")
        visitor = self.doors.come(self.doors.tls.arrive, chunkSize=1)
        visitor.transport.write(hello)
        self.doors.pump()
        self.assertEqual(self.doors.originAccepts().received, hello)

    def test_tellsTheAgent(self) -> None:
        """The agent is told the name that was asked for, and both addresses."""
        visitor = self.doors.come(self.doors.tls.arrive)
        visitor.transport.write(clientHello("tls.example.com"))
        self.doors.pump()
        (preamble,) = self.doors.preambles
        self.assertEqual(preamble.to, "passed")
        self.assertEqual(preamble.header.get(Tlv.AUTHORITY), b"tls.example.com")
        self.assertIsNotNone(preamble.header.source)
        self.assertIsNone(preamble.header.get(Tlv.ALPN))

    def test_originRefuses(self) -> None:
        """When nobody can be reached the visitor is told by an alert, not by silence."""
        peer = self.doors.comeTLS("tls.example.com")
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        self.assertAlert(peer, "internal error")

    def test_resetIsTold(self) -> None:
        """When the agent is lost the visitor's connection is reset."""
        visitor = self.doors.come(self.doors.tls.arrive)
        visitor.transport.write(clientHello("tls.example.com"))
        self.doors.pump()
        self.doors.originAccepts()
        self.doors.links[0].a.abortConnection()
        self.doors.pump()
        assert visitor.reason is not None
        self.assertFalse(visitor.reason.check(ConnectionDone))

    def test_tooMany(self) -> None:
        """A visitor beyond the route's limit gets an alert."""
        doors = Doors(routeLimits=RouteLimits(connections=1))
        doors.attached("box", PASSED)
        doors.comeTLS("tls.example.com")
        second = doors.comeTLS("tls.example.com")
        self.assertAlert(second, "internal error")


class TerminateTests(TlsDoorTestCase):
    """
    TLS that ends here.
    """

    def test_rawFromTheFirstByte(self) -> None:
        """The origin may speak first: it is dialled as soon as the handshake is over, and nothing is read before."""
        visitor = self.doors.comeTLS("raw.example.com")
        self.assertTrue(visitor.isShaken)
        origin = self.doors.originAccepts()
        origin.transport.write(b"SSH-2.0-x\r\n")
        self.doors.pump()
        self.assertEqual(visitor.received, b"SSH-2.0-x\r\n")
        visitor.transport.write(b"\0\1\2")
        self.doors.pump()
        self.assertEqual(origin.received, b"\0\1\2")

    def test_meanwhile(self) -> None:
        """The route is that of the moment when the handshake is over: who came or went meanwhile did so."""
        for services, served in (
            ((), 0),
            ((ENDED,), 1),
            ((Service(key="p", kind="tls", hostnames=ENDED.hostnames),), 1),
        ):
            arrival = Arrivals(self.doors.tls.arrive, clock=self.doors.clock).buildProtocol(None)
            visitor = TLSPeer()
            link = flowPair(wrapped(visitor, TLSClient("raw.example.com"), self.doors.clock), arrival)
            link.step()  # the ClientHello
            (session,) = self.doors.registry.attachments
            self.doors.registry.offer(session, ())
            self.doors.registry.offer(session, services)
            self.doors.join(link)
            self.assertTrue(visitor.isShaken)
            self.assertEqual(len(self.doors.preambles), served)
            self.assertEqual(visitor.reason is None, services == (ENDED,))
            self.doors.registry.offer(session, (ENDED,))

    def test_wildcardCertificate(self) -> None:
        """A name without a certificate of its own is shown the wildcard's."""
        self.assertEqual(self.doors.comeTLS("raw.example.com").serverName, "*.example.com")

    def test_exactCertificate(self) -> None:
        """A name's own certificate comes before the wildcard's."""
        self.assertEqual(self.doors.comeTLS("app.example.com").serverName, "app.example.com")

    def test_noCertificate(self) -> None:
        """Without a certificate the visitor gets an alert, and the log a line."""
        self.doors.attached("other", Service(key="x", kind="http", hostnames=("x.example.net",)))
        self.assertAlert(self.doors.comeTLS("x.example.net"), "internal error")
        self.assertEqual(self.doors.origins.attempts, [])

    def test_originRefuses(self) -> None:
        """When nobody can be reached the connection is broken off."""
        visitor = self.doors.comeTLS("raw.example.com")
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        assert visitor.reason is not None
        self.assertFalse(visitor.reason.check(ConnectionDone))

    def test_http(self) -> None:
        """A host of HTTP gets HTTP, and its requests lead on."""
        visitor = self.doors.comeTLS("app.example.com", b"http/1.1")
        self.assertEqual(visitor.transport.negotiatedProtocol, b"http/1.1")
        self.assertEqual(self.doors.origins.attempts, [])
        visitor.transport.write(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        self.doors.pump()
        self.assertIn(b"X-Forwarded-Proto: https\r\n", self.doors.originAccepts().received)

    def test_http2(self) -> None:
        """Who speaks HTTP/2 is spoken to in it."""
        visitor = self.doors.comeTLS("app.example.com", b"http/1.1", b"h2")
        self.assertEqual(visitor.transport.negotiatedProtocol, b"h2")

    def test_onlyOther(self) -> None:
        """Who speaks nothing that is spoken here is told so."""
        self.assertAlert(self.doors.comeTLS("app.example.com", b"h3"), "no application protocol")

    def test_otherAgentsName(self) -> None:
        """A request inside of TLS for one agent's name does not reach another agent."""
        self.doors.attached("other", Service(key="x", kind="http", hostnames=("x.example.com",)))
        visitor = self.doors.comeTLS("app.example.com", b"http/1.1")
        visitor.transport.write(b"GET / HTTP/1.1\r\nHost: x.example.com\r\n\r\n")
        self.doors.pump()
        self.assertIn(b"421 Misdirected Request", visitor.received)
        self.assertEqual(self.doors.origins.attempts, [])

    def test_agentLeft(self) -> None:
        """When nobody serves the name any more, another connection would not help, and a page says so."""
        visitor = self.doors.comeTLS("app.example.com", b"http/1.1")
        self.doors.links[0].a.abortConnection()
        visitor.transport.write(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        self.doors.pump()
        self.assertIn(b"404 Not Found", visitor.received)
        self.assertIn(b"no-route", visitor.received)

    def test_slowHandshake(self) -> None:
        """Who does not finish the handshake is cut off."""
        visitor = self.doors.come(self.doors.tls.arrive)
        visitor.transport.write(clientHello("raw.example.com"))
        self.doors.wait(9.75)
        self.assertIsNone(visitor.reason)
        self.doors.wait(0.5)
        self.assertIsNotNone(visitor.reason)


class OwnNameTests(TlsDoorTestCase):
    """
    The gateway's own name.
    """

    def test_page(self) -> None:
        """There is a page that says that the gateway is up."""
        visitor = self.doors.comeTLS(OWN, b"http/1.1")
        self.assertEqual(visitor.serverName, OWN)
        visitor.transport.write(b"GET / HTTP/1.1\r\nHost: gw.example\r\n\r\n")
        self.doors.pump()
        self.assertIn(b"200 OK", visitor.received)

    def test_carrier(self) -> None:
        """Who agrees on the agents' protocol is an agent, and not counted as a visitor any more."""
        visitor = self.doors.comeTLS(OWN, b"gateway/1")
        self.assertEqual(visitor.transport.negotiatedProtocol, b"gateway/1")
        self.assertEqual(self.doors.admission.connections, 0)
        self.doors.wait(10.25)
        self.assertIsNotNone(visitor.reason, "no agent registered")

    def test_noName(self) -> None:
        """Who names nobody, as those who go by an address, means the gateway, and is shown its certificate."""
        visitor = self.doors.comeTLS(None, b"gateway/1")
        self.assertEqual((visitor.serverName, visitor.transport.negotiatedProtocol), (OWN, b"gateway/1"))

    def test_noAgentsElsewhere(self) -> None:
        """At another name the agents' protocol is not spoken."""
        self.assertAlert(self.doors.comeTLS("app.example.com", b"gateway/1"), "no application protocol")


class RefusalTests(TlsDoorTestCase):
    """
    Who is turned away.
    """

    def test_unknownName(self) -> None:
        """A name that nobody serves is told to be none."""
        self.assertAlert(self.doors.comeTLS("nobody.example.com"), "unrecognized name")

    def test_gone(self) -> None:
        """A name is gone together with its agent."""
        self.doors.links[0].a.abortConnection()
        self.doors.pump()
        self.assertAlert(self.doors.comeTLS("tls.example.com"), "unrecognized name")

    def test_plainHTTP(self) -> None:
        """Who speaks HTTP without TLS gets an answer in HTTP."""
        visitor = self.doors.come(self.doors.tls.arrive)
        visitor.transport.write(b"GET / HTTP/1.1\r\nHost: tls.example.com\r\n\r\n")
        self.doors.pump()
        self.assertIn(b"400 Bad Request", visitor.received)

    def test_garbage(self) -> None:
        """What is not TLS ends the connection."""
        visitor = self.doors.come(self.doors.tls.arrive)
        visitor.transport.write(b"\0\0\0\0")
        self.doors.pump()
        self.assertTrue(visitor.ended)

    def test_brokenHello(self) -> None:
        """A ClientHello that is broken gets an alert."""
        hello = bytearray(clientHello("tls.example.com"))
        hello[43] = 33  # the length of the session
        visitor = self.doors.come(self.doors.tls.arrive)
        visitor.transport.write(bytes(hello))
        self.doors.pump()
        self.assertEqual(visitor.received, alert(Alert.DECODE_ERROR))

    def test_silence(self) -> None:
        """Who says nothing is cut off after five seconds."""
        visitor = self.doors.come(self.doors.tls.arrive)
        self.doors.wait(4.75)
        self.assertIsNone(visitor.reason)
        self.doors.wait(0.5)
        self.assertIsNotNone(visitor.reason)

    def test_endlessHello(self) -> None:
        """A ClientHello of more than 16 KiB is refused."""
        visitor = self.doors.come(self.doors.tls.arrive)
        record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(0x4000 - 4)
        visitor.transport.write(record)
        self.doors.pump()
        self.assertEqual(visitor.received, alert(Alert.HANDSHAKE_FAILURE))

    def test_access(self) -> None:
        """Who may not come is cut off before anything is read."""
        self.doors.tls.access = AccessRules.parse(["deny 127.0.0.0/8"])
        visitor = self.doors.come(self.doors.tls.arrive)
        self.assertIsNotNone(visitor.reason)

    def test_countsAreGivenBack(self) -> None:
        """Whatever becomes of a connection, it is not counted any more when it is gone."""
        for name in ("tls.example.com", "nobody.example.com", "app.example.com", OWN, None):
            peer = self.doors.comeTLS(name, b"http/1.1")
            if peer.reason is None:
                peer.transport.abortConnection()
            self.doors.pump()
        self.doors.wait(3)
        self.assertEqual(self.doors.admission.connections, 0)
        self.assertEqual(self.doors.visitors.visits, set())
