"""
Our end of L{tests.browser.driver}: the page in the browser, seen from a test that runs on the reactor.

The browser is a child process, because Playwright brings an event loop of its own and because a browser that hangs
must not take the tests with it::

    page = Page.launch(reactor)
    self.addCleanup(page.close)
    await page.open("http://127.0.0.1:8000/")
    text = await page.read("Welcome")
"""

from __future__ import annotations

import json
from pathlib import Path
from shutil import which
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.peers import require

PEERS = Path(__file__).resolve().parents[2] / ".peers/browser"
"""Where C{tests/browser/install} puts things."""

_PATIENCE = 20.0
"""Seconds for the app to start and for a text to appear; then the request fails and says what the page shows instead."""

_DEADLINE = 60.0
"""Seconds for any request at all; then it fails whatever the browser is doing."""


class PageError(Exception):
    """The page did not do what was asked, or the browser is gone."""


def requireBrowser() -> None:
    """
    Let a test go on only with all that the browser tests need.

    @raise SkipTest: something is missing, see L{tests.peers.require}.
    """
    require(which("chromium") is not None, "chromium is missing: apt install chromium")
    require(
        (PEERS / "venv/installed").exists() and (PEERS / "node_modules/installed").exists(),
        "Playwright or the Tabby app is missing: apt install npm, then run tests/browser/install",
    )


class Page(ProcessProtocol):
    """
    One page of a browser of its own, with an empty profile.
    """

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: provides L{IReactorProcess} and L{IReactorTime}.
        """
        self._reactor = reactor
        self._answers: list[Deferred[Any]] = []
        self._received = b""
        self._console = b""
        self._ended: Deferred[None] = Deferred()

    @classmethod
    def launch(cls, reactor: Any) -> Page:
        """Start a browser; requests may be made at once."""
        page = cls(reactor)
        python = str(PEERS / "venv/bin/python")
        driver = str(Path(__file__).with_name("driver.py"))
        IReactorProcess(reactor).spawnProcess(
            page, python, [python, driver, which("chromium") or "chromium", str(_PATIENCE)], env=None
        )
        return page

    def open(self, url: str) -> Deferred[None]:
        """Load a page and wait until the app in it has started."""
        return self._ask("open", url=url)

    def evaluate(self, script: str, argument: object = None) -> Deferred[Any]:
        """
        Evaluate a JavaScript expression or function and wait for what it promises.

        @param argument: the function's argument; JSON, as is the result.
        """
        return self._ask("evaluate", script=script, argument=argument)

    def read(self, text: str) -> Deferred[str]:
        """Wait until the person can read C{text}; fires with all that they can read then."""
        return self._ask("read", text=text)

    def type(self, text: str) -> Deferred[None]:
        """Type; a newline is the Enter key."""
        return self._ask("type", text=text)

    def screenshot(self, path: str) -> Deferred[None]:
        """Write a PNG picture of the page, to look at while developing a test."""
        return self._ask("screenshot", path=path)

    def close(self) -> Deferred[None]:
        """End the browser: asked first, killed after five seconds. Its own children end when their pipe closes."""
        if self.transport is not None and not self._ended.called:
            self.transport.closeStdin()
            killing = IReactorTime(self._reactor).callLater(5.0, self.transport.signalProcess, "KILL")
            self._ended.addCallback(lambda _: killing.cancel() if killing.active() else None)
        return self._ended

    def _ask(self, do: str, **arguments: object) -> Deferred[Any]:
        # Cancelled, it still takes its place in the queue, and the answer that comes too late is ignored.
        answer: Deferred[Any] = Deferred()
        if self.transport is None or self._ended.called:
            answer.errback(PageError("the browser is not running"))
            return answer
        self._answers.append(answer)
        answer.addTimeout(_DEADLINE, IReactorTime(self._reactor))
        self.transport.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        return answer

    def outReceived(self, data: bytes) -> None:
        """Answer the oldest request with each line."""
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            reply = json.loads(line)
            answer = self._answers.pop(0)
            if "error" in reply:
                answer.errback(PageError(f"{reply['error']}\n{self._lastWords()}"))
            else:
                answer.callback(reply["value"])

    def errReceived(self, data: bytes) -> None:
        """Keep the page's console for whoever has to find out why a test failed."""
        self._console += data

    def processEnded(self, reason: Failure) -> None:
        """Nobody will answer any more."""
        answers, self._answers = self._answers, []
        for answer in answers:
            answer.errback(PageError(f"the browser ended: {reason.value}\n{self._lastWords()}"))
        self._ended.callback(None)

    def _lastWords(self) -> str:
        return self._console[-4000:].decode("utf-8", "replace")
