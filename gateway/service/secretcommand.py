"""
C{gateway secret}: a secret for an agent, or a password for the management listener::

    gateway secret > alice.secret           # the hash, for the gateway's file, goes to standard error
"""

__all__ = ["SecretOptions"]

import sys

from gateway.domain.tokens import generateToken, hashToken
from gateway.service.options import CommandOptions


class SecretOptions(CommandOptions):
    """The command takes nothing."""

    command = "gateway secret"
    longdesc = """
    Prints a new secret, 256 random bits, to standard output, and its hash to standard error. The secret goes into the
    agent's secret-file, the hash into the gateway's secret-hash or password-hash."""

    def run(self) -> int:
        """
        @return: the exit status.
        """
        secret = generateToken()
        print(hashToken(secret), file=sys.stderr)
        print(secret)
        return 0
