"""
C{gateway secret}: a secret for an agent, or a password for the management listener; C{gateway hash-secret}: the hash of
one that there is already::

    gateway secret > alice.secret           # the hash, for the gateway's file, goes to standard error
    gateway hash-secret < alice.secret      # the same hash, on standard output
"""

__all__ = ["HashOptions", "SecretOptions"]

import sys
from getpass import getpass

from twisted.python import usage

from gateway.domain.tokens import MAX_TOKEN_LENGTH, generateToken, hashToken
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


class HashOptions(CommandOptions):
    """The command takes nothing but its input: a secret on the command line is for everybody to see."""

    command = "gateway hash-secret"
    longdesc = """
    Reads a secret, one line, from standard input, and prints the hash that stands for it in gateway.toml and in the
    credentials file of a network relay. Hashes are quick to try, so use it for secrets that nobody can guess, such as
    those of gateway secret."""

    def run(self) -> int:
        """
        @return: the exit status.
        @raise usage.UsageError: there is no secret, or one too long to be taken.
        """
        text = getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.read(2 * MAX_TOKEN_LENGTH)
        secret = text.removesuffix("\n").removesuffix("\r")
        if not secret or "\n" in secret:
            raise usage.UsageError("standard input has no secret, or more than one line")
        if len(secret) > MAX_TOKEN_LENGTH:
            raise usage.UsageError(f"a secret has at most {MAX_TOKEN_LENGTH} characters")
        print(hashToken(secret))
        return 0
