"""
The rule for tests that need a real peer: somebody else's program, started for real.

A newcomer who has not installed such a program still gets a green run that says what was left out; a machine that is
meant to have everything (C{REQUIRE_ALL=1}) must not pass by leaving something out. Both are decided here and nowhere
else::

    def setUp(self) -> None:
        require(shutil.which("sshd") is not None, "sshd is missing: apt-get install openssh-server")
"""

import os
from unittest import SkipTest

__all__ = ["require"]


def require(available: bool, reason: str) -> None:
    """
    Let the test go on only if what it needs is there.

    @param available: whether the peer can be used on this machine.
    @param reason: what is missing and the command that provides it.
    @raise SkipTest: if it is missing.
    @raise AssertionError: if it is missing and the environment has C{REQUIRE_ALL=1}.
    """
    if available:
        return
    if os.environ.get("REQUIRE_ALL") == "1":
        raise AssertionError(f"REQUIRE_ALL=1, but {reason}")
    raise SkipTest(reason)
