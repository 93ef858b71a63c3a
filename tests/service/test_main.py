"""Tests for L{gateway.service.main} and L{gateway.service.tabby_tap}: the command and the twistd plugin."""

import gc
import io
import sys
from pathlib import Path

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from gateway import __version__
from gateway.service.foreground import ForegroundRunner, StopSignals
from gateway.service.main import COMMANDS, GROUPS, main
from gateway.service.tabby_tap import Options, makeService


class MainTests(SynchronousTestCase):
    """C{gateway}."""

    def setUp(self) -> None:
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)
        self.patch(sys, "argv", ["gateway"])

    def status(self, *words: str) -> int:
        """The exit status."""
        try:
            return main(words)
        except SystemExit as e:  # of --help and --version, by way of twisted.python.usage
            return e.code if isinstance(e.code, int) else 0

    def test_help(self) -> None:
        """Help goes to standard output, names every command, and is status 0."""
        for word in ("--help", "-h", "help"):
            self.assertEqual(self.status(word), 0)
        for name in COMMANDS:
            self.assertIn(f"  {name} ", self.output.getvalue())
        self.assertEqual(self.errors.getvalue(), "")

    def test_version(self) -> None:
        """The version goes to standard output and is status 0, of the command and of its services."""
        for words in (("--version",), ("-V",), ("version",), ("tabby", "--version")):
            self.assertEqual(self.status(*words), 0)
        self.assertEqual(self.output.getvalue(), f"txgateway {__version__}\n" * 4)

    def test_nothing(self) -> None:
        """Without a command the usage goes to standard error and is status 2."""
        self.assertEqual(self.status(), 2)
        self.assertTrue(self.errors.getvalue().startswith("Usage: gateway COMMAND"))
        self.assertEqual(self.output.getvalue(), "")

    def test_unknownCommand(self) -> None:
        """An unknown command is named, on standard error, with status 2."""
        self.assertEqual(self.status("tabbby"), 2)
        self.assertEqual(
            self.errors.getvalue(),
            "gateway: error: unknown command 'tabbby'; did you mean tabby?\nTry: gateway --help\n",
        )

    def test_unlikeAnyCommand(self) -> None:
        """What is like none of the commands is only named."""
        self.assertEqual(self.status("zzz"), 2)
        self.assertEqual(self.errors.getvalue(), "gateway: error: unknown command 'zzz'\nTry: gateway --help\n")

    def test_groups(self) -> None:
        """Each command is in one group of the usage."""
        self.assertEqual(sorted(name for names in GROUPS.values() for name in names), sorted(COMMANDS))

    def test_wrongOptions(self) -> None:
        """What is wrong with options is one line on standard error, and where to find help; status 2."""
        for words, problem in (
            (("tabby",), "--no-auth"),
            (("tabby", "--no-auth", "--port", "x"), "--port: 'x'"),
            (("tabby", "--nonsense"), "nonsense"),
            (("serve",), "--config is required"),
            (("tabby-token",), "new, list or revoke"),
            (("tabby-token", "new"), "the name of one token"),
        ):
            self.errors.truncate(self.errors.seek(0))
            self.assertEqual(self.status(*words), 2)
            first, second = self.errors.getvalue().splitlines()
            self.assertTrue(first.startswith(f"gateway {words[0]}: error: ") and problem in first, first)
            self.assertEqual(second, f"Try: gateway {words[0]} --help")

    def test_unusableFile(self) -> None:
        """A file that cannot be used is one line on standard error and status 2."""
        path = Path(self.mktemp())
        path.write_text("broken")
        self.assertEqual(self.status("tabby-token", "list", "--file", str(path)), 2)
        self.assertEqual(len(self.errors.getvalue().splitlines()), 1)
        self.assertIn(str(path), self.errors.getvalue())

    def test_tokens(self) -> None:
        """gateway tabby-token makes, lists and revokes, with status 0."""
        file = ("--file", self.mktemp())
        for words in (("new", "alice"), ("list",), ("revoke", "alice")):
            self.assertEqual(self.status("tabby-token", *words, *file), 0)
        self.assertRegex(self.output.getvalue(), r"\A[0-9a-f]{64}\nalice\texpires never\n\Z")

    def test_runsTwistd(self) -> None:
        """gateway tabby is twistd -n tabby-gateway with the same options and without a pid file."""
        ran = []
        self.patch(ForegroundRunner, "run", lambda runner: ran.append(sys.argv[1:]))
        self.assertEqual(self.status("tabby", "--no-auth", "--port", "0"), 0)
        self.assertEqual(ran, [["--nodaemon", "--pidfile=", "tabby-gateway", "--no-auth", "--port", "0"]])

    def test_exitStatus(self) -> None:
        """A service whose options have an exit status by the end gives it to the command."""
        self.patch(ForegroundRunner, "run", lambda runner: setattr(runner.config.subOptions, "exitStatus", 1))
        self.assertEqual(self.status("relay", "--listen", "tcp:1", "--to", "tcp:2"), 1)

    def test_garbage(self) -> None:
        """Garbage is not looked for while a service is imported and made, and is again when the command is over."""
        looked = []
        self.patch(ForegroundRunner, "run", lambda runner: looked.append(gc.isenabled()))
        self.assertEqual(self.status("tabby", "--no-auth", "--port", "0"), 0)
        self.assertEqual((looked, gc.isenabled()), ([False], True))

    def test_garbageOfServices(self) -> None:
        """Once a service is made, garbage is looked for again."""
        for name in ("freeze", "collect"):
            self.patch(gc, name, lambda: None)
        self.patch(StopSignals, "__init__", lambda signals, stop: sys.exit(int(gc.isenabled())))
        self.assertEqual(self.status("tabby", "--no-auth", "--port", "0"), 1)

    def test_wordsOfThePersonOnly(self) -> None:
        """The process's own words are used when none are given."""
        self.patch(sys, "argv", ["gateway", "--version"])
        self.assertEqual(main(), 0)


class PluginTests(SynchronousTestCase):
    """C{twistd tabby-gateway}."""

    def test_plugin(self) -> None:
        """twistd finds the service by its name, and makes it from its options."""
        (maker,) = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "tabby-gateway"]
        options = maker.options()
        options.parseOptions(["--no-auth"])
        self.assertTrue(IService.providedBy(maker.makeService(options)))
        self.assertIn("Tabby", maker.description)

    def test_unusableFile(self) -> None:
        """A file that cannot be used is one line on standard error and exit status 2, at which systemd gives up."""
        options = Options()
        options.parseOptions(["--tokens", "/nonexistent/tokens.toml"])
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        with self.assertRaises(SystemExit) as caught:
            makeService(options)
        self.assertEqual(caught.exception.code, 2)
        self.assertRegex(errors.getvalue(), r"\Atabby-gateway: error: --tokens: [^\n]*\n\Z")
