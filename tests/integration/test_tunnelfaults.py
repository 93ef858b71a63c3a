"""
Tests for the tunnel when something around it fails: the line between agent and gateway, an origin, or one of them.

    visitors -- gateway -- line that fails -- agent "frail" -- origin
                       \\-- agent "sound" -- the same

Whatever happens to the one agent, the visitors of the other must not feel it; and when all is over nothing may be left
in either process. Both are looked at in one place, after each test.
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.integration.crowd import Crowd, Echo
from tests.integration.faultyline import FaultyLine
from tests.integration.relays import exactly, origin
from tests.integration.tunnels import Place, RunningGateway, agent, serving
from tests.processes import HERE, SECONDS, DeadlineTestCase, eventually, freePort

PING = 1.0
"""Seconds between pings: a dead peer is found within two of them."""

SLACK = 3.0
"""Seconds more that anything may take on a busy machine."""

BACK = 2.0
"""Seconds after which an agent that has come back has to serve."""

_MANY = """
    per-address = 0
    new-per-second = 0
    new-per-second-per-address = 0
    undecided-per-address = 2000
"""


def isServed(port: int) -> bool:
    """Whether a visitor of a port hears an echo."""
    with contextlib.suppress(OSError, EOFError), socket.create_connection((HERE, port), 1.0) as visitor:
        visitor.settimeout(1.0)
        visitor.sendall(b"anybody?")
        return exactly(visitor, 8) == b"anybody?"
    return False


def descriptors(process: RunningGateway) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{process.process.pid}/fd"))


class TunnelFaultTestCase(DeadlineTestCase):
    """
    A gateway, two agents that serve one echo each, and a line to the first that can be made to fail.

    @ivar frailPort: where visitors reach the agent behind the line.
    @ivar soundPort: where they reach the other one.
    """

    def setUp(self) -> None:
        super().setUp()
        self.patch(os, "environ", {**os.environ, "GATEWAY_LIMITS_PING_INTERVAL": str(PING)})
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.place = Place(Path(self.mktemp()).absolute())
        self.agentsPort, self.frailPort, self.soundPort = freePort(), freePort(), freePort()
        self.echo = self.stack.enter_context(Echo())
        self.soundEcho = self.stack.enter_context(Echo())
        self.gateway = self.serve()
        self.line = self.stack.enter_context(FaultyLine(self.agentsPort))
        self.sound = self.attach("sound", self.agentsPort, self.soundPort, self.soundEcho.port)
        self.frail = self.attach("frail", self.line.port, self.frailPort, self.echo.port)
        self.ended: list[RunningGateway] = []
        self.crowds: list[Crowd] = []
        for port in (self.frailPort, self.soundPort):
            self.assertTrue(isServed(port))
        self.assertTrue(eventually(self.isEmpty))
        self.before = {name: descriptors(process) for name, process in self.processes().items()}
        self.addCleanup(self._inspect)

    def _inspect(self) -> None:
        """Nobody and nothing is left inside, both agents serve, and all end when asked, without a defect."""
        self.line.heal()
        for crowd in self.crowds:
            crowd.leave()
        self.assertServedWithin(SLACK + BACK, self.frailPort)
        self.assertServedWithin(SLACK, self.soundPort)
        self.assertTrue(eventually(self.isEmpty), self.gateway.get("/metrics"))
        for name, process in self.processes().items():
            most = self.before[name]
            settled = eventually(lambda process=process, most=most: descriptors(process) <= most)  # type: ignore[misc]
            self.assertTrue(settled, f"{name}: {descriptors(process)} descriptors, {most} at the start")
        for process in self.processes().values():
            process.stop()
        for process in (*self.processes().values(), *self.ended):
            lines = [line for line in process.log().splitlines() if "Traceback" in line or "gateway.defect" in line]
            self.assertEqual(lines[:3], [])

    # -- Starting and ending

    def serve(self) -> RunningGateway:
        """Start the gateway, on the port where agents look for it."""
        return self.stack.enter_context(serving(self.place, ports={"agents": self.agentsPort}, more=_MANY))

    def attach(self, name: str, to: int, port: int, origin: int) -> RunningGateway:
        """Start an agent that serves a port."""
        gateway = replace(self.gateway, ports={**self.gateway.ports, "agents": to})
        service = {"key": "echo", "kind": "tcp", "port": port, "origin": f"{HERE}:{origin}"}
        return self.stack.enter_context(agent(gateway, self.place, [service], carrier="tls", name=name))

    def kill(self, process: RunningGateway) -> None:
        """End a process as the system does when it has no memory."""
        process.process.kill()
        process.process.wait()
        self.ended.append(process)

    def crowd(self, port: int, count: int = 100) -> Crowd:
        """Visitors of a port, who all have heard something."""
        crowd = Crowd(port, count)
        self.crowds.append(crowd)
        return crowd

    # -- Looking

    def processes(self) -> dict[str, RunningGateway]:
        """Those that run."""
        return {"gateway": self.gateway, "frail": self.frail, "sound": self.sound}

    def metrics(self) -> dict[str, float]:
        """What the gateway says of itself, without the prefix."""
        lines = self.gateway.get("/metrics").splitlines()
        pairs = [line.removeprefix("txgateway_").split() for line in lines if line.startswith("txgateway_")]
        return {name: float(value) for name, value in pairs}

    def isEmpty(self) -> bool:
        """Whether there are two agents, and nobody else."""
        metrics = self.metrics()
        streams = sum(value for name, value in metrics.items() if name.startswith("agent_streams{"))
        counted = (metrics["visits"], streams, metrics["stalled_bytes"])
        return metrics["agents"] == 2 and counted == (0, 0, 0)

    def assertServedWithin(self, seconds: float, port: int) -> None:
        """Visitors hear an echo, by then."""
        self.assertTrue(eventually(lambda: isServed(port), seconds), f"{port} not served after {seconds:g} seconds")

    def assertOver(self, crowd: Crowd, seconds: float) -> None:
        """All visitors of a crowd learn in time that their connection is over."""
        crowd.turn(seconds)
        if len(crowd):  # what they said came back before it broke
            crowd.turn(seconds)
        self.assertEqual(len(crowd), 0)

    def assertTold(self, crowd: Crowd, seconds: float) -> None:
        """They also learn that it broke: none may take it for an end."""
        self.assertOver(crowd, seconds)
        self.assertEqual(set(crowd.ends.values()), {"reset"})

    def assertUnharmed(self, crowd: Crowd) -> None:
        """No visitor of a crowd has lost anything."""
        crowd.turn()
        self.assertEqual(crowd.ends, {})


class LineTests(TunnelFaultTestCase):
    """What happens to the line between agent and gateway."""

    def test_cut(self) -> None:
        """Visitors are told at once when the carrier is reset, and the agent serves new ones soon after."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        with sound.busy():
            self.line.cut()
            self.assertTold(frail, SLACK)
            self.assertServedWithin(SLACK, self.frailPort)
        self.assertUnharmed(sound)

    def test_flapping(self) -> None:
        """A carrier that is reset again and again comes back each time."""
        sound = self.crowd(self.soundPort)
        with sound.busy():
            for _ in range(3):
                self.line.cut()
                self.assertServedWithin(SLACK + BACK, self.frailPort)
        self.assertUnharmed(sound)

    def test_shortStall(self) -> None:
        """A line that stands still for less than it takes to give the peer up costs no more than that time."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        with sound.busy(), frail.busy():
            self.line.stall()
            time.sleep(0.4 * PING)
            self.line.heal()
        self.assertUnharmed(frail)
        self.assertUnharmed(sound)

    def test_stalled(self) -> None:
        """A line that stands still is given up within two pings, by both, and the agent is back once it flows."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        with sound.busy():
            self.line.stall()
            self.assertTold(frail, 2 * PING + SLACK)
            self.assertTrue(eventually(lambda: self.metrics()["agents"] == 1, SLACK))
            self.line.heal()
            self.assertServedWithin(BACK + SLACK, self.frailPort)
        self.assertUnharmed(sound)

    def test_blackholed(self) -> None:
        """So is one that swallows everything, the ends too; its port is not served by a ghost meanwhile."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        with sound.busy():
            self.line.blackhole()
            self.assertTold(frail, 2 * PING + SLACK)
            self.assertFalse(isServed(self.frailPort))
            self.line.heal()
            self.assertServedWithin(BACK + SLACK, self.frailPort)
        self.assertUnharmed(sound)

    def test_refused(self) -> None:
        """While nothing can connect, visitors are turned away at once rather than left to wait."""
        self.line.refuse()
        self.assertTrue(eventually(lambda: self.metrics()["agents"] == 1))
        begun = time.monotonic()
        self.assertFalse(isServed(self.frailPort))
        self.assertLess(time.monotonic() - begun, 1.0)

    def test_slow(self) -> None:
        """A line that is slow and full is not taken for a dead one, and lets short messages through beside bulk."""
        frail, sound = self.crowd(self.frailPort, 20), self.crowd(self.soundPort)
        self.line.slow(512 * 1024)
        with socket.create_connection((HERE, self.frailPort), SECONDS) as bulk, sound.busy():
            bulk.setblocking(False)
            until = time.monotonic() + 2.5 * PING
            while time.monotonic() < until:
                with contextlib.suppress(BlockingIOError):
                    bulk.send(bytes(65536))
                with contextlib.suppress(BlockingIOError):
                    bulk.recv(65536)
                time.sleep(0.001)
            frail.turn()
            self.line.heal()
        self.assertUnharmed(frail)
        self.assertUnharmed(sound)

    def test_delayed(self) -> None:
        """A long line takes its time for each message, and for all visitors' messages no longer than for one."""
        frail = self.crowd(self.frailPort)
        self.line.delay(0.1)
        self.assertGreater(frail.turn(), 0.2)
        self.assertLess(frail.turn(), 0.2 + SLACK)
        self.assertUnharmed(frail)


class OriginTests(TunnelFaultTestCase):
    """What happens to an origin."""

    def test_dead(self) -> None:
        """Visitors are turned away as long as there is no origin; those of other origins, and others' agents, stay."""
        sound = self.crowd(self.soundPort)
        with sound.busy():
            self.echo.stop()
            begun = time.monotonic()
            for _ in range(20):
                self.assertFalse(isServed(self.frailPort))
            self.assertLess(time.monotonic() - begun, 20 * 0.5)
            self.echo.start()
            self.assertServedWithin(SLACK, self.frailPort)
        self.assertUnharmed(sound)

    def test_dies(self) -> None:
        """When an origin dies its visitors are told, and the agent's session goes on."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        came = self.line.came
        with sound.busy():
            self.echo.stop()
            self.assertTold(frail, SLACK)
            self.echo.start()
            self.assertServedWithin(SLACK, self.frailPort)
        self.assertUnharmed(sound)
        self.assertEqual(self.line.came, came)

    def test_resetting(self) -> None:
        """A reset by the origin arrives as a reset, for each visitor alone."""
        frail = self.crowd(self.frailPort)
        self.echo.resets = True
        self.assertTold(frail, SLACK)
        self.echo.resets = False
        self.assertServedWithin(SLACK, self.frailPort)

    def test_slow(self) -> None:
        """An origin that does not read holds its own visitor back and no other."""
        frail = self.crowd(self.frailPort)

        def sleepy(connection: socket.socket) -> int:
            time.sleep(1.0)
            taken = 0
            while piece := connection.recv(1 << 20):
                taken += len(piece)
            return taken

        port, size = freePort(), 8 * 1024 * 1024
        with origin(sleepy) as (slow, results):
            sleeper = self.attach("sleeper", self.line.port, port, slow)
            with socket.create_connection((HERE, port), SECONDS) as visitor, frail.busy():
                visitor.sendall(bytes(size))
            self.assertEqual(results.get(timeout=SECONDS), size)
            sleeper.stop()
        self.assertUnharmed(frail)


class ProcessTests(TunnelFaultTestCase):
    """What happens to the agent and to the gateway."""

    def test_agentKilled(self) -> None:
        """The port of an agent that was killed is served again as soon as it is back."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        with sound.busy():
            self.kill(self.frail)
            self.assertTold(frail, SLACK)
            self.frail = self.attach("frail", self.line.port, self.frailPort, self.echo.port)
            self.assertServedWithin(BACK, self.frailPort)
            self.assertLess(time.monotonic() - self.line.came, BACK)
        self.assertUnharmed(sound)

    def test_agentGoneUnseen(self) -> None:
        """So is that of one whose end nobody was told of: it takes over from its own ghost."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        with sound.busy(), FaultyLine(self.agentsPort) as another:
            self.line.blackhole()
            self.kill(self.frail)
            self.frail = self.attach("frail", another.port, self.frailPort, self.echo.port)
            self.assertServedWithin(BACK, self.frailPort)
            self.assertLess(time.monotonic() - another.came, BACK)
            self.assertTold(frail, SLACK)
            self.kill(self.frail)  # before its line goes
        self.assertUnharmed(sound)
        self.line.heal()
        self.frail = self.attach("frail", self.line.port, self.frailPort, self.echo.port)

    def test_gatewayKilled(self) -> None:
        """Agents come back by themselves to a gateway that was killed and started again."""
        frail, sound = self.crowd(self.frailPort), self.crowd(self.soundPort)
        self.kill(self.gateway)
        for crowd in (frail, sound):
            self.assertOver(crowd, SLACK)  # with an end: it is the system that closes what a killed process had
        self.gateway = self.serve()
        for port in (self.frailPort, self.soundPort):
            self.assertServedWithin(2 * BACK + SLACK, port)

    def test_gatewayRestarted(self) -> None:
        """And to one that was asked to end."""
        process, self.gateway = self.gateway, self.gateway
        self.assertIsInstance(process.stop(), int)
        self.ended.append(process)
        self.gateway = self.serve()
        for port in (self.frailPort, self.soundPort):
            self.assertServedWithin(2 * BACK + SLACK, port)


class ManyTests(TunnelFaultTestCase):
    """All of it, beside very many visitors."""

    deadline = 120

    def test_all(self) -> None:
        """Two thousand visitors of one agent feel nothing of what happens to another and to its visitors."""
        sound = self.crowd(self.soundPort, 2000)
        faults: list[tuple[Callable[[], Any], float]] = [
            (self.line.cut, SLACK),
            (self.line.blackhole, 2 * PING + SLACK),
            (self.echo.stop, SLACK),
            (lambda: self.kill(self.frail), SLACK),
        ]
        with sound.busy():
            for fail, seconds in faults:
                with Crowd(self.frailPort, 20) as frail:
                    fail()
                    self.assertTold(frail, 3 * seconds)
                self.line.heal()
                if fail == self.echo.stop:
                    self.echo.start()
                if self.frail.process.returncode is not None:
                    self.frail = self.attach("frail", self.line.port, self.frailPort, self.echo.port)
                self.assertServedWithin(BACK + 3 * SLACK, self.frailPort)
        self.assertUnharmed(sound)
        self.assertEqual(len(sound), 2000)
