"""
Tests for reading configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.configuration import (
    ConfigurationError,
    FilePath,
    Section,
    environmentNames,
    readConfiguration,
)


class Agent(Section, frozen=True):
    """An entry of a list."""

    name: str
    secretHash: str | None = None
    key: FilePath | None = None


class Limits(Section, frozen=True):
    """A table."""

    idleTimeout: Annotated[float, Meta(ge=0)] = 0.0
    streams: int | None = 3
    names: tuple[str, ...] = ()
    proxy: Annotated[Literal["v1", "v2"], Meta(description="a version")] = "v2"
    isOpen: bool = False


class Whole(Section, frozen=True):
    """The configuration."""

    limits: Limits = Limits()
    agent: tuple[Agent, ...] = ()
    log: FilePath = ""


class ConfigurationTests(SynchronousTestCase):
    """
    L{readConfiguration} gives a typed value, or one line about what is wrong.
    """

    def read(self, text: str, environ: Mapping[str, str] = {}) -> Whole:
        """A file with this text is read."""
        self.path = self.mktemp()
        Path(self.path).write_text(text)
        return readConfiguration(self.path, Whole, environ=environ)

    def problem(self, text: str, environ: Mapping[str, str] = {}) -> str:
        """What is said of it."""
        error = self.assertRaises(ConfigurationError, self.read, text, environ)
        return str(error).replace(self.path, "FILE")

    def test_values(self) -> None:
        """Keys are written with hyphens; what is not there has its default."""
        config = self.read('[limits]\nidle-timeout = 3\n[[agent]]\nname = "a"\n')
        self.assertEqual(config, Whole(limits=Limits(idleTimeout=3.0), agent=(Agent(name="a"),)))

    def test_noFile(self) -> None:
        """Without a file there is the environment, and the defaults."""
        config = readConfiguration(None, Whole, environ={"GATEWAY_LIMITS_STREAMS": "7"})
        self.assertEqual(config, Whole(limits=Limits(streams=7)))

    def test_paths(self) -> None:
        """A path in the file is relative to the file, and not to where the program was started."""
        config = self.read('log = "access.log"\n[[agent]]\nname = "a"\nkey = "keys/a.pem"\n[[agent]]\nname = "b"')
        directory = Path(self.path).parent
        self.assertEqual(config.log, str(directory / "access.log"))
        self.assertEqual([each.key for each in config.agent], [str(directory / "keys/a.pem"), None])
        self.assertEqual(self.read('log = "/var/log/access.log"').log, "/var/log/access.log")

    def test_noPaths(self) -> None:
        """No path, and a standard stream, are no names of files."""
        for text in ("", "-"):
            self.assertEqual(self.read(f'log = "{text}"').log, text)

    def test_pathInVariable(self) -> None:
        """A path from the environment is relative to where the program was started; a number may be one."""
        self.assertEqual(self.read("", {"GATEWAY_LOG": "access.log"}).log, "access.log")
        self.assertEqual(self.read("", {"GATEWAY_LOG": "1"}).log, "1")

    def test_badPath(self) -> None:
        """What is no path is told of as anything else."""
        self.assertEqual(self.problem("log = 3"), "FILE: log: expected a text, not a whole number")
        self.assertEqual(self.problem("agent = 3"), "FILE: agent: expected a list, not a whole number")
        self.assertEqual(self.problem("agent = [3]"), "FILE: agent[0]: expected a table, not a whole number")

    def test_problems(self) -> None:
        """Whatever is wrong is one line with the file, the key and what was expected."""
        for text, expected in (
            ("[limits]\nidle-timeou = 3", "FILE: limits.idle-timeou: there is no such key; did you mean idle-timeout?"),
            ("[limit]", "FILE: limit: there is no such key; did you mean limits?"),
            ("zzz = 1", "FILE: zzz: there is no such key"),
            ("[limits]\nidle-timeout = -1", "FILE: limits.idle-timeout: expected a number >= 0.0"),
            ('[limits]\nidle-timeout = "3"', "FILE: limits.idle-timeout: expected a number, not a text"),
            ("[limits]\nstreams = true", "FILE: limits.streams: expected a whole number or nothing, not true or false"),
            ("limits = 3", "FILE: limits: expected a table, not a whole number"),
            ("[[agent]]\nname = 3", "FILE: agent[0].name: expected a text, not a whole number"),
            ("[[agent]]\nnam = 3", "FILE: agent[0].nam: there is no such key; did you mean name?"),
            ("[[agent]]", "FILE: agent[0].name: this key is missing"),
            ('[limits]\nproxy = "v3"', "FILE: limits.proxy: expected v1 or v2, not v3"),
            ("[limits", "FILE: Expected ']' at the end of a table declaration (at end of document)"),
        ):
            self.assertEqual(self.problem(text), expected)

    def test_unreadableFiles(self) -> None:
        """A file that is not there, not text, or far too long, is one line."""
        for content, expected in ((b"\xff", "not UTF-8"), (b"#" * (1024 * 1024 + 1), "longer than 1048576 bytes")):
            path = self.mktemp()
            Path(path).write_bytes(content)
            error = self.assertRaises(ConfigurationError, readConfiguration, path, Whole, environ={})
            self.assertEqual(str(error), f"{path}: {expected}")
        error = self.assertRaises(ConfigurationError, readConfiguration, "no/such", Whole, environ={})
        self.assertEqual(str(error), "no/such: No such file or directory")

    def test_environmentWins(self) -> None:
        """A variable overrides the file; lists have commas, and tables are JSON."""
        config = self.read(
            "[limits]\nstreams = 1\nidle-timeout = 1",
            {
                "GATEWAY_LIMITS_IDLE_TIMEOUT": "4.5",
                "GATEWAY_LIMITS_NAMES": "a, b",
                "GATEWAY_LIMITS_IS_OPEN": "true",
                "GATEWAY_LIMITS_PROXY": "v1",
                "GATEWAY_AGENT": '[{"name": "x", "secret-hash": "y"}]',
                "GATEWAY_SERVICE_HOST": "made up by an orchestrator",
            },
        )
        limits = Limits(streams=1, idleTimeout=4.5, names=("a", "b"), isOpen=True, proxy="v1")
        self.assertEqual(config, Whole(limits=limits, agent=(Agent(name="x", secretHash="y"),)))

    def test_textStaysText(self) -> None:
        """A variable for a text is not read as a number."""

        class Texts(Section, frozen=True):
            name: str = ""
            other: str | None = None

        config = readConfiguration(None, Texts, environ={"GATEWAY_NAME": "12", "GATEWAY_OTHER": "true"})
        self.assertEqual(config, Texts(name="12", other="true"))

    def test_problemsOfTheEnvironment(self) -> None:
        """What is wrong with a variable is said of the variable."""
        for name, text, expected in (
            ("STREAMS", "x", "GATEWAY_LIMITS_STREAMS: limits.streams: expected a whole number or nothing, not a text"),
            ("IDLE_TIMEOUT", "-1", "GATEWAY_LIMITS_IDLE_TIMEOUT: limits.idle-timeout: expected a number >= 0.0"),
        ):
            self.assertEqual(self.problem("", {f"GATEWAY_LIMITS_{name}": text}), expected)
        self.assertEqual(self.problem("", {"GATEWAY_AGENT": "[x"}), "GATEWAY_AGENT: not JSON")
        self.assertEqual(
            self.problem("", {"GATEWAY_AGENT": '[{"nam": "x"}]'}),
            "GATEWAY_AGENT: agent[0].nam: there is no such key; did you mean name?",
        )

    def test_names(self) -> None:
        """Every key has a variable, and no two the same."""
        names = environmentNames(Whole)
        self.assertEqual(names["limits.idle-timeout"], "GATEWAY_LIMITS_IDLE_TIMEOUT")
        self.assertEqual(names["agent"], "GATEWAY_AGENT")
        self.assertEqual(len(set(names.values())), len(names))
