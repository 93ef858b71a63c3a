"""
Tests for what an agent can be told.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.targets import Target
from gateway.service.agent.config import AgentConfig, AgentPlan, agentPlan, defaultName, readCredential
from gateway.service.agent.origins import Origin
from gateway.service.configuration import ConfigurationError, readConfiguration
from gateway.wire.agentcontrol import JwtCredential, SecretCredential, Service

FILE = """
targets = ["allow 10.0.0.0/8:22"]

[gateway]
to = "wss://gw.example/agent"
name = "box"
replica = "a"

[[service]]
key = "web"
kind = "http"
hostnames = ["App.Example.com.", "*.app.example.com"]
origin = "127.0.0.1:8080"
connect-timeout = 3

[service.health]
kind = "http"
path = "/healthz"

[[service]]
key = "shop"
kind = "tls"
hostnames = ["shop.example.com"]
origin = "unix:/run/shop.sock"

[[service]]
key = "raw"
kind = "tls"
tls = "terminate"
hostnames = ["raw.example.com"]
origin = "127.0.0.1:22"

[[service]]
key = "dns"
kind = "udp"
port = 5353
origin = "127.0.0.1:53"

[limits]
streams = 10
"""


class PlanTests(SynchronousTestCase):
    """
    L{agentPlan} makes of a file what the agent works with.
    """

    def read(self, text: str, **environ: str) -> AgentPlan:
        """A file with this text."""
        self.path = self.mktemp()
        Path(self.path).write_text(text)
        return agentPlan(readConfiguration(self.path, AgentConfig, environ=environ), environ)

    def problem(self, text: str, **environ: str) -> str:
        """What is wrong with it."""
        error = self.assertRaises(ConfigurationError, self.read, text, **environ)
        return str(error).replace(self.path, "FILE")

    def test_whole(self) -> None:
        """Services are as the gateway is told, and origins as they are dialled."""
        plan = self.read(FILE)
        register = plan.register
        self.assertEqual((register.agent, register.replica, register.targets), ("box", "a", True))
        self.assertEqual(
            register.services,
            (
                Service(key="web", kind="http", hostnames=("app.example.com", "*.app.example.com")),
                Service(key="shop", kind="tls", hostnames=("shop.example.com",)),
                Service(key="raw", kind="tls", tls="terminate", hostnames=("raw.example.com",)),
                Service(key="dns", kind="udp", port=5353),
            ),
        )
        self.assertEqual(
            plan.origins,
            {
                "web": Origin("http", Target("127.0.0.1", 8080), "none", 3.0),
                "shop": Origin("tls", "/run/shop.sock", "v2"),
                "raw": Origin("tls", Target("127.0.0.1", 22), "none"),
                "dns": Origin("udp", Target("127.0.0.1", 53), "none"),
            },
        )
        self.assertEqual([(key, health.path) for key, health in plan.health.items()], [("web", "/healthz")])
        self.assertEqual(plan.limits.streams, 10)

    def test_defaults(self) -> None:
        """A gateway is enough: the name is the machine's, and nobody reaches anything."""
        plan = self.read('[gateway]\nto = "tls://gw.example"')
        self.assertEqual(plan.register.agent, defaultName())
        self.assertEqual((plan.origins, plan.policy), ({}, None))

    def test_environment(self) -> None:
        """Every key has its variable."""
        plan = self.read(
            FILE, GATEWAY_GATEWAY_NAME="other", GATEWAY_LIMITS_STREAMS="7", GATEWAY_TARGETS="allow 192.0.2.1"
        )
        self.assertEqual((plan.register.agent, plan.limits.streams), ("other", 7))

    def test_problems(self) -> None:
        """What is wrong is one line that names the key."""
        for old, new, expected in (
            ('to = "wss:', 'to = "ftp:', "gateway.to: a gateway is written wss://HOST/PATH or tls://HOST:PORT"),
            ('to = "wss:', 'too = "wss:', "FILE: gateway.too: there is no such key; did you mean to?"),
            ('name = "box"', 'name = "My Box"', "gateway or service: "),
            ('replica = "a"', 'pin = "abc"', "gateway.pin: not a pin"),
            ('replica = "a"', 'secret-file = "a"\njwt-file = "b"', "gateway: secret-file and jwt-file"),
            ('kind = "udp"', 'kind = "dns"', "FILE: service[3].kind: "),
            ("port = 5353", "port = 70000", "FILE: service[3].port: "),
            ("port = 5353", 'proxy-protocol = "v1"', "service[3], 'dns': udp knows no health check"),
            ("port = 5353", 'hostnames = ["x.example"]', "service[3], 'dns': A service of kind udp has no hostnames"),
            ('key = "dns"', 'key = "web"', "gateway or service: The key web is there twice"),
            ('key = "dns"', 'key = "d n s"', "service[3], 'd n s': a key has letters"),
            ('"127.0.0.1:53"', '"127.0.0.1"', "service[3], 'dns': The target '127.0.0.1' lacks a port."),
            ('"127.0.0.1:53"', '"http://127.0.0.1:53"', "service[3], 'dns': the origin 'http://127.0.0.1:53' is a URL"),
            ('"shop.example.com"', '"shop example"', "service[1], 'shop': shop example is not a host name"),
            ('path = "/healthz"', 'path = "/a b"', "service[0], 'web': health: '/a b' is not a path"),
            ('["allow 10', '["permit 10', "targets[0]: A rule begins with 'allow' or 'deny', not 'permit'."),
            ('["allow 10', '["deny 10', "targets: no rule allows anything"),
            ("streams = 10", "streams = 0", "FILE: limits.streams: expected a whole number >= 1"),
        ):
            with self.subTest(new):
                self.assertIn(old, FILE)
                problem = self.problem(FILE.replace(old, new))
                self.assertTrue(problem.startswith(expected), problem)
                self.assertNotIn("\n", problem)
                self.assertNotIn("$", problem)

    def test_targets(self) -> None:
        """Private addresses and this machine have to be named to be reached."""
        policy = self.read(FILE.replace("allow 10.0.0.0/8:22", "allow *")).policy
        assert policy is not None
        self.assertIsNotNone(policy.checkName("10.0.0.5", 22))
        self.assertIsNone(policy.checkName("192.0.2.1", 22))

    def test_name(self) -> None:
        """The machine's name becomes one label."""
        for host, expected in (
            ("Box.lan", "box"),
            ("my_box 1", "my-box-1"),
            ("x" * 80, "x" * 63),
            ("---", "agent"),
            ("box-", "box"),
        ):
            self.patch(socket, "gethostname", lambda host=host: host)
            self.assertEqual(defaultName(), expected)
            self.assertTrue(re.fullmatch("[a-z0-9]([a-z0-9-]*[a-z0-9])?", defaultName()))


class CredentialTests(SynchronousTestCase):
    """
    L{readCredential} reads what proves the name, when it is needed.
    """

    def section(self, text: str) -> AgentConfig:
        """A configuration that says where it is."""
        path = self.mktemp()
        Path(path).write_text(f'[gateway]\nto = "tls://gw.example"\n{text}\n')
        return readConfiguration(path, AgentConfig, environ={})

    def test_files(self) -> None:
        """A file's text is the credential, and a changed one's is the next."""
        path = Path(self.mktemp()).absolute()
        path.write_text("first\n")
        section = self.section(f'secret-file = "{path}"').gateway
        self.assertEqual(readCredential(section, {"GATEWAY_SECRET": "x"}), SecretCredential(secret="first"))
        path.write_text("second")
        self.assertEqual(readCredential(section, {}), SecretCredential(secret="second"))
        section = self.section(f'jwt-file = "{path}"').gateway
        self.assertEqual(readCredential(section, {}), JwtCredential(jwt="second"))

    def test_environment(self) -> None:
        """Without a file a variable may hold it."""
        section = self.section("").gateway
        self.assertEqual(readCredential(section, {"GATEWAY_SECRET": "x"}), SecretCredential(secret="x"))
        self.assertEqual(readCredential(section, {"GATEWAY_JWT": "y"}), JwtCredential(jwt="y"))
        self.assertIsNone(readCredential(section, {}))

    def test_unusable(self) -> None:
        """A file that is not there, is empty, not text or far too long, is one line that names the key."""
        for content in (b"", b"\xff", b"x" * 9000):
            path = Path(self.mktemp()).absolute()
            path.write_bytes(content)
            section = self.section(f'secret-file = "{path}"').gateway
            error = self.assertRaises(ConfigurationError, readCredential, section, {})
            self.assertTrue(str(error).startswith(f"gateway.secret-file: {path}: "), error)
        section = self.section('jwt-file = "/no/such"').gateway
        error = self.assertRaises(ConfigurationError, readCredential, section, {})
        self.assertEqual(str(error), "gateway.jwt-file: /no/such: No such file or directory")
