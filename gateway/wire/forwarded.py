"""
What an origin is told of the visitor behind a request: C{X-Forwarded-*} and C{Forwarded} (RFC 7239).

Origins believe these fields: they log by them, limit by them, and build links and decide who is an administrator by
them. So whatever a visitor claims in one is dropped, and only what a front says that is trusted is kept and extended::

    fields = forwardedFields(
        endToEnd(head.headers), client="192.0.2.7", proto="https", host="app.example.com", port=443,
        trusted=False, requestID="3f6c",
    )

A name of CGI's, of WSGI's and of PHP's has underscores for everything else, so that C{X_Forwarded_For} and
C{X-Forwarded-For} are one to an origin that is written with them. The first is dropped wherever it comes from.
"""

__all__ = ["forwardedFields", "nodeAddress"]

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from gateway.wire.http1body import isAuthority

_PREFIX = "x-forwarded-"
_CLAIMS = frozenset(("forwarded", "x-real-ip", "x-request-id"))
_FRAMING = frozenset(("content-length", "transfer-encoding"))
_OTHER_SPELLING = re.compile(r"[^a-z0-9-]")
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_IS_TOKEN = re.compile(_TOKEN)
_OBFUSCATED = re.compile(r"_[A-Za-z0-9._-]+|unknown", re.IGNORECASE)  # RFC 7239, section 6
_FOR = re.compile(r'(?:^|[;,])[ \t]*for=(?:"([^"]*)"|([^";, \t]+))', re.IGNORECASE)
_PAIR = rf'{_TOKEN}=(?:{_TOKEN}|"[^"\\]*")'
_ELEMENT = rf"{_PAIR}(?:;[ \t]*{_PAIR})*"
_FORWARDED = re.compile(rf"{_ELEMENT}(?:[ \t]*,[ \t]*{_ELEMENT})*")
"""RFC 7239, section 4, without escapes in quotes, which no address needs, and with a blank behind a semicolon."""

_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+/?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")


@lru_cache(maxsize=1024)
def _isClaim(name: str) -> bool:
    return name.startswith(_PREFIX) or name in _CLAIMS


@lru_cache(maxsize=1024)
def _isAlias(name: str) -> bool:
    usual = _OTHER_SPELLING.sub("-", name)
    return usual != name and (_isClaim(usual) or usual in _FRAMING)


def forwardedFields(
    fields: Sequence[tuple[str, str]],
    *,
    client: str,
    proto: Literal["http", "https"],
    host: str,
    port: int,
    trusted: bool,
    requestID: str,
    prefix: str = "",
) -> list[tuple[str, str]]:
    """
    Say who a request comes from.

    @param fields: of the request, names in lower case.
    @param client: the IP address of who sent it to us.
    @param proto: how.
    @param host: the Host that they asked for, with its port if it had one; empty where there was none.
    @param port: of ours that they came to.
    @param trusted: they are a front that may speak for others: what they say is kept where it is well-formed, and
        C{client} comes behind those that they name.
    @param requestID: by which to find the request in logs, used where no trusted front gave it one.
    @param prefix: of the path, which was taken off it.
    @return: the fields without claims, and behind them C{X-Forwarded-For}, C{-Proto}, C{-Host}, C{-Port}, C{-Prefix}
        (with one), C{Forwarded} and C{X-Request-ID}.
    """
    kept: list[tuple[str, str]] = []
    said: dict[str, list[str]] = {}
    for field in fields:
        name = field[0]
        if _isClaim(name):
            if trusted:
                said.setdefault(name, []).append(field[1])
        elif not _isAlias(name):
            kept.append(field)
    if said:
        return kept + _extended(said, client, proto, host, port, requestID, prefix)
    kept += (
        ("x-forwarded-for", client),
        ("x-forwarded-proto", proto),
        ("x-forwarded-port", str(port)),
        ("forwarded", _element(client, host, proto)),
        ("x-request-id", requestID),
    )
    if host:
        kept.append(("x-forwarded-host", host))
    if prefix:
        kept.append(("x-forwarded-prefix", prefix))
    return kept


def _extended(
    said: dict[str, list[str]], client: str, proto: str, host: str, port: int, requestID: str, prefix: str
) -> list[tuple[str, str]]:
    """What a trusted front says, one line for each name, with our own part behind or in its place."""
    joined = {name: ", ".join(value for value in values if value) for name, values in said.items()}
    chain = [each for part in joined.pop("x-forwarded-for", "").split(",") if (each := part.strip(" \t"))]
    forwarded = joined.pop("forwarded", "")
    if not _FORWARDED.fullmatch(forwarded):
        forwarded = ""  # what comes behind an open quote would be within it
    # Which of the two an origin reads is not known here, so the one is made from the other (RFC 7239, section 7.4). A
    # front that knows only the first passes what visitors make up in the second.
    named = [_address(quoted or plain) for quoted, plain in _FOR.findall(forwarded)]
    if not chain:
        chain = named
    elif named != [_address(each) for each in chain]:
        forwarded = ""
    if joined.get("x-forwarded-proto") not in ("http", "https"):
        joined["x-forwarded-proto"] = proto
    if not isAuthority(joined.get("x-forwarded-host", "")):
        joined["x-forwarded-host"] = host
    if not _isPort(joined.get("x-forwarded-port", "")):
        joined["x-forwarded-port"] = str(port)
    if not _REQUEST_ID.fullmatch(joined.get("x-request-id", "")):
        joined["x-request-id"] = requestID
    before = joined.get("x-forwarded-prefix", "")
    joined["x-forwarded-prefix"] = (before.rstrip("/") if _PATH.fullmatch(before) else "") + prefix
    last = _element(client, joined["x-forwarded-host"], joined["x-forwarded-proto"])
    first = [forwarded] if forwarded else [f"for={_node(each)}" for each in chain]
    joined["x-forwarded-for"] = ", ".join([*chain, client])
    joined["forwarded"] = ", ".join([*first, last])
    return [(name, value) for name, value in joined.items() if value]


def _isPort(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 0xFFFF


def _element(client: str, host: str, proto: str) -> str:
    if not host:
        return f"for={_node(client)};proto={proto}"
    return f"for={_node(client)};host={_value(host)};proto={proto}"


def _value(text: str) -> str:
    return text if _IS_TOKEN.fullmatch(text) else f'"{text}"'


@lru_cache(maxsize=1024)
def _node(text: str) -> str:
    """An address as Forwarded has it (RFC 7239, section 6): one of IPv6 in brackets, and quoted for them."""
    match nodeAddress(text):
        case IPv4Address() as address:
            return str(address)
        case IPv6Address() as address:
            return f'"[{address}]"'
    return text if _OBFUSCATED.fullmatch(text) else "unknown"


def nodeAddress(text: str) -> IPv4Address | IPv6Address | None:
    """
    The address in a member of C{X-Forwarded-For}, or in a C{for} of C{Forwarded}. It may have a port, brackets, and a
    zone: that may be any text, and means nothing elsewhere. C{None}: there is none.
    """
    try:
        address = ip_address(_address(text).partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _address(text: str) -> str:
    """Without the port, and the brackets."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, colon, _ = text.partition(":")
    return host if colon and "." in host else text
