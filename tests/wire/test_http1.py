"""Tests for L{gateway.wire.http1}."""

import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.http1 import (
    RequestHead,
    Response,
    ResponseHead,
    encodeFields,
    encodeRequestHead,
    encodeResponseHead,
    parseRequestHead,
    parseResponseHead,
)
from tests.wire.test_http1smuggling import VARIANTS

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

_ANYTHING = st.sampled_from([each.data for each in VARIANTS]) | GARBAGE
_BYTES = st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x0b", b"\x7f", b"\xff", b"#", b""])

STRICT = re.compile(
    rb"(?:\r\n)?([A-Z][A-Z-]*) ([\x21-\x7e]+) HTTP/(1\.[01])\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
"""The grammar of RFC 9112, with nothing that it leaves to who reads."""


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An attack, or noise, with something in it replaced."""
    data = draw(_ANYTHING)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(_BYTES) + data[start + draw(st.integers(0, 2)) :]
    return data


def grown(data: bytes, step: int) -> RequestHead | str | None:
    """What comes of a head that arrives in pieces of this size, or the code with which it is refused."""
    for end in range(step, len(data) + step, step):
        try:
            if (head := parseRequestHead(data[:end], limit=200)) is not None:
                return head
        except RemoteProtocolError as e:
            return e.code
    return None


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

    def test_lineLimit(self) -> None:
        """A first line that alone is as long as the limit is said to be too long."""
        self.assertIsNone(parseRequestHead(b"GET /" + b"a" * 94, limit=100))
        self.assertRefused(b"GET /" + b"a" * 95, "uri-too-long", limit=100)
        self.assertRefused(b"\r\nGET /" + b"a" * 93, "uri-too-long", limit=100)
        self.assertRefused(b"GET / HTTP/1.1\r\n" + b"a" * 84, "head-too-large", limit=100)

    def test_fieldsLimit(self) -> None:
        """As many fields as the limit are read, and not one more."""
        self.assertEqual(len(parsed(withHeaders(*[b"a: b"] * 100)).headers), 100)
        self.assertRefused(withHeaders(*[b"a: b"] * 101), "head-too-large")
        self.assertEqual(parseRequestHead(withHeaders(b"a: b"), maxFields=1), parsed(withHeaders(b"a: b")))
        self.assertRefused(withHeaders(b"a: b", b"a: b"), "head-too-large", maxFields=1)

    @FUZZ
    @given(mutated())
    def test_strict(self, data: bytes) -> None:
        """Whatever is read is a head by the letter of the RFC, and what is read is what it says."""
        try:
            head = parseRequestHead(data)
        except RemoteProtocolError:
            return
        if head is None:
            return
        match = STRICT.match(data)
        assert match is not None
        self.assertEqual(match.end(), data.index(b"\r\n\r\n") + 4)
        self.assertEqual((head.method, head.target, head.version), tuple(match[n].decode("latin-1") for n in (1, 2, 3)))
        lines = [line.partition(":") for line in match[4].decode("latin-1").split("\r\n")[:-1]]
        self.assertEqual(list(head.headers), [(name.lower(), value.strip(" \t")) for name, _, value in lines])

    @FUZZ
    @given(mutated(), st.integers(1, 50))
    def test_anySplit(self, data: bytes, step: int) -> None:
        """It makes no difference in how many pieces a head comes."""
        whole = grown(data, max(1, len(data)))
        self.assertEqual(grown(data, 1), whole)
        self.assertEqual(grown(data, step), whole)

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


class EncodeTests(SynchronousTestCase):
    """L{encodeRequestHead} and L{encodeResponseHead} are the way back."""

    def test_request(self) -> None:
        """Names are spelled as they mostly are, and the version is ours, whatever came."""
        fields = [
            ("host", "a"),
            ("etag", "x"),
            ("www-authenticate", "y"),
            ("sec-websocket-key", "z"),
            ("x-request-id", ""),
        ]
        for version in ("1.0", "1.1", "2"):
            self.assertEqual(
                encodeRequestHead(RequestHead("GET", "/a?b", version, fields)),
                b"GET /a?b HTTP/1.1\r\nHost: a\r\nETag: x\r\nWWW-Authenticate: y\r\nSec-WebSocket-Key: z\r\n"
                b"X-Request-ID: \r\n\r\n",
            )

    def test_response(self) -> None:
        """A status line may have no words; a head may have no fields."""
        self.assertEqual(encodeResponseHead(ResponseHead(200, "OK", "1.0", [])), b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(encodeResponseHead(ResponseHead(404, "", "2", [("a", "b")])), b"HTTP/1.1 404 \r\nA: b\r\n\r\n")

    def test_injection(self) -> None:
        """What would end a line is our mistake, wherever it is, and never written."""
        for bad in ("\r\n", "\n", "\r", "\0", "\x0b", "\x7f", "\r\nX: y"):
            for head in (
                RequestHead("GET", "/" + bad, "1.1", []),
                RequestHead("GET" + bad, "/", "1.1", []),
                RequestHead("GET", "/", "1.1", [("a", "b" + bad)]),
                RequestHead("GET", "/", "1.1", [("a" + bad, "b")]),
            ):
                self.assertRaises(LocalProtocolError, encodeRequestHead, head)
            self.assertRaises(LocalProtocolError, encodeResponseHead, ResponseHead(200, "OK" + bad, "1.1", []))
            self.assertRaises(LocalProtocolError, encodeResponseHead, ResponseHead(200, "OK", "1.1", [("a", bad)]))
        for head in (
            RequestHead("GET", "/ HTTP/1.1", "2", []),
            RequestHead("GET /", "/", "2", []),
            RequestHead("", "/", "2", []),
            RequestHead("GET", "", "2", []),
            RequestHead("GET", "/", "2", [("", "b")]),
            RequestHead("GET", "/", "2", [("a:", "b")]),
            RequestHead("GET", "/", "2", [(" a", "b")]),
        ):
            self.assertRaises(LocalProtocolError, encodeRequestHead, head)

    @FUZZ
    @given(st.lists(st.tuples(NAMES.map(str.lower), VALUES), max_size=8))
    def test_roundTrip(self, fields: list[tuple[str, str]]) -> None:
        """What we write we read, both ways round."""
        request = RequestHead("PUT", "/a", "1.1", fields)
        self.assertEqual(parseRequestHead(encodeRequestHead(request)), request)
        response = ResponseHead(201, "Made", "1.1", fields)
        self.assertEqual(parseResponseHead(encodeResponseHead(response)), response)
        self.assertEqual(encodeRequestHead(request), b"PUT /a HTTP/1.1\r\n" + encodeFields(fields))

    @FUZZ
    @given(mutated())
    def test_same(self, data: bytes) -> None:
        """What was read and is written means the same to who reads that."""
        try:
            head = parseRequestHead(data)
        except RemoteProtocolError:
            return
        if head is not None:
            again = parseRequestHead(encodeRequestHead(head))
            assert again is not None
            self.assertEqual((again.method, again.target, again.headers), (head.method, head.target, head.headers))


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


class BannerTests(SynchronousTestCase):
    """
    Peers that speak something else.
    """

    def test_first(self) -> None:
        """Who greets in another protocol, and then waits, is recognised by its first bytes."""
        for banner in (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"220 mail.example ESMTP\r\n", b"HTTP/2", b"\r\nEHLO", b"HE"):
            self.assertEqual(self.assertRaises(RemoteProtocolError, parseResponseHead, banner).code, "bad-response")
        for beginning in (b"", b"\r", b"\r\n", b"\r\nH", b"HTTP/1", b"HTTP/1.1 200 OK\r\nA: b"):
            self.assertIsNone(parseResponseHead(beginning))
