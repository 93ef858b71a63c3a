"""
A web server behind a gateway and an agent, for tests of what becomes of HTTP on the way::

    class ShopTests(WebTestCase):
        def test_shop(self) -> None:
            nginx = self.nginx()
            self.publish(nginx.port)
            self.curl("https", "/", "--http2")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.interop.running import Running, program, start
from tests.interop.tunnels import RunningAgent, RunningGateway, TunnelTestCase
from tests.interop.webserver import Nginx, startNginx
from tests.peers import require
from tests.processes import HERE, freePort

__all__ = ["ASSETS", "NAME", "WAYS", "WebTestCase", "peer"]

NAME = "app.gw.test"

ASSETS = 100
"""Of the page that Node serves."""

WAYS = (
    ("http", "--http1.0", "1.1"),
    ("http", "--http1.1", "1.1"),
    ("https", "--http1.1", "1.1"),
    ("https", "--http2", "2"),
)
"""How curl comes: with which scheme, told what, and what it calls the version of the answer (RFC 9110, section 2.5)."""

_HERE = Path(__file__).parent
_PEERS = Path(__file__).resolve().parents[3] / ".peers/web/bin"


def peer(name: str) -> str:
    """
    @return: the path of a program of those that C{scripts/peers} installs for these tests.
    @raise SkipTest: it is not there.
    """
    path = _PEERS / name
    require(path.exists(), f"{name} is missing: run scripts/peers")
    return str(path)


class WebTestCase(TunnelTestCase):
    """
    @ivar running: the gateway.
    @ivar agent: the agent, once something is published.
    """

    running: RunningGateway
    served: RunningAgent

    def publish(self, port: int, http: str = "", **sections: str) -> None:
        """
        Start a gateway, and an agent that serves a port of this machine as L{NAME}.

        @param http: lines for what is done with its HTTP.
        @param sections: lines for sections of the gateway's configuration.
        """
        self.running = self.gateway(drain=1.0, **sections)
        service = self.service(key="app", kind="http", hostnames=[NAME], origin=f"{HERE}:{port}")
        self.served = self.agent(self.running, config=f"{service}[service.http]\n{http}\n")
        self.served.awaitEvent("agent.serving")

    def command(self, scheme: str, path: str, *arguments: str) -> list[str]:
        """The words that make curl ask for something, but for its name."""
        resolve = [
            word for port in (self.running.tls, self.running.http) for word in ("--resolve", f"{NAME}:{port}:{HERE}")
        ]
        usual = ["--disable", "--silent", "--show-error", "--noproxy", "*", "--cacert", self.running.authority]
        return [*usual, *resolve, *arguments, self.running.url(scheme, NAME, path)]

    def curl(self, scheme: str, path: str, *arguments: str, status: int = 0, text: str = "") -> str:
        """Run curl to its end, and return what it wrote to standard output."""
        return self.call("curl", *self.command(scheme, path, *arguments), status=status, text=text)

    def nginx(self) -> Site:
        """Start nginx."""
        port = freePort()
        return Site(port, startNginx(self, self.folder / "web", port, f"listen {HERE}:{port};"))

    def node(self) -> int:
        """Start L{node.js}; return its port."""
        port = freePort()
        self.origin(port, program("node"), str(_HERE / "node.js"), str(port), str(ASSETS))
        return port

    def flask(self) -> int:
        """Start L{flaskapp} in gunicorn, with its usual workers; return its port."""
        port = freePort()
        options = ["--bind", f"{HERE}:{port}", "--workers", "2", "--forwarded-allow-ips", HERE, "--chdir", str(_HERE)]
        self.origin(port, peer("gunicorn"), *options, "flaskapp:app")
        return port

    def grpc(self) -> int:
        """Start the server of L{grpcends}; return its port."""
        port = freePort()
        self.origin(port, peer("python"), str(_HERE / "grpcends.py"), "serve", str(port))
        return port

    def origin(self, port: int, *command: str) -> Running:
        """Start something, and wait until it listens."""
        running = start(self, *command)
        running.awaitPort(port)
        return running


@dataclass(frozen=True, slots=True)
class Site:
    """A running nginx, and where it is."""

    port: int
    nginx: Nginx

    @property
    def files(self) -> Path:
        """What it serves, and where uploads go."""
        return self.nginx.files
