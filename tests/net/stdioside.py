"""
A relay's side that is standard input and output: the same promises hold there, so the same tests run::

    class StandardIONearTests(RelayPromises, SynchronousTestCase):
        nearKind, farKind = STDIO, TCP

The pipes are the kernel's and the reactor is Twisted's, as what a pipe tells of its other end is what this is about;
but the reactor only moves when the test does.
"""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl, ioctl
from io import FileIO
from termios import FIONREAD
from typing import Any, cast

from twisted.internet.interfaces import IProtocol
from twisted.internet.pollreactor import PollReactor
from twisted.internet.task import Clock

from gateway.net.stdio import IReactorStdio, StandardIOTransport, Streams
from tests.net.sides import KIB, Kind

__all__ = ["STDIO", "StandardIOSide", "Turns", "pipe"]


class Turns(PollReactor):
    """A reactor that is given its turns one by one, and that nothing wakes."""

    def installWaker(self) -> None:
        """Nobody sleeps."""

    def turn(self) -> bool:
        """Take one. Return whether there may have been anything to do."""
        before = len(self._reads), len(self._writes), len(self.getDelayedCalls())
        self.iterate(0)
        return before != (len(self._reads), len(self._writes), len(self.getDelayedCalls()))


def pipe(size: int) -> tuple[FileIO, FileIO]:
    """The two ends of a pipe that holds so many bytes; ours, the tests', does not block."""
    reading, writing = os.pipe()
    fcntl(writing, F_SETPIPE_SZ, size)
    return FileIO(reading, "rb"), FileIO(writing, "wb")


class _Recorded(StandardIOTransport):
    """
    A pipe has no reset: the exit status tells, and this stands for it.

    @ivar aborted: whether it would be 1.
    """

    aborted = False

    def abortConnection(self) -> None:
        """Record, and abort."""
        self.aborted = True
        super().abortConnection()


class StandardIOSide:
    """A L{tests.net.sides.Side} on two pipes, whose other ends are the process that started us."""

    def __init__(self, protocol: IProtocol, clock: Clock) -> None:
        self.kind = STDIO
        self._reactor = Turns()
        ourInput, self._writing = pipe(64 * KIB)
        # Little, as what the kernel holds is not the transport's.
        self._reading, ourOutput = pipe(4 * KIB)
        for each in (self._writing, self._reading):
            os.set_blocking(each.fileno(), False)
        self._unsent = bytearray()
        self._finishing = self._stalled = False
        self._chunk = 64 * KIB
        self._received = bytearray()
        self._ended = False
        self._most = 0
        self._junk = 0
        self._ourOutput = ourOutput
        self.ours: Any = _Recorded(cast(IReactorStdio, self._reactor), Streams(ourInput, ourOutput), protocol)

    @property
    def received(self) -> bytes:
        return bytes(self._received)

    @property
    def end(self) -> str | None:
        if not self._ended:
            return None
        return "reset" if self.ours.aborted else "clean"

    @property
    def gone(self) -> bool:
        return bool(self.ours.disconnected)

    @property
    def held(self) -> int:
        return self._most

    @property
    def unread(self) -> int:
        return len(self._unsent) + self._inPipe()

    def _inPipe(self) -> int:
        if self._writing.closed:
            return 0
        count = array("i", [0])
        ioctl(self._writing.fileno(), FIONREAD, count)
        return count[0]

    def send(self, data: bytes) -> None:
        self._unsent += data

    def finish(self) -> None:
        self._finishing = True

    def reset(self) -> None:
        self._writing.close()
        self._reading.close()
        self._unsent.clear()
        self._ended = True

    def stall(self, stalled: bool) -> None:
        if stalled and not self._stalled and not self._ourOutput.closed:
            # Fill the pipe: what it would take of the transport's is not the transport's any more.
            self._read()
            self._junk += os.write(self._ourOutput.fileno(), bytes(4 * KIB))
        self._stalled = stalled

    def chunk(self, size: int) -> None:
        self._chunk = size

    def step(self) -> bool:
        busy = self._write()
        busy = self._reactor.turn() or busy
        self._most = max(self._most, len(self.ours.dataBuffer) - self.ours.offset + self.ours._tempDataLen)
        # The peer takes all that there is, as it does in memory, although the pipe holds little.
        while self._read():
            busy = True
            self._reactor.turn()
        return busy

    def _write(self) -> bool:
        if self._writing.closed:
            return False
        if self._unsent and not self._inPipe():
            with suppress(BrokenPipeError):
                sent = self._writing.write(self._unsent[: self._chunk])
                del self._unsent[:sent]
                return True
            self._unsent.clear()
        if self._finishing and not self._unsent:
            self._writing.close()
            return True
        return False

    def _read(self) -> bool:
        if self._stalled or self._reading.closed:
            return False
        data = self._reading.read(64 * KIB)
        if data is None:
            return False
        if not data:
            self._ended = True
            self._reading.close()
        skipped = min(self._junk, len(data))
        self._junk -= skipped
        self._received += data[skipped:]
        return True


STDIO: Kind = Kind("standard input and output", True, StandardIOSide)
