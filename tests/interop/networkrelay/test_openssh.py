"""
OpenSSH's client and server with C{access-client} between them, as its ProxyCommand.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from pathlib import Path

from tests.interop.networkrelay.relayed import ACCESS_CLIENT, NAME, RelayedTestCase, RunningRelay
from tests.interop.openssh import startSSHD
from tests.interop.running import GATEWAY, Running, program
from tests.interop.tunnels import MIB, checksum, randomFile
from tests.processes import HERE, eventually, freePort


class OpenSSHTestCase(RelayedTestCase):
    """
    A relay, an agent, an ssh server, and what C{gateway ssh-config} prints for it.
    """

    deadline = 120

    def setUp(self) -> None:
        super().setUp()
        program("ssh")
        self.sshd = startSSHD(self, self.folder / "ssh")

    def come(self, relay: RunningRelay) -> None:
        """Configure ssh for a relay, as people do."""
        self.url = relay.url("ws_for_access_clients")
        self.config = self.folder / "config"
        with self.config.open("wb") as file:
            subprocess.run(
                [
                    GATEWAY, "ssh-config", NAME, "--relay-url", self.url, "--target", f"{HERE}:{self.sshd.port}",
                    "--access-client", ACCESS_CLIENT,
                ],
                stdout=file, check=True, env=self.environment(),
            )  # fmt: skip

    @property
    def options(self) -> list[str]:
        """For ssh and scp: our configuration instead of none."""
        _, _, *rest = self.sshd.options
        return ["-F", str(self.config), *rest]

    @property
    def login(self) -> str:
        """As who, and at what host."""
        return self.sshd.login(NAME)

    def ssh(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run ssh to its end."""
        command = [program("ssh"), *self.options, *words]
        return subprocess.run(command, input=data, capture_output=True, timeout=self.deadline, env=self.environment())

    def assertShell(self) -> None:
        """Commands run, see the end of their input, and their status comes back; nothing else is said."""
        done = self.ssh(self.login, "cat; echo after; echo problem >&2; exit 7", data=b"up\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, b"up\nafter\n", b"problem\n"))

    def assertCopies(self, size: int) -> None:
        """A file goes there and comes back."""
        there, back = self.folder / "there", self.folder / "back"
        expected = randomFile(self.folder / "here", size)
        for source, target in ((str(self.folder / "here"), f"{self.login}:{there}"), (f"{self.login}:{there}", back)):
            subprocess.run(
                [program("scp"), "-q", *self.options, source, target],
                check=True, timeout=self.deadline, env=self.environment(),
            )  # fmt: skip
        self.assertEqual((checksum(there), checksum(back)), (expected, expected))
        there.unlink()
        back.unlink()


class OwnTests(OpenSSHTestCase):
    """Through our relay and agent, in the agent protocol."""

    edge: Running

    def setUp(self) -> None:
        super().setUp()
        self.running = self.relay()
        self.edge = self.attached(self.running)
        self.come(self.running)

    def test_shell(self) -> None:
        """A shell is as it is without a tunnel."""
        self.assertShell()

    def test_scp(self) -> None:
        """256 MiB go there and back, and are what they were."""
        self.assertCopies(256 * MIB)

    def test_rsync(self) -> None:
        """rsync brings a tree up to date."""
        tree, copy = self.folder / "tree", self.folder / "copy"
        tree.mkdir()
        for number in range(200):
            (tree / f"{number}").write_bytes(b"%d" % number * 5000)
        for _ in range(2):
            shell = " ".join([program("ssh"), *self.options])
            subprocess.run(
                [program("rsync"), "-a", "--delete", "-e", shell, f"{tree}/", f"{self.login}:{copy}/"],
                check=True, timeout=self.deadline, env=self.environment(),
            )  # fmt: skip
            names = sorted(each.name for each in tree.iterdir())
            self.assertEqual(sorted(each.name for each in copy.iterdir()), names)
            for name in names:
                self.assertEqual((copy / name).read_bytes(), (tree / name).read_bytes())
            (tree / "7").unlink(missing_ok=True)
            (tree / "8").write_bytes(b"new")

    def test_portForwarding(self) -> None:
        """Inside ssh, ports are forwarded both ways."""
        with socket.create_server((HERE, 0)) as origin:
            threading.Thread(target=_echoOnce, args=(origin,), daemon=True).start()
            port, there = freePort(), origin.getsockname()[1]
            ssh = subprocess.Popen(
                [
                    program("ssh"), *self.options, "-N", "-o", "ExitOnForwardFailure=yes",
                    "-L", f"{HERE}:{port}:{HERE}:{there}", self.login,
                ],
                stdin=subprocess.DEVNULL, env=self.environment(),
            )  # fmt: skip
            self.addCleanup(ssh.wait)
            self.addCleanup(ssh.kill)
            self.assertTrue(eventually(lambda: _listens(port)))
            with socket.create_connection((HERE, port), 10.0) as connection:
                connection.settimeout(10.0)
                connection.sendall(b"there and back")
                connection.shutdown(socket.SHUT_WR)
                received = b""
                while data := connection.recv(4096):
                    received += data
        self.assertEqual(received, b"there and back")

    def test_twentySessions(self) -> None:
        """20 sessions at once each have their own input, output and status."""
        command = [program("ssh"), *self.options, self.login]
        sessions = [
            subprocess.Popen(
                [*command, f"cat; exit {number}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment(),
            )
            for number in range(20)
        ]  # fmt: skip
        for number, session in enumerate(sessions):
            self.addCleanup(session.kill)
            output, _ = session.communicate(b"%d" % number * 50_000, timeout=self.deadline)
            self.assertEqual((session.returncode, output), (number, b"%d" % number * 50_000))

    def session(self) -> subprocess.Popen[bytes]:
        """A session that says that it is there, and stays."""
        session = subprocess.Popen(
            [program("ssh"), *self.options, self.login, "echo here; sleep 60"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(),
        )  # fmt: skip
        self.addCleanup(session.kill)
        assert session.stdout is not None
        self.assertEqual(session.stdout.readline(), b"here\n")
        return session

    def assertBrokenOff(self, session: subprocess.Popen[bytes], pattern: str) -> None:
        """A session ends soon, with a status that says so, and a line that says why."""
        _, errors = session.communicate(timeout=15)
        self.assertEqual(session.returncode, 255)
        self.assertRegex(errors.decode(), rf"access-client: error: {pattern}")

    def test_agentKilled(self) -> None:
        """An agent that is killed ends the session, and the next one goes through as soon as the agent is back."""
        session = self.session()
        self.edge.process.kill()
        self.assertBrokenOff(session, "the connection was broken off")
        done = self.ssh(self.login, "true")
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"access-client: error: ", done.stderr)
        self.attached(self.running)
        self.assertShell()

    def test_relayKilled(self) -> None:
        """So does a relay; a new one has its agent back within seconds."""
        session = self.session()
        self.running.process.kill()
        self.assertBrokenOff(session, "The connection to the relay was lost")
        self.running.process.wait()
        self.relay(self.running.port)
        self.assertTrue(eventually(lambda: len(self.edge.events("agent.connected")) == 2))
        self.assertShell()

    def test_relayStops(self) -> None:
        """A relay that is stopped lets nobody wait for ever either."""
        session = self.session()
        self.running.send(signal.SIGTERM)
        self.running.send(signal.SIGTERM)
        self.assertBrokenOff(session, "[Tt]he connection|The relay")

    def test_newAgent(self) -> None:
        """A second agent of the name takes over at once; sessions through the first one end or go on, but none hangs."""
        self.attached(self.running)
        self.assertShell()


class MixedTests(OpenSSHTestCase):
    """With parts as http-network-relay's in between, ssh works as well."""

    def test_jsonAgent(self) -> None:
        """Our relay and client, and an agent of theirs."""
        relay = self.relay()
        self.jsonAgent(relay)
        self.come(relay)
        self.assertShell()
        self.assertCopies(4 * MIB)

    def test_jsonRelay(self) -> None:
        """Our agent and client, and a relay of theirs."""
        relay = self.jsonRelay()
        self.attached(relay)
        self.come(relay)
        self.assertShell()
        self.assertCopies(4 * MIB)

    def test_jsonClient(self) -> None:
        """Our relay and agent, and a client of theirs."""
        relay = self.relay()
        self.attached(relay)
        self.come(relay)
        self.config.write_text(
            f"Host {NAME}\n    ProxyCommand {' '.join(self.jsonAccess(relay, self.sshd.port))!s}\n".replace(
                "the secret of the clients, which is, too", "'the secret of the clients, which is, too'"
            )
        )
        self.assertShell()
        self.assertCopies(4 * MIB)


def _echoOnce(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def _listens(port: int) -> bool:
    # Without a connection, which would go all the way.
    return any(f":{port:04X} " in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines())
