"""
Tests that do what the pages about the relay say: the tutorial from top to bottom, and ssh's ProxyCommand.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from twisted.trial.unittest import SynchronousTestCase

from gateway.service.relayoptions import RelayOptions
from tests.documented import ROOT, commands
from tests.integration.relays import GATEWAY, SECONDS
from tests.interop.gateways import freePort

PAGE = "docs/tutorial/first-relay.md"


def shown(program: str) -> list[tuple[str, ...]]:
    """The command lines of a program on the page."""
    return [command.words for command in commands(program) if command.page == PAGE]


class TutorialTests(SynchronousTestCase):
    """Each command of the page, in its order, with ports that are free."""

    def setUp(self) -> None:
        self.ports = {f":{number}": f":{freePort()}" for number in (8000, 8001, 8002)}

    def mine(self, words: Sequence[str]) -> list[str]:
        """A command with other ports, of this environment's programs."""
        changed = []
        for word in words:
            for theirs, ours in self.ports.items():
                word = word.replace(theirs, ours) if ":" in word else (ours[1:] if word == theirs[1:] else word)
            changed.append(GATEWAY if word == ".venv/bin/gateway" else word)
        return changed

    @contextmanager
    def running(self, *lines: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Programs for one C{with} block; the ports that they listen on answer when it begins."""
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

    def until(self, line: Sequence[str], data: bytes = b"") -> str:
        """What a command prints when it succeeds; it is tried again while those whom it needs do not listen yet."""
        deadline = time.monotonic() + SECONDS
        while True:
            done = subprocess.run(self.mine(line), input=data, capture_output=True, timeout=SECONDS)
            if done.returncode == 0:
                return done.stdout.decode()
            if time.monotonic() > deadline:
                self.fail(f"{line}: {done.stderr.decode()}")
            time.sleep(0.1)

    def test_firstRelay(self) -> None:
        """The pages come through TCP, through a WebSocket and through yamux, and what is typed comes out elsewhere."""
        (web,) = shown("python3")
        tcp, webServer, webClient, muxServer, muxClient, waiting, calling = shown("gateway")
        first, second, both = shown("curl")
        page = (ROOT / "docs/index.md").read_text(encoding="utf-8")
        other = (ROOT / "docs/tutorial/index.md").read_text(encoding="utf-8")
        with self.running(web):
            with self.running(tcp) as (relay,):
                self.assertEqual(self.until(first), page)
                relay.terminate()
                log, _ = relay.communicate(timeout=SECONDS)
                self.assertIn(b'"relay.closed"', log)
            with self.running(webServer, webClient):
                self.assertEqual(self.until(second), page)
            with self.running(muxServer, muxClient):
                self.assertEqual(self.until((*both, "--fail-early")), page + other)
        with self.running(waiting) as (here,):
            assert here.stdin is not None and here.stdout is not None
            here.stdin.write(b"hello from the first\n")
            here.stdin.close()
            self.assertEqual(self.until(calling, b"hello from the second\n"), "hello from the first\n")
            self.assertEqual(here.stdout.read(), b"hello from the second\n")
            self.assertEqual(here.wait(SECONDS), 0)

    def test_proxyCommand(self) -> None:
        """What ssh is told to run is a command line of the relay's; that it works, L{tests.integration.test_relaystdio} sees."""
        (line,) = shown("ssh")
        program, name, *arguments = shlex.split(line[2].removeprefix("ProxyCommand="))
        self.assertEqual((program, name), ("gateway", "relay"))
        options = RelayOptions()
        options.parseOptions(arguments)
        self.assertTrue(options.isOnce)
