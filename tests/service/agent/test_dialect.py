"""
Tests for what is agreed on when a WebSocket opens: the agent protocol, or an older dialect, on the same connection.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, NoProtocol
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.dial import DialFailed, Prepared
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.dialect import DialectEndpoint, relayLink
from gateway.testing import FlowEndpoint, FlowLink
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.sides import Peer
from tests.net.websocketconnection import Receiver
from tests.websocketserver import WebSocketServer

PIN = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
frame = WebSocketServer.frame


class DialectTests(SynchronousTestCase):
    """L{DialectEndpoint}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FlowEndpoint()
        self.older: list[Receiver] = []
        request = WebSocketRequest("gw.example", "/agents")
        self.endpoint = DialectEndpoint(
            self.clock, self.network, request, self.olderReceiver, settings=WebSocketSettings(pingInterval=0)
        )

    def olderReceiver(self) -> Receiver:
        """Who speaks the older dialect."""
        self.older.append(Receiver())
        return self.older[-1]

    def connect(self) -> Deferred[IProtocol]:
        """Begin."""
        return self.endpoint.connect(Prepared(Peer()))

    def answer(self, protocol: str = "", *, refusal: bytes = b"") -> None:
        """The server is there, and answers."""
        self.server = Peer()
        self.link: FlowLink = self.network.attempts[-1].accept(self.server)
        self.link.pump()
        self.codec = WebSocketServer()
        self.codec.receive(bytes(self.server.received))
        self.server.transport.write(refusal or self.codec.acceptance(Sec_WebSocket_Protocol=protocol))
        self.link.pump()

    def test_own(self) -> None:
        """Where the offer is taken the connection is a stream for what was to be connected."""
        connecting = self.connect()
        self.answer("gateway.v1")
        peer: Any = self.successResultOf(connecting)
        self.assertIn(b"Sec-WebSocket-Protocol: gateway.v1\r\n", self.server.received)
        self.server.transport.write(frame(2, b"hello"))
        self.link.pump()
        self.assertEqual((bytes(peer.received), self.older), (b"hello", []))

    def test_older(self) -> None:
        """Where it is not, the same connection is the older dialect's, from its first message to its end."""
        connecting = self.connect()
        self.answer()
        self.failureResultOf(connecting, DialFailed)
        self.server.transport.write(frame(1, b"hello"))
        self.link.pump()
        (receiver,) = self.older
        self.assertEqual((receiver.events, len(self.network.attempts)), ([("text", b"hello")], 1))
        self.server.transport.abortConnection()
        self.link.pump()
        self.assertEqual(len(receiver.reasons), 1)

    def test_vacancy(self) -> None:
        """The endpoint knows when none of its connections is open any more, and why the last one was lost."""
        self.assertIsNone(self.endpoint.loss)
        for protocol in ("", "gateway.v1"):
            self.connect().addErrback(lambda failure: None)
            self.answer(protocol)
            vacant = self.endpoint.vacancy.awaited()
            self.assertNoResult(vacant)
            self.server.transport.abortConnection()
            self.link.pump()
            self.successResultOf(vacant)
            self.assertIsNotNone(self.endpoint.loss)

    def test_refused(self) -> None:
        """Why there is no WebSocket is told, and nobody speaks any dialect."""
        connecting = self.connect()
        self.answer(refusal=b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        self.assertIn("404", self.failureResultOf(connecting, DialFailed).value.details)
        self.assertEqual((self.older, self.endpoint.loss), ([], None))

    def test_nobodyThere(self) -> None:
        """So is why there is no connection."""
        connecting = self.connect()
        self.network.attempts[-1].fail(ConnectionRefusedError())
        self.assertIn("refused", self.failureResultOf(connecting, DialFailed).value.details)

    def test_cancelled(self) -> None:
        """Who does not wait any longer leaves no connection behind, whenever that is."""
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(self.network.attempts[-1].cancelled)
        connecting = self.connect()
        link = self.network.attempts[-1].accept(server := Peer())
        link.pump()
        connecting.cancel()
        link.pump()
        self.failureResultOf(connecting, CancelledError)
        self.assertIsNotNone(server.reason)

    def test_noProtocol(self) -> None:
        """A factory that gives none ends the connection, and the one who waits is told."""
        factory = Factory()
        factory.buildProtocol = lambda address: None  # type: ignore[method-assign, assignment]
        connecting = self.endpoint.connect(factory)
        self.answer("gateway.v1")
        self.failureResultOf(connecting, NoProtocol)
        self.assertIsNotNone(self.server.reason)


class LinkTests(SynchronousTestCase):
    """L{relayLink}."""

    def test_plain(self) -> None:
        """Without TLS it may be anywhere, and what is after a question mark is not shown."""
        link = relayLink("--url", "ws://relay.lan:8000/x?key=s3cret", environ={"HTTPS_PROXY": "http://proxy"})
        self.assertEqual((link.host, link.port, link.trust, link.proxy), ("relay.lan", 8000, None, None))
        self.assertEqual(link.to, "ws://relay.lan:8000/x")

    def test_secure(self) -> None:
        """With TLS it is believed as a gateway is, and reached through the environment's proxy."""
        link = relayLink("--url", "wss://relay.example/x", pin=PIN, environ={"HTTPS_PROXY": "http://proxy:3128"})
        assert link.trust is not None and link.proxy is not None
        self.assertEqual((link.trust.pin, link.proxy.host, link.port), (PIN, "proxy", 443))

    def test_wrong(self) -> None:
        """What cannot be is refused, with the option's name."""
        cases: tuple[tuple[str, dict[str, str], str], ...] = (
            ("https://relay.example", {}, "--url: "),
            ("wss://", {}, "--url: "),
            ("ws://relay.example/", {"pin": PIN}, "--ca and --pin are for wss://"),
            ("wss://relay.example/", {"pin": "x"}, "--pin: not a pin"),
            ("wss://relay.example/", {"authorities": "/no/ca.pem"}, "--ca: /no/ca.pem: No such file or directory"),
        )
        for url, keys, problem in cases:
            error = self.assertRaises(ValueError, relayLink, "--url", url, environ={}, **keys)
            self.assertTrue(str(error).startswith(problem), error)
