"""
The Tabby door: what all visitors of one gateway share, and what can be done to all of them at once::

    door = TabbyDoor(reactor, authority, endpointFor, settings=TabbySettings(), ...)
    factory = DoorFactory(door.arrive, WebSocketServerFactory(clock=reactor), clock=reactor)
"""

__all__ = ["TabbyDoor", "TabbySettings"]

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from gateway.domain.addresses import IPNetwork, parseAddress
from gateway.domain.identity import Identity
from gateway.domain.limits import Admission, Bans, Counts, Ticket
from gateway.domain.targets import Target
from gateway.domain.tokens import TokenAuthority
from gateway.net.budget import StallBudget
from gateway.net.relay import RelaySettings
from gateway.service.draining import Draining, Vacancy
from gateway.service.logs import RefusalLog
from gateway.service.metrics import Metrics
from gateway.service.pages import errorPage, statusPage, webSocketURL
from gateway.service.proxies import TrustedProxies
from gateway.service.tabby.session import SessionCause
from gateway.service.tabby.visit import TabbyVisit
from gateway.wire.http1 import RequestHead, Response


@dataclass(frozen=True, slots=True)
class TabbySettings:
    """
    What one Tabby door is told.

    @ivar handshakeTimeout: seconds for the client to greet, and again to name its target.
    @ivar relay: limits of each session's relay.
    @ivar origins: the web origins whose pages may connect, in lower case without a trailing slash; C{*} for any. Empty:
        only the page of the gateway's own host.
    @ivar hosts: the names under which the gateway may be addressed, in lower case; addresses always may. C{None}: any.
    @ivar trustedProxies: networks whose C{X-Forwarded-For} and C{X-Forwarded-Proto} are believed.
    @ivar publicURL: what to paste into Tabby Web; C{None}: what the request shows.
    @ivar closeTimeout: seconds for the last good-byes once the drain is over.
    """

    handshakeTimeout: float = 10.0
    relay: RelaySettings = field(default_factory=RelaySettings)
    origins: frozenset[str] = frozenset({"*"})
    hosts: frozenset[str] | None = None
    trustedProxies: Sequence[IPNetwork] = ()
    publicURL: str | None = None
    closeTimeout: float = 7.0


class TabbyDoor:
    """
    Decides for its visitors, and keeps them all.

    @param endpointFor: where a target that an identity asks for is dialled; the policy is behind it.
    @param wallClock: POSIX seconds, for the expiry of tokens.
    @ivar proxies: who may say for whom they come.
    @ivar visits: everybody who is in, whatever the state, until the target has taken all that was sent to it.
    @ivar sessions: how many each identity has open.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        authority: TokenAuthority,
        endpointFor: Callable[[Target, Identity], IStreamClientEndpoint],
        *,
        settings: TabbySettings,
        admission: Admission,
        bans: Bans,
        budget: StallBudget,
        metrics: Metrics,
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.authority = authority
        self.endpointFor = endpointFor
        self.settings = settings
        self.admission = admission
        self.bans = bans
        self.budget = budget
        self.metrics = metrics
        self.wallClock = wallClock
        self.proxies = TrustedProxies(settings.trustedProxies)
        self.visits: set[TabbyVisit] = set()
        self.sessions = Counts()
        self.draining = False
        self._refusals = RefusalLog(clock)
        self._vacancy = Vacancy(self.visits)
        metrics.gauge("connections_open", "Client connections.", lambda: admission.connections)
        metrics.gauge("connections_unauthenticated", "Those not yet authenticated.", lambda: admission.unauthenticated)
        metrics.gauge("visitors", "Visitors past the opening handshake.", lambda: len(self.visits))
        metrics.gauge("stalled_bytes", "Bytes held for stalled readers, at most.", lambda: budget.used)

    # -- Decisions

    def arrive(self, host: str, *, secure: bool = False) -> TabbyVisit | None:
        """
        A connection has come.

        @param secure: whether its port speaks TLS.
        @return: C{None} to drop it.
        """
        if self.proxies.includes(host):
            return TabbyVisit(self, host, None, secure)  # admitted when the proxy has said for whom
        ticket = self.admit(host)
        return None if ticket is None else TabbyVisit(self, host, ticket, secure)

    def admit(self, host: str) -> Ticket | None:
        """Count a connection from an address, if there is room for it."""
        answer = self.admission.admit(host, self.clock.seconds())
        if isinstance(answer, Ticket):
            self.metrics.connections.add("client")
            return answer
        self.metrics.refused.add(answer.value)
        self._refusals.refused(answer.value, host)
        return None

    def upgradeProblem(self, head: RequestHead) -> str | None:
        """
        Why a page may not connect, or C{None}.

        The Host check is what holds against DNS rebinding, where a page's own name suddenly means this gateway.
        """
        host = head.get("host") or ""
        name = _hostName(host)
        if self.settings.hosts is not None and (
            name is None or (parseAddress(name) is None and name not in self.settings.hosts)
        ):
            return f"This gateway does not go by the name {host!a:.80}"
        origin = head.get("origin")
        if origin is None or "*" in self.settings.origins or origin.lower() in self.settings.origins:
            return None
        if not self.settings.origins and origin.lower().partition("://")[2] == host.lower():
            return None
        return f"Pages of the origin {origin!a:.80} may not connect to this gateway"

    def tokenRefused(self, host: str) -> bool:
        """
        Count a wrong token. The address of a proxy or a UNIX socket is that of many people, and never banned.

        @return: whether this starts a ban.
        """
        if self.proxies.includes(host):
            return False
        return self.bans.failed(host, self.clock.seconds())

    def page(self, head: RequestHead, host: str, *, secure: bool) -> Response:
        """Answer somebody who did not ask for a WebSocket."""
        if head.method not in ("GET", "HEAD"):
            return errorPage(405, "This is a WebSocket gateway; nothing can be sent to it.", (("Allow", "GET, HEAD"),))
        if head.path == "/healthz":
            return Response(503, b"draining\n") if self.draining else Response(200, b"ok\n")
        if head.path in ("/metrics", "/favicon.ico", "/robots.txt"):
            return errorPage(404, "There is no such page here.")
        if head.get("sec-websocket-key") is not None:
            self._log.info(
                "a proxy in front removed the Upgrade header of a WebSocket request, from {visitor}",
                event="tabby.upgrade-lost",
                visitor=host,
            )
            return errorPage(
                426,
                "A proxy in front of this gateway removed the Upgrade header of a WebSocket request. "
                "It must pass on the headers Upgrade and Connection, and speak HTTP/1.1.",
                (("Upgrade", "websocket"), ("Connection", "Upgrade")),
            )
        secure = secure or (self.proxies.includes(host) and head.get("x-forwarded-proto") in ("https", "wss"))
        return statusPage(self.settings.publicURL or webSocketURL(head, secure=secure))

    # -- All visitors at once

    def tokensChanged(self) -> None:
        """End the sessions of tokens that are not good any more, and hold the others to what their tokens say now."""
        now = self.wallClock()
        for visit in tuple(self.visits):
            if visit.identity is None:
                continue
            current = self.authority.renewed(visit.identity, now)
            if current is None:
                visit.end(SessionCause.REVOKED)
            else:
                visit.renew(current)

    async def drain(self, seconds: float, draining: Draining) -> None:
        """
        Send everybody home: who has no session yet at once, the others when they are done, target and all, or time
        is up.

        The caller has stopped listening.

        @param draining: waits for them.
        """
        self.draining = True
        for visit in tuple(self.visits):
            visit.announceShutdown(seconds)
        await draining.wait(seconds, self._vacancy.awaited())
        for visit in tuple(self.visits):
            visit.end(SessionCause.SHUTDOWN)
        await draining.wait(self.settings.closeTimeout, self._vacancy.awaited())
        for visit in tuple(self.visits):
            visit.abort()
        self._refusals.stop()

    def visitOver(self, visit: TabbyVisit) -> None:
        """A visitor is gone, and so is its target. The caller has nothing left to do: a drain may go on in here."""
        self.visits.discard(visit)
        self._vacancy.left()


def _hostName(host: str) -> str | None:
    """The name in a Host header; C{None} when it cannot be one at all: urlsplit takes almost anything."""
    if not 0 < len(host) <= 255 or set(host) & set(" /\\@?#,\t"):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
