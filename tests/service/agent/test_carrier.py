"""
Tests for how an agent reaches its gateway. TLS, WebSocket and proxy are real, the network is not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.tls import CertificateFiles
from gateway.net.websocketendpoints import WebSocketServerEndpoint
from gateway.service.agent.carrier import GatewayLink, carrierEndpoint, gatewayLink, parseProxy
from gateway.testing import FlowLink, flowPair
from gateway.wire.agentcontrol import ALPN, SUBPROTOCOL
from tests.certificates import makeAuthority
from tests.net.muxpair import Applications
from tests.net.sides import Peer
from tests.net.test_dial import DialReactor

HOST = "192.0.2.1"


class LinkTests(SynchronousTestCase):
    """
    L{gatewayLink} reads where the gateway is.
    """

    def link(self, to: str, **environ: str) -> GatewayLink:
        """With this environment."""
        return gatewayLink(to, environ=environ)

    def problem(self, to: str, **keys: str) -> str:
        """What is wrong."""
        return str(self.assertRaises(ValueError, gatewayLink, to, environ={}, **keys))

    def test_webSocket(self) -> None:
        """A WebSocket's URL."""
        link = self.link("wss://GW.example/agent?x=1")
        assert link.request is not None
        self.assertEqual((link.host, link.port, link.carrier), ("gw.example", 443, "websocket"))
        self.assertEqual((link.request.target, link.request.subprotocols), ("/agent?x=1", (SUBPROTOCOL,)))
        self.assertNotIn("x=1", repr(link))

    def test_tls(self) -> None:
        """TLS on TCP, on the port of HTTPS if nothing else is said."""
        for to, host, port in (
            ("tls://gw.example", "gw.example", 443),
            ("tls://gw.example:8443/", "gw.example", 8443),
            ("tls://[2001:db8::1]:8443", "2001:db8::1", 8443),
        ):
            link = self.link(to)
            self.assertEqual((link.host, link.port, link.carrier), (host, port, "tls"))

    def test_plain(self) -> None:
        """Plain TCP and plain WebSockets are for this machine only."""
        for to in ("tcp://127.0.0.1:9000", "tcp://localhost:9000", "tcp://[::1]:9000", "ws://127.0.0.2:9000/x"):
            self.assertIsNone(self.link(to).trust)
        for to in ("tcp://192.0.2.1:9000", "tcp://gw.example:9000", "ws://gw.example/agent"):
            self.assertIn("is not encrypted", self.problem(to))

    def test_problems(self) -> None:
        """Everything else is refused with a sentence that begins with the key."""
        for to in ("gw.example", "https://gw.example", "tls://", "tcp://127.0.0.1", "tls://gw.example:x", "wss://a b/"):
            self.assertTrue(self.problem(to).startswith("to: "))
        self.assertIn("ca, pin", self.problem("tcp://127.0.0.1:9000", pin="x"))
        self.assertTrue(self.problem("tls://gw.example", proxy="socks5://x:1").startswith("proxy: "))

    def test_proxy(self) -> None:
        """The proxy of the environment is used, but not for the hosts that are excepted, or for this machine."""
        proxy = {"HTTPS_PROXY": "http://proxy.corp:3128"}
        found = self.link("wss://gw.example/agent", **proxy).proxy
        assert found is not None
        self.assertEqual((found.host, found.port), ("proxy.corp", 3128))
        self.assertIsNotNone(self.link("tls://gw.example", https_proxy="proxy.corp:3128").proxy)
        for excepted in ("gw.example", ".example", "*", "other, example"):
            self.assertIsNone(self.link("wss://gw.example/agent", **proxy, NO_PROXY=excepted).proxy)
        self.assertIsNotNone(self.link("wss://gw.example/agent", **proxy, NO_PROXY="ample").proxy)
        self.assertIsNone(self.link("wss://localhost/agent", **proxy).proxy)
        self.assertIsNone(self.link("tcp://127.0.0.1:1", **proxy).proxy)
        self.assertIsNone(gatewayLink("tls://gw.example", proxy="", environ=proxy).proxy)


class ProxyTests(SynchronousTestCase):
    """
    L{parseProxy}.
    """

    def test_good(self) -> None:
        """Host and port, with scheme and credentials or without."""
        for text, host, port in (
            ("http://proxy.corp:3128", "proxy.corp", 3128),
            ("proxy.corp:3128", "proxy.corp", 3128),
            ("http://proxy.corp/", "proxy.corp", 80),
            ("https://proxy.corp", "proxy.corp", 443),
            ("http://[2001:db8::1]:3128", "2001:db8::1", 3128),
        ):
            proxy = parseProxy(text)
            self.assertEqual((proxy.host, proxy.port, proxy.credentials), (host, port, None))
        credentials = parseProxy("http://me:s%40cret@proxy.corp:3128").credentials
        assert credentials is not None
        self.assertEqual((credentials.user, credentials.password), ("me", "s@cret"))

    def test_bad(self) -> None:
        """Anything else is refused, without repeating what may be secret."""
        for text in ("", "socks5://x:1", "http://", "http://x:y", "http://me:secret@x:70000", "http://x/path"):
            problem = str(self.assertRaises(ValueError, parseProxy, text))
            self.assertNotIn("secret", problem)


class CarrierTests(SynchronousTestCase):
    """
    L{carrierEndpoint} makes what a session runs on.
    """

    def setUp(self) -> None:
        self.reactor: Any = DialReactor()
        self.authority = makeAuthority("Test Authority")
        directory = self.mktemp()
        os.makedirs(directory)
        self.authorities = os.path.join(directory, "authority.pem")
        Path(self.authorities).write_bytes(self.authority.certificatePEM)
        self.files = self.authority.issue(HOST).write(self.mktemp())
        self.peer, self.server = Peer(), Peer()
        self.server.ended = False

    def tls(self, protocol: IProtocol, *alpn: bytes) -> IProtocol:
        """A server's TLS, with a protocol in it."""
        files = CertificateFiles(*self.files, alpn=alpn, clock=self.reactor)
        factory = TLSMemoryBIOFactory(files, False, Applications(lambda: protocol), self.reactor)
        return factory.buildProtocol(None)

    def connect(self, to: str, server: IProtocol, **keys: str) -> FlowLink:
        """Connect to a server."""
        if not to.startswith("tcp"):
            keys.setdefault("authorities", self.authorities)
        self.done = carrierEndpoint(self.reactor, gatewayLink(to, environ={}, **keys)).connect(
            Factory.forProtocol(lambda: self.peer)
        )
        self.link = flowPair(self.reactor.tcpClients[-1][2].buildProtocol(None), server)
        self.settle()
        return self.link

    def settle(self) -> None:
        """Let everything happen."""
        for _ in range(10):
            self.link.pump()
            self.reactor.advance(0)

    def assertCarries(self) -> None:
        """Bytes come through in both directions."""
        self.assertIs(self.successResultOf(self.done), self.peer)
        self.peer.transport.write(b"ping")
        self.settle()
        self.assertEqual(self.server.received, b"ping")
        self.server.transport.write(b"pong")
        self.settle()
        self.assertEqual(self.peer.received, b"pong")

    def failure(self) -> DialFailed:
        """Why there is no carrier."""
        return DialFailed.fromFailure(self.failureResultOf(self.done))

    def webSocketServer(self) -> IProtocol:
        """A server's WebSockets."""
        ports: list[Any] = []

        class Inner:
            """Listens to nobody."""

            def listen(self, factory: Any) -> None:
                """Keep the factory."""
                ports.append(factory)

        endpoint = WebSocketServerEndpoint(self.reactor, Inner(), path="/agent", subprotocols=(SUBPROTOCOL,))  # type: ignore[arg-type]
        endpoint.listen(Factory.forProtocol(lambda: self.server))
        protocol: IProtocol = ports[0].buildProtocol(None)
        return protocol

    def test_plain(self) -> None:
        """Plain TCP."""
        self.connect("tcp://127.0.0.1:9000", self.server)
        self.assertCarries()

    def test_tls(self) -> None:
        """TLS, on which both sides agree what it is for."""
        self.connect(f"tls://{HOST}", self.tls(self.server, ALPN))
        self.assertCarries()
        self.assertEqual(self.server.transport.negotiatedProtocol, ALPN)

    def test_otherProtocol(self) -> None:
        """A server that speaks TLS and something else is left at once."""
        self.connect(f"tls://{HOST}", self.tls(self.server))
        self.assertEqual(self.failure().details, "The server speaks TLS, but not our protocol (ALPN gateway/1).")
        self.settle()
        self.assertTrue(self.link.a.disconnected)
        self.connect(f"tls://{HOST}", self.tls(Peer(), b"http/1.1"))
        self.assertIn("ALPN", self.failure().details)

    def test_untrusted(self) -> None:
        """A server that has not proved itself gets nothing, and a person is told why."""
        authority = makeAuthority("Another")
        Path(self.authorities).write_bytes(authority.certificatePEM)
        self.connect(f"tls://{HOST}", self.tls(self.server, ALPN))
        self.assertIn("unknown authority", self.failure().details)
        self.connect(f"wss://{HOST}/agent", self.tls(self.webSocketServer()))
        self.assertIn("unknown authority", self.failure().details)

    def test_filesAreReadAnew(self) -> None:
        """A file that changes is used for the next attempt, and one that is missing fails only that."""
        link = gatewayLink(f"tls://{HOST}", authorities=self.authorities, environ={})
        endpoint = carrierEndpoint(self.reactor, link)
        os.rename(self.authorities, self.authorities + ".old")
        self.done = endpoint.connect(Factory())
        self.assertIn("No such file", self.failure().details)
        os.rename(self.authorities + ".old", self.authorities)
        self.assertNoResult(endpoint.connect(Factory()))
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_noTLS(self) -> None:
        """A server that leaves, or speaks something else, is told from one that cannot be reached."""
        self.connect(f"tls://{HOST}", self.server)
        self.link.b.loseConnection()
        self.settle()
        error = self.failure()
        self.assertEqual(error.kind, DialFailure.UNREACHABLE)
        self.assertIn("its port may be another, or one without TLS", error.details)
        self.connect(f"tls://{HOST}", self.server)
        self.server.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        self.settle()
        self.assertEqual(self.failure().details, "The peer does not speak TLS.")

    def test_cancelled(self) -> None:
        """An attempt can be given up in the middle of the handshake."""
        self.connect(f"tls://{HOST}", self.server)
        self.done.cancel()
        self.assertEqual(self.failure().kind, DialFailure.CANCELLED)
        self.settle()
        self.assertTrue(self.link.a.disconnected)

    def test_webSocket(self) -> None:
        """A WebSocket on TLS."""
        self.connect(f"wss://{HOST}/agent", self.tls(self.webSocketServer()))
        self.assertCarries()

    def test_noWebSocket(self) -> None:
        """A server that has none at that path is quoted."""
        self.connect(f"wss://{HOST}/other", self.tls(self.webSocketServer()))
        self.assertIn("404", self.failure().details)

    def test_proxy(self) -> None:
        """TLS and a WebSocket by way of a proxy, which sees neither."""
        for to, server in (
            (f"tls://{HOST}", self.tls(self.server, ALPN)),
            (f"wss://{HOST}/agent", self.tls(self.webSocketServer())),
        ):
            proxy = Peer()
            self.done = carrierEndpoint(
                self.reactor, gatewayLink(to, authorities=self.authorities, proxy="192.0.2.9:3128", environ={})
            ).connect(Factory.forProtocol(lambda: self.peer))
            host, port, factory, _, _ = self.reactor.tcpClients[-1]
            self.assertEqual((host, port), ("192.0.2.9", 3128))
            self.link = flowPair(factory.buildProtocol(None), proxy)
            self.settle()
            self.assertTrue(proxy.received.startswith(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n"))
            proxy.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
            # From here on the proxy is the server.
            proxy.dataReceived = server.dataReceived  # type: ignore[method-assign]
            server.makeConnection(proxy.transport)
            self.settle()
            self.assertCarries()
            self.peer, self.server = Peer(), Peer()
