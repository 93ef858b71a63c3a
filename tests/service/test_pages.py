"""Tests for L{gateway.service.pages}."""

from html.parser import HTMLParser

from twisted.trial.unittest import SynchronousTestCase

from gateway.service.pages import errorPage, statusPage, webSocketURL
from gateway.wire.http1 import RequestHead, Response


class Reader(HTMLParser):
    """
    Reads a page.

    @ivar tags: what elements it has.
    @ivar text: what a person sees.
    """

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(response.body.decode())

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def head(*hosts: str) -> RequestHead:
    """A request with these Host headers."""
    return RequestHead("GET", "/", "1.1", [("host", host) for host in hosts])


class PageTests(SynchronousTestCase):
    """The pages."""

    def test_status(self) -> None:
        """The status page says what this is, what to do in Tabby Web, and the URL."""
        page = Reader(statusPage("wss://gw.example.com"))
        for text in ("connection gateway", "Settings", "token", "wss://gw.example.com"):
            self.assertIn(text, page.text)

    def test_statusWithoutURL(self) -> None:
        """Without a URL there is no empty place for one."""
        self.assertNotIn("code", Reader(statusPage(None)).tags)

    def test_error(self) -> None:
        """An error page has its status, its phrase, the sentence and the headers."""
        response = errorPage(405, "No.", (("Allow", "GET"),))
        self.assertEqual(response.status, 405)
        self.assertIn(("Allow", "GET"), response.headers)
        self.assertIn("405 Method Not Allowed", Reader(response).text)

    def test_markupIsEscaped(self) -> None:
        """Neither page lets a text become markup."""
        hostile = "</code><script>alert(1)</script>\"'&"
        for response in (statusPage(hostile), errorPage(400, hostile)):
            page = Reader(response)
            self.assertNotIn("script", page.tags)
            self.assertIn(hostile, page.text)

    def test_nothingIsLoaded(self) -> None:
        """The pages load nothing, may not be framed, and say so to the browser."""
        for response in (statusPage("ws://x"), errorPage(404, "No.")):
            headers = dict(response.headers)
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            self.assertIn("frame-ancestors 'none'", headers["Content-Security-Policy"])
            self.assertEqual(set(Reader(response).tags) & {"script", "img", "link", "iframe", "form"}, set())


class URLTests(SynchronousTestCase):
    """L{webSocketURL}."""

    def test_host(self) -> None:
        """The URL has the host as it was asked for, port included."""
        self.assertEqual(webSocketURL(head("gw.test:9000"), secure=False), "ws://gw.test:9000")
        self.assertEqual(webSocketURL(head("[::1]:9000"), secure=True), "wss://[::1]:9000")

    def test_unknown(self) -> None:
        """Without a Host, or with an absurd one, there is none."""
        for each in (head(), head(""), head("x" * 256)):
            self.assertIsNone(webSocketURL(each, secure=False))
