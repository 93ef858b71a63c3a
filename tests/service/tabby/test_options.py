"""Tests for L{gateway.service.tabby.options} and L{gateway.service.options}: the command line."""

import io
import os
import sys
from ipaddress import ip_network

from twisted.application.twist._options import TwistOptions
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.tabby.options import TabbyOptions

TOKEN = "ZQXJVKZWQXJZKVJQWZXKJVQZ"
ADMIN = ("--admin-port", "9001", "--admin-ca", "ca", "--admin-certificate", "c", "--admin-private-key", "k")


class OptionsTestCase(SynchronousTestCase):
    """With helpers to read a command line."""

    def setUp(self) -> None:
        self.patch(os, "environ", {"TABBY_AUTH_TOKEN": TOKEN})

    def parse(self, *words: str) -> TabbyOptions:
        """Read a command line."""
        options = TabbyOptions()
        options.parseOptions(list(words))
        return options

    def assertWrong(self, *words: str) -> str:
        """The command line is refused in one line; return that."""
        with self.assertRaises(usage.UsageError) as caught:
            self.parse(*words)
        problem = str(caught.exception)
        self.assertNotIn("\n", problem)
        self.assertNotIn(TOKEN[:6], problem)
        return problem


class OriginalsOptionsTests(OptionsTestCase):
    """What tabby-connection-gateway takes, we take, and it means the same."""

    def test_defaults(self) -> None:
        """The original's options have the original's defaults."""
        options = self.parse("--no-auth")
        for name, value in (
            ("host", "127.0.0.1"),
            ("port", 9000),
            ("certificate", None),
            ("private-key", None),
            ("ca", None),
            ("admin-host", "127.0.0.1"),
            ("admin-port", None),
            ("admin-certificate", None),
            ("admin-private-key", None),
            ("admin-ca", None),
        ):
            self.assertEqual(options[name], value, name)
        self.assertFalse(options["token-auth"])

    def test_all(self) -> None:
        """Each of them is accepted, all together where they do not exclude one another."""
        options = self.parse(
            *("--host", "::", "--port", "0", "--certificate", "cert", "--private-key", "key", "--ca", "clients"),
            *("--token-auth", "--admin-host", "10.0.0.1", *ADMIN),
        )
        self.assertEqual((options["host"], options["port"], options["ca"]), ("::", 0, "clients"))
        self.assertEqual((options["admin-host"], options["admin-port"]), ("10.0.0.1", 9001))
        self.assertEqual(options.environmentToken, TOKEN)

    def test_certificateNeedsKey(self) -> None:
        """--certificate needs --private-key, and the reverse."""
        self.assertEqual(
            self.assertWrong("--no-auth", "--certificate", "x"), "--private-key is required if --certificate is set"
        )
        self.assertEqual(
            self.assertWrong("--no-auth", "--private-key", "x"), "--certificate is required if --private-key is set"
        )

    def test_CANeedsCertificate(self) -> None:
        """--ca means nothing without a certificate of our own, so it is refused rather than ignored."""
        self.assertIn("--ca", self.assertWrong("--no-auth", "--ca", "x"))

    def test_oneCertificateAPort(self) -> None:
        """--certificate and an endpoint that does TLS by itself are refused together: one TLS would be in the other."""
        problem = self.assertWrong("--no-auth", "--certificate", "x", "--private-key", "x", "--listen", "ssl:443")
        self.assertIn("--certificate", problem)
        self.assertIn("--listen ssl:", problem)
        self.parse("--no-auth", "--certificate", "x", "--private-key", "x", "--listen", "tcp:443")

    def test_tokenAuthNeedsToken(self) -> None:
        """--token-auth needs TABBY_AUTH_TOKEN, and not an empty one."""
        environments: tuple[dict[str, str], ...] = ({}, {"TABBY_AUTH_TOKEN": ""})
        for environment in environments:
            self.patch(os, "environ", environment)
            self.assertIn("TABBY_AUTH_TOKEN", self.assertWrong("--token-auth"))

    def test_tooLongToken(self) -> None:
        """A token of the environment that could never match is refused at the start."""
        self.patch(os, "environ", {"TABBY_AUTH_TOKEN": TOKEN * 30})
        self.assertIn("TABBY_AUTH_TOKEN", self.assertWrong("--token-auth"))

    def test_environmentTokenOnlyWithTokenAuth(self) -> None:
        """The environment's token is not honoured unless --token-auth asks for it."""
        for words in (("--no-auth",), ADMIN, ("--tokens", "x")):
            self.assertIsNone(self.parse(*words).environmentToken)

    def test_oneWayInIsRequired(self) -> None:
        """One of --no-auth, --token-auth and --admin-port is required; --tokens and --state do as well."""
        problem = self.assertWrong()
        for option in ("--no-auth", "--token-auth", "--admin-port", "--tokens"):
            self.assertIn(option, problem)
        for words in (("--no-auth",), ("--token-auth",), ADMIN, ("--tokens", "x"), ("--state", "x")):
            self.parse(*words)

    def test_adminPortNeedsFiles(self) -> None:
        """--admin-port needs all three of its files."""
        for missing in (2, 4, 6):
            problem = self.assertWrong("--no-auth", *ADMIN[:missing], *ADMIN[missing + 2 :])
            self.assertIn(ADMIN[missing], problem)

    def test_contradiction(self) -> None:
        """Ways in of which one would make the other pointless are refused together."""
        for words in (("--no-auth", "--token-auth"), ("--state", "x", "--token-auth"), ("--state", "x", "--no-auth")):
            problem = self.assertWrong(*words)
            for word in words:
                if word.startswith("--"):
                    self.assertIn(word, problem)


class OurOptionsTests(OptionsTestCase):
    """What we add."""

    def test_numbers(self) -> None:
        """A number that is none, or out of bounds, is refused by the name of its option."""
        for name, values in (
            ("port", ("x", "-1", "65536", "1.5", "")),
            ("admin-port", ("x", "65536")),
            ("drain", ("x", "-1", "nan", "inf")),
            ("connect-timeout", ("0", "x")),
            ("handshake-timeout", ("0", "x")),
            ("idle-timeout", ("-1", "x")),
            ("ping-interval", ("-1", "x")),
            ("one-shot-ttl", ("0", "x")),
            ("one-shot-limit", ("0", "1.5")),
            ("max-unauthenticated", ("-1", "x")),
            ("max-unauthenticated-per-address", ("-1", "x")),
            ("max-per-address", ("-1", "x")),
            ("new-per-second", ("-1", "x")),
            ("new-per-second-per-address", ("-1", "x")),
            ("ban-after", ("-1", "1.5")),
            ("ban-seconds", ("0", "x")),
            ("stall-memory", ("0", "x")),
        ):
            for value in values:
                problem = self.assertWrong("--no-auth", f"--{name}={value}")
                self.assertTrue(problem.startswith(f"--{name}: "), problem)

    def test_numbersHaveTypes(self) -> None:
        """Values have their types afterwards; fractions of seconds are allowed."""
        options = self.parse("--no-auth", "--drain", "0.5", "--ban-after", "3")
        self.assertEqual((options["drain"], options["ban-after"], options["idle-timeout"]), (0.5, 3, 86400.0))

    def test_rulesInOrder(self) -> None:
        """--allow and --deny keep the order in which they were given, mixed."""
        options = self.parse("--no-auth", "--deny", "10.0.0.1", "--allow", "10.0.0.0/8:22", "--deny", "*")
        self.assertEqual([str(rule) for rule in options.rules], ["deny 10.0.0.1", "allow 10.0.0.0/8:22", "deny *"])

    def test_badRules(self) -> None:
        """A rule that cannot be read is refused by its option."""
        self.assertTrue(self.assertWrong("--no-auth", "--allow", "10.0.0.1/8").startswith("--allow: "))
        self.assertTrue(self.assertWrong("--no-auth", "--deny", "x:y").startswith("--deny: "))

    def test_repeated(self) -> None:
        """What may be repeated is collected, in order where that matters."""
        options = self.parse(
            *("--no-auth", "--listen", "tcp:1", "--listen", "unix:/x", "--trusted-proxy", "10.0.0.1"),
            *(
                "--trusted-proxy",
                "fd00::/8",
                "--origin",
                "https://A.test/",
                "--origin",
                "*",
                "--allowed-host",
                "GW.test",
            ),
        )
        self.assertEqual(options.listen, ["tcp:1", "unix:/x"])
        self.assertEqual(options.trustedProxies, [ip_network("10.0.0.1"), ip_network("fd00::/8")])
        self.assertEqual(options.origins, {"https://a.test", "*"})
        self.assertEqual(options.hosts, {"gw.test"})

    def test_badOrigins(self) -> None:
        """What is no web origin is refused by its option."""
        for origin in ("app.test", "https://", "https://app.test/path", "https://app.test?x", "http://[x", ""):
            self.assertTrue(self.assertWrong("--no-auth", "--origin", origin).startswith("--origin: "), origin)

    def test_badProxies(self) -> None:
        """What is no address or network is refused by its option."""
        for network in ("proxy.test", "10.0.0.1/8", ""):
            self.assertTrue(self.assertWrong("--no-auth", "--trusted-proxy", network).startswith("--trusted-proxy: "))

    def test_badPublicURLs(self) -> None:
        """A public URL that Tabby Web could not use is refused by its option."""
        self.assertEqual(self.parse("--no-auth", "--public-url", "wss://gw.test/a")["public-url"], "wss://gw.test/a")
        for url in ("gw.test", "https://gw.test", "wss://", "wss://[x"):
            self.assertTrue(self.assertWrong("--no-auth", "--public-url", url).startswith("--public-url: "), url)

    def test_unknownOption(self) -> None:
        """An option that does not exist is refused by its name."""
        self.assertIn("--nonsense", self.assertWrong("--no-auth", "--nonsense").replace("option ", ""))

    def test_unknownArgument(self) -> None:
        """Words that belong to no option are refused."""
        self.assertWrong("--no-auth", "nonsense")


class LoggingTests(OptionsTestCase):
    """Where logs go."""

    def chosen(self, runner: usage.Options, *words: str) -> object:
        """What the runner of the service was told."""
        options = TabbyOptions()
        options.parent = runner
        options.parseOptions(["--no-auth", *words])
        return runner.get("logger")

    def test_formats(self) -> None:
        """twistd is told the observer of the format, for which the default looks at the terminal."""
        for form, name in (("auto", "chooseObserver"), ("json", "jsonObserver"), ("text", "textObserver")):
            self.assertEqual(self.chosen(ServerOptions(), "--log-format", form), f"gateway.service.logs.{name}")

    def test_twistdsOwnOptionsWin(self) -> None:
        """Who told twistd where to log gets that."""
        runner = ServerOptions()
        runner["logfile"] = "/var/log/x"
        self.assertIsNone(self.chosen(runner))

    def test_unknownFormat(self) -> None:
        """A format that there is not is refused by its option."""
        self.assertTrue(self.assertWrong("--no-auth", "--log-format", "xml").startswith("--log-format: "))

    def test_twist(self) -> None:
        """Under twist, which has no such option, nothing is in the way."""
        self.chosen(TwistOptions(), "--log-format", "json")


class HelpTests(OptionsTestCase):
    """What people read."""

    def test_everyOptionIsExplained(self) -> None:
        """The help names every option with a text, and breaks no word of the source's line breaks in."""
        text = TabbyOptions().getUsage(80)
        for name in ("--allow", "--deny", "--listen", "--origin", "--allowed-host", "--trusted-proxy", "--log-format"):
            self.assertIn(name, text)
        self.assertNotIn("           \n", text)

    def test_version(self) -> None:
        """--version prints ours, and exits with 0."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        with self.assertRaises(SystemExit) as caught:
            self.parse("--version")
        self.assertEqual(caught.exception.code, 0)
        self.assertRegex(output.getvalue(), r"\Atxgateway \d")
