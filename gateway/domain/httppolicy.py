"""
What is done with the HTTP of one route: who may come, how often, and what is changed in heads on the way.

A route's service says what its agent wants (L{HttpOptions<gateway.wire.httpoptions.HttpOptions>}), and the gateway has
defaults and caps of its own. Both are taken apart once, not for each request, and where nothing is asked for next to
nothing is done::

    policies = RoutePolicies(HttpDefaults(hsts=31_536_000))
    policy = policies.of(route)
    refusal = policy.refusal(head, "192.0.2.7", isSecure, now, length)    # answer it; or None, and then
    policy.inFlight += 1                                                  # until the response is complete
    fields = policy.requestFields(forwardedFields(...))
    fields = policy.responseFields(response.headers, isSecure)

Secrets are here as hashes alone, and compared in constant time.
"""

__all__ = ["HttpDefaults", "HttpProblem", "Refusal", "RoutePolicies", "RoutePolicy", "refusalOf"]

from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from math import ceil
from weakref import WeakKeyDictionary

from gateway.domain.access import AccessRules
from gateway.domain.limits import Bans, TokenBucket
from gateway.domain.routes import Route
from gateway.wire.http1 import RequestHead
from gateway.wire.httpoptions import HttpOptions

Fields = Sequence[tuple[str, str]]

GUESSES = 30
"""Wrong passwords from one address in a minute, from which on none of it are looked at for another minute."""

_GUESS_SECONDS = 60.0
_GUESSERS = 10_000
"""Addresses that are remembered for it, of each route."""

_MAX_CREDENTIALS = 2048
"""Characters of an Authorization header that are looked at."""

_NOTHING = HttpOptions()


class HttpProblem(StrEnum):
    """Why a request is answered by the gateway itself: the codes of its answers."""

    HTTPS_REQUIRED = "https-required"
    BAD_REQUEST = "bad-request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NO_ROUTE = "no-route"
    METHOD_REFUSED = "method-refused"
    REQUEST_TIMEOUT = "request-timeout"
    BODY_TOO_LARGE = "body-too-large"
    URI_TOO_LONG = "uri-too-long"
    MISDIRECTED = "misdirected"
    TOO_MANY_REQUESTS = "too-many-requests"
    HEAD_TOO_LARGE = "head-too-large"
    UNSUPPORTED_CODING = "unsupported-coding"
    AGENT_GONE = "agent-gone"
    ORIGIN_REFUSED = "origin-refused"
    BAD_RESPONSE = "bad-response"
    UNAVAILABLE = "unavailable"
    ORIGIN_TIMEOUT = "origin-timeout"
    UNSUPPORTED_VERSION = "unsupported-version"

    @property
    def status(self) -> int:
        """The status of HTTP that goes with it."""
        return _STATUS[self]

    @classmethod
    def of(cls, status: int) -> "HttpProblem":
        """What is wrong with a request that a connection does not take, and answers with this status."""
        return _OF_STATUS.get(status, cls.BAD_REQUEST)


_STATUS = {
    HttpProblem.HTTPS_REQUIRED: 308,
    HttpProblem.BAD_REQUEST: 400,
    HttpProblem.UNAUTHORIZED: 401,
    HttpProblem.FORBIDDEN: 403,
    HttpProblem.NO_ROUTE: 404,
    HttpProblem.METHOD_REFUSED: 405,
    HttpProblem.REQUEST_TIMEOUT: 408,
    HttpProblem.BODY_TOO_LARGE: 413,
    HttpProblem.URI_TOO_LONG: 414,
    HttpProblem.MISDIRECTED: 421,
    HttpProblem.TOO_MANY_REQUESTS: 429,
    HttpProblem.HEAD_TOO_LARGE: 431,
    HttpProblem.UNSUPPORTED_CODING: 501,
    HttpProblem.AGENT_GONE: 502,
    HttpProblem.ORIGIN_REFUSED: 502,
    HttpProblem.BAD_RESPONSE: 502,
    HttpProblem.UNAVAILABLE: 503,
    HttpProblem.ORIGIN_TIMEOUT: 504,
    HttpProblem.UNSUPPORTED_VERSION: 505,
}
_OF_STATUS = {status: problem for problem, status in _STATUS.items()}


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    The answer to a request that goes no further.

    @ivar code: an L{HttpProblem}.
    @ivar details: a sentence for a person.
    @ivar headers: of the answer besides the usual ones.
    """

    status: int
    code: str
    details: str
    headers: Fields = ()


def refusalOf(problem: HttpProblem, details: str, *headers: tuple[str, str]) -> Refusal:
    """
    @param headers: of the answer besides the usual ones.
    """
    return Refusal(problem.status, problem, details, headers)


@dataclass(frozen=True, slots=True)
class HttpDefaults:
    """
    What the gateway does where a service says nothing, and the most that it lets any service have.

    @ivar httpsRedirect: whether visitors without TLS are sent to the same place with it.
    @ivar hsts: seconds for which browsers are told to come by TLS alone; 0: they are not.
    @ivar tlsPort: where visitors find TLS; 0: nowhere, so nobody is sent there.
    @ivar maxBody: bytes of a request's body; 0: no limit.
    @ivar inFlight: requests at once of one route; 0: no limit.
    """

    httpsRedirect: bool = False
    hsts: int = 0
    tlsPort: int = 443
    maxBody: int = 0
    inFlight: int = 0


def _least(one: int, other: int) -> int:
    """The smaller of two limits, of which 0 is none."""
    return min(one, other) if one and other else one or other


class RoutePolicy:
    """
    What is done for one route.

    @raise ValueError: the options have something in them that cannot be, with a sentence that says what.
    @ivar options: of the route's service, also of one that says nothing.
    @ivar maxBody: bytes of a request's body; 0: no limit. Whoever counts a body of unknown length stops it there.
    @ivar inFlight: requests that were let in and are not over. Whoever lets one in adds it, and takes it off.
    """

    __slots__ = (
        "_access",
        "_bans",
        "_bucket",
        "_dropped",
        "_hsts",
        "_inFlightLimit",
        "_isOpen",
        "_redirectPort",
        "_responseDropped",
        "inFlight",
        "maxBody",
        "options",
    )

    def __init__(self, options: HttpOptions | None = None, defaults: HttpDefaults | None = None) -> None:
        self.inFlight = 0
        self._bans = Bans(GUESSES, _GUESS_SECONDS, _GUESS_SECONDS, _GUESSERS)
        self._bucket: TokenBucket | None = None
        self.options = _NOTHING
        self.take(options or _NOTHING, defaults or HttpDefaults())

    def take(self, options: HttpOptions, defaults: HttpDefaults) -> None:
        """
        Do as these say from now on. What was counted stays.

        @raise ValueError: the options have something in them that cannot be.
        """
        self._access = AccessRules.parse(options.access)
        if options.requestsPerSecond != self.options.requestsPerSecond:
            self._bucket = None
        self.options = options
        self.maxBody = _least(options.maxBody, defaults.maxBody)
        self._inFlightLimit = _least(options.inFlight, defaults.inFlight)
        redirects = defaults.httpsRedirect if options.httpsRedirect is None else options.httpsRedirect
        self._redirectPort = defaults.tlsPort if redirects else 0
        self._hsts = defaults.hsts if options.hsts is None else options.hsts
        dropped = [*options.removeRequestHeaders, *(name for name, _ in options.setRequestHeaders)]
        if options.basicAuth:
            dropped.append("authorization")  # it was for us, and is nobody else's
        self._dropped = frozenset(dropped)
        self._responseDropped = frozenset(
            [*options.removeResponseHeaders, *(name for name, _ in options.setResponseHeaders)]
        )
        # Nearly always true, and then this is all that there is to be asked for a request.
        self._isOpen = not (
            self._redirectPort
            or self.maxBody
            or self._inFlightLimit
            or options.access
            or options.basicAuth
            or options.requestsPerSecond
        )

    # -- Who may come

    def refusal(
        self, head: RequestHead, visitorHost: str, isSecure: bool, now: float, length: int | None = 0
    ) -> Refusal | None:
        """
        Decide about one request, before anything of it goes anywhere.

        @param visitorHost: the visitor's own address.
        @param isSecure: they came by TLS, to us or to a trusted front.
        @param now: monotonic seconds.
        @param length: bytes of body; C{None}: not known.
        @return: what to answer; C{None} to go on.
        """
        if self._isOpen:
            return None
        if self.options.access and not self._access.allows(visitorHost):
            return refusalOf(HttpProblem.FORBIDDEN, "You may not come here from your address.")
        if self._redirectPort and not isSecure:
            return self._redirect(head)
        # Who has no password takes nothing from the rate of those who have.
        return self._unproved(head, visitorHost, now) or self._excess(length, now)

    def _redirect(self, head: RequestHead) -> Refusal:
        authority = head.get("host") or ""
        if not authority:
            return refusalOf(HttpProblem.BAD_REQUEST, "This is only to be had with https.")
        host, colon, port = authority.rpartition(":")
        host = host if colon and not port.endswith("]") else authority
        place = host if self._redirectPort == 443 else f"{host}:{self._redirectPort}"
        target = head.target if head.target.startswith("/") else "/"
        return refusalOf(
            HttpProblem.HTTPS_REQUIRED, "This is only to be had with https.", ("Location", f"https://{place}{target}")
        )

    def _unproved(self, head: RequestHead, visitorHost: str, now: float) -> Refusal | None:
        if not self.options.basicAuth:
            return None
        if wait := self._bans.remaining(visitorHost, now):
            details = "Too many wrong passwords came from your address: wait a minute."
            return refusalOf(HttpProblem.TOO_MANY_REQUESTS, details, ("Retry-After", str(ceil(wait))))
        sent = head.all("authorization")
        if len(sent) == 1 and (shown := _basic(sent[0])) is not None:
            # All are compared, each in constant time: which one it was, or nearly was, is nobody's to measure.
            found = [each for each in self.options.basicAuth if compare_digest(shown, each.encode())]
            if found:
                self._bans.succeeded(visitorHost)
                return None
            self._bans.failed(visitorHost, now)
        challenge = ("WWW-Authenticate", 'Basic realm="gateway", charset="UTF-8"')
        return refusalOf(HttpProblem.UNAUTHORIZED, "A user name and a password are needed here.", challenge)

    def user(self, head: RequestHead) -> str:
        """
        @param head: of a request that was let in.
        @return: the name for which a password was shown; empty where none is asked for.
        """
        shown = _basic(head.get("authorization") or "") if self.options.basicAuth else None
        return "" if shown is None else shown.partition(b":")[0].decode("utf-8", "replace")

    def _excess(self, length: int | None, now: float) -> Refusal | None:
        if self.maxBody and length is not None and length > self.maxBody:
            return refusalOf(
                HttpProblem.BODY_TOO_LARGE, f"No more than {self.maxBody} bytes can be sent here at a time."
            )
        if self._inFlightLimit and self.inFlight >= self._inFlightLimit:
            details = "Too many requests are being answered here at the moment."
            return refusalOf(HttpProblem.TOO_MANY_REQUESTS, details, ("Retry-After", "1"))
        rate = self.options.requestsPerSecond
        if rate:
            if self._bucket is None:
                self._bucket = TokenBucket(rate, max(1.0, rate), now)
            if not self._bucket.tryTake(1.0, now):
                details = "More requests come here than are taken."
                return refusalOf(HttpProblem.TOO_MANY_REQUESTS, details, ("Retry-After", str(ceil(1 / rate))))
        return None

    # -- What is changed

    def requestFields(self, fields: Fields) -> Fields:
        """
        @param fields: of a request, with what we say of the visitor. After this, nothing is added but framing.
        @return: what the origin gets.
        """
        options = self.options
        if self._dropped:
            fields = [each for each in fields if each[0] not in self._dropped]
            fields += options.setRequestHeaders
        if options.hostHeader:
            fields = [("host", options.hostHeader), *(each for each in fields if each[0] != "host")]
        return fields

    def responseFields(self, fields: Fields, isSecure: bool) -> Fields:
        """
        @param fields: of a response.
        @param isSecure: the visitor came by TLS. Others could be told anything (RFC 6797, section 7.2).
        @return: what the visitor gets.
        """
        if self._responseDropped:
            fields = [each for each in fields if each[0] not in self._responseDropped]
            fields += self.options.setResponseHeaders
        if self._hsts and isSecure and not any(name == _HSTS for name, _ in fields):
            fields = [*fields, (_HSTS, f"max-age={self._hsts}")]
        return fields


_HSTS = "strict-transport-security"


def _basic(text: str) -> bytes | None:
    """
    Credentials of the Basic scheme (RFC 7617).

    @return: the user's name and the password's hash, as options have them; C{None}: these are no such credentials.
    """
    scheme, _, encoded = text.partition(" ")
    if scheme.lower() != "basic" or len(text) > _MAX_CREDENTIALS:
        return None
    try:
        user, colon, password = b64decode(encoded.strip(" "), validate=True).partition(b":")
    except (Error, ValueError):  # the latter: what is not ASCII
        return None
    return user + b":sha256:" + sha256(password).hexdigest().encode() if colon else None


class RoutePolicies:
    """
    The policies of all routes.

    @ivar defaults: may be exchanged, and hold for routes that there are, too.
    """

    def __init__(self, defaults: HttpDefaults | None = None) -> None:
        self.defaults = defaults or HttpDefaults()
        self._policies: WeakKeyDictionary[Route, tuple[RoutePolicy, HttpDefaults]] = WeakKeyDictionary()

    def of(self, route: Route) -> RoutePolicy:
        """
        What is done for a route, by what the newest of its replicas says: the same object as long as the route stands.
        """
        options = route.service.http or _NOTHING
        found = self._policies.get(route)
        if found is None:
            policy = RoutePolicy(options, self.defaults)
            self._policies[route] = policy, self.defaults
            return policy
        policy, defaults = found
        if policy.options is not options or defaults is not self.defaults:
            policy.take(options, self.defaults)
            self._policies[route] = policy, self.defaults
        return policy
