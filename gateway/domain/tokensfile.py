"""
The tokens file: named tokens, stored hashed, each with what its bearer may do.

A person edits it, so every error is one line that names the key, and the commands that add and remove a token
change nothing else of what the person wrote. No function here ever sees a token, only its digest::

    file = parseTokensFile(path.getContent(), path.path)
    text = addToken(text, "alice", hashToken(token), targets=["allow *.example.com:22"])
    text = removeToken(text, "alice")

The format is TOML 1.0; times without a zone are refused, since they would expire at different moments on
different machines. C{rules} at the top are the gateway's own; all keys of a token but C{hash} are optional::

    rules = ["allow 10.0.0.0/8:22", "deny *"]

    [tokens.alice]
    hash = "sha256:..."                     # hashToken() of the token
    expires = 2027-01-01T00:00:00Z
    targets = ["allow *.example.com:22"]    # this token reaches nothing else
    default_target = "box.example.com:22"   # for a client that names no target
    sessions = 10                           # at once
    bytes_per_second = 1048576              # each way
    seconds = 28800                         # longest session
"""

__all__ = ["TokensFile", "TokensFileError", "addToken", "parseTokensFile", "removeToken"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json import dumps
from typing import Annotated, Any, TypeVar

import msgspec

from gateway.domain.identity import RESERVED_NAMES, UNLIMITED, Identity, Limits
from gateway.domain.targets import Rule, parseRuleLine, parseTarget


class TokensFileError(Exception):
    """
    The tokens file is not as it must be. C{str()} is one line and shows no hash.

    @ivar path: the file.
    @ivar key: the key at fault, dotted, e.g. C{tokens.alice.expires}; empty when it is not about one key.
    @ivar problem: what is wrong and, where it helps, what to write.
    """

    def __init__(self, path: str, key: str, problem: str) -> None:
        super().__init__(path, key, problem)
        self.path = path
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        parts = [part for part in (self.path, self.key, self.problem) if part]
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in ": ".join(parts))


@dataclass(frozen=True, slots=True)
class TokensFile:
    """
    What a tokens file says.

    @ivar rules: the gateway's own target rules, to be asked before those of the command line.
    @ivar tokens: the identity that each token proves, by name.
    """

    rules: tuple[Rule, ...] = ()
    tokens: Mapping[str, Identity] = field(default_factory=dict)


# The upper bounds only keep arithmetic finite.
_Count = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    # Tables are converted one by one, since msgspec's errors do not name the keys of a dictionary.
    rules: tuple[str, ...] = ()
    tokens: dict[str, Any] = {}


class _Token(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    hash: str
    expires: datetime | None = None
    targets: tuple[str, ...] | None = None
    default_target: str | None = None
    sessions: _Count | None = None
    bytes_per_second: _Count | None = None
    seconds: _Seconds | None = None


_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING_KEY = re.compile(r"Object missing required field `(.*)`")

_S = TypeVar("_S", bound=msgspec.Struct)


def parseTokensFile(data: bytes, path: str) -> TokensFile:
    """
    Read a tokens file.

    @param path: how errors name the file; it is not opened.
    @raise TokensFileError: at the first thing that is wrong.
    """
    return _FileReader(path).read(data)


@dataclass(frozen=True, slots=True)
class _FileReader:
    """Turns TOML into values, and every way in which that fails into a L{TokensFileError} with its place."""

    path: str

    def read(self, data: bytes) -> TokensFile:
        file = self._convert("", self._decode(data), _File)
        tokens: dict[str, Identity] = {}
        names: dict[str, str] = {}
        for name, table in file.tokens.items():
            key = f"tokens.{name}"
            if problem := _nameProblem(name):
                raise TokensFileError(self.path, key, problem)
            identity = self._identity(name, key, self._convert(key, table, _Token))
            if (other := names.setdefault(identity.revision, name)) != name:
                raise TokensFileError(self.path, f"{key}.hash", f"the same token as tokens.{other}")
            tokens[name] = identity
        return TokensFile(self._rules("rules", file.rules), tokens)

    def _decode(self, data: bytes) -> Any:
        try:
            return msgspec.toml.decode(data)
        except msgspec.DecodeError as e:
            lines = data.count(b"\n") + 1
            problem = str(e).replace("(at end of document)", f"(at line {lines}, the last)")
            raise TokensFileError(self.path, "", f"not TOML: {problem}") from e
        except UnicodeDecodeError as e:
            line = data.count(b"\n", 0, e.start) + 1
            raise TokensFileError(self.path, "", f"not UTF-8 (at line {line})") from e
        except (ValueError, RecursionError) as e:  # of int() and of the stack, which tomllib lets through
            raise TokensFileError(self.path, "", "a number is too long or brackets are too deep") from e

    def _convert(self, prefix: str, table: Any, shape: type[_S]) -> _S:
        try:
            return msgspec.convert(table, shape, builtin_types=(datetime,))
        except msgspec.ValidationError as e:
            problem, _, place = str(e).partition(" - at `$")
            keys = [prefix, place.strip("`.")]
            if match := _UNKNOWN_KEY.fullmatch(problem):
                keys.append(match[1])
                problem = "unknown key"
            elif match := _MISSING_KEY.fullmatch(problem):
                keys.append(match[1])
                problem = "missing"
            problem = problem.replace(" | null", "").replace("`object`", "`table`")  # JSON's words to TOML's
            raise TokensFileError(self.path, ".".join(key for key in keys if key), problem) from e

    def _identity(self, name: str, key: str, token: _Token) -> Identity:
        if not _HASH.fullmatch(token.hash):  # not shown: it may be the token itself, put here by mistake
            raise TokensFileError(self.path, f"{key}.hash", "is not sha256: and 64 hexadecimal digits 0-9a-f")
        if token.expires is not None and token.expires.tzinfo is None:
            raise TokensFileError(self.path, f"{key}.expires", "no time zone: add Z for UTC, or an offset")
        defaultTarget = None
        if token.default_target is not None:
            try:
                defaultTarget = parseTarget(token.default_target)
            except ValueError as e:
                raise TokensFileError(self.path, f"{key}.default_target", str(e)) from e
        return Identity(
            name,
            None if token.targets is None else self._rules(f"{key}.targets", token.targets),
            defaultTarget,
            Limits(token.sessions, token.bytes_per_second, token.seconds),
            None if token.expires is None else token.expires.timestamp(),
            token.hash,
        )

    def _rules(self, key: str, lines: Sequence[str]) -> tuple[Rule, ...]:
        rules = []
        for number, line in enumerate(lines):
            try:
                rules.append(parseRuleLine(line))
            except ValueError as e:
                raise TokensFileError(self.path, f"{key}[{number}]", str(e)) from e
        return tuple(rules)


def _nameProblem(name: str) -> str | None:
    if not _NAME.fullmatch(name):
        return "a token's name is 1 to 64 letters, digits, dots, underscores and hyphens"
    if name in RESERVED_NAMES:  # or logs and counts could not tell the two apart
        return "this name is taken by the gateway itself"
    return None


def addToken(
    text: str,
    name: str,
    digest: str,
    *,
    expires: datetime | None = None,
    targets: Sequence[str] = (),
    defaultTarget: str | None = None,
    limits: Limits = UNLIMITED,
    path: str = "tokens file",
) -> str:
    """
    Append a token to the text of a tokens file; every byte that was there stays, and new lines end as the others do.

    @param digest: as C{hashToken} returns it.
    @param targets: none leaves the key out, so that the token may reach what the gateway allows.
    @param path: how errors name the file; it is not opened.
    @return: the new text, which parses.
    @raise TokensFileError: the text does not parse, the name exists, or a value is not allowed.
    """
    if name in parseTokensFile(_encode(text), path).tokens:
        raise TokensFileError(path, f"tokens.{name}", "exists already")
    if problem := _nameProblem(name):
        raise TokensFileError(path, f"tokens.{name}", problem)
    table = [f'[tokens."{name}"]' if "." in name else f"[tokens.{name}]", f"hash = {_quote(digest)}"]
    if expires is not None:
        table.append(f"expires = {expires.isoformat()}")
    if targets:
        table.append(f"targets = [{', '.join(map(_quote, targets))}]")
    if defaultTarget is not None:
        table.append(f"default_target = {_quote(defaultTarget)}")
    numbers = {
        "sessions": limits.sessions,
        "bytes_per_second": limits.bytesPerSecond,
        "seconds": limits.seconds,
    }
    table += [f"{key} = {value}" for key, value in numbers.items() if value is not None]
    end = "\r\n" if "\r\n" in text else "\n"
    if text and not text.endswith("\n"):
        text += end
    result = text + (end if text else "") + end.join(table) + end
    parseTokensFile(_encode(result), path)
    return result


def removeToken(text: str, name: str, path: str = "tokens file") -> str:
    """
    Take a token's table out of the text of a tokens file. Comments before and after the table stay.

    @param path: how errors name the file; it is not opened.
    @return: the new text, which parses.
    @raise TokensFileError: the text does not parse, there is no such token, or it is not written as a table
        of its own, in which case it is for a person to remove.
    """
    before = parseTokensFile(_encode(text), path)
    if name not in before.tokens:
        raise TokensFileError(path, f"tokens.{name}", "no such token")
    quoted = re.escape(name)
    header = re.compile(rf"""\s*\[\s*(["']?)tokens\1\s*\.\s*(["']?){quoted}\2\s*\]""")
    lines = re.split(r"(?<=\n)", text)
    start = next((i for i, line in enumerate(lines) if header.match(line)), len(lines))
    nextTable = (i for i, line in enumerate(lines) if i > start and line.lstrip().startswith("["))
    end = next(nextTable, len(lines))
    while end > start + 1 and lines[end - 1].strip()[:1] in ("", "#"):
        end -= 1
    if start > 0 and not lines[start - 1].strip():
        start -= 1
    result = "".join(lines[:start] + lines[end:])
    # TOML has more ways to write a table than this search knows, so the parser has the last word.
    others = {other: identity for other, identity in before.tokens.items() if other != name}
    try:
        unharmed = parseTokensFile(_encode(result), path) == TokensFile(before.rules, others)
    except TokensFileError:
        unharmed = False
    if not unharmed:
        raise TokensFileError(path, f"tokens.{name}", "not a table of its own: remove it by hand")
    return result


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a surrogate comes back as "not UTF-8", with its line


def _quote(text: str) -> str:
    # JSON's string is TOML's basic string, but for DEL, which TOML wants escaped.
    return dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
