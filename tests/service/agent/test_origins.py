"""
Tests for what an agent's visitors are led to.
"""

from __future__ import annotations

from ipaddress import ip_address

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.targets import Target, TargetPolicy, parseRule
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.relay import RelaySettings
from gateway.service.agent.origins import Origin, Origins, originEndpoint, parseOrigin
from gateway.service.target import TargetRefused
from gateway.testing import FlowTransport
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Preamble
from gateway.wire.preamble import Target as StreamTarget
from gateway.wire.proxyheader import Address, ProxyHeader, Tlv, parse
from tests.net.sides import Peer
from tests.net.test_dial import DialReactor

HEADER = ProxyHeader(
    Address(ip_address("192.0.2.1"), 40000),
    Address(ip_address("198.51.100.7"), 443),
    tlvs=((Tlv.AUTHORITY, b"app.example.com"), (Tlv.UNIQUE_ID, b"7f3a-1")),
)
WEB = Origin("http", Target("127.0.0.1", 8080))


class ParseTests(SynchronousTestCase):
    """
    L{parseOrigin}.
    """

    def test_good(self) -> None:
        """A host and port, an IPv6 address in brackets, a port of this machine, a UNIX socket."""
        self.assertEqual(parseOrigin("LocalHost:8080"), Target("localhost", 8080))
        self.assertEqual(parseOrigin("[::1]:22"), Target("::1", 22))
        self.assertEqual(parseOrigin("8080"), Target("127.0.0.1", 8080))
        self.assertEqual(parseOrigin("unix:/run/app.sock"), "/run/app.sock")
        self.assertEqual(str(Origin("tcp", "/run/app.sock")), "unix:/run/app.sock")
        self.assertEqual(str(Origin("tcp", Target("::1", 22))), "[::1]:22")

    def test_bad(self) -> None:
        """Everything else is refused with a sentence."""
        for text in (
            "0",
            "65536",
            "host",
            "host:",
            "host:0",
            "http://x:80",
            "unix:app.sock",
            "unix:",
            "",
            "unix:/" + "x" * 107,
        ):
            self.assertRaises(ValueError, parseOrigin, text)
        self.assertRaises(ValueError, parseOrigin, "unix:/run/dns.sock", "udp")


class EndpointTests(SynchronousTestCase):
    """
    L{originEndpoint} connects, and says who the visitor is where that is wanted.
    """

    def connect(self, origin: Origin) -> bytes:
        """What the origin hears first, when the protocol says hello."""
        reactor = DialReactor()
        peer = Peer()
        done = originEndpoint(reactor, origin, HEADER).connect(Factory.forProtocol(lambda: peer))  # type: ignore[arg-type]
        if isinstance(origin.address, str):
            ((path, factory, _, _),) = reactor.unixClients
            self.assertEqual(path, origin.address)
        else:
            ((host, port, factory, _, _),) = reactor.tcpClients
            self.assertEqual((host, port), (origin.address.host, origin.address.port))
        transport = FlowTransport(factory.buildProtocol(None))
        self.assertIs(self.successResultOf(done), peer)
        peer.transport.write(b"hello")
        transport.deliver(b"back")
        self.assertEqual(peer.received, b"back")
        transport.deliverEOF()
        self.assertTrue(peer.ended)
        self.assertFalse(transport.disconnected)
        return transport.written()

    def test_none(self) -> None:
        """By default nothing is said."""
        self.assertEqual(self.connect(WEB), b"hello")
        self.assertEqual(self.connect(Origin("tcp", "/run/app.sock")), b"hello")

    def test_v1(self) -> None:
        """Version 1 is a line of text."""
        said = self.connect(Origin("tls", Target("127.0.0.1", 8443), "v1"))
        self.assertEqual(said, b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\nhello")

    def test_v2(self) -> None:
        """Version 2 has all that the gateway has told, and nothing else."""
        for origin in (Origin("tls", Target("127.0.0.1", 8443), "v2"), Origin("tls", "/run/app.sock", "v2")):
            said = self.connect(origin)
            header, size = parse(said) or (None, 0)
            self.assertEqual(header, HEADER)
            self.assertEqual(said[size:], b"hello")


class DecideTests(SynchronousTestCase):
    """
    L{Origins} decides where a stream leads.
    """

    def setUp(self) -> None:
        self.reactor = DialReactor()
        settings = RelaySettings(idleTimeout=100.0)
        self.origins = Origins(self.reactor, settings, datagramIdle=30.0)  # type: ignore[arg-type]  # no descriptors
        self.origins.services = {"web": WEB, "dns": Origin("udp", Target("127.0.0.1", 53), connectTimeout=3.0)}

    def targetFailure(self, host: str, port: int) -> DialFailed:
        """Why a target cannot be reached."""
        endpoint, _ = self.origins.decide(Preamble(StreamTarget(host, port), ProxyHeader()))
        error = self.failureResultOf(endpoint.connect(Factory.forProtocol(Peer)), TargetRefused).value
        assert isinstance(error, DialFailed)
        return error

    def test_service(self) -> None:
        """A key leads to the origin, in the time that it has to be reached."""
        endpoint, settings = self.origins.decide(Preamble("web", HEADER))
        self.assertEqual((settings.dialTimeout, settings.idleTimeout), (10.0, 100.0))
        endpoint.connect(Factory.forProtocol(Peer))
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 8080))

    def test_datagrams(self) -> None:
        """A flow of datagrams is over when nothing came for a while, which is not that of connections."""
        _, settings = self.origins.decide(Preamble("dns", HEADER))
        self.assertEqual((settings.dialTimeout, settings.idleTimeout), (3.0, 30.0))

    def test_unknown(self) -> None:
        """Another key leads nowhere."""
        error = self.assertRaises(RemoteProtocolError, self.origins.decide, Preamble("db", HEADER))
        self.assertEqual(error.code, "unknown-service")

    def test_noTargets(self) -> None:
        """Without rules no target is reached."""
        preamble = Preamble(StreamTarget("10.0.0.5", 22), ProxyHeader())
        self.assertEqual(self.assertRaises(DialFailed, self.origins.decide, preamble).kind, DialFailure.DENIED)

    def test_targets(self) -> None:
        """With rules those are that the rules allow, and no others."""
        self.origins.policy = TargetPolicy([parseRule("allow", "10.0.0.0/8:22")], strict=True)
        endpoint, settings = self.origins.decide(Preamble(StreamTarget("10.0.0.5", 22), ProxyHeader()))
        self.assertEqual(settings, self.origins.settings)
        endpoint.connect(Factory.forProtocol(Peer))
        self.assertEqual(self.reactor.tcpClients[0][:2], ("10.0.0.5", 22))
        for host, port in (("10.0.0.5", 23), ("192.0.2.1", 22), ("127.0.0.1", 22)):
            self.assertEqual(self.targetFailure(host, port).kind, DialFailure.DENIED)

    def test_badTargets(self) -> None:
        """What is no target is denied."""
        self.origins.policy = TargetPolicy([parseRule("allow", "*")])
        for host, port in (("10.0.0.5", 0), ("1.2.3.4.5", 22)):
            preamble = Preamble(StreamTarget(host, port), ProxyHeader())
            self.assertRaises(DialFailed, self.origins.decide, preamble)
