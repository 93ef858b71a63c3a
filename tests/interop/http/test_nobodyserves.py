"""
curl, and names by https for which there is no agent: never was, is none any more, or is one again.
"""

from __future__ import annotations

import json
import signal

from tests.interop.http.website import NAME, WebTestCase
from tests.interop.running import program, start
from tests.interop.tunnels import HOST
from tests.processes import HERE, eventually

NEVER = f"never.{HOST}"
PASSED = f"passed.{HOST}"
ELSEWHERE = "app.elsewhere.test"
"""A name that the gateway has no certificate for."""

NO_HANDSHAKE = 35
"""As what curl ends when TLS cannot be agreed on."""

VERSIONS = (("--http1.1", "1.1"), ("--http2", "2"))
OUTCOME = "|%{http_code} %{http_version}"


class NobodyServesTests(WebTestCase):
    """An agent that serves a page, and passes on TLS."""

    def setUp(self) -> None:
        super().setUp()
        site = self.nginx()
        (site.files / "page").write_text("hello")
        self.running = self.gateway()
        origin = f"{HERE}:{site.port}"
        self.services = self.service(key="app", kind="http", hostnames=[NAME], origin=origin)
        self.services += self.service(key="own", kind="tls", hostnames=[PASSED], origin=origin)
        self.attach()

    def attach(self) -> None:
        """Start the agent."""
        self.served = self.agent(self.running, config=self.services)
        for service in ("app", "own"):
            self.served.awaitEvent("agent.serving", service=service)

    def lose(self) -> None:
        """Kill the agent, without letting it say good-bye, and see the page on a new connection within a second."""
        self.served.stop(signal.SIGKILL)
        self.assertTrue(eventually(lambda: "|502 " in self.ask("https", NAME), 1.0))

    def ask(self, scheme: str, name: str, *arguments: str, status: int = 0) -> str:
        """What curl prints of the page at a name."""
        words = self.command(scheme, "/page", "--write-out", OUTCOME, *arguments)
        port = self.running.tls if scheme == "https" else self.running.http
        resolve = ("--resolve", f"{name}:{port}:{HERE}")
        return self.call("curl", *words[:-1], *resolve, self.running.url(scheme, name, "/page"), status=status)

    def assertPage(self, name: str, status: int, code: str) -> None:
        """A page says what is the matter, by https as by http, and to each in the form that they ask for."""
        self.assertTrue(self.ask("http", name).endswith(f"|{status} 1.1"))
        for version, answered in VERSIONS:
            with self.subTest(name=name, version=version):
                page = self.ask("https", name, version, "--header", "Accept: text/html,*/*;q=0.8")
                self.assertRegex(page, rf"(?s)^<!DOCTYPE html>.*<p>{status} {code}, .*\|{status} {answered}$")
                answer = self.ask("https", name, version, "--header", "Accept: application/json", "--include")
                self.assertIn("content-type: application/json", answer.lower())
                problem = json.loads(answer.partition("\r\n\r\n")[2].partition("|")[0])
                self.assertEqual((problem["status"], problem["code"]), (status, code))
                head = self.ask("https", name, version, "--head")
                self.assertRegex(head, rf"(?s)^HTTP/\S+ {status}.*\r\n\r\n\|{status} {answered}$")

    def test_never(self) -> None:
        """A name that nobody has served has a page where there is a certificate for it, and an alert elsewhere."""
        self.assertPage(NEVER, 404, "no-route")
        self.assertEqual(self.ask("https", ELSEWHERE, "--insecure", status=NO_HANDSHAKE), "|000 0")

    def test_gone(self) -> None:
        """A second after its agent was killed a name has another page, but for one whose TLS was passed through."""
        self.assertTrue(self.ask("https", NAME).startswith("hello|200"))
        self.lose()
        self.assertPage(NAME, 502, "agent-gone")
        self.assertEqual(self.ask("https", PASSED, status=NO_HANDSHAKE), "|000 0")
        self.attach()
        self.assertTrue(self.ask("https", NAME).startswith("hello|200"))

    def assertConnectionLasts(self, version: str, *, begins: bool) -> None:
        """
        Who asks again and again on one connection gets what there is each time.

        @param begins: the agent is there at first.
        """
        outcome = "%{stderr}%{http_code} %{num_connects}\n"
        often = ("--rate", "10/s", "--output", "/dev/null", "--write-out", outcome)
        asking = start(self, program("curl"), *self.command("https", "/page?[1-1000]", version, *often))

        def come(line: str) -> None:
            if not eventually(lambda: line in asking.log().splitlines()):
                self.fail(f"{line} did not come, but {asking.log()}")

        if begins:
            come("200 1")
            self.lose()
            come("502 0")
        else:
            come("502 1")
        self.attach()
        come("200 0")
        asking.stop()
        self.assertEqual(asking.log().count(" 1\n"), 1)

    def test_goesAndComes(self) -> None:
        """A connection from before the agent went away leads to it again, and so does one that was made meanwhile."""
        for version, _ in VERSIONS:
            with self.subTest(version=version):
                self.assertConnectionLasts(version, begins=True)
                self.lose()
                self.assertConnectionLasts(version, begins=False)
