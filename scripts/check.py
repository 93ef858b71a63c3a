"""
Run the project's checks and tests one after the other, and count them.

C{make check} and C{make test} are this program with fewer and more steps; a single step is run by its name::

    .venv/bin/python scripts/check.py ruff unit
    .venv/bin/python scripts/check.py --all

A check, such as C{ruff}, counts as one test. Of a trial run its own numbers count, and one failure more if it
ended badly without saying which test failed. Skipped tests are told, with their reasons, but are neither
passed nor failed.

The last line is the total, e.g. C{tests: 312 passed, 0 failed, 4 skipped}; the exit status is 1 if any
failed. What the steps printed stays in C{build/check/}.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "check"
SUPPORTED = ("3.11", "3.12", "3.13")
TIME_LIMIT = 600
"""Seconds that a step may take before it is killed, and counts as failed."""


@dataclass(frozen=True, slots=True)
class Step:
    """
    Something to run.

    @ivar commands: run in turn, until one fails.
    @ivar isTrial: whether the last one is a trial run, whose numbers count.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    isTrial: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def countTrial(status: int, output: str) -> Counts:
    """
    Count the tests of a trial run.

    @param status: its exit status.
    @param output: what it printed, which ends with a line like C{FAILED (skips=1, errors=2, successes=3)}.
    """
    verdicts = re.findall(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", output, re.MULTILINE)
    if not verdicts:
        return Counts(failed=1)
    numbers = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", verdicts[-1])}
    passed = numbers.get("successes", 0) + numbers.get("expectedFailures", 0)
    skipped = numbers.get("skips", 0)
    failed = sum(numbers.values()) - passed - skipped
    if status and not failed:
        failed = 1
    return Counts(passed, failed, skipped)


def skipReasons(output: str) -> list[str]:
    """The reasons that a trial run gave for the tests that it skipped, each once."""
    return sorted(set(re.findall(r"^\[SKIPPED\]\n(.+)$", output, re.MULTILINE)))


def trial(python: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs trial on that Python."""
    return (python, "-b", "-m", "twisted.trial", *arguments)


def allSteps() -> Mapping[str, Step]:
    """Every step by its name, in the order in which they run."""
    python = sys.executable
    peerTests = ("integration", "interop", "browser")
    unit = sorted(
        f"tests.{path.stem}"
        for path in (ROOT / "tests").iterdir()
        if path.match("test_*.py") or ((path / "__init__.py").exists() and path.name not in peerTests)
    )
    steps = [
        Step("prepare", (("scripts/prepare",),)),
        Step("ruff", ((python, "-m", "ruff", "check"),)),
        Step("mypy", ((python, "-m", "mypy"),)),
        Step("unit", (trial(python, "-j2", *unit),), isTrial=True),
        Step("docs", ((python, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", "docs/_build/html"),)),
        Step("api", ((python, "-m", "pydoctor", "-q", "-W"),)),
    ]
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in SUPPORTED:
        if version != running:
            environment = f".venv-{version}"
            commands = (
                ("scripts/venv", environment, "test", version),
                trial(f"{environment}/bin/python", "-j2", *unit),
            )
            steps.append(Step(f"unit-{version}", commands, isTrial=True))
    for name in peerTests:
        directory = ROOT / "tests" / name
        modules = sorted(f"tests.{name}.{path.stem}" for path in directory.glob("test_*.py"))
        if name == "integration":
            # Most of them wait most of the time. Tutorials use the ports that they tell people to use, so one by one.
            tutorials = [module for module in modules if module.endswith("tutorial")]
            modules = ["-j2", *(module for module in modules if module not in tutorials)]
            steps.append(Step("tutorials", (trial(python, *tutorials),), isTrial=True))
        steps.append(Step(name, (trial(python, *modules),), isTrial=True))
        rooms = sorted(path.parent.name for path in directory.glob("*/__init__.py"))
        steps.extend(Step(f"{name}-{room}", (trial(python, f"tests.{name}.{room}"),), isTrial=True) for room in rooms)
    return {step.name: step for step in steps}


def isPythonMissing(step: Step) -> bool:
    """Whether a step asks for a version of Python that this machine does not have."""
    _, _, version = step.name.partition("unit-")
    find = ("scripts/python", version)
    return bool(version) and subprocess.run(find, cwd=ROOT, capture_output=True).returncode != 0


def runCommand(command: tuple[str, ...], log: IO[str], seconds: float) -> int:
    """
    Run a command with its output in a file, so that a process it leaves behind cannot keep us waiting.

    @return: its exit status, or that of a killed process when the time was up.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(max(seconds, 1))
    except subprocess.TimeoutExpired:
        print(f"killed after {TIME_LIMIT} seconds: {' '.join(command)}", file=log)
        return -signal.SIGKILL
    finally:
        with suppress(ProcessLookupError):  # raised when all is well: nothing of it is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def runStep(step: Step) -> Counts:
    """Run a step, say how it went, and show all of its output if that was badly."""
    print(f"{step.name:20}", end=" ", flush=True)
    if isPythonMissing(step):
        print("skipped: there is no such Python here")
        return Counts()
    path = LOGS / f"{step.name}.log"
    started = time.monotonic()
    with path.open("w") as log:
        for command in step.commands:
            status = runCommand(command, log, started + TIME_LIMIT - time.monotonic())
            if status:
                break
    output = path.read_text(errors="replace")
    if step.isTrial:
        counts = countTrial(status, output)
    else:
        counts = Counts(failed=1) if status else Counts(passed=1)
    print(f"{counts} ({time.monotonic() - started:.0f} s)")
    if counts.failed or step.name == "prepare":
        _, details, failures = output.partition("\n" + "=" * 79 + "\n")  # in a trial run, after the list of tests
        print(f"{details}{failures}" if failures else output)
    else:
        for reason in skipReasons(output):
            print(f"{'':12} skipped: {reason}")
    sys.stdout.flush()
    return counts


def main() -> int:
    """Run the steps that the command line names."""
    steps = allSteps()
    parser = argparse.ArgumentParser(description="Run checks and tests, and count them.")
    parser.add_argument("--all", action="store_true", help="run every step")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"one of: {', '.join(steps)}")
    arguments = parser.parse_args()
    unknown = set(arguments.steps) - set(steps)
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    LOGS.mkdir(parents=True, exist_ok=True)
    chosen = steps if arguments.all else arguments.steps
    total = sum((runStep(steps[name]) for name in chosen), Counts())
    print(f"tests: {total}")
    return 1 if total.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
