"""
The load of C{bench.http}: closed loops made by wrk and h2load, and an open loop of our own, which is not blind while it
waits.

In a closed loop a connection asks again when it has its answer: it says how much goes. In an open loop requests come
at their times, as those of many visitors do, whatever became of the ones before; how long one takes counts from the
time at which it was due::

    rate = closedLoop(url, connections=32, seconds=2).rate
    times = openLoop(("127.0.0.1", port), "/1024", rate=rate / 2, connections=32, seconds=2.0)
"""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from .harness import HERE
from .tunnels import programPath

_TIMEOUT = 20.0

_SCRIPT = """
done = function(summary, latency, requests)
    local errors = 0
    for _, count in pairs(summary.errors) do errors = errors + count end
    io.write(string.format('{"count": %d, "octets": %d, "microseconds": %d, "errors": %d}\\n',
        summary.requests, summary.bytes, summary.duration, errors))
end
"""


@dataclass(frozen=True, slots=True)
class Closed:
    """
    What a closed loop did.

    @ivar octets: received, heads included.
    @ivar errors: connections that broke, timeouts, and answers other than 2xx and 3xx.
    """

    count: int
    octets: int
    seconds: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests in each second."""
        return self.count / self.seconds


def closedLoop(url: str, connections: int, seconds: int, *, reuse: bool = True) -> Closed:
    """
    Ask for something as often as it is answered, with wrk.

    @param seconds: whole ones, as wrk wants them.
    @param reuse: ask again on the same connection; otherwise each request makes its own.
    @raise RuntimeError: wrk failed, or nothing was answered.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT)
        script.flush()
        command = [
            programPath("wrk"),
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "10s",
            "-s",
            script.name,
        ]
        if not reuse:
            command += ["-H", "Connection: close"]
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + 60)
    line = done.stdout.rstrip().rpartition("\n")[2]
    if done.returncode or not line.startswith("{"):
        raise RuntimeError(f"wrk: {done.stdout[-500:]} {done.stderr[-500:]}")
    got = json.loads(line)
    closed = Closed(got["count"], got["octets"], got["microseconds"] / 1e6, got["errors"])
    if not closed.count:
        raise RuntimeError(f"nothing was answered, {closed.errors} errors")
    return closed


def closedLoop2(url: str, connections: int, streams: int, seconds: int) -> Closed:
    """
    The same in HTTP/2, with h2load, so many requests at a time on each connection.

    @raise RuntimeError: h2load failed, or nothing was answered.
    """
    command = [programPath("h2load"), "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    counts = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$", done.stdout, re.MULTILINE)
    octets = re.search(r"^traffic: .*\((\d+)\) total", done.stdout, re.MULTILINE)
    if done.returncode or "Application protocol: h2" not in done.stdout or not counts or not octets:
        raise RuntimeError(f"h2load: {done.stdout[-500:]} {done.stderr[-500:]}")
    good, *bad = map(int, counts.groups())
    if not good:
        raise RuntimeError("nothing was answered")
    return Closed(good, int(octets[1]), float(seconds), sum(bad))


@dataclass(slots=True)
class _Asker:
    """A connection that asks for one thing at a time."""

    stream: socket.socket
    due: float = 0.0
    missing: int = -1
    head: bytes = b""

    def received(self, data: bytes) -> bool:
        """Whether the answer is whole."""
        if self.missing < 0:
            self.head += data
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return False
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"an answer: {head[:200]!r}")
            self.missing = _length(head) - len(body)
            self.head = b""
        else:
            self.missing -= len(data)
        if self.missing > 0:
            return False
        self.missing = -1
        return True


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError(f"an answer without a length: {head[:300]!r}")


def openLoop(
    port: int, name: str, path: str, *, rate: float, connections: int, seconds: float, secure: bool = False
) -> list[float]:
    """
    Ask for something at fixed times; return the microseconds of each, in order of size.

    A request waits for a connection that is idle, and that wait is counted, too.

    @param name: the host that is asked for.
    @raise TimeoutError: so much was asked that the answers stay away.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode()
    times: list[float] = []
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        askers: dict[int, _Asker] = {}
        for _ in range(connections):
            stream = stack.enter_context(_enter(port, name, secure))
            askers[stream.fileno()] = _Asker(stream)
            poll.register(stream, select.EPOLLIN)
        idle = deque(askers.values())
        gap, whole = 1.0 / rate, int(rate * seconds)
        asked = 0
        start = time.perf_counter()
        late = start + seconds + _TIMEOUT
        while len(times) < whole:
            now = time.perf_counter()
            while idle and asked < whole and (due := start + asked * gap) <= now:
                asker = idle.popleft()
                asker.due = due
                asker.stream.send(request)  # so little always fits
                asked += 1
            if now > late:
                raise TimeoutError(f"{len(times)} of {whole} requests were answered")
            wait = start + asked * gap - now if idle and asked < whole else 1.0
            select.select((poll,), (), (), max(0.0, wait))  # epoll's own wait is whole milliseconds
            for number, _ in poll.poll(0):
                asker = askers[number]
                with suppress(BlockingIOError, ssl.SSLWantReadError):
                    while True:
                        data = asker.stream.recv(65536)
                        if not data:
                            raise ConnectionError("a connection ended")
                        if asker.received(data):
                            times.append((time.perf_counter() - asker.due) * 1e6)
                            idle.append(asker)
                            break
    return sorted(times)


SLOW = {
    "heads": ("-H", "-i", "5"),
    "bodies": ("-B", "-t", "PUT", "-i", "5", "-s", "100000"),
    "readers": ("-X", "-n", "5", "-z", "1", "-w", "1", "-y", "2"),
}
"""Ways to be slow, as slowhttptest is told."""


@contextmanager
def slowVisitors(url: str, kind: str, count: int, held: Callable[[], int]) -> Iterator[None]:
    """
    Hold so many connections by being slow, for one C{with} block.

    @param kind: one of L{SLOW}.
    @param held: how many descriptors the one who suffers has open.
    @raise TimeoutError: so many would not stay.
    """
    _awaitThat("earlier ones are gone", lambda: held() < count // 10)
    command = [programPath("slowhttptest"), *SLOW[kind], "-c", str(count), "-r", str(count), "-l", "120", "-u", url]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            _awaitThat(f"slow {kind} are there", lambda: held() >= count)
            yield
        finally:
            process.kill()


def _awaitThat(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not yet after {_TIMEOUT:.0f} s: {what}")
        time.sleep(0.05)


def _enter(port: int, name: str, secure: bool) -> socket.socket:
    stream = socket.create_connection((HERE, port), _TIMEOUT)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if secure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        stream = context.wrap_socket(stream, server_hostname=name)
    stream.setblocking(False)
    return stream
