"""Tests for L{gateway.wire.http1body}."""

import re
import string
from itertools import pairwise

import httptools
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead, parseRequestHead
from gateway.wire.http1body import (
    MAX_CHUNK_LINE,
    MAX_EXTENSIONS,
    MAX_TRAILER_FIELDS,
    MAX_TRAILERS,
    UNTIL_CLOSE,
    BodyReader,
    Buffer,
    checkRequest,
    chunkHead,
    endToEnd,
    isAuthority,
    keepsAlive,
    lastChunk,
    requestLength,
    responseLength,
)

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

Fields = list[tuple[str, str]]

_TOKENS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=8)
_EXTENSIONS = st.lists(
    _TOKENS.map(lambda t: f";{t}")
    | st.tuples(_TOKENS, _TOKENS).map(lambda t: f";{t[0]}={t[1]}")
    | _TOKENS.map(lambda t: f';{t}="a;\\"{t}"'),
    max_size=3,
).map(lambda parts: "".join(parts).encode())
_CHUNK = st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from(["%x", "%X", "0%x", "%04x"]), _EXTENSIONS)
_TRAILERS = st.lists(st.tuples(_TOKENS.map(lambda t: "x-" + t.lower()), _TOKENS), max_size=3)


def _encoded(chunks: list[tuple[bytes, str, bytes]], trailers: Fields) -> bytes:
    """A body in chunks as somebody else may write it."""
    body = b"".join((size % len(data)).encode() + ext + b"\r\n" + data + b"\r\n" for data, size, ext in chunks)
    return body + b"00\r\n" + b"".join(f"{n}:{v} \r\n".encode() for n, v in trailers) + b"\r\n"


_BODIES = st.builds(_encoded, st.lists(_CHUNK, max_size=5), _TRAILERS)
_BYTES = st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b";", b"0", b"5", b"g", b"+", b'"', b"\0", b":", b""])


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A body with something in it replaced."""
    data = draw(_BODIES)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(_BYTES) + data[start + draw(st.integers(0, 2)) :]
    return data


def read(length: int | None, pieces: list[bytes]) -> tuple[bytes, bytes, Fields, bool] | str:
    """What comes of a body that arrives in these pieces: payload, what is behind, trailers, whether it is complete."""
    reader, payload, rest = BodyReader(length), b"", b""
    try:
        for piece in pieces:
            got, behind = reader.receive(piece)
            assert all(got), "an empty piece"
            payload += b"".join(got)
            rest += bytes(behind)
    except RemoteProtocolError as e:
        return e.code
    return payload, rest, reader.trailers, reader.isDone


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """These bytes in pieces."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def otherDecoder(data: bytes) -> tuple[bytes, Fields, int] | None:
    """
    The grammar of RFC 9112, section 7.1, once more, and for a whole body only.

    @return: payload, trailers, and where it ends; C{None} for what is no such body.
    """
    payload, position = b"", 0
    token = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    quoted = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
    while True:
        if not (
            line := re.compile(
                rb"([0-9a-fA-F]+)((?:;%b(?:=(?:%b|%b))?)*)\r\n" % (token, token, quoted),
            ).match(data, position)
        ):
            return None
        position, size = line.end(), int(line[1], 16)
        if size == 0:
            break
        payload += data[position : position + size]
        position += size
        if data[position : position + 2] != b"\r\n":
            return None
        position += 2
    trailers: Fields = []
    while data[position : position + 2] != b"\r\n":
        if not (field := re.compile(rb"(%b):([\t \x21-\x7e\x80-\xff]*)\r\n" % token).match(data, position)):
            return None
        trailers.append((field[1].decode().lower(), field[2].decode("latin-1").strip(" \t")))
        position = field.end()
    return payload, trailers, position + 2


class Llhttp:
    """What Node would read."""

    def __init__(self, fields: bytes, body: bytes) -> None:
        self.body, self.complete, self.refused = b"", False, False
        try:
            httptools.HttpRequestParser(self).feed_data(b"POST / HTTP/1.1\r\n" + fields + b"\r\n\r\n" + body)
        except httptools.HttpParserError:
            self.refused = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


class ChunksTests(SynchronousTestCase):
    """L{BodyReader} reads a body in chunks, and knows where it ends."""

    def test_example(self) -> None:
        """Payload, trailers, and what is behind; extensions are dropped."""
        data = b'5\r\nhello\r\n1;a=b;c="d;e"\r\n!\r\n0;x\r\nX-Sum: 1 \r\nY:\r\n\r\nGET /'
        self.assertEqual(read(None, [data]), (b"hello!", b"GET /", [("x-sum", "1"), ("y", "")], True))

    def test_views(self) -> None:
        """Payload is not copied, and a piece comes as soon as its bytes do."""
        data = b"fff\r\n" + b"a" * 100
        pieces, rest = BodyReader(None).receive(data)
        self.assertEqual((len(pieces), rest), (1, b""))
        assert isinstance(pieces[0], memoryview)
        self.assertIs(pieces[0].obj, data)

    def test_manyPieces(self) -> None:
        """Of a great many chunks one piece is made, as each piece is passed on by itself."""
        pieces, _ = BodyReader(None).receive(b"1\r\na\r\n" * 1000)
        self.assertEqual(pieces, [b"a" * 1000])

    def test_behind(self) -> None:
        """After the end everything is behind it."""
        reader = BodyReader(None)
        self.assertEqual(reader.receive(b"0\r\n\r\n"), ([], b""))
        self.assertTrue(reader.isDone)
        self.assertEqual(reader.receive(b"abc"), ([], b"abc"))

    @FUZZ
    @given(_BODIES | _mutated(), st.binary(max_size=20), st.lists(st.integers(0, 1000), max_size=8))
    def test_anySplit(self, body: bytes, behind: bytes, places: list[int]) -> None:
        """It makes no difference how the bytes are cut, whole, at random, or one by one."""
        data = body + behind
        whole = read(None, [data])
        self.assertEqual(read(None, cut(data, places)), whole)
        self.assertEqual(read(None, [data[n : n + 1] for n in range(len(data))]), whole)

    @FUZZ
    @given(st.lists(_CHUNK, max_size=5), _TRAILERS, st.binary(max_size=20))
    def test_othersChunks(self, chunks: list[tuple[bytes, str, bytes]], trailers: Fields, behind: bytes) -> None:
        """What somebody else encoded by the RFC is read."""
        payload = b"".join(data for data, _, _ in chunks)
        self.assertEqual(read(None, [_encoded(chunks, trailers) + behind]), (payload, behind, trailers, True))

    @FUZZ
    @given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), _TRAILERS, st.binary(max_size=20))
    def test_roundTrip(self, chunks: list[bytes], trailers: Fields, behind: bytes) -> None:
        """What we encode is read, by us and by llhttp."""
        body = b"".join([chunkHead(len(each)) + each + b"\r\n" for each in chunks]) + lastChunk(trailers)
        self.assertEqual(read(None, [body + behind]), (b"".join(chunks), behind, trailers, True))
        node = Llhttp(b"Transfer-Encoding: chunked", body)
        self.assertEqual((node.body, node.complete, node.refused), (b"".join(chunks), True, False))

    @FUZZ
    @given(_BODIES | _mutated())
    def test_differential(self, data: bytes) -> None:
        """
        Another decoder of the same grammar reads the same. llhttp may refuse more, but what it reads is the same, and
        ends in the same place.
        """
        ours, other = read(None, [data]), otherDecoder(data)
        if isinstance(ours, str) or not ours[3]:
            self.assertIsNone(other)
            return
        assert other is not None
        self.assertEqual((ours[0], ours[2], len(data) - len(ours[1])), other)
        node = Llhttp(b"Transfer-Encoding: chunked", data[: other[2]])
        if not node.refused:
            self.assertEqual((node.body, node.complete), (ours[0], True))
            self.assertFalse(Llhttp(b"Transfer-Encoding: chunked", data[: other[2] - 1]).complete)

    def test_size(self) -> None:
        """A size may have zeros before it, and fifteen digits; and not one more."""
        for size in (b"5", b"05", b"0" * 14 + b"5"):
            self.assertEqual(read(None, [size + b"\r\nhello\r\n0\r\n\r\n"]), (b"hello", b"", [], True))
        self.assertEqual(read(None, [b"f" * 15 + b"\r\nhello"]), (b"hello", b"", [], False))
        self.assertEqual(read(None, [b"0" * 15 + b"5\r\nhello\r\n0\r\n\r\n"]), "bad-body")

    def test_lineLimit(self) -> None:
        """The line before a chunk has a limit, and one byte more is not waited for."""
        line = b"5;" + b"a" * (MAX_CHUNK_LINE - 4)
        self.assertEqual(read(None, [line + b"\r\nhello"]), (b"hello", b"", [], False))
        self.assertEqual(read(None, [line + b"a\r\nhello"]), "bad-body")
        self.assertEqual(read(None, [b"0" * (MAX_CHUNK_LINE - 1)]), (b"", b"", [], False))
        self.assertEqual(read(None, [b"0" * MAX_CHUNK_LINE]), "bad-body")

    def test_extensionsLimit(self) -> None:
        """The extensions of all chunks together have a limit."""
        chunk = b"1;" + b"a" * 127 + b"\r\nb\r\n"
        count = MAX_EXTENSIONS // 128
        self.assertEqual(read(None, [chunk * count]), (b"b" * count, b"", [], False))
        self.assertEqual(read(None, [chunk * count + b"1;a\r\nb\r\n"]), "bad-body")

    def test_trailersLimit(self) -> None:
        """So have trailers, in bytes and in number."""
        size = MAX_TRAILERS - len(b"X: \r\n\r\n")
        last = b"0\r\nX: " + b"a" * size
        self.assertEqual(read(None, [last + b"\r\n\r\n"]), (b"", b"", [("x", "a" * size)], True))
        self.assertEqual(read(None, [last + b"a\r\n\r\n"]), "bad-body")
        self.assertEqual(read(None, [last[:-1]]), (b"", b"", [], False))
        self.assertEqual(read(None, [last + b"aaaaa"]), "bad-body")
        lines = b"0\r\n" + b"X: y\r\n" * MAX_TRAILER_FIELDS
        self.assertEqual(read(None, [lines + b"\r\n"]), (b"", b"", [("x", "y")] * MAX_TRAILER_FIELDS, True))
        self.assertEqual(read(None, [lines + b"X: y\r\n\r\n"]), "bad-body")

    def test_forbiddenTrailers(self) -> None:
        """Trailers that would change the message, or say who asks, are dropped (RFC 9110, section 6.5.1)."""
        for name in (
            "Content-Length",
            "Transfer-Encoding",
            "Host",
            "Trailer",
            "TE",
            "Connection",
            "Upgrade",
            "Authorization",
            "Cookie",
            "Set-Cookie",
            "Content-Type",
            "Content-Encoding",
            "Range",
            "If-Match",
            "Expect",
            "Location",
            "X-Forwarded-For",
            "Forwarded",
            "X-Real-IP",
            "Proxy-Authorization",
        ):
            data = f"0\r\nA: b\r\n{name}: 1\r\nGrpc-Status: 0\r\n\r\n".encode()
            self.assertEqual(read(None, [data]), (b"", b"", [("a", "b"), ("grpc-status", "0")], True), name)

    def test_soonRefused(self) -> None:
        """What cannot become right is not waited for."""
        for data in (b"5\n", b"g\r\n", b"5\r\nhelloX", b"5\r\nhello\n", b"\r\n"):
            self.assertEqual(read(None, [data]), "bad-body", data)


class LengthTests(SynchronousTestCase):
    """L{BodyReader} reads bodies of a known length, and of none."""

    def test_none(self) -> None:
        """A body of no bytes is complete from the beginning."""
        self.assertTrue(BodyReader(0).isDone)
        self.assertEqual(read(0, [b"GET"]), (b"", b"GET", [], True))

    @FUZZ
    @given(st.binary(min_size=1, max_size=50), st.binary(max_size=20), st.lists(st.integers(0, 100), max_size=5))
    def test_anySplit(self, body: bytes, behind: bytes, places: list[int]) -> None:
        """As many bytes as the length says are the body's, however they come."""
        self.assertEqual(read(len(body), cut(body + behind, places)), (body, behind, [], True))

    def test_asItCame(self) -> None:
        """What is the body's as a whole is passed on as it is; and of what is not, views."""
        reader, data = BodyReader(10), memoryview(b"12345")
        self.assertIs(reader.receive(data)[0][0], data)
        more = b"67890GET"
        pieces, rest = reader.receive(more)
        for each in (pieces[0], rest):
            assert isinstance(each, memoryview)
            self.assertIs(each.obj, more)
        self.assertEqual((pieces, rest), ([b"67890"], b"GET"))

    def test_untilClose(self) -> None:
        """Everything is the body's, to the end of the connection."""
        reader = BodyReader(UNTIL_CLOSE)
        self.assertEqual(reader.receive(b"abc"), ([b"abc"], b""))
        self.assertFalse(reader.isDone)
        reader.ended()
        self.assertTrue(reader.isDone)

    def test_cutOff(self) -> None:
        """A connection that ends within a body is told from one that ends behind it."""
        reads: list[tuple[int | None, bytes]] = [(5, b"1234"), (None, b"5\r\n"), (None, b"0\r\n"), (None, b"")]
        for length, data in reads:
            reader = BodyReader(length)
            reader.receive(data)
            self.assertEqual(self.assertRaises(RemoteProtocolError, reader.ended).code, "cut-off")
        ends: list[tuple[int | None, bytes]] = [(0, b""), (4, b"1234"), (None, b"0\r\n\r\n")]
        for length, data in ends:
            reader = BodyReader(length)
            reader.receive(data)
            reader.ended()


def request(
    target: str = "/",
    *fields: tuple[str, str],
    method: str = "GET",
    version: str = "1.1",
    host: str | None = "a.example",
) -> RequestHead:
    """A request's head."""
    return RequestHead(method, target, version, [*fields, *([("host", host)] if host is not None else ())])


class CheckRequestTests(SynchronousTestCase):
    """L{checkRequest} wants one host, and a target in it. What it refuses is in L{tests.wire.test_http1smuggling}."""

    def test_originForm(self) -> None:
        """A target in origin-form stays as it is, and the head the same object."""
        for target in ("/", "/a?b=c", "//a", "/%00%zz", "/a|b", "/http://a.example/"):
            head = request(target)
            self.assertIs(checkRequest(head), head)

    def test_absoluteForm(self) -> None:
        """A target in absolute-form for the same host becomes one in origin-form."""
        for target, host, path in (
            ("http://a.example", "a.example", "/"),
            ("http://a.example/", "a.example", "/"),
            ("https://A.example/b?c", "a.EXAMPLE", "/b?c"),
            ("HTTP://a.example:80?c", "a.example:80", "/?c"),
            ("http://[::1]:80/x", "[::1]:80", "/x"),
        ):
            self.assertEqual(checkRequest(request(target, host=host)).target, path)

    def test_asterisk(self) -> None:
        """OPTIONS may be about the whole host, in both forms."""
        self.assertEqual(checkRequest(request("*", method="OPTIONS")).target, "*")
        self.assertEqual(checkRequest(request("http://a.example", method="OPTIONS")).target, "*")
        self.assertEqual(checkRequest(request("http://a.example/", method="OPTIONS")).target, "/")

    def test_withoutHost(self) -> None:
        """HTTP/1.0 knows no Host; every other version asks for one, HTTP/2 too."""
        head = request(version="1.0", host=None)
        self.assertIs(checkRequest(head), head)
        self.assertRaises(RemoteProtocolError, checkRequest, request("http://a.example/", version="1.0", host=None))
        self.assertRaises(RemoteProtocolError, checkRequest, request(version="2", host=None))

    def test_hosts(self) -> None:
        """Names and addresses, with and without a port, in any case, also with the dot of the root."""
        for host in (
            "a.example",
            "A.Example.",
            "localhost:8080",
            "a_b.example",
            "xn--bcher-kva.example",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[2001:DB8::1]:65535",
            "[::ffff:127.0.0.1]:80",
        ):
            self.assertTrue(isAuthority(host), host)
        for host in (
            "",
            "a.example:",
            "a:b:1",
            "256.0.0.1",
            "1.2.3",
            "a b",
            "[::1",
            "::1",
            "a.example..",
            "-a",
            "a" * 64,
        ):
            self.assertFalse(isAuthority(host), host)


class LengthsTests(SynchronousTestCase):
    """L{requestLength} and L{responseLength} say how long a body is. What they refuse is among the variants, too."""

    def test_request(self) -> None:
        """A length, chunks, or none; whatever the method."""
        for method in ("GET", "POST"):
            self.assertEqual(requestLength(request(method=method)), 0)
            self.assertEqual(requestLength(request("/", ("content-length", "0"), method=method)), 0)
            self.assertEqual(requestLength(request("/", ("content-length", "9" * 18), method=method)), int("9" * 18))
            self.assertIsNone(requestLength(request("/", ("transfer-encoding", "Chunked"), method=method)))

    def test_response(self) -> None:
        """A length, chunks, or until the connection ends."""

        def length(*fields: tuple[str, str], status: int = 200, method: str = "GET") -> int | None:
            return responseLength(ResponseHead(status, "", "1.1", fields), method)

        self.assertEqual(length(), UNTIL_CLOSE)
        self.assertEqual(length(("content-length", "5")), 5)
        self.assertIsNone(length(("transfer-encoding", "chunked")))
        self.assertIsNone(length(("transfer-encoding", "chunked"), status=500, method="POST"))

    def test_withoutBody(self) -> None:
        """Some responses have none, whatever they say of one (RFC 9112, section 6.3)."""
        for method, status in (("HEAD", 200), ("GET", 304)):
            for field in (("content-length", "5"), ("transfer-encoding", "chunked"), ("a", "b")):
                self.assertEqual(responseLength(ResponseHead(status, "", "1.1", [field]), method), 0)
        for status in (100, 101, 103, 204):
            self.assertEqual(responseLength(ResponseHead(status, "", "1.1", []), "GET"), 0)
            self.assertEqual(responseLength(ResponseHead(status, "", "1.1", [("content-length", "0")]), "GET"), 0)


class FieldsTests(SynchronousTestCase):
    """What is for one connection, and what is not."""

    def test_endToEnd(self) -> None:
        """Well-known fields of the connection go, those that Connection names, and Proxy; the others stay in order."""
        fields = [
            ("a", "1"),
            ("connection", "close, X-One ,\tx-two"),
            ("x-one", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("connection", "X-Three"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("proxy", "http://evil.example"),
            ("proxy-authorization", "Basic"),
            ("http2-settings", ""),
            ("a", "2"),
        ]
        self.assertEqual(endToEnd(fields), [("a", "1"), ("a", "2")])

    def test_notByConnection(self) -> None:
        """What others rely on cannot be taken away by naming it in Connection."""
        names = ["host", "content-length", "authorization", "cookie", "forwarded", "x-forwarded-for", "x-real-ip"]
        fields = [(name, "1") for name in names]
        self.assertEqual(endToEnd([("connection", ", ".join(names)), *fields]), fields)

    def test_keepsAlive(self) -> None:
        """HTTP/1.1 goes on unless it says close, and HTTP/1.0 ends unless it says keep-alive."""
        for version, values, expected in (
            ("1.1", [], True),
            ("1.1", ["close"], False),
            ("1.1", ["Upgrade, Close"], False),
            ("1.1", ["x", "close"], False),
            ("1.1", ["closed"], True),
            ("1.0", [], False),
            ("1.0", ["Keep-Alive"], True),
            ("1.0", ["keep-alive", "close"], False),
            ("1.0", ["x"], False),
            ("2", [], True),
        ):
            fields = [("connection", value) for value in values]
            self.assertEqual(keepsAlive(request("/", *fields, version=version)), expected, (version, values))
            self.assertEqual(keepsAlive(ResponseHead(200, "", version, fields)), expected, (version, values))


class EncodeTests(SynchronousTestCase):
    """Bodies to bytes."""

    def test_chunkHead(self) -> None:
        """A size in hexadecimal."""
        self.assertEqual([chunkHead(1), chunkHead(0x1F2E)], [b"1\r\n", b"1f2e\r\n"])

    def test_lastChunk(self) -> None:
        """With trailers, or without; none of which ends its line."""
        self.assertEqual(lastChunk(), b"0\r\n\r\n")
        self.assertEqual(lastChunk([("grpc-status", "0")]), b"0\r\nGrpc-Status: 0\r\n\r\n")
        self.assertRaises(LocalProtocolError, lastChunk, [("a", "b\r\nc: d")])

    def test_request(self) -> None:
        """Head and body of one request after another are read as they were written."""
        data = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
        rest: Buffer = data * 3
        for _ in range(3):
            head = parseRequestHead(bytes(rest))
            assert head is not None
            reader = BodyReader(requestLength(checkRequest(head)))
            pieces, rest = reader.receive(bytes(rest).partition(b"\r\n\r\n")[2])
            self.assertEqual((b"".join(pieces), reader.isDone), (b"a", True))
        self.assertEqual(rest, b"")
