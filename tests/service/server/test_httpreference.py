"""
Tests that hold the page about HTTP to the code.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from msgspec import structs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.httppolicy import GUESSES, HttpProblem
from gateway.service.agent.httpconfig import HttpSection
from gateway.service.server import accesslog
from gateway.service.server.accesslog import LONGEST, AccessLog
from gateway.service.server.config import GatewayConfig, LimitsSection
from gateway.service.server.config import HttpSection as GatewayHttpSection
from gateway.service.server.httppages import errorAnswer
from gateway.wire.compression import MIN_LENGTH, compressed
from gateway.wire.forwarded import forwardedFields
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.http1body import endToEnd
from tests.documented import DOCS, namedBlock, tables
from tests.service.server.test_accesslog import ACCESS

PAGE = "reference/http.md"


def words(cell: str) -> list[str]:
    """The pieces of code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


class HttpReferenceTests(SynchronousTestCase):
    """Whoever relies on the page can."""

    def rows(self, title: str) -> Iterator[tuple[list[str], str]]:
        """The headers of each row of a table, in lower case, and what the row says."""
        for first, what in tables(PAGE)[title]:
            yield [name.lower() for name in words(first)], what

    def test_requestHeaders(self) -> None:
        """The origin does not get what is left out, gets what stays, and what is made up for it."""
        seen = 0
        for names, what in self.rows("Headers of requests:"):
            for name in names:
                if (
                    not re.fullmatch("[a-z][a-z0-9-]+", name) or name == "upgrade"
                ):  # which is each connection's own to judge
                    continue
                sent = [("host", "a.example"), (name, "visitor's")]
                fields = forwardedFields(
                    endToEnd(sent),
                    client="192.0.2.7",
                    proto="https",
                    host="a.example",
                    port=443,
                    trusted=False,
                    requestID="1",
                    prefix="/node",
                )
                with self.subTest(name):
                    seen += 1
                    self.assertEqual((name, "visitor's") in fields, what.startswith("stay") or "pass" in what)
                    if name.startswith("x-") and name != "x-real-ip":
                        self.assertIn(name, dict(fields))
        self.assertGreater(seen, 20)

    def test_responseHeaders(self) -> None:
        """The same for responses, where some change with the body's coding."""
        for names, what in self.rows("Headers of responses:"):
            for name in names:
                fields = endToEnd([(name, "a")])
                with self.subTest(name):
                    isKept = name != "upgrade" and ("stay" in what or "compressed" in what)  # which needs a 101
                    self.assertEqual(fields, [(name, "a")] if isKept else [])

    def test_compression(self) -> None:
        """Exactly the listed headers change where a body is compressed."""
        (listed,) = [names for names, what in self.rows("Headers of responses:") if "#compression" in what]
        others = [name for name in listed if name not in ("vary", "content-encoding")]
        before = [("content-type", "text/html"), *((name, '"a"') for name in others), ("x-a", "b")]
        asked = RequestHead("GET", "/", "1.1", [("accept-encoding", "gzip")])
        after, _ = compressed(("gzip",), asked, ResponseHead(200, "", "1.1", before), None)
        changed = {name for name, _ in set(before) ^ set(after)}
        self.assertEqual(changed, set(listed))

    def test_codes(self) -> None:
        """Each code is on the page with its status, and no other is."""
        listed = {
            words(code)[0]: int(status) for code, status, _ in tables(PAGE)["Answers of the gateway's own, by code:"]
        }
        self.assertEqual(listed, {str(each): each.status for each in HttpProblem})

    def test_problem(self) -> None:
        """The example of an answer is one."""
        head = RequestHead("GET", "/", "1.1", [("accept", "application/json")])
        details = "The origin refused the connection."
        answer = errorAnswer(502, HttpProblem.ORIGIN_REFUSED, details, head, [("X-Request-ID", "7f3a-1")])
        self.assertEqual(json.loads(namedBlock("http-problem").text), json.loads(answer.body))

    def test_limits(self) -> None:
        """What stops whom are keys that there are, and all of a service's own are there."""
        ours = {each.encode_name for each in structs.fields(LimitsSection)}
        theirs = {each.encode_name for each in structs.fields(HttpSection)}
        named = {word for _, stops in tables(PAGE)["What the limits are against:"] for word in words(stops)}
        self.assertEqual(named - ours - theirs, set())
        self.assertGreaterEqual(named, {"max-body", "in-flight", "requests-per-second"})

    def test_keys(self) -> None:
        """Every key of a service is explained on the page, and every one of the gateway's section."""
        text = (DOCS / PAGE).read_text(encoding="utf-8")
        fields = [*structs.fields(HttpSection), *structs.fields(GatewayHttpSection)]
        for each in fields:
            if each.name not in ("listen", "proxyProtocolFrom", "basicAuthFile", "accessLogFormat"):
                with self.subTest(each.encode_name):
                    self.assertRegex(text, rf"`(http\.)?{each.encode_name}\b")
        self.assertIs(structs.fields(GatewayConfig)[2].type, GatewayHttpSection)

    def test_numbers(self) -> None:
        """The numbers in the text are those of the code."""
        text = (DOCS / PAGE).read_text(encoding="utf-8")
        self.assertEqual(GUESSES, 30)
        self.assertIn("thirty wrong", text)
        self.assertIn(f"{MIN_LENGTH} bytes or more", text)
        self.assertIn(f"more than {LONGEST}\ncharacters", text)

    def test_accessLog(self) -> None:
        """Keys of a line of JSON are on the page, and the line of the combined format is what is written."""
        listed = [
            word
            for first, _ in tables(PAGE)["With `json` a line has all that is known. Keys of a line of JSON:"]
            for word in words(first)
        ]
        self.assertEqual(sorted(listed), sorted(each.name for each in structs.fields(accesslog._Record)))
        path = self.mktemp()
        log = AccessLog(Clock(), path, "combined")
        log.add(replace(ACCESS, user="alice"))
        log.close()
        with open(path) as file:
            self.assertEqual(file.read().strip(), namedBlock("access-log-combined").text.strip())
