"""Tests for L{gateway.wire.http2fields}. What is malformed is in C{tests/net/test_http2conformance.py}, too."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead, encodeRequestHead
from gateway.wire.http2fields import (
    requestFields,
    requestHead,
    responseFields,
    responseHead,
    trailers,
)

REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/a?b")]


class RequestTests(SynchronousTestCase):
    """Lists of requests."""

    def test_head(self) -> None:
        """A list is a head with its host first and its cookies, in one, last."""
        fields = [*REQUEST, (b"cookie", b"a=1"), (b"x-a", b"\xe9"), (b"te", b"trailers"), (b"cookie", b"b=2")]
        head, length = requestHead(fields, ended=True)
        self.assertEqual((head.method, head.target, head.version, length), ("GET", "/a?b", "2", 0))
        self.assertEqual(head.headers, [("host", "a.example"), ("x-a", "\xe9"), ("cookie", "a=1; b=2")])

    def test_length(self) -> None:
        """The length is told, unknown, or none."""
        for more, ended, length in (
            ([], False, None),
            ([(b"content-length", b"7")], False, 7),
            ([(b"content-length", b"0")], True, 0),
        ):
            self.assertEqual(requestHead([*REQUEST, *more], ended=ended)[1], length)

    def test_proxy(self) -> None:
        """What is for a proxy, or would set one, is not passed on, as with HTTP/1 (CVE-2016-5385)."""
        fields = [(b"proxy", b"http://x"), (b"proxy-authorization", b"x"), (b"a", b"b")]
        self.assertEqual(requestHead([*REQUEST, *fields], ended=True)[0].headers[1:], [("a", "b")])
        head, _ = responseHead([(b":status", b"200"), *fields], ended=True, method="GET")
        self.assertEqual(head.headers, [("a", "b")])

    def test_answered(self) -> None:
        """What is a request that cannot be taken is told from what is none."""
        for fields, code in (
            ([(b":method", b"CONNECT"), (b":authority", b"a.example:22")], "method-refused"),
            ([*REQUEST[:2], (b":authority", b"a b"), (b":path", b"/")], "bad-request"),
            ([*REQUEST[:3], (b":path", b"/#a")], "bad-request"),
            ([*REQUEST[:3], (b":path", b"a")], "PROTOCOL_ERROR"),
        ):
            error = self.assertRaises(RemoteProtocolError, requestHead, fields, ended=True)
            self.assertEqual(error.code, code)

    def test_fields(self) -> None:
        """A head becomes a list again, without what HTTP/2 does not have, and with the length if it is known."""
        head = RequestHead("POST", "/a", "1.1", [("host", "a.example"), ("upgrade", "h2c"), ("te", "x"), ("a", "\xe9")])
        expected = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"a.example"),
            (b":path", b"/a"),
            (b"te", b"trailers"),
            (b"a", b"\xe9"),
        ]
        self.assertEqual(requestFields(head, None), expected)
        self.assertEqual(requestFields(head, 0), expected)
        self.assertEqual(requestFields(head, 3), [*expected, (b"content-length", b"3")])

    def test_noHost(self) -> None:
        """A request of HTTP/1.0's without a host becomes one without an authority, and not one with none in it."""
        fields = requestFields(RequestHead("GET", "/", "1.0", []), 0)
        self.assertNotIn(b":authority", [name for name, _ in fields])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b":path", b":method", b"host", b"a", b"A", b"cookie", b"content-length", b"te", b""])
                | st.binary(max_size=6),
                st.binary(max_size=12),
            ),
            max_size=6,
        ),
        st.booleans(),
    )
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_anything(self, more: list[tuple[bytes, bytes]], ended: bool) -> None:
        """Whatever fields there are, there is an error, or a head of which HTTP/1 makes no other one."""
        try:
            head, _ = requestHead([*REQUEST, *more], ended=ended)
        except RemoteProtocolError:
            return
        lines = encodeRequestHead(head).split(b"\r\n")
        self.assertEqual(len(lines), len(head.headers) + 3)
        self.assertEqual(len(head.all("host")), 1)


class ResponseTests(SynchronousTestCase):
    """Lists of responses."""

    def test_head(self) -> None:
        """A list is a head, with words for its status where there are some."""
        head, length = responseHead([(b":status", b"404"), (b"a", b"b")], ended=False, method="GET")
        self.assertEqual(head, ResponseHead(404, "Not Found", "2", [("a", "b")]))
        self.assertIsNone(length)
        self.assertEqual(responseHead([(b":status", b"299")], ended=False, method="GET")[0].reason, "")

    def test_length(self) -> None:
        """What has no body by its method or status has none, whatever its length says."""
        fields = [(b"content-length", b"7")]
        for status, method, ended, length in (
            (b"200", "GET", False, 7),
            (b"200", "HEAD", True, 0),
            (b"304", "GET", True, 0),
            (b"204", "GET", True, 0),
        ):
            self.assertEqual(responseHead([(b":status", status), *fields], ended=ended, method=method)[1], length)
        self.assertRaises(RemoteProtocolError, responseHead, [(b":status", b"200"), *fields], ended=True, method="GET")

    def test_fields(self) -> None:
        """A head becomes a list, with the length if it is known and not said."""
        head = ResponseHead(200, "OK", "1.1", [("etag", '"1"'), ("connection", "close")])
        self.assertEqual(responseFields(head, 3), [(b":status", b"200"), (b"etag", b'"1"'), (b"content-length", b"3")])
        said = ResponseHead(200, "OK", "1.1", [("content-length", "5")])
        self.assertEqual(responseFields(said, 3), [(b":status", b"200"), (b"content-length", b"5")])


class TrailerTests(SynchronousTestCase):
    """Lists behind a body."""

    def test_trailers(self) -> None:
        """Those that may be there are kept; pseudo fields may not."""
        fields = [(b"grpc-status", b"0"), (b"host", b"a"), (b"x-forwarded-for", b"::1"), (b"if-match", b"1")]
        self.assertEqual(trailers(fields), [("grpc-status", "0")])
        self.assertRaises(RemoteProtocolError, trailers, [(b":status", b"200")])
