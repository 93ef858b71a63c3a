"""Tests for L{gateway.wire.upgrade}."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.http1 import RequestHead
from gateway.wire.upgrade import UpgradeRefused, acceptance, chooseSubprotocol, upgradeKey

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


class SubprotocolTests(SynchronousTestCase):
    """What client and server speak on the WebSocket."""

    def offering(self, *lines: str) -> RequestHead:
        """A request that offers subprotocols."""
        return RequestHead("GET", "/", "1.1", [*GOOD, *(("sec-websocket-protocol", line) for line in lines)])

    def test_choice(self) -> None:
        """The first of the client's offers that is spoken is chosen, on however many lines they come."""
        for lines in (("b",), ("x, b ,a",), ("x", "b", "a")):
            self.assertEqual(chooseSubprotocol(self.offering(*lines), ("a", "b")), "b")

    def test_none(self) -> None:
        """Where none is spoken, none is chosen, whatever is on offer."""
        for lines in ((), ("a",)):
            self.assertIsNone(chooseSubprotocol(self.offering(*lines), ()))

    def test_noMatch(self) -> None:
        """Who offers none of those that are spoken is told which they are. Their case matters."""
        for lines in ((), ("",), ("x",), ("A",), ("a b",)):
            refused = self.assertRaises(UpgradeRefused, chooseSubprotocol, self.offering(*lines), ("a", "b"))
            self.assertEqual(refused.status, 400)
            self.assertIn("a or b", refused.details)


class AcceptanceTests(SynchronousTestCase):
    """The answer that opens a WebSocket."""

    def test_bytes(self) -> None:
        """It proves that the key was read (the example of RFC 6455, section 1.3), and names the subprotocol."""
        plain = (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        )
        self.assertEqual(acceptance(KEY), plain + b"\r\n")
        self.assertEqual(acceptance(KEY, "chat"), plain + b"Sec-WebSocket-Protocol: chat\r\n\r\n")
