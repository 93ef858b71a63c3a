"""
For tests with other processes and real sockets, which take their time and do not always come to an end::

    class GatewayTests(DeadlineTestCase):
        def test_starts(self) -> None:
            port = freePort()
            ...
            self.assertTrue(eventually(lambda: isServed(port)))
"""

import random
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from twisted.trial.unittest import SynchronousTestCase

__all__ = ["HERE", "SECONDS", "DeadlineTestCase", "TookTooLong", "eventually", "freePort", "reset"]

HERE = "127.0.0.1"

SECONDS = 20.0
"""For anything that must happen; it fails only when that does not."""


_FREE = 10_000, 20_000
"""
Where ports are looked for: below those that the system gives to whoever connects, or one of these might have it by the
time that it is listened on; and below those that a gateway gives to agents.
"""

_GIVEN: set[tuple[int, int]] = set()
"""Ports that may not be taken yet by whom they were for."""


def freePort(kind: int = socket.SOCK_STREAM) -> int:
    """
    @param kind: C{SOCK_STREAM} or C{SOCK_DGRAM}.
    @return: a port of the loopback address that nobody has at the moment, and that was not returned before.
    """
    while True:
        port = random.randrange(*_FREE)
        if (kind, port) in _GIVEN:
            continue
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind((HERE, port))
            _GIVEN.add((kind, port))
            return port


def reset(connection: socket.socket) -> None:
    """Close a connection with an RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def eventually(holds: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """Whether something comes to hold in time: another process tells only when it is asked."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class TookTooLong(Exception):
    """A test's hard deadline has passed."""


class DeadlineTestCase(SynchronousTestCase):
    """
    @cvar deadline: seconds after which a test is interrupted, wherever it is.
    """

    deadline = 60

    def setUp(self) -> None:
        """Set the alarm."""
        previous = signal.signal(signal.SIGALRM, self._interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, previous)
        self.addCleanup(signal.alarm, 0)
        signal.alarm(self.deadline)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"{self.deadline} seconds")
