"""
Start the Tabby gateway, ours or the original, as a person would: a process with options and an environment.

It exists so that transcripts and benchmarks start every gateway in the same way and end it whatever happens::

    with started(ORIGINAL, ["--no-auth"]) as gateway:
        client = RawWebSocket.connect(gateway.address)
"""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.processes import HERE, freePort

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Program:
    """
    Something that can be started as a Tabby gateway.

    @ivar name: what tables call it.
    @ivar command: the words before the options.
    """

    name: str
    command: tuple[str, ...]

    @property
    def installed(self) -> bool:
        """Whether the program is on this machine."""
        return os.access(self.command[0], os.X_OK)


OURS = Program("txgateway", (str(Path(sysconfig.get_path("scripts"), "gateway")), "tabby"))
ORIGINAL = Program("original", (str(_ROOT / ".peers/oracle/bin/tabby-connection-gateway"),))
WEBSOCKIFY = Program("websockify", (str(_ROOT / ".peers/websockify/bin/websockify"),))


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without a token of the person's own, plus C{extra}."""
    usual = {name: value for name, value in os.environ.items() if name != "TABBY_AUTH_TOKEN"}
    return {**usual, "PYTHONUNBUFFERED": "1", **extra}


@dataclass(slots=True)
class Gateway:
    """
    A running gateway.

    @ivar address: where clients connect.
    @ivar adminAddress: where management connects, if it was started with such a listener.
    """

    program: Program
    process: subprocess.Popen[bytes]
    address: tuple[str, int]
    adminAddress: tuple[str, int] | None
    _log: IO[bytes] = field(repr=False)

    def log(self) -> str:
        """Return all that the gateway has written so far, to either stream."""
        return os.pread(self._log.fileno(), 64 * 1024 * 1024, 0).decode("utf-8", "replace")

    def stop(self, seconds: float = 15.0) -> None:
        """
        End the process and wait for it: asked first, killed when it has not ended after C{seconds}.

        What it wrote is gone afterwards.
        """
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def start(
    program: Program,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    admin: bool = False,
    seconds: float = 20.0,
) -> Gateway:
    """
    Start C{program} on free ports and return once it accepts connections.

    @param arguments: options besides those for host and port.
    @param admin: choose a port for the management listener too.
    @param seconds: how long it may take to come up.

    @raise RuntimeError: it ended or did not come up in time; the message holds the end of what it wrote.
    """
    address = (HERE, freePort())
    adminAddress = (HERE, freePort()) if admin else None
    options = ["--host", HERE, "--port", str(address[1]), *arguments]
    if adminAddress is not None:
        options += ["--admin-host", HERE, "--admin-port", str(adminAddress[1])]
    return startCommand(program, options, address, adminAddress, env=env, seconds=seconds)


def startCommand(
    program: Program,
    options: Sequence[str],
    address: tuple[str, int],
    adminAddress: tuple[str, int] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    seconds: float = 20.0,
) -> Gateway:
    """Start C{program} with exactly C{options}; the rest is as in L{start}."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 -- Gateway.stop closes it
    process = subprocess.Popen(
        [*program.command, *options],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment(env or {}),
    )
    gateway = Gateway(program, process, address, adminAddress, log)
    deadline = time.monotonic() + seconds
    try:
        for door in (address, adminAddress):
            if door is not None:
                _awaitListener(gateway, door, deadline)
    except BaseException:
        gateway.stop()
        raise
    return gateway


def _awaitListener(gateway: Gateway, door: tuple[str, int], deadline: float) -> None:
    """Connect to C{door} again and again until it works: a process tells in no other way that it is up."""
    while True:
        try:
            socket.create_connection(door, 1.0).close()
            return
        except OSError:
            if gateway.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{gateway.program.name} did not come up:\n{gateway.log()[-2000:]}") from None
            time.sleep(0.02)


@contextmanager
def started(
    program: Program,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    admin: bool = False,
) -> Iterator[Gateway]:
    """L{start} for one C{with} block."""
    gateway = start(program, arguments, env=env, admin=admin)
    try:
        yield gateway
    finally:
        gateway.stop()
