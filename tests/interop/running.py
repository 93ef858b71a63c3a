"""
Programs of others and our own, as processes of one test: started where they can be heard, and ended whatever happens.

A program that says nothing when it is ready is asked again and again until it answers::

    nginx = start(self, "nginx", "-c", path)
    nginx.awaitPort(port)
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.gateways import environment
from tests.peers import require
from tests.processes import HERE, SECONDS, eventually

__all__ = ["GATEWAY", "PACKAGES", "Running", "program", "start"]

GATEWAY = str(Path(sysconfig.get_path("scripts"), "gateway"))
"""Our own program, as it is installed."""

PACKAGES = {
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "haproxy": "haproxy",
    "initdb": "postgresql",
    "iperf3": "iperf3",
    "nginx": "nginx-light",
    "node": "nodejs",
    "openssl": "openssl",
    "pgbench": "postgresql",
    "postgres": "postgresql",
    "psql": "postgresql",
    "rsync": "rsync",
    "scp": "openssh-client",
    "slowhttptest": "slowhttptest",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
}
"""Debian's packages of the programs that tests start."""


def program(name: str) -> str:
    """
    @return: the path of a program of L{PACKAGES}, wherever Debian has put it.
    @raise SkipTest: it is not on this machine.
    """
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    path = shutil.which(name, path=os.pathsep.join(places))
    require(path is not None, f"{name} is missing: apt-get install {PACKAGES[name]}")
    assert path is not None
    return path


@dataclass(slots=True)
class Running:
    """A process, and what it has written so far to either stream."""

    process: subprocess.Popen[bytes]
    _log: IO[bytes] = field(repr=False)

    def log(self) -> str:
        """All that it has written."""
        return os.pread(self._log.fileno(), 1 << 26, 0).decode("utf-8", "replace")

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """All that it has logged as JSON, or what has that event name."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{"))
        return [line for line in lines if name in (None, line["event"])]

    def awaitEvent(self, name: str, **facts: object) -> dict[str, Any]:
        """The first event of a name with these facts, when there is one."""
        found: list[dict[str, Any]] = []

        def isThere() -> bool:
            found[:] = [each for each in self.events(name) if facts.items() <= each.items()]
            return bool(found) or self.process.poll() is not None

        if not eventually(isThere) or not found:
            raise AssertionError(f"no event {name} {facts}:\n{self.log()[-4000:]}")
        return found[0]

    def awaitPort(self, port: int) -> None:
        """Wait until it listens."""

        def listens() -> bool:
            try:
                socket.create_connection((HERE, port), 1.0).close()
            except OSError:
                return self.process.poll() is not None
            return True

        if not eventually(listens) or self.process.poll() is not None:
            raise AssertionError(f"{self.process.args!r} did not come up:\n{self.log()[-4000:]}")

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, seconds: float = SECONDS) -> int:
        """End it, and return its status; killed if it does not end in time."""
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start(
    test: SynchronousTestCase,
    *command: str,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    ending: int = signal.SIGTERM,
    ended: Callable[[Running], object] = lambda running: None,
) -> Running:
    """
    Start a process for one test.

    @param user: as whom, if this is root.
    @param ending: the signal that ends it after the test.
    @param ended: called then, to look at what it wrote.
    """
    log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed after the test
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment(env or {}),
        user=user if os.geteuid() == 0 else None,
    )
    running = Running(process, log)

    def end() -> None:
        if process.poll() is None:
            process.send_signal(ending)
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        try:
            ended(running)
        finally:
            log.close()

    test.addCleanup(end)
    return running
