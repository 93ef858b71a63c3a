"""
Tests for what the gateway itself answers to requests.
"""

import json
from http import HTTPStatus

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.httppolicy import HttpProblem
from gateway.service.server.httppages import errorAnswer
from gateway.wire.http1 import RequestHead
from tests.service.test_pages import Reader


def accepting(*values: str) -> RequestHead:
    """A request that wants one of these."""
    return RequestHead("GET", "/", "1.1", [("accept", each) for each in values])


class ErrorAnswerTests(SynchronousTestCase):
    """
    L{errorAnswer}.
    """

    def test_page(self) -> None:
        """A person reads what is the matter, what to do, and what to tell the operator."""
        response = errorAnswer(
            502,
            HttpProblem.ORIGIN_REFUSED,
            "It refused <us>.",
            headers=[("X-Request-ID", "3f6c"), ("Retry-After", "1")],
        )
        self.assertEqual((response.status, response.contentType), (502, "text/html; charset=utf-8"))
        page = Reader(response)
        for text in (
            "The service does not answer",
            "It refused <us>.",
            "has to be looked at",
            "502 origin-refused, request 3f6c",
        ):
            self.assertIn(text, page.text)
        self.assertIn(("Retry-After", "1"), response.headers)
        self.assertIn("Content-Security-Policy", dict(response.headers))

    def test_saidApart(self) -> None:
        """No two problems look the same to a person, and those without words of their own have HTTP's."""
        pages = {Reader(errorAnswer(each.status, each, "Because.")).text for each in HttpProblem}
        self.assertEqual(len(pages), len(HttpProblem))
        phrase = HTTPStatus.REQUEST_URI_TOO_LONG.phrase
        self.assertIn(f"414 {phrase}", Reader(errorAnswer(414, HttpProblem.URI_TOO_LONG, "No.")).text)

    def test_json(self) -> None:
        """A program gets a problem, of the kind that it asks for."""
        for kind in ("application/json", "application/problem+json"):
            head = accepting(f"{kind}, text/plain, */*")
            response = errorAnswer(429, HttpProblem.TOO_MANY_REQUESTS, "Too many.", head, [("Retry-After", "1")])
            self.assertEqual((response.status, response.contentType), (429, kind))
            self.assertEqual(response.headers, (("Retry-After", "1"),))
            self.assertEqual(
                json.loads(response.body),
                {"title": "Too Many Requests", "status": 429, "detail": "Too many.", "code": "too-many-requests"},
            )

    def test_id(self) -> None:
        """Programs are told the request's id, too."""
        head = accepting("application/json")
        response = errorAnswer(404, HttpProblem.NO_ROUTE, "No.", head, [("x-request-id", "3f6c")])
        self.assertEqual(json.loads(response.body)["id"], "3f6c")

    def test_negotiation(self) -> None:
        """Only who wants JSON at least as much as a page gets it."""
        for accept, expected in (
            ([], "text/html"),
            (["*/*"], "text/html"),
            (["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], "text/html"),
            (["text/html, application/json;q=0.9"], "text/html"),
            (["application/json;q=0"], "text/html"),
            (["image/png"], "text/html"),
            (["text/html;q=0.5", "Application/JSON; charset=utf-8"], "application/json"),
            (["text/html, application/json"], "application/json"),
            (["application/json, application/problem+json"], "application/problem+json"),
            (["application/problem+json;q=0.5, application/json"], "application/json"),
        ):
            response = errorAnswer(404, HttpProblem.NO_ROUTE, "No.", accepting(*accept))
            self.assertEqual(response.contentType.partition(";")[0], expected, accept)
