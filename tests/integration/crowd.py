"""
Many visitors at once, and an origin that echoes: what a fault in a tunnel is, or is not, to be felt by.

Visitors are sockets in one loop. They do nothing by themselves; in a turn each says something of its own and has to
hear exactly that::

    with Echo() as origin, Crowd(publicPort, 200) as crowd:
        crowd.turn()                       # raises unless all of them heard it
        with crowd.busy():                 # turn after turn in the background
            line.cut()
        crowd.ends                         # by visitor: "end" or "reset"
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tests.processes import HERE, SECONDS, reset

__all__ = ["Crowd", "Echo"]

_AT_ONCE = 50
"""Visitors that connect together."""


class Echo:
    """
    An origin for any number of connections.

    @ivar port: where it is; the same again after L{start}.
    @ivar resets: whether it resets each connection once something came.
    """

    def __init__(self) -> None:
        self.port = 0
        self.resets = False
        self._listener: socket.socket | None = None
        self._wake = socket.socketpair()
        self._thread: threading.Thread | None = None
        self.start()

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
        for each in self._wake:
            each.close()

    def start(self) -> None:
        """Be there, again."""
        self._listener = socket.create_server((HERE, self.port), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be gone, and reset all connections."""
        if self._thread is not None:
            self._wake[0].send(b"x")
            self._thread.join(SECONDS)
            self._thread = None

    def _serve(self, listener: socket.socket) -> None:
        wake = self._wake[1]
        streams: dict[int, socket.socket] = {}
        with select.epoll() as poll, listener:
            listener.setblocking(False)
            poll.register(listener, select.EPOLLIN)
            poll.register(wake, select.EPOLLIN)
            while True:
                for number, _ in poll.poll():
                    if number == wake.fileno():
                        wake.recv(1)
                        for each in streams.values():
                            reset(each)
                        return
                    if number == listener.fileno():
                        with contextlib.suppress(OSError):
                            stream, _ = listener.accept()
                            streams[stream.fileno()] = stream
                            poll.register(stream, select.EPOLLIN)
                        continue
                    stream, data = streams[number], b""
                    with contextlib.suppress(OSError):
                        data = stream.recv(65536)
                        if data and not self.resets:
                            stream.sendall(data)
                            continue
                    del streams[number]
                    poll.unregister(number)
                    if data:
                        reset(stream)
                    else:
                        stream.close()


class Crowd:
    """
    @param port: where they all go.
    @ivar ends: of those whose connection is over, how: C{"end"} or C{"reset"}.
    """

    def __init__(self, port: int, count: int) -> None:
        self.ends: dict[int, str] = {}
        self._said = 0
        self._streams: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        for first in range(0, count, _AT_ONCE):
            for number in range(first, min(first + _AT_ONCE, count)):
                source = (f"127.0.{number // 200 + 1}.{number % 200 + 1}", 0)
                stream = socket.create_connection((HERE, port), SECONDS, source)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream.setblocking(False)
                self._streams[number] = stream
            self.turn()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.leave()

    def __len__(self) -> int:
        return len(self._streams)

    def leave(self) -> None:
        """All go."""
        with self._lock:
            for each in self._streams.values():
                each.close()
            self._streams.clear()

    def turn(self, seconds: float = SECONDS) -> float:
        """
        Let each one that is still here say something and hear it, or learn that its connection is over.

        @return: the seconds that it took.
        @raise AssertionError: some heard nothing in time, or something else.
        """
        with self._lock:
            return self._turn(seconds)

    def _turn(self, seconds: float) -> float:
        self._said += 1
        begun = time.monotonic()
        awaited: dict[int, tuple[int, bytes]] = {}
        with select.epoll() as poll:
            for number, stream in list(self._streams.items()):
                message = b"%d says %d; " % (number, self._said) * 5
                awaited[stream.fileno()] = (number, message)
                poll.register(stream, select.EPOLLIN)
                try:
                    stream.send(message)
                except OSError as e:
                    self._over(awaited, stream.fileno(), e)
            while awaited:
                ready = poll.poll(max(0.0, begun + seconds - time.monotonic()))
                if not ready:
                    raise AssertionError(f"{len(awaited)} of {len(self)} visitors heard nothing in {seconds:g} seconds")
                for descriptor, _ in ready:
                    number, message = awaited[descriptor]
                    try:
                        heard = self._streams[number].recv(len(message))
                    except OSError as e:
                        self._over(awaited, descriptor, e)
                        continue
                    if not heard:
                        self._over(awaited, descriptor, None)
                        continue
                    if not message.startswith(heard):
                        raise AssertionError(f"{message!r} came back as {heard!r}")
                    awaited[descriptor] = number, message[len(heard) :]
                    if len(heard) == len(message):
                        del awaited[descriptor]
                        poll.unregister(descriptor)
        return time.monotonic() - begun

    def _over(self, awaited: dict[int, tuple[int, bytes]], descriptor: int, error: OSError | None) -> None:
        number, _ = awaited.pop(descriptor)
        self.ends[number] = "end" if error is None else "reset"
        self._streams.pop(number).close()

    @contextmanager
    def busy(self, pause: float = 0.05) -> Iterator[None]:
        """
        Turn after turn, for one C{with} block.

        @raise AssertionError: as of L{turn}, at its end.
        """
        over = threading.Event()
        errors: list[BaseException] = []

        def work() -> None:
            try:
                while not over.wait(pause):
                    self.turn()
            except BaseException as e:
                errors.append(e)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(2 * SECONDS)
        if errors:
            raise errors[0]
