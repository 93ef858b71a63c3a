"""
A real gateway as a process, with everything around it that can go wrong, and what must hold whatever did.

Each test gets a gateway of its own, sockets that are closed behind it, and a hard deadline. And after each test, in
one place: the gateway holds no more descriptors than before, counts nobody, serves a new visitor, ends when asked, and
has no traceback in its log::

    class ResetTests(FaultTestCase):
        def test_reset(self) -> None:
            gateway = self.start()
            client, target = self.session(gateway)
            reset(target)
            self.assertEqual(self.farewell(client), "connection-reset")
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection

from tests.interop.gateways import OURS, Gateway, start
from tests.interop.rawwebsocket import BINARY, CLOSE, TEXT, ConnectionLost, Frame, NothingCame, RawWebSocket
from tests.processes import HERE, DeadlineTestCase, eventually, freePort

MIB = 1024 * 1024
FLOOD = 64 * MIB
MOST = 16 * MIB
"""Bytes by which a gateway may grow when 64 MiB are pushed at it and nobody reads them."""

PATIENCE = 10.0
"""Seconds that anything which should happen at once may take on a busy machine."""

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def control(kind: str, **fields: object) -> str:
    """Return a control message of the Tabby protocol."""
    return json.dumps({"_": kind, **fields})


@dataclass(slots=True)
class Watched:
    """
    A gateway and its figures, from C{/proc} and C{/metrics}.

    @ivar descriptors: how many it had when it was idle.
    @ivar tls: what clients of it need, if it is a TLS gateway.
    """

    gateway: Gateway
    metricsPort: int
    tls: ssl.SSLContext | None = None
    descriptors: int = field(default=0, init=False)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return self.gateway.address

    @property
    def pid(self) -> int:
        """The process."""
        return self.gateway.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.gateway.process.poll() is None

    def openDescriptors(self) -> int:
        """Count the process's descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def settledDescriptors(self) -> int:
        """Count them once the connection that last asked for the metrics is gone."""
        counts = [self.openDescriptors(), -1]

        def isSteady() -> bool:
            counts.append(self.openDescriptors())
            return len(set(counts[-5:])) == 1

        eventually(isSteady)
        return counts[-1]

    def residentBytes(self) -> int:
        """Return the process's resident memory."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpuSeconds(self) -> float:
        """Return the time that the process has computed."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS

    def metric(self, name: str) -> float:
        """Return the value of a metric; C{name} is without our prefix and with its labels."""
        connection = HTTPConnection(HERE, self.metricsPort, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"txgateway_{name} "))

    def isIdle(self) -> bool:
        """Whether nobody is counted as connected."""
        return self.metric("connections_open") == self.metric("visitors") == 0

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the events of one name from the log."""
        lines = (json.loads(line) for line in self.gateway.log().splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == name]


class FaultTestCase(DeadlineTestCase):
    """
    A test that may do anything to a gateway, with what must hold afterwards. See the module's text.

    """

    def setUp(self) -> None:
        super().setUp()
        self.sockets: list[socket.socket] = []

    def _inspect(self, gateway: Watched) -> None:
        """Let go of everything, and see that the gateway does too."""
        for each in self.sockets:
            each.close()
        if gateway.alive:
            self.assertSettles(gateway)
            self.assertServes(gateway)
            gateway.gateway.process.terminate()
        self.assertEqual(gateway.gateway.process.wait(PATIENCE), 0)
        defects = [line for line in gateway.gateway.log().splitlines() if "Traceback" in line or "Unhandled" in line]
        self.assertEqual(defects[:3], [])

    # -- Starting and keeping

    def start(self, *options: str, tls: ssl.SSLContext | None = None) -> Watched:
        """
        Start a gateway to which everybody may come, with short times.

        @param options: come last, so they win.
        @param tls: what clients need when C{options} name a certificate.
        """
        metricsPort = freePort()
        usual = ["--no-auth", "--allow", "127.0.0.0/8", "--drain", "1", "--handshake-timeout", "2"]
        usual += ["--connect-timeout", "1", "--metrics-listen", f"tcp:{metricsPort}:interface={HERE}"]
        process = start(OURS, [*usual, *options])
        self.addCleanup(process.stop)
        gateway = Watched(process, metricsPort, tls)
        self.assertServes(gateway)
        self.assertTrue(eventually(gateway.isIdle))
        gateway.descriptors = gateway.settledDescriptors()
        self.addCleanup(self._inspect, gateway)
        return gateway

    def keep(self, each: socket.socket) -> socket.socket:
        """Close a socket after the test."""
        each.settimeout(PATIENCE)
        self.sockets.append(each)
        return each

    def listener(self, backlog: int = 128) -> socket.socket:
        """A target: a socket that listens, and accepts when the test says so."""
        return self.keep(socket.create_server((HERE, 0), backlog=backlog))

    def accept(self, listener: socket.socket) -> socket.socket:
        """Accept one connection."""
        return self.keep(listener.accept()[0])

    def plain(self, gateway: Watched) -> socket.socket:
        """A TCP connection to the gateway."""
        return self.keep(socket.create_connection(gateway.address, PATIENCE))

    def client(self, gateway: Watched) -> RawWebSocket:
        """A WebSocket that nothing was sent on yet; the gateway's hello was read."""
        client = RawWebSocket.connect(gateway.address, tls=gateway.tls)
        self.keep(client.socket)
        self.assertEqual(self.message(client)["_"], "hello")
        return client

    def greeted(self, gateway: Watched) -> RawWebSocket:
        """A client that was let in."""
        client = self.client(gateway)
        client.sendText(control("hello", version=1))
        self.assertEqual(self.message(client)["_"], "ready")
        return client

    def asking(self, gateway: Watched, port: int) -> RawWebSocket:
        """A client that has asked for a target, and has no answer yet."""
        client = self.greeted(gateway)
        client.sendText(control("connect", host=HERE, port=port))
        return client

    def session(self, gateway: Watched) -> tuple[RawWebSocket, socket.socket]:
        """A client, and the target that it is connected to."""
        listener = self.listener()
        client = self.asking(gateway, listener.getsockname()[1])
        target = self.accept(listener)
        listener.close()
        self.assertEqual(self.message(client)["_"], "connected")
        return client, target

    def inBackground(self, work: Callable[[], object]) -> threading.Thread:
        """Run blocking work in a thread, which ends when the socket that it is about does."""

        def run() -> None:
            with contextlib.suppress(OSError, ConnectionLost, NothingCame):
                work()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def flood(self, connection: socket.socket, piece: bytes, times: int | None = FLOOD // MIB) -> threading.Thread:
        """Send a piece again and again, C{None}: without end, as fast as it is taken."""

        def send() -> None:
            for _ in itertools.count() if times is None else range(times):
                connection.sendall(piece)

        return self.inBackground(send)

    # -- Looking

    def message(self, client: RawWebSocket) -> dict[str, object]:
        """Return the next control message."""
        frame = client.receive(PATIENCE)
        self.assertEqual(frame.opcode, TEXT, frame)
        message: dict[str, object] = json.loads(frame.payload)
        return message

    def lastFrames(self, client: RawWebSocket, seconds: float = PATIENCE) -> list[Frame]:
        """
        Return all frames until the gateway's Close frame, which is the last, or until TCP ends.

        @raise NothingCame: it does not end.
        """
        frames: list[Frame] = []
        deadline = time.monotonic() + seconds
        try:
            while not frames or frames[-1].opcode != CLOSE:
                frames.append(client.receive(max(0.0, deadline - time.monotonic())))
        except ConnectionLost:
            pass
        else:
            with contextlib.suppress(ConnectionLost):
                client.sendFrame(CLOSE, frames[-1].payload[:2])
        return frames

    def farewell(self, client: RawWebSocket, seconds: float = PATIENCE) -> tuple[str, bytes]:
        """
        Return the code of the error with which the gateway ends a conversation, and the payload before it.

        The error must have words for the person, and a proper Close must follow.
        """
        *data, error, close = self.lastFrames(client, seconds)
        self.assertEqual((error.opcode, close.opcode, close.payload), (TEXT, CLOSE, struct.pack("!H", 1000)))
        message = json.loads(error.payload)
        self.assertEqual(message["_"], "error")
        self.assertTrue(message["details"])
        return message["code"], b"".join(frame.payload for frame in data if frame.opcode in (BINARY, 0))

    def assertEnds(self, connection: socket.socket, seconds: float = PATIENCE, what: str = "connection") -> bytes:
        """Read a connection to its end, clean or not, which must come in time; return what came."""
        received = bytearray()
        deadline = time.monotonic() + seconds
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while True:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                try:
                    data = connection.recv(65536)
                except TimeoutError:
                    self.fail(f"{what} still open after {seconds} seconds")
                if not data:
                    break
                received += data
        return bytes(received)

    def assertServes(self, gateway: Watched) -> None:
        """A new visitor gets a session that carries bytes both ways and closes."""
        client, target = self.session(gateway)
        client.sendBinary(b"up")
        self.assertEqual(target.recv(2), b"up")
        target.sendall(b"down")
        self.assertEqual(client.receive(PATIENCE).payload, b"down")
        client.sendClose()
        self.assertEnds(client.socket)
        client.drop()
        self.assertEnds(target)

    def assertSettles(self, gateway: Watched) -> None:
        """Nobody is left inside, and no descriptor."""
        self.assertTrue(eventually(gateway.isIdle), "somebody is still counted")
        settled = eventually(lambda: gateway.openDescriptors() <= gateway.descriptors)
        self.assertTrue(settled, f"{gateway.openDescriptors()} descriptors, {gateway.descriptors} at the start")

    def assertBounded(self, gateway: Watched, before: int) -> None:
        """While nobody reads, the gateway's memory stays what it was before, but for buffers."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            self.assertLess(gateway.residentBytes() - before, MOST)
            time.sleep(0.02)

    def assertFloodIsHeldBack(self, gateway: Watched) -> None:
        """A target pushes 64 MiB at a client that does not read: they wait at the target, and come once it does."""
        client, target = self.session(gateway)
        before = gateway.residentBytes()
        sender = self.flood(target, bytes(MIB))
        self.assertBounded(gateway, before)
        self.assertTrue(sender.is_alive(), "nothing held the target back")
        received = 0
        while received < FLOOD:
            received += len(client.receive(PATIENCE).payload)
        self.assertEqual(received, FLOOD)
        self.assertLess(gateway.residentBytes() - before, MOST)
