"""
Tests of SIGHUP on either side of a tunnel, in the middle of a download.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl

from tests.integration.relays import digest, exactly, origin, toTheEnd
from tests.interop.tunnels import HOST, MIB, TunnelTestCase
from tests.processes import HERE, SECONDS, eventually

BULK = os.urandom(16 * MIB)
"""More than there is room for on the way, so that a visitor who does not read stays in the middle of it."""

STAYS, GOES, COMES = (f"{name}.{HOST}" for name in ("stays", "goes", "comes"))


class ReloadTests(TunnelTestCase):
    """Services that stay, go and come, each with TLS that the gateway ends; what they say is much."""

    def setUp(self) -> None:
        super().setUp()
        self.target, _ = self.enterContext(origin(lambda connection: connection.sendall(BULK)))
        self.running = self.gateway()
        self.box = self.agent(self.running, config=self.services(STAYS, GOES))
        self.box.awaitEvent("agent.serving", service="goes")
        self.authority = self.running.authority

    def services(self, *names: str) -> str:
        """As the agent's configuration has them."""
        origin = f"{HERE}:{self.target}"
        return "".join(
            self.service(key=name.partition(".")[0], kind="tls", tls="terminate", hostnames=[name], origin=origin)
            for name in names
        )

    def visit(self, name: str) -> ssl.SSLSocket:
        """Begin a download."""
        context = ssl.create_default_context(cafile=self.authority)
        connection = socket.create_connection((HERE, self.running.tls), SECONDS)
        self.addCleanup(connection.close)
        # ssl takes a reset for an end, unless it is told not to.
        visitor = context.wrap_socket(connection, server_hostname=name, suppress_ragged_eofs=False)
        self.addCleanup(visitor.close)
        return visitor

    def download(self, name: str) -> ssl.SSLSocket:
        """Begin a download, and be in the middle of it."""
        visitor = self.visit(name)
        self.assertEqual(exactly(visitor, 1000), BULK[:1000])
        return visitor

    def assertFinishes(self, visitor: ssl.SSLSocket) -> None:
        """The rest comes."""
        self.assertEqual(digest(BULK[:1000] + toTheEnd(visitor)), digest(BULK))

    def assertNobody(self, name: str) -> None:
        """The name is served no more."""
        with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
            self.visit(name)

    def change(self, pattern: str, replacement: str) -> None:
        """Edit the gateway's configuration."""
        text, count = re.subn(pattern, replacement, self.running.configuration.read_text(), flags=re.MULTILINE)
        self.assertEqual(count, 1)
        self.running.configuration.write_text(text)

    def test_agent(self) -> None:
        """Of the agent's: what stays goes on, and what goes may finish, but takes nobody else; what comes is served."""
        downloads = [self.download(STAYS), self.download(GOES)]
        self.box.configuration.write_text(self.services(STAYS, COMES))
        self.box.send(signal.SIGHUP)
        self.box.awaitEvent("agent.serving", service="comes")
        self.assertNobody(GOES)
        for visitor in [*downloads, self.download(STAYS), self.download(COMES)]:
            self.assertFinishes(visitor)

    def test_agentMistake(self) -> None:
        """Of the agent's, with a mistake: it is told in one line, and everything stays as it was."""
        download = self.download(STAYS)
        self.box.configuration.write_text(self.services(STAYS).replace("origin", "orign"))
        self.box.send(signal.SIGHUP)
        self.assertIn("orign", self.box.awaitEvent("agent.reload-failed")["problem"])
        for visitor in (download, self.download(STAYS), self.download(GOES)):
            self.assertFinishes(visitor)

    def test_gateway(self) -> None:
        """Of the gateway's: an agent that may do less loses that alone, and gets it back when it may again."""
        download = self.download(STAYS)
        self.change(r"^hostnames = .*\nports", f'hostnames = ["{STAYS}"]\nports')
        self.running.send(signal.SIGHUP)
        self.running.awaitEvent("gateway.reloaded")
        self.box.awaitEvent("agent.not-serving", service="goes")
        self.assertNobody(GOES)
        self.assertFinishes(download)
        download = self.download(STAYS)
        self.change(r"^hostnames = .*\nports", f'hostnames = ["*.{HOST}"]\nports')
        self.running.send(signal.SIGHUP)
        self.assertTrue(eventually(lambda: len(self.box.events("agent.serving")) == 3), self.box.log())
        self.assertFinishes(self.download(GOES))
        self.assertFinishes(download)

    def test_certificate(self) -> None:
        """Of the gateway's, with a new certificate: whoever comes now sees that one, and the agent stays."""
        download = self.download(STAYS)
        self.authority, certificate, key = self.credential(HOST, f"*.{HOST}")
        self.change(r"^certificate = .*\nkey = .*", f'certificate = "{certificate}"\nkey = "{key}"')
        self.running.send(signal.SIGHUP)
        self.running.awaitEvent("gateway.reloaded")
        self.assertFinishes(self.download(STAYS))
        self.assertFinishes(download)
        self.assertEqual(self.box.events("agent.disconnected"), [])

    def test_agentRevoked(self) -> None:
        """Of the gateway's, without the agent: it is sent away at once, its downloads are cut, and it is told why."""
        download = self.download(STAYS)
        self.change(r'^name = "alice"', 'name = "somebody-else"')
        self.running.send(signal.SIGHUP)
        self.assertEqual(self.box.awaitEvent("agent.disconnected")["code"], "revoked")
        self.assertNobody(STAYS)
        with self.assertRaises((ConnectionError, ssl.SSLError)):
            toTheEnd(download)
