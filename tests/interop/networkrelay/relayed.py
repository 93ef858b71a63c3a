"""
A network relay, edge agents and access clients, each a process on loopback, of ours or as http-network-relay's are::

    class ShellTests(RelayedTestCase):
        def test_shell(self) -> None:
            relay = self.relay()
            self.edgeAgent(relay)
            self.connect(relay, port, b"hello")
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.interop.running import GATEWAY, Running, start
from tests.interop.tunnels import TunnelTestCase
from tests.peers import require
from tests.processes import HERE, eventually, freePort

__all__ = ["ACCESS_CLIENT", "CLIENT_SECRET", "NAME", "RelayedTestCase", "RunningRelay", "peerPython"]

ACCESS_CLIENT = str(Path(sysconfig.get_path("scripts"), "access-client"))
EDGE_AGENT = str(Path(sysconfig.get_path("scripts"), "edge-agent"))
"""Our own programs, by the names that http-network-relay has for them."""

NAME = "box"
SECRET = "the secret of the box, which is long enough"
CLIENT_SECRET = "the secret of the clients, which is, too"

_PEERS = Path(__file__).resolve().parents[3] / ".peers/networkrelay/bin/python"
_PARTS = Path(__file__).with_name("jsonparts.py")


def peerPython() -> str:
    """
    @return: a Python with websockets and paramiko.
    @raise SkipTest: there is none.
    """
    require(_PEERS.exists(), "websockets and paramiko are missing: run scripts/peers")
    return str(_PEERS)


@dataclass(slots=True)
class RunningRelay(Running):
    """
    A relay.

    @ivar port: where it listens.
    """

    port: int

    def url(self, path: str) -> str:
        """Where one of its doors is."""
        return f"ws://{HERE}:{self.port}/{path}"


class RelayedTestCase(TunnelTestCase):
    """A test with a relay."""

    def credentials(self) -> str:
        """The path of a credentials file."""
        path = self.folder / "credentials.json"
        path.write_text(json.dumps({"edge-agents": {NAME: SECRET}, "access-client-secrets": [CLIENT_SECRET]}))
        return str(path)

    def relay(self, port: int = 0) -> RunningRelay:
        """Start a relay of ours, and wait until it listens."""
        port = port or freePort()
        running = start(
            self, GATEWAY, "network-relay", "--port", str(port), "--credentials-file", self.credentials(),
            "--log-format", "json", ended=self._inspect,
        )  # fmt: skip
        running.awaitPort(port)
        return RunningRelay(running.process, running._log, port)

    def jsonRelay(self) -> RunningRelay:
        """Start one as http-network-relay's."""
        port = freePort()
        running = start(self, peerPython(), str(_PARTS), "relay", str(port), self.credentials())
        running.awaitPort(port)
        return RunningRelay(running.process, running._log, port)

    def edgeAgent(self, relay: RunningRelay, *options: str, url: str = "", secret: str = SECRET) -> Running:
        """Start an edge agent of ours."""
        return start(
            self, EDGE_AGENT, "--relay-url", url or relay.url("ws_for_edge_agents"), "--name", NAME,
            "--drain", "1", "--log-format", "json", *options,
            env={"HTTP_NETWORK_RELAY_SECRET": secret}, ended=self._inspect,
        )  # fmt: skip

    def attached(self, relay: RunningRelay, *options: str) -> Running:
        """The same, and wait until it is attached."""
        agent = self.edgeAgent(relay, *options)
        agent.awaitEvent("agent.connected")
        return agent

    def jsonAgent(self, relay: RunningRelay) -> Running:
        """Start an agent as http-network-relay's."""
        agent = start(self, peerPython(), str(_PARTS), "agent", relay.url("ws_for_edge_agents"), NAME, SECRET)
        self.assertTrue(eventually(lambda: "started" in agent.log()), agent.log())
        return agent

    def access(self, relay: RunningRelay, port: int, *options: str) -> list[str]:
        """The command line of an access client of ours."""
        return [
            ACCESS_CLIENT, NAME, HERE, str(port), "tcp",
            "--relay-url", relay.url("ws_for_access_clients"), *options,
        ]  # fmt: skip

    def jsonAccess(self, relay: RunningRelay, port: int) -> list[str]:
        """The same as http-network-relay's."""
        url = relay.url("ws_for_access_clients")
        return [peerPython(), str(_PARTS), "client", url, NAME, HERE, str(port), CLIENT_SECRET]

    def environment(self, **variables: str) -> dict[str, str]:
        """For access clients."""
        return {**os.environ, "HTTP_NETWORK_RELAY_SECRET": CLIENT_SECRET, **variables}

    def piped(self, command: list[str], data: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run an access client with input from a pipe."""
        return subprocess.run(
            command, input=data, capture_output=True, timeout=self.deadline, env=self.environment(**variables)
        )
