"""Tests for L{gateway.wire.http1}."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, Response, ResponseHead, parseRequestHead, parseResponseHead

UPGRADE = (
    b"GET /gateway?x=1 HTTP/1.1\r\n"
    b"Host: gw.example:9000\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

NAMES = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=20).map(
    lambda s: "x-" + s
)
VALUES = st.text([chr(c) for c in (*range(0x21, 0x7F), *range(0x80, 0x100))], max_size=30)
"""What RFC 9110, section 5.5, allows in a value, but for the whitespace within."""

LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"HEAD /healthz HTTP/1.0",
        b"CONNECT a:1 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET /",
        b"Host: a",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b" folded",
        b":",
        b"\x00",
        b"",
    ]
)
GARBAGE = st.binary(max_size=200) | st.lists(LINES, max_size=6).map(lambda lines: b"\r\n".join([*lines, b"", b""]))
"""Noise, and lines of real requests in any order."""


def parsed(data: bytes) -> RequestHead:
    """A head that is known to be complete."""
    head = parseRequestHead(data)
    assert head is not None
    return head


def withHeaders(*lines: bytes) -> bytes:
    """A request with these header lines."""
    return b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])


class ParseRequestHeadTests(SynchronousTestCase):
    """L{parseRequestHead} reads what a client sent first."""

    def assertRefused(self, data: bytes, code: str = "bad-request", **arguments: int) -> None:
        """Assert that this is refused with a sentence, and with nothing of what the client sent."""
        error = self.assertRaises(RemoteProtocolError, parseRequestHead, data, **arguments)
        self.assertEqual(error.code, code, data)
        self.assertRegex(
            error.details,
            r"^(This is not an HTTP/1 request|The request's (head|first line) is longer than \d+ bytes"
            r"|The request's head has more than \d+ fields|This version of HTTP is not spoken here)\.$",
        )
        self.assertIsNone(error.__cause__)

    def test_upgrade(self) -> None:
        """A WebSocket client's head, as a browser sends it."""
        head = parsed(UPGRADE)
        self.assertEqual(
            (head.method, head.target, head.path, head.version), ("GET", "/gateway?x=1", "/gateway", "1.1")
        )
        self.assertEqual(
            list(head.headers),
            [
                ("host", "gw.example:9000"),
                ("upgrade", "websocket"),
                ("connection", "keep-alive, Upgrade"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-version", "13"),
            ],
        )
        self.assertTrue(head.wantsWebSocket)

    def test_everySplit(self) -> None:
        """As long as the head is not complete more bytes are asked for; then it is read, whatever follows."""
        for end in range(len(UPGRADE)):
            self.assertIsNone(parseRequestHead(UPGRADE[:end]))
        whole = parsed(UPGRADE)
        for rest in (b"\x00", b"\r\n\r\n", UPGRADE, b"\xff" * 100):
            self.assertEqual(parsed(UPGRADE + rest), whole)

    def test_withoutHeaders(self) -> None:
        """A request line is enough, in both versions of HTTP/1."""
        for version in ("1.0", "1.1"):
            head = parsed(f"HEAD /healthz HTTP/{version}\r\n\r\n".encode())
            self.assertEqual(head, RequestHead("HEAD", "/healthz", version, []))

    def test_bodyIsNotRead(self) -> None:
        """A head that announces a body is read without it."""
        for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            self.assertEqual(parsed(withHeaders(line)).method, "GET")

    def test_targets(self) -> None:
        """Targets come as they were sent, in each of their forms (RFC 9112, section 3.2)."""
        for method, target, path in (
            ("GET", "/", "/"),
            ("GET", "/a%20b?c=d?e", "/a%20b"),
            ("GET", "//a/b", "//a/b"),
            ("GET", "http://gw.example/a?b", "http://gw.example/a"),
            ("CONNECT", "gw.example:22", "gw.example:22"),
            ("OPTIONS", "*", "*"),
        ):
            head = parsed(f"{method} {target} HTTP/1.1\r\n\r\n".encode())
            self.assertEqual((head.method, head.target, head.path), (method, target, path))

    def test_headerValues(self) -> None:
        """Values lose the blanks around them and nothing else, whatever their bytes are."""
        head = parsed(withHeaders(b"A:", b"B:  b c\t ", b"C: \xa0\xff\x85", b"D: a: b", b"a: again"))
        self.assertEqual(
            list(head.headers), [("a", ""), ("b", "b c"), ("c", "\xa0\xff\x85"), ("d", "a: b"), ("a", "again")]
        )

    def test_oneEmptyLineBefore(self) -> None:
        """An empty line before the request is overlooked (RFC 9112, section 2.2)."""
        self.assertEqual(parsed(b"\r\n" + UPGRADE), parsed(UPGRADE))

    def test_emptyLinesOnly(self) -> None:
        """Empty lines are no request."""
        self.assertRefused(b"\r\n\r\n")
        self.assertRefused(b"\r\n\r\n" + UPGRADE)

    def test_otherProtocols(self) -> None:
        """Of what cannot become HTTP, such as TLS, no more than a byte is waited for."""
        for data in (b"\x16", b"\x15\x03", b"\x00", b"{", b"get"):
            self.assertRefused(data)
            self.assertRaises(RemoteProtocolError, parseResponseHead, data)

    def test_otherVersions(self) -> None:
        """HTTP/0.9, the preface of HTTP/2 and versions that do not exist are refused, and said to be versions."""
        for data in (
            b"GET / HTTP/0.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET / HTTP/1.2\r\n\r\n",
        ):
            self.assertRefused(data, "version")
        for data in (
            b"GET /\r\n\r\n",
            b"GET / HTTP/11.1\r\n\r\n",
            b"GET / http/1.1\r\n\r\n",
            b"GET / RTSP/1.0\r\n\r\n",
        ):
            self.assertRefused(data)

    def test_garbage(self) -> None:
        """What is not HTTP is refused."""
        for data in (
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"EHLO mail.example\r\n\r\n",
            b"get / HTTP/1.1\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET  HTTP/1.1\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"\x00\r\n\r\n",
        ):
            self.assertRefused(data)

    def test_smuggling(self) -> None:
        """Heads that another server might read in another way are refused."""
        for line in (
            b"Host : a",
            b"Host: a\r\n folded",
            b" Host: a",
            b"Host",
            b": a",
            b"A: b\x00c",
            b"A: b\nC: d",
            b"A: b\rC: d",
            b"A\x00: b",
            b"Content-Length: -1",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        ):
            self.assertRefused(withHeaders(line))

    def test_limit(self) -> None:
        """A head as long as the limit is read; of one a byte longer no more than the limit is waited for."""
        size = len(UPGRADE)
        self.assertEqual(parseRequestHead(UPGRADE, limit=size), parsed(UPGRADE))
        self.assertEqual(parseRequestHead(UPGRADE + b"x" * size, limit=size), parsed(UPGRADE))
        self.assertIsNone(parseRequestHead(UPGRADE[:-2], limit=size - 1))
        self.assertRefused(UPGRADE[:-1], "head-too-large", limit=size - 1)
        self.assertRefused(UPGRADE, "head-too-large", limit=size - 1)

    def test_defaultLimit(self) -> None:
        """Without a limit of the caller's, 16 KiB are one."""
        size = 16 * 1024
        head = withHeaders(b"A: " + b"a" * (size - len(withHeaders(b"A: "))))
        self.assertEqual(len(head), size)
        self.assertEqual(len(parsed(head).get("a") or ""), size - len(withHeaders(b"A: ")))
        self.assertRefused(head.replace(b"A: ", b"A: a"), "head-too-large")

    @FUZZ
    @given(GARBAGE)
    def test_fuzz(self, data: bytes) -> None:
        """Whatever comes, the outcome is a head of the documented form, C{None}, C{bad-request} or C{version}."""
        try:
            head = parseRequestHead(data)
        except RemoteProtocolError as e:
            self.assertIn(e.code, ("bad-request", "version"))
            return
        if head is None:
            self.assertNotIn(b"\r\n\r\n", data)
        else:
            self.assertIn(head.version, ("1.0", "1.1"))
            self.assertTrue(head.method.isascii() and head.method.replace("-", "").isalpha() and head.method.isupper())
            self.assertTrue(head.target)
            for name, value in head.headers:
                self.assertEqual(name, name.lower())
                self.assertFalse(set(name + value) & set("\r\n\0"))

    @FUZZ
    @given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
    def test_roundTrip(self, headers: list[tuple[str, str]]) -> None:
        """Headers come out as they went in, but for the case of their names."""
        data = withHeaders(*(f"{name}: {value}".encode("latin-1") for name, value in headers))
        self.assertEqual(list(parsed(data).headers), [(name.lower(), value) for name, value in headers])


ACCEPTANCE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class ParseResponseHeadTests(SynchronousTestCase):
    """L{parseResponseHead} reads what a server sent first, by the same rules."""

    def assertRefused(self, data: bytes, code: str = "bad-response", **arguments: int) -> None:
        """Assert that this is refused with a sentence, and with nothing of what the server sent."""
        error = self.assertRaises(RemoteProtocolError, parseResponseHead, data, **arguments)
        self.assertEqual(error.code, code, data)
        self.assertRegex(
            error.details, r"^(This is not an HTTP/1 response|The response's head is longer than \d+ bytes)\.$"
        )

    def test_everySplit(self) -> None:
        """As long as the head is not complete more bytes are asked for; then it is read, whatever follows."""
        for end in range(len(ACCEPTANCE)):
            self.assertIsNone(parseResponseHead(ACCEPTANCE[:end]))
        headers = [("upgrade", "websocket"), ("connection", "Upgrade")]
        whole = ResponseHead(101, "Switching Protocols", "1.1", headers)
        for rest in (b"", b"\x00", b"\r\n\r\n", ACCEPTANCE, b"\xff" * 100):
            self.assertEqual(parseResponseHead(ACCEPTANCE + rest), whole)

    def test_statusLines(self) -> None:
        """Status and reason, which may be empty, in both versions of HTTP/1; a body is not read."""
        for line, status, reason, version in (
            (b"HTTP/1.1 200 OK", 200, "OK", "1.1"),
            (b"HTTP/1.1 101 Switching", 101, "Switching", "1.1"),
            (b"HTTP/1.0 403 Go away, please", 403, "Go away, please", "1.0"),
            (b"HTTP/1.1 503 ", 503, "", "1.1"),
            (b"HTTP/1.1 599", 599, "", "1.1"),
        ):
            for lines in (b"", b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked", b"\r\nConnection: Upgrade"):
                head = parseResponseHead(line + lines + b"\r\n\r\nbody")
                assert head is not None
                self.assertEqual((head.status, head.reason, head.version), (status, reason, version))

    def test_garbage(self) -> None:
        """What is not a response of HTTP/1 is refused."""
        for data in (
            b"\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.2 200 OK\r\n\r\n",
            b"HTTP/1.1 99 OK\r\n\r\n",
            b"HTTP/1.1 1000 OK\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        ):
            self.assertRefused(data)

    def test_limit(self) -> None:
        """A head as long as the limit is read; of one a byte longer no more than the limit is waited for."""
        size = len(ACCEPTANCE)
        self.assertIsNotNone(parseResponseHead(ACCEPTANCE + b"x" * size, limit=size))
        self.assertIsNone(parseResponseHead(ACCEPTANCE[:-2], limit=size - 1))
        self.assertRefused(ACCEPTANCE[:-1], "head-too-large", limit=size - 1)
        self.assertRefused(ACCEPTANCE, "head-too-large", limit=size - 1)

    @FUZZ
    @given(GARBAGE | GARBAGE.map(b"HTTP/1.1 101 Switching\r\n".__add__))
    def test_fuzz(self, data: bytes) -> None:
        """Whatever comes, the outcome is a head of the documented form, C{None} or C{bad-response}."""
        try:
            head = parseResponseHead(data)
        except RemoteProtocolError as e:
            self.assertEqual(e.code, "bad-response")
            return
        if head is not None:
            self.assertIn(head.version, ("1.0", "1.1"))
            self.assertLess(head.status, 1000)
            for name, value in head.headers:
                self.assertFalse(set(name + value + head.reason) & set("\r\n\0"))


class RequestHeadTests(SynchronousTestCase):
    """L{RequestHead} answers questions."""

    def test_get(self) -> None:
        """The first of several values is given, and C{None} if there is none."""
        head = parsed(withHeaders(b"A: 1", b"a: 2"))
        self.assertEqual(head.get("a"), "1")
        self.assertIsNone(head.get("b"))

    def test_tokens(self) -> None:
        """A list may be spread over lines; its members come without blanks, and none is empty; tokens in lower case."""
        head = parsed(withHeaders(b"A: One ,two,, ", b"B: four", b"A:\tTHREE", b"a:"))
        self.assertEqual(head.members("a"), ["One", "two", "THREE"])
        self.assertEqual(head.tokens("a"), {"one", "two", "three"})
        self.assertEqual(head.tokens("c"), set())

    def test_wantsWebSocket(self) -> None:
        """An Upgrade header with the member websocket, in any case, asks for a WebSocket; nothing else does."""
        for lines in ([b"Upgrade: websocket"], [b"Upgrade: WebSocket"], [b"Upgrade: h2c, websocket"]):
            self.assertTrue(parsed(withHeaders(*lines)).wantsWebSocket, lines)
        for lines in ([], [b"Upgrade: h2c"], [b"Upgrade: xwebsocket"], [b"Connection: websocket"], [b"Upgrade:"]):
            self.assertFalse(parsed(withHeaders(*lines)).wantsWebSocket, lines)


class ResponseTests(SynchronousTestCase):
    """L{Response} is a whole answer."""

    def test_encode(self) -> None:
        """The bytes of an answer: nothing keeps it, nothing guesses its type, and the connection ends with it."""
        response = Response(404, b"No.\n", headers=(("Allow", "GET"),))
        self.assertEqual(
            response.encode(),
            b"HTTP/1.1 404 Not Found\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 4\r\n"
            b"Cache-Control: no-store\r\n"
            b"X-Content-Type-Options: nosniff\r\n"
            b"Connection: close\r\n"
            b"Allow: GET\r\n"
            b"\r\n"
            b"No.\n",
        )

    def test_withoutBody(self) -> None:
        """The answer to HEAD is the same without the body, whose length it tells."""
        response = Response(200, b"12345", "text/html")
        self.assertEqual(response.encode(withBody=False) + b"12345", response.encode())
        self.assertIn(b"\r\nContent-Length: 5\r\n", response.encode(withBody=False))
        self.assertIn(b"\r\nContent-Type: text/html\r\n", response.encode())

    def test_unknownStatus(self) -> None:
        """A status that does not exist is our own mistake."""
        self.assertRaises(ValueError, Response(299, b"").encode)
