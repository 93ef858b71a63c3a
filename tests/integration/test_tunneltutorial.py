"""Tests that do what the page about the first tunnel says, from top to bottom."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.documented import ROOT
from tests.integration.tutorials import TutorialTestCase
from tests.processes import SECONDS

PLACE = ".state/first"


class TutorialTests(TutorialTestCase):
    """Each command of the page, in its order, with ports that are free."""

    page = "docs/tutorial/first-tunnel.md"
    numbers = (8000, 8080, 8443, 9080, 20000)

    def setUp(self) -> None:
        super().setUp()
        self.paths[PLACE] = os.path.abspath(self.mktemp())

    def movePorts(self) -> None:
        """Let the files that C{quick-start} wrote name this test's ports."""
        port = self.ports[":20000"][1:]
        for name in ("gateway.toml", "agent.toml"):
            path = Path(self.paths[PLACE], name)
            text = path.read_text(encoding="utf-8").replace("20000-20099", port).replace("= 20000", f"= {port}")
            for theirs, ours in self.ports.items():
                text = text.replace(theirs, ours)
            path.write_text(text, encoding="utf-8")

    def test_firstTunnel(self) -> None:
        """
        The page comes by HTTP, by HTTPS and at the port; without the agent it does not, and with it it does again; so it
        does when the gateway is back.
        """
        quickStart, serve, agent, again = self.shown("gateway")
        (web,) = self.shown("python3")
        byName, byTLS, byPort, gone, back, dashboard, ready = self.shown("curl")
        (removal,) = self.shown("rm")
        done = subprocess.run(self.mine(quickStart), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
        # What it says to do next is what the page does next.
        self.assertEqual(
            [line.split()[1:] for line in done.stdout.splitlines()], [self.mine(serve)[1:], self.mine(agent)[1:]]
        )
        self.movePorts()
        page = (ROOT / "docs/index.md").read_text(encoding="utf-8")
        with self.running(web, serve) as (_, gateway):
            with self.running(agent) as (first,):
                self.assertEqual(self.until(byName, page), page)
                self.assertEqual(self.until(byTLS), page)
                self.assertEqual(self.until(byPort), page)
                first.kill()
                self.until(gone, "Nobody serves app.localhost here.")
            with self.running(again) as (second,):
                self.assertEqual(self.until(back, page), page)
                self.assertIn("app.localhost, tcp port", self.until(dashboard))
                self.assertEqual(self.until(ready), "ok\n")
                gateway.send_signal(signal.SIGINT)
                gateway.communicate(timeout=SECONDS)
                with self.running(serve):
                    self.assertEqual(self.until(back, page), page)
                second.terminate()
                second.communicate(timeout=SECONDS)
        subprocess.run(self.mine(removal), check=True)
        self.assertFalse(os.path.exists(self.paths[PLACE]))
