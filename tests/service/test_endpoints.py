"""Tests for L{gateway.service.endpoints}: what is written, what is made of it, and the plugins that read it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.muxendpoints import MuxClientEndpoint, MuxServerEndpoint
from gateway.net.stdio import StandardIOEndpoint
from gateway.net.websocketendpoints import WebSocketClientEndpoint, WebSocketServerEndpoint
from gateway.service.endpoints import clientEndpoint, shown
from gateway.service.listening import describedEndpoint
from gateway.testing import FlowTransport
from tests.certificates import makeAuthority
from tests.documented import tables
from tests.net.sides import Peer
from tests.service.tabby.test_service import Reactor

ADDRESS = IPv4Address("TCP", "192.0.2.1", 80)
PIN = "sha256//7HIpactkIAq2Y49orFOOQKurWxmmSFZhBCoQYcRhJ3Y="


class EndpointTestCase(SynchronousTestCase):
    """With a reactor in memory, and files to name."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        directory = self.mktemp()
        authority = makeAuthority("Endpoints")
        self.certificate, self.key = authority.issue("client.test").write(directory)
        self.both = str(Path(directory, "both.pem"))
        Path(self.both).write_bytes(Path(self.certificate).read_bytes() + Path(self.key).read_bytes())
        self.authority = str(Path(directory, "authority.pem"))
        Path(self.authority).write_bytes(authority.certificatePEM)

    def client(self, description: str) -> Any:
        """As a program does that knows nothing of ours."""
        return clientFromString(self.reactor, description)

    def server(self, description: str) -> Any:
        """As a program does that knows nothing of ours."""
        return serverFromString(self.reactor, description)

    def connect(self, description: str) -> Any:
        """Connect; the Deferred."""
        return self.client(description).connect(Factory.forProtocol(Peer))

    def carrier(self) -> FlowTransport:
        """Let the reactor's last attempt to connect succeed."""
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(ADDRESS)
        assert protocol is not None
        return FlowTransport(protocol)


class WebSocketClientTests(EndpointTestCase):
    """C{ws://} and C{wss://}."""

    def test_url(self) -> None:
        """A URL is written as it is: host, port, path, and an IPv6 address."""
        for description, host, port, path in (
            ("ws://192.0.2.1/relay", "192.0.2.1", 80, "/relay"),
            ("ws://192.0.2.1:9000/a/b", "192.0.2.1", 9000, "/a/b"),
            ("ws://192.0.2.1:9000", "192.0.2.1", 9000, "/"),
            ("WS://[2001:db8::1]:9000/x", "2001:db8::1", 9000, "/x"),
            ("ws://192.0.2.1/x?a\\=1&b\\=2", "192.0.2.1", 80, "/x?a=1&b=2"),
            ("ws://192.0.2.1/x:timeout=5", "192.0.2.1", 80, "/x"),
        ):
            with self.subTest(description):
                self.assertIsInstance(self.client(description), WebSocketClientEndpoint)
                attempt = self.connect(description)
                self.assertEqual(self.reactor.tcpClients[-1][:2], (host, port))
                self.assertIn(f"GET {path} HTTP/1.1\r\n".encode(), self.carrier().written())
                attempt.cancel()
                self.failureResultOf(attempt)

    def test_protocol(self) -> None:
        """The option C{protocol} is offered as subprotocol."""
        attempt = self.connect("ws://192.0.2.1/:protocol=gateway.v1")
        self.assertIn(b"Sec-WebSocket-Protocol: gateway.v1\r\n", self.carrier().written())
        attempt.cancel()
        self.failureResultOf(attempt)

    def test_timeout(self) -> None:
        """The option C{timeout} holds for the answer to the upgrade."""
        attempt = self.connect("ws://192.0.2.1/:timeout=7")
        self.assertEqual(self.reactor.tcpClients[-1][3], 7)
        carrier = self.carrier()
        self.reactor.advance(6.75)
        self.assertNoResult(attempt)
        self.reactor.advance(0.25)
        carrier.pump()
        self.assertIs(self.failureResultOf(attempt, DialFailed).value.kind, DialFailure.TIMEOUT)

    def test_secure(self) -> None:
        """C{wss} speaks TLS first, with the files and pins that are named."""
        for options in ("", f":ca={self.authority}", f":pin={PIN}", f":certificate={self.certificate}:key={self.key}"):
            with self.subTest(options):
                attempt = self.connect(f"wss://192.0.2.1/relay{options}")
                self.assertEqual(self.reactor.tcpClients[-1][:2], ("192.0.2.1", 443))
                self.assertEqual(self.carrier().written()[:1], b"\x16")
                attempt.cancel()
                self.failureResultOf(attempt)

    def test_renewedFiles(self) -> None:
        """Files are read again for each connection."""
        endpoint = self.client(f"wss://192.0.2.1/:ca={self.authority}")
        Path(self.authority).write_text("broken")
        failure = self.failureResultOf(endpoint.connect(Factory.forProtocol(Peer)), DialFailed)
        self.assertIn(self.authority, failure.value.details)

    def test_wrong(self) -> None:
        """What is wrong is said, at once."""
        for description, problem in (
            ("ws://", "host"),
            ("ws://user@host/", "user name"),
            ("ws:tcp:192.0.2.1:80", "looks like"),
            ("ws://192.0.2.1/x?a=1", "write = as"),
            ("ws://192.0.2.1/:timeout=soon", "timeout"),
            ("ws://192.0.2.1/:timeout=0", "timeout"),
            ("ws://192.0.2.1/:color=red", "color"),
            (f"ws://192.0.2.1/:ca={self.authority}", "wss"),
            ("wss://192.0.2.1/:ca=/nonexistent", "/nonexistent"),
            ("wss://192.0.2.1/:pin=x", "pin"),
            ("nonsense:1", "nonsense"),
            ("yamux:stdio:", "not stdio:"),
            ("tcp:x", "port"),
        ):
            with self.subTest(description):
                with self.assertRaises(ValueError) as caught:
                    clientEndpoint(self.reactor, description)
                self.assertIn(problem, str(caught.exception))
                self.assertNotIn("\n", str(caught.exception))

    def test_secrets(self) -> None:
        """A query and a user's password are neither in what logs show nor in an error; everything else is."""
        for description, expected in (
            ("wss://gw/x?token\\=a\\:b&c:timeout=5", "wss://gw/x?...:timeout=5"),
            ("yamux:ws://gw:80/x?secret", "yamux:ws://gw:80/x?..."),
            ("wss://gw/x?user:password:timeout=5", "wss://gw/x?...:timeout=5"),
            ("wss://user:password@gw:80/x", "wss://...@gw:80/x"),
            ("wss://gw/x@y", "wss://gw/x@y"),
            ("tcp:gw:80", "tcp:gw:80"),
        ):
            self.assertEqual(shown(description), expected)
        for description in (
            "ws://192.0.2.1/?secret:color=red",
            "ws://192.0.2.1/?key=secret",
            "ws://a:80/?key=secret",
            "ws://a:80/?secret&key=1",
            "ws://user:secret@a:80/",
            "wss//a:80/?secret",
        ):
            with self.assertRaises(ValueError) as caught:
                clientEndpoint(self.reactor, description)
            self.assertNotIn("secret", str(caught.exception))


class ServerTests(EndpointTestCase):
    """C{ws:} and C{yamux:} to listen on, around other endpoints."""

    def test_inner(self) -> None:
        """The rest is the inner endpoint, with its options and what is escaped in them."""
        for description, kind, port, interface in (
            ("ws:tcp:9000", WebSocketServerEndpoint, 9000, ""),
            ("ws:tcp:9000:interface=127.0.0.1:path=/x", WebSocketServerEndpoint, 9000, "127.0.0.1"),
            ("ws:path=/x:tcp:9000:interface=\\:\\:1", WebSocketServerEndpoint, 9000, "::1"),
            ("yamux:tcp:9000", MuxServerEndpoint, 9000, ""),
            ("yamux:ws:tcp:9000:interface=\\:\\:1:path=/a\\=b", MuxServerEndpoint, 9000, "::1"),
        ):
            with self.subTest(description):
                endpoint = self.server(description)
                self.assertIsInstance(endpoint, kind)
                self.successResultOf(endpoint.listen(Factory.forProtocol(Peer)))
                self.assertEqual(self.reactor.tcpServers[-1][0], port)
                self.assertEqual(self.reactor.tcpServers[-1][3], interface)

    def test_path(self) -> None:
        """The option C{path} says where WebSockets are."""
        self.successResultOf(self.server("ws:tcp:9000:path=/x\\=y").listen(Factory.forProtocol(Peer)))
        for path, status in (("/x=y", b"426"), ("/", b"404")):
            protocol = self.reactor.tcpServers[-1][1].buildProtocol(ADDRESS)
            assert protocol is not None
            transport = FlowTransport(protocol)
            transport.deliver(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            self.assertEqual(transport.written().split()[1], status)

    def test_wrong(self) -> None:
        """A URL, a bad path and an unknown inner endpoint are refused."""
        for description, problem in (
            ("ws://127.0.0.1:9000/", "for connecting"),
            ("ws", "another endpoint comes inside"),
            ("ws:", "another endpoint comes inside"),
            ("yamux:path=/x", "another endpoint comes inside"),
            ("yamux:ws:stdio:", "not stdio:"),
            ("ws:tcp:9000:path=x", "slash"),
            ("ws:nonsense:1", "nonsense"),
            ("yamux:nonsense:1", "nonsense"),
        ):
            with self.subTest(description), self.assertRaisesRegex(ValueError, problem):
                self.server(description)


class MuxClientTests(EndpointTestCase):
    """C{yamux:} to connect to."""

    def test_inner(self) -> None:
        """The rest is the inner endpoint, whatever it is, and is dialled when it is needed."""
        for description, host, port in (
            ("yamux:tcp:192.0.2.1:9000", "192.0.2.1", 9000),
            ("yamux:tcp:\\:\\:1:9000", "::1", 9000),
            ("yamux:ws://192.0.2.1:81/x?a\\=1:timeout=5", "192.0.2.1", 81),
            ("yamux:yamux:tcp:192.0.2.1:82", "192.0.2.1", 82),
        ):
            with self.subTest(description):
                before = len(self.reactor.tcpClients)
                endpoint = self.client(description)
                self.assertIsInstance(endpoint, MuxClientEndpoint)
                self.assertEqual(len(self.reactor.tcpClients), before)
                attempt = endpoint.connect(Factory.forProtocol(Peer))
                self.assertEqual(self.reactor.tcpClients[-1][:2], (host, port))
                attempt.addErrback(lambda failure: None)


class StandardIOTests(EndpointTestCase):
    """C{stdio:}."""

    def test_client(self) -> None:
        """It is ours to connect to."""
        self.assertIsInstance(self.client("stdio:"), StandardIOEndpoint)


class WordsTests(EndpointTestCase):
    """What Twisted's own parsers do not like."""

    def test_words(self) -> None:
        """It is said in words that have nothing to do with Python."""
        for make, text, problem in (
            (clientEndpoint, "tcp", "it lacks 'host' and 'port'"),
            (clientEndpoint, "tcp:a:x", "'x' is not a whole number"),
            (clientEndpoint, "tcp:a:1:foo=2", "it has no option 'foo'"),
            (clientEndpoint, "tls:a:1:foo=2", "it has no option 'foo'"),
            (describedEndpoint, "tcp", "it lacks 'port'"),
            (describedEndpoint, "tcp:1:backlog=x", "'x' is not a whole number"),
            (describedEndpoint, "tcp:1:foo=2", "it has no option 'foo'"),
        ):
            with self.subTest(text):
                error = self.assertRaises(ValueError, make, self.reactor, text)
                self.assertEqual(str(error), f"the endpoint '{text}' cannot be used: {problem}")


class PluginTests(SynchronousTestCase):
    """C{twisted/plugins/gateway_endpoints.py}."""

    def test_importsNothing(self) -> None:
        """To look for plugins imports nothing of ours, and chooses no reactor."""
        script = (
            "import sys; from twisted.plugins import gateway_endpoints\n"
            "print([name for name in sys.modules if name.startswith('gateway.') or name == 'twisted.internet.reactor'])"
        )
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))


class DocumentTests(EndpointTestCase):
    """The page of endpoints."""

    def rows(self, title: str) -> list[str]:
        """The strings of a table."""
        return [re.findall(r"`([^`]+)`", row[0])[0] for row in tables("reference/endpoints.md")[title]]

    def test_strings(self) -> None:
        """Each string in its tables can be used as it is, save that the files are other ones."""
        for title, read, interface in (
            ("To listen on", self.server, IStreamServerEndpoint),
            ("To connect to", self.client, IStreamClientEndpoint),
        ):
            shown = self.rows(title)
            self.assertGreater(len(shown), 8)
            for description in shown:
                if description.startswith("systemd:"):
                    continue  # only systemd can try it
                with self.subTest(description):
                    files = description.replace("key.pem", self.key).replace("fullchain.pem", self.certificate)
                    self.assertTrue(interface.providedBy(read(files)))

    def test_options(self) -> None:
        """Each option in its tables exists."""
        values = {
            "path": "/x",
            "protocol": "v1",
            "timeout": "5",
            "ca": self.authority,
            "pin": PIN,
            "certificate": self.both,
            "key": f"{self.key}:certificate={self.certificate}",
        }
        page = tables("reference/endpoints.md")
        (ofServer,) = (rows for title, rows in page.items() if title.startswith("`ws:` has two options"))
        (ofClient,) = (rows for title, rows in page.items() if title.startswith("Options of `ws://`"))
        for rows, description, read in (
            (ofServer, "ws:tcp:1", self.server),
            (ofClient, "wss://192.0.2.1/", self.client),
        ):
            for row in rows:
                name = row[0].strip("`")
                with self.subTest(name):
                    read(f"{description}:{name}={values[name]}")
