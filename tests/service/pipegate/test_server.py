"""
Tests for PipeGate's server and client as services: L{gateway.service.pipegate.port}, L{gateway.service.pipegate.server},
L{gateway.service.pipegate.clientservice}, and their options.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService, IServiceMaker
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import ILogObserver, LogEvent, capturedLogs, globalLogPublisher
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.pipegate import grantFor
from gateway.domain.routes import prefixPlace
from gateway.domain.tokens import hashToken
from gateway.net.tls import CertificateFiles
from gateway.service import pipegate_client_tap, pipegate_server_tap
from gateway.service.configuration import ConfigurationError
from gateway.service.pipegate.clientoptions import PipeGateClientOptions
from gateway.service.pipegate.clientservice import PipeGateClientService
from gateway.service.pipegate.jsonrequest import JsonLimits
from gateway.service.pipegate.jsonsession import serviceOf
from gateway.service.pipegate.port import PipeGatePort
from gateway.service.pipegate.server import PipeGateServer
from gateway.service.pipegate.serveroptions import PipeGateServerOptions
from gateway.service.server.certificates import HTTP
from gateway.service.server.service import GatewayService, IReactor
from gateway.service.server.settings import GatewaySettings, readGatewaySettings
from gateway.wire.http1 import RequestHead
from tests.certificates import makeAuthority
from tests.domain.attachments import FakeAttachment
from tests.net.sides import Peer
from tests.service.agent.test_service import Reactor as DialReactor
from tests.service.pipegate.pipegatefixture import TOKEN, PipeGate
from tests.service.server.doorsfixture import OWN
from tests.service.server.test_service import Reactor


def asking(target: str, *lines: str, method: str = "GET", host: str = "fooserver.com", body: str = "") -> bytes:
    """A visitor's request."""
    length = [f"Content-Length: {len(body.encode())}"] if body else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *length, *lines, "", body]).encode()


class PortTests(SynchronousTestCase):
    """L{PipeGatePort}: what visitors meet."""

    def setUp(self) -> None:
        self.gate = PipeGate(limits=JsonLimits(message=2000))
        self.visitor: Peer = self.gate.come(self.gate.port.arrive)

    def ask(self, target: str, *lines: str, **more: Any) -> None:
        """The visitor asks for something, on the connection that there is."""
        self.visitor.received.clear()
        self.visitor.transport.write(asking(target, *lines, **more))
        self.gate.pump()

    @property
    def answer(self) -> str:
        """All that came since."""
        return self.visitor.received.decode()

    def assertStatus(self, status: int, text: str = "") -> None:
        """Assert that the answer begins and ends like that."""
        self.assertTrue(self.answer.startswith(f"HTTP/1.1 {status} "), self.answer)
        self.assertIn(text, self.answer)

    def test_json(self) -> None:
        """Requests below an id become messages, by whatever name the server is called, one after another."""
        client = self.gate.client("node")
        for host in ("fooserver.com", "127.0.0.1:8000", "[::1]", "localhost"):
            self.ask("/node/articles?page=2", host=host)
            message = client.heard.pop()
            self.assertEqual((message["url_path"], message["url_query"]), ("articles", '{"page":"2"}'))
            client.answer(message, "<h1>Grüße</h1>", content_type="text/html", content_encoding="gzip")
            self.assertStatus(200, "Content-Length: 16\r\n")
            self.assertTrue(self.answer.endswith("\r\n\r\n<h1>Grüße</h1>"))
            self.assertNotIn("gzip", self.answer)

    def test_forwarded(self) -> None:
        """The application is told who asks, and below which path it is."""
        client = self.gate.client("node")
        self.ask("/node/x", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Prefix: /evil")
        headers = client.heard[0]["headers"]
        self.assertIn('"x-forwarded-prefix":"/node"', headers)
        self.assertIn('"x-forwarded-host":"fooserver.com"', headers)
        self.assertNotIn("6.6.6.6", headers)

    def test_body(self) -> None:
        """A body arrives; one that is too long, or no text, is answered so, and the connection goes on."""
        client = self.gate.client("node")
        self.ask("/node/x", method="POST", body="ä=1")
        self.assertEqual(client.heard[0]["body"], "ä=1")
        client.answer(client.heard[0], "ok")
        self.assertStatus(200)
        self.ask("/node/x", method="POST", body="x" * 2001)
        self.assertStatus(413, "at most 2000 bytes")
        self.visitor = self.gate.come(self.gate.port.arrive)
        self.visitor.transport.write(b"POST /node/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n\xff\xfe")
        self.gate.pump()
        self.assertStatus(502, "gateway pipegate-client")

    def test_expects(self) -> None:
        """Who waits to be told whether a body is wanted is told at once, as no client would say so."""
        client = self.gate.client("node")
        for length, told in ((5, "HTTP/1.1 100 Continue\r\n\r\n"), (5000, "HTTP/1.1 413 ")):
            self.visitor = self.gate.come(self.gate.port.arrive)
            self.ask("/node/x", f"Content-Length: {length}", "Expect: 100-continue", method="POST")
            self.gate.wait(0)
            self.assertTrue(self.answer.startswith(told), self.answer)
            if length == 5:
                self.visitor.transport.write(b"hello")
                self.gate.pump()
        self.assertEqual([each["body"] for each in client.heard], ["hello"])

    def test_names(self) -> None:
        """With a domain a client is reached by the name of its id, too, where its paths are all that there are."""
        self.gate = PipeGate(domain="fooserver.com")
        self.visitor = self.gate.come(self.gate.port.arrive)
        client = self.gate.client("node")
        self.assertEqual(self.gate.names(), ["/node", "node.fooserver.com"])
        for target, host in (
            ("/node/x", "fooserver.com"),
            ("/x", "node.fooserver.com"),
            ("/x", "NODE.fooserver.com:8000"),
        ):
            self.ask(target, host=host)
            message = client.heard.pop()
            self.assertEqual(message["url_path"], "x")
            self.assertEqual("x-forwarded-prefix" in message["headers"], host == "fooserver.com")
            client.answer(message, "fine")
            self.assertStatus(200, "fine")
        self.ask("/x", host="other.fooserver.com")
        self.assertStatus(502)
        client.leave()
        self.ask("/y", host="node.fooserver.com")
        client = self.gate.client("node")
        self.gate.wait(0.25)
        self.assertEqual(client.heard[0]["url_path"], "y")
        for identifier in ("Upper", "a.b", "a~b"):
            self.gate.client(identifier)
            self.assertIn(f"/{identifier}", self.gate.names())
            self.assertNotIn(f"{identifier}.fooserver.com", self.gate.names())

    def test_webSocketAtName(self) -> None:
        """At a client's name a visitor's WebSocket may have any path, and one with a token is a client's all the same."""
        self.gate = PipeGate(domain="fooserver.com")
        client = self.gate.client("node")
        lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines.append("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        for host, token, status in (
            ("node.fooserver.com", (), 502),  # of PipeGate's own dialect, which carries none
            ("NODE.fooserver.com:8000", (), 502),
            ("fooserver.com", (), 403),
            ("notfooserver.com", (), 403),
            ("node.fooserver.com", (f"PIPEGATE_CLIENT_TOKEN: {TOKEN}",), 101),
        ):
            self.visitor = self.gate.come(self.gate.port.arrive)
            self.ask("/socket", *lines, *token, host=host)
            self.assertStatus(status)
        self.assertEqual(client.heard, [])

    def test_unknown(self) -> None:
        """An id that nobody serves is answered at once, and in the words of who asks."""
        self.ask("/node/x")
        self.assertStatus(502, "No client is connected for node.")
        self.ask("/node/x", "Accept: application/json")
        self.assertStatus(502, '"code":"agent-gone"')
        self.ask("/")
        self.assertStatus(200, "it is up")
        self.ask("*", method="OPTIONS")
        self.assertStatus(200)

    def test_clientLeaves(self) -> None:
        """Requests of a client that goes away fail at once; those that come then wait for it to be back."""
        client = self.gate.client("node")
        self.ask("/node/x")
        client.leave()
        self.assertStatus(502, "went away")
        for method, body in (("GET", ""), ("POST", "x=1")):
            self.ask("/node/y", method=method, body=body)
            self.gate.wait(4)
            self.assertEqual(self.answer, "")
            client = self.gate.client("node")
            self.gate.wait(0.25)
            (message,) = client.heard
            self.assertEqual((message["url_path"], message["body"]), ("y", body))
            client.answer(message, "back")
            self.assertStatus(200)
            client.leave()
        self.ask("/node/z")
        self.gate.wait(5)
        self.assertStatus(502, "not connected")

    def test_visitorLeaves(self) -> None:
        """A visitor who leaves has no request any more."""
        self.gate.client("node")
        self.ask("/node/x")
        self.visitor.transport.abortConnection()
        self.gate.pump()
        self.assertEqual(self.gate.dialect.held.requests, 0)

    def test_client(self) -> None:
        """A client comes to the same port; one without a token does not."""
        lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        self.ask("/node", *lines, key)
        self.assertStatus(403, "The token is wrong")
        self.assertTrue(self.visitor.ended)
        self.visitor = self.gate.come(self.gate.port.arrive)
        self.ask("/node", *lines, key, f"PIPEGATE_CLIENT_TOKEN: {TOKEN}")
        self.assertStatus(101)
        self.assertNotIn("Sec-WebSocket-Protocol", self.answer)
        self.assertEqual(self.gate.names(), ["/node"])

    def test_clientTooLate(self) -> None:
        """A client opens a connection of its own: one that carried requests does not become its own."""
        self.ask("/")
        self.ask("/node", "Upgrade: websocket", "Connection: Upgrade", f"PIPEGATE_CLIENT_TOKEN: {TOKEN}")
        self.assertStatus(403, "a connection of its own")

    def test_bad(self) -> None:
        """What is no proper request is refused."""
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\x00\r\n\r\n"):
            self.visitor = self.gate.come(self.gate.port.arrive)
            self.visitor.transport.write(words)
            self.gate.pump()
            self.assertStatus(400)

    def test_slow(self) -> None:
        """Who says nothing, or only half of it, is let go in time."""
        self.gate.wait(5.25)
        self.assertIsNotNone(self.visitor.reason)
        self.visitor = self.gate.come(self.gate.port.arrive)
        self.visitor.transport.write(b"GET / HTT")
        self.gate.wait(10.25)
        self.assertIsNotNone(self.visitor.reason)
        self.assertEqual(self.gate.admission.connections, 0)

    def test_tlsWithout(self) -> None:
        """TLS on a port without is let go."""
        self.visitor.transport.write(b"\x16\x03\x01\x00\x05")
        self.gate.pump()
        self.assertIsNotNone(self.visitor.reason)

    def withTLS(self) -> None:
        """The port has a certificate."""
        paths = makeAuthority("A").issue("fooserver.com").write(self.mktemp())
        files = CertificateFiles(*paths, alpn=HTTP, clock=self.gate.clock)
        self.gate.port = PipeGatePort(self.gate.clock, self.gate.http, certificate=files)

    def test_tls(self) -> None:
        """With a certificate it is shown for every name, and what comes is HTTP inside."""
        self.withTLS()
        client = self.gate.client("node")
        for name in ("fooserver.com", "another.example", None):
            self.visitor = self.gate.comeTLS(name, b"http/1.1", arrive=self.gate.port.arrive)
            self.ask("/node/x")
            message = client.heard.pop()
            self.assertIn('"x-forwarded-proto":"https"', message["headers"])
            client.answer(message, "fine")
            self.assertStatus(200, "fine")

    def test_plainOnTLS(self) -> None:
        """Who comes without TLS is told to come with it."""
        self.withTLS()
        self.visitor = self.gate.come(self.gate.port.arrive)
        self.ask("/node/x")
        self.assertStatus(400, "use https or wss")


class ServerTests(SynchronousTestCase):
    """L{PipeGateServer} and its options."""

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        self.reactor = Reactor()
        self.tokens = Path(self.mktemp())
        self.tokens.write_text(f"{hashToken('one')} node\n")

    def options(self, *words: str) -> PipeGateServerOptions:
        """The options, parsed."""
        options = PipeGateServerOptions()
        options.parseOptions(words)
        return options

    def start(self, *words: str) -> PipeGateServer:
        """A server, started as twistd does."""
        options = self.options("--interface", "127.0.0.1", *words)
        service = PipeGateServer(cast(IReactor, self.reactor), options.readSettings(), options.readSettings)
        with capturedLogs():
            service.privilegedStartService()
            service.startService()
        return service

    def test_listens(self) -> None:
        """It listens on one port, which is 443 if nobody says anything else, and stops."""
        service = self.start("--client-token", "x")
        self.assertEqual([port for port, *_ in self.reactor.tcpServers], [443])
        stopped = service.stopService()
        self.reactor.pump([1.0] * 20)
        self.successResultOf(stopped)

    def test_tokens(self) -> None:
        """Tokens come from the command line, the environment, and a file, all together or one alone."""
        tokens = self.start("--client-token", "x", "--tokens", str(self.tokens)).dialect.authority.tokens
        self.assertIsNotNone(tokens.verify("x", "any"))
        self.assertIsNotNone(tokens.verify("one", "node"))
        self.assertIsNone(tokens.verify("one", "any"))
        self.patch(os, "environ", {"PIPEGATE_CLIENT_TOKEN": "y"})
        self.assertIsNotNone(self.start().dialect.authority.tokens.verify("y", "any"))

    def test_reload(self) -> None:
        """SIGHUP reads the tokens again; a file that cannot be used leaves those that there are."""
        service = self.start("--tokens", str(self.tokens))
        self.tokens.write_text(f"{hashToken('two')} node\n")
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertIsNotNone(service.dialect.authority.tokens.verify("two", "node"))
        self.assertIsNone(service.dialect.authority.tokens.verify("one", "node"))
        self.tokens.write_text("nonsense\n")
        with capturedLogs() as events:
            service.reload()
        self.assertIn("gateway.reload-failed", [event["event"] for event in events])
        self.assertIsNotNone(service.dialect.authority.tokens.verify("two", "node"))

    def test_settings(self) -> None:
        """What is told arrives where it counts, and the environment's keys of a gateway do, too."""
        self.patch(os, "environ", {"GATEWAY_LIMITS_HEAD_TIMEOUT": "3"})
        words = ("--timeout", "7", "--max-message", "5000", "--share", "--trusted-proxy", "10.0.0.0/8", "--drain", "2")
        service = self.start("--client-token", "x", *words)
        self.assertTrue(service.dialect.shares)
        limits = service.dialect.held.limits
        self.assertEqual((limits.timeout, limits.message), (7, 5000))
        self.assertEqual(service.http.settings.headTimeout, 3)
        self.assertEqual(service.http.settings.originHeadTimeout, 7)
        self.assertEqual([str(each) for each in service.http.trusted], ["10.0.0.0/8"])

    def test_paths(self) -> None:
        """No id is the server's own, whatever a gateway has at such a path."""
        service = self.start("--client-token", "x")
        for identifier in ("agent", "healthz", "node"):
            attachment = FakeAttachment(identifier, grant=grantFor(identifier))
            service.registry.attach(attachment)
            (outcome,) = service.registry.offer(attachment, (serviceOf(identifier),)).values()
            self.assertEqual(outcome, (prefixPlace(f"/{identifier}"),))

    def test_certificate(self) -> None:
        """A certificate needs its key, and both must be ones."""
        certificate, key = makeAuthority("A").issue("fooserver.com").write(self.mktemp())
        self.start("--client-token", "x", "--ssl-certfile", certificate, "--ssl-keyfile", key)
        options = self.options("--client-token", "x", "--ssl-certfile", key, "--ssl-keyfile", key)
        settings = options.readSettings()
        error = self.assertRaises(
            ConfigurationError, PipeGateServer, cast(IReactor, self.reactor), settings, options.readSettings
        )
        self.assertIn("--ssl-certfile: ", str(error))

    def test_wrong(self) -> None:
        """What is wrong with the command line is said with the option's name."""
        for words, problem in (
            ((), "--client-token, PIPEGATE_CLIENT_TOKEN or --tokens is required"),
            (("--port", "x"), "--port: 'x'"),
            (("--ssl-keyfile", "x"), "one is of no use"),
            (("--interface", "x"), "--interface: 'x' is not an address"),
            (("--timeout", "0"), "--timeout"),
            (("--domain", "a b"), "--domain: "),
            (("--trusted-proxy", "x"), "--trusted-proxy: 'x' is neither"),
            (("--access-log-format", "x"), "--access-log-format: choose"),
        ):
            more = () if problem.startswith("--client-token") else ("--client-token", "x")
            error = self.assertRaises(usage.UsageError, self.options, *more, *words)
            self.assertIn(problem, str(error))
        for content, problem in ((b"x y", "line 1"), (b"\xff", "not UTF-8")):
            self.tokens.write_bytes(content)
            error = self.assertRaises(ConfigurationError, self.options("--tokens", str(self.tokens)).readSettings)
            self.assertIn(f"--tokens: {self.tokens.absolute()}: {problem}", str(error))
        error = self.assertRaises(ConfigurationError, self.options("--tokens", "/nowhere").readSettings)
        self.assertIn("--tokens: /nowhere: No such", str(error))
        options = self.options("--client-token", "x", "--access-log", "/nowhere/access.log")
        error = self.assertRaises(ConfigurationError, options.readSettings)
        self.assertEqual(str(error), "--access-log: /nowhere/access.log: No such file or directory")


class BesideTests(SynchronousTestCase):
    """Clients of PipeGate's at a gateway that has others."""

    def test_site(self) -> None:
        """By TLS they come to the gateway's own name, and their visitors do, too; a visitor's WebSocket is none of them."""
        gate = PipeGate()
        gate.http.site = gate.site
        gate.site.addWhere(gate.dialect.isSure, gate.dialect.arrive)
        upgrade = (
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        token = f"PIPEGATE_CLIENT_TOKEN: {TOKEN}"
        for name, lines, status in (("node", (*upgrade, token), 101), ("other", upgrade, 404), ("agent", upgrade, 400)):
            peer = gate.comeTLS(OWN, b"http/1.1")
            peer.transport.write(asking(f"/{name}", *lines, host=OWN))
            gate.pump()
            self.assertTrue(peer.received.startswith(b"HTTP/1.1 %d " % status), (name, peer.received))
        self.assertEqual(gate.names(), ["/node"])
        client = gate.client("more")
        visitor = gate.comeTLS(OWN, b"http/1.1")
        visitor.transport.write(asking("/more/x", host=OWN))
        gate.pump()
        client.answer(client.heard[0], "fine")
        self.assertTrue(visitor.received.endswith(b"\r\n\r\nfine"))
        self.assertTrue(gate.http.site.page(RequestHead("GET", "/healthz", "1.1", [])).status == 200)

    def test_configuration(self) -> None:
        """[pipegate] says which tokens are good; SIGHUP reads them again, and what is wrong is told with the key."""
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        tokens = Path(self.mktemp())
        tokens.write_text(f"{hashToken('one')} node\n")
        environ = {
            "GATEWAY_AGENTS_PLAIN_LISTEN": "127.0.0.1:0",
            "GATEWAY_PIPEGATE_TOKENS_FILE": str(tokens),
            "GATEWAY_PIPEGATE_SHARE": "true",
        }

        def read() -> GatewaySettings:
            return readGatewaySettings(None, environ)

        service = GatewayService(cast(IReactor, Reactor()), read(), read)
        assert service.pipeGate is not None
        self.assertTrue(service.pipeGate.shares)
        self.assertIsNotNone(service.pipeGate.authority.tokens.verify("one", "node"))
        tokens.write_text(f"{hashToken('two')} *\n")
        with capturedLogs():
            service.reload()
        self.assertIsNone(service.pipeGate.authority.tokens.verify("one", "node"))
        self.assertIsNotNone(service.pipeGate.authority.tokens.verify("two", "any"))
        tokens.write_text("nonsense")
        error = self.assertRaises(ConfigurationError, read)
        self.assertIn("pipegate.tokens-file: line 1", str(error))
        del environ["GATEWAY_PIPEGATE_TOKENS_FILE"]
        with capturedLogs():
            service.reload()
        self.assertIsNone(service.pipeGate.authority.tokens.verify("two", "any"))


class ClientTests(SynchronousTestCase):
    """L{PipeGateClientService} and its options."""

    USUAL = ("--local-url", "http://localhost:5001", "--server-url", "ws://127.0.0.1:8000/node", "--client-token", "x")

    def setUp(self) -> None:
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        self.reactor: Any = DialReactor()

    def options(self, *words: str) -> PipeGateClientOptions:
        """The options, parsed."""
        options = PipeGateClientOptions()
        options.parseOptions(words)
        return options

    def start(self, *words: str) -> tuple[PipeGateClientService, list[str]]:
        """A client, started as twistd does, and the events that it logs."""
        events: list[str] = []

        def observe(event: LogEvent) -> None:
            events.append(str(event.get("event")))

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        client = PipeGateClientService(self.reactor, self.options(*words))
        client.privilegedStartService()
        client.startService()
        return client, events

    def test_dials(self) -> None:
        """It dials the server, and again when that fails; when it is stopped it does not."""
        client, events = self.start(*self.USUAL)
        self.assertEqual([each[:2] for each in self.reactor.tcpClients], [("127.0.0.1", 8000)])
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.reactor.tcpClients[1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.successResultOf(client.stopService())
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.assertEqual(
            [each for each in events if each != "None"],
            ["agent.not-connected", "agent.not-connected", "agent.stopping", "agent.stopped"],
        )

    def test_warns(self) -> None:
        """That the token can be read on the way is said, and that a path before all others costs something."""
        _, events = self.start(
            *("--local-url", "http://localhost/base", "--server-url", "ws://192.0.2.1/node", "--client-token", "x")
        )
        self.assertIn("pipegate.unencrypted", events)
        self.assertIn("pipegate.json-alone", events)

    def test_token(self) -> None:
        """The token is in a header with PipeGate's name, and is not shown."""
        options = self.options(*self.USUAL)
        self.assertEqual(list(options.request.headers), [("PIPEGATE_CLIENT_TOKEN", "x")])
        self.patch(os, "environ", {"PIPEGATE_CLIENT_TOKEN": "from there"})
        options = self.options(*self.USUAL[:4])
        self.assertEqual(list(options.request.headers), [("PIPEGATE_CLIENT_TOKEN", "from there")])
        self.assertNotIn("from there", repr(options.request))

    def test_wrong(self) -> None:
        """What is wrong with the command line is said with the option's name."""
        for name, value, problem in (
            ("local-url", None, "--local-url is required"),
            ("local-url", "localhost", "--local-url: an application"),
            ("server-url", None, "--server-url is required"),
            ("server-url", "http://x/node", "--server-url: "),
            ("server-url", "ws://x", "--server-url: its path"),
            ("server-url", "ws://x/a/b", "--server-url: its path"),
            ("server-url", "ws://x/node?a=b", "--server-url: its path"),
            ("client-token", None, "--client-token or PIPEGATE_CLIENT_TOKEN is required"),
            ("client-token", "a\nb", "--client-token: it holds"),
            ("local-ca", "x", "--local-ca: it is for"),
            ("ca", "x", "--ca and --pin are for"),
            ("pin", "x", "--ca and --pin are for"),
            ("drain", "x", "--drain: 'x'"),
        ):
            given = dict(zip(self.USUAL[::2], self.USUAL[1::2], strict=True)) | {f"--{name}": value}
            words = [word for option, text in given.items() if text is not None for word in (option, text)]
            error = self.assertRaises(usage.UsageError, self.options, *words)
            self.assertIn(problem, str(error))
        usual = ("--client-token", "x", "--server-url", "ws://x/node")
        error = self.assertRaises(
            usage.UsageError, self.options, *usual, "--local-url", "https://x", "--local-ca", "/no"
        )
        self.assertEqual(str(error), "--local-ca: /no: No such file or directory")


class PluginTests(SynchronousTestCase):
    """C{twistd pipegate-server} and C{twistd pipegate-client}."""

    def test_plugins(self) -> None:
        """twistd finds both by their names."""
        names = {plugin.tapname for plugin in getPlugins(IServiceMaker)}
        self.assertTrue({"pipegate-server", "pipegate-client"} <= names)

    def test_makes(self) -> None:
        """Each is made from its options."""
        server, client = pipegate_server_tap.Options(), pipegate_client_tap.Options()
        server.parseOptions(["--client-token", "x", "--interface", "127.0.0.1"])
        client.parseOptions(ClientTests.USUAL)
        self.assertTrue(IService.providedBy(pipegate_server_tap.makeService(server)))
        self.assertTrue(IService.providedBy(pipegate_client_tap.makeService(client)))

    def test_problems(self) -> None:
        """What cannot be used is one line on standard error, and exit status 2."""
        options = pipegate_server_tap.Options()
        options.parseOptions(["--tokens", "/nowhere"])
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        with self.assertRaises(SystemExit) as caught:
            pipegate_server_tap.makeService(options)
        self.assertEqual(caught.exception.code, 2)
        self.assertRegex(errors.getvalue(), r"\Apipegate-server: error: --tokens: /nowhere: [^\n]*\n\Z")
