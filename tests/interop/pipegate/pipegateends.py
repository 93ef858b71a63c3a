"""
Both ends of PipeGate's dialect, started for real: ours, and programs of the tests that do what PipeGate's own do::

    server = tests.ourServer()
    tests.theirClient(server, "node", tests.adminApp())
    tests.get(server, "/node/admin")
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.interop.running import GATEWAY, Running, start
from tests.interop.tunnels import TunnelTestCase
from tests.peers import require
from tests.processes import HERE, eventually, freePort

__all__ = ["TOKEN", "PipeGateTestCase", "RunningServer"]

TOKEN = "123xyz"

_HERE = Path(__file__).parent
_PYTHON = Path(__file__).resolve().parents[3] / ".peers/pipegate/bin/python"


def python() -> str:
    """
    @return: the path of the Python that has what PipeGate is made with.
    @raise SkipTest: it is not there.
    """
    require((_PYTHON.parent.parent / "installed").exists(), "FastAPI, httpx and others are missing: run scripts/peers")
    return str(_PYTHON)


@dataclass(slots=True)
class RunningServer(Running):
    """
    A server of either kind.

    @ivar authority: PEM file of the authority behind its certificate; empty: it has none.
    @ivar certificate: PEM file of that.
    """

    port: int
    authority: str = ""
    certificate: str = ""

    def url(self, path: str = "", scheme: str = "http") -> str:
        """Where something is."""
        return f"{scheme}{'s' if self.authority else ''}://{'gw.test' if self.authority else HERE}:{self.port}{path}"


class PipeGateTestCase(TunnelTestCase):
    """What the tests have in common."""

    def listening(self, *command: str, port: int, authority: str = "") -> RunningServer:
        """Start a program that listens."""
        running = start(self, *command)
        running.awaitPort(port)
        return RunningServer(running.process, running._log, port, authority)

    def ourServer(self, *options: str, secure: bool = False, port: int = 0) -> RunningServer:
        """C{gateway pipegate-server}."""
        port, authority, certificate = port or freePort(), "", ""
        if secure:
            authority, certificate, key = self.credential("gw.test")
            options += ("--ssl-certfile", certificate, "--ssl-keyfile", key)
        if "--tokens" not in options:
            options += ("--client-token", TOKEN)
        command = [GATEWAY, "pipegate-server", "--interface", HERE, "--port", str(port), "--drain", "1", *options]
        server = self.listening(*command, port=port, authority=authority)
        server.certificate = certificate
        return server

    def theirServer(self) -> RunningServer:
        """One as PipeGate's own."""
        port = freePort()
        return self.listening(python(), str(_HERE / "theirserver.py"), TOKEN, str(port), port=port)

    def startOurClient(
        self, server: RunningServer, identifier: str, local: str, *options: str, token: str = TOKEN
    ) -> Running:
        """C{gateway pipegate-client}. It knows a server with TLS by its key, as it goes there by an address."""
        url = server.url(f"/{identifier}", "ws").replace("gw.test", HERE)
        trust = ["--pin", self.pin(server)] if server.authority else []
        command = [GATEWAY, "pipegate-client", "--client-token", token, "--local-url", local, "--drain", "1"]
        return start(self, *command, "--server-url", url, *trust, *options)

    def ourClient(self, server: RunningServer, identifier: str, local: str, *options: str) -> Running:
        """The same, connected."""
        client = self.startOurClient(server, identifier, local, *options)
        client.awaitEvent("agent.connected")
        return client

    def startTheirClient(self, server: RunningServer, identifier: str, local: str, token: str = TOKEN) -> Running:
        """One as PipeGate's own."""
        return start(self, python(), str(_HERE / "theirclient.py"), token, server.url(f"/{identifier}", "ws"), local)

    def theirClient(self, server: RunningServer, identifier: str, local: str) -> Running:
        """The same, connected."""
        client = self.startTheirClient(server, identifier, local)
        if not eventually(lambda: '"connected"' in client.log() or client.process.poll() is not None):
            raise AssertionError(client.log()[-4000:])
        return client

    def pin(self, server: RunningServer) -> str:
        """Of the server's key."""
        show = f"openssl s_client -connect {HERE}:{server.port} </dev/null 2>/dev/null | openssl x509 -pubkey -noout"
        digest = "openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl enc -base64"
        found = subprocess.run(["sh", "-c", f"{show} | {digest}"], capture_output=True, check=True, timeout=20)
        return f"sha256//{found.stdout.decode().strip()}"

    def application(self, name: str, *arguments: str) -> str:
        """Start one, and return its URL, but for a scheme with TLS."""
        port = freePort()
        self.listening(python(), str(_HERE / f"{name}.py"), str(port), *arguments, port=port)
        return f"http://{HERE}:{port}"

    def curl(self, server: RunningServer, path: str, *arguments: str) -> str:
        """Run curl to its end, and return what it wrote to standard output."""
        usual = ["--disable", "--silent", "--show-error", "--noproxy", "*", "--path-as-is"]
        if server.authority:
            usual += ["--cacert", server.authority, "--resolve", f"gw.test:{server.port}:{HERE}"]
        return self.call("curl", *usual, *arguments, server.url(path))

    def status(self, server: RunningServer, path: str, *arguments: str) -> int:
        """Of the answer."""
        return int(self.curl(server, path, "--output", "/dev/null", "--write-out", "%{http_code}", *arguments))
