"""
Tests that hold the documentation to the program: what a page says exists, and what exists is on its page.
"""

import ast
import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from unittest import SkipTest, mock

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.limits import AdmissionRefusal
from gateway.domain.targets import TargetPolicy, parseRuleLine, parseTarget
from gateway.domain.tokensfile import parseTokensFile
from gateway.net.relay import Cause
from gateway.service.agent.config import AgentConfig
from gateway.service.configuration import Section, readConfiguration
from gateway.service.main import COMMANDS
from gateway.service.networkrelay.sshconfig import SshConfigOptions
from gateway.service.server.config import GatewayConfig
from gateway.service.server.visitors import Refusal
from gateway.service.tabby.options import TabbyOptions
from gateway.service.tabby.session import SessionCause
from gateway.wire.tabby import Code
from tests.documented import ROOT, Command, blocks, commands, namedBlock, pages, tables
from tests.documents import DOCUMENTS, GATEWAY_COMMANDS, optionNames, tokenCommands
from tests.tomldocuments import TOML_DOCUMENTS

OTHER_PROGRAMS = {
    "--bind": "http.server",
    "--directory": "http.server",
    "--http1.1": "curl",
    "--max-time": "curl",
    "--output": "curl",
    "--cacert": "curl",
    "--resolve": "curl",
    "--standalone": "certbot",
    "--deploy-hook": "certbot",
    "--system": "useradd",
    "--home-dir": "useradd",
    "--shell": "useradd",
    "--now": "systemctl",
    "--nodaemon": "twistd",
    "--help": "scripts/check.py",
    "--strict": "mypy",
}
"""Options that the documentation mentions and that are not ours, with whose they are."""


CONFIGURATIONS: Mapping[str, type[Section]] = {"gateway-toml": GatewayConfig, "agent-toml": AgentConfig}
"""What the names of examples of configuration files begin with, and what reads them."""


def ownOptions() -> set[str]:
    """Every option of our own commands, with its dashes."""
    known = [document.options() for document in DOCUMENTS] + [command.options() for command in tokenCommands()]
    known += [options() for options in GATEWAY_COMMANDS.values()]
    known.append(SshConfigOptions())
    return {f"--{name}" for options in known for name in optionNames(options)}


def code(cell: str) -> str:
    """The only piece of code in a cell."""
    (found,) = re.findall(r"`([^`]+)`", cell)
    return str(found)


class OptionTests(SynchronousTestCase):
    """Options in the documentation are options of the program."""

    def test_pageIsUpToDate(self) -> None:
        """Each page of options is the one that the option class generates."""
        for document in (*DOCUMENTS, *TOML_DOCUMENTS):
            with self.subTest(document.path.name):
                text = document.path.read_text(encoding="utf-8")
                self.assertEqual(text, document.generate(), "run python -m tests.documents and -m tests.tomldocuments")

    def test_everyOptionHasAPlace(self) -> None:
        """Each page of options lists every option once."""
        for document in DOCUMENTS:
            with self.subTest(document.path.name):
                listed = [name for names in document.groups.values() for name in names]
                self.assertEqual(sorted(listed), optionNames(document.options()))

    def test_everyCommandHasAPlace(self) -> None:
        """The index of the reference says where each command's options are."""
        index = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8")
        for name in COMMANDS:
            with self.subTest(name):
                self.assertIn(f"`gateway {name}`", index)

    def test_optionsExist(self) -> None:
        """Every option that any page mentions exists."""
        known = ownOptions() | OTHER_PROGRAMS.keys()
        for page, text in pages():
            with self.subTest(page):
                mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", text))
                self.assertEqual(mentioned - known, set())


class CommandTests(SynchronousTestCase):
    """Commands in the documentation are understood by the program."""

    def parse(self, command: Command) -> None:
        """Let the real command line parser read a command."""
        name, arguments = command.words[1], list(command.words[2:])
        if name in ("--version", "--help"):
            return
        options = COMMANDS[name].makeOptions()
        with mock.patch.dict(os.environ, {"TABBY_AUTH_TOKEN": "0" * 64}):
            options.parseOptions(arguments)

    def test_commandsParse(self) -> None:
        """Every gateway command that is shown, and the one of C{make run}, parses."""
        shown = commands("gateway")
        self.assertGreater(len(shown), 20)
        for command in shown:
            with self.subTest(str(command)):
                self.parse(command)

    def test_shellParses(self) -> None:
        """Every block of shell is one."""
        for block in blocks():
            if block.language == "sh":
                with self.subTest(f"{block.page}: {block.text[:40]!r}"):
                    done = subprocess.run(["sh", "-n"], input=block.text, text=True, capture_output=True)
                    self.assertEqual(done.stderr, "")

    def test_certificateScript(self) -> None:
        """The script that certbot calls copies both files and lets the gateway's group read them."""
        live, etc, programs = (Path(self.mktemp()).absolute() for _ in range(3))
        for directory in (live, etc, programs):
            directory.mkdir()
        for name in ("fullchain.pem", "privkey.pem"):
            (live / name).write_text(name)
        # There is no such group here: the script's own install(1) gets another.
        install = programs / "install"
        install.write_text(f'#!/bin/sh\nexec {shutil.which("install")} "$@" -g {os.getgid()}\n')
        install.chmod(0o755)
        script = namedBlock("certificate-script").text.replace("/etc/txgateway", str(etc))
        environment = {"RENEWED_LINEAGE": str(live), "PATH": f"{programs}:{os.environ['PATH']}"}
        subprocess.run(["sh"], input=script, text=True, check=True, env=environment)
        for name in ("fullchain.pem", "privkey.pem"):
            self.assertEqual((etc / "tls" / name).read_text(), name)
            self.assertEqual((etc / "tls" / name).stat().st_mode & 0o777, 0o640)


class FileTests(SynchronousTestCase):
    """Files in the documentation can be used as they are."""

    def test_tokensFiles(self) -> None:
        """Every TOML example that is no configuration is a tokens file."""
        kinds = tuple(CONFIGURATIONS)
        examples = [block for block in blocks() if block.language == "toml" and not block.name.startswith(kinds)]
        self.assertNotEqual(examples, [])
        for block in examples:
            with self.subTest(block.page):
                parseTokensFile(block.text.encode(), block.page)

    def test_configurations(self) -> None:
        """Every example of a configuration has only keys that there are."""
        for block in blocks():
            for start, kind in CONFIGURATIONS.items():
                if block.name.startswith(start):
                    with self.subTest(f"{block.page}: {block.name}"):
                        path = Path(self.mktemp())
                        path.write_text(block.text)
                        readConfiguration(str(path), kind, environ={})

    def test_tokensFileKeys(self) -> None:
        """The page of the tokens file lists the keys that its example has, and the example has them all."""
        (block,) = [block for block in blocks() if block.page.endswith("tokens-file.md") and block.language == "toml"]
        shown = set(re.findall(r"^(\w+) = ", block.text, re.MULTILINE))
        listed = {code(row[0]).removeprefix("tokens.NAME.") for row in tables("reference/tokens-file.md")["Keys"]}
        self.assertEqual(listed, shown)

    def test_units(self) -> None:
        """systemd finds nothing wrong with the units."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is missing: apt-get install systemd")
        directory = Path(self.mktemp()).absolute()
        program = directory / "gateway"
        for variant in ("txgateway.service", "activated.service"):
            with self.subTest(variant):
                place = directory / variant
                place.mkdir(parents=True)
                program.write_text("#!/bin/sh\n")
                program.chmod(0o755)
                unit = namedBlock(variant).text.replace("/opt/txgateway/bin/gateway", str(program))
                unit = unit.replace("User=txgateway\n", "")
                paths = [place / "txgateway.service"]
                paths[0].write_text(unit)
                if variant == "activated.service":
                    paths.append(place / "txgateway.socket")
                    paths[1].write_text(namedBlock("txgateway.socket").text)
                done = subprocess.run(["systemd-analyze", "verify", *paths], text=True, capture_output=True, timeout=60)
                complaints = [line for line in done.stderr.splitlines() if str(place) in line or "txgateway" in line]
                self.assertEqual(complaints, [])

    def test_drainFits(self) -> None:
        """systemd waits longer for the end of the service than the gateway takes."""
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.read_string(namedBlock("txgateway.service").text)
        options = TabbyOptions()
        self.assertGreater(float(unit["Service"]["TimeoutStopSec"]), float(options["drain"]) + 7)


def logCalls() -> Iterator[tuple[str, str, set[str]]]:
    """Every call in the gateway that logs a named event: the name, the level, and the facts it spells out."""
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                facts = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
                name = facts.pop("event", None)
                if isinstance(name, ast.Constant):
                    level = "critical" if node.func.attr == "failure" else node.func.attr
                    yield str(name.value), level, set(facts)


class LogTests(SynchronousTestCase):
    """The page of log events says what is logged."""

    def test_events(self) -> None:
        """Each event is on the page with its level and its facts, and no other is."""
        page = tables("reference/logs.md")
        rows = {code(row[0]): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in page["Events"]}
        calls = list(logCalls())
        self.assertEqual(set(rows), {name for name, _, _ in calls})
        for name, level, facts in calls:
            with self.subTest(name):
                self.assertEqual(rows[name][0], level)
                self.assertEqual(facts - rows[name][1], set())

    def test_causes(self) -> None:
        """Each cause of a session's end is on the page, and no other is."""
        listed = {code(row[0]) for row in tables("reference/logs.md")["Causes"]}
        self.assertEqual(listed, {str(cause) for kind in (Cause, SessionCause) for cause in kind})


class TroubleTests(SynchronousTestCase):
    """What the guide says that people see is what the gateway says."""

    def test_texts(self) -> None:
        """Each text of an error and each line of the log that the guide explains is in the program."""
        said = {
            node.value
            for path in (ROOT / "gateway").rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        page = tables("howto/tabby-web.md")
        texts = [row[0] for row in page["The terminal shows an error at once"]]
        texts += [text for rows in page.values() for row in rows for text in re.findall(r"log: `([^`]+)`", row[0])]
        texts += ["cannot listen on ", "no management session", "banned for wrong tokens"]
        self.assertGreater(len(texts), 10)
        for text in texts:
            for piece in re.split(r"\.\.\.|\d+", text):
                with self.subTest(text):
                    self.assertTrue(any(piece in constant for constant in said), f"{piece!r} of {text!r}")


METRICS = {"_counter": "counter", "_tally": "counter", "totals": "counter", "gauge": "gauge", "gauges": "gauge"}
"""What defines a metric, and of which kind."""


class MetricTests(SynchronousTestCase):
    """The page of metrics says what is measured."""

    def metrics(self) -> dict[str, tuple[str, set[str]]]:
        """Every metric that the gateway defines: its kind and labels by name."""
        found = {}
        for path in sorted((ROOT / "gateway").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METRICS:
                    kind = METRICS[node.func.attr]
                    texts = [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
                    found[f"txgateway_{texts[0]}"] = kind, set(texts[2:])
        return found

    def test_metrics(self) -> None:
        """Each metric is on the page with its kind and labels, and no other is."""
        page = tables("reference/metrics.md")
        (rows,) = [rows for rows in page.values() if rows[0][0].startswith("`txgateway_")]
        listed = {code(row[0]): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}
        self.assertEqual(listed, self.metrics())

    def test_reasons(self) -> None:
        """Each reason to refuse a connection is on the page, and no other is."""
        listed = {code(row[0]) for row in tables("reference/metrics.md")["Reasons"]}
        self.assertEqual(listed, {*(reason.value for reason in AdmissionRefusal), *Refusal})

    def test_expressions(self) -> None:
        """The expressions to watch use metrics that there are."""
        known = self.metrics()
        for row in tables("reference/metrics.md")["What to watch"]:
            for name in re.findall(r"txgateway_\w+", row[1]):
                with self.subTest(name):
                    self.assertIn(name.removesuffix("_total"), known)


class ProtocolTests(SynchronousTestCase):
    """The page of the protocol says what is spoken."""

    def test_codes(self) -> None:
        """Each error code is on the page, and no other is."""
        listed = {
            code(row[0])
            for rows in tables("reference/protocols/tabby.md").values()
            for row in rows
            if re.fullmatch(r"`[a-z]+(-[a-z]+)+`", row[0])
        }
        self.assertEqual(listed, {str(each) for each in Code})


class TargetRuleTests(SynchronousTestCase):
    """The examples of target rules come out as the page says."""

    def answer(self, rules: str, target: str, resolved: str, *, strict: bool) -> str:
        """Ask the real policy, in the page's words."""
        policy = TargetPolicy([parseRuleLine(rule) for rule in re.findall(r"`([^`]+)`", rules)], strict=strict)
        asked = parseTarget(code(target))
        addresses: list[IPv4Address | IPv6Address]
        addresses = [ip_address(text) for text in re.findall(r"`([^`]+)`", resolved) or [asked.host]]
        _, refusal = policy.filter(asked.host, addresses, asked.port)
        return "allowed" if refusal is None else f"refused: `{refusal.rule}`"

    def test_examples(self) -> None:
        """Every row of the tables of examples."""
        page = tables("reference/target-rules.md")
        for title, strict in (("With a token:", False), ("With `--no-auth`:", True)):
            self.assertGreater(len(page[title]), 5)
            for rules, target, resolved, expected in page[title]:
                with self.subTest(f"{title} {rules} {target} {resolved}"):
                    self.assertEqual(self.answer(rules, target, resolved, strict=strict), expected)

    def test_agents(self) -> None:
        """Every row of the table about names of agents, which have no addresses."""
        rows = [rows for rows in tables("reference/target-rules.md").values() if ".agent" in rows[0][1]]
        self.assertEqual(len(rows), 1)
        for rules, asked, *expected in rows[0]:
            target = parseTarget(code(asked))
            parsed = [parseRuleLine(rule) for rule in re.findall(r"`([^`]+)`", rules)]
            for strict, answer in zip((False, True), expected, strict=True):
                with self.subTest(f"{rules} {asked} {strict}"):
                    refusal = TargetPolicy(parsed, strict=strict).checkNameAlone(target.host, target.port)
                    self.assertEqual("allowed" if refusal is None else f"refused: `{refusal.rule}`", answer)

    def test_builtIns(self) -> None:
        """Every address in the table of built-in refusals is refused for the reason that stands beside it."""
        for name, addresses, _ in tables("reference/target-rules.md")["Built-in refusals"]:
            strict = "--no-auth" in name
            kind = re.findall(r"`([^`]+)`", name)[0]
            for network in re.findall(r"[0-9a-f.:]+(?:/\d+)?(?=,|$| and)", addresses):
                address = ip_address(network.partition("/")[0])
                with self.subTest(f"{kind} {network}"):
                    refusal = TargetPolicy(strict=strict).check(None, address, 22)
                    self.assertEqual(refusal.rule if refusal else None, f"built-in: {kind}")
