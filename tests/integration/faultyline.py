"""
A line that fails when it is told to: a TCP proxy for what a test wants to hurt.

What goes through it is passed on until a test says otherwise, to all its connections at once and without asking
either end::

    with FaultyLine(gateway.ports["agents"]) as line:
        ...                       # an agent connects to line.port
        line.blackhole()          # nothing arrives any more, and nobody is told
        line.heal()               # for the connections that come from now on, too

Each direction of a connection has two threads, one that reads and one that writes, with a bounded queue of pieces
between them; the sockets' own buffers are small, so that a line which is slow or stands still is felt.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from types import TracebackType

from tests.processes import HERE, reset

__all__ = ["FaultyLine"]

_PIECE = 32 * 1024
_UNDER_WAY = 8
"""Pieces that a direction holds, at most."""

_BUFFER = 64 * 1024


@dataclass(slots=True, eq=False)
class _Wire:
    """One connection through the line."""

    ends: tuple[socket.socket, ...]
    gone: threading.Event = field(default_factory=threading.Event)

    def cut(self) -> None:
        """Reset it at both ends."""
        if not self.gone.is_set():
            self.gone.set()
            for each in self.ends:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RD)  # wakes the thread that reads; the peer hears nothing of it
                reset(each)


class FaultyLine:
    """
    @param target: the port where it leads.
    @ivar port: where to connect to it. It stays the same whatever happens.
    @ivar came: when the newest connection came, in seconds of C{time.monotonic}.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.came = 0.0
        self._delay = 0.0
        self._rate: float | None = None
        self._swallows = self._refuses = False
        self._flows = threading.Event()
        self._flows.set()
        self._wires: set[_Wire] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((HERE, 0))
        self.port: int = self._listener.getsockname()[1]
        _start(self._accept)

    def __enter__(self) -> FaultyLine:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()
        self.cut()

    # -- Faults

    def cut(self) -> None:
        """Reset the connections that there are. New ones are taken."""
        with self._lock:
            wires, self._wires = self._wires, set()
        for wire in wires:
            wire.cut()

    def refuse(self) -> None:
        """Reset the connections that there are, and all that come."""
        self._refuses = True
        self.cut()

    def stall(self) -> None:
        """Stand still: take no more than buffers hold, pass nothing on, and lose nothing."""
        self._flows.clear()

    def blackhole(self) -> None:
        """Take everything, ends too, and pass nothing on: each end believes that the other is there."""
        self._swallows = True

    def slow(self, rate: float) -> None:
        """Pass on so many bytes a second, in each direction of each connection."""
        self._rate = rate

    def delay(self, seconds: float) -> None:
        """Pass everything on so much later."""
        self._delay = seconds

    def heal(self) -> None:
        """
        Be a good line again. What stood still goes on; what was swallowed is lost, and so are the connections that
        missed it.
        """
        if self._swallows:
            self._swallows = False
            self.cut()
        self._rate, self._delay, self._refuses = None, 0.0, False
        self._flows.set()

    # -- Passing on

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.came = time.monotonic()
            try:
                if self._refuses:
                    raise ConnectionRefusedError
                far = socket.create_connection((HERE, self.target))
            except OSError:
                reset(near)
                continue
            wire = _Wire((near, far))
            with self._lock:
                self._wires.add(wire)
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                pieces: Queue[tuple[float, bytes | None]] = Queue(_UNDER_WAY)
                _start(self._read, wire, one, pieces)
                _start(self._write, wire, other, pieces)

    def _read(self, wire: _Wire, stream: socket.socket, pieces: Queue[tuple[float, bytes | None]]) -> None:
        """Queue what comes with when it is due. An end is an empty piece, a reset is none."""
        data: bytes | None = b"x"
        while data:
            self._wait(wire)
            try:
                data = stream.recv(_PIECE)
            except OSError:
                data = None
            due = time.monotonic() + self._delay
            while not (self._swallows or wire.gone.is_set()):
                try:
                    pieces.put((due, data), timeout=0.1)
                    break
                except Full:
                    pass

    def _write(self, wire: _Wire, stream: socket.socket, pieces: Queue[tuple[float, bytes | None]]) -> None:
        """Pass on what is due, until the end."""
        with contextlib.suppress(OSError):
            while not wire.gone.is_set():
                try:
                    due, data = pieces.get(timeout=0.1)
                except Empty:
                    continue
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                self._wait(wire)
                if self._swallows:
                    continue
                if data is None:
                    wire.cut()  # so that a reset arrives as one
                elif not data:
                    stream.shutdown(socket.SHUT_WR)
                    return
                elif self._rate is not None:
                    self._trickle(stream, data)
                else:
                    stream.sendall(data)

    def _trickle(self, stream: socket.socket, data: bytes) -> None:
        step = 1024
        for at in range(0, len(data), step):
            if self._rate is not None:
                time.sleep(step / self._rate)
            stream.sendall(data[at : at + step])

    def _wait(self, wire: _Wire) -> None:
        while not (self._flows.wait(0.1) or wire.gone.is_set()):
            pass


def _start(work: object, *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()  # type: ignore[arg-type]
