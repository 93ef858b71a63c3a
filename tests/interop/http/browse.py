"""
Open a page in Chromium, wait for what its function C{result} promises, and print that as JSON.

Run with the Python that has Playwright, as C{browse.py CHROMIUM URL}; names under C{.test} are this machine.
"""

import json
import sys

from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]  # in .peers only

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]


def main(chromium: str, url: str) -> None:
    """Do it once."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        page = browser.new_page(ignore_https_errors=True)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: print(f"console {message.type}: {message.text}", file=sys.stderr))
        page.on("pageerror", lambda error: print(f"page error: {error}", file=sys.stderr))
        page.goto(url)
        print(json.dumps(page.evaluate("result()")))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
