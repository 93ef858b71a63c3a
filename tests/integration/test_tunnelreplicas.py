"""
Tests of several agents that serve the same: visitors are spread, and one that ends takes nobody else with it.
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import os
import signal
import socket
import time

from tests.integration.relays import digest, exactly, origin, toTheEnd
from tests.interop.tunnels import MIB, RunningAgent, TunnelTestCase
from tests.processes import HERE, SECONDS

BULK = os.urandom(16 * MIB)
"""More than there is room for on the way, so that a visitor who does not read stays in the middle of it."""


class ReplicaTests(TunnelTestCase):
    """Two agents, C{a} and C{b}, each with an origin of its own that says which one it is."""

    def setUp(self) -> None:
        super().setUp()
        self.running = self.gateway()
        self.port = 0
        self.agents = {name: self.replica(name) for name in ("a", "b")}

    def replica(self, name: str) -> RunningAgent:
        """Start one."""

        def serve(connection: socket.socket) -> None:
            connection.sendall(name.encode())
            if connection.recv(1):
                connection.sendall(BULK)

        target, _ = self.enterContext(origin(serve))
        agent = self.agent(self.running, "--tcp", f"it:{self.port}={HERE}:{target}", replica=name, drain=SECONDS)
        self.port = agent.port("it")
        return agent

    def visit(self) -> tuple[str, socket.socket]:
        """Visit, and return which of them it was."""
        visitor = socket.create_connection((HERE, self.port), SECONDS)
        self.addCleanup(visitor.close)
        return exactly(visitor, 1).decode(), visitor

    def downloads(self) -> dict[str, socket.socket]:
        """Begin a download from each."""
        found: dict[str, socket.socket] = {}
        while len(found) < 2:  # the second one may have to try twice, as which of them it is is left to chance
            name, visitor = self.visit()
            if found.setdefault(name, visitor) is not visitor:
                visitor.close()
        for visitor in found.values():
            visitor.sendall(b"!")
            self.assertEqual(exactly(visitor, 1000), BULK[:1000])
        return found

    def assertAllServedBy(self, name: str) -> None:
        """Whoever comes now is served at once, and by that one."""
        began = time.monotonic()
        for _ in range(30):
            found, visitor = self.visit()
            visitor.close()
            self.assertEqual(found, name)
        self.assertLess(time.monotonic() - began, 2.0)

    def test_spread(self) -> None:
        """Of 40 visitors who stay each serves about half."""
        visits = [self.visit() for _ in range(40)]
        self.assertGreater(sum(name == "a" for name, _ in visits), 10)
        self.assertGreater(sum(name == "b" for name, _ in visits), 10)

    def test_killed(self) -> None:
        """
        When one is killed in the middle of downloads those who come are served by the other at once; its visitors are
        told that there is no more, and those of the other notice nothing.
        """
        downloads = self.downloads()
        self.agents["a"].process.kill()
        self.agents["a"].process.wait(SECONDS)
        self.assertAllServedBy("b")
        part = bytearray()
        with contextlib.suppress(ConnectionResetError):
            part += toTheEnd(downloads["a"])
        self.assertLess(len(part), len(BULK) - 1000)
        self.assertEqual(digest(BULK[:1000] + toTheEnd(downloads["b"])), digest(BULK))
        self.replica("a")
        self.assertEqual({self.visit()[0] for _ in range(30)}, {"a", "b"})

    def test_terminated(self) -> None:
        """When one is asked to end its downloads finish first; whoever comes meanwhile is served by the other."""
        downloads = self.downloads()
        self.agents["a"].send(signal.SIGTERM)
        self.running.awaitEvent("agent.draining", replica="a")
        self.assertAllServedBy("b")
        for name in ("a", "b"):
            self.assertEqual(digest(BULK[:1000] + toTheEnd(downloads[name])), digest(BULK), name)
            downloads[name].close()
        self.assertEqual(self.agents["a"].process.wait(SECONDS), 0)

    def test_originDown(self) -> None:
        """While the origin of one does not answer, visitors are led to the other, which was not asked first."""
        self.agents["a"].send(signal.SIGTERM)
        self.agents["a"].process.wait(SECONDS)
        agent = self.agent(self.running, "--tcp", f"it:{self.port}={HERE}:1", replica="a")
        agent.awaitEvent("agent.serving")
        self.assertAllServedBy("b")
