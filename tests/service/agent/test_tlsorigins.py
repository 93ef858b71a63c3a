"""
Tests for origins that speak TLS: how they are written, how they are dialled, and why they are not believed.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.tls import CertificateFiles
from gateway.net.tlsclient import ClientTrust
from gateway.service.agent.config import AgentConfig, HealthSection, agentPlan
from gateway.service.agent.health import HealthChecks
from gateway.service.agent.options import AgentOptions
from gateway.service.agent.origins import Origin, OriginTLS, originEndpoint, parseOriginURL
from gateway.service.configuration import ConfigurationError, readConfiguration
from gateway.testing import FlowLink, flowPair
from gateway.wire.proxyheader import parse
from tests.certificates import Credential, makeAuthority
from tests.net.muxpair import Applications
from tests.net.sides import Peer
from tests.net.test_dial import DialReactor
from tests.net.test_tlsclient import DAY, NAME, NOW, Issuer, pinOf
from tests.service.agent.test_origins import HEADER

ADDRESS = Target("127.0.0.1", 8443)

FILE = """
[gateway]
to = "wss://gw.example/agent"

[[service]]
key = "web"
"""

WEB = """
kind = "http"
hostnames = ["app.example.com"]
origin = "https://127.0.0.1:8443"
"""


class ParseTests(SynchronousTestCase):
    """
    L{parseOriginURL}.
    """

    def test_http(self) -> None:
        """For HTTP there are URLs with and without TLS, whose ports may be left out."""
        for text, expected in (
            ("https://127.0.0.1:8443", (ADDRESS, True)),
            ("HTTPS://Dev.Example/", (Target("dev.example", 443), True)),
            ("https://[::1]:8443", (Target("::1", 8443), True)),
            ("https://[::1]", (Target("::1", 443), True)),
            ("http://localhost:8080/", (Target("localhost", 8080), False)),
            ("http://localhost", (Target("localhost", 80), False)),
            ("127.0.0.1:8443", (ADDRESS, False)),
            ("8443", (ADDRESS, False)),
            ("unix:/run/app.sock", ("/run/app.sock", False)),
        ):
            self.assertEqual(parseOriginURL(text, "http"), expected, text)

    def test_streams(self) -> None:
        """For bytes of any kind it is C{tls://}, with a port."""
        for kind in ("tcp", "tls"):
            self.assertEqual(parseOriginURL("tls://127.0.0.1:8443", kind), (ADDRESS, True))
            self.assertRaises(ValueError, parseOriginURL, "tls://localhost", kind)

    def test_bad(self) -> None:
        """What does not go with the kind, or is more than a place, is refused with what to write."""
        for text, kind, expected in (
            ("https://x:1", "tcp", "a URL that does not go with tcp: write HOST:PORT or tls://HOST:PORT"),
            ("tcp://x:1", "tls", "a URL that does not go with tls: write HOST:PORT or tls://HOST:PORT"),
            ("tls://x:1", "udp", "a URL that does not go with udp: write HOST:PORT"),
            (
                "tls://x:1",
                "http",
                "a URL that does not go with http: write HOST:PORT or http://HOST:PORT or https://HOST:PORT",
            ),
            ("https://x:1/app", "http", "has a path: write https://HOST:PORT"),
            ("https://me@x:1", "http", "me@x"),
            ("https://", "http", ""),
            ("https://x?y", "http", ""),
        ):
            error = self.assertRaises(ValueError, parseOriginURL, text, kind)
            self.assertIn(expected, str(error))


class ConfigTests(SynchronousTestCase):
    """
    What C{agent.toml} says of such origins.
    """

    def origin(self, text: str) -> Origin:
        """That of a service."""
        path = self.mktemp()
        Path(path).write_text(FILE + text)
        return agentPlan(readConfiguration(path, AgentConfig, environ={}), {}).origins["web"]

    def problem(self, text: str) -> str:
        """What is wrong with one."""
        return str(self.assertRaises(ConfigurationError, self.origin, text))

    def test_defaults(self) -> None:
        """It has to prove its host, to those whom the system believes."""
        self.assertEqual(self.origin(WEB), Origin("http", ADDRESS, tls=OriginTLS("127.0.0.1", ClientTrust())))
        self.assertEqual(str(self.origin(WEB)), "127.0.0.1:8443")

    def test_keys(self) -> None:
        """Another name, authorities of one's own, a pin, or nothing at all."""
        authorities = makeAuthority("Home").write(self.mktemp())
        pin = pinOf(makeAuthority("Home").issue(NAME))
        for text, expected in (
            (f'origin-name = "GW.example"\norigin-ca = "{authorities}"', OriginTLS(NAME, ClientTrust(authorities))),
            (f'origin-pin = "{pin}"', OriginTLS("127.0.0.1", ClientTrust(pin=pin))),
            ("origin-verify = false", OriginTLS("127.0.0.1", ClientTrust(verify=False))),
        ):
            self.assertEqual(self.origin(WEB + text).tls, expected)

    def test_streams(self) -> None:
        """Where the gateway passes on what is in the visitors' TLS, the origin may have TLS of its own."""
        for text in ('kind = "tcp"', 'kind = "tls"\ntls = "terminate"\nhostnames = ["raw.example.com"]'):
            origin = self.origin(f'{text}\norigin = "tls://db.example:5433"')
            self.assertEqual(origin.tls, OriginTLS("db.example", ClientTrust()))

    def test_plainURL(self) -> None:
        """Without TLS it is the same as a host and port."""
        self.assertEqual(self.origin(WEB.replace("https:", "http:")), self.origin(WEB.replace("https://", "")))

    def test_problems(self) -> None:
        """What cannot be is one line that names the key, and the file."""
        empty = Path(self.mktemp()).absolute()
        empty.write_bytes(b"")
        pin = pinOf(makeAuthority("Home").issue(NAME))
        for text, expected in (
            (WEB + 'origin-ca = "/no/such"', "origin-ca: /no/such: No such file or directory"),
            (WEB + f'origin-ca = "{empty}"', f"origin-ca: {empty}: not CA certificates in PEM"),
            (WEB + f'origin-ca = "{empty}"\norigin-verify = false', "origin-ca: an authority or a pin is of no use"),
            (WEB + f'origin-ca = "x"\norigin-pin = "{pin}"', "origin-pin: a server is known by its authority or by"),
            (WEB + 'origin-pin = "sha1//x"', "origin-pin: not a pin"),
            (WEB + 'origin-name = "a b"', "origin-name: "),
            (WEB + '[service.http]\nprotocol = "h2c"', "http.protocol: h2c is HTTP/2 without TLS"),
            ('kind = "udp"\norigin = "tls://127.0.0.1:53"', "the origin 'tls://127.0.0.1:53' is a URL that does not"),
            (
                'kind = "tls"\nhostnames = ["shop.example.com"]\norigin = "tls://127.0.0.1:8443"',
                "the visitors' TLS goes through to the origin: write HOST:PORT, without tls://",
            ),
            *(
                (WEB.replace("https:", "http:") + key, f"{key.partition(' ')[0]} is for an origin with https://")
                for key in ('origin-name = "x"', 'origin-ca = "x"', 'origin-pin = "x"', "origin-verify = false")
            ),
        ):
            problem = self.problem(text)
            self.assertTrue(problem.startswith(f"service[0], 'web': {expected}"), problem)
            self.assertNotIn("\n", problem)

    def test_commandLine(self) -> None:
        """An option takes the same URLs."""
        options = AgentOptions()
        options.parseOptions(
            [
                "--to",
                "wss://gw.example/agent",
                "--http",
                "app.example.com=https://127.0.0.1:8443",
                "--tcp",
                "1=tls://x:2",
            ]
        )
        origins = options.readPlan().origins
        self.assertEqual(origins["app-example-com"].tls, OriginTLS("127.0.0.1", ClientTrust()))
        self.assertEqual(origins["tcp-1"].tls, OriginTLS("x", ClientTrust()))


class TLSOrigins(SynchronousTestCase):
    """What the tests have in common: an authority, and an origin of its making."""

    def setUp(self) -> None:
        self.reactor: Any = DialReactor()
        self.authority = makeAuthority("Home")
        self.authorities = self.authority.write(self.mktemp())
        self.origin = Peer()

    def tls(self, name: str = "127.0.0.1", trust: ClientTrust | None = None) -> OriginTLS:
        """How it is dialled."""
        return OriginTLS(name, ClientTrust(self.authorities) if trust is None else trust)

    def accept(
        self,
        credential: Credential | None = None,
        *alpn: bytes,
        before: Any = None,
        prepare: Callable[[SSL.Context], object] = lambda context: None,
    ) -> FlowLink:
        """The last dial reaches an origin with this certificate."""
        credential = credential or self.authority.issue("127.0.0.1")
        files = CertificateFiles(*credential.write(self.mktemp()), alpn=alpn, clock=self.reactor)
        prepare(files._context)
        factory = TLSMemoryBIOFactory(files, False, Applications(lambda: self.origin), self.reactor)
        server = factory.buildProtocol(None)
        if before is not None:
            before.follow(server)
        self.link = flowPair(self.reactor.tcpClients[-1][2].buildProtocol(None), before or server)
        self.settle()
        return self.link

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(10):
            self.link.pump()
            self.reactor.advance(0)


class Greeter(Peer):
    """Speaks first."""

    def connectionMade(self) -> None:
        """As a mail server does."""
        self.transport.write(b"220 hello\r\n")


class Header(Peer):
    """Takes a PROXY header before TLS."""

    def follow(self, server: Any) -> None:
        """What comes then."""
        self._server = server

    def dataReceived(self, data: bytes) -> None:
        """Find the end of the header."""
        self.received += data
        found = parse(bytes(self.received))
        assert found is not None
        self.header, size = found
        self._server.makeConnection(self.transport)
        self.dataReceived = self._server.dataReceived  # type: ignore[method-assign]
        if rest := bytes(self.received[size:]):
            self._server.dataReceived(rest)


class EndpointTests(TLSOrigins):
    """
    L{originEndpoint} is done when both sides have agreed, and says why they have not.
    """

    def dial(self, origin: Origin) -> Peer:
        """Connect."""
        peer = Peer()
        self.done = originEndpoint(self.reactor, origin, HEADER).connect(Factory.forProtocol(lambda: peer))
        return peer

    def assertCarries(self, peer: Peer) -> None:
        """Bytes come through in both directions."""
        self.assertIs(self.successResultOf(self.done), peer)
        peer.transport.write(b"hello")
        self.origin.transport.write(b"back")
        self.settle()
        self.assertEqual((peer.received, self.origin.received), (b"back", b"hello"))

    def refusal(self, credential: Credential, tls: OriginTLS | None = None) -> str:
        """Why an origin with this certificate is not believed; it gets not a byte."""
        self.dial(Origin("http", ADDRESS, tls=tls or self.tls()))
        self.accept(credential)
        error = self.failureResultOf(self.done, DialFailed).value
        assert isinstance(error, DialFailed)
        self.assertEqual(error.kind, DialFailure.OTHER)
        self.assertEqual(self.origin.received, b"")
        self.assertTrue(self.link.a.disconnected)
        return error.details

    def test_believed(self) -> None:
        """An origin that proves its host gets what comes, and never before."""
        peer = self.dial(Origin("http", ADDRESS, tls=self.tls()))
        self.assertIsNone(peer.transport)
        self.accept()
        self.assertCarries(peer)

    def test_name(self) -> None:
        """Another name than the host's is asked for, and has to be proved."""
        asked: list[bytes | None] = []
        origin = Origin("tcp", ADDRESS, tls=self.tls(NAME))
        peer = self.dial(origin)

        def see(connection: SSL.Connection) -> None:
            asked.append(connection.get_servername())

        self.accept(self.authority.issue(NAME), prepare=lambda context: context.set_tlsext_servername_callback(see))
        self.assertCarries(peer)
        self.assertEqual(asked, [NAME.encode()])

    def test_greeting(self) -> None:
        """What the origin says first, be it together with the end of the handshake, comes through."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            self.origin = Greeter()
            peer = self.dial(Origin("tcp", ADDRESS, tls=self.tls()))
            self.accept(prepare=partial(SSL.Context.set_max_proto_version, version=version))
            self.assertIs(self.successResultOf(self.done), peer)
            self.assertEqual(peer.received, b"220 hello\r\n")

    def test_notBelieved(self) -> None:
        """A certificate for another name, of an unknown authority, of itself, or of yesterday: each is told apart."""
        careless = Issuer()
        path = Path(self.mktemp())
        path.write_bytes(careless.certificatePEM)
        old = careless.issue(NAME, x509.DNSName(NAME), start=NOW - 9 * DAY, end=NOW - DAY)
        own = careless.issue(NAME, x509.DNSName(NAME), issuer=NAME)
        day = (NOW - DAY).astimezone(datetime.UTC)
        for credential, tls, expected in (
            (
                self.authority.issue("other.example"),
                None,
                "The server's certificate is for another name: wanted 127.0.0.1, it has other.example.",
            ),
            (
                makeAuthority("Others").issue("127.0.0.1"),
                None,
                "The server's certificate is from an unknown authority: CN=Others.",
            ),
            (
                old,
                self.tls(NAME, ClientTrust(str(path))),
                f"The server's certificate has expired, on {day:%Y-%m-%d}.",
            ),
            (
                own,
                self.tls(NAME),
                f"The server's certificate is self-signed, and no pin is set. Its pin is {pinOf(own)}.",
            ),
        ):
            self.assertEqual(self.refusal(credential, tls), expected)

    def test_unverified(self) -> None:
        """By one's own wish anybody is believed; by its pin, one."""
        own = Issuer().issue("x", issuer="x")
        for trust in (ClientTrust(verify=False), ClientTrust(pin=pinOf(own))):
            self.origin = Peer()
            peer = self.dial(Origin("http", ADDRESS, tls=self.tls(trust=trust)))
            self.accept(own)
            self.assertCarries(peer)

    def test_protocol(self) -> None:
        """For HTTP the version is asked for that is spoken; an origin that knows another one alone is left."""
        for alpn, agreed in (((b"h2", b"http/1.1"), b"http/1.1"), ((), None)):
            self.origin = Peer()
            peer = self.dial(Origin("http", ADDRESS, tls=self.tls()))
            self.accept(None, *alpn)
            self.assertCarries(peer)
            self.assertEqual(self.origin.transport.negotiatedProtocol, agreed)
        self.dial(Origin("http", ADDRESS, tls=self.tls()))
        self.accept(None, b"h2")
        error = self.failureResultOf(self.done, DialFailed).value
        self.assertIn("no application protocol in common", str(error))
        self.origin = Peer()
        peer = self.dial(Origin("tcp", ADDRESS, tls=self.tls()))
        self.accept(None, b"imap")
        self.assertCarries(peer)

    def test_notTLS(self) -> None:
        """An origin without TLS is told from one with a bad certificate."""
        self.dial(Origin("http", ADDRESS, tls=self.tls()))
        self.link = flowPair(self.reactor.tcpClients[-1][2].buildProtocol(None), self.origin)
        self.origin.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.settle()
        self.assertIn("does not speak TLS", str(self.failureResultOf(self.done, DialFailed).value))

    def test_header(self) -> None:
        """Who the visitor is comes before TLS, as everybody expects it."""
        for version in ("v1", "v2"):
            self.origin, header = Peer(), Header()
            peer = self.dial(Origin("http", ADDRESS, version, tls=self.tls()))
            self.accept(before=header)
            self.assertCarries(peer)
            self.assertEqual(header.header.source, HEADER.source)

    def test_cancelled(self) -> None:
        """A visitor who leaves in the middle of the handshake leaves nothing behind."""
        self.dial(Origin("http", ADDRESS, tls=self.tls()))
        self.link = flowPair(self.reactor.tcpClients[-1][2].buildProtocol(None), self.origin)
        self.done.cancel()
        self.failureResultOf(self.done)
        self.settle()
        self.assertTrue(self.link.a.disconnected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_renewed(self) -> None:
        """An authority that is exchanged in its file is believed by the next dial."""
        other = makeAuthority("Others")
        self.refusal(other.issue("127.0.0.1"))
        os.unlink(self.authorities)
        other.write(self.authorities)
        peer = self.dial(Origin("http", ADDRESS, tls=self.tls()))
        self.accept(other.issue("127.0.0.1"))
        self.assertCarries(peer)


class HealthTests(TLSOrigins):
    """
    L{HealthChecks} look at what visitors get, TLS with it.
    """

    def watch(self, settings: HealthSection) -> HealthChecks:
        """Look at an origin."""
        checks = HealthChecks(self.reactor, lambda: None)
        checks.watch({"web": (Origin("http", ADDRESS, tls=self.tls()), settings)})
        return checks

    def test_connection(self) -> None:
        """A connection is good when there is TLS."""
        checks = self.watch(HealthSection(fall=1, rise=1))
        self.accept(makeAuthority("Others").issue("127.0.0.1"))
        self.assertFalse(checks.isHealthy("web"))
        self.reactor.advance(10.1)
        self.accept()
        self.assertTrue(checks.isHealthy("web"))
        self.assertTrue(self.link.a.disconnected)

    def test_page(self) -> None:
        """A page is asked for in TLS."""
        checks = self.watch(HealthSection(kind="http", fall=1, rise=1))
        for status, expected in ((500, False), (200, True)):
            self.origin = Peer()
            self.accept()
            self.assertTrue(self.origin.received.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8443\r\n"))
            self.origin.transport.write(b"HTTP/1.1 %d X\r\n\r\n" % status)
            self.settle()
            self.assertEqual(checks.isHealthy("web"), expected)
            self.reactor.advance(10.1)

    def test_silence(self) -> None:
        """An origin that takes connections and says nothing is ill."""
        checks = self.watch(HealthSection(fall=1))
        self.link = flowPair(self.reactor.tcpClients[-1][2].buildProtocol(None), self.origin)
        self.reactor.advance(10.1)
        self.assertFalse(checks.isHealthy("web"))
        self.settle()
        self.assertTrue(self.link.a.disconnected)
