"""
Tests of an agent in a network that lets nothing out but by an HTTP proxy.
"""

from __future__ import annotations

import base64
import contextlib  # not suppress by its name, which trial takes for its own setting
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.integration.relays import exactly, origin
from tests.interop.tunnels import HOST, RunningGateway, TunnelTestCase
from tests.processes import HERE, SECONDS

CREDENTIALS = "user:p%40ss", "user:p@ss"
"""In a URL, and as they are."""


class Proxy(ThreadingHTTPServer):
    """
    A proxy that knows where C{gw.test} is, which nobody else does.

    @ivar asked: where it was to connect.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HERE, 0), ProxyRequest)
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class ProxyRequest(BaseHTTPRequestHandler):
    """Somebody who asks for a connection."""

    server: Proxy

    def do_CONNECT(self) -> None:
        """Make it, and pass on bytes in both directions until both have ended."""
        self.server.asked.append(self.path)
        if self.headers["Proxy-Authorization"] != f"Basic {base64.b64encode(CREDENTIALS[1].encode()).decode()}":
            self.send_error(407)
            return
        name, _, port = self.path.partition(":")
        with socket.create_connection((HERE if name == HOST else name, int(port)), SECONDS) as far:
            far.settimeout(None)
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_copy, args=(far, self.connection))
            back.start()
            _copy(self.connection, far)
            back.join()

    def log_message(self, *arguments: object) -> None:
        """Be silent."""


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class ProxiedTests(TunnelTestCase):
    """C{HTTPS_PROXY}."""

    def setUp(self) -> None:
        super().setUp()
        self.proxy = Proxy()
        self.addCleanup(self.proxy.server_close)
        self.addCleanup(self.proxy.shutdown)

    def environment(self, credentials: str) -> dict[str, str]:
        """Where the proxy is, as people say it."""
        return {"HTTPS_PROXY": f"http://{credentials}@{HERE}:{self.proxy.server_port}", "NO_PROXY": "example.com"}

    def test_webSocket(self) -> None:
        """An agent for which only the proxy knows the gateway's address attaches by a WebSocket, and serves."""
        gateway = self.gateway()
        self.assertServes(gateway, f"wss://{HOST}:{gateway.tls}/agent", gateway.tls)
        self.assertEqual(gateway.awaitEvent("agent.attached")["carrier"], "websocket")

    def test_tls(self) -> None:
        """So it does by TLS, if the proxy lets it."""
        gateway = self.gateway()
        self.assertServes(gateway, f"tls://{HOST}:{gateway.agents}", gateway.agents)

    def assertServes(self, gateway: RunningGateway, to: str, port: int) -> None:
        """There is an agent that came through the proxy alone."""
        with origin(lambda connection: connection.sendall(exactly(connection, 5))) as (target, _):
            agent = self.agent(gateway, "--tcp", f"echo:0={HERE}:{target}", to=to, env=self.environment(CREDENTIALS[0]))
            with socket.create_connection((HERE, agent.port("echo")), SECONDS) as visitor:
                visitor.sendall(b"hello")
                self.assertEqual(exactly(visitor, 5), b"hello")
        self.assertEqual(self.proxy.asked, [f"{HOST}:{port}"])

    def test_refused(self) -> None:
        """A proxy that wants other credentials is told about, without them."""
        gateway = self.gateway()
        agent = self.startAgent(gateway, to=f"wss://{HOST}:{gateway.tls}/agent", env=self.environment("user:secret"))
        self.assertIn("407", agent.awaitEvent("agent.not-connected")["problem"])
        self.assertNotIn("secret", agent.log())
