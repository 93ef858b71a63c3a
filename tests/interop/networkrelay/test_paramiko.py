"""
A second ssh client, paramiko, with C{access-client} as its proxy command.
"""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

from tests.interop.networkrelay.relayed import RelayedTestCase, peerPython
from tests.interop.openssh import startSSHD
from tests.interop.tunnels import MIB

_CLIENT = Path(__file__).with_name("paramikoclient.py")


class ParamikoTests(RelayedTestCase):
    """What programs do with paramiko."""

    def test_commandAndFile(self) -> None:
        """A command has its input, output and status, and a file goes there and back by SFTP."""
        python = peerPython()
        sshd = startSSHD(self, self.folder / "ssh")
        relay = self.relay()
        self.attached(relay)
        done = subprocess.run(
            [
                python, str(_CLIENT), getpass.getuser(), str(self.folder / "ssh/key"), str(4 * MIB),
                *self.access(relay, sshd.port),
            ],
            capture_output=True, timeout=self.deadline, env=self.environment(),
        )  # fmt: skip
        self.assertEqual((done.stdout, done.returncode), (b"hello 7\nTrue\n", 0), done.stderr[-2000:])
