"""
The management listener: metrics, health, and a page that shows which agents are here.

It is on loopback, where the Host header keeps out pages that found out about it by DNS rebinding; elsewhere it asks for
a password::

    dashboard = Dashboard(agents, metrics, clock=reactor, passwordHash=None, hosts=frozenset())
    factory = DoorFactory(dashboard.arrive, WebSocketServerFactory(clock=reactor), clock=reactor, certificate=None)
"""

__all__ = ["MAX_CONNECTIONS", "Dashboard"]

import binascii
from base64 import b64decode
from collections.abc import Collection
from hmac import compare_digest

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.addresses import hostOf, parseAddress
from gateway.domain.limits import Admission, Ticket
from gateway.domain.tokens import MAX_TOKEN_LENGTH, hashToken
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.websocket import Denied
from gateway.service.listening import IVisit
from gateway.service.metrics import Metrics
from gateway.service.pages import errorPage, tablePage
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import SessionFacts
from gateway.service.server.turnedaway import turnedAway
from gateway.wire.http1 import RequestHead, Response

MAX_CONNECTIONS = 200
"""Connections at once."""

_COLUMNS = (
    "Agent",
    "Replica",
    "From",
    "Carrier",
    "Software",
    "Here for",
    "Last ping",
    "Round trip",
    "Visitors",
    "Up",
    "Down",
    "Serves",
)


class Dashboard:
    """
    @param passwordHash: of L{hashToken}; empty: nobody is asked.
    @param hosts: names under which it may be addressed, besides addresses and C{localhost}.
    """

    def __init__(
        self,
        agents: AgentDoor,
        metrics: Metrics,
        *,
        clock: IReactorTime,
        passwordHash: str = "",
        hosts: Collection[str] = (),
    ) -> None:
        self.agents = agents
        self.metrics = metrics
        self.clock = clock
        self.passwordHash = passwordHash
        self.hosts = frozenset(hosts) | {"localhost"}
        self._admission = Admission(
            clock.seconds(),
            unauthenticated=MAX_CONNECTIONS,
            unauthenticatedPerAddress=None,
            perAddress=None,
            newPerSecond=None,
            newPerSecondPerAddress=None,
        )

    def arrive(self, host: str) -> "_DashboardVisit | None":
        """
        A connection has come.

        @return: C{None} to drop it.
        """
        ticket = self._admission.admit(host, self.clock.seconds())
        if not isinstance(ticket, Ticket):
            self.metrics.refused.add(ticket.value)
            return None
        self.metrics.connections.add("management")
        return _DashboardVisit(self, host, ticket)

    def page(self, head: RequestHead) -> Response:
        """Answer a request."""
        names = head.all("host")
        try:
            host = hostOf(names[0]) if len(names) == 1 else ""
        except ValueError:
            host = ""
        if parseAddress(host) is None and host not in self.hosts:
            return errorPage(403, "This listener does not go by that name.")
        if head.method not in ("GET", "HEAD"):
            return errorPage(405, "There is nothing to send to here.", (("Allow", "GET, HEAD"),))
        if head.path == "/healthz":
            return Response(200, b"ok\n")
        if head.path == "/readyz":
            return Response(503, b"draining\n") if self.agents.draining else Response(200, b"ok\n")
        if not self._isKnown(head):
            return errorPage(401, "A password is required.", (("WWW-Authenticate", 'Basic realm="gateway"'),))
        if head.path == "/metrics":
            return Response(200, self.metrics.render(), self.metrics.CONTENT_TYPE)
        if head.path == "/":
            return self._sessions()
        return errorPage(404, "There are /, /metrics, /healthz and /readyz.")

    def _isKnown(self, head: RequestHead) -> bool:
        if not self.passwordHash:
            return True
        scheme, _, credentials = (head.get("authorization") or "").partition(" ")
        try:
            sent = b64decode(credentials, validate=True).decode() if scheme.lower() == "basic" else ""
        except (binascii.Error, ValueError):
            return False
        password = sent.partition(":")[2]
        return len(password) <= MAX_TOKEN_LENGTH and compare_digest(hashToken(password), self.passwordHash)

    def _sessions(self) -> Response:
        every = sorted((each.facts() for each in self.agents.sessions), key=lambda each: (each.agent, each.replica))
        summary = f"Sessions: {len(every)}, visitors: {sum(each.streams for each in every)}"
        return tablePage("Agents", summary, _COLUMNS, [_row(each) for each in every])


def _row(facts: SessionFacts) -> tuple[str, ...]:
    return (
        facts.agent,
        facts.replica,
        facts.peer,
        facts.carrier,
        facts.software,
        f"{facts.seconds:.0f} s",
        "" if facts.lastPing is None else f"{facts.lastPing:.0f} s ago",
        "" if facts.rtt is None else f"{facts.rtt * 1000:.1f} ms",
        str(facts.streams),
        f"{facts.up:,}",
        f"{facts.down:,}",
        ", ".join(map(str, facts.places)),
    )


@implementer(IVisit)
class _DashboardVisit:
    def __init__(self, dashboard: Dashboard, host: str, ticket: Ticket) -> None:
        self._dashboard = dashboard
        self._host = host
        self._ticket = ticket

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """There is no WebSocket here."""
        raise Denied(errorPage(404, "There is no WebSocket here."))

    def plain(self, head: RequestHead) -> Response:
        return self._dashboard.page(head)

    def failed(self, reason: Failure) -> None:
        assert isinstance(reason.value, Exception)
        turnedAway("management", self._host, reason.value)

    def left(self) -> None:
        self._ticket.release()
