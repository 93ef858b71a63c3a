"""
Tests for the command line of the agent.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.targets import Target
from gateway.service.agent.options import AgentOptions
from gateway.service.agent.origins import Origin
from gateway.service.configuration import ConfigurationError
from gateway.wire.agentcontrol import Service
from tests.certificates import makeAuthority

TO = ("--to", "wss://gw.example/agent")


class OptionsTests(SynchronousTestCase):
    """
    L{AgentOptions}.
    """

    def setUp(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.patch(os, "environ", kept)

    def parse(self, *words: str) -> AgentOptions:
        """A command line."""
        options = AgentOptions()
        options.parseOptions(list(words))
        return options

    def problem(self, *words: str) -> str:
        """What is wrong with one."""
        return str(self.assertRaises(usage.UsageError, self.parse, *words))

    def test_services(self) -> None:
        """Services without a file: their keys come from their names and ports, or are given."""
        plan = self.parse(
            *TO, "--name", "box", "--http", "app.example.com,*.app.example.com=127.0.0.1:8080",
            "--tls", "shop:shop.example.com=unix:/run/shop.sock", "--tcp", "2222=127.0.0.1:22", "--tcp", "any:0=[::1]:80",
            "--udp", "5353=127.0.0.1:53", "--http", "/team/node,node.example.com=8081",
        ).readPlan()  # fmt: skip
        self.assertEqual(plan.register.agent, "box")
        self.assertEqual(
            plan.register.services,
            (
                Service(key="app-example-com", kind="http", hostnames=("app.example.com", "*.app.example.com")),
                Service(key="shop", kind="tls", hostnames=("shop.example.com",)),
                Service(key="tcp-2222", kind="tcp", port=2222),
                Service(key="any", kind="tcp"),
                Service(key="udp-5353", kind="udp", port=5353),
                Service(key="team-node", kind="http", hostnames=("node.example.com",), prefixes=("/team/node",)),
            ),
        )
        self.assertEqual(plan.origins["shop"], Origin("tls", "/run/shop.sock", "v2"))
        self.assertEqual(plan.origins["any"], Origin("tcp", Target("::1", 80)))

    def test_targets(self) -> None:
        """Targets are allowed by rules."""
        plan = self.parse(*TO, "--allow-target", "10.0.0.0/8:22").readPlan()
        self.assertTrue(plan.register.targets)

    def test_file(self) -> None:
        """Options win over the file, and variables too."""
        path = self.mktemp()
        Path(path).write_text('[gateway]\nto = "tls://gw.example"\nname = "one"\nreplica = "a"\n[limits]\ndrain = 5\n')
        os.environ["GATEWAY_GATEWAY_NAME"] = "two"
        plan = self.parse("--config", path, "--replica", "b", "--drain", "7").readPlan()
        self.assertEqual((plan.register.agent, plan.register.replica, plan.limits.drain), ("two", "b", 7.0))
        self.assertEqual(plan.link.to, "tls://gw.example")

    def test_environment(self) -> None:
        """Neither file nor options are needed."""
        os.environ["GATEWAY_GATEWAY_TO"] = "tls://gw.example"
        os.environ["GATEWAY_SERVICE"] = '[{"key": "ssh", "kind": "tcp", "port": 2222, "origin": "127.0.0.1:22"}]'
        self.assertEqual(self.parse().readPlan().register.services, (Service(key="ssh", kind="tcp", port=2222),))

    def test_proxy(self) -> None:
        """The proxy is the environment's, unless another one is named, or none."""
        os.environ["HTTPS_PROXY"] = "http://proxy.corp:3128"
        for words, expected in (((), "proxy.corp"), (("--proxy", "other:8080"), "other"), (("--proxy", ""), None)):
            proxy = self.parse(*TO, *words).readPlan().link.proxy
            self.assertEqual(None if proxy is None else proxy.host, expected)

    def test_problems(self) -> None:
        """What is wrong is one line that names the option."""
        for words, expected in (
            ((), "--config or --to is required, e.g. --to wss://gw.example.com/agent"),
            (("--to", "http://x"), "--to: a gateway is written wss://HOST/PATH or tls://HOST:PORT"),
            (("--to", "tcp://192.0.2.1:80"), "--to: tcp:// is not encrypted"),
            ((*TO, "--http", "app.example.com"), "--http: 'app.example.com' is not of the form PUBLIC=ORIGIN"),
            ((*TO, "--tcp", "ssh=127.0.0.1:22"), "--tcp: 'ssh' is not a port"),
            ((*TO, "--tcp", "70000=127.0.0.1:22"), "--tcp: '70000' is not a port"),
            ((*TO, "--tcp", "2222=127.0.0.1"), "--tcp: The target '127.0.0.1' lacks a port."),
            ((*TO, "--http", "x y=127.0.0.1:80"), "--http: x y is not a host name in lower case"),
            ((*TO, "--tls", "/node=127.0.0.1:80"), "--tls: Only a service of kind http has prefixes"),
            ((*TO, "--http", "/node/=127.0.0.1:80"), "--http: a prefix is as /node"),
            ((*TO, "--http", "/=127.0.0.1:80"), "--http: a prefix is as /node"),
            ((*TO, "--tcp", "A B:22=127.0.0.1:22"), "--tcp: "),
            ((*TO, "--tcp", "1=a:1", "--tcp", "tcp-1:2=a:2"), "--tcp: the key tcp-1 is there twice"),
            ((*TO, "--drain", "x"), "--drain: 'x' is not a number"),
            ((*TO, "--allow-target", "10.0.0.1/8"), "--allow-target: "),
            ((*TO, "--log-format", "xml"), "--log-format: choose auto, text or json"),
            (("--config", "x", "--tcp", "1=a:1"), "--config: then services and targets are in the file"),
        ):
            with self.subTest(words):
                problem = self.problem(*words)
                self.assertTrue(problem.startswith(expected), problem)
                self.assertNotIn("\n", problem)

    def test_configuration(self) -> None:
        """What only shows when all is put together is said when it is read, with the key."""
        for words, expected in (
            ((*TO, "--name", "My Box"), "gateway or service: "),
            ((*TO, "--pin", "x"), "gateway.pin: not a pin"),
            (("--config", "/no/such"), "/no/such: No such file or directory"),
        ):
            error = self.assertRaises(ConfigurationError, self.parse(*words).readPlan)
            self.assertTrue(str(error).startswith(expected), error)

    def test_namesFile(self) -> None:
        """What is wrong with a file is said with its name, whenever it is found out."""
        path = Path(self.mktemp()).absolute()
        for text, problem in (
            ('pin = "x"', "gateway.pin: not a pin"),
            ('[[service]]\nkey = "a"\nkind = "tcp"\norigin = "x y:1"', "service[0], 'a': "),
            ("", "gateway: nothing proves the agent's name"),
            ('secret-file = "secret"', f"gateway.secret-file: {path.parent}/secret: No such file or directory"),
        ):
            path.write_text(f'[gateway]\nto = "wss://gw.example/agent"\n{text}')
            error = self.assertRaises(ConfigurationError, self.parse("--config", str(path)).checkedPlan)
            self.assertTrue(str(error).startswith(f"{path}: {problem}"), error)

    def test_filesOfTrust(self) -> None:
        """A file by which agent and gateway know each other is looked at before the start, and named with its key."""
        (secret := Path(self.mktemp())).write_text("hush")
        (other := Path(self.mktemp())).write_text("no PEM")
        certificate, _ = makeAuthority("A").issue("a.example").write(self.mktemp())
        for words, problem in (
            (("--ca", "/no/ca.pem"), "gateway.ca: /no/ca.pem: No such file or directory"),
            (("--ca", str(other)), f"gateway.ca: {other}: not CA certificates"),
            (("--certificate", "/no/c.pem"), "gateway.certificate: /no/c.pem: No such file or directory"),
            (("--certificate", certificate, "--private-key", "/no/k.pem"), "gateway.key: /no/k.pem: No such file"),
        ):
            options = self.parse(*TO, "--secret-file", str(secret), *words)
            error = self.assertRaises(ConfigurationError, options.checkedPlan)
            self.assertTrue(str(error).startswith(problem), error)

    def test_help(self) -> None:
        """The help has every option, and none for a secret itself."""
        text = str(AgentOptions())
        for word in ("--http=", "--tls=", "--tcp=", "--udp=", "--secret-file=", "--allow-target="):
            self.assertIn(word, text)
        self.assertNotIn("--secret=", text)
