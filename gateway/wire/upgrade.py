"""
The server's half of opening a WebSocket (RFC 6455, section 4.2): is it a proper request, and what to answer::

    key = upgradeKey(head)      # or UpgradeRefused, with an answer that a person understands
    answer = acceptance(key)

Most faults are made by a proxy in between, so that is what the answers speak of. The client's half is
L{gateway.wire.upgraderequest}.
"""

__all__ = ["UpgradeRefused", "acceptFor", "acceptance", "chooseSubprotocol", "upgradeKey"]

import binascii
from base64 import b64decode, b64encode
from collections.abc import Collection
from hashlib import sha1

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead

VERSION = "13"
"""The version of the protocol: that of RFC 6455."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class UpgradeRefused(RemoteProtocolError):
    """
    The request cannot open a WebSocket.

    @ivar status: of HTTP.
    @ivar headers: to answer with.
    """

    def __init__(self, status: int, details: str, *headers: tuple[str, str]) -> None:
        super().__init__("bad-upgrade", details)
        self.status = status
        self.headers = headers


def _one(head: RequestHead, name: str) -> str:
    values = [value for key, value in head.headers if key == name]
    if len(values) != 1:
        raise UpgradeRefused(400, f"A WebSocket request has one {name.title()} header, and this one has {len(values)}.")
    return values[0]


def upgradeKey(head: RequestHead) -> str:
    """
    @param head: of a request that wants a WebSocket.
    @return: the key to answer with, as sent.
    @raise UpgradeRefused: when it breaks a rule.
    """
    if head.method != "GET":
        raise UpgradeRefused(405, "A WebSocket is opened with GET.", ("Allow", "GET"))
    if head.version != "1.1":
        raise UpgradeRefused(505, "A WebSocket needs HTTP/1.1; a proxy in front spoke an older version of it.")
    _one(head, "host")
    if "upgrade" not in head.tokens("connection"):
        raise UpgradeRefused(400, "The header Connection: Upgrade is missing; a proxy in front must pass it on.")
    if _one(head, "sec-websocket-version") != VERSION:
        raise UpgradeRefused(
            426,
            f"This gateway speaks version {VERSION} of WebSocket.",
            ("Sec-WebSocket-Version", VERSION),
            ("Upgrade", "websocket"),
        )
    key = _one(head, "sec-websocket-key")
    try:
        isKey = len(b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        isKey = False
    if not isKey:
        raise UpgradeRefused(400, "The header Sec-Websocket-Key is not 16 bytes in base64.")
    return key


def chooseSubprotocol(head: RequestHead, supported: Collection[str]) -> str | None:
    """
    @param supported: the subprotocols that are spoken; may be none.
    @return: the first of the client's offers that is; C{None} where none are.
    @raise UpgradeRefused: when it offers none of them.
    """
    if not supported:
        return None
    for offer in head.members("sec-websocket-protocol"):
        if offer in supported:
            return offer
    raise UpgradeRefused(400, f"What speaks WebSocket here has the subprotocol {' or '.join(supported)}.")


def acceptFor(key: str) -> str:
    """
    @param key: of a request.
    @return: what proves that the server has read it (RFC 6455, section 4.2.2).
    """
    return b64encode(sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def acceptance(key: str, subprotocol: str | None = None) -> bytes:
    """
    The answer that opens the WebSocket.

    @param key: of the request.
    @param subprotocol: the one to speak.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {acceptFor(key)}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()
