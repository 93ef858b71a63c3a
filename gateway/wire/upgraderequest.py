"""
The client's half of opening a WebSocket (RFC 6455, section 4.1): where, what to ask for, what to make of the answer::

    isSecure, host, port, request = parseWebSocketURL("wss://gw.example.com/agent")
    send(replace(request, subprotocols=("gateway.v1",)).encode(key))
    subprotocol = checkAcceptance(request, key, head)       # or RemoteProtocolError

The server's half is L{gateway.wire.upgrade}.
"""

__all__ = [
    "EXCERPT",
    "WebSocketRequest",
    "WebSocketURL",
    "checkAcceptance",
    "excerptSize",
    "parseWebSocketURL",
    "refusal",
]

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import IPv6Address
from typing import NamedTuple

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.hostname import foldName
from gateway.wire.http1 import ResponseHead
from gateway.wire.upgrade import VERSION, acceptFor

EXCERPT = 200
"""Characters that are shown of what a server says for a person to read."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_OURS = {"host", "upgrade", "connection"}
_OUR_PREFIX = "sec-websocket-"


@dataclass(frozen=True, slots=True)
class WebSocketRequest:
    """
    What a client asks for.

    @ivar host: for the header Host: C{host} or C{host:port}, the port left out where it is the scheme's own.
    @ivar target: path and query, e.g. C{/agent?x=1}.
    @ivar headers: others, such as Authorization. They and the target may hold secrets, so neither is shown.
    @ivar subprotocols: on offer, the dearest first. With any, a server must choose one of them.
    @ivar mayDecline: it may also choose none, as one that knows none of them does.
    @raise ValueError: when something cannot be sent, with a sentence that does not repeat it.
    """

    host: str
    target: str = field(default="/", repr=False)
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    subprotocols: Sequence[str] = ()
    mayDecline: bool = False

    def __post_init__(self) -> None:
        if not _VISIBLE.fullmatch(self.host):
            raise ValueError("The host of a WebSocket request is not one.")
        if not _VISIBLE.fullmatch(self.target) or self.target[0] != "/" or "#" in self.target:
            raise ValueError("The target of a WebSocket request is a path, percent-encoded, and begins with a slash.")
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(
                    f"The header {name!a:.40} cannot be sent: its name or value holds a forbidden character."
                )
            if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIX):
                raise ValueError(f"The header {name} is the opening handshake's own.")
        if not all(map(_TOKEN.fullmatch, self.subprotocols)) or len(set(self.subprotocols)) < len(self.subprotocols):
            raise ValueError("The subprotocols of a WebSocket request are different words.")

    def encode(self, key: str) -> bytes:
        """
        @param key: 16 random bytes in base64, for this connection alone.
        """
        lines = [
            f"GET {self.target} HTTP/1.1",
            f"Host: {self.host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Version: {VERSION}",
            f"Sec-WebSocket-Key: {key}",
        ]
        if self.subprotocols:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(self.subprotocols)}")
        lines += (f"{name}: {value}" for name, value in self.headers)
        return "\r\n".join([*lines, "", ""]).encode("ascii")


class WebSocketURL(NamedTuple):
    """
    What a URL says.

    @ivar isSecure: C{wss}, so TLS.
    @ivar host: to dial: a name in ASCII, or an address without brackets.
    """

    isSecure: bool
    host: str
    port: int
    request: WebSocketRequest


_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?P<fragment>#.*)?", re.DOTALL
)
_AUTHORITY = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]*))?")
_PORTS = {"ws": 80, "wss": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")  # underscores as container networks have them


def parseWebSocketURL(url: str) -> WebSocketURL:
    """
    Read a URL of the scheme C{ws} or C{wss} (RFC 6455, section 3).

    @raise ValueError: with a sentence that says what is wrong. It holds no more of the URL than its scheme, host or
        port, as the rest may be secret.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("A WebSocket's URL looks like wss://host/path.")
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise ValueError(f"A WebSocket's URL begins with ws:// or wss://, not with {scheme:.20}://.")
    if found["fragment"] is not None:
        raise ValueError("A WebSocket's URL has no fragment: write %23 for a number sign.")
    if "@" in found["authority"]:
        raise ValueError("A WebSocket's URL holds no user name or password.")
    parts = _AUTHORITY.fullmatch(found["authority"])
    if parts is None:
        raise ValueError(
            "A WebSocket's URL has a host after its scheme: a name, an address, or an IPv6 address in brackets."
        )
    host = _name(parts["name"]) if parts["address"] is None else _address(parts["address"])
    port = _port(parts["port"], _PORTS[scheme])
    target = found["target"]
    if target[:1] != "/":
        target = f"/{target}"
    if not _VISIBLE.fullmatch(target):
        raise ValueError("The path of a WebSocket's URL has blanks and characters outside ASCII percent-encoded.")
    authority = f"[{host}]" if ":" in host else host
    if port != _PORTS[scheme]:
        authority = f"{authority}:{port}"
    return WebSocketURL(scheme == "wss", host, port, WebSocketRequest(authority, target))


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise ValueError(f"A port is a number from 1 to 65535, not {text!a:.20}.")
    return int(text)


def _address(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError
        return str(IPv6Address(text))
    except ValueError:
        raise ValueError(f"[{text!a:.60}] is not an IPv6 address without zone.") from None


def _name(text: str) -> str:
    name = foldName(text)
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError(f"The host {text!a:.60} is not a valid name.")
    return name


def _only(head: ResponseHead, name: str, title: str) -> str:
    values = head.all(name)
    if len(values) != 1:
        raise RemoteProtocolError("bad-upgrade", f"The answer has {len(values)} headers {title} instead of one.")
    return values[0]


def checkAcceptance(request: WebSocketRequest, key: str, head: ResponseHead) -> str | None:
    """
    Check an answer whose status is 101 (RFC 6455, section 4.1).

    @param key: that the request was sent with.
    @return: the subprotocol that the server has chosen; C{None} when none was on offer, or when it may choose none.
    @raise RemoteProtocolError: C{bad-upgrade}.
    """
    if head.version != "1.1" or "websocket" not in head.tokens("upgrade") or "upgrade" not in head.tokens("connection"):
        raise RemoteProtocolError("bad-upgrade", "The answer does not upgrade the connection to WebSocket.")
    if _only(head, "sec-websocket-accept", "Sec-WebSocket-Accept") != acceptFor(key):
        raise RemoteProtocolError("bad-upgrade", "The answer is to another request: its Sec-WebSocket-Accept is wrong.")
    if head.members("sec-websocket-extensions"):
        raise RemoteProtocolError("bad-upgrade", "The answer has extensions, of which none was on offer.")
    if not request.subprotocols:
        if head.all("sec-websocket-protocol"):
            raise RemoteProtocolError("bad-upgrade", "The answer has a subprotocol, of which none was on offer.")
        return None
    offered = " or ".join(request.subprotocols)
    chosen = head.all("sec-websocket-protocol")
    if not chosen:
        if request.mayDecline:
            return None
        raise RemoteProtocolError("bad-upgrade", f"The server does not speak the subprotocol {offered}.")
    if len(chosen) > 1 or chosen[0] not in request.subprotocols:
        raise RemoteProtocolError("bad-upgrade", f"The answer has another subprotocol than {offered}.")
    return chosen[0]


def _shown(text: str) -> str:
    """What may be shown of a server's text: one line, printable, not long."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 3]}..."


def excerptSize(head: ResponseHead) -> int:
    """
    @param head: of an answer whose status is not 101.
    @return: how many bytes of its body to wait for, at most, so that L{refusal} can show what it would show.
    """
    kind = (head.get("content-type") or "").partition(";")[0].strip().lower()
    if kind != "text/plain" or head.get("transfer-encoding") is not None or head.status < 200:
        return 0
    length = head.get("content-length") or ""
    return min(4 * EXCERPT, int(length)) if re.fullmatch("[0-9]{1,9}", length) else 4 * EXCERPT


def refusal(head: ResponseHead, body: bytes = b"") -> str:
    """
    Tell a person why there is no WebSocket.

    @param head: of an answer whose status is not 101.
    @param body: what has come of its body. It is shown when it is plain text.
    @return: a sentence or more; at most a few hundred characters, all printable.
    """
    try:
        reason = HTTPStatus(head.status).phrase
    except ValueError:
        reason = _shown(head.reason)
    status = f"{head.status} {reason}".strip()
    if 300 <= head.status < 400 and (location := head.get("location")):
        return f"The server answered {status} and points to {_shown(location)}, which is not followed."
    details = f"The server answered {status} instead of opening a WebSocket"
    text = _shown(body[: excerptSize(head)].decode("utf-8", "replace"))
    return f'{details}: "{text}"' if text else f"{details}."
