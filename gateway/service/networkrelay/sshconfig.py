"""
C{gateway ssh-config}: what goes into C{~/.ssh/config} so that ssh reaches a machine behind an edge agent::

    gateway ssh-config box --relay-url wss://relay.example.com/ws_for_access_clients >> ~/.ssh/config
    ssh box
"""

__all__ = ["SshConfigOptions"]

import re
import shlex
from collections.abc import Iterator

from twisted.python import usage

from gateway.domain.targets import Target, parseTarget
from gateway.service.networkrelay.relayclientoptions import RelayClientOptions
from gateway.service.options import installed

_ALIAS = re.compile(r"[A-Za-z0-9._-]+")


class SshConfigOptions(RelayClientOptions):
    """What C{gateway ssh-config} can be told."""

    command = "gateway ssh-config"
    synopsis = "AGENT [options]"
    longdesc = """
    Prints a Host block for ~/.ssh/config, with which ssh, scp, sftp and rsync reach what is behind the edge agent AGENT
    through access-client. The secret is never in it: access-client finds it in the file of --secret-file, or in the
    variable HTTP_NETWORK_RELAY_SECRET."""
    path = "/ws_for_access_clients"
    _target: Target
    _program: list[str]

    optParameters = [
        ["target", None, "127.0.0.1:22", "Where the ssh server is, as the agent sees it"],
        ["host", None, None, "What to call it for ssh [default: the agent's name]"],
        ["user", None, None, "As whom to log in [default: ssh's own]"],
        ["access-client", None, None, "What to run for it, as a shell would take it [default: the access-client that "
                                      "came with this program]"],
    ]  # fmt: skip

    def parseArgs(self, *words: str) -> None:
        """
        @raise usage.UsageError: they are not one agent.
        """
        if len(words) != 1:
            raise usage.UsageError("say which AGENT, and nothing else")
        (self["agent"],) = words

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        self.readLink()
        if self["secret"] is not None:
            raise usage.UsageError("--secret: it would be in the file for all to read; write --secret-file")
        for name in ("agent", "user", "secret-file", "ca", "access-client"):
            if not (self[name] or "").isprintable():  # a line end would be the beginning of another setting
                raise usage.UsageError(f"{name}: it holds a character that ssh cannot be told")
        self["host"] = self["host"] or self["agent"]
        if not _ALIAS.fullmatch(self["host"]):
            raise usage.UsageError(
                f"--host: {self['host']!a:.60} is no name for ssh: it has letters, digits, . _ and -"
            )
        try:
            self._target = parseTarget(self["target"], 22)
        except ValueError as e:
            raise usage.UsageError(f"--target: {e}") from None
        try:
            self._program = (
                [installed("access-client")] if self["access-client"] is None else shlex.split(self["access-client"])
            )
        except ValueError as e:
            raise usage.UsageError(f"--access-client: {e}") from None

    def _lines(self) -> Iterator[str]:
        words = [*self._program, "--relay-url", self["relay-url"]]
        for name in ("secret-file", "ca", "pin"):
            if self[name] is not None:
                words += [f"--{name}", self[name]]
        words += [self["agent"], self._target.host, str(self._target.port), "tcp"]
        yield f"Host {self['host']}"
        # ssh replaces what comes after a percent sign.
        yield f"    ProxyCommand {shlex.join(words).replace('%', '%%')}"
        yield f"    HostKeyAlias {self['host']}"
        if self["user"] is not None:
            yield f"    User {self['user']}"

    def run(self) -> int:
        """
        @return: the exit status.
        """
        for line in self._lines():
            print(line)
        return 0
