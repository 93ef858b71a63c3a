"""
Tabby's users at agents: a terminal in the browser reaches what no port of the gateway's leads to.
"""

from __future__ import annotations

import hashlib
import json
import socket

from tests.integration.faultfixture import control
from tests.interop.openssh import startSSHD
from tests.interop.rawwebsocket import BINARY, RawWebSocket
from tests.interop.tunnels import AGENT, TunnelTestCase
from tests.processes import HERE, SECONDS, freePort

TOKEN = "a token of the tests"
RULES = [f"allow *.{AGENT}.agent", f"allow {AGENT}.agent", "deny *.other.agent"]


class TabbyTests(TunnelTestCase):
    """A gateway with a gateway for Tabby Web in it, and sshd behind an agent."""

    def setUp(self) -> None:
        super().setUp()
        self.sshd = startSSHD(self, self.folder / "ssh")
        self.port = freePort()
        tokens = self.folder / "tokens.toml"
        hashed = hashlib.sha256(TOKEN.encode()).hexdigest()
        tokens.write_text(f'[tokens.alice]\nhash = "sha256:{hashed}"\ntargets = {json.dumps(RULES)}\n')
        words = ["--host", HERE, "--port", str(self.port), "--tokens", str(tokens), "--drain", "5"]
        self.server = self.gateway(drain=5.0, tabby=f"options = {json.dumps(words)}")
        self.agent(
            self.server, "--tcp", f"ssh:0={HERE}:{self.sshd.port}", "--allow-target", f"{HERE}:{self.sshd.port}"
        ).awaitEvent("agent.serving")

    def message(self, client: RawWebSocket) -> dict[str, object]:
        """The next control message."""
        message: dict[str, object] = json.loads(client.receive(SECONDS).payload)
        return message

    def ask(self, host: str, port: int = 22) -> tuple[RawWebSocket, dict[str, object]]:
        """What Tabby does, and the answer."""
        client = RawWebSocket.connect((HERE, self.port))
        self.addCleanup(client.drop)
        self.assertEqual(self.message(client)["_"], "hello")
        client.sendText(control("hello", version=1, auth_token=TOKEN))
        self.assertEqual(self.message(client)["_"], "ready")
        client.sendText(control("connect", host=host, port=port))
        return client, self.message(client)

    def assertSSH(self, client: RawWebSocket) -> None:
        """The ssh server is there, and hears what is said."""
        frame = client.receive(SECONDS)
        self.assertEqual((frame.opcode, frame.payload[:8]), (BINARY, b"SSH-2.0-"))
        client.sendBinary(b"nonsense\r\n")
        self.assertIn(b"Invalid SSH identification string", client.receive(SECONDS).payload)

    def test_names(self) -> None:
        """A service, and a port of the agent's machine, are reached by their names."""
        for host, port in ((f"ssh.{AGENT}.agent", 22), (f"{AGENT}.agent", self.sshd.port)):
            client, answer = self.ask(host, port)
            self.assertEqual(answer["_"], "connected", answer)
            self.assertSSH(client)

    def test_refused(self) -> None:
        """Rules decide, the gateway's and the agent's; and what is not there is said."""
        for host, port, code in (
            ("ssh.other.agent", 22, "target-denied"),
            (f"db.{AGENT}.agent", 22, "connection-failed"),
            (f"{AGENT}.agent", 1, "target-denied"),
        ):
            _, answer = self.ask(host, port)
            self.assertEqual((answer["_"], answer["code"]), ("error", code), answer)

    def test_drains(self) -> None:
        """When the gateway is stopped, a session may end in order."""
        client, _ = self.ask(f"ssh.{AGENT}.agent")
        self.assertEqual(client.receive(SECONDS).payload[:8], b"SSH-2.0-")
        self.server.process.terminate()
        self.assertEqual(self.message(client)["_"], "shutting-down")
        client.sendBinary(b"nonsense\r\n")
        self.assertIn(b"Invalid SSH identification string", client.receive(SECONDS).payload)
        client.socket.shutdown(socket.SHUT_RDWR)
        self.server.process.wait(SECONDS)
        self.assertNotIn("Traceback", self.server.log())
