"""
A service's configuration: a TOML file and the environment, decoded into a typed value, or one line that names the key.

The types are L{Section}s, whose fields are the keys; so a key that is not there, a word where a number belongs and a
number out of bounds are all found before anything starts::

    class Limits(Section, frozen=True):
        idleTimeout: Annotated[float, Meta(ge=0)] = 0.0      # idle-timeout = 30 in the file

    config = readConfiguration("gateway.toml", GatewayConfig, environ=os.environ)

Every key can come from the environment, which wins over the file: C{[limits] idle-timeout} is
C{GATEWAY_LIMITS_IDLE_TIMEOUT}. There a list is written with commas, and what is more than a list of plain values as
JSON. Other names that begin with C{GATEWAY_} are left alone: orchestrators make up some of their own.

A L{FilePath} is relative to the file that it is written in, wherever the program was started; one from the environment,
where there is no file, to the working directory.
"""

__all__ = [
    "CREDENTIAL_LIMIT",
    "ConfigurationError",
    "FilePath",
    "Section",
    "asVariable",
    "environmentNames",
    "explainInvalid",
    "namingFile",
    "readConfiguration",
    "readCredentialFile",
]

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, inspect

PREFIX = "GATEWAY_"

_SIZE_LIMIT = 1024 * 1024
"""Bytes of the longest file."""

CREDENTIAL_LIMIT = 8192
"""Bytes; the protocol takes no longer one."""

_PATH = "path"

FilePath = Annotated[str, Meta(extra={_PATH: True})]
"""The type of a key that names a file. Empty text, and C{-} for a standard stream, stay what they are."""

T = TypeVar("T", bound="Section")


class ConfigurationError(Exception):
    """What is wrong, in one line that names the file or variable, and the key."""


def _key(field: str) -> str:
    return re.sub("[A-Z]", lambda capital: "-" + capital[0].lower(), field)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_key, kw_only=True):
    """A table of a configuration. A field C{idleTimeout} is the key C{idle-timeout}."""


def readConfiguration(path: str | None, kind: type[T], *, environ: Mapping[str, str]) -> T:
    """
    @param path: of a TOML file of at most 1 MiB; C{None}: the environment alone.
    @raise ConfigurationError: it cannot be read, or says what it may not say.
    """
    whole = inspect.type_info(kind)
    values = {} if path is None else _rooted(_readFile(path), whole, os.path.dirname(path))
    variables = {}
    for name, keys, type_ in _keys(whole, ()):
        variable = PREFIX + name
        if variable in environ:
            _put(values, keys, _fromText(variable, environ[variable], type_))
            variables[".".join(keys)] = variable
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as e:
        key, problem = explainInvalid(e, kind)
        origin = next((each for name, each in variables.items() if re.match(rf"{re.escape(name)}\b", key)), path)
        raise ConfigurationError(f"{origin or 'the configuration'}: {f'{key}: ' if key else ''}{problem}") from None


@contextmanager
def namingFile(path: str | None) -> Iterator[None]:
    """
    Let what is found wrong with a configuration name its file as well, besides the key.

    @param path: of the file; C{None}: it came from the environment alone.
    """
    try:
        yield
    except ConfigurationError as e:
        raise ConfigurationError(f"{path or 'the environment'}: {e}") from None


def readCredentialFile(key: str, path: str) -> str:
    """
    Read what proves who somebody is.

    @param key: that names the file, for errors.
    @return: the file's text, without white space around it: 1 to L{CREDENTIAL_LIMIT} characters.
    @raise ConfigurationError: there is none.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(CREDENTIAL_LIMIT + 1).decode().strip()
    except OSError as e:
        raise ConfigurationError(f"{key}: {path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{key}: {path}: not UTF-8") from None
    if not 0 < len(text) <= CREDENTIAL_LIMIT:
        raise ConfigurationError(f"{key}: {path}: empty, or longer than {CREDENTIAL_LIMIT} bytes")
    return text


def asVariable(value: object) -> str:
    """
    @return: a value as a variable of the environment says it.
    """
    return msgspec.json.encode(value).decode()


def environmentNames(kind: type[Section]) -> dict[str, str]:
    """
    @return: the variable for each key, which is written as in C{limits.idle-timeout}.
    """
    return {".".join(keys): PREFIX + name for name, keys, _ in _keys(inspect.type_info(kind), ())}


def _readFile(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_SIZE_LIMIT + 1)
        if len(text) > _SIZE_LIMIT:
            raise ConfigurationError(f"{path}: longer than {_SIZE_LIMIT} bytes")
        return tomllib.loads(text.decode())
    except OSError as e:
        raise ConfigurationError(f"{path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as e:
        raise ConfigurationError(f"{path}: {e}") from None


def _rooted(value: Any, type_: inspect.Type, directory: str) -> Any:
    """What a file says, with the paths that are relative to its directory as paths from here."""
    if isinstance(type_, inspect.Metadata):
        if (type_.extra or {}).get(_PATH) and isinstance(value, str) and value not in ("", "-"):
            return os.path.join(directory, value)
        return _rooted(value, type_.type, directory)
    if isinstance(type_, inspect.UnionType):
        return next((found for each in type_.types if (found := _rooted(value, each, directory)) != value), value)
    if isinstance(type_, inspect.StructType) and isinstance(value, dict):
        types = {each.encode_name: each.type for each in type_.fields}
        return {key: _rooted(each, types[key], directory) if key in types else each for key, each in value.items()}
    if isinstance(type_, inspect.VarTupleType) and isinstance(value, list):
        return [_rooted(each, type_.item_type, directory) for each in value]
    return value


# -- The environment


def _sectionOf(type_: inspect.Type) -> inspect.StructType | None:
    """The section that a value of this type is, or may be."""
    if isinstance(type_, inspect.UnionType):
        return next((found for each in type_.types if (found := _sectionOf(each))), None)
    if isinstance(type_, inspect.Metadata):
        return _sectionOf(type_.type)
    return type_ if isinstance(type_, inspect.StructType) else None


def _keys(type_: inspect.Type, above: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...], inspect.Type]]:
    """Every key that is no section: the end of its variable's name, where it is, and its type."""
    section = _sectionOf(type_)
    assert section is not None
    for field in section.fields:
        keys = (*above, field.encode_name)
        if _sectionOf(field.type) is not None:
            yield from _keys(field.type, keys)
        else:
            yield "_".join(keys).replace("-", "_").upper(), keys, field.type


def _isPlainList(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.Metadata):
        return _isPlainList(type_.type)
    if isinstance(type_, inspect.UnionType):
        return any(map(_isPlainList, type_.types))
    if not isinstance(type_, inspect.ListType | inspect.VarTupleType):
        return False
    return not isinstance(type_.item_type, inspect.StructType | inspect.DictType)


def _isPlain(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.Metadata):
        return _isPlain(type_.type)
    if isinstance(type_, inspect.UnionType):
        return all(map(_isPlain, type_.types))
    numbers = inspect.IntType | inspect.FloatType | inspect.BoolType
    return isinstance(type_, numbers | inspect.StrType | inspect.NoneType | inspect.EnumType | inspect.LiteralType)


def _fromText(variable: str, text: str, type_: inspect.Type) -> Any:
    """What a variable says, as the file would have said it."""
    if _isPlainList(type_) and not text.lstrip().startswith("["):
        return [_fromWord(word.strip()) for word in text.split(",") if word.strip()]
    if not _isPlain(type_):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise ConfigurationError(f"{variable}: not JSON") from None
    return text if _mayBeText(type_) else _fromWord(text)


def _mayBeText(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.Metadata):
        return _mayBeText(type_.type)
    if isinstance(type_, inspect.UnionType):
        return any(map(_mayBeText, type_.types))
    return isinstance(type_, inspect.StrType | inspect.EnumType | inspect.LiteralType)


def _fromWord(word: str) -> Any:
    """A number or truth value, where a word is one."""
    if word in ("true", "false"):
        return word == "true"
    if re.fullmatch(r"[+-]?\d+", word):
        return int(word)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+)", word):
        return float(word)
    return word


def _put(values: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        below = values.setdefault(key, {})
        if not isinstance(below, dict):
            return  # the file has something else there, of which it will be told
        values = below
    values[keys[-1]] = value


# -- What is wrong

_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def explainInvalid(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> tuple[str, str]:
    """
    What msgspec says, for a person who writes a file.

    C{Expected `int`, got `str` - at `$.limits.streams`} becomes C{limits.streams} and
    C{expected a whole number, not a text}.

    @param kind: of what the file holds.
    @return: the key, empty for the file itself, and what is wrong with it.
    """
    what, _, where = str(error).partition(" - at `")
    key = where.rstrip("`").removeprefix("$").removeprefix(".")
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        name = match[1]
        section = _sectionOf(_typeAt(kind, key))
        near = get_close_matches(name, [] if section is None else [each.encode_name for each in section.fields], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return _below(key, name), f"there is no such key{hint}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", what):
        return _below(key, match[1]), "this key is missing"
    if match := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        wanted = " or ".join(_NAMES.get(each.strip(), each.strip()) for each in match[1].split("|"))
        return key, f"expected {wanted}, not {_NAMES.get(match[2], match[2])}"
    if (match := re.fullmatch(r"Invalid enum value '?(.*?)'?", what)) and (choices := _choices(_typeAt(kind, key))):
        return key, f"expected {' or '.join(choices)}, not {match[1]}"
    what = re.sub(r"`(\w+)`", lambda each: _NAMES.get(each[1], each[1]), what)
    return key, what[:1].lower() + what[1:]


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _choices(type_: inspect.Type) -> list[str]:
    if isinstance(type_, inspect.Metadata):
        return _choices(type_.type)
    if isinstance(type_, inspect.EnumType):
        return [str(each.value) for each in type_.cls]
    return [str(each) for each in type_.values] if isinstance(type_, inspect.LiteralType) else []


def _typeAt(kind: type[msgspec.Struct], key: str) -> inspect.Type:
    """What may be where a key leads to, as far as there is such a key."""
    type_: inspect.Type = inspect.type_info(kind)
    for word in re.sub(r"\[.*?\]", "", key).split("."):
        section = _sectionOf(type_)
        found = None if section is None else [each.type for each in section.fields if each.encode_name == word]
        type_ = found[0] if found else type_
        while isinstance(type_, inspect.ListType | inspect.VarTupleType):
            type_ = type_.item_type
    return type_
