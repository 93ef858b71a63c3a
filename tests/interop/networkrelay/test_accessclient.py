"""
C{access-client} as a shell runs it: pipes, ports, datagrams, and every way in which it can come to nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator

from tests.interop.networkrelay.relayed import RelayedTestCase, RunningRelay
from tests.interop.running import GATEWAY, start
from tests.processes import HERE, eventually, freePort, reset

MIB = 1024 * 1024


@contextlib.contextmanager
def origin(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A TCP port whose connections are served, each in a thread."""
    listener = socket.create_server((HERE, 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def toTheEnd(connection: socket.socket) -> bytes:
    """All that comes."""
    received = bytearray()
    while data := connection.recv(65536):
        received += data
    return bytes(received)


def reverse(connection: socket.socket) -> None:
    """Answer at the end, with all that came, backwards."""
    with connection:
        connection.sendall(toTheEnd(connection)[::-1])


def echo(connection: socket.socket) -> None:
    """Answer at once."""
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            connection.sendall(data)


def echoDatagrams(sock: socket.socket) -> None:
    """Answer each datagram with itself, in capital letters."""
    while True:
        try:
            data, address = sock.recvfrom(65536)
        except OSError:
            return
        if not data:
            return
        sock.sendto(data.upper(), address)


def framed(*datagrams: bytes) -> bytes:
    """Each with its length before it."""
    return b"".join(struct.pack("!H", len(each)) + each for each in datagrams)


class PipeTests(RelayedTestCase):
    """Standard input and output."""

    def setUp(self) -> None:
        super().setUp()
        self.running = self.relay()

    def test_everyByte(self) -> None:
        """Payload and nothing else goes through, after the end of input too; the status is 0."""
        self.attached(self.running)
        data = os.urandom(16 * MIB)
        with origin(reverse) as port:
            done = self.piped(self.access(self.running, port), data)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout == data[::-1])

    def test_names(self) -> None:
        """The target may be a name of the agent's own, and an IPv6 address."""
        self.attached(self.running)
        with origin(reverse) as port:
            command = self.access(self.running, port)
            command[2] = "localhost"
            self.assertEqual(self.piped(command, b"abc").stdout, b"cba")
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        with listener:
            threading.Thread(target=lambda: reverse(listener.accept()[0]), daemon=True).start()
            command = self.access(self.running, listener.getsockname()[1])
            command[2] = "::1"
            self.assertEqual(self.piped(command, b"abc").stdout, b"cba")

    def assertFails(self, done: subprocess.CompletedProcess[bytes], line: str) -> None:
        """It ended with status 1 and one line on standard error."""
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertRegex(done.stderr.decode(), rf"\Aaccess-client: error: {line}\n\Z")

    def test_errors(self) -> None:
        """Whatever is wrong is one line on standard error, and status 1."""
        command = self.access(self.running, 1)
        self.assertFails(self.piped(command), "Agent not registered")
        self.attached(self.running, "--allow", f"{HERE}:1-1023")
        self.assertFails(self.piped(command), r"The connection was refused\.")
        self.assertFails(self.piped(command, HTTP_NETWORK_RELAY_SECRET="wrong"), "Invalid access client secret")
        self.assertFails(self.piped(self.access(self.running, 1024)), f".*{HERE}.*1024.*")
        gone = RunningRelay(self.running.process, self.running._log, freePort())
        self.assertFails(self.piped(self.access(gone, 1)), r"The relay cannot be reached: The connection was refused\.")

    def test_tls(self) -> None:
        """By TLS, both ends believe the authority that they are told, and nobody else."""
        authority, certificate, key = self.credential(HERE)
        port = freePort()
        endpoint = f"ssl:{port}:privateKey={key}:certKey={certificate}:interface={HERE}"
        start(self, GATEWAY, "relay", "--listen", endpoint, "--to", f"tcp:{HERE}:{self.running.port}").awaitPort(port)
        secure = f"wss://{HERE}:{port}"
        agent = self.edgeAgent(self.running, "--ca", authority, url=f"{secure}/ws_for_edge_agents")
        agent.awaitEvent("agent.connected")
        with origin(reverse) as there:
            command = [*self.access(self.running, there)[:5], "--relay-url", f"{secure}/ws_for_access_clients"]
            self.assertEqual(self.piped([*command, "--ca", authority], b"abc").stdout, b"cba")
            self.assertFails(self.piped(command), "The relay cannot be reached: .*certificate.*")
        stranger = self.edgeAgent(self.running, url=f"{secure}/ws_for_edge_agents")
        self.assertIn("certificate", stranger.awaitEvent("agent.not-connected")["problem"])

    def test_notARelay(self) -> None:
        """A server that is none is told of."""

        def serve(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        with origin(serve) as port:
            other = RunningRelay(self.running.process, self.running._log, port)
            self.assertFails(self.piped(self.access(other, 1)), ".*The server answered 404 Not Found.*")

    def test_reset(self) -> None:
        """When the target breaks off the status is 1, as what came may not be the whole."""
        self.attached(self.running)

        def serve(connection: socket.socket) -> None:
            connection.sendall(b"a part")
            connection.recv(1)
            reset(connection)

        with origin(serve) as port:
            process = subprocess.Popen(
                self.access(self.running, port), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=self.environment(),
            )  # fmt: skip
            with process:
                assert process.stdout is not None
                self.assertEqual(process.stdout.read(6), b"a part")
                output, errors = process.communicate(b".", timeout=20)
        self.assertEqual((process.returncode, output), (1, b""))
        self.assertRegex(errors, rb"\Aaccess-client: error: the connection was broken off[^\n]*\n\Z")

    def test_readerLeaves(self) -> None:
        """When nobody reads standard output any more, the target is told, and nothing is said."""
        self.attached(self.running)
        ended = threading.Event()

        def serve(connection: socket.socket) -> None:
            try:
                while True:
                    connection.sendall(bytes(65536))
            except OSError:
                ended.set()

        with origin(serve) as port:
            process = subprocess.Popen(
                self.access(self.running, port), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=self.environment(),
            )  # fmt: skip
            assert process.stdout is not None and process.stderr is not None and process.stdin is not None
            process.stdout.read(100_000)
            process.stdout.close()
            self.assertTrue(ended.wait(20))
            self.assertEqual((process.wait(20), process.stderr.read()), (1, b""))
            process.stderr.close()
            process.stdin.close()

    def test_datagrams(self) -> None:
        """Datagrams go both ways, each with its length."""
        self.attached(self.running)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((HERE, 0))
            threading.Thread(target=echoDatagrams, args=(sock,), daemon=True).start()
            port = sock.getsockname()[1]
            process = subprocess.Popen(
                [*self.access(self.running, port)[:4], "udp", *self.access(self.running, port)[5:]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment(),
            )  # fmt: skip
            with process:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(framed(b"one", b"a" * 1200))
                process.stdin.flush()
                expected = framed(b"ONE", b"A" * 1200)
                self.assertEqual(process.stdout.read(len(expected)), expected)
                process.stdin.close()
                self.assertEqual(process.wait(20), 0)
            sock.sendto(b"", (HERE, port))


class ListenTests(RelayedTestCase):
    """C{--listen}."""

    def listening(self, relay: RunningRelay, port: int, protocol: str = "tcp") -> int:
        """Start a client that listens, and return where."""
        here = freePort(socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
        command = self.access(relay, port, "--listen", str(here), "--log-format", "json")
        command[4] = protocol
        self.client = start(self, *command, env=self.environment(), ended=self._inspect)
        self.client.awaitEvent("access-client.listening")
        return here

    def test_tcp(self) -> None:
        """As many as come are led to the target, all in one session; the end is status 0."""
        relay = self.relay()
        self.attached(relay)
        with origin(reverse) as port:
            here = self.listening(relay, port)
            connections = [socket.create_connection((HERE, here), 10.0) for _ in range(30)]
            for number, connection in enumerate(connections):
                connection.sendall(b"%d!" % number * 1000)
                connection.shutdown(socket.SHUT_WR)
            for number, connection in enumerate(connections):
                with connection:
                    self.assertEqual(toTheEnd(connection), (b"%d!" % number * 1000)[::-1])
        self.assertEqual(self.client.stop(), 0)

    def test_udp(self) -> None:
        """Each address that sends something has a conversation of its own."""
        relay = self.relay()
        self.attached(relay)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((HERE, 0))
            threading.Thread(target=echoDatagrams, args=(sock,), daemon=True).start()
            here = self.listening(relay, sock.getsockname()[1], "udp")
            visitors = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
            for number, visitor in enumerate(visitors):
                with visitor:
                    visitor.settimeout(10.0)
                    for size in (1, 500, 1400):
                        visitor.sendto(b"%d" % number + b"x" * size, (HERE, here))
                        self.assertEqual(visitor.recv(4096), b"%d" % number + b"X" * size)
            sock.sendto(b"", sock.getsockname())
        self.assertEqual(self.client.stop(), 0)

    def test_json(self) -> None:
        """Through a relay as http-network-relay's each connection has a WebSocket of its own."""
        relay = self.jsonRelay()
        self.attached(relay)
        with origin(echo) as port:
            here = self.listening(relay, port)
            connections = [socket.create_connection((HERE, here), 10.0) for _ in range(5)]
            for number, connection in enumerate(connections):
                connection.settimeout(10.0)
                connection.sendall(b"%d" % number)
                self.assertEqual(connection.recv(10), b"%d" % number)
                connection.close()

    def test_relayRestarts(self) -> None:
        """A relay that was away is used again as soon as it is back."""
        relay = self.relay()
        agent = self.attached(relay)
        with origin(echo) as port:
            here = self.listening(relay, port)
            self.assertTrue(self.speaks(here))
            relay.process.kill()
            relay.process.wait()
            self.assertFalse(self.speaks(here))
            self.relay(relay.port)
            self.assertTrue(eventually(lambda: len(agent.events("agent.connected")) == 2))
            self.assertTrue(self.speaks(here))

    def speaks(self, here: int) -> bool:
        """Whether the target is there."""
        try:
            with socket.create_connection((HERE, here), 10.0) as connection:
                connection.settimeout(10.0)
                connection.sendall(b"hello")
                return connection.recv(5) == b"hello"
        except OSError:
            return False

    def test_taken(self) -> None:
        """A port that cannot be had ends it, with a line that says so."""
        relay = self.relay()
        with socket.create_server((HERE, 0)) as taken:
            command = self.access(relay, 1, "--listen", f"{HERE}:{taken.getsockname()[1]}")
            done = self.piped(command)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"access-client: error: Couldn't listen on", done.stderr)


class JsonTests(RelayedTestCase):
    """With parts as http-network-relay's."""

    def test_end(self) -> None:
        """The end of what the target sends is the end, with status 0, whichever part is theirs."""
        relay, other = self.relay(), self.jsonRelay()
        self.jsonAgent(relay)
        self.attached(other)

        def serve(connection: socket.socket) -> None:
            with connection:
                connection.recv(5)
                connection.sendall(b"b" * 100_000)

        with origin(serve) as port:
            for each in (relay, other):
                done = self.piped(self.access(each, port), b"hello")
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertEqual(done.stdout, b"b" * 100_000)

    def test_theirClient(self) -> None:
        """A client of theirs reaches a target behind our agent, and hears of its end."""
        relay = self.relay()
        self.attached(relay)

        def serve(connection: socket.socket) -> None:
            with connection:
                connection.recv(5)
                connection.sendall(b"b" * 100_000)

        with origin(serve) as port:
            done = self.piped(self.jsonAccess(relay, port), b"hello")
        self.assertEqual((done.stdout, done.stderr), (b"b" * 100_000, b""))

    def test_errors(self) -> None:
        """What their relay and their agent say of a connection that could not be is told."""
        relay, other = self.relay(), self.jsonRelay()
        done = self.piped(self.access(other, 1))
        self.assertEqual((done.returncode, done.stderr), (1, b"access-client: error: Agent not registered\n"))
        self.attached(other)
        self.jsonAgent(relay)
        for each in (relay, other):
            done = self.piped(self.access(each, 1))
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rb"\Aaccess-client: error: [^\n]*([Rr]efused|Connect call failed)[^\n]*\n\Z")

    def test_secret(self) -> None:
        """An agent with a wrong secret is sent away, says so, and tries again."""
        relay = self.jsonRelay()
        agent = self.edgeAgent(relay, secret="wrong")
        self.assertIn("sent the agent away", agent.awaitEvent("agent.not-connected")["problem"])
        self.assertTrue(eventually(lambda: len(agent.events("agent.not-connected")) >= 2))
        self.assertEqual(agent.stop(), 0)
        agent.awaitEvent("agent.stopped")
