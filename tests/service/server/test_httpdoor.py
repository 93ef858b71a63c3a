"""
Tests for the HTTP door: where each request is led, through which connection, and who is told what.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from ipaddress import ip_network

from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IProtocol
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import EVERYBODY, AccessRules
from gateway.domain.httppolicy import HttpDefaults
from gateway.net.http2client import Http2ClientConnection
from gateway.net.http2pool import Http2OriginPool
from gateway.net.httpinterfaces import IOriginRequest
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.service.server.accesslog import Access, AccessLog
from gateway.service.server.attached import Visitor
from gateway.service.server.usage import RouteLimits
from gateway.testing import FlowEndpoint, FlowTransport
from gateway.wire.agentcontrol import Service
from gateway.wire.http1 import RequestHead
from gateway.wire.httpoptions import HttpOptions
from gateway.wire.proxyheader import Tlv
from tests.net.httpends import Exchange
from tests.net.sides import Peer
from tests.service.server.doorsfixture import PASSED, WEB, Doors

GET = b"GET /form?a=b HTTP/1.1\r\nHost: %s\r\n\r\n"
POST = b"POST /form HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
APP = GET % b"app.example.com"
BOB = Service(key="web", kind="http", hostnames=("bob.example.com",))


class HttpDoorTestCase(SynchronousTestCase):
    """
    A gateway with a plain port, and an agent whose web server is at app.example.com.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.doors.attached("box", WEB, PASSED)

    def come(self, **options: object) -> Peer:
        """A visitor comes to the plain port."""
        return self.doors.come(self.doors.http.arrive, **options)  # type: ignore[arg-type]  # of Arrivals

    def send(self, visitor: Peer, request: bytes) -> None:
        """A visitor sends something."""
        visitor.transport.write(request)
        self.doors.pump()

    def ask(self, request: bytes, **options: object) -> Peer:
        """A visitor comes to the plain port and sends a request."""
        visitor = self.come(**options)
        self.send(visitor, request)
        return visitor

    def answer(self, origin: Peer, response: bytes = OK) -> None:
        """An origin answers."""
        origin.transport.write(response)
        self.doors.pump()


class RoutingTests(HttpDoorTestCase):
    """
    Where requests lead.
    """

    def test_leadsOn(self) -> None:
        """A request reaches the origin, with who it is from, and the response comes back."""
        visitor = self.ask(POST % b"app.example.com")
        origin = self.doors.originAccepts()
        head, _, body = bytes(origin.received).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.assertEqual(lines[0], b"POST /form HTTP/1.1")
        self.assertIn(b"Host: app.example.com", lines)
        self.assertIn(b"X-Forwarded-Proto: http", lines)
        self.assertIn(b"X-Forwarded-Host: app.example.com", lines)
        self.assertEqual(body, b"hello")
        self.answer(origin)
        self.assertEqual(visitor.received, OK)
        self.assertIsNone(visitor.reason)

    def test_eachRequest(self) -> None:
        """Each request of a connection is led by its own Host, and answered in order."""
        self.doors.attached("bob", BOB)
        visitor = self.ask(APP + GET % b"bob.example.com")
        first = self.doors.originAccepts()
        self.assertEqual(len(self.doors.preambles), 1)
        self.answer(first)
        second = self.doors.originAccepts()
        self.assertIn(b"Host: bob.example.com", second.received)
        self.answer(second, OK.replace(b"ok", b"OK"))
        self.assertTrue(visitor.received.startswith(OK))
        self.assertTrue(visitor.received.endswith(b"OK"))

    def test_connectionsAreUsedAgain(self) -> None:
        """A connection to the origin serves one request after another, of whichever visitor."""
        visitor, other = self.ask(APP), self.come()
        origin = self.doors.originAccepts()
        self.answer(origin)
        self.send(other, APP)
        self.answer(origin)
        self.send(visitor, APP)
        self.answer(origin)
        self.assertEqual((visitor.received.count(b"200 OK"), other.received.count(b"200 OK")), (2, 1))
        self.assertEqual(len(self.doors.preambles), 1)

    def test_saysNothingOfAVisitor(self) -> None:
        """What serves one visitor after another is told of none by its PROXY header."""
        self.ask(APP)
        header = self.doors.preambles[0].header
        self.assertIsNone(header.source)
        self.assertIsNone(header.get(Tlv.AUTHORITY))

    def test_onePerVisitor(self) -> None:
        """Where the origin is told by a PROXY header who a connection is for, it is for nobody else."""
        options = HttpOptions(proxyPerVisitor=True)
        self.doors.attached("box2", Service(key="web", kind="http", hostnames=("own.example.com",), http=options))
        visitors, origins = [], []
        for _ in range(2):
            visitors.append(self.ask(GET % b"own.example.com"))
            origins.append(self.doors.originAccepts())
            self.answer(origins[-1])
        self.send(visitors[0], GET % b"own.example.com")
        self.answer(origins[0])
        self.assertEqual(visitors[0].received.count(b"200 OK"), 2)
        self.assertEqual(len(self.doors.preambles), 2)
        visitors[0].transport.loseConnection()
        self.doors.pump()
        self.assertEqual([origin.ended for origin in origins], [True, False])

    def test_byteByByte(self) -> None:
        """A head may come byte by byte."""
        self.ask(APP, chunkSize=1)
        self.assertTrue(self.doors.originAccepts().received.startswith(b"GET /form?a=b HTTP/1.1\r\n"))

    def test_spellings(self) -> None:
        """A name is found however it is spelled."""
        self.ask(GET % b"APP.example.com.:8080")
        self.assertIn(b"X-Forwarded-Host: APP.example.com.:8080\r\n", self.doors.originAccepts().received)

    def test_wildcards(self) -> None:
        """A name of its own comes before a wildcard, which holds one label."""
        self.doors.attached("any", Service(key="any", kind="http", hostnames=("*.example.com",)))
        for host, key in ((b"app.example.com", "web"), (b"other.example.com", "any")):
            self.ask(GET % host)
            self.assertEqual(self.doors.preambles[-1].to, key)
        self.assertIn(b"404", self.ask(GET % b"a.b.example.com").received)

    def test_ownName(self) -> None:
        """The gateway's own name and addresses lead to its site, which takes no agents without TLS."""
        for host in (b"gw.example", b"192.0.2.1:80", b"[2001:db8::1]"):
            self.assertIn(b"it is up", self.ask(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host).received)
        upgrade = b"GET /agent HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        upgrade += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        self.assertIn(b"403 Forbidden", self.ask(upgrade).received)

    def test_prefix(self) -> None:
        """At the gateway's own name a path leads to who serves it, who sees what is below it."""
        self.doors.attached("node", Service(key="web", kind="http", prefixes=("/node",)))
        self.ask(b"GET /node/articles?x=1 HTTP/1.1\r\nHost: gw.example\r\n\r\n")
        origin = self.doors.originAccepts()
        self.assertTrue(origin.received.startswith(b"GET /articles?x=1 HTTP/1.1\r\n"))
        self.assertIn(b"X-Forwarded-Prefix: /node\r\n", origin.received)
        self.assertIn(b"404", self.ask(b"GET /nodes HTTP/1.1\r\nHost: gw.example\r\n\r\n").received)
        self.assertIn(b"404", self.ask(GET % b"nobody.example").received)

    def test_upgrade(self) -> None:
        """After a 101 there are bytes both ways, and the visit counts until their end."""
        visitor = self.ask(
            b"GET /ws HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        origin = self.doors.originAccepts()
        self.assertIn(b"Upgrade: websocket\r\n", origin.received)
        self.answer(origin, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        self.assertTrue(visitor.received.endswith(b"\r\n\r\nhi"))
        self.send(visitor, b"\x81\x00")
        self.assertTrue(origin.received.endswith(b"\x81\x00"))
        self.assertEqual(len(self.doors.visitors.visits), 1)
        visitor.transport.loseConnection()
        origin.transport.loseConnection()
        self.doors.pump()
        self.assertEqual((self.doors.visitors.visits, self.doors.http.exchanges), (set(), set()))
        self.assertEqual(self.doors.admission.connections, 0)


class FailureTests(HttpDoorTestCase):
    """
    When there is no response.
    """

    def test_nobodyServes(self) -> None:
        """A page says that nobody serves a name; a name of passed-through TLS is none here. The connection goes on."""
        visitor = self.come()
        for name in (b"nobody.example.com", b"tls.example.com"):
            self.send(visitor, GET % name)
            self.assertIn(b"404 Not Found", visitor.received)
            self.assertIn(name, visitor.received)
        self.assertIsNone(visitor.reason)

    def test_forPrograms(self) -> None:
        """Who asks for JSON gets JSON."""
        visitor = self.ask(b"GET / HTTP/1.1\r\nHost: nobody.example\r\nAccept: application/json\r\n\r\n")
        self.assertIn(b'"code":"no-route"', visitor.received)

    def test_originRefuses(self) -> None:
        """A page says that the origin refused."""
        visitor = self.ask(APP)
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        self.assertIn(b"502 Bad Gateway", visitor.received)
        self.assertIn(b"origin-refused", visitor.received)
        self.assertEqual(len(self.doors.origins.attempts), 1)

    def test_originSilent(self) -> None:
        """Another one says that it did not answer."""
        visitor = self.ask(APP)
        self.doors.origins.attempts[-1].fail(TimeoutError())
        self.doors.pump()
        self.assertIn(b"504 Gateway Timeout", visitor.received)

    def test_originSlow(self) -> None:
        """So it is when it takes the request and does not answer for five minutes."""
        visitor = self.ask(APP)
        self.doors.originAccepts()
        self.doors.wait(299)
        self.assertEqual(visitor.received, b"")
        self.doors.wait(3)
        self.assertIn(b"504 Gateway Timeout", visitor.received)
        self.assertIn(b"origin-timeout", visitor.received)

    def test_agentGone(self) -> None:
        """And another one that the agent went away."""
        visitor = self.ask(APP)
        self.doors.links[0].a.abortConnection()
        self.doors.pump()
        self.assertIn(b"502 Bad Gateway", visitor.received)
        self.assertIn(b"agent-gone", visitor.received)

    def test_agentGoneBefore(self) -> None:
        """So it is when it has gone before; one that is here and does not serve the name any more is not gone."""
        agent = self.doors.attached("bob", BOB)
        visitor = self.come()
        agent.offer(())
        self.doors.pump()
        self.send(visitor, GET % b"bob.example.com")
        self.assertIn(b"no-route", visitor.received)
        self.doors.links[0].a.abortConnection()
        for name, code in ((b"app.example.com", b"502 agent-gone"), (b"tls.example.com", b"404 no-route")):
            visitor.received.clear()
            self.send(visitor, GET % name)
            self.assertIn(code, visitor.received)

    def test_agentGoneLater(self) -> None:
        """So it is when the origin has the request already, on a new connection or on an old one."""
        visitor = self.ask(APP)
        self.doors.originAccepts()
        self.doors.links[0].a.abortConnection()
        self.doors.pump()
        self.assertIn(b"agent-gone", visitor.received)
        self.doors.attached("box", WEB)
        carrier = self.doors.links[-1].a
        self.send(visitor, APP)
        self.answer(self.doors.originAccepts())
        del visitor.received[:]
        self.send(visitor, APP)
        carrier.abortConnection()
        self.doors.pump()
        self.assertIn(b"agent-gone", visitor.received)

    def test_agentBack(self) -> None:
        """A request that waits for a connection gets one through the agent's new session, when that takes over."""
        visitor = self.ask(APP)
        self.doors.attached("box", WEB)
        self.answer(self.doors.originAccepts())
        self.assertEqual(visitor.received, OK)

    def test_badResponse(self) -> None:
        """What is no response of HTTP's is none to the visitor either, and nothing of it reaches them."""
        visitor = self.ask(APP)
        self.answer(self.doors.originAccepts(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        self.assertIn(b"502 Bad Gateway", visitor.received)
        self.assertIn(b"bad-response", visitor.received)
        self.assertNotIn(b"OpenSSH", visitor.received)

    def test_otherReplica(self) -> None:
        """A request that one replica could not deliver is delivered by another."""
        doors = self.doors = Doors()
        for replica in ("one", "two"):
            doors.attached("box", WEB, replica=replica)
        visitor = self.ask(APP)
        doors.origins.attempts[-1].fail(ConnectionRefusedError())
        doors.pump()
        self.assertEqual(len(doors.origins.attempts), 2)
        self.answer(doors.originAccepts())
        self.assertEqual(visitor.received, OK)

    def test_visitorLeavesWhileDialling(self) -> None:
        """A dial for a visitor who left is given up."""
        visitor = self.ask(APP)
        visitor.transport.abortConnection()
        self.doors.pump()
        self.assertTrue(self.doors.origins.attempts[-1].cancelled)
        self.assertEqual((self.doors.http.exchanges, self.doors.visitors.visits), (set(), set()))

    def test_head(self) -> None:
        """The answer to HEAD has no body."""
        visitor = self.ask(b"HEAD / HTTP/1.1\r\nHost: nobody.example.com\r\n\r\n")
        self.assertTrue(visitor.received.endswith(b"\r\n\r\n"))

    def test_badRequests(self) -> None:
        """What is no request for one host gets a page that says so."""
        for request in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\nHost: app.example.com\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: app.example.com:x\r\n\r\n",
            b"what is this?\r\n\r\n",
        ):
            visitor = self.ask(request)
            self.assertIn(b"400 Bad Request", visitor.received, request)
            self.assertTrue(visitor.ended)

    def test_longHead(self) -> None:
        """A head of more than 16 KiB gets a page."""
        visitor = self.ask(b"GET / HTTP/1.1\r\nHost: app.example.com\r\nX: " + b"x" * 16384)
        self.assertIn(b"431 Request Header", visitor.received)

    def test_tls(self) -> None:
        """TLS ends the connection."""
        self.assertTrue(self.ask(b"\x16\x03\x01").ended)

    def test_slow(self) -> None:
        """Who does not finish the head is told so after ten seconds, and cut off."""
        visitor = self.ask(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n")
        self.doors.wait(9)
        self.assertFalse(visitor.ended)
        self.doors.wait(3)
        self.assertIn(b"408 Request Timeout", visitor.received)
        self.assertTrue(visitor.ended)

    def test_oldVersion(self) -> None:
        """HTTP/1.0 without a Host means the gateway itself."""
        self.assertIn(b"it is up", self.ask(b"GET / HTTP/1.0\r\n\r\n").received)


class LimitTests(HttpDoorTestCase):
    """
    Who may come, and how often.
    """

    def askWithHttp2(self, host: str, *fields: tuple[str, str]) -> tuple[IOriginRequest, Exchange]:
        """A visitor begins a request with a body of unknown length."""
        settings, sweep = HttpSettings(), Sweep(self.doors.clock)
        pool = Http2OriginPool(FlowEndpoint, settings=settings, sweep=sweep)
        connection = Http2ClientConnection(pool, settings=settings, sweep=sweep)
        self.doors.come(self.arriveWithHttp2, connection)
        exchange = Exchange()
        request = connection.send(RequestHead("POST", "/", "2", [("host", host), *fields]), None, exchange)
        self.doors.pump()
        return request, exchange

    def test_slowBody(self) -> None:
        """By HTTP/2 a body without a length may not come slowly either, but for an origin that speaks HTTP/2 itself."""
        h2c = HttpOptions(protocol="h2c")
        self.doors.attached("own", Service(key="web", kind="http", hostnames=("own.example.com",), http=h2c))
        for host, answers in (("app.example.com", [408]), ("own.example.com", [])):
            request, exchange = self.askWithHttp2(host)
            request.write(bytes(4000))
            self.doors.wait(10)
            self.doors.originAccepts()
            self.doors.wait(19)
            request.write(b"a")
            self.assertEqual(exchange.names(), [])
            self.doors.wait(5)
            self.assertEqual([head.status for name, (head, _) in exchange.events[:1]], answers)

    def test_bodyThatIsNotAskedFor(self) -> None:
        """Who waits to be told to send the body waits for the origin, but not for ever."""
        _, exchange = self.askWithHttp2("app.example.com", ("expect", "100-continue"))
        self.doors.originAccepts()
        self.doors.wait(290)
        self.assertEqual(exchange.names(), [])
        self.doors.wait(15)
        self.assertEqual(exchange.of("response")[0].status, 408)

    def arriveWithHttp2(self, visitor: Visitor) -> IProtocol | None:
        """As inside of TLS."""
        ticket = self.doors.visitors.admit(visitor.host, EVERYBODY, "tls")
        assert ticket is not None
        return self.doors.http.serve(replace(visitor, alpn=b"h2"), ticket)

    def test_access(self) -> None:
        """Who may not come is cut off."""
        self.doors.http.access = AccessRules.parse(["allow 10.0.0.0/8"])
        self.assertIsNotNone(self.come().reason)

    def test_tooMany(self) -> None:
        """A request beyond the route's limit gets a page."""
        self.doors = Doors(routeLimits=RouteLimits(connections=1))
        self.doors.attached("box", WEB)
        self.ask(APP)
        self.assertIn(b"503 Service Unavailable", self.ask(APP).received)
        self.answer(self.doors.originAccepts())
        self.ask(APP)
        self.assertEqual(len(self.doors.http.exchanges), 1)

    def test_perAddress(self) -> None:
        """An address has so many requests at once, over all of its connections."""
        self.doors.http.perAddress = 1
        self.ask(APP)
        self.assertIn(b"429 Too Many Requests", self.ask(APP).received)
        self.answer(self.doors.originAccepts())
        self.assertEqual(self.ask(APP).received, b"")

    def test_oneAfterTheOther(self) -> None:
        """A request that came behind another one does not find it counted any more when it is its turn."""
        options = HttpOptions(inFlight=1)
        self.doors = Doors(routeLimits=RouteLimits(connections=1))
        self.doors.attached("box", Service(key="web", kind="http", hostnames=("app.example.com",), http=options))
        self.doors.http.perAddress = 1
        visitor = self.ask(APP * 3)
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        origin = self.doors.originAccepts()
        self.answer(origin)
        self.answer(origin)
        self.assertIn(b"origin-refused", visitor.received)
        self.assertTrue(visitor.received.endswith(OK + OK))

    def test_rates(self) -> None:
        """A rate of a route, or of an address, holds over all requests of a connection."""
        for limits in (RouteLimits(bytesPerSecond=1000), RouteLimits(bytesPerSecondPerAddress=1000)):
            self.doors = Doors(routeLimits=limits)
            self.doors.attached("box", WEB)
            visitor = self.ask(APP)
            origin = self.doors.originAccepts()
            for _ in range(2):
                self.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + bytes(2000))
                self.send(visitor, APP)
            self.assertEqual(visitor.received.count(0), 2000)
            self.doors.wait(1)
            self.assertEqual(visitor.received.count(0), 4000)

    def test_rateOutlivesConnections(self) -> None:
        """Who hangs up and comes again finds what they took counted."""
        self.doors = Doors(routeLimits=RouteLimits(bytesPerSecondPerAddress=1000))
        self.doors.attached("box", WEB)
        response = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + bytes(2000)
        visitor = self.ask(APP)
        origin = self.doors.originAccepts()
        self.answer(origin, response)
        visitor.transport.loseConnection()
        self.doors.pump()
        gc.collect()
        visitor = self.ask(APP)
        self.answer(origin, response)
        self.assertEqual(visitor.received.count(0), 0)
        self.doors.wait(1)
        self.assertEqual(visitor.received.count(0), 2000)

    def test_policy(self) -> None:
        """A service's own options hold: who has no password is asked for one, and headers are set."""
        # The hash of "secret".
        user = "ann:sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
        options = HttpOptions(basicAuth=(user,), setRequestHeaders=(("x-team", "blue"),), maxBody=10)
        self.doors.attached("own", Service(key="web", kind="http", hostnames=("own.example.com",), http=options))
        visitor = self.ask(GET % b"own.example.com")
        self.assertIn(b"401 Unauthorized", visitor.received)
        self.send(visitor, b"GET / HTTP/1.1\r\nHost: own.example.com\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n\r\n")
        received = self.doors.originAccepts().received
        self.assertIn(b"X-Team: blue\r\n", received)
        self.assertNotIn(b"Authorization", received)

    def test_maxBody(self) -> None:
        """A body without a length is stopped where it is too long."""
        options = HttpOptions(maxBody=10)
        self.doors.attached("own", Service(key="web", kind="http", hostnames=("own.example.com",), http=options))
        visitor = self.ask(
            b"POST / HTTP/1.1\r\nHost: own.example.com\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n"
        )
        origin = self.doors.originAccepts()
        self.send(visitor, b"6\r\nabcdef\r\n")
        self.assertIn(b"413 ", visitor.received)
        self.assertNotIn(b"0\r\n\r\n", origin.received)
        self.assertIsNotNone(origin.reason)

    def test_redirect(self) -> None:
        """A gateway may send visitors of the plain port to the one with TLS."""
        self.doors.http.policies.defaults = HttpDefaults(httpsRedirect=True)
        self.assertIn(b"Location: https://app.example.com/form?a=b\r\n", self.ask(APP).received)

    def test_trustedFront(self) -> None:
        """What a trusted front says of the visitor counts, and nobody else's word."""
        options = HttpOptions(access=("allow 203.0.113.7",))
        self.doors.attached("own", Service(key="web", kind="http", hostnames=("own.example.com",), http=options))
        request = b"GET / HTTP/1.1\r\nHost: own.example.com\r\nX-Forwarded-For: 192.0.2.1, 203.0.113.7\r\n\r\n"
        self.assertIn(b"403 Forbidden", self.ask(request).received)
        self.doors.http.trusted = [ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")]
        self.ask(request)
        self.assertIn(b"203.0.113.7, ", self.doors.originAccepts().received)

    def test_draining(self) -> None:
        """When the gateway is about to stop, idle connections end, and others after their response."""
        idle, busy = self.ask(APP), self.come()
        origin = self.doors.originAccepts()
        self.answer(origin)
        self.send(busy, APP)
        self.doors.visitors.drain()
        self.doors.http.drain()
        self.doors.pump()
        self.assertTrue(idle.ended)
        self.assertFalse(busy.ended)
        self.answer(origin)
        self.assertIn(b"Connection: close\r\n", busy.received)
        self.assertTrue(busy.ended)
        self.assertTrue(origin.ended)

    def test_end(self) -> None:
        """When it stops, all are cut off."""
        visitor = self.ask(APP)
        origin = self.doors.originAccepts()
        self.doors.visitors.end()
        self.doors.pump()
        self.assertIsNotNone(visitor.reason)
        self.assertIsNotNone(origin.reason)
        self.assertEqual(self.doors.visitors.visits, set())

    def test_lingers(self) -> None:
        """Who is answered for the last time and goes on sending is not reset before it was read, but cut off then."""
        visitor = self.ask(b"nonsense\r\n\r\n")
        self.send(visitor, b"more")
        transport = self.doors.links[-1].b
        assert isinstance(transport, FlowTransport)
        self.assertFalse(transport.disconnected)
        self.doors.wait(4)
        self.assertTrue(transport.aborted)
        self.assertEqual(self.doors.admission.connections, 0)


class RecordTests(HttpDoorTestCase):
    """
    What is counted and written down.
    """

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[Access] = []
        log = self.doors.http.accessLog = AccessLog(self.doors.clock)
        self.patch(AccessLog, "isOn", True)
        self.patch(log, "add", self.lines.append)

    def records(self) -> list[tuple[int, str, str]]:
        """Status, problem and cause of each request in the log."""
        return [(each.status, each.problem, each.cause) for each in self.lines]

    def test_bytes(self) -> None:
        """Bytes are counted once, though the visitor leaves while a request waits for its connection."""
        visitor = self.ask(APP)
        origin = self.doors.originAccepts()
        self.answer(origin)
        origin.transport.loseConnection()
        self.send(visitor, APP)
        visitor.transport.abortConnection()
        self.doors.pump()
        self.assertEqual(self.doors.metrics.bytes.count("down"), 2)
        self.assertEqual(self.records(), [(200, "", ""), (0, "", "visitor-left")])

    def test_routeGone(self) -> None:
        """A request is finished and written down although the agent serves its route no more."""
        agent = self.doors.attached("bob", BOB)
        visitor = self.ask(GET % b"bob.example.com")
        origin = self.doors.originAccepts()
        agent.offer(())
        self.doors.pump()
        self.assertIsNone(self.doors.registry.host("bob.example.com"))
        self.answer(origin)
        self.assertEqual(visitor.received, OK)
        self.assertEqual(self.records(), [(200, "", "")])

    def test_badBody(self) -> None:
        """A request whose body is wrong, or late, is one request in the log, with what it was answered."""
        head = b"POST / HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
        wrong, late = self.ask(head + b"x\r\n"), self.come()
        self.doors.originAccepts()
        self.send(late, head)
        self.doors.originAccepts()
        self.doors.wait(23)
        self.assertIn(b" 400 ", wrong.received)
        self.assertIn(b" 408 ", late.received)
        self.assertEqual(self.records(), [(400, "bad-request", ""), (408, "request-timeout", "")])
        self.assertEqual(self.doors.metrics.requests.count("408"), 1)
        self.assertEqual(self.doors.metrics.requests.count("0"), 0)
