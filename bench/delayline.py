"""
A line that takes its time: a TCP proxy that delivers everything a fixed delay later than it came.

Loopback has no distance, but how much of a fast line a protocol fills depends on the round trip. Each direction of
a connection has two threads, one that reads and one that writes, with the pieces that are under way between them. A
thread mostly waits or copies in the kernel, so that the line carries some hundred MB a second, and waits for a piece
to the tenth of a millisecond, which a poll does not::

    with child(delayLine(("127.0.0.1", 40123), 0.020)) as (port, _):   # 40 ms there and back
        stream = socket.create_connection(("127.0.0.1", port))

There is no loss and no limit of rate, other than that L{UNDER_WAY} bytes fill the line.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from threading import Thread

_PIECE = 128 * 1024

UNDER_WAY = 512 * _PIECE
"""Bytes that a direction holds at most, if they come in whole pieces."""


def delayLine(target: tuple[str, int], delay: float) -> Callable[[socket.socket], None]:
    """
    @param target: where each connection leads.
    @param delay: seconds, in each direction.
    @return: serves a listening socket forever, as L{bench.harness.child} wants it.
    """

    def serve(listener: socket.socket) -> None:
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection(target)
            except OSError:
                near.close()
                continue
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pieces: Queue[tuple[float, bytes]] = Queue(UNDER_WAY // _PIECE)
                Thread(target=_read, args=(one, pieces, delay), daemon=True).start()
                Thread(target=_write, args=(other, pieces), daemon=True).start()

    return serve


def _read(stream: socket.socket, pieces: Queue[tuple[float, bytes]], delay: float) -> None:
    """Put what comes with when it is due; an end, or a reset, is an empty piece."""
    data = b"x"
    while data:
        try:
            data = stream.recv(_PIECE)
        except OSError:
            data = b""
        pieces.put((time.monotonic() + delay, data))


def _write(stream: socket.socket, pieces: Queue[tuple[float, bytes]]) -> None:
    """Write what is due, until the end."""
    with suppress(OSError):  # who does not take it any more will end the other direction, too
        while True:
            due, data = pieces.get()
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            if not data:
                break
            stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
