"""
The part of C{agent.toml} that says what the gateway does with a service's HTTP.

The words of the file become the L{HttpOptions<gateway.wire.httpoptions.HttpOptions>} that the gateway is told, and what
it would refuse is found here first::

    [service.http]
    protocol = "h2c"
    basic-auth-file = "/etc/txgateway/users"
    set-response-headers = { X-Frame-Options = "DENY" }
"""

__all__ = ["HttpSection", "httpOptions"]

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, structs

from gateway.domain.httppolicy import RoutePolicy
from gateway.service.configuration import FilePath, Section, explainInvalid
from gateway.wire.httpoptions import HttpOptions

_MAX_USERS = 64 * 1024
"""Bytes of a file of users. The protocol takes 64 of them."""

_USER = "expected USER:sha256:HASH, with the hash of a password as gateway hash-secret prints it"
_RULE = "expected allow or deny, and an address, a network, or * for everybody"
_HEADER = "expected the name of a header"
_FORMS = {
    "basicAuth": _USER,
    "access": _RULE,
    "setRequestHeaders": _HEADER,
    "removeRequestHeaders": _HEADER,
    "setResponseHeaders": _HEADER,
    "removeResponseHeaders": _HEADER,
}
"""What a text should look like, in place of the regular expression that says so exactly."""

Texts = tuple[str, ...]
Count = Annotated[int, Meta(ge=0)]


class HttpSection(Section, frozen=True):
    """What the gateway does with requests and responses of a service of kind `http`: [HTTP](http.md) says how."""

    protocol: Literal["http/1.1", "h2c"] = "http/1.1"
    """what the origin speaks; `h2c` is HTTP/2 without TLS, as for gRPC"""

    hostHeader: str = ""
    """what the origin gets as Host; empty: what the visitor asked for"""

    basicAuth: Texts = ()
    """
    who may come, each as `USER:sha256:...` with the hash of a password, as `gateway hash-secret` prints it; without
    any, everybody
    """

    basicAuthFile: Annotated[FilePath, Meta(min_length=1)] | None = None
    """file with more of them, one a line; lines with `#` in front are remarks"""

    access: Texts = ()
    """
    rules for visitors' addresses: `allow` or `deny`, and an address, a network or `*`; the first that fits decides, and
    where something is allowed, the rest is not
    """

    setRequestHeaders: dict[str, str] = {}
    """headers that the origin gets, in place of what the visitor sent"""

    removeRequestHeaders: Texts = ()
    """headers that the origin does not get"""

    setResponseHeaders: dict[str, str] = {}
    """headers that visitors get, in place of what the origin sent"""

    removeResponseHeaders: Texts = ()
    """headers that visitors do not get"""

    maxBody: Count = 0
    """bytes of a request's body; 0: as many as the gateway takes"""

    requestsPerSecond: Annotated[float, Meta(ge=0)] = 0.0
    """requests of all visitors, and as many in a burst; 0: no limit"""

    inFlight: Count = 0
    """requests at once; 0: as many as the gateway takes"""

    compress: tuple[Literal["gzip", "zstd"], ...] = ()
    """what to compress texts with for visitors who take it, the best first"""

    httpsRedirect: bool | None = None
    """send visitors without TLS to the same place with it; left out: as the gateway does"""

    hsts: Count | None = None
    """seconds for which browsers come by TLS alone once they were here; 0: none; left out: as the gateway does"""


def httpOptions(section: HttpSection | None, *, proxyPerVisitor: bool) -> HttpOptions | None:
    """
    @param proxyPerVisitor: the agent puts a PROXY header before each connection to the origin.
    @return: C{None} when there is nothing to say.
    @raise ValueError: the gateway would refuse it, or a file cannot be read.
    """
    section = section or HttpSection()
    words: dict[str, Any] = {name: getattr(section, name) for name in section.__struct_fields__}
    if path := words.pop("basicAuthFile"):
        words["basicAuth"] = (*section.basicAuth, *_users(path))
    for name in ("setRequestHeaders", "setResponseHeaders"):
        words[name] = tuple((each.lower(), value) for each, value in words[name].items())
    for name in ("removeRequestHeaders", "removeResponseHeaders"):
        words[name] = tuple(each.lower() for each in words[name])
    try:
        options = msgspec.convert({**words, "proxyPerVisitor": proxyPerVisitor}, HttpOptions)
    except msgspec.ValidationError as e:
        raise ValueError(_invalid(e, words)) from None
    try:
        RoutePolicy(options)
    except ValueError as e:
        raise ValueError(f"http.access: {e} {_RULE.capitalize()}.") from None
    return None if options == HttpOptions() else options


def _invalid(error: msgspec.ValidationError, words: Mapping[str, Any]) -> str:
    """
    What is wrong, by the key of the file. Only a header is named: what stands for a hash may be a password.
    """
    key, problem = explainInvalid(error, HttpOptions)
    name, bracket, place = key.partition("[")
    keys = {each.name: each.encode_name for each in structs.fields(HttpSection)}
    where = ".".join(part for part in ("http", keys.get(name, name)) if part)
    if " matching regex" in problem:
        problem = _FORMS[name]
    if name.startswith("set") and bracket:  # in the file they are a table, and have no numbers
        number, _, part = place.partition("]")
        where += f".{words[name][int(number)][0]!a:.70}"
        return f"{where}: {problem if part == '[0]' else 'expected one line of at most 1024 ASCII characters'}"
    return f"{where}{bracket}{place}: {problem}"


def _users(path: str) -> list[str]:
    """
    @raise ValueError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_USERS + 1)
        if len(content) > _MAX_USERS:
            raise ValueError(f"http.basic-auth-file: {path}: longer than {_MAX_USERS} bytes")
        lines = [line.strip() for line in content.decode().splitlines()]
    except OSError as e:
        raise ValueError(f"http.basic-auth-file: {path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"http.basic-auth-file: {path}: not UTF-8") from None
    users = [line for line in lines if line and not line.startswith("#")]
    if not users:  # or a file that is empty by mistake would let everybody in
        raise ValueError(f"http.basic-auth-file: {path}: nobody is in it")
    return users
