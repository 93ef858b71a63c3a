"""
The request that opens a WebSocket (RFC 6455, section 4.2.1): is it one, and what is wrong with it::

    key = upgradeKey(head)      # or UpgradeRefused, with an answer that a person understands

Most faults are made by a proxy in between, so that is what the answers speak of.
"""

__all__ = ["UpgradeRefused", "upgradeKey"]

import binascii
from base64 import b64decode

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead

_VERSION = "13"


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
    if _one(head, "sec-websocket-version") != _VERSION:
        raise UpgradeRefused(
            426,
            f"This gateway speaks version {_VERSION} of WebSocket.",
            ("Sec-WebSocket-Version", _VERSION),
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
