"""
Run C{gateway relay} as people do, and peers for its two ends.

Ports are chosen by the system, and read from the log::

    with origin(answering) as port, relaying("tcp:0:interface=127.0.0.1", f"tcp:127.0.0.1:{port}") as relay:
        visitor = socket.create_connection((HERE, relay.port))
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

__all__ = [
    "GATEWAY",
    "HERE",
    "LOCAL",
    "SECONDS",
    "RunningRelay",
    "digest",
    "exactly",
    "origin",
    "relaying",
    "reset",
    "toTheEnd",
]

HERE = "127.0.0.1"
LOCAL = f"tcp:0:interface={HERE}"
SECONDS = 20.0
"""For anything that must happen; it fails only when that does not."""

GATEWAY = str(Path(sysconfig.get_path("scripts"), "gateway"))


@dataclass(slots=True)
class RunningRelay:
    """
    A C{gateway relay} that listens.

    @ivar port: where, unless it is on a UNIX socket.
    """

    process: subprocess.Popen[bytes]
    port: int
    _log: IO[bytes] = field(repr=False)

    def events(self) -> list[dict[str, Any]]:
        """All that it has logged."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def log(self) -> str:
        """All that it has written."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def awaitEvent(self, name: str) -> dict[str, Any]:
        """The first event of a name, when there is one."""
        deadline = time.monotonic() + SECONDS
        while True:
            for event in self.events():
                if event["event"] == name:
                    return event
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no event {name}:\n{self.log()}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and return its status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def relaying(listen: str, to: str, *options: str) -> Iterator[RunningRelay]:
    """A relay for one C{with} block, once it listens."""
    with tempfile.TemporaryFile() as log:
        command = [GATEWAY, "relay", "--listen", listen, "--to", to, "--log-format", "json", *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            relay = RunningRelay(process, 0, log)
            where = relay.awaitEvent("gateway.listening")["where"]
            relay.port = int(where.rpartition(":")[2]) if where.startswith(HERE) else 0
            yield relay
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def origin(serve: Callable[[socket.socket], object]) -> Iterator[tuple[int, SimpleQueue[object]]]:
    """
    What relays lead to, for one C{with} block.

    @param serve: called with each connection, in a thread; the connection is closed afterwards.
    @return: the port, and what C{serve} returned or raised, in order.
    """
    results: SimpleQueue[object] = SimpleQueue()

    def run(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(SECONDS)
            try:
                results.put(serve(connection))
            except Exception as e:  # the test looks at it
                results.put(e)

    with socket.create_server((HERE, 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=run, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1]), results
        listener.shutdown(socket.SHUT_RDWR)


def digest(data: bytes) -> str:
    """A checksum, which is a shorter thing to read in a failed test."""
    return hashlib.sha256(data).hexdigest()


def exactly(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError(f"the end after {len(data)} bytes")
        data += piece
    return bytes(data)


def toTheEnd(connection: socket.socket) -> bytes:
    """Read until the other side ends."""
    data = bytearray()
    while piece := connection.recv(65536):
        data += piece
    return bytes(data)


def reset(connection: socket.socket) -> None:
    """Break off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
