"""
Do what a tutorial says: its commands as they stand on the page, but at ports that are free::

    (web,) = self.shown("python3")
    with self.running(web):
        self.until(self.shown("curl")[0], "a text")
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from twisted.trial.unittest import SynchronousTestCase

from tests.documented import ROOT, commands
from tests.integration.relays import GATEWAY
from tests.processes import SECONDS, freePort

__all__ = ["TutorialTestCase"]


class TutorialTestCase(SynchronousTestCase):
    """
    A page that is done.

    @cvar page: which.
    @cvar numbers: the ports that it names.
    @ivar paths: by each path on the page that is made by its commands, where it is made.
    """

    page = ""
    numbers: Sequence[int] = ()

    def setUp(self) -> None:
        self.ports = {f":{number}": f":{freePort()}" for number in self.numbers}
        self.paths: dict[str, str] = {}

    def shown(self, program: str) -> list[tuple[str, ...]]:
        """The command lines of a program on the page."""
        return [command.words for command in commands(program) if command.page == self.page]

    def mine(self, words: Sequence[str]) -> list[str]:
        """A command with other ports and paths, of this environment's programs."""
        changed = []
        for word in words:
            for theirs, ours in self.ports.items():
                word = word.replace(theirs, ours) if ":" in word else (ours[1:] if word == theirs[1:] else word)
            for path, place in self.paths.items():
                word = word.replace(path, place)
            changed.append(GATEWAY if word == ".venv/bin/gateway" else word)
        return changed

    @contextmanager
    def running(self, *lines: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Programs for one C{with} block; whether they listen already, L{until} finds out."""
        with ExitStack() as stack:
            processes = []
            for line in lines:
                process = stack.enter_context(
                    subprocess.Popen(
                        self.mine(line),
                        cwd=ROOT,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                    )
                )
                stack.callback(process.kill)
                processes.append(process)
            yield processes

    def until(self, line: Sequence[str], text: str = "", *, data: bytes = b"") -> str:
        """
        What a command prints when it succeeds and prints a text; it is tried again while those whom it needs are not
        there yet.
        """
        deadline = time.monotonic() + SECONDS
        while True:
            done = subprocess.run(self.mine(line), cwd=ROOT, input=data, capture_output=True, timeout=SECONDS)
            if done.returncode == 0 and text in done.stdout.decode():
                return done.stdout.decode()
            if time.monotonic() > deadline:
                self.fail(f"{line}: {done.stdout.decode()} {done.stderr.decode()}")
            time.sleep(0.1)
