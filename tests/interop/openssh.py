"""
OpenSSH's server for one test, and how its client is told to log in there::

    sshd = startSSHD(self, self.folder / "ssh")
    subprocess.run(["ssh", *sshd.options, "-p", str(sshd.port), sshd.login(), "true"])
"""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from subprocess import run

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import Running, program, start
from tests.processes import HERE, freePort

__all__ = ["SSHD", "startSSHD"]


@dataclass(slots=True)
class SSHD(Running):
    """
    @ivar port: where it listens.
    @ivar options: for C{ssh} and C{scp}, to log in here and to ask nothing.
    """

    port: int
    options: tuple[str, ...]

    @staticmethod
    def login(host: str = HERE) -> str:
        """As who, and at what host."""
        return f"{getpass.getuser()}@{host}"


def startSSHD(test: SynchronousTestCase, folder: Path) -> SSHD:
    """
    Start a server that lets in nobody but this user, and wait until it listens.

    @param folder: which it gets for itself.
    """
    folder.mkdir(mode=0o700)
    key, configuration, port = folder / "key", folder / "sshd_config", freePort()
    run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    configuration.write_text(
        f"ListenAddress {HERE}:{port}\nHostKey {key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPidFile none\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it wants to be, and what its package makes at boot
    running = start(test, program("sshd"), "-D", "-e", "-f", str(configuration))
    running.awaitPort(port)
    options = (
        "-F", "none", "-i", str(key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    )  # fmt: skip
    return SSHD(running.process, running._log, port, options)
