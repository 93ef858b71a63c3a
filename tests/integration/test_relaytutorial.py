"""
Tests that do what the pages about the relay say: the tutorial from top to bottom, and ssh's ProxyCommand.
"""

from __future__ import annotations

import shlex

from gateway.service.relay.options import RelayOptions
from tests.documented import ROOT
from tests.integration.tutorials import TutorialTestCase
from tests.processes import SECONDS


class TutorialTests(TutorialTestCase):
    """Each command of the page, in its order, with ports that are free."""

    page = "docs/tutorial/first-relay.md"
    numbers = (8000, 8001, 8002)

    def test_firstRelay(self) -> None:
        """The pages come through TCP, through a WebSocket and through yamux, and what is typed comes out elsewhere."""
        (web,) = self.shown("python3")
        tcp, webServer, webClient, muxServer, muxClient, waiting, calling = self.shown("gateway")
        first, second, both = self.shown("curl")
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
            self.assertEqual(self.until(calling, data=b"hello from the second\n"), "hello from the first\n")
            self.assertEqual(here.stdout.read(), b"hello from the second\n")
            self.assertEqual(here.wait(SECONDS), 0)

    def test_proxyCommand(self) -> None:
        """What ssh is told to run is a command line of the relay's; that it works, L{tests.integration.test_relaystdio} sees."""
        (line,) = self.shown("ssh")
        program, name, *arguments = shlex.split(line[2].removeprefix("ProxyCommand="))
        self.assertEqual((program, name), ("gateway", "relay"))
        options = RelayOptions()
        options.parseOptions(arguments)
        self.assertTrue(options.isOnce)
