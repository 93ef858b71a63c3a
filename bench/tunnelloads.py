"""
The load of C{bench.tunnel}: one target that does whatever a connection's first byte asks, and clients of it.

A tunnel leads to one port, so that one target has to do for all measurements. It and the clients are loops over
polled sockets which cost far less than a tunnel does, and what they measure is a span in the middle of a steady
state, not a number of bytes::

    received = multiprocessing.Value("Q", 0, lock=False)
    with child(target(received)) as (port, pid):
        rate = bulk((HERE, port), "download", 8, seconds=1.0, received=received).rate
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from .harness import HERE, MIB, child
from .loads import Counter

ECHO, SOURCE, SINK = b"e", b"d", b"u"
"""What a connection's first byte asks for. An echo begins with that byte."""

MESSAGE = 64
"""Bytes of an echo."""

_BLOCK = bytes(256 * 1024)
_STAMP = struct.Struct("!Q")
_TIMEOUT = 20.0


def target(received: Counter) -> Callable[[socket.socket], None]:
    """
    Serve every kind of connection, any number at once.

    @param received: counts the bytes that sinks took.
    """

    def serve(listener: socket.socket) -> None:
        poll = select.epoll()
        listener.setblocking(False)
        poll.register(listener, select.EPOLLIN)
        streams: dict[int, socket.socket] = {}
        kinds: dict[int, bytes] = {}
        buffer = bytearray(MIB)
        while True:
            for number, _ in poll.poll():
                if number == listener.fileno():
                    with suppress(BlockingIOError):
                        stream, _ = listener.accept()
                        stream.setblocking(False)
                        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        streams[stream.fileno()] = stream
                        poll.register(stream, select.EPOLLIN)
                    continue
                stream = streams[number]
                try:
                    kind = kinds.get(number)
                    if kind == SOURCE:
                        stream.send(_BLOCK)
                        continue
                    got = stream.recv_into(buffer)
                    if kind is None and got:
                        kind = kinds[number] = bytes(buffer[:1])
                        if kind == SOURCE:
                            poll.modify(stream, select.EPOLLOUT)
                    if kind == SINK:
                        received.value += got
                    elif kind == ECHO and got:
                        stream.send(memoryview(buffer)[:got])
                    if got:
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                streams.pop(number).close()
                kinds.pop(number, None)

    return serve


def datagramTarget(port: int, received: Counter) -> Callable[[socket.socket], None]:
    """
    Send every datagram to C{port} back, but for those that begin with C{SINK}.

    @param received: counts those.
    """

    def serve(listener: socket.socket) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * MIB)
            stream.bind((HERE, port))
            while True:
                data, source = stream.recvfrom(65536)
                if data[:1] == SINK:
                    received.value += 1
                else:
                    stream.sendto(data, source)

    return serve


def enter(address: tuple[str, int], kind: bytes) -> socket.socket:
    """Connect, and ask for something."""
    stream = socket.create_connection(address, _TIMEOUT)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(kind)
    return stream


def works(address: tuple[str, int]) -> bool:
    """Whether an echo comes back."""
    try:
        with enter(address, ECHO) as stream:
            stream.settimeout(1.0)
            return stream.recv(1) == ECHO
    except OSError:
        return False


def datagramWorks(address: tuple[str, int]) -> bool:
    """The same of a datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream, suppress(OSError):
        stream.settimeout(0.2)
        stream.sendto(ECHO, address)
        return stream.recv(16) == ECHO
    return False


@dataclass(frozen=True, slots=True)
class Bulk:
    """
    What was carried in the span.

    @ivar least: bytes of the stream that got least, for a download.
    """

    count: int
    seconds: float
    least: int

    @property
    def rate(self) -> float:
        """Bytes in each second."""
        return self.count / self.seconds


def bulk(
    address: tuple[str, int],
    direction: str,
    streams: int,
    *,
    warm: float,
    seconds: float,
    received: Counter,
    begun: Callable[[], None] = lambda: None,
) -> Bulk:
    """
    Carry all that goes on so many streams.

    @param direction: C{"download"} or C{"upload"}.
    @param warm: seconds before the span that counts.
    @param received: the target's.
    @param begun: called when the span begins.
    """
    upload = direction == "upload"
    counts: dict[int, int] = {}
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        open: dict[int, socket.socket] = {}
        for _ in range(streams):
            stream = stack.enter_context(enter(address, SINK if upload else SOURCE))
            stream.setblocking(False)
            open[stream.fileno()] = stream
            counts[stream.fileno()] = 0
            poll.register(stream, select.EPOLLOUT if upload else select.EPOLLIN)
        buffer = bytearray(MIB)
        start = time.perf_counter()
        edge, counting, first = start + warm, False, 0
        while (now := time.perf_counter()) < edge:
            ready = poll.poll(min(edge - now, _TIMEOUT))
            for number, _ in ready:
                with suppress(BlockingIOError):
                    if upload:
                        open[number].send(_BLOCK)
                    elif not (got := open[number].recv_into(buffer)):
                        raise ConnectionError("a download ended")
                    else:
                        counts[number] += got
            if not counting and time.perf_counter() >= edge:
                begun()
                counting, start, edge = True, time.perf_counter(), time.perf_counter() + seconds
                first = received.value
                counts = dict.fromkeys(counts, 0)
        took = time.perf_counter() - start
        total = received.value - first if upload else sum(counts.values())
        return Bulk(total, took, 0 if upload else min(counts.values()))


def echoTimes(address: tuple[str, int], seconds: float) -> list[float]:
    """Send 64 bytes and await them, again and again; return the microseconds of each, in order of size."""
    message = ECHO.ljust(MESSAGE, b"\0")
    times = []
    with enter(address, message) as stream:
        _receive(stream)
        start = time.perf_counter()
        while time.perf_counter() < start + seconds:
            begun = time.perf_counter_ns()
            stream.sendall(message)
            _receive(stream)
            times.append((time.perf_counter_ns() - begun) / 1000)
    tenth = len(times) // 10  # the first are to warm up
    return sorted(times[tenth:])


def _receive(stream: socket.socket) -> None:
    got = 0
    while got < MESSAGE:
        if not (piece := stream.recv(MESSAGE - got)):
            raise ConnectionError("an echo ended")
        got += len(piece)


def pacedEchoTimes(address: tuple[str, int], seconds: float, gap: float) -> list[float]:
    """
    Send 64 bytes at their times, whether or not earlier ones are back; return the microseconds of each, sorted.

    A message holds when it was due, so that what waits is counted with its waiting.
    """
    times: list[float] = []
    with enter(address, ECHO.ljust(MESSAGE, b"\0")) as stream:
        _receive(stream)
        stream.setblocking(False)
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        start, sent, kept = time.monotonic_ns(), 0, b""
        whole = int(seconds / gap)
        late = start + int((seconds + _TIMEOUT) * 1e9)
        while len(times) < whole:
            due = start + int(sent * gap * 1e9)
            now = time.monotonic_ns()
            if now > late:
                raise TimeoutError(f"{len(times)} of {whole} echoes came")
            if sent < whole and now >= due:
                stream.send(_STAMP.pack(due).ljust(MESSAGE, b"\0"))  # 64 bytes always fit, or it is stuck
                sent += 1
                continue
            wait = (due - now) / 1e6 if sent < whole else 1000.0
            if not poll.poll(wait):
                continue
            kept += stream.recv(65536)
            now = time.monotonic_ns()
            while len(kept) >= MESSAGE:
                times.append((now - _STAMP.unpack_from(kept)[0]) / 1000)
                kept = kept[MESSAGE:]
    return sorted(times)


@contextmanager
def drain(address: tuple[str, int], streams: int, received: Counter) -> Iterator[None]:
    """
    Download in a process of its own, for one C{with} block.

    @param received: counts.
    """

    def work(listener: socket.socket) -> None:
        poll, buffer = select.epoll(), bytearray(MIB)
        open = {}
        for _ in range(streams):
            stream = enter(address, SOURCE)
            open[stream.fileno()] = stream
            poll.register(stream, select.EPOLLIN)
        while True:
            for number, _ in poll.poll():
                if not (got := open[number].recv_into(buffer)):
                    return
                received.value += got

    with child(work):
        deadline = time.monotonic() + _TIMEOUT
        while not received.value:
            if time.monotonic() > deadline:
                raise TimeoutError("no download began")
            time.sleep(0.01)
        yield


@dataclass(frozen=True, slots=True)
class Datagrams:
    """What became of datagrams."""

    sent: int
    back: int
    seconds: float

    @property
    def lost(self) -> float:
        """Of a hundred."""
        return 100.0 * (self.sent - self.back) / self.sent if self.sent else 0.0


def datagramEchoes(address: tuple[str, int], size: int, under: int, seconds: float) -> Datagrams:
    """
    Keep C{under} datagrams under way. One that is not back after a fifth of a second is lost.
    """
    message = ECHO.ljust(size, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * MIB)
        stream.connect(address)
        stream.settimeout(0.2)
        sent = back = away = 0
        start = time.perf_counter()
        while (now := time.perf_counter()) < start + seconds or away:
            if now < start + seconds:
                while away < under:
                    stream.send(message)
                    sent += 1
                    away += 1
            try:
                stream.recv(65536)
                back += 1
                away = max(0, away - 1)
            except TimeoutError:
                away = 0
        return Datagrams(sent, back, time.perf_counter() - start)


def datagramsOneWay(address: tuple[str, int], size: int, rate: float, seconds: float, received: Counter) -> Datagrams:
    """Send so many each second, in step with the clock, and see how many the target counted."""
    message = SINK.ljust(size, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.connect(address)
        first = received.value
        start = time.perf_counter()
        sent, whole = 0, int(rate * seconds)
        while sent < whole:
            if (wait := start + sent / rate - time.perf_counter()) > 0:
                time.sleep(wait)
            stream.send(message)
            sent += 1
        took = time.perf_counter() - start
        last = -1
        while received.value != last:  # what is still under way comes, or is lost
            last = received.value
            time.sleep(0.25)
        return Datagrams(sent, last - first, took)
