"""Tests for L{gateway.service.quickstart}; that its files work, L{tests.integration.test_tunneltutorial} sees."""

import os
import sysconfig
from pathlib import Path

from cryptography import x509

from gateway.domain.tokens import hashToken
from gateway.net.tlsclient import publicKeyPin
from gateway.service.agent.config import AgentConfig, agentPlan, checkPlan
from gateway.service.configuration import readConfiguration
from gateway.service.server.service import checkFiles
from gateway.service.server.settings import readGatewaySettings
from tests.service.test_checkconfig import CommandTestCase


class QuickStartTests(CommandTestCase):
    """
    C{gateway quick-start}.
    """

    def make(self, *options: str) -> Path:
        """The directory that it makes."""
        path = Path(self.mktemp())
        status, out, err = self.run_("quick-start", *options, str(path))
        self.assertEqual((status, err), (0, ""))
        first, second = out.splitlines()
        self.assertTrue(first.endswith(f"gateway serve --config {path}/gateway.toml"), first)
        self.assertTrue(second.endswith(f"gateway agent --config {path}/agent.toml"), second)
        return path

    def test_commands(self) -> None:
        """The commands that it prints work as they are, also where the shell does not find the program."""
        scripts = Path(self.mktemp()).absolute()
        scripts.mkdir()
        (scripts / "gateway").touch(0o700)
        self.patch(sysconfig, "get_path", {"scripts": str(scripts)}.__getitem__)
        for found, program in (("/nonexistent", f"{scripts}/gateway"), (str(scripts), "gateway")):
            self.patch(os, "environ", {"PATH": found})
            path = f"{self.mktemp()} x"
            status, out, _ = self.run_("quick-start", path)
            self.assertEqual(
                (status, out),
                (0, f"{program} serve --config '{path}/gateway.toml'\n{program} agent --config '{path}/agent.toml'\n"),
            )

    def test_files(self) -> None:
        """Both configurations can be used and belong together, and nobody else can read any of the files."""
        path = self.make()
        settings = readGatewaySettings(str(path / "gateway.toml"), {})
        checkFiles(settings)
        agent = readConfiguration(str(path / "agent.toml"), AgentConfig, environ={})
        agentPlan(agent, {})
        certificate = x509.load_pem_x509_certificate((path / "certificate.pem").read_bytes())
        self.assertEqual(agent.gateway.pin, publicKeyPin(certificate))
        (entry,) = settings.config.agent
        self.assertEqual(entry.name, agent.gateway.name)
        self.assertEqual(entry.secretHash, hashToken((path / "secret").read_text().strip()))
        self.assertEqual({each.stat().st_mode & 0o777 for each in path.iterdir()}, {0o600})
        self.assertEqual(path.stat().st_mode & 0o777, 0o700)

    def test_loopback(self) -> None:
        """As localhost, only this machine can reach it."""
        settings = readGatewaySettings(str(self.make() / "gateway.toml"), {})
        places = (*settings.tlsListen, *settings.httpListen, *settings.managementListen)
        self.assertTrue(all(each.isLoopback for each in places))
        self.assertEqual(settings.config.ports.interfaces, ("127.0.0.1",))

    def test_host(self) -> None:
        """Under a name everybody can reach it, but for its page; the name and those below are in the certificate."""
        path = self.make("--host", "gw.example.com")
        settings = readGatewaySettings(str(path / "gateway.toml"), {})
        self.assertFalse(any(each.isLoopback for each in (*settings.tlsListen, *settings.httpListen)))
        self.assertTrue(all(each.isLoopback for each in settings.managementListen))
        certificate = x509.load_pem_x509_certificate((path / "certificate.pem").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(
            set(names.get_values_for_type(x509.DNSName)), {"gw.example.com", "*.gw.example.com", "app.gw.example.com"}
        )
        agent = readConfiguration(str(path / "agent.toml"), AgentConfig, environ={})
        self.assertEqual(agent.gateway.to, "wss://gw.example.com:8443/agent")

    def test_overwritesNothing(self) -> None:
        """A directory that is there is left alone: one line on standard error, and status 1."""
        path = self.make()
        before = {each.name: each.read_bytes() for each in path.iterdir()}
        self.assertEqual(self.run_("quick-start", str(path)), (1, "", f"gateway quick-start: {path}: File exists\n"))
        self.assertEqual({each.name: each.read_bytes() for each in path.iterdir()}, before)

    def test_moved(self) -> None:
        """The directory can be taken elsewhere, and the agent's part of it to another machine."""
        path = self.make().rename(self.mktemp())
        checkFiles(readGatewaySettings(str(path / "gateway.toml"), {}))
        for name in ("gateway.toml", "certificate.pem", "key.pem"):
            (path / name).unlink()
        checkPlan(agentPlan(readConfiguration(str(path / "agent.toml"), AgentConfig, environ={}), {}), {})

    def test_wrongWords(self) -> None:
        """What is no host name, and anything but one directory, is refused with status 2, and nothing is made."""
        for words in ((), ("a", "b"), ("--host", "127.0.0.1", "x"), ("--host", "Two Words", "x")):
            status, _, err = self.run_("quick-start", *words)
            self.assertEqual((status, len(err.splitlines())), (2, 2))
        self.assertFalse(os.path.exists("x"))
