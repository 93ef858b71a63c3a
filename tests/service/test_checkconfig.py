"""
Tests for C{gateway check-config} and C{gateway secret}.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.tokens import hashToken
from gateway.service.main import main
from tests.certificates import makeAuthority

HASH = "sha256:" + "0" * 64


class CommandTestCase(SynchronousTestCase):
    """
    A command that is run.
    """

    def run_(self, *arguments: str) -> tuple[int, str, str]:
        """The exit status, and what was written to standard output and standard error."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        self.patch(sys, "argv", ["gateway"])
        return main(arguments), out.getvalue(), err.getvalue()

    def file(self, text: str) -> str:
        """The path of a file."""
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        return str(path)


class CheckConfigTests(CommandTestCase):
    """
    C{gateway check-config}.
    """

    def test_gateway(self) -> None:
        """Of a gateway's file it says what would be listened on, and who may come."""
        certificate, key = makeAuthority("A").issue("gw.example").write(self.mktemp())
        path = self.file(
            f"""
            [gateway]
            public-host = "gw.example"
            [tls]
            listen = ["0.0.0.0:443", "127.0.0.1:8443"]
            [agents]
            plain-listen = ["127.0.0.1:9000"]
            [[certificate]]
            hostnames = ["gw.example"]
            certificate = "{certificate}"
            key = "{key}"
            [[agent]]
            name = "box"
            secret-hash = "{HASH}"
            hostnames = ["app.example.com"]
            prefixes = ["/box"]
            ports = ["2222", "20000-20009"]
            """
        )
        status, out, err = self.run_("check-config", path)
        self.assertEqual((status, err), (0, ""))
        for text in (
            "listens for visitors, TLS on 0.0.0.0:443",
            "takes agents at wss://gw.example/agent too",
            "takes agents at wss://gw.example:8443/agent too",
            "listens for agents, plain on 127.0.0.1:9000",
            "wss://gw.example/agent",
            "agent box: names app.example.com; ports 2222, 20000-20009; paths /box",
        ):
            self.assertIn(text, out)
        self.assertNotIn(HASH, out)

    def test_networkRelay(self) -> None:
        """Of a network relay it says where its agents and clients come to, and what is wrong with their credentials."""
        credentials = self.file('{"edge-agents": {"box": "hush"}}')
        certificate, key = makeAuthority("A").issue("gw.example").write(self.mktemp())
        path = self.file(
            f"""
            gateway.public-host = "gw.example"
            tls.listen = ["0.0.0.0:443"]
            certificate = [{{hostnames = ["gw.example"], certificate = "{certificate}", key = "{key}"}}]
            networkrelay.listen = ["127.0.0.1:8000"]
            networkrelay.credentials-file = "{credentials}"
            """
        )
        status, out, err = self.run_("check-config", path)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("listens for a network relay's agents and clients on 127.0.0.1:8000", out)
        self.assertIn("takes agents at wss://gw.example/ws_for_edge_agents too", out)
        self.assertNotIn("hush", out)
        Path(credentials).write_text("[]")
        status, out, err = self.run_("check-config", path)
        self.assertEqual((status, out), (1, ""))
        self.assertIn(f"{path}: networkrelay.credentials-file: {credentials}: Expected", err)

    def test_mistake(self) -> None:
        """A mistake is one line that names the file and the key, and the status is 1."""
        path = self.file('[tls]\nlisten = ["x"]')
        status, out, err = self.run_("check-config", path)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err.count("\n"), 1)
        self.assertIn(f"{path}: tls.listen[0]", err)

    def test_certificate(self) -> None:
        """Files that the configuration names are looked at."""
        path = self.file(
            '[tls]\nlisten = ["127.0.0.1:1"]\n[[certificate]]\nhostnames = ["a.example"]\ncertificate = "/no"\nkey = "/no"'
        )
        status, _, err = self.run_("check-config", path)
        self.assertEqual(status, 1)
        self.assertIn(f"{path}: certificate: /no: No such file", err)

    def test_otherFiles(self) -> None:
        """So are the place of the access log, and the files of a gateway for Tabby Web."""
        for text, problem in (
            ('http.access-log = "/no/access.log"', "http.access-log: /no/access.log: No such file or directory"),
            ('tabby.options = ["--nonsense"]', "tabby.options: option --nonsense not recognized"),
            ('tabby.options = ["--tokens", "/no"]', "tabby.options: --tokens: /no: No such file or directory"),
            (
                'tabby.options = ["--no-auth", "--certificate", "/no", "--private-key", "/no"]',
                "tabby.options: --certificate: /no: No such file or directory",
            ),
        ):
            with self.subTest(problem):
                path = self.file(f'agents.plain-listen = ["127.0.0.1:1"]\n{text}')
                status, out, err = self.run_("check-config", path)
                self.assertEqual((status, out, err), (1, "", f"gateway check-config: {path}: {problem}\n"))

    def test_relativePaths(self) -> None:
        """A file that is named without a directory is looked for beside the configuration."""
        directory = self.mktemp()
        makeAuthority("A").issue("gw.example").write(directory)
        path = Path(directory, "gateway.toml")
        path.write_text(
            'tls.listen = ["127.0.0.1:1"]\n[[certificate]]\nhostnames = ["gw.example"]\n'
            'certificate = "certificate.pem"\nkey = "key.pem"'
        )
        status, out, err = self.run_("check-config", str(path))
        self.assertEqual((status, err), (0, ""))
        self.assertIn(f"certificate for gw.example: {Path(directory, 'certificate.pem')}", out)

    def test_agent(self) -> None:
        """An agent's file is known by where it attaches to, or by an option."""
        secret = self.file("hush")
        path = self.file(
            f"""
            [gateway]
            to = "wss://gw.example/agent"
            name = "box"
            secret-file = "{secret}"
            [[service]]
            key = "web"
            kind = "http"
            hostnames = ["app.example.com"]
            origin = "127.0.0.1:8080"
            """
        )
        for arguments in ((path,), ("--agent", path)):
            status, out, err = self.run_("check-config", *arguments)
            self.assertEqual((status, err), (0, ""))
            self.assertIn("serves web (http) from 127.0.0.1:8080", out)
        status, _, err = self.run_("check-config", "--agent", self.file(""))
        self.assertEqual(status, 1)
        self.assertIn("gateway", err)

    def test_commandLine(self) -> None:
        """A wrong command line has the status 2; a file that is not there has 1."""
        self.assertEqual(self.run_("check-config")[0], 2)
        self.assertEqual(self.run_("check-config", "a", "b")[0], 2)
        status, _, err = self.run_("check-config", "/nonexistent.toml")
        self.assertEqual(status, 1)
        self.assertIn("No such file", err)


class SecretTests(CommandTestCase):
    """
    C{gateway secret}.
    """

    def test_secret(self) -> None:
        """The secret goes to standard output alone, so that it can go into a file; its hash is shown."""
        status, out, err = self.run_("secret")
        self.assertEqual(status, 0)
        self.assertEqual(len(out.strip()), 64)
        self.assertEqual(err.strip(), hashToken(out.strip()))
