"""
OpenSSH through a gateway: at a port of its own, and inside TLS at the port that all names share.
"""

from __future__ import annotations

import subprocess

from tests.interop.openssh import startSSHD
from tests.interop.running import program
from tests.interop.tunnels import MIB, TunnelTestCase, checksum, randomFile
from tests.processes import HERE

BOX = "ssh.gw.test"


class OpenSSHTests(TunnelTestCase):
    """What people do with ssh and scp."""

    def setUp(self) -> None:
        super().setUp()
        program("ssh")
        self.sshd = startSSHD(self, self.folder / "ssh")

    def assertUsable(self, option: str) -> None:
        """Commands run, their status comes back, and files go both ways."""
        login, options = self.sshd.login(), [*self.sshd.options, "-o", option]
        output = self.call("ssh", *options, login, "cat; echo after; exit 7", status=7, text="up\n")
        self.assertEqual(output, "up\nafter\n")
        there, back = self.folder / "there", self.folder / "back"
        expected = randomFile(self.folder / "here", 20 * MIB)
        self.call("scp", "-q", *options, str(self.folder / "here"), f"{login}:{there}")
        self.call("scp", "-q", *options, f"{login}:{there}", str(back))
        self.assertEqual((checksum(there), checksum(back)), (expected, expected))

    def test_port(self) -> None:
        """At a TCP port of its own ssh is as it is without a tunnel."""
        agent = self.agent(self.gateway(), "--tcp", f"ssh:0={HERE}:{self.sshd.port}")
        self.assertUsable(f"Port={agent.port('ssh')}")

    def test_insideTLS(self) -> None:
        """With C{openssl s_client} as its ProxyCommand it comes in at the port for TLS, and by name."""
        gateway = self.gateway()
        config = self.service(
            key="ssh", kind="tls", tls="terminate", hostnames=[BOX], origin=f"{HERE}:{self.sshd.port}"
        )
        self.agent(gateway, config=config).awaitEvent("agent.serving")
        connect = (
            f"{program('openssl')} s_client -quiet -verify_quiet -verify_return_error -CAfile {gateway.authority}"
            f" -verify_hostname {BOX} -servername {BOX} -connect {HERE}:{gateway.tls}"
        )
        self.assertUsable(f"ProxyCommand={connect}")

    def test_twentySessions(self) -> None:
        """20 sessions at once each have their own input, output and status."""
        agent = self.agent(self.gateway(), "--tcp", f"ssh:0={HERE}:{self.sshd.port}")
        command = [program("ssh"), *self.sshd.options, "-p", str(agent.port("ssh")), self.sshd.login()]
        sessions = [
            subprocess.Popen(
                [*command, f"cat; exit {number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # where a login shell may have something to say, too
            )
            for number in range(20)
        ]
        for number, session in enumerate(sessions):
            self.addCleanup(session.kill)
            output, _ = session.communicate(b"%d" % number * 50_000, timeout=self.deadline)
            self.assertEqual((session.returncode, output), (number, b"%d" % number * 50_000))
