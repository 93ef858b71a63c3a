"""
Tests for C{gateway relay} with standard input and output at one end: as in a shell, and as ssh's ProxyCommand.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.relays import GATEWAY, LOCAL, digest, exactly, origin, relaying, toTheEnd
from tests.interop.openssh import startSSHD
from tests.interop.running import program
from tests.processes import HERE, SECONDS, freePort, reset

MIB = 1024 * 1024
UP = os.urandom(MIB)
DOWN = os.urandom(MIB)


def connected(port: int) -> socket.socket:
    """A connection to somebody who may not listen yet, and says nothing when it does."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection((HERE, port), SECONDS)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class StandardIOTests(SynchronousTestCase):
    """C{stdio:}, as ssh and shells use it."""

    def pipe(self, to: str, data: bytes = b"", *options: str) -> subprocess.CompletedProcess[bytes]:
        """Relay what a shell would pipe in."""
        command = [GATEWAY, "relay", "--listen", "stdio:", "--to", to, *options]
        return subprocess.run(command, input=data, capture_output=True, timeout=SECONDS)

    def test_everyByte(self) -> None:
        """Payload and nothing else goes through, after the end of input too; the status is 0."""

        def serve(connection: socket.socket) -> str:
            up = toTheEnd(connection)
            connection.sendall(DOWN)
            return digest(up)

        with origin(serve) as (port, results):
            done = self.pipe(f"tcp:{HERE}:{port}", UP)
            self.assertEqual((done.returncode, done.stderr, digest(done.stdout)), (0, b"", digest(DOWN)))
            self.assertEqual(results.get(timeout=SECONDS), digest(UP))

    def test_largeOutputOnYamux(self) -> None:
        """The process does not end before what it sent on a stream is with the peer."""

        def serve(connection: socket.socket) -> str:
            connection.shutdown(socket.SHUT_WR)
            return digest(toTheEnd(connection))

        with (
            origin(serve) as (port, results),
            relaying(f"yamux:{LOCAL}", f"tcp:{HERE}:{port}") as relay,
        ):
            done = self.pipe(f"yamux:tcp:{HERE}:{relay.port}", UP * 8)
            self.assertEqual((done.returncode, done.stderr, done.stdout), (0, b"", b""))
            self.assertEqual(results.get(timeout=SECONDS), digest(UP * 8))

    def test_nobodyThere(self) -> None:
        """When nobody can be connected to, the status is 1 and standard error has one line that says why."""
        for to in (f"tcp:{HERE}:1", f"ws://{HERE}:1/", f"yamux:tcp:{HERE}:1"):
            with self.subTest(to):
                done = self.pipe(to)
                self.assertEqual((done.returncode, done.stdout), (1, b""))
                self.assertRegex(done.stderr, rb"\A[^\n]*: The connection was refused.\n\Z")

    def test_reset(self) -> None:
        """When the far side breaks off, the status is 1, as what came may not be the whole."""

        def serve(connection: socket.socket) -> None:
            connection.sendall(b"a part")
            exactly(connection, 1)
            reset(connection)

        with origin(serve) as (port, _):
            process = subprocess.Popen(
                [GATEWAY, "relay", "--listen", "stdio:", "--to", f"tcp:{HERE}:{port}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with process:
                assert process.stdout is not None
                self.assertEqual(process.stdout.read(6), b"a part")
                output, errors = process.communicate(b".", timeout=SECONDS)
            self.assertEqual((process.returncode, output), (1, b""))
            self.assertRegex(errors, rb"\A[^\n]*the far side broke off\n\Z")

    def test_readerLeaves(self) -> None:
        """When nobody reads standard output any more, the far side is broken off, even if it says nothing."""

        def serve(connection: socket.socket) -> bytes:
            connection.sendall(b".")
            return toTheEnd(connection)

        with origin(serve) as (port, results):
            process = subprocess.Popen(
                [GATEWAY, "relay", "--listen", "stdio:", "--to", f"tcp:{HERE}:{port}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with process:
                assert process.stdin is not None and process.stdout is not None
                process.stdout.read(1)
                process.stdout.close()
                self.assertIsInstance(results.get(timeout=SECONDS), ConnectionResetError)
                self.assertEqual(process.wait(SECONDS), 1)
                assert process.stderr is not None
                self.assertEqual(process.stderr.read(), b"")

    def test_jsonLine(self) -> None:
        """With --log-format json the one line is JSON."""
        done = self.pipe(f"tcp:{HERE}:1", b"", "--log-format", "json")
        self.assertEqual(json.loads(done.stderr)["event"], "relay.failed")

    def test_files(self) -> None:
        """Standard input and output may be files."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "in").write_bytes(UP)
        with (
            origin(lambda connection: connection.sendall(toTheEnd(connection))) as (port, _),
            (directory / "in").open("rb") as stdin,
            (directory / "out").open("wb") as stdout,
        ):
            command = [GATEWAY, "relay", "--listen", "stdio:", "--to", f"tcp:{HERE}:{port}"]
            done = subprocess.run(command, stdin=stdin, stdout=stdout, timeout=SECONDS)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(digest((directory / "out").read_bytes()), digest(UP))

    def test_socket(self) -> None:
        """Standard input and output may be one socket, of which each direction ends alone."""
        ours, theirs = socket.socketpair()
        with origin(lambda connection: connection.sendall(toTheEnd(connection))) as (port, _), ours:
            command = [GATEWAY, "relay", "--listen", "stdio:", "--to", f"tcp:{HERE}:{port}"]
            with theirs, subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
                theirs.close()
                ours.settimeout(SECONDS)
                ours.sendall(UP[:50_000])
                ours.shutdown(socket.SHUT_WR)
                self.assertEqual(digest(toTheEnd(ours)), digest(UP[:50_000]))
                self.assertEqual(process.wait(SECONDS), 0)

    def test_asFarSide(self) -> None:
        """C{--to stdio:} serves one visitor and ends with it."""
        command = [GATEWAY, "relay", "--listen", LOCAL, "--to", "stdio:"]
        listening = freePort()
        command[3] = f"tcp:{listening}:interface={HERE}"
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            with connected(listening) as visitor:
                visitor.sendall(b"question")
                visitor.shutdown(socket.SHUT_WR)
                output, _ = process.communicate(b"answer", timeout=SECONDS)
                self.assertEqual((toTheEnd(visitor), output), (b"answer", b"question"))
            self.assertEqual(process.returncode, 0)

    def test_closedOutput(self) -> None:
        """Without standard output there is nothing to relay to: status 2, and one line that says so."""
        command = f"exec {GATEWAY} relay --listen stdio: --to tcp:{HERE}:1 >&-"
        done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, timeout=SECONDS)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, rb"\Arelay: error: standard input and output [^\n]*\n\Z")


class CommandLineTests(SynchronousTestCase):
    """What is wrong with a command line."""

    def test_oneLine(self) -> None:
        """It is told in one line that names the option; the status is 2."""
        for listen, to, option in (
            ("nonsense:1", "tcp:127.0.0.1:1", "--listen"),
            ("tcp:0", "nonsense:1", "--to"),
            ("tcp:0", "wss://127.0.0.1/:ca=/nonexistent", "--to"),
            ("tcp:0", "ws://user@host/", "--to"),
            ("yamux:ws:nonsense", "tcp:127.0.0.1:1", "--listen"),
        ):
            with self.subTest((listen, to)):
                command = [GATEWAY, "relay", "--listen", listen, "--to", to]
                done = subprocess.run(command, capture_output=True, timeout=SECONDS)
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr.decode(), rf"\Arelay: error: {option}: [^\n]*\n\Z")


class SSHTests(SynchronousTestCase):
    """OpenSSH's ProxyCommand."""

    def setUp(self) -> None:
        program("ssh")
        self.sshd = startSSHD(self, Path(self.mktemp()).absolute())

    def ssh(self, to: str, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command at the other end of a relay."""
        return subprocess.run(
            [
                "ssh", *self.sshd.options,
                "-o", f"ProxyCommand={GATEWAY} relay --listen stdio: --to {to}",
                self.sshd.login("anywhere"), *command,
            ],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        )  # fmt: skip

    def test_proxyCommand(self) -> None:
        """ssh runs a command through a WebSocket, and a MiB of output comes out whole, with nothing on standard error."""
        with relaying(f"ws:{LOCAL}:path=/ssh", f"tcp:{HERE}:{self.sshd.port}") as relay:
            done = self.ssh(f"ws://{HERE}:{relay.port}/ssh", "head -c 1048576 /dev/zero; exit 7")
            self.assertEqual((done.stderr, done.returncode, len(done.stdout)), (b"", 7, MIB))

    def test_nobodyThere(self) -> None:
        """When the gateway is not there, ssh shows the one line that says so."""
        done = self.ssh(f"ws://{HERE}:1/ssh", "true")
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"the relay to ws://127.0.0.1:1/ssh failed: The connection was refused.\n", done.stderr)
