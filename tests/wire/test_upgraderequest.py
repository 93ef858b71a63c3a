"""Tests for L{gateway.wire.upgraderequest}, and that the two halves of the opening handshake understand each other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import ResponseHead, parseRequestHead, parseResponseHead
from gateway.wire.upgrade import acceptance, chooseSubprotocol, upgradeKey
from gateway.wire.upgraderequest import (
    EXCERPT,
    WebSocketRequest,
    checkAcceptance,
    excerptSize,
    parseWebSocketURL,
    refusal,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

GOOD = (
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
)
"""The answer to L{KEY} in RFC 6455, section 1.3."""


def head(*more: tuple[str, str], leaveOut: str = "", version: str = "1.1", **changed: str) -> ResponseHead:
    """An answer that is good but for what is changed."""
    names = {name.replace("_", "-"): value for name, value in changed.items()}
    kept = [(name, names.get(name, value)) for name, value in GOOD if name != leaveOut]
    return ResponseHead(101, "Switching Protocols", version, [*kept, *more])


class URLTests(SynchronousTestCase):
    """A URL says whom to dial and what to ask for."""

    def test_parts(self) -> None:
        """The parts of a URL, with what it leaves out."""
        for url, isSecure, host, port, hostHeader, target in (
            ("ws://gw.example", False, "gw.example", 80, "gw.example", "/"),
            ("wss://gw.example", True, "gw.example", 443, "gw.example", "/"),
            ("WSS://GW.Example./Agent", True, "gw.example", 443, "gw.example", "/Agent"),
            ("wss://gw.example:443/", True, "gw.example", 443, "gw.example", "/"),
            ("ws://gw.example:443/", False, "gw.example", 443, "gw.example:443", "/"),
            ("wss://gw.example:8443/a/b?c=d&e=/f", True, "gw.example", 8443, "gw.example:8443", "/a/b?c=d&e=/f"),
            ("ws://gw.example?x", False, "gw.example", 80, "gw.example", "/?x"),
            ("ws://127.0.0.1:9000/", False, "127.0.0.1", 9000, "127.0.0.1:9000", "/"),
            ("ws://[::1]/", False, "::1", 80, "[::1]", "/"),
            ("ws://[2001:DB8:0::1]:81/", False, "2001:db8::1", 81, "[2001:db8::1]:81", "/"),
            ("wss://b\u00fccher.example/", True, "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/"),
            ("ws://my_service:80/%20%C3%BC", False, "my_service", 80, "my_service", "/%20%C3%BC"),
        ):
            self.assertEqual(parseWebSocketURL(url), (isSecure, host, port, WebSocketRequest(hostHeader, target)), url)

    def test_refused(self) -> None:
        """Of each fault a sentence tells, and of the path, the query and the user's name it tells nothing."""
        for url, part in (
            ("", "looks like"),
            ("gw.example", "looks like"),
            ("//gw.example", "looks like"),
            ("ws:gw.example", "looks like"),
            ("http://gw.example/s3cret", "not with http"),
            ("https://gw.example/s3cret", "not with https"),
            ("ws+unix://x/s3cret", "not with ws+unix"),
            ("ws://user:s3cret@gw.example/", "user name"),
            ("ws://s3cret@gw.example/", "user name"),
            ("ws://gw.example/s3cret#top", "fragment"),
            ("ws://gw.example/s3cret#", "fragment"),
            ("ws://gw.example#s3cret", "fragment"),
            ("ws:///s3cret", "has a host"),
            ("ws://:80/s3cret", "has a host"),
            ("ws://::1/s3cret", "has a host"),
            ("ws://[::1/s3cret", "has a host"),
            ("ws://[::1]x/s3cret", "has a host"),
            ("ws://[]/s3cret", "not an IPv6 address"),
            ("ws://[gw.example]/s3cret", "not an IPv6 address"),
            ("ws://[fe80::1%25eth0]/s3cret", "zone"),
            ("ws://gw.example:/s3cret", "A port"),
            ("ws://gw.example:0/s3cret", "A port"),
            ("ws://gw.example:65536/s3cret", "A port"),
            ("ws://gw.example:080/s3cret", "A port"),
            ("ws://gw.example:x/s3cret", "has a host"),
            ("ws://gw..example/s3cret", "not a valid name"),
            ("ws://-gw.example/s3cret", "not a valid name"),
            ("ws://gw example/s3cret", "not a valid name"),
            ("ws://gw%2eexample/s3cret", "not a valid name"),
            ("ws://gw\\example/s3cret", "not a valid name"),
            (f"ws://{'a' * 64}/s3cret", "not a valid name"),
            (f"ws://{'a.' * 128}/s3cret", "not a valid name"),
            ("ws://\u2603\u0301.example/s3cret", "not a valid international name"),
            ("ws://gw.example/s3 cret", "percent-encoded"),
            ("ws://gw.example/s3cret\u00fc", "percent-encoded"),
            ("ws://gw.example/s3cret\r\nX: y", "percent-encoded"),
            ("ws://gw.example/\n", "percent-encoded"),
            ("ws://gw.example\n/", "not a valid name"),
        ):
            error = self.assertRaises(ValueError, parseWebSocketURL, url)
            self.assertIn(part, str(error), url)
            self.assertNotIn("s3cret", str(error))
            self.assertLess(len(str(error)), 150)

    @given(st.text(max_size=60) | st.text("wsx:/[]@#?.0159abc \u00fc\n", max_size=30).map("ws://".__add__))
    @FUZZ
    def test_fuzz(self, url: str) -> None:
        """Whatever comes, it is refused with a sentence, or its request can be sent and read."""
        try:
            parsed = parseWebSocketURL(url)
        except ValueError as e:
            self.assertTrue(str(e).endswith("."))
        else:
            request = parseRequestHead(parsed.request.encode(KEY))
            assert request is not None
            self.assertEqual(request.get("host"), parsed.request.host)


class RequestTests(SynchronousTestCase):
    """A request is written as a server reads it."""

    def test_encode(self) -> None:
        """Everything that a request must have, then what is asked for beside."""
        request = WebSocketRequest("gw.example:81", "/a?b", [("Authorization", "Bearer x")], ["gateway.v1", "other"])
        self.assertEqual(
            request.encode(KEY),
            b"GET /a?b HTTP/1.1\r\n"
            b"Host: gw.example:81\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Protocol: gateway.v1, other\r\n"
            b"Authorization: Bearer x\r\n"
            b"\r\n",
        )

    def test_secretsAreNotShown(self) -> None:
        """A request in a traceback or a log shows nothing that may be secret."""
        self.assertNotIn("s3cret", repr(WebSocketRequest("gw", "/s3cret", [("Authorization", "s3cret")])))

    def test_injection(self) -> None:
        """What would break the request in two, or is the handshake's own, is refused, without its value."""
        for arguments in (
            {"host": ""},
            {"host": "gw\r\nX: s3cret"},
            {"target": ""},
            {"target": "s3cret"},
            {"target": "/s3cret x"},
            {"target": "/s3cret#x"},
            {"headers": [("X", "s3cret\r\nY: z")]},
            {"headers": [("X", "s3cret\n")]},
            {"headers": [("X", "s3cret ")]},
            {"headers": [("X", "s3cret\u00fc")]},
            {"headers": [("X:", "s3cret")]},
            {"headers": [("", "s3cret")]},
            {"headers": [("Host", "s3cret")]},
            {"headers": [("sec-websocket-KEY", "s3cret")]},
            {"subprotocols": ["s3cret x"]},
            {"subprotocols": [""]},
            {"subprotocols": ["a", "a"]},
        ):
            error = self.assertRaises(ValueError, WebSocketRequest, **{"host": "gw.example", **arguments})
            self.assertNotIn("s3cret", str(error))


class AcceptanceTests(SynchronousTestCase):
    """An answer opens the WebSocket only when it is wholly right."""

    plain = WebSocketRequest("gw.example")
    offering = WebSocketRequest("gw.example", subprotocols=("gateway.v1", "other"))

    def test_good(self) -> None:
        """A good answer is taken, in whatever case and company its words come."""
        self.assertIsNone(checkAcceptance(self.plain, KEY, head()))
        answer = head(upgrade="WebSocket", connection="keep-alive, upgrade")
        self.assertIsNone(checkAcceptance(self.plain, KEY, answer))

    def test_subprotocol(self) -> None:
        """The server's choice among the offers is told."""
        for chosen in ("gateway.v1", "other"):
            answer = head(("sec-websocket-protocol", chosen))
            self.assertEqual(checkAcceptance(self.offering, KEY, answer), chosen)

    def test_declined(self) -> None:
        """A server may choose none of the offers where the request says so; never another than those."""
        request = WebSocketRequest("gw.example", subprotocols=("gateway.v1",), mayDecline=True)
        self.assertIsNone(checkAcceptance(request, KEY, head()))
        self.assertEqual(checkAcceptance(request, KEY, head(("sec-websocket-protocol", "gateway.v1"))), "gateway.v1")
        self.assertRaises(RemoteProtocolError, checkAcceptance, request, KEY, head(("sec-websocket-protocol", "third")))

    def test_bad(self) -> None:
        """Whatever is missing, wrong, twice or more than was on offer is refused with a sentence."""
        protocol = "sec-websocket-protocol"
        for request, answer, part in (
            (self.plain, head(version="1.0"), "does not upgrade"),
            (self.plain, head(leaveOut="upgrade"), "does not upgrade"),
            (self.plain, head(upgrade="h2c"), "does not upgrade"),
            (self.plain, head(leaveOut="connection"), "does not upgrade"),
            (self.plain, head(connection="close"), "does not upgrade"),
            (self.plain, head(leaveOut="sec-websocket-accept"), "0 headers Sec-WebSocket-Accept"),
            (self.plain, head(GOOD[2]), "2 headers Sec-WebSocket-Accept"),
            (self.plain, head(sec_websocket_accept=""), "to another request"),
            (self.plain, head(sec_websocket_accept="S3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "to another request"),
            (self.plain, head(sec_websocket_accept=KEY), "to another request"),
            (self.plain, head(("sec-websocket-extensions", "permessage-deflate")), "extensions"),
            (self.plain, head((protocol, "gateway.v1")), "none was on offer"),
            (self.plain, head((protocol, "")), "none was on offer"),
            (self.offering, head(), "does not speak the subprotocol gateway.v1 or other"),
            (self.offering, head((protocol, "third")), "another subprotocol"),
            (self.offering, head((protocol, "Other")), "another subprotocol"),
            (self.offering, head((protocol, "gateway.v1, other")), "another subprotocol"),
            (self.offering, head((protocol, "gateway.v1"), (protocol, "gateway.v1")), "another subprotocol"),
        ):
            error = self.assertRaises(RemoteProtocolError, checkAcceptance, request, KEY, answer)
            self.assertEqual(error.code, "bad-upgrade")
            self.assertIn(part, error.details)
            self.assertTrue(error.details.endswith("."))

    def test_bothHalves(self) -> None:
        """Our server takes our request, and our client takes our answer."""
        for request, supported, chosen in (
            (self.plain, (), None),
            (self.offering, ("other",), "other"),
            (self.offering, ("other", "gateway.v1"), "gateway.v1"),
        ):
            asked = parseRequestHead(request.encode(KEY))
            assert asked is not None and asked.wantsWebSocket
            answer = parseResponseHead(acceptance(upgradeKey(asked), chooseSubprotocol(asked, supported)))
            assert answer is not None
            self.assertEqual(checkAcceptance(request, KEY, answer), chosen)


class RefusalTests(SynchronousTestCase):
    """A person is told why there is no WebSocket."""

    def answer(self, status: int, *headers: tuple[str, str], reason: str = "") -> ResponseHead:
        """An answer that is none to an upgrade."""
        return ResponseHead(status, reason, "1.1", headers)

    def test_status(self) -> None:
        """The status is told, in the standard's words if it is one, else in the server's."""
        opening = "instead of opening a WebSocket."
        self.assertEqual(refusal(self.answer(403, reason="Go away")), f"The server answered 403 Forbidden {opening}")
        self.assertEqual(refusal(self.answer(599, reason="Ouch")), f"The server answered 599 Ouch {opening}")
        self.assertEqual(refusal(self.answer(299)), f"The server answered 299 {opening}")

    def test_redirect(self) -> None:
        """Of a redirect is told where it points, though nobody goes there."""
        told = refusal(self.answer(301, ("location", "https://other.example/\x1b[31m")))
        self.assertEqual(
            told,
            "The server answered 301 Moved Permanently and points to https://other.example/ [31m, which is not followed.",
        )
        self.assertIn("instead of opening", refusal(self.answer(304)))

    def test_text(self) -> None:
        """A plain text is shown in one line, cut where it is long, and nothing of it reaches a terminal as it is."""
        plain = self.answer(403, ("content-type", "Text/Plain; charset=utf-8"))
        opening = "The server answered 403 Forbidden instead of opening a WebSocket"
        for body, shown in (
            (b"Come back\r\nlater.\n", "Come back later."),
            (b"\x1b[2Jcleared\x07\x00", "[2Jcleared"),
            (b"\xff\xfeodd", "\ufffd\ufffdodd"),
            (b"x" * EXCERPT, "x" * EXCERPT),
            (b"x" * (EXCERPT + 1), "x" * (EXCERPT - 3) + "..."),
        ):
            self.assertEqual(refusal(plain, body), f'{opening}: "{shown}"')
        self.assertEqual(refusal(plain, b" \n"), f"{opening}.")

    def test_otherBodies(self) -> None:
        """A page for browsers is not shown, nor the pieces of one that is sent in chunks."""
        for headers in (
            (),
            (("content-type", "text/html"),),
            (("content-type", "text/plain"), ("transfer-encoding", "chunked")),
        ):
            self.assertNotIn("hello", refusal(self.answer(500, *headers), b"hello"))

    def test_excerptSize(self) -> None:
        """A text is waited for until it is whole or long enough; what will not be shown is not waited for."""
        plain = ("content-type", "text/plain")
        for headers, size in (
            ((), 0),
            ((("content-type", "text/html"),), 0),
            ((plain, ("transfer-encoding", "chunked")), 0),
            ((plain,), 4 * EXCERPT),
            ((plain, ("content-length", "5")), 5),
            ((plain, ("content-length", "0")), 0),
            ((plain, ("content-length", "999999999999")), 4 * EXCERPT),
        ):
            self.assertEqual(excerptSize(self.answer(403, *headers)), size, headers)

    def test_endOfTheText(self) -> None:
        """What comes after the end of a text is not shown."""
        plain = self.answer(403, ("content-type", "text/plain"), ("content-length", "5"))
        self.assertTrue(refusal(plain, b"helloHTTP/1.1").endswith(': "hello"'))
