"""Tests for L{gateway.wire.upgrade}."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.http1 import RequestHead
from gateway.wire.upgrade import UpgradeRefused, upgradeKey

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = (
    ("host", "gw.example.com"),
    ("upgrade", "websocket"),
    ("connection", "keep-alive, Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", KEY),
)


def head(*, method: str = "GET", version: str = "1.1", leaveOut: str = "", **changed: str) -> RequestHead:
    """A request that is good but for what is changed."""
    names = {name.replace("_", "-"): value for name, value in changed.items()}
    kept = [(name, names.get(name, value)) for name, value in GOOD if name != leaveOut]
    return RequestHead(method, "/", version, kept)


class UpgradeKeyTests(SynchronousTestCase):
    """What a request that opens a WebSocket must have."""

    def refusal(self, request: RequestHead) -> UpgradeRefused:
        """The refusal of a request."""
        refused: UpgradeRefused = self.assertRaises(UpgradeRefused, upgradeKey, request)
        self.assertTrue(refused.details.endswith("."))
        return refused

    def test_good(self) -> None:
        """The key of a good request is returned as it was sent."""
        self.assertEqual(upgradeKey(head()), KEY)

    def test_method(self) -> None:
        """Only GET opens a WebSocket, and the answer says so."""
        refused = self.refusal(head(method="POST"))
        self.assertEqual((refused.status, refused.headers), (405, (("Allow", "GET"),)))

    def test_version(self) -> None:
        """A proxy that speaks HTTP/1.0 is told what it must speak."""
        refused = self.refusal(head(version="1.0"))
        self.assertEqual(refused.status, 505)
        self.assertIn("HTTP/1.1", refused.details)

    def test_connection(self) -> None:
        """A proxy that drops the header Connection is told that it must not."""
        for request in (head(leaveOut="connection"), head(connection="close")):
            self.assertIn("Connection: Upgrade", self.refusal(request).details)

    def test_webSocketVersion(self) -> None:
        """Another version of WebSocket is answered with the one that we speak (RFC 6455, section 4.4)."""
        refused = self.refusal(head(sec_websocket_version="8"))
        self.assertEqual(refused.status, 426)
        self.assertIn(("Sec-WebSocket-Version", "13"), refused.headers)

    def test_missing(self) -> None:
        """Each header is needed."""
        for name in ("host", "sec-websocket-version", "sec-websocket-key"):
            self.assertEqual(self.refusal(head(leaveOut=name)).status, 400)

    def test_twice(self) -> None:
        """A header that decides something comes once."""
        for name, value in GOOD:
            if name in ("host", "sec-websocket-version", "sec-websocket-key"):
                twice = RequestHead("GET", "/", "1.1", [*GOOD, (name, value)])
                self.assertEqual(self.refusal(twice).status, 400)

    def test_key(self) -> None:
        """A key is 16 bytes in base64, and nothing else."""
        for key in ("", "short", KEY[:-1], KEY + "AAAA", "dGhlIHNhbXBsZSBub25jZ\xe9==", "AAAA AAAAAAAAAAAAAAAAA=="):
            self.assertEqual(self.refusal(head(sec_websocket_key=key)).status, 400)
