"""
What two readers could read in two ways is refused: the variants of request smuggling, as bytes, and what is said to them.

L{VARIANTS} is sent over real connections by C{tests.integration.test_smuggling}, too.
"""

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead, parseRequestHead, parseResponseHead
from gateway.wire.http1body import BodyReader, checkRequest, requestLength, responseLength

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"
"""What an attacker wants to be read as a request of its own."""

BAD = "bad-request"
BODY = "bad-body"
CODING = "unsupported-coding"
VERSION = "version"


@dataclass(frozen=True, slots=True)
class Variant:
    """
    An attack.

    @ivar name: what is done.
    @ivar data: all that is sent.
    @ivar code: with what it is refused; C{None}: it means one thing only, and is let through.
    """

    name: str
    data: bytes
    code: str | None


def post(name: str, fields: bytes, code: str | None, body: bytes = b"5\r\nhello\r\n0\r\n\r\n") -> Variant:
    """A request with a body that is described in a strange way."""
    return Variant(name, b"POST /a HTTP/1.1\r\nHost: a.example\r\n" + fields + b"\r\n\r\n" + body + SMUGGLED, code)


def chunks(name: str, body: bytes, code: str | None = BODY) -> Variant:
    """A request whose chunks are strange."""
    return post(f"chunks: {name}", b"Transfer-Encoding: chunked", code, body)


def get(name: str, lines: bytes, code: str | None = BAD) -> Variant:
    """A request without a body."""
    return Variant(name, lines + b"\r\n\r\n", code)


def host(name: str, value: bytes, code: str | None = BAD) -> Variant:
    """A request for a strange host."""
    return get(f"Host: {name}", b"GET /a HTTP/1.1\r\nHost:" + value, code)


def target(name: str, value: bytes, code: str | None = BAD) -> Variant:
    """A request for something strange."""
    return get(f"target: {name}", b"GET " + value + b" HTTP/1.1\r\nHost: a.example", code)


LENGTHS = [
    post("two lengths", b"Content-Length: 5\r\nContent-Length: 6", BAD),
    post("two equal lengths", b"Content-Length: 5\r\nContent-Length: 5", BAD),
    post("two lengths in a line", b"Content-Length: 5, 6", BAD),
    post("two equal lengths in a line", b"Content-Length: 5,5", BAD),
    post("length, then chunked", b"Content-Length: 5\r\nTransfer-Encoding: chunked", BAD),
    post("chunked, then length", b"Transfer-Encoding: chunked\r\nContent-Length: 5", BAD),
    post("length 0, then chunked", b"Content-Length: 0\r\nTransfer-Encoding: chunked", BAD),
    post("length +5", b"Content-Length: +5", BAD),
    post("length -1", b"Content-Length: -1", BAD),
    post("length 0x5", b"Content-Length: 0x5", BAD),
    post("length 5_0", b"Content-Length: 5_0", BAD),
    post("length 5.0", b"Content-Length: 5.0", BAD),
    post("length 5 6", b"Content-Length: 5 6", BAD),
    post("length '5'", b"Content-Length: '5'", BAD),
    post("length empty", b"Content-Length:", BAD),
    post("length of blanks", b"Content-Length: \t ", BAD),
    post("length beyond 2**63", b"Content-Length: 9223372036854775808", BAD),
    post("length beyond 2**64", b"Content-Length: 18446744073709551621", BAD),
    post("length with zeros before it", b"Content-Length: " + b"0" * 20 + b"5", BAD),
    post("length in digits of another script", "Content-Length: \u0665".encode(), BAD),
    post("length behind a vertical tab", b"Content-Length:\x0b5", BAD),
    post("space before the length's colon", b"Content-Length : 5", BAD),
    post("a name that is the length's with underscore", b"Content_Length: 5", None, b""),
]
CODINGS = [
    post("chunked behind a tab", b"Transfer-Encoding:\tchunked", None),
    post("cHuNkEd", b"Transfer-Encoding: cHuNkEd", None),
    post("xchunked", b"Transfer-Encoding: xchunked", CODING),
    post("chunked twice", b"Transfer-Encoding: chunked, chunked", BAD),
    post("chunked in two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BAD),
    post("chunked and identity in two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", BAD),
    post("identity and chunked in two lines", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", CODING),
    post("identity", b"Transfer-Encoding: identity", CODING),
    post("gzip, chunked", b"Transfer-Encoding: gzip, chunked", CODING),
    post("chunked, gzip", b"Transfer-Encoding: chunked, gzip", BAD),
    post("chunked;q=1", b"Transfer-Encoding: chunked;q=1", CODING),
    post('"chunked"', b'Transfer-Encoding: "chunked"', CODING),
    post("no coding", b"Transfer-Encoding:", BAD),
    post("a comma and chunked", b"Transfer-Encoding: , chunked", CODING),
    post("chunked behind a vertical tab", b"Transfer-Encoding:\x0bchunked", BAD),
    post("chunked before a vertical tab", b"Transfer-Encoding: chunked\x0b", BAD),
    post("chunked behind a NUL", b"Transfer-Encoding: \0chunked", BAD),
    post("chunked behind a no-break space", b"Transfer-Encoding: \xa0chunked", CODING),
    post("space before the coding's colon", b"Transfer-Encoding : chunked", BAD),
    post("tab before the coding's colon", b"Transfer-Encoding\t: chunked", BAD),
    post("the coding in a folded line", b"Transfer-Encoding:\r\n chunked", BAD),
    post("the coding behind a folded line", b"X: y\r\n Transfer-Encoding: chunked", BAD),
    post("the coding behind a bare LF", b"X: y\nTransfer-Encoding: chunked", BAD),
    post("the coding behind a bare CR", b"X: y\rTransfer-Encoding: chunked", BAD),
    post("the coding behind LF CR", b"X: y\n\rTransfer-Encoding: chunked", BAD),
    Variant(
        "chunked in HTTP/1.0",
        b"POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        BAD,
    ),
]
LINES = [
    get("bare LF behind the request line", b"GET / HTTP/1.1\nHost: a.example"),
    get("bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a.example\nX: y"),
    get("bare CR in a field", b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y\rz"),
    get("CR CR LF", b"GET / HTTP/1.1\r\nHost: a.example\r\r\nX: y"),
    get("an end of bare LF", b"GET / HTTP/1.1\r\nHost: a.example\r\n\nGET /smuggled HTTP/1.1\r\nHost: a.example"),
    get("an end of CR LF LF", b"GET / HTTP/1.1\r\nHost: a.example\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example"),
    get("a folded line", b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y\r\n z"),
    get("a line folded by a tab", b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y\r\n\tz"),
    get("a space before the first field", b"GET / HTTP/1.1\r\n Host: a.example"),
    get("a NUL in a value", b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y\0z"),
    get("a NUL in a name", b"GET / HTTP/1.1\r\nHost: a.example\r\nX\0: y"),
    get("a control character in a value", b"GET / HTTP/1.1\r\nHost: a.example\r\nX: \x01"),
    get("a delete in a value", b"GET / HTTP/1.1\r\nHost: a.example\r\nX: \x7f"),
    get("space before a colon", b"GET / HTTP/1.1\r\nHost : a.example"),
    get("a name with a space", b"GET / HTTP/1.1\r\nHost: a.example\r\nX Y: z"),
    get("a name that is none", b"GET / HTTP/1.1\r\nHost: a.example\r\nX(Y): z"),
    get("a name that is not ASCII", b"GET / HTTP/1.1\r\nHost: a.example\r\nX\xe9: z"),
    get("an empty name", b"GET / HTTP/1.1\r\nHost: a.example\r\n: z"),
    get("a line without a colon", b"GET / HTTP/1.1\r\nHost: a.example\r\nX"),
    get("two empty lines before", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a.example"),
    get("a bare LF before", b"\nGET / HTTP/1.1\r\nHost: a.example"),
    get("CR CR LF before", b"\r\r\nGET / HTTP/1.1\r\nHost: a.example"),
]
REQUEST_LINES = [
    get("HTTP/0.9", b"GET /\r\nHost: a.example"),
    get("HTTP/0.9, with a version", b"GET / HTTP/0.9\r\nHost: a.example", VERSION),
    get("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a.example", VERSION),
    get("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a.example", VERSION),
    get("HTTP/1.10", b"GET / HTTP/1.10\r\nHost: a.example"),
    get("HTTP/01.1", b"GET / HTTP/01.1\r\nHost: a.example"),
    get("HTTP/1,1", b"GET / HTTP/1,1\r\nHost: a.example"),
    get("http/1.1", b"GET / http/1.1\r\nHost: a.example"),
    get("RTSP", b"GET / RTSP/1.0\r\nHost: a.example"),
    get("ICE", b"SOURCE / ICE/1.0\r\nHost: a.example"),
    get("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM", VERSION),
    get("two spaces behind the method", b"GET  / HTTP/1.1\r\nHost: a.example"),
    get("two spaces behind the target", b"GET /  HTTP/1.1\r\nHost: a.example"),
    get("a space at the end", b"GET / HTTP/1.1 \r\nHost: a.example"),
    get("a space before the method", b" GET / HTTP/1.1\r\nHost: a.example"),
    get("a tab behind the method", b"GET\t/ HTTP/1.1\r\nHost: a.example"),
    get("a tab behind the target", b"GET /\tHTTP/1.1\r\nHost: a.example"),
    get("a vertical tab behind the target", b"GET /\x0bHTTP/1.1\r\nHost: a.example"),
    get("a method in lower case", b"get / HTTP/1.1\r\nHost: a.example"),
    get("no method of HTTP's", b"GETS / HTTP/1.1\r\nHost: a.example"),
    get("CONNECT", b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443", "method-refused"),
]
TARGETS = [
    target("a space", b"/a b"),
    target("a version", b"/ HTTP/1.1"),
    target("a control character", b"/\x01"),
    target("a delete", b"/\x7f"),
    target("not ASCII", b"/\xe9"),
    target("a fragment", b"/a#b"),
    target("no slash", b"a"),
    target("a query only", b"?a"),
    target("*, and not OPTIONS", b"*"),
    target("a host only", b"a.example:80"),
    target("another host", b"http://b.example/"),
    target("another port", b"http://a.example:81/"),
    target("another scheme", b"ftp://a.example/"),
    target("a user", b"http://b.example@a.example/"),
    target("a backslash before the path", b"http://a.example\\b/"),
    target("no host", b"http:///a"),
    target("the same host", b"http://A.example/b", None),
]
HOSTS = [
    get("Host: none", b"GET / HTTP/1.1\r\nX: y"),
    get("Host: two", b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example"),
    get("Host: two equal", b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example"),
    get("Host: two in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a.example\r\nHost: b.example"),
    host("empty", b""),
    host("a comma", b" a.example, b.example"),
    host("a user", b" u@a.example"),
    host("a path", b" a.example/b"),
    host("a space", b" a.example b"),
    host("a backslash", b" a.example\\b"),
    host("a query", b" a.example?b"),
    host("not ASCII", b" \xe9.example"),
    host("percent", b" %61.example"),
    host("an empty label", b" a..example"),
    host("a dot only", b" ."),
    host("a port of letters", b" a.example:http"),
    host("no port behind a colon", b" a.example:"),
    host("two ports", b" a.example:80:81"),
    host("port 65536", b" a.example:65536"),
    host("a negative port", b" a.example:-1"),
    host("an address with a leading zero", b" 127.0.0.01"),
    host("an address of one number", b" 2130706433"),
    host("IPv6 without brackets", b" ::1"),
    host("IPv6 that is none", b" [::1::2]"),
    host("IPv6 with a zone", b" [fe80::1%25eth0]"),
    host("bytes behind the bracket", b" [::1]a"),
]
CHUNKS = [
    chunks("a sign", b"+5\r\nhello\r\n0\r\n\r\n"),
    chunks("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    chunks("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    chunks("an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    chunks("a space before", b" 5\r\nhello\r\n0\r\n\r\n"),
    chunks("a space behind", b"5 \r\nhello\r\n0\r\n\r\n"),
    chunks("a tab behind", b"5\t\r\nhello\r\n0\r\n\r\n"),
    chunks("h", b"5h\r\nhello\r\n0\r\n\r\n"),
    chunks("no size", b"\r\nhello\r\n0\r\n\r\n"),
    chunks("an extension alone", b";a\r\nhello\r\n0\r\n\r\n"),
    chunks("more than 16 digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
    chunks("2**64 and 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    chunks("2**63", b"8000000000000000\r\nhello\r\n0\r\n\r\n"),
    chunks("digits of another script", "\u0665\r\nhello\r\n0\r\n\r\n".encode()),
    chunks("a bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
    chunks("a bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
    chunks("CR CR LF behind the size", b"5\r\r\nhello\r\n0\r\n\r\n"),
    chunks("a bare LF in an extension", b"5;a\nhello\r\n0\r\n\r\n"),
    chunks("a bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    chunks("a bare LF in a quoted extension", b'5;a="\n"\r\nhello\r\n0\r\n\r\n'),
    chunks("an extension without a name", b"5;\r\nhello\r\n0\r\n\r\n"),
    chunks("a quote without an end", b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    chunks("a NUL in an extension", b"5;a=\0\r\nhello\r\n0\r\n\r\n"),
    chunks("an extension without an end", b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n"),
    chunks("no end behind the chunk", b"5\r\nhello0\r\n\r\n"),
    chunks("a bare LF behind the chunk", b"5\r\nhello\n0\r\n\r\n"),
    chunks("a bare CR behind the chunk", b"5\r\nhello\r0\r\n\r\n"),
    chunks("two bytes behind the chunk", b"5\r\nhelloXX0\r\n\r\n"),
    chunks("a bare LF behind the last chunk", b"5\r\nhello\r\n0\n\r\n"),
    chunks("an end of bare LF", b"5\r\nhello\r\n0\r\n\n"),
    chunks("a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n"),
    chunks("a bare LF in the trailers", b"0\r\nX: y\nZ: z\r\n\r\n"),
    chunks("a NUL in the trailers", b"0\r\nX: \0\r\n\r\n"),
    chunks("a trailer that is none", b"0\r\nX\r\n\r\n"),
    chunks("a request in the trailers", b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    chunks("a space before a trailer's colon", b"0\r\nX : y\r\n\r\n"),
    chunks("a last chunk of many zeros", b"000\r\n\r\n", None),
    chunks("extensions", b'5;a;b=c;d="e;\\"f"\r\nhello\r\n0;x\r\n\r\n', None),
    chunks("trailers for the framing", b"0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n", None),
]
VARIANTS = [*LENGTHS, *CODINGS, *LINES, *REQUEST_LINES, *TARGETS, *HOSTS, *CHUNKS]


def readRequest(data: bytes) -> tuple[RequestHead, bytes, BodyReader, bytes]:
    """The first request of these bytes, which is complete; and what is behind it."""
    head = parseRequestHead(data)
    assert head is not None
    head = checkRequest(head)
    body = BodyReader(requestLength(head))
    pieces, rest = body.receive(data[data.index(b"\r\n\r\n") + 4 :])
    return head, b"".join(pieces), body, bytes(rest)


class SmugglingTests(SynchronousTestCase):
    """What has two meanings has none."""

    def test_enough(self) -> None:
        """Each variant is another one."""
        self.assertEqual(len({each.name for each in VARIANTS}), len(VARIANTS))
        self.assertEqual(len({each.data for each in VARIANTS}), len(VARIANTS))

    def test_variants(self) -> None:
        """Each variant is refused, and with nothing of what was sent; or one request is read, up to the next."""
        for variant in VARIANTS:
            with self.subTest(variant.name):
                if variant.code is None:
                    head, _, body, rest = readRequest(variant.data)
                    self.assertTrue(body.isDone)
                    self.assertTrue(head.target.startswith("/"))
                    self.assertEqual(body.trailers, [])
                    self.assertIn(rest, (SMUGGLED, b""))
                else:
                    error = self.assertRaises(RemoteProtocolError, readRequest, variant.data)
                    self.assertEqual(error.code, variant.code)
                    self.assertRegex(error.details, r"^[A-Z][A-Za-z0-9 /'.,:-]+\.$")

    def test_bytesSplitTheSame(self) -> None:
        """What a variant of a body comes to does not depend on how its bytes arrive."""
        for variant in CHUNKS:
            data = variant.data.partition(b"\r\n\r\n")[2]
            for size in (1, 2, 3, 7):
                with self.subTest(f"{variant.name}, {size}"):
                    reader, code = BodyReader(None), None
                    try:
                        for start in range(0, len(data), size):
                            reader.receive(data[start : start + size])
                    except RemoteProtocolError as e:
                        code = e.code
                    self.assertEqual(code, variant.code)
                    self.assertEqual(reader.isDone, code is None)


def response(status: bytes, fields: bytes, version: bytes = b"1.1") -> ResponseHead:
    """A response's head."""
    head = parseResponseHead(b"HTTP/" + version + b" " + status + b" -\r\n" + fields + b"\r\n\r\n")
    assert head is not None
    return head


class ResponseSplittingTests(SynchronousTestCase):
    """An origin is not believed either when what it says has two meanings: the next response is another visitor's."""

    def test_variants(self) -> None:
        """Responses whose length is not one are refused."""
        for status, fields in (
            (b"200", b"Content-Length: 5\r\nContent-Length: 5"),
            (b"200", b"Content-Length: 5\r\nContent-Length: 6"),
            (b"200", b"Content-Length: 5, 5"),
            (b"200", b"Content-Length: +5"),
            (b"200", b"Content-Length: 99999999999999999999"),
            (b"200", b"Content-Length:"),
            (b"200", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
            (b"200", b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
            (b"200", b"Transfer-Encoding: chunked, chunked"),
            (b"200", b"Transfer-Encoding: gzip, chunked"),
            (b"200", b"Transfer-Encoding: identity"),
            (b"200", b"Transfer-Encoding : chunked"),
            (b"200", b"X: y\nContent-Length: 5"),
            (b"204", b"Content-Length: 5"),
            (b"204", b"Transfer-Encoding: chunked"),
            (b"100", b"Content-Length: 5"),
            (b"101", b"Transfer-Encoding: chunked\r\nUpgrade: x"),
        ):
            with self.subTest(fields):
                error = self.assertRaises(
                    RemoteProtocolError, lambda s, f: responseLength(response(s, f), "GET"), status, fields
                )
                self.assertEqual(error.code, "bad-response")
        head = response(b"200", b"Transfer-Encoding: chunked", b"1.0")
        self.assertRaises(RemoteProtocolError, responseLength, head, "GET")

    def test_statusLines(self) -> None:
        """Status lines that another would read otherwise are refused."""
        for line in (
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 0200 OK",
            b"HTTP/1.1 +20 OK",
            b"HTTP/1.1 020 OK",
            b"HTTP/1.1\t200 OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1 200 O\nK",
            b"HTTP/1.1 200 O\0K",
            b"http/1.1 200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/1.10 200 OK",
            b"ICY 200 OK",
            b"RTSP/1.0 200 OK",
            b" HTTP/1.1 200 OK",
            b"\r\n\r\nHTTP/1.1 200 OK",
        ):
            with self.subTest(line):
                error = self.assertRaises(RemoteProtocolError, parseResponseHead, line + b"\r\n\r\n")
                self.assertEqual(error.code, "bad-response")
