"""Tests for L{gateway.service.gotunnel.settings} and L{gateway.service.gotunnel.config}: what both ends are told."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.targets import Target
from gateway.net.tlsclient import ClientTrust
from gateway.service.agent.origins import Origin
from gateway.service.configuration import ConfigurationError
from gateway.service.gotunnel import settings as gotunnelsettings
from gateway.service.gotunnel.config import GoTunnelAgentPlan, readAgentPlan
from gateway.service.gotunnel.settings import GoTunnelServerSettings, readServerSettings, readVariables
from gateway.service.server.certificates import HTTP, Certificates
from gateway.service.server.settings import GoTunnelAgents
from gateway.wire.gotunnel import Mode, Route
from tests.certificates import makeAuthority
from tests.documented import tables

SECRET = "s" * 32


class PageTests(SynchronousTestCase):
    """The page of variables."""

    def test_variables(self) -> None:
        """Each variable that is read is on the page, and no other is."""
        source = Path(gotunnelsettings.__file__).read_text(encoding="utf-8")
        words = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
        known = {word for word in words if isinstance(word, str) and re.fullmatch("[A-Z]+(_[A-Z]+)+", word)}
        own = {word for word in known if word.startswith("GATEWAY_") and word not in ("GATEWAY_HOST", "GATEWAY_PORT")}
        rows = tables("reference/gotunnel-settings.md")["Variables"]
        self.assertEqual({name for row in rows for name in re.findall("`([A-Z_]+)`", row[0])}, known - own)


class ServerTests(SynchronousTestCase):
    """The variables of the server."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        authority = makeAuthority("Test Authority")
        self.certificate, self.key = authority.issue("gw.example.com", "*.example.com").write(str(self.directory))
        self.other = authority.issue("app.example.eu")
        self.variables = {"JWT_SECRET": SECRET, "CERT_FILE": self.certificate, "KEY_FILE": self.key}

    def read(self, interface: str = "", **variables: str) -> GoTunnelServerSettings:
        """The settings with a few more variables."""
        return readServerSettings(self.variables | variables, interface)

    def theirs(self, **variables: str) -> GoTunnelAgents:
        """What there is about agents."""
        theirs = self.read(**variables).gateway.goTunnel
        assert theirs is not None
        return theirs

    def problem(self, **variables: str) -> str:
        """What is wrong with some variables."""
        return str(self.assertRaises(ConfigurationError, self.read, **variables))

    def test_defaults(self) -> None:
        """A secret and a certificate will do; ports are the original's, and the dashboard is for this machine."""
        settings = self.read()
        gateway = settings.gateway
        places = (gateway.tlsListen[0], settings.tunnelListen, gateway.managementListen[0])
        self.assertEqual([(each.host, each.port) for each in places], [("", 443), ("", 9443), ("127.0.0.1", 8080)])
        theirs = self.theirs()
        self.assertEqual((gateway.publicHost, settings.tunnelHost, theirs.tokens.isGuessable), ("", "", False))
        self.assertTrue(theirs.grant.allowsName("anything.example.org"))
        GoTunnelTokens(SECRET).verify(theirs.tokens.make("a", 60, now=0), 0)

    def test_spellings(self) -> None:
        """Names of variables are those of the description and those of the program; the first win."""
        described = {"GATEWAY_HOST": "GW.example.com", "GATEWAY_PORT": "8443"}
        programmed = {"SERVER_DOMAIN": "other.example.com", "SERVER_PORT": "9999"}
        for variables, host, port in (
            (described, "gw.example.com", 8443),
            (programmed, "other.example.com", 9999),
            (described | programmed, "gw.example.com", 8443),
            (programmed | {"GATEWAY_HOST": " ", "GATEWAY_PORT": ""}, "other.example.com", 9999),
        ):
            gateway = self.read(**variables).gateway
            self.assertEqual((gateway.publicHost, gateway.tlsListen[0].port), (host, port))
            self.assertEqual(gateway.config.management.hosts, (host,))

    def test_others(self) -> None:
        """The rest of the variables, and keys of our own gateway's."""
        settings = self.read(
            TUNNEL_HOST="tunnel.example.com",
            TUNNEL_PORT="1",
            DASHBOARD_PORT="2",
            ALLOWED_HOSTS="*.example.com, Example.com",
            GATEWAY_LIMITS_ROUTE_CONNECTIONS="7",
            ACME_ENV="staging",
        )
        self.assertEqual((settings.tunnelHost, settings.tunnelListen.port), ("tunnel.example.com", 1))
        self.assertEqual(settings.gateway.managementListen[0].port, 2)
        assert settings.gateway.goTunnel is not None
        self.assertEqual(settings.gateway.goTunnel.grant.hostnames, ("*.example.com", "example.com"))
        self.assertEqual(settings.gateway.config.limits.routeConnections, 7)

    def test_dashboard(self) -> None:
        """The dashboard is on other addresses only with a password."""
        for interface, password, host in (
            ("", "", "127.0.0.1"),
            ("192.0.2.1", "", "127.0.0.1"),
            ("::1", "", "::1"),
            ("192.0.2.1", "sha256:" + "0" * 64, "192.0.2.1"),
            ("", "sha256:" + "0" * 64, ""),
        ):
            listen = self.read(interface, DASHBOARD_PASSWORD_HASH=password).gateway.managementListen[0]
            self.assertEqual(listen.host, host)

    def test_names(self) -> None:
        """A certificate is for the names in it."""
        certificates = Certificates(self.read().gateway.certificates, clock=Clock())
        for name, isThere in (("gw.example.com", True), ("a.example.com", True), ("a.example.eu", False)):
            self.assertEqual(certificates.find(name, HTTP) is not None, isThere)

    def test_directory(self) -> None:
        """A directory has files with a certificate and its key, as go-tunnel's cache does: the key first, and others."""
        cache = self.directory / "cache"
        cache.mkdir()
        (cache / "app.example.eu").write_bytes(self.other.keyPEM + self.other.certificatePEM)
        (cache / "acme_account+key").write_bytes(self.other.keyPEM)
        (cache / "abc+http-01").write_bytes(b"x")
        (cache / ".hidden").write_bytes(b"x")
        for variables in ({"CERT_DIR": str(cache)}, {"CERT_DIR": str(cache), "CERT_FILE": "", "KEY_FILE": ""}):
            certificates = Certificates(self.read(**variables).gateway.certificates, clock=Clock())
            self.assertIsNotNone(certificates.find("app.example.eu", HTTP))
            self.assertEqual(certificates.find("gw.example.com", HTTP) is not None, "CERT_FILE" not in variables)

    def test_problems(self) -> None:
        """What is wrong is one line that names the variable."""
        broken, nameless = self.directory / "broken.pem", self.directory / "nameless.pem"
        broken.write_text("x")
        nameless.write_bytes(makeAuthority("A").certificatePEM)
        empty = self.directory / "empty"
        empty.mkdir()
        for variables, parts in (
            ({"JWT_SECRET": ""}, ("JWT_SECRET", "no default")),
            ({"JWT_SECRET": "\udcff"}, ("JWT_SECRET", "UTF-8")),
            ({"GATEWAY_PORT": "x"}, ("GATEWAY_PORT",)),
            ({"SERVER_PORT": "65536"}, ("SERVER_PORT",)),
            ({"TUNNEL_PORT": "-1"}, ("TUNNEL_PORT",)),
            ({"DASHBOARD_PORT": "8080x"}, ("DASHBOARD_PORT",)),
            ({"SERVER_DOMAIN": "a b"}, ("SERVER_DOMAIN",)),
            ({"TUNNEL_HOST": "-"}, ("TUNNEL_HOST",)),
            ({"ALLOWED_HOSTS": "a.example, -b"}, ("ALLOWED_HOSTS", "-b")),
            ({"KEY_FILE": ""}, ("CERT_FILE", "KEY_FILE")),
            ({"CERT_FILE": "", "KEY_FILE": ""}, ("CERT_FILE", "CERT_DIR")),
            ({"CERT_FILE": "", "KEY_FILE": "", "ACME_CACHE": "./cert-cache"}, ("ACME_CACHE", "not fetched by ACME")),
            ({"CERT_FILE": "/nowhere"}, ("/nowhere", "No such file")),
            ({"CERT_FILE": str(broken)}, ("broken.pem", "PEM")),
            ({"CERT_FILE": str(nameless)}, ("nameless.pem", "no host name")),
            ({"CERT_DIR": "/nowhere"}, ("CERT_DIR", "No such file")),
            ({"CERT_DIR": str(empty), "CERT_FILE": "", "KEY_FILE": ""}, ("CERT_DIR", "no certificate")),
            ({"DASHBOARD_PASSWORD_HASH": "secret"}, ("management.password-hash",)),
            ({"GATEWAY_LIMITS_UNDECIDED": "many"}, ("GATEWAY_LIMITS_UNDECIDED",)),
        ):
            with self.subTest(str(variables)):
                problem = self.problem(**variables)
                for part in parts:
                    self.assertIn(part, problem)
                self.assertNotIn("\n", problem)
                self.assertNotIn(SECRET, problem)

    def test_shortSecret(self) -> None:
        """A secret that may be guessed is taken, and told from others."""
        self.assertTrue(self.theirs(JWT_SECRET="supersecretjwtkey").tokens.isGuessable)

    def test_file(self) -> None:
        """Variables come from a file, whose lines are those that go-tunnel reads; the environment wins over it."""
        path = self.directory / ".env"
        path.write_text('# settings\nJWT_SECRET="a b # c"\nexport TUNNEL_PORT=1 # agents\nA=${TUNNEL_PORT}2\nNOTHING\n')
        found = readVariables(str(path), {"TUNNEL_PORT": "3", "B": "4"})
        self.assertEqual((found["JWT_SECRET"], found["TUNNEL_PORT"], found["B"]), ("a b # c", "3", "4"))
        self.assertNotIn("NOTHING", found)
        self.assertEqual(readVariables(None, {"B": "4"}), {"B": "4"})
        path.write_bytes(b"\xff")
        for wrong in (str(path), "/nowhere/.env"):
            problem = str(self.assertRaises(ConfigurationError, readVariables, wrong, {}))
            self.assertTrue(problem.startswith(wrong), problem)


EXAMPLE = """
tunnel_addr: "tunnel.domain.com:9443"  # server `TUNNEL_PORT`
skip_tls_verify: false                 # set true only for testing

jwt_secret: "supersecretjwtkey"        # must match the server
jwt_issuer: "mytunnel"
jwt_expire_sec: 3600

tunnels:
  - hostname: "App.domain.com"         # registered public host
    target: "127.0.0.1:8080"           # local service being exposed
    mode: "http"                       # or "tcp"
  - hostname: "ssh.domain.com"
    target: "[::1]:22"
    mode: "TCP"
"""


class AgentTests(SynchronousTestCase):
    """The configuration of the agent."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def plan(self, text: str, authorities: str | None = None) -> GoTunnelAgentPlan:
        """What becomes of a file."""
        self.path.write_text(text)
        return readAgentPlan(str(self.path), authorities)

    def test_example(self) -> None:
        """The example of the original's documentation."""
        plan = self.plan(EXAMPLE)
        self.assertEqual((plan.server, plan.serverName), (Target("tunnel.domain.com", 9443), "app.domain.com"))
        self.assertEqual((plan.issuer, plan.lifetime, plan.trust), ("mytunnel", 3600, ClientTrust()))
        GoTunnelTokens("supersecretjwtkey").verify(plan.tokens.make("a", 60, now=0), 0)
        self.assertEqual(
            plan.routes,
            (
                Route("app.domain.com", "App.domain.com", "127.0.0.1:8080"),
                Route("ssh.domain.com", "ssh.domain.com", "[::1]:22", Mode.TCP),
            ),
        )
        self.assertEqual(
            plan.origins,
            {
                "app.domain.com": (Origin("http", Target("127.0.0.1", 8080)), Mode.HTTP),
                "ssh.domain.com": (Origin("tcp", Target("::1", 22)), Mode.TCP),
            },
        )

    SHORT = "tunnel_addr: gw.example\njwt_secret: x\ntunnels: [{hostname: %s, target: 127.0.0.1:80}]\n"

    def test_defaults(self) -> None:
        """A server, a secret and one tunnel will do."""
        plan = self.plan(self.SHORT % "a.example")
        self.assertEqual((plan.server, plan.issuer, plan.lifetime), (Target("gw.example", 9443), "", 3600))
        self.assertIs(plan.routes[0].mode, Mode.HTTP)

    def test_serverName(self) -> None:
        """The first tunnel's name is asked for, without its port; the server's own if that is a wildcard."""
        for hostname, name in (("a.example:8443", "a.example"), ('"*.a.example"', "gw.example")):
            self.assertEqual(self.plan(self.SHORT % hostname).serverName, name)

    def test_trust(self) -> None:
        """The certificate is verified, by other authorities where they are named, unless the file says not to."""
        self.assertEqual(self.plan(self.SHORT % "a.example", "ca.pem").trust, ClientTrust("ca.pem"))
        unverified = self.SHORT % "a.example" + "skip_tls_verify: true\n"
        self.assertEqual(self.plan(unverified).trust, ClientTrust(verify=False))

    def test_problems(self) -> None:
        """What is wrong is one line that names the file and the key."""
        good = self.SHORT % "a.example"
        for text, parts in (
            ("", ("expected a table",)),
            ("[]", ("expected a table",)),
            ("a: [", ("not YAML",)),
            ("\x00", ("not YAML",)),
            ("a: !!python/object:os.system x", ("not YAML",)),
            ("jwt_secret: x", ("tunnel_addr",)),
            (good.replace("jwt_secret: x", ""), ("jwt_secret", "no default")),
            (good.replace("jwt_secret: x", "jwt_secret: 12345"), ("jwt_secret: expected a text, not a whole number",)),
            (good + "jwt_secrets: x\n", ("jwt_secrets: there is no such key; did you mean jwt_secret?",)),
            (good + "jwt_expire_sec: 0\n", ("jwt_expire_sec",)),
            (good + "skip_tls_verify: maybe\n", ("skip_tls_verify: expected true or false, not a text",)),
            (good.replace("gw.example", "'gw.example:x'"), ("tunnel_addr",)),
            (good.replace("127.0.0.1:80", "127.0.0.1"), ("tunnels[0].target",)),
            (good.replace("target: 127.0.0.1:80", ""), ("tunnels[0]", "target")),
            (good.replace("a.example", "-a"), ("tunnels", "'-a' is not a host name")),
            (good.replace("}]", ", mode: udp}]"), ("tunnels[0].mode", "udp")),
            (good.replace("[{", "[{hostname: a.example, target: b:1}, {"), ("tunnels[1].hostname", "twice")),
            (good.replace("[{", "[{hostname: A.example, target: b:1}, {"), ("tunnels", "twice")),
            ("tunnel_addr: gw.example\njwt_secret: x\n", ("tunnels: there are none",)),
            ("x" * 1024 * 1024 + "x", ("longer than",)),
        ):
            with self.subTest(text[:200]):
                problem = str(self.assertRaises(ConfigurationError, self.plan, text))
                for part in (str(self.path), *parts):
                    self.assertIn(part, problem)
                self.assertNotIn("\n", problem)

    def test_noFile(self) -> None:
        """A file that is not there is named."""
        path = os.path.abspath(self.mktemp())
        problem = str(self.assertRaises(ConfigurationError, readAgentPlan, path))
        self.assertEqual(problem, f"{path}: No such file or directory")
