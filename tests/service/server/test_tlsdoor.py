"""
Tests for the public TLS port.
"""

from __future__ import annotations

import contextlib
import ssl

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import AccessRules
from gateway.net.http2client import Http2ClientConnection
from gateway.net.http2pool import Http2OriginPool
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.usage import RouteLimits
from gateway.testing import FlowEndpoint, flowPair
from gateway.wire.agentcontrol import Service
from gateway.wire.clienthello import Alert, alert
from gateway.wire.http1 import RequestHead
from gateway.wire.proxyheader import Tlv
from tests.net.httpends import Exchange
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
        self.assertIn(b"502 Bad Gateway", visitor.received)
        self.assertIn(b"agent-gone", visitor.received)

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


class NobodyServesTests(TlsDoorTestCase):
    """
    Names that nobody serves, and for which there is a certificate.
    """

    def ask(self, visitor: TLSPeer, name: str = "app.example.com", method: str = "GET", accept: str = "*/*") -> bytes:
        """What a visitor is answered to a request."""
        visitor.received.clear()
        visitor.transport.write(f"{method} / HTTP/1.1\r\nHost: {name}\r\nAccept: {accept}\r\n\r\n".encode())
        self.doors.pump()
        return bytes(visitor.received)

    def lose(self) -> None:
        """The agent goes away."""
        self.doors.links[0].a.abortConnection()
        self.doors.pump()

    def comeWithHttp2(self, name: str) -> Http2ClientConnection:
        """A visitor comes who speaks HTTP/2."""
        settings, sweep = HttpSettings(), Sweep(self.doors.clock)
        pool = Http2OriginPool(FlowEndpoint, settings=settings, sweep=sweep)
        connection = Http2ClientConnection(pool, settings=settings, sweep=sweep)
        self.doors.come(self.doors.tls.arrive, wrapped(connection, TLSClient(name, (b"h2",)), self.doors.clock))
        return connection

    def askWithHttp2(self, connection: Http2ClientConnection, name: str) -> Exchange:
        """They ask for something."""
        exchange = Exchange()
        connection.send(RequestHead("GET", "/", "2", [("host", name)]), 0, exchange).finish()
        self.doors.pump()
        return exchange

    def test_neverServed(self) -> None:
        """A name that nobody has served yet has a page that says so, by whichever version of HTTP."""
        visitor = self.doors.comeTLS("nobody.example.com", b"h2", b"http/1.1")
        self.assertEqual((visitor.serverName, visitor.transport.negotiatedProtocol), ("*.example.com", b"h2"))
        exchange = self.askWithHttp2(self.comeWithHttp2("nobody.example.com"), "nobody.example.com")
        self.assertEqual(exchange.of("response")[0].status, 404)
        self.assertIn(b"Nobody serves nobody.example.com here.", exchange.of("responseBody"))
        for protocols in ((), (b"http/1.1",)):
            visitor = self.doors.comeTLS("nobody.example.com", *protocols)
            self.assertIn(b"404 no-route", self.ask(visitor, "nobody.example.com"))

    def test_agentGone(self) -> None:
        """One whose agent is gone has another, for whoever asks and how."""
        self.lose()
        visitor = self.doors.comeTLS("app.example.com", b"http/1.1")
        page = self.ask(visitor, accept="text/html,*/*;q=0.8")
        self.assertTrue(page.startswith(b"HTTP/1.1 502 Bad Gateway\r\n"))
        self.assertIn(b"<h1>The service is not connected</h1>", page)
        self.assertIn(b'"code":"agent-gone"', self.ask(visitor, accept="application/json"))
        head, _, body = self.ask(visitor, method="HEAD").partition(b"\r\n\r\n")
        self.assertEqual((head.split(b"\r\n")[0], body), (b"HTTP/1.1 502 Bad Gateway", b""))
        exchange = self.askWithHttp2(self.comeWithHttp2("app.example.com"), "app.example.com")
        self.assertEqual(exchange.of("response")[0].status, 502)

    def test_agentBack(self) -> None:
        """When the agent is back, the next request on the same connection reaches it."""
        self.lose()
        visitor, connection = self.doors.comeTLS("app.example.com"), self.comeWithHttp2("app.example.com")
        self.assertIn(b"agent-gone", self.ask(visitor))
        self.assertEqual(self.askWithHttp2(connection, "app.example.com").of("response")[0].status, 502)
        self.doors.attached("other", WEB)
        self.assertEqual(self.ask(visitor), b"")
        self.assertIn(b"X-Forwarded-Proto: https\r\n", self.doors.originAccepts().received)
        self.assertEqual(self.askWithHttp2(connection, "app.example.com").names(), [])
        self.assertIn(b"Host: app.example.com\r\n", self.doors.originAccepts().received)

    def test_goesAndComes(self) -> None:
        """A visitor who was there before the agent went away sees the page, and then whoever serves the name."""
        visitor, connection = self.doors.comeTLS("app.example.com"), self.comeWithHttp2("app.example.com")
        self.lose()
        self.assertIn(b"agent-gone", self.ask(visitor))
        self.assertEqual(self.askWithHttp2(connection, "app.example.com").of("response")[0].status, 502)
        self.doors.attached("other", WEB)
        for asked in (self.ask(visitor), self.askWithHttp2(connection, "app.example.com").names()):
            self.assertFalse(asked)
        self.assertEqual(len(self.doors.preambles), 2)

    def test_onlyItsName(self) -> None:
        """The connection is for the one name, and for no agent's others."""
        visitor = self.doors.comeTLS("nobody.example.com")
        for name in ("app.example.com", "tls.example.com", "other.example.com", OWN):
            self.assertIn(b"421 Misdirected Request", self.ask(visitor, name))
        self.assertEqual(self.doors.origins.attempts, [])

    def test_backPassedThrough(self) -> None:
        """When TLS for the name is passed through by then, another connection is needed."""
        self.lose()
        visitor = self.doors.comeTLS("app.example.com")
        self.doors.attached("box", Service(key="p", kind="tls", hostnames=WEB.hostnames))
        self.assertIn(b"421 Misdirected Request", self.ask(visitor))
        self.assertEqual(self.doors.origins.attempts, [])

    def test_notHTTP(self) -> None:
        """Where something else than HTTP was served there is no page, be it that the agent is gone or serves it no more."""
        (session,) = self.doors.registry.attachments
        self.doors.registry.offer(session, (WEB,))
        for _ in range(2):
            for name in ("tls.example.com", "raw.example.com"):
                self.assertAlert(self.doors.comeTLS(name), "unrecognized name")
            self.lose()

    def test_otherProtocols(self) -> None:
        """Neither is there one for who does not speak HTTP."""
        for protocol in (b"gateway/1", b"acme-tls/1"):
            self.assertAlert(self.doors.comeTLS("nobody.example.com", protocol), "unrecognized name")

    def test_quiet(self) -> None:
        """The page is answer enough: nobody fills the log with it, or memory with names that they make up."""
        self.doors.comeTLS("nobody.example.com")
        contexts = len(self.doors.certificates._contexts)
        with capturedLogs() as events:
            for number in range(5):
                self.ask(self.doors.comeTLS(f"nobody{number}.example.com"), f"nobody{number}.example.com")
        self.assertEqual(list(events), [])
        self.assertEqual(len(self.doors.certificates._contexts), contexts)
        self.assertEqual(self.doors.metrics.errors.count("no-route"), 5)

    def resume(self, name: str, session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession, bool]:
        """
        A visitor comes who was here before.

        @return: what to come again with, and whether they were known.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
        visitor = self.doors.come(self.doors.tls.arrive)

        def exchange() -> None:
            visitor.transport.write(outgoing.read())
            self.doors.pump()
            incoming.write(bytes(visitor.received))
            visitor.received.clear()

        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            exchange()
        tls.write(b"GET / HTTP/1.1\r\nHost: gw.example\r\n\r\n")  # tickets come with the answer
        exchange()
        self.assertIn(b" 421 ", tls.read())
        assert tls.session is not None
        return tls.session, bool(tls.session_reused)

    def test_sessions(self) -> None:
        """A session of TLS that was begun for a page is resumed for pages alone, and one for a route never for a page."""
        self.doors.attached("other", Service(key="x", kind="http", hostnames=("x.example.com",)))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
            self.context.maximum_version = version
            page, route = self.resume("nobody.example.com")[0], self.resume("x.example.com")[0]
            for name, session, isKnown in (
                ("nobody.example.com", page, True),
                ("x.example.com", route, True),
                ("x.example.com", page, False),
                ("nobody.example.com", route, False),
            ):
                self.assertEqual(self.resume(name, session)[1], isKnown, (name, version))


class RefusalTests(TlsDoorTestCase):
    """
    Who is turned away.
    """

    def test_unknownName(self) -> None:
        """A name that nobody serves is told to be none, where there is no certificate to say more; so is the log."""
        with capturedLogs() as events:
            self.assertAlert(self.doors.comeTLS("nobody.example.net"), "unrecognized name")
        self.assertEqual([each["event"] for each in events], ["door.refused"])

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
