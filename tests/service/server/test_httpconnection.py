"""
Tests for a visitor's connection with HTTP: what becomes of requests that are not like the usual ones.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from twisted.internet.interfaces import IProtocol

from gateway.domain.access import EVERYBODY
from gateway.net.http2client import Http2ClientConnection
from gateway.net.http2pool import Http2OriginPool
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.service.server.accesslog import Access, AccessLog
from gateway.service.server.attached import Visitor
from gateway.testing import FlowEndpoint
from gateway.wire.agentcontrol import Service
from gateway.wire.http1 import RequestHead
from gateway.wire.httpoptions import HttpOptions
from tests.net.httpends import Exchange
from tests.service.server import test_httpdoor
from tests.service.server.doorsfixture import Doors
from tests.service.server.test_httpdoor import APP, OK


class HttpConnectionTests(test_httpdoor.HttpDoorTestCase):
    """
    A gateway with an agent behind.
    """

    def withHttp2(self) -> Http2ClientConnection:
        """A visitor comes with HTTP/2."""

        def arrive(visitor: Visitor) -> IProtocol | None:
            ticket = self.doors.visitors.admit(visitor.host, EVERYBODY, "tls")
            assert ticket is not None
            return self.doors.http.serve(replace(visitor, alpn=b"h2"), ticket)

        settings, sweep = HttpSettings(), Sweep(self.doors.clock)
        pool = Http2OriginPool(FlowEndpoint, settings=settings, sweep=sweep)
        connection = Http2ClientConnection(pool, settings=settings, sweep=sweep)
        self.doors.come(arrive, connection)
        return connection

    def test_withoutHost(self) -> None:
        """The origin of a request without Host, as in HTTP/1.0, is told by which name it came."""
        visitor = self.doors.comeTLS("app.example.com")
        self.send(visitor, b"GET / HTTP/1.0\r\n\r\n")
        received = self.doors.originAccepts().received
        self.assertEqual(received.count(b"\r\nHost: app.example.com\r\n"), 1)
        self.assertNotIn(b"X-Forwarded-Host", received)

    def test_cancelledDial(self) -> None:
        """A dial for a request that was taken back is given up, as the request would be made yet; others go on."""
        connection = self.withHttp2()
        head = RequestHead("POST", "/", "2", [("host", "app.example.com")])
        requests = [connection.send(head, 0, Exchange()) for _ in range(2)]
        self.doors.pump()
        requests[0].abort()
        self.doors.pump()
        self.assertEqual([each.cancelled for each in self.doors.origins.attempts], [True, False])
        self.assertEqual(len(self.doors.http.exchanges), 1)

    def test_afterDraining(self) -> None:
        """A connection that was not there yet when the gateway began to stop carries one request."""
        visitor = self.doors.comeTLS("gw.example")  # of which it is not known yet whether it is an agent
        modern = self.withHttp2()
        self.doors.visitors.drain()
        self.doors.http.drain()
        self.doors.pump()
        self.send(visitor, b"GET / HTTP/1.1\r\nHost: gw.example\r\n\r\n")
        self.assertIn(b"Connection: close\r\n", visitor.received)
        self.assertFalse(modern.canSend)

    def test_whoTheVisitorIs(self) -> None:
        """The address that a trusted front says may have a port, and has no zone, which could be any text."""
        options = HttpOptions(access=("allow 203.0.113.7", "allow 2001:db8::7"))
        self.doors.attached("own", Service(key="web", kind="http", hostnames=("own.example.com",), http=options))
        self.doors.http.trusted = [ip_network("127.0.0.0/8")]
        lines: list[Access] = []
        log = self.doors.http.accessLog = AccessLog(self.doors.clock)
        self.patch(AccessLog, "isOn", True)
        self.patch(log, "add", lines.append)
        for said, visitor in (
            ("203.0.113.7:4711", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ('2001:db8::7%" - admin', "2001:db8::7"),
            ("2001:db8::8", ""),
        ):
            request = f"GET / HTTP/1.1\r\nHost: own.example.com\r\nX-Forwarded-For: {said}\r\n\r\n"
            self.ask(request.encode())
            if visitor:
                self.answer(self.doors.originAccepts())
                self.doors.wait(62)
            self.assertEqual((lines[-1].visitor, lines[-1].status), (visitor or said, 200 if visitor else 403))

    def test_idle(self) -> None:
        """Whoever has asked for what there is not, and may ask again, takes no place from those who have not asked yet."""
        self.doors = Doors(limits={"unauthenticated": 2})
        for host in (b"nobody.example", b"gw.example"):
            self.assertIsNone(self.ask(test_httpdoor.GET % host).reason)
        waiting = [self.come() for _ in range(3)]
        self.assertEqual([each.reason is None for each in waiting], [True, True, False])

    def test_whomNobodyNames(self) -> None:
        """Who is behind a trusted front and not named may not come where the front itself may, which names nobody."""
        options = HttpOptions(access=("allow 127.0.0.0/8",))
        self.doors.attached("own", Service(key="web", kind="http", hostnames=("own.example.com",), http=options))
        self.doors.http.trusted = [ip_network("127.0.0.0/8")]
        for said in ("unknown", "203.0.113.7, _hidden", "127.0.0.1, unknown, 127.0.0.1"):
            request = f"GET / HTTP/1.1\r\nHost: own.example.com\r\nX-Forwarded-For: {said}\r\n\r\n"
            self.assertIn(b"403 Forbidden", self.ask(request.encode()).received, said)
        self.assertEqual(self.ask(test_httpdoor.GET % b"own.example.com").received, b"")

    def test_connectionsOfFronts(self) -> None:
        """A trusted front has as many connections as it needs, at either door, and nobody else has."""
        self.doors = Doors(limits={"perAddress": 1, "newPerSecondPerAddress": 1.0})
        self.doors.http.trusted = [ip_network("127.0.0.0/8")]
        fronts = [self.come() for _ in range(3)] + [self.doors.comeTLS("gw.example")]
        self.assertEqual([each.reason for each in fronts], [None] * 4)
        self.doors.http.trusted = []
        self.assertIsNotNone(self.come().reason)

    def test_idsOfRefused(self) -> None:
        """What is no request has an id of its own in the log, and not that of the one before."""
        lines: list[Access] = []
        log = self.doors.http.accessLog = AccessLog(self.doors.clock)
        self.patch(AccessLog, "isOn", True)
        self.patch(log, "add", lines.append)
        visitor = self.ask(APP)
        self.answer(self.doors.originAccepts(), OK)
        self.send(visitor, b"nonsense\r\n\r\n")
        self.assertEqual([each.id.rpartition("-")[2] for each in lines], ["1", "2"])
