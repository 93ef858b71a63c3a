"""
Tests for L{gateway.service.pipegate.client}, L{gateway.service.pipegate.jsonclient} and
L{gateway.service.pipegate.local}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.incoming import IncomingStreams
from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.relay import RelaySettings
from gateway.net.websocket import Denied, WebSocketServerFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.attachedclient import Phase
from gateway.service.pipegate.client import PipeGateClient, serverRequest
from gateway.service.pipegate.jsonclient import LocalRequests
from gateway.service.pipegate.jsonrequest import JsonLimits
from gateway.service.pipegate.local import LocalURL, parseLocalURL
from gateway.service.server.attached import IAgentSession, IHttpSession
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.upgraderequest import WebSocketRequest
from tests.net.sides import Peer
from tests.service.pipegate.pipegatefixture import TOKEN, VISITOR, Client, PipeGate
from tests.service.tunnelfixture import middle

ID = "6d1f0a3e-2f57-4c1c-9f0e-0c9d3c1b2a11"


@implementer(IWebSocketGate, IWebSocketReceiver)
class _TheirServer(Client):
    """The server's end of a WebSocket, which knows no subprotocol: what it says is what the test has it say."""

    head: RequestHead

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        self.head = head
        if head.get("pipegate_client_token") != TOKEN:
            raise Denied(Response(403, b"no\n"))
        return self

    def plain(self, head: RequestHead) -> Response:
        raise AssertionError(head)

    def failed(self, reason: object) -> None:
        raise AssertionError(reason)

    def ask(self, path: str = "x", **fields: Any) -> None:
        """Say a request."""
        message = {"correlation_id": ID, "url_path": path, "url_query": "{}", "method": "GET", "headers": "{}"}
        self.say(message | {"body": ""} | fields)


class Ends(PipeGate):
    """A client of ours, at a server of ours or of theirs."""

    def own(self, path: str = "", identifier: str = "node", token: str = TOKEN, **limits: Any) -> PipeGateClient:
        """A client that was started."""
        self.local = LocalRequests(
            self.clock, LocalURL(False, "localhost", 5001, path), self.origins, JsonLimits(**limits)
        )
        streams = IncomingStreams(self.clock, lambda preamble: (self.origins, RelaySettings()), self.taken.append)
        client = PipeGateClient(
            self.clock,
            self.network,
            serverRequest(WebSocketRequest("gw.example", f"/{identifier}"), token),
            self.local,
            streams,
            random=middle,
        )
        client.start()
        return client

    def arrival(self) -> Any:
        return self.dialect.arrive(VISITOR, self.ticket())

    def theirs(self) -> _TheirServer:
        """The client reaches a server of theirs."""
        server = _TheirServer(self)
        sockets = WebSocketServerFactory(
            lambda address: server, clock=self.clock, settings=WebSocketSettings(maxMessage=32 * 1024 * 1024)
        )
        protocol = sockets.buildProtocol(None)
        assert protocol is not None
        self.join(self.network.attempts[-1].accept(protocol))
        return server

    def application(self, answer: bytes = b"") -> Peer:
        """The application is reached, and answers."""
        peer = self.originAccepts()
        if answer:
            peer.transport.write(answer)
            self.pump()
        return peer


def answer(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A response."""
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines, b"", b""]
    return b"\r\n".join(head) + body


class JsonTests(SynchronousTestCase):
    """A client of ours at a server of theirs."""

    def setUp(self) -> None:
        self.ends = Ends()
        self.client = self.ends.own()
        self.server = self.ends.theirs()

    def heard(self) -> dict[str, Any]:
        """The only message of the client's, since the last call."""
        (message,) = self.server.heard
        self.server.heard.clear()
        return message | {"headers": json.loads(message["headers"] or "{}")}

    def test_opening(self) -> None:
        """The client asks for its id, with its token, and offers what a server of ours would take."""
        self.assertEqual(self.server.head.target, "/node")
        self.assertEqual(self.server.head.all("sec-websocket-protocol"), ["gateway.v1"])
        self.ends.wait(60)
        self.assertEqual(len(self.ends.network.attempts), 1)

    def test_transcript(self) -> None:
        """A message becomes a request to the application, and its response becomes a message."""
        self.server.ask(
            "articles/a b",
            url_query='{"page":"2"}',
            method="POST",
            headers='{"host":"gw.example","content-length":"4","x":"y"}',
            body="ä=1",
        )
        peer = self.ends.application()
        head, _, body = bytes(peer.received).partition(b"\r\n\r\n")
        self.assertEqual(body, "ä=1".encode())
        lines = head.decode().lower().split("\r\n")
        self.assertEqual(lines[0], "post /articles/a%20b?page=2 http/1.1")
        self.assertEqual(
            sorted(lines[1:]), ["accept-encoding: identity", "content-length: 4", "host: gw.example", "x: y"]
        )
        peer.transport.write(answer("Grüße".encode(), b"Content-Type: text/plain", status=b"201 Created"))
        self.ends.pump()
        message = self.heard()
        self.assertEqual((message["correlation_id"], message["status_code"], message["body"]), (ID, 201, "Grüße"))
        self.assertEqual(message["headers"], {"content-length": "7", "content-type": "text/plain"})

    def test_reused(self) -> None:
        """A connection to the application serves one request after another."""
        self.server.ask()
        peer = self.ends.application(answer(b"one"))
        self.assertEqual(self.heard()["body"], "one")
        self.server.ask()
        peer.transport.write(answer(b"two"))
        self.ends.pump()
        self.assertEqual(self.heard()["body"], "two")
        self.assertEqual(len(self.ends.origins.attempts), 1)

    def test_noApplication(self) -> None:
        """When the application is not there the answer is a 504 and nothing else, as PipeGate's is."""
        self.server.ask()
        self.ends.origins.attempts[-1].fail(ConnectionRefusedError())
        self.ends.pump()
        self.assertEqual(self.server.heard, [{"correlation_id": ID, "headers": "", "body": "", "status_code": 504}])

    def test_hangsUp(self) -> None:
        """So it is when the application hangs up, before its response or in the middle of it."""
        for part in (b"", b"HTTP/1.1 200", answer(b"whole")[:-2]):
            self.server.ask(method="POST")
            peer = self.ends.application(part)
            peer.transport.loseConnection()
            self.ends.pump()
            self.assertEqual(self.heard()["status_code"], 504)
        self.assertEqual(self.client.streams, 0)

    def test_silentApplication(self) -> None:
        """And when it does not answer in time."""
        self.server.ask()
        self.ends.application()
        self.ends.wait(300)
        self.assertEqual(self.heard()["status_code"], 504)
        self.assertEqual(self.client.streams, 0)

    def test_notText(self) -> None:
        """A response that is not text is told of in one that is."""
        self.server.ask()
        self.ends.application(answer(b"\x89PNG\xff", b"Content-Type: image/png"))
        message = self.heard()
        self.assertEqual(message["status_code"], 502)
        self.assertIn("not text", message["body"])

    def test_tooLong(self) -> None:
        """So is one that no message has room for, and its connection is given up."""
        self.server.ask()
        peer = self.ends.application(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(17):
            peer.transport.write(b"x" * 1024 * 1024)
            self.ends.pump()
        self.assertEqual(self.heard()["status_code"], 502)
        self.assertEqual((self.client.streams, self.ends.local.held.size), (0, 0))
        self.assertIsNotNone(peer.reason)

    def test_growsTooLong(self) -> None:
        """So is one that becomes too long as JSON, which would be the end of the connection to the server."""
        self.server.ask()
        self.ends.application(answer(b'"' * 9 * 1024 * 1024, b"Content-Type: text/plain"))
        message = self.heard()
        self.assertEqual((message["status_code"], "too long" in message["body"]), (502, True))
        self.assertEqual((self.client.streams, self.ends.local.held.size), (0, 0))

    def test_slowServer(self) -> None:
        """While the server does not take what there is for it, no more requests are read."""
        link = self.ends.links[-1]
        link.aToB.stalled = True
        self.server.ask()
        peer = self.ends.application(answer(b"x" * 200_000))
        self.server.ask()
        self.assertEqual(bytes(peer.received).count(b"GET /x"), 1)
        link.aToB.stalled = False
        self.ends.pump()
        self.assertEqual(bytes(peer.received).count(b"GET /x"), 2)
        self.assertEqual(len(self.heard()["body"]), 200_000)

    def test_tooMany(self) -> None:
        """Beyond a number of requests at once the client says that there is no room."""
        self.ends = Ends()
        self.client = self.ends.own(requestsPerID=2)
        self.server = self.ends.theirs()
        for _ in range(3):
            self.server.ask()
        self.assertEqual(self.heard()["status_code"], 503)
        self.assertEqual(self.client.streams, 2)

    def test_badRequest(self) -> None:
        """A request that HTTP cannot carry is refused, and the session goes on."""
        self.server.ask(headers='{"a":"b\\r\\nc: d"}')
        self.assertEqual(self.heard()["status_code"], 400)
        self.server.ask()
        self.ends.application(answer(b"fine"))
        self.assertEqual(self.heard()["body"], "fine")

    def test_noProtocol(self) -> None:
        """What is no message ends the connection, and another one is made."""
        for text in ("hello", "{}", "[]"):
            self.server.say(text)
            self.assertIsNotNone(self.server.reason)
            attempts = len(self.ends.network.attempts)
            while len(self.ends.network.attempts) == attempts:
                self.ends.wait(0.25)
            self.server = self.ends.theirs()
            self.assertIsNotNone(self.server.channel)

    def test_reconnects(self) -> None:
        """A connection that is lost is made again, with pauses that grow, and what was under way is given up."""
        self.server.ask()
        peer = self.ends.application()
        self.server.leave()
        self.assertIsNotNone(peer.reason)
        self.assertEqual((self.client.streams, self.client.phase), (0, Phase.WAITING))
        self.ends.wait(1)
        self.assertEqual(len(self.ends.network.attempts), 2)
        self.ends.network.attempts[-1].fail(ConnectionRefusedError())
        self.ends.wait(3)
        self.assertEqual(len(self.ends.network.attempts), 3)
        self.server = self.ends.theirs()
        self.server.ask()
        self.ends.application(answer(b"again"))
        self.assertEqual(self.heard()["body"], "again")

    def test_drains(self) -> None:
        """A client that stops takes no requests, ends those that there are, and leaves."""
        self.server.ask()
        gone = self.client.drain(10)
        self.server.ask()
        self.assertEqual(self.heard()["status_code"], 503)
        self.assertNoResult(gone)
        self.ends.application(answer(b"last"))
        self.assertEqual(self.heard()["body"], "last")
        self.successResultOf(gone)
        self.assertIsNotNone(self.server.reason)
        self.ends.wait(60)
        self.assertEqual((self.client.phase, len(self.ends.network.attempts)), (Phase.IDLE, 1))

    def test_closes(self) -> None:
        """Without more time a client leaves at once."""
        self.server.ask()
        self.ends.application()
        gone = self.client.drain(10)
        self.client.close()
        self.ends.wait(12)
        self.successResultOf(gone)


class DialectTests(SynchronousTestCase):
    """A client of ours at a server of ours."""

    def setUp(self) -> None:
        self.ends = Ends()

    def session(self) -> IAgentSession:
        (session,) = self.ends.door.sessions
        return session

    def test_agentProtocol(self) -> None:
        """They speak the agent protocol, in which streams carry whatever HTTP is made of."""
        self.ends.own()
        self.ends.accept()
        self.assertEqual(self.ends.names(), ["/node"])
        session = self.session()
        self.assertFalse(IHttpSession.providedBy(session))
        visitor = Peer()
        found = self.ends.registry.prefix("/node/x")
        assert found is not None
        service = found[0].service
        session.endpointFor(service, VISITOR).connect(Factory.forProtocol(lambda: visitor))
        self.ends.pump()
        peer = self.ends.application()
        visitor.transport.write(b"\x00\xff")
        self.ends.pump()
        self.assertEqual(bytes(peer.received), b"\x00\xff")

    def test_name(self) -> None:
        """With a domain at the server it has a name there, too, without being told."""
        self.ends = Ends(domain="fooserver.com")
        self.ends.own()
        self.ends.accept()
        self.assertEqual(self.ends.names(), ["/node", "node.fooserver.com"])

    def test_wrongToken(self) -> None:
        """With a wrong token there is no session, and the client tries again."""
        client = self.ends.own(token="wrong")
        self.ends.accept()
        self.assertEqual(self.ends.names(), [])
        self.assertEqual(client.phase, Phase.WAITING)
        self.ends.wait(44.75)  # or it would be shut out
        self.assertEqual(len(self.ends.network.attempts), 1)
        self.ends.wait(0.5)
        self.assertEqual(len(self.ends.network.attempts), 2)

    def test_takesOver(self) -> None:
        """The newest client of an id takes over from the one before, whichever dialect each of them speaks."""
        theirs = self.ends.client("node")
        self.ends.own()
        self.ends.accept()
        self.assertIsNotNone(theirs.reason)
        self.assertFalse(IHttpSession.providedBy(self.session()))
        self.ends.client("node")
        self.assertTrue(IHttpSession.providedBy(self.session()))

    def test_takesTurns(self) -> None:
        """One whose place another has taken does not take it back at once, whichever dialect: the two would take turns."""
        for path in ("", "/base"):
            self.ends = Ends()
            client = self.ends.own(path)
            self.ends.accept()
            self.ends.wait(60)
            self.ends.client("node")
            self.assertEqual(client.phase, Phase.WAITING)
            self.assertIn("another client with the same id", client.lastError or "")
            self.ends.wait(20)
            self.assertEqual(len(self.ends.network.attempts), 1)

    def test_shares(self) -> None:
        """Where they are to share, both have their visitors."""
        self.ends = Ends(shares=True)
        for _ in range(2):
            self.ends.own()
            self.ends.accept()
        self.assertEqual(len(self.ends.door.sessions), 2)
        self.assertEqual(self.ends.names(), ["/node"])

    def test_comesBack(self) -> None:
        """A client that loses its connection keeps its paths until it is back."""
        self.ends.own()
        link = self.ends.accept()
        link.a.abortConnection()
        self.ends.pump()
        self.assertEqual((self.ends.names(), self.ends.door.sessions), (["/node"], set()))
        self.ends.wait(1)
        self.ends.accept()
        self.assertEqual((self.ends.names(), len(self.ends.door.sessions)), (["/node"], 1))

    def test_leaves(self) -> None:
        """One that says that it goes does not."""
        client = self.ends.own()
        self.ends.accept()
        client.drain(10)
        self.ends.wait(1)
        self.assertEqual((self.ends.names(), client.phase), ([], Phase.IDLE))

    def test_path(self) -> None:
        """An application below a path is served in PipeGate's own dialect, and nothing leads out of the path."""
        self.ends.own("/base")
        self.ends.accept()
        self.assertTrue(IHttpSession.providedBy(self.session()))
        visit = self.ends.ask("/node/a/..b")
        peer = self.ends.application(answer(b"fine"))
        self.assertTrue(bytes(peer.received).startswith(b"GET /base/a/..b HTTP/1.1\r\n"))
        self.assertEqual((visit.status, visit.text), (200, "fine"))
        for path in ("/node/../x", "/node/a/%2e%2E/../x", "/node/.."):
            self.assertEqual(self.ends.ask(path).status, 400, path)

    def test_encodedSlashes(self) -> None:
        """Nor does what an application may take for a way out: slashes that are encoded, backslashes, parameters."""
        self.ends.own("/base")
        self.ends.accept()
        for path in ("..%2fx", "a/..%2F..%2fx", "%2e%2e%2fx", "..%5cx", "..\\x", "a%2f..", "..;/x", "..;a=b"):
            self.assertEqual(self.ends.ask(f"/node/{path}").status, 400, path)
        for path in ("a%2fb", "a..%2fx", "..a;b", "a;..", "...%2fx"):
            self.assertEqual(self.ends.ask(f"/node/{path}").status, 0, path)  # the application is asked


class LocalTests(SynchronousTestCase):
    """URLs of applications."""

    def test_urls(self) -> None:
        """Host, port and path are as they are written, or as they are where nothing is."""
        for text, expected, shown in (
            ("http://localhost:5001", LocalURL(False, "localhost", 5001), "http://localhost:5001"),
            ("http://localhost:5001/", LocalURL(False, "localhost", 5001), "http://localhost:5001"),
            ("https://App.Example", LocalURL(True, "app.example", 443), "https://app.example"),
            ("http://[::1]:80/a b/", LocalURL(False, "::1", 80, "/a%20b"), "http://[::1]/a%20b"),
        ):
            found = parseLocalURL(text)
            self.assertEqual(found, expected)
            self.assertEqual(str(found), shown)

    def test_bad(self) -> None:
        """Anything else is none."""
        for text in (
            "localhost:5001",
            "ftp://x",
            "http://",
            "http://a?b",
            "http://u:p@h",
            "http://h:99999",
            "http://h#f",
        ):
            self.assertRaises(ValueError, parseLocalURL, text)
