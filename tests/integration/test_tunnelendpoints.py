"""
C{tunnel:} endpoints in real processes: a site of twisted.web behind a gateway, and who reaches it through there.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

from tests.documented import ROOT, namedBlock
from tests.interop.gateways import environment
from tests.interop.running import Running, start
from tests.interop.tunnels import GATEWAY, RunningGateway, TunnelTestCase
from tests.processes import HERE, SECONDS, eventually

NAME = "site.gw.test"
SECRET = "another secret of the tests, which is long enough"
TWISTD = str(Path(sysconfig.get_path("scripts"), "twistd"))
ENTRIES = f"""
[[agent]]
name = "site"
secret-hash = "sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}"
hostnames = ["{NAME}"]

[[agent]]
name = "laptop"
secret-hash = "sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}"
targets = ["allow {NAME}", "allow *.site.agent"]
"""


class TunnelEndpointTests(TunnelTestCase):
    """
    A gateway, and programs that know nothing of it but an endpoint string.
    """

    def setUp(self) -> None:
        super().setUp()
        self.secret = self.folder / "secret.txt"
        self.secret.write_text(SECRET + "\n")
        self.server = self.gateway(ports=ENTRIES)

    def endpoint(self, name: str, agent: str) -> str:
        """A name at the gateway."""
        via = f"via=tls\\://{HERE}\\:{self.server.agents}"
        return f"tunnel:{name}:{via}:ca={self.server.authority}:credentials={self.secret}:agent={agent}"

    def site(self) -> Running:
        """The application file, as it is."""
        running = start(
            self,
            *(TWISTD, "-ny", str(ROOT / "tac/twisted_web_behind_tunnel.tac"), "--pidfile="),
            env={"ENDPOINT": self.endpoint(NAME, "site")},
        )
        running.awaitEvent("agent.serving")
        return running

    def get(self, server: RunningGateway, path: str = "/") -> bytes:
        """Ask for a page as a visitor does."""
        request = urllib.request.Request(f"http://{HERE}:{server.http}{path}", headers={"Host": NAME})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            body: bytes = answer.read()
        return body

    def test_visitors(self) -> None:
        """Visitors of the gateway get the site's page, and the site knows who they are."""
        site = self.site()
        self.assertEqual(self.get(self.server, "/hello"), b"Hello from behind the tunnel.\n")
        self.assertTrue(eventually(lambda: '\\"127.0.0.1\\" - - ' in site.log()), site.log())
        site.stop()
        self.assertEqual([line for line in site.log().splitlines() if "Traceback" in line], [])

    def test_clients(self) -> None:
        """A program that connects through the gateway reaches it by either of its names, and nothing else."""
        self.site()
        question = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()
        key = NAME.replace(".", "-")
        for name, status in ((NAME, 0), (f"{key}.site.agent", 0), ("other.gw.test", 1)):
            done = subprocess.run(
                [GATEWAY, "relay", "--listen", "stdio:", "--to", self.endpoint(name, "laptop")],
                input=question,
                capture_output=True,
                timeout=self.deadline,
                env=environment({}),
            )
            self.assertEqual(done.returncode, status, (name, done.stderr))
            if status:
                self.assertIn(b"no rule allows it", done.stderr)
            else:
                self.assertIn(b"Hello from behind the tunnel.", done.stdout)

    def test_relay(self) -> None:
        """A relay that listens at a gateway is all that some need of an agent."""
        here = socket.create_server((HERE, 0))
        self.addCleanup(here.close)
        relay = start(
            self,
            *(GATEWAY, "relay", "--log-format", "json", "--listen", self.endpoint(NAME, "site")),
            *("--to", f"tcp:{HERE}:{here.getsockname()[1]}"),
        )
        relay.awaitEvent("agent.serving")
        visitor = socket.create_connection((HERE, self.server.http), SECONDS)
        self.addCleanup(visitor.close)
        question = f"GET /upgrade HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
        visitor.sendall(question)
        origin, _ = here.accept()
        self.addCleanup(origin.close)
        origin.settimeout(SECONDS)
        self.assertTrue(origin.recv(1000).startswith(question[:-2]))
        origin.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertTrue(visitor.recv(1000).startswith(b"HTTP/1.1 204"))
        visitor.close()
        origin.close()
        relay.stop()
        self.assertNotIn("Traceback", relay.log())

    def test_documented(self) -> None:
        """The program of the guide does what it is there for, and says so."""
        text = namedBlock("publish-a-site").text.replace("app.example.com", NAME)
        text = text.replace(r"wss\://gw.example.com/agent", rf"tls\://{HERE}\:{self.server.agents}")
        program = self.folder / "site.py"
        program.write_text(text.replace(":agent=app", f":agent=site:ca={self.server.authority}"))
        running = start(
            self,
            *(sys.executable, str(program)),
            env={"GATEWAY_SECRET": SECRET, "PYTHONPATH": os.pathsep.join([str(ROOT)])},
        )
        self.assertTrue(eventually(lambda: self.server.metric("routes") > 0), running.log())
        self.assertIn(b"Hello", self.get(self.server))
        self.assertTrue(eventually(lambda: "is served at" in running.log()), running.log())
