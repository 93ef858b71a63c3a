"""
Tests for the command lines of the edge agent, the access client and C{gateway ssh-config}: http-network-relay's own
ones work, and what is wrong is said in one line.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import sysconfig
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.accessclientendpoint import AccessTarget
from gateway.service.networkrelay.accessclientoptions import AccessClientOptions
from gateway.service.networkrelay.edgeagentoptions import EdgeAgentOptions
from gateway.service.networkrelay.relayclientoptions import RelayClientOptions
from gateway.service.networkrelay.sshconfig import SshConfigOptions

URL = "wss://relay.example.com/x"
SSH = ("box", "10.0.0.1", "22", "tcp")


class OptionsTestCase(SynchronousTestCase):
    """An environment of the test's."""

    def setUp(self) -> None:
        self.environ = {"PATH": "/bin"}
        self.patch(os, "environ", self.environ)

    def assertWrong(self, options: type[RelayClientOptions], *cases: tuple[tuple[str, ...], str]) -> None:
        """Each of these command lines is refused in one line that begins like that."""
        for words, problem in cases:
            error = self.assertRaises(usage.UsageError, options().parseOptions, list(words))
            self.assertTrue(str(error).startswith(problem), (words, str(error)))
            self.assertNotIn("\n", str(error))

    def assertSecret(self, expected: str, options: RelayClientOptions) -> None:
        """That is the secret."""
        self.assertEqual(options.readSecret(), expected)


class EdgeAgentOptionsTests(OptionsTestCase):
    """C{edge-agent}."""

    def parse(self, *words: str) -> EdgeAgentOptions:
        """Read a command line."""
        options = EdgeAgentOptions()
        options.parseOptions(list(words))
        return options

    def test_original(self) -> None:
        """The original's options work as they do there."""
        options = self.parse("--relay-url", URL, "--name=box", "--secret", "s")
        self.assertEqual((options["relay-url"], options["name"]), (URL, "box"))
        self.assertEqual((options.link.host, options.link.port), ("relay.example.com", 443))
        self.assertSecret("s", options)

    def test_environment(self) -> None:
        """So do its variables, which options win over."""
        self.environ |= {
            "HTTP_NETWORK_RELAY_URL": "ws://10.0.0.9:8000/y",
            "HTTP_NETWORK_RELAY_NAME": "other",
            "HTTP_NETWORK_RELAY_SECRET": "t",
        }
        options = self.parse()
        self.assertEqual((options["relay-url"], options["name"]), ("ws://10.0.0.9:8000/y", "other"))
        self.assertSecret("t", options)
        self.assertEqual(self.parse("--relay-url", URL)["relay-url"], URL)
        self.assertSecret("s", self.parse("--secret", "s"))

    def test_defaults(self) -> None:
        """Without any the relay is the original's on this machine, and the name is the machine's."""
        options = self.parse()
        self.assertEqual(options["relay-url"], "ws://127.0.0.1:8000/ws_for_edge_agents")
        self.assertEqual(options["name"], socket.gethostname())
        self.assertEqual((options.rules, options["drain"]), ([], 10.0))
        self.assertRaises(ConfigurationError, options.readSecret)

    def test_secretFile(self) -> None:
        """A secret may be in a file, which is read each time."""
        path = Path(self.mktemp())
        options = self.parse("--secret-file", str(path))
        self.assertIn(str(path), str(self.assertRaises(ConfigurationError, options.readSecret)))
        for content, expected in ((b"one\n", "one"), (b"two", "two")):
            path.write_bytes(content)
            self.assertSecret(expected, options)
        for content in (b"", b"\n", b"\xff", b"x" * 8193):
            path.write_bytes(content)
            self.assertRaises(ConfigurationError, options.readSecret)

    def test_rules(self) -> None:
        """What may be reached may be told, several times."""
        options = self.parse("--allow", "10.0.0.0/8:22", "--allow", "nas.lan")
        self.assertEqual(list(map(str, options.rules)), ["allow 10.0.0.0/8:22", "allow nas.lan"])

    def test_wrong(self) -> None:
        """What is wrong is one line that names the option."""
        self.assertWrong(
            EdgeAgentOptions,
            (("--relay-url", "https://x"), "--relay-url: "),
            (("--relay-url", "ws://x", "--pin", "sha256//x"), "--ca and --pin"),
            (("--relay-url", URL, "--pin", "x"), "--pin: "),
            (("--relay-url", URL, "--ca", "/no/ca.pem"), "--ca: /no/ca.pem: No such file"),
            (("--secret", "s", "--secret-file", "f"), "--secret and --secret-file"),
            (("--allow", "10.0.0.1/8"), "--allow: "),
            (("--drain", "x"), "--drain: 'x'"),
            (("--name", ""), "--name: "),
            (("--name", "x" * 256), "--name: "),
            (("--name", os.fsdecode(b"\xff")), "--name: "),
            (("--log-format", "xml"), "--log-format"),
            (("box",), "Wrong number"),
        )


class AccessClientOptionsTests(OptionsTestCase):
    """C{access-client}."""

    def parse(self, *words: str) -> AccessClientOptions:
        """Read a command line, with a secret."""
        options = AccessClientOptions()
        options.parseOptions([*words, "--secret", "s"])
        return options

    def test_original(self) -> None:
        """The original's words and options work as they do there, in any order."""
        for words in (
            (*SSH, "--relay-url", URL),
            ("--relay-url", URL, *SSH),
            (*SSH[:2], f"--relay-url={URL}", *SSH[2:]),
            (*SSH, "--relay", URL),
        ):
            options = self.parse(*words)
            self.assertEqual(options.target, AccessTarget("box", "10.0.0.1", 22, "tcp"))
            self.assertEqual(options["relay-url"], URL)
            self.assertSecret("s", options)
            self.assertIsNone(options.listen)

    def test_default(self) -> None:
        """Without a URL the relay is the original's on this machine."""
        self.assertEqual(self.parse(*SSH)["relay-url"], "ws://127.0.0.1:8000/ws_for_access_clients")

    def test_listen(self) -> None:
        """It may listen at an address of this machine; a port alone is on loopback."""
        for text, shown in (("127.0.0.1:5353", "127.0.0.1:5353"), ("5353", "127.0.0.1:5353"), ("[::1]:1", "[::1]:1")):
            self.assertEqual(str(self.parse(*SSH, "--listen", text).listen), shown)

    def test_wrong(self) -> None:
        """What is wrong is one line that says how it is written."""
        secret = ("--secret", "s")
        self.assertWrong(
            AccessClientOptions,
            (secret, "write AGENT HOST PORT tcp"),
            ((*SSH, "more", *secret), "write AGENT HOST PORT tcp"),
            ((*SSH[:3], "sctp", *secret), "the protocol is tcp or udp"),
            ((os.fsdecode(b"\xff"), *SSH[1:], *secret), "the name of the agent is not UTF-8"),
            (("box", "10.0.0.1", "70000", "tcp", *secret), "A port"),
            (("box", "no host", "22", "tcp", *secret), "The "),
            ((*SSH, "--nonsense", *secret), "option --nonsense"),
            ((*SSH, "--listen", "example.com:53", *secret), "--listen: write an address"),
            ((*SSH, "--listen", "127.0.0.1", *secret), "--listen: "),
            ((*SSH, "--relay-url", "x", *secret), "--relay-url: "),
        )

    def test_noSecret(self) -> None:
        """Without a secret nothing is begun."""
        options = AccessClientOptions()
        options.parseOptions(SSH)
        error = self.assertRaises(usage.UsageError, options.run)
        self.assertEqual(str(error), "--secret-file, --secret or HTTP_NETWORK_RELAY_SECRET is required")
        options.parseOptions([*SSH, "--secret", os.fsdecode(b"\xff")])
        self.assertEqual(str(self.assertRaises(usage.UsageError, options.run)), "the secret is not UTF-8")


class SshConfigTests(OptionsTestCase):
    """C{gateway ssh-config}."""

    def printed(self, *words: str) -> str:
        """What is printed for a command line."""
        options = SshConfigOptions()
        options.parseOptions(list(words))
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        self.assertEqual(options.run(), 0)
        return output.getvalue()

    def test_block(self) -> None:
        """A block has all that ssh needs, and no secret."""
        self.environ["HTTP_NETWORK_RELAY_SECRET"] = "s3cret"
        text = self.printed(
            "box", "--relay-url", URL, "--user", "me", "--secret-file", "/etc/my secret", "--host", "b",
            "--access-client", "access-client",
        )  # fmt: skip
        self.assertEqual(
            text,
            "Host b\n"
            f"    ProxyCommand access-client --relay-url {URL} --secret-file '/etc/my secret' box 127.0.0.1 22 tcp\n"
            "    HostKeyAlias b\n"
            "    User me\n",
        )

    def test_escaped(self) -> None:
        """What ssh would replace is written so that it does not, and names of agents may be any text."""
        text = self.printed("My Box", "--host", "b", "--relay-url", "wss://r/a%20b", "--target", "[::1]:2222")
        self.assertIn("wss://r/a%%20b 'My Box' ::1 2222 tcp\n", text)

    def test_ours(self) -> None:
        """What is run by itself is the program that came with this one, also where the shell would not find it."""
        scripts = Path(self.mktemp()).absolute()
        self.patch(sysconfig, "get_path", {"scripts": str(scripts)}.__getitem__)
        self.assertIn("ProxyCommand access-client --relay-url ", self.printed("box"))
        scripts.mkdir()
        (scripts / "access-client").touch()
        self.assertIn(f"ProxyCommand {scripts}/access-client --relay-url ", self.printed("box"))

    def test_program(self) -> None:
        """What is run may be several words."""
        text = self.printed("box", "--access-client", "'/opt/my programs/gateway' access-client")
        self.assertIn("ProxyCommand '/opt/my programs/gateway' access-client --relay-url ", text)

    def test_wrong(self) -> None:
        """What is wrong is one line that names the option."""
        self.assertWrong(
            SshConfigOptions,
            ((), "say which AGENT"),
            (("box", "10.0.0.1"), "say which AGENT"),
            (("My Box",), "--host: 'My Box'"),
            (("box\nProxyCommand evil", "--host", "box"), "agent: it holds"),
            (("box", "--user", "me\nProxyCommand evil"), "user: it holds"),
            (("box", "--secret-file", "a\nb"), "secret-file: it holds"),
            (("box", "--secret", "s"), "--secret: "),
            (("box", "--target", ":x"), "--target: "),
            (("box", "--access-client", "'"), "--access-client: "),
        )
