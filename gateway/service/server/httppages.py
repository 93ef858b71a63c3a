"""
What the gateway itself answers to a request, where there is nobody else to do so.

A person gets a page that says what is the matter, whose matter it is, and what to do; a program that asks for JSON gets
the same as a problem (RFC 9457), with a code to go by::

    response = errorAnswer(502, HttpProblem.ORIGIN_REFUSED, "The origin refused the connection.", head)

Every answer shows the id by which the operator finds the request in the log, where there is one in its headers.
"""

__all__ = ["errorAnswer"]

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

from gateway.domain.httppolicy import HttpProblem
from gateway.service.pages import errorPage
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.preferences import preferences

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_HTML = "text/html"
_RANKS = {_PROBLEM: 3, _JSON: 2, _HTML: 1}
"""Which is taken of several that are wanted equally: who names one of the first two is a program."""

_LATER = "Try again in a moment. If it lasts, tell whoever runs the service."
_WORKING = "The gateway and its agent work; the service behind them has to be looked at."
_TITLES: Mapping[str, tuple[str, str]] = {
    HttpProblem.HTTPS_REQUIRED: ("Come with https", ""),
    HttpProblem.UNAUTHORIZED: ("A password is needed", ""),
    HttpProblem.FORBIDDEN: (
        "Not from here",
        "Whoever runs the service decides from which addresses it can be reached.",
    ),
    HttpProblem.NO_ROUTE: (
        "Nothing is served here",
        "Is the address right? If so, its agent is not connected at the moment.",
    ),
    HttpProblem.MISDIRECTED: ("Another connection is needed", "Reload the page: browsers make a new connection then."),
    HttpProblem.TOO_MANY_REQUESTS: ("Too many requests", "Wait a little, and try again."),
    HttpProblem.AGENT_GONE: ("The service is not connected", _LATER),
    HttpProblem.ORIGIN_REFUSED: ("The service does not answer", _WORKING),
    HttpProblem.BAD_RESPONSE: ("The service gave no proper answer", _WORKING),
    HttpProblem.UNAVAILABLE: ("The service is not available now", _LATER),
    HttpProblem.ORIGIN_TIMEOUT: ("The service took too long", _WORKING),
}
"""A title and advice, by code, where the words of HTTP are not for people."""


class _Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457, with what is ours behind it."""

    title: str
    status: int
    detail: str
    code: str
    id: str = ""


def errorAnswer(
    status: int,
    code: str,
    details: str,
    head: RequestHead | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Response:
    """
    @param code: an L{HttpProblem}.
    @param details: a sentence for a person. It may name what the visitor sent.
    @param head: of the request, for what its sender wants to get; C{None}: not known.
    @param headers: of the answer besides the usual ones.
    """
    wanted = _wanted(head)
    title, advice = _TITLES.get(code, ("", ""))
    requestID = next((value for name, value in headers if name.lower() == "x-request-id"), "")
    headers = tuple(headers)
    if wanted is None:
        signature = f"{status} {code}" + (f", request {requestID}" if requestID else "")
        more = [advice, signature] if advice else [signature]
        return errorPage(status, details, headers, title=title, more=more)
    problem = _Problem(HTTPStatus(status).phrase, status, details, str(code), requestID)
    return Response(status, msgspec.json.encode(problem) + b"\n", wanted, headers)


def _wanted(head: RequestHead | None) -> str | None:
    """The kind of JSON that a request asks for; C{None}: a page."""
    if head is None:
        return None
    weights = preferences(head.all("accept"))
    kind = max(_RANKS, key=lambda each: (weights.get(each, 0.0), _RANKS[each]))
    return kind if kind != _HTML and weights.get(kind) else None
