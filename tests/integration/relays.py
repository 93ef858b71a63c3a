"""
Run C{gateway relay} as people do, and peers for its two ends.

Ports are chosen by the system, and read from the log::

    with origin(answering) as port, relaying("tcp:0:interface=127.0.0.1", f"tcp:127.0.0.1:{port}") as relay:
        visitor = socket.create_connection((HERE, relay.port))
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import hashlib
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

from tests.interop.running import GATEWAY, Running
from tests.processes import HERE, SECONDS

__all__ = [
    "GATEWAY",
    "LOCAL",
    "RunningRelay",
    "digest",
    "exactly",
    "origin",
    "relaying",
    "toTheEnd",
]

LOCAL = f"tcp:0:interface={HERE}"


@dataclass(slots=True)
class RunningRelay(Running):
    """
    A C{gateway relay} that listens.

    @ivar port: where, unless it is on a UNIX socket.
    """

    port: int = 0


@contextmanager
def relaying(listen: str, to: str, *options: str) -> Iterator[RunningRelay]:
    """A relay for one C{with} block, once it listens."""
    with tempfile.TemporaryFile() as log:
        command = [GATEWAY, "relay", "--listen", listen, "--to", to, "--log-format", "json", *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            relay = RunningRelay(process, log)
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
