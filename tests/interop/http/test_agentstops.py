"""Tests of what becomes of connections to origins when their agent is told to stop."""

from __future__ import annotations

import time

from tests.interop.http.website import NAME, WebTestCase
from tests.processes import HERE


class StopTests(WebTestCase):
    """An agent that has served requests."""

    def test_idleConnections(self) -> None:
        """It does not wait for connections that are kept for the next request."""
        site = self.nginx()
        (site.files / "page").write_text("hello")
        self.running = self.gateway(drain=1.0)
        service = self.service(key="app", kind="http", hostnames=[NAME], origin=f"{HERE}:{site.port}")
        agent = self.agent(self.running, config=service, drain=30.0)
        agent.awaitEvent("agent.serving")
        self.assertEqual(self.curl("https", "/page"), "hello")
        began = time.monotonic()
        self.assertEqual(agent.stop(seconds=40), 0)
        self.assertLess(time.monotonic() - began, 8)
