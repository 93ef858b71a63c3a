"""Tests for L{gateway.service.relay.options}: what the command line may say, and where logs go."""

import io
import json
import sys

from twisted.logger import LogLevel
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.relay.options import RelayOptions, isStandardIO, quietJSONObserver, quietTextObserver

BOTH = ("--listen", "tcp:1", "--to", "tcp:2")


class OptionsTests(SynchronousTestCase):
    """Options to values."""

    def parse(self, *words: str) -> RelayOptions:
        """Read a command line."""
        options = RelayOptions()
        options.parseOptions(list(words))
        return options

    def test_values(self) -> None:
        """Each has its type; what is repeated is kept in order."""
        options = self.parse(*BOTH, "--listen", "unix:x", "--drain", "2.5", "--max-connections", "7")
        self.assertEqual((options.listen, options["to"]), (["tcp:1", "unix:x"], "tcp:2"))
        self.assertEqual((options["drain"], options["max-connections"]), (2.5, 7))
        self.assertFalse(options.isOnce)

    def test_defaults(self) -> None:
        """Everything has a limit by default."""
        options = self.parse(*BOTH)
        for name, value in (
            ("dial-timeout", 20),
            ("idle-timeout", 86400),
            ("max-connections", 1024),
            ("drain", 10),
            ("memory", 512),
        ):
            self.assertEqual(options[name], value)

    def test_wrong(self) -> None:
        """What is wrong is one line that names the option."""
        for words, problem in (
            ((), "--listen is required"),
            (("--listen", "tcp:1"), "--to is required"),
            ((*BOTH, "--drain", "x"), "--drain: 'x'"),
            ((*BOTH, "--dial-timeout", "0"), "--dial-timeout: '0'"),
            ((*BOTH, "--idle-timeout", "-1"), "--idle-timeout: '-1'"),
            ((*BOTH, "--max-connections", "0"), "--max-connections: '0'"),
            ((*BOTH, "--max-connections", "1.5"), "--max-connections: '1.5'"),
            ((*BOTH, "--memory", "0"), "--memory: '0'"),
            ((*BOTH, "--log-format", "xml"), "--log-format"),
            ((*BOTH, "--listen", "stdio:"), "--listen: with stdio:"),
            (("--listen", "stdio:", "--to", "stdio:"), "--listen: with stdio:"),
        ):
            with self.subTest(words):
                with self.assertRaises(usage.UsageError) as caught:
                    self.parse(*words)
                self.assertTrue(str(caught.exception).startswith(problem), caught.exception)
                self.assertNotIn("\n", str(caught.exception))

    def test_once(self) -> None:
        """With standard input and output at either end there is one connection."""
        self.assertTrue(self.parse("--listen", "stdio:", "--to", "tcp:2").isOnce)
        self.assertTrue(self.parse("--listen", "tcp:1", "--to", "stdio:").isOnce)

    def test_standardIO(self) -> None:
        """It is written with or without its colon."""
        for description, expected in (
            ("stdio:", True),
            ("stdio", True),
            ("STDIO:", True),
            ("stdio:x", False),
            ("", False),
        ):
            self.assertIs(isStandardIO(description), expected)


class Runner(usage.Options):
    """What twistd's own options are to ours."""

    optParameters = [["logger", None, None], ["logfile", None, None], ["syslog", None, None]]


class LogTests(SynchronousTestCase):
    """Where logs go."""

    def logger(self, *words: str, **runnerOptions: str) -> object:
        """The logger that twistd is told."""
        runner = Runner()
        runner.update(runnerOptions)
        options = RelayOptions()
        options.parent = runner
        options.parseOptions(list(words))
        return runner["logger"]

    def test_usual(self) -> None:
        """Between two ports they go where those of all services do."""
        self.assertEqual(self.logger(*BOTH), "gateway.service.logs.chooseObserver")

    def test_standardIO(self) -> None:
        """With standard output for payload only errors are said, as text unless JSON is asked for."""
        words = ("--listen", "stdio:", "--to", "tcp:2")
        module = "gateway.service.relay.options"
        self.assertEqual(self.logger(*words), f"{module}.quietTextObserver")
        self.assertEqual(self.logger(*words, "--log-format", "json"), f"{module}.quietJSONObserver")

    def test_twistdsOwn(self) -> None:
        """What twistd's own options say holds."""
        words = ("--listen", "stdio:", "--to", "tcp:2")
        self.assertIsNone(self.logger(*words, logfile="x.log"))
        self.assertEqual(self.logger(*words, logger="a.b"), "a.b")

    def test_quiet(self) -> None:
        """The quiet observers say errors, on standard error, and nothing else."""
        for make in (quietTextObserver, quietJSONObserver):
            errors = io.StringIO()
            self.patch(sys, "stderr", errors)
            observer = make()
            for level in (LogLevel.info, LogLevel.warn, LogLevel.error):
                observer({"log_level": level, "log_format": level.name, "log_time": 0.0, "log_namespace": "x"})
            (line,) = errors.getvalue().splitlines()
            self.assertIn("error", line)
        self.assertEqual(json.loads(line)["level"], "error")
