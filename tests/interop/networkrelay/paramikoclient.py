"""
An ssh client of paramiko's on an access client's pipes, as a program of its own, since paramiko is not here::

    python paramikoclient.py USER KEY SIZE COMMAND...
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import sys

import paramiko


def main() -> None:
    """Run a command with input, and send a file there and back; say what came of both."""
    user, key, size, *command = sys.argv[1:]
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        "box", username=user, key_filename=key, look_for_keys=False, allow_agent=False, timeout=30,
        sock=paramiko.ProxyCommand(shlex.join(command)),
    )  # fmt: skip
    standardInput, output, _ = client.exec_command("cat; exit 7", timeout=30)
    standardInput.write(b"hello")
    standardInput.channel.shutdown_write()
    print(output.read().decode(), output.channel.recv_exit_status())
    data = os.urandom(int(size))
    path = f"/tmp/paramiko-{os.getpid()}"
    with client.open_sftp() as sftp:
        sftp.putfo(io.BytesIO(data), path)
        back = io.BytesIO()
        sftp.getfo(path, back)
        sftp.remove(path)
    print(hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(data).digest())
    client.close()


if __name__ == "__main__":
    main()
