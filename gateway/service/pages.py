"""
The pages that a door shows to people who come with a browser or curl.

The most frequent trouble with a WebSocket gateway is a wrong URL: C{ws} for C{wss}, a proxy that does not upgrade, the
page's address instead of the gateway's. So a plain request is answered with what this is and which URL to use::

    response = statusPage("wss://gw.example.com")
"""

__all__ = ["errorPage", "statusPage", "tablePage", "webSocketURL"]

from collections.abc import Iterable, Sequence
from html import escape
from http import HTTPStatus

from gateway.wire.http1 import RequestHead, Response

_HTML = "text/html; charset=utf-8"
_SECURITY = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 38rem; margin: 12vh auto; padding: 0 1rem }}
h1 {{ font-size: 1.4rem }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: .2rem .8rem .2rem 0; white-space: nowrap }}
code {{ font-size: 1.1rem; padding: .2rem .5rem; border: 1px solid #8886; border-radius: .3rem; user-select: all }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def _page(status: int, title: str, body: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    page = _PAGE.format(title=escape(title), body=body)
    return Response(status, page.encode(), _HTML, (*_SECURITY, *headers))


def webSocketURL(head: RequestHead, *, secure: bool) -> str | None:
    """The URL under which this client reached us, for a WebSocket; C{None} when it did not say."""
    host = head.get("host")
    return None if not host or len(host) > 255 else f"{'wss' if secure else 'ws'}://{host}"


def statusPage(url: str | None) -> Response:
    """
    The gateway is up.

    @param url: what to paste into Tabby Web, where it is known.
    """
    paste = f"<p>Its URL, to paste there:</p>\n<p><code>{escape(url)}</code></p>" if url else ""
    body = f"""<p>This is a connection gateway for Tabby Web, and it is up. It speaks WebSocket: there is nothing more
to see here with a browser.</p>
<p>In Tabby Web open <b>Settings</b>, then <b>Connection gateway</b>, and enter the gateway's URL and your
token.</p>
{paste}"""
    return _page(200, "Tabby connection gateway", body)


def errorPage(
    status: int,
    details: str,
    headers: tuple[tuple[str, str], ...] = (),
    *,
    title: str = "",
    more: Sequence[str] = (),
) -> Response:
    """
    @param details: a sentence or more for a person.
    @param title: status and phrase, if there is none.
    @param more: paragraphs behind the details.
    """
    body = "\n".join(f"<p>{escape(each)}</p>" for each in (details, *more))
    return _page(status, title or f"{status} {HTTPStatus(status).phrase}", body, headers)


def tablePage(title: str, summary: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Response:
    """
    @param rows: of as many texts as there are columns.
    """

    def line(kind: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    lines = [line("th", columns), *(line("td", row) for row in rows)]
    return _page(200, title, "\n".join([f"<p>{escape(summary)}</p>", "<table>", *lines, "</table>"]))
