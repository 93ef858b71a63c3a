"""
C{gateway tabby-token}: the named tokens of a Tabby gateway::

    gateway tabby-token new alice --file tokens.toml --expires 2027-01-01 --target 'allow *.example.com:22'
    gateway tabby-token list --file tokens.toml
    gateway tabby-token revoke alice --file tokens.toml

A token is shown once, when it is made; the file keeps only its hash. A running gateway takes the changed file
at SIGHUP.
"""

__all__ = ["TokenOptions"]

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from twisted.python import usage

from gateway.domain.identity import Limits
from gateway.domain.tokens import generateToken, hashToken
from gateway.domain.tokensfile import TokensFileError, addToken, parseTokensFile, removeToken
from gateway.service.options import CommandOptions


class _FileOptions(CommandOptions):
    optParameters: list[list[str | None]] = [["file", "f", "tokens.toml", "The tokens file"]]

    @property
    def path(self) -> Path:
        """The tokens file."""
        return Path(self["file"])

    def read(self, *, mayBeMissing: bool = False) -> str:
        """
        @raise usage.UsageError: when it cannot be read.
        """
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                return file.read()
        except (OSError, UnicodeError) as e:
            if mayBeMissing and isinstance(e, FileNotFoundError):
                return ""
            raise usage.UsageError(f"--file: {self.path}: {getattr(e, 'strerror', None) or 'not UTF-8'}") from None

    def write(self, text: str) -> None:
        """
        Replace the file in one step: a gateway that reads it meanwhile sees the old or the new one, whole. Its owner
        and mode stay.

        @raise usage.UsageError: when it cannot be written, or would change hands.
        """
        path = self.path.resolve()
        try:
            before = path.stat() if path.exists() else None
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
            try:
                with open(descriptor, "w", encoding="utf-8", newline="") as file:
                    if before is not None:
                        _keepOwner(descriptor, before, path)
                        os.fchmod(descriptor, before.st_mode & 0o777)
                    file.write(text)
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as e:
            raise usage.UsageError(f"--file: {path}: {e.strerror}") from None


def _keepOwner(descriptor: int, before: os.stat_result, path: Path) -> None:
    """
    @raise usage.UsageError: when that is not allowed. Root's file in place of the gateway's would keep it from reading
        its tokens.
    """
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    except OSError as e:
        raise usage.UsageError(f"--file: {path}: its owner and group cannot be kept: {e.strerror}") from None


class _Named(_FileOptions):
    def parseOptions(self, options: list[str] | None = None) -> None:
        """The name may come first or last, where C{getopt} alone would want it last."""
        words = options or []
        leading = words[:1] if words and not words[0].startswith("-") else []
        super().parseOptions(words[len(leading) :] + leading)

    def parseArgs(self, *names: str) -> None:
        if len(names) != 1:
            raise usage.UsageError("give the name of one token")
        self["name"] = names[0]


class _New(_Named):
    command = "gateway tabby-token new"
    synopsis = "NAME [options]"
    optParameters: list[list[str | None]] = [
        ["expires", None, None, "When it stops working: 2027-01-31 or 2027-01-31T12:00:00+00:00 (without a zone: UTC)"],
        ["default-target", None, None, "HOST:PORT for a client that names no target, as telnet in Tabby Web"],
        ["sessions", None, None, "Sessions at once"],
        ["bytes-per-second", None, None, "Payload of one session, each way"],
        ["seconds", None, None, "Longest session"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def opt_target(self, rule: str) -> None:
        """What it may reach: 'allow RULE' or 'deny RULE', in order. May be repeated [default: all that the gateway
        allows]"""
        self.targets.append(rule)

    def _number(self, name: str) -> int | None:
        try:
            return None if self[name] is None else int(self[name])
        except ValueError:
            raise usage.UsageError(f"--{name}: {self[name]!a} is not a whole number") from None

    def run(self) -> int:
        """Make a token, and print it once."""
        expires = None
        if self["expires"] is not None:
            try:
                expires = datetime.fromisoformat(self["expires"])
            except ValueError:
                raise usage.UsageError(f"--expires: {self['expires']!a} is not a date such as 2027-01-31") from None
            if expires.tzinfo is None:
                expires = expires.replace(tzinfo=UTC)
        limits = Limits(self._number("sessions"), self._number("bytes-per-second"), self._number("seconds"))
        token = generateToken()
        text = addToken(
            self.read(mayBeMissing=True),
            self["name"],
            hashToken(token),
            expires=expires,
            targets=self.targets,
            defaultTarget=self["default-target"],
            limits=limits,
            path=str(self.path),
        )
        self.write(text)
        print(token)
        return 0


class _List(_FileOptions):
    command = "gateway tabby-token list"
    synopsis = "[options]"

    def run(self) -> int:
        """One line for each token."""
        for name, identity in parseTokensFile(self.read().encode(), str(self.path)).tokens.items():
            expires = identity.expires
            end = "never" if expires is None else f"{datetime.fromtimestamp(expires, UTC):%Y-%m-%dT%H:%MZ}"
            print(f"{name}\texpires {end}")
        return 0


class _Revoke(_Named):
    command = "gateway tabby-token revoke"
    synopsis = "NAME [options]"

    def run(self) -> int:
        """Take a token out of the file."""
        self.write(removeToken(self.read(), self["name"], str(self.path)))
        return 0


class TokenOptions(CommandOptions):
    """The command line of C{gateway tabby-token}."""

    command = "gateway tabby-token"
    synopsis = "new|list|revoke [NAME] [options]"
    longdesc = "After a change send the running gateway SIGHUP; revoking a token then ends its sessions."
    subCommands = [
        ["new", None, _New, "Make a token and print it; it is shown only this once"],
        ["list", None, _List, "Show the tokens' names and when they expire"],
        ["revoke", None, _Revoke, "Take a token out of the file"],
    ]

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("say new, list or revoke")

    def run(self) -> int:
        """
        @return: the exit status.
        @raise usage.UsageError: in one line, when the file cannot be used or a value is not allowed.
        """
        try:
            status: int = self.subOptions.run()
        except TokensFileError as e:
            raise usage.UsageError(str(e)) from None
        return status
