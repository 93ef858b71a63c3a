"""
Drives one browser page with Playwright, told what to do over its standard input.

A program of its own, run by the Python that has Playwright in it, so that the tests need neither Playwright nor its
event loop and can kill the whole browser at their deadline. Every line in is a JSON object naming one of the functions
below and its arguments; every line out is C{{"value": ...}} or C{{"error": "..."}}::

    {"do": "evaluate", "script": "document.title"}
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright  # type: ignore[import-not-found]  # in .peers only

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _open(page: Page, url: str) -> None:
    """Load the page and wait until the app in it has started."""
    page.goto(url)
    page.wait_for_function("window.tabby")


def _evaluate(page: Page, script: str, argument: Any = None) -> Any:
    """Evaluate a JavaScript function or expression; a promise is awaited."""
    return page.evaluate(script, argument)


def _read(page: Page, text: str) -> str:
    """Wait until the person can read the text; give all that they can read then."""
    try:
        page.wait_for_function("text => tabby.text().includes(text)", arg=text, polling=50)
    except Error as e:
        raise Error(f"{text!r} did not appear; the page says: {page.evaluate('tabby.text()')!r}") from e
    return str(page.evaluate("tabby.text()"))


def _type(page: Page, text: str) -> None:
    """Type into whatever has the focus; a newline is the Enter key."""
    page.keyboard.type(text)


def _screenshot(page: Page, path: str) -> None:
    """Write a picture of the page, for whoever develops these tests."""
    page.screenshot(path=path)


_VERBS: dict[str, Callable[..., object]] = {
    "open": _open,
    "evaluate": _evaluate,
    "read": _read,
    "type": _type,
    "screenshot": _screenshot,
}


def main(chromium: str, seconds: float) -> None:
    """
    Serve requests until the input ends.

    @param chromium: the path of the browser.
    @param seconds: how long to wait for the app to start and for a text to appear.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.set_default_timeout(seconds * 1000)
        page.on("console", lambda message: print(f"console {message.type}: {message.text}", file=sys.stderr))
        page.on("pageerror", lambda error: print(f"page error: {error}", file=sys.stderr))
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = {"value": _VERBS[request.pop("do")](page, **request)}
            except Error as e:
                reply = {"error": str(e)}
            print(json.dumps(reply), flush=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
