"""Tests for L{gateway.wire.pipegate}."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.pipegate import (
    NOT_TEXT,
    RequestMessage,
    ResponseMessage,
    decodeRequest,
    decodeResponse,
    encode,
    isConnectionID,
)

thorough = settings(deadline=None, max_examples=200, database=None, derandomize=True)

ID = "6d1f0a3e-2f57-4c1c-9f0e-0c9d3c1b2a11"

FROM_SERVER = json.dumps(
    {
        "correlation_id": ID,
        "url_path": "articles/a b",
        "url_query": json.dumps({"page": "2", "q": "ü"}),
        "method": "POST",
        "headers": json.dumps({"host": "gw.example", "content-length": "4", "x-pipegate-correlation-id": "6d1f"}),
        "body": "ä=1",
    }
).encode()
"""As PipeGate's server writes it."""

FROM_CLIENT = json.dumps(
    {
        "correlation_id": ID,
        "headers": json.dumps({"content-type": "text/html", "content-encoding": "gzip", "content-length": "31"}),
        "body": "<h1>Grüße</h1>",
        "status_code": 200,
    }
).encode()
"""As its client writes it, whose HTTP library has decoded the body."""


def request(method: str = "GET", target: str = "/", *fields: tuple[str, str]) -> RequestHead:
    return RequestHead(method, target, "1.1", list(fields))


def response(status: int = 200, *fields: tuple[str, str]) -> ResponseHead:
    return ResponseHead(status, "OK", "1.1", list(fields))


def said(head: RequestHead, body: bytes = b"") -> dict[str, Any]:
    """A request as it is on the wire, with what is JSON in it decoded."""
    found: dict[str, Any] = json.loads(encode(RequestMessage.of(ID, head, body)))
    return found | {name: json.loads(found[name]) for name in ("headers", "url_query")}


def answered(body: str, method: str = "GET", status: int = 200, **headers: str) -> tuple[ResponseHead, bytes]:
    """What a visitor gets of a response message."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return ResponseMessage(ID, json.dumps(fields) if fields else "", body, status).read(method)


class MessageTests(SynchronousTestCase):
    """What the tests have in common."""

    def assertCode(self, code: str, call: Any, *arguments: Any) -> str:
        """Assert that this is refused, and return what a person is told."""
        error = self.assertRaises(RemoteProtocolError, call, *arguments)
        self.assertEqual(error.code, code)
        return str(error.details)


class RequestTests(MessageTests):
    """Requests become messages and requests again."""

    def test_written(self) -> None:
        """A request message has the fields of PipeGate's, with JSON in those that are strings of it."""
        head = request("POST", "/articles/new?page=2&q=%C3%BC", ("host", "gw.example"), ("content-length", "4"))
        self.assertEqual(
            said(head, "ä=1".encode()),
            {
                "correlation_id": ID,
                "url_path": "articles/new",
                "url_query": {"page": "2", "q": "ü"},
                "method": "POST",
                "headers": {
                    "host": "gw.example",
                    "accept-encoding": "identity",
                    "x-pipegate-correlation-id": ID.replace("-", ""),
                    "content-length": "4",
                },
                "body": "ä=1",
            },
        )

    def test_read(self) -> None:
        """What PipeGate's server writes is the request that it stands for, properly encoded."""
        head, body = decodeRequest(FROM_SERVER).read()
        self.assertEqual((head.method, head.target), ("POST", "/articles/a%20b?page=2&q=%C3%BC"))
        self.assertEqual(
            head.headers,
            [("host", "gw.example"), ("x-pipegate-correlation-id", "6d1f"), ("accept-encoding", "identity")],
        )
        self.assertEqual(body, "ä=1".encode())

    def test_path(self) -> None:
        """A path stays what it was, encoded characters included, whatever they stand for."""
        for path in ("/", "/a%2Fb", "/a%3Fb", "//x", "/a;b=c,d@e:f", "/100%25", "/%E4", "/a/../b"):
            with self.subTest(path):
                message = RequestMessage.of(ID, request("GET", path), b"")
                self.assertEqual(message.read()[0].target, path)

    def test_decodedPath(self) -> None:
        """A path that was decoded is encoded again, so that nothing in it ends it."""
        for path, target in (("a b?c#d", "/a%20b%3Fc%23d"), ("100%", "/100%25"), ("ü\r\n", "/%C3%BC%0D%0A"), ("", "/")):
            with self.subTest(path):
                message = RequestMessage(ID, path, "", "GET", "", "")
                self.assertEqual(message.read()[0].target, target)

    def test_query(self) -> None:
        """The last of a repeated parameter is left; one without a value has an empty one."""
        self.assertEqual(said(request("GET", "/?a=1&b&a=2"))["url_query"], {"a": "2", "b": ""})
        self.assertEqual(said(request("GET", "/"))["url_query"], {})

    def test_queryLists(self) -> None:
        """Where a message has a list, each of its values becomes a parameter."""
        message = RequestMessage(ID, "x", '{"a":["1","2"],"b":"&"}', "GET", "", "")
        self.assertEqual(message.read()[0].target, "/x?a=1&a=2&b=%26")

    def test_parameters(self) -> None:
        """A query without end is refused."""
        self.assertCode("invalid-message", RequestMessage.of, ID, request("GET", "/?" + "a&" * 2000), b"")

    def test_repeatedHeaders(self) -> None:
        """Repeated headers are folded into one, which means the same; cookies as cookies are."""
        fields = [("accept", "a"), ("cookie", "a=1"), ("accept", "b"), ("cookie", "b=2")]
        headers = said(request("GET", "/", *fields))["headers"]
        self.assertEqual((headers["accept"], headers["cookie"]), ("a, b", "a=1; b=2"))

    def test_length(self) -> None:
        """The length is the body's, which may have come in chunks; without a body there is none."""
        chunked = request("POST", "/", ("transfer-encoding", "chunked"))
        self.assertEqual(said(chunked, b"abc")["headers"]["content-length"], "3")
        self.assertNotIn("transfer-encoding", said(chunked, b"abc")["headers"])
        self.assertNotIn("content-length", said(request())["headers"])
        self.assertEqual(said(request("POST", "/", ("content-length", "0")))["headers"]["content-length"], "0")

    def test_ownHeaders(self) -> None:
        """What a visitor says in our name is not passed on."""
        head = request("GET", "/", ("x-pipegate-correlation-id", "mine"), ("accept-encoding", "br"))
        headers = said(head)["headers"]
        self.assertEqual(headers["x-pipegate-correlation-id"], ID.replace("-", ""))
        self.assertEqual(headers["accept-encoding"], "identity")

    def test_notText(self) -> None:
        """A body that is not UTF-8 cannot be carried, and the reason says what can."""
        details = self.assertCode(NOT_TEXT, RequestMessage.of, ID, request("POST"), b"\x89PNG\xff")
        self.assertIn("gateway pipegate-client", details)

    def test_connectionHeaders(self) -> None:
        """What is for one connection stays there, on both sides."""
        fields = [("connection", "x"), ("te", "trailers"), ("expect", "100-continue"), ("x", "2"), ("a", "1")]
        self.assertEqual(said(request("GET", "/", *fields))["headers"].keys() & dict(fields).keys(), {"a"})
        message = RequestMessage(ID, "", "", "GET", json.dumps(dict(fields)), "")
        self.assertEqual(message.read()[0].headers, [("a", "1"), ("accept-encoding", "identity")])

    @thorough
    @given(
        st.lists(st.text("abcXYZ019-._~", max_size=8), max_size=4).map("/".join),
        st.dictionaries(st.text(max_size=5), st.text(st.characters(codec="utf-8"), max_size=5), max_size=4),
        st.text(st.characters(codec="utf-8"), max_size=50),
    )
    def test_roundTrip(self, path: str, query: dict[str, str], body: str) -> None:
        """Whatever a message can carry comes out as it went in."""
        message = RequestMessage(ID, path, json.dumps(query), "PUT", "{}", body)
        head, data = message.read()
        again = decodeRequest(encode(RequestMessage.of(ID, head, data)).encode())
        self.assertEqual((again.path, json.loads(again.query), again.body), (path, query, body))


class ResponseTests(MessageTests):
    """Responses become messages and responses again."""

    def test_read(self) -> None:
        """
        What PipeGate's client writes of a compressed response is a response that is not: nothing of its headers
        speaks of the bytes that there were before.
        """
        head, body = decodeResponse(FROM_CLIENT).read("GET")
        self.assertEqual((head.status, head.reason), (200, "OK"))
        self.assertEqual(head.headers, [("content-type", "text/html")])
        self.assertEqual(body, "<h1>Grüße</h1>".encode())

    def test_failure(self) -> None:
        """A client that could not reach its application says so with a status alone."""
        head, body = ResponseMessage(ID, "", "", 504).read("GET")
        self.assertEqual((head.status, head.reason, head.headers, body), (504, "Gateway Timeout", [], b""))

    def test_written(self) -> None:
        """A response message has the fields of PipeGate's, and headers that are true of its body."""
        head = response(201, ("content-type", "text/plain"), ("transfer-encoding", "chunked"), ("content-length", "9"))
        found = json.loads(encode(ResponseMessage.of(ID, "GET", head, "ä".encode())))
        self.assertEqual(json.loads(found.pop("headers")), {"content-type": "text/plain", "content-length": "2"})
        self.assertEqual(found, {"correlation_id": ID, "body": "ä", "status_code": 201})

    def test_cookies(self) -> None:
        """Several cookies that are set at once all arrive: their headers' names differ in case."""
        cookies = [("set-cookie", f"c{n}=1, 2") for n in range(9)]
        message = ResponseMessage.of(ID, "GET", response(200, *cookies), b"")
        self.assertEqual(len(json.loads(message.headers)), 1 + len(cookies))
        head, _ = message.read("GET")
        self.assertEqual(head.headers, cookies)

    def test_foldedCookies(self) -> None:
        """Cookies that PipeGate's client has made one header of are several again, and dates in them stay whole."""
        cookies = ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/", "b=; HttpOnly", "c=x=y"]
        head, _ = answered("", set_cookie=", ".join(cookies))
        self.assertEqual(head.headers, [("set-cookie", each) for each in cookies])

    def test_charset(self) -> None:
        """A page in a code of one byte arrives in that code, which its headers still say."""
        head, body = answered("Grüße", content_type="text/html; charset=ISO-8859-1", content_length="5")
        self.assertEqual(body, "Grüße".encode("latin-1"))
        self.assertEqual(head.headers, [("content-type", "text/html; charset=ISO-8859-1")])

    def test_otherCharset(self) -> None:
        """A page in a code that the text does not fit is UTF-8, and says so."""
        head, body = answered("Grüße \u2603", content_type='text/html; charset="iso-8859-1"; x=y')
        self.assertEqual(body, "Grüße \u2603".encode())
        self.assertEqual(head.headers, [("content-type", "text/html; charset=utf-8; x=y")])

    def test_sentCharset(self) -> None:
        """What we send is UTF-8, as the body of a message is that for PipeGate's server."""
        head = response(200, ("content-type", "text/html; charset=latin-1"))
        message = ResponseMessage.of(ID, "GET", head, "Grüße".encode("latin-1"))
        self.assertEqual(message.body, "Grüße")
        headers = json.loads(message.headers)
        self.assertEqual(headers, {"content-type": "text/html; charset=utf-8", "content-length": "7"})

    def test_notText(self) -> None:
        """What is not text, or is compressed, cannot be sent."""
        for fields, body in (
            ((("content-type", "image/png"),), b"\x89PNG\xff"),
            ((("content-encoding", "gzip"),), b"abc"),
            ((), b"\xff"),
        ):
            self.assertCode(NOT_TEXT, ResponseMessage.of, ID, "GET", response(200, *fields), body)

    def test_damaged(self) -> None:
        """What a client has taken for text and was none is told from a page that has such a character."""
        broken, text = "\ufffdPNG\ufffd", "what is \ufffd?"
        with self.assertRaises(RemoteProtocolError) as raised:
            answered(broken, content_type="image/png", content_length="5")
        self.assertEqual(raised.exception.code, NOT_TEXT)
        self.assertRaises(RemoteProtocolError, answered, broken, content_type="image/png")
        self.assertRaises(RemoteProtocolError, answered, broken)
        self.assertRaises(RemoteProtocolError, answered, broken, content_type="text/html", content_length="5")
        self.assertEqual(answered(text, content_type="text/html")[1], text.encode())
        self.assertEqual(answered(text, content_length=str(len(text.encode())))[1], text.encode())

    def test_noBody(self) -> None:
        """To HEAD, and without content, there is no body, and the length is that of the response to GET."""
        head, body = answered("", "HEAD", content_length="1000")
        self.assertEqual((head.headers, body), ([("content-length", "1000")], b""))
        head, body = answered("", "HEAD", content_length="1000", content_encoding="gzip")
        self.assertEqual((head.headers, body), ([], b""))
        head, body = answered("surprise", status=204)
        self.assertEqual(body, b"")
        message = ResponseMessage.of(ID, "HEAD", response(200, ("content-length", "1000")), b"")
        self.assertEqual(json.loads(message.headers), {"content-length": "1000"})

    def test_lengthWithoutBody(self) -> None:
        """Where there is no body the length is one number, or is not told."""
        for headers in (
            {"Content-Length": "5", "content-length": "7"},
            {"content-length": "5, 5"},
            {"content-length": "x"},
        ):
            for method, status in (("HEAD", 200), ("GET", 304)):
                head, _ = ResponseMessage(ID, json.dumps(headers), "", status).read(method)
                self.assertEqual(head.headers, [], headers)

    @thorough
    @given(st.text(st.characters(codec="utf-8"), max_size=50), st.integers(200, 599), st.sampled_from(("GET", "POST")))
    def test_roundTrip(self, text: str, status: int, method: str) -> None:
        """Whatever a message can carry comes out as it went in."""
        head = response(status, ("content-type", "text/html"), ("x", "y"))
        message = decodeResponse(encode(ResponseMessage.of(ID, method, head, text.encode())).encode())
        again, body = message.read(method)
        self.assertEqual((again.status, list(again.headers)), (status, head.headers))
        self.assertEqual(body, b"" if status in (204, 304) else text.encode())


class HostileTests(MessageTests):
    """What is no message is refused with a sentence that says why."""

    MESSAGES = (
        b"",
        b"[]",
        b"{}",
        b"null",
        b"hello",
        b'{"correlation_id":""}',
        b'{"correlation_id":7,"headers":"","body":"","status_code":200}',
        b'{"correlation_id":"' + b"x" * 65 + b'","headers":"","body":"","status_code":200}',
        b'{"correlation_id":"x","headers":{},"body":"","status_code":200}',
        b'{"correlation_id":"x","headers":"","body":"","status_code":"200"}',
        b'{"correlation_id":"x","headers":"","body":"\\ud800","status_code":200}',
        b'{"correlation_id":"x","headers":"","body":"\xff","status_code":200}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    )

    def test_messages(self) -> None:
        """Neither end takes something else for a message."""
        for message in self.MESSAGES:
            with self.subTest(message[:60]):
                self.assertCode("invalid-message", decodeResponse, message)
                self.assertCode("invalid-message", decodeRequest, message)

    def test_headers(self) -> None:
        """Headers that could end a line, or that no head of HTTP's has room for, are refused."""
        for headers in (
            "[]",
            "{",
            '{"a":1}',
            '{"a":"b\\r\\nc: d"}',
            '{"a\\r\\nb":"c"}',
            '{"a b":"c"}',
            '{"":"c"}',
            '{"a":"\\u0000"}',
            '{"a":"\u2603"}',
            json.dumps({f"x{n}": "y" for n in range(101)}),
            json.dumps({"x": "y" * 40_000}),
        ):
            with self.subTest(headers[:40]):
                self.assertCode("invalid-message", ResponseMessage(ID, headers, "", 200).read, "GET")
                self.assertCode("invalid-message", RequestMessage(ID, "", "", "GET", headers, "").read)

    def test_status(self) -> None:
        """A response has the status of one."""
        for status in (-1, 0, 99, 100, 101, 199, 600, 2**63):
            self.assertCode("invalid-message", ResponseMessage(ID, "", "", status).read, "GET")

    def test_request(self) -> None:
        """A method that PipeGate has not, or a query that is no object, is refused."""
        for method in ("CONNECT", "TRACE", "get", "GET / HTTP/1.1\r\n", ""):
            self.assertCode("invalid-message", RequestMessage(ID, "", "", method, "", "").read)
        for query in ("[]", "{", '{"a":{}}', '{"a":1}'):
            self.assertCode("invalid-message", RequestMessage(ID, "", query, "GET", "", "").read)

    @thorough
    @given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
    def test_anything(self, path: str, query: str, headers: str) -> None:
        """Whatever is in a request message, what comes of it is a target in ASCII without blanks, or a refusal."""
        try:
            head, _ = RequestMessage(ID, path, query, "GET", headers, "").read()
        except RemoteProtocolError:
            return
        except UnicodeEncodeError:  # a lone surrogate, which no decoder of ours lets through
            return
        self.assertRegex(head.target, r"\A/[!-~]*\Z")
        self.assertNotIn("#", head.target)


class ConnectionIDTests(SynchronousTestCase):
    """What may name a client."""

    def test_names(self) -> None:
        """One segment of a path, of characters that are never encoded."""
        for name in ("node", ID, "A_b.c~1", "x" * 64):
            self.assertTrue(isConnectionID(name), name)
        for name in ("", ".", "..", "a/b", "a%20b", "ü", "a b", "x" * 65, "a\n"):
            self.assertFalse(isConnectionID(name), name)
