"""
What is at the gateway's own name: agents and others that come by WebSocket, a health check, and a page for who lost
their way::

    site = Site(reactor, agents, path="/agent")
    site.add("/ws_for_edge_agents", relay.door.arriveInside)
    protocol = site.arrive(head.path, visitor, ticket) if site.takes(head) else None
    response = site.page(head)
"""

__all__ = ["HEALTH", "Site"]

from collections.abc import Callable

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.limits import Ticket
from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.websocket import Denied, WebSocketServerFactory
from gateway.net.websocketendpoints import ChannelStream
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.pages import errorPage
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import Visitor
from gateway.service.server.turnedaway import turnedAway
from gateway.wire.agentcontrol import SUBPROTOCOL
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.upgrade import chooseSubprotocol

HEALTH = "/healthz"
"""Where it is said whether all is well."""


class Site:
    """
    @param agents: who takes agents.
    @param path: where they open a WebSocket.
    @param timeout: seconds for the head of a request.
    @cvar isEverywhere: whether it is at every name that is no agent's, whatever visitors call the gateway.
    """

    isEverywhere = False

    def __init__(self, clock: IReactorTime, agents: AgentDoor, *, path: str = "/agent", timeout: float = 10.0) -> None:
        self.agents = agents
        self._arrivals: dict[str, Callable[[Visitor, Ticket], IProtocol]] = {path: self._agentArrives}
        self._othersTake: Callable[[RequestHead], bool] = lambda head: False
        self._othersArrive: Callable[[Visitor, Ticket], IProtocol] = self._agentArrives
        # The session in it pings already.
        self._websockets = WebSocketServerFactory(
            clock=clock, settings=WebSocketSettings(handshakeTimeout=timeout, pingInterval=0)
        )

    def add(self, path: str, arrive: Callable[[Visitor, Ticket], IProtocol]) -> None:
        """
        Let others take WebSockets at a path.

        @param arrive: makes the protocol of a connection inside of TLS, and sees to the release of its ticket.
        """
        self._arrivals[path] = arrive

    def addWhere(self, takes: Callable[[RequestHead], bool], arrive: Callable[[Visitor, Ticket], IProtocol]) -> None:
        """
        Let others take WebSockets that are told by more than their path, at paths that are nobody else's.

        @param takes: whether a request is for them.
        @param arrive: as for L{add}.
        """
        self._othersTake, self._othersArrive = takes, arrive

    def owns(self, path: str) -> bool:
        """Whether a path, or one below it, is the gateway's own, and so no agent's to ask for."""
        return any(f"{each}/".startswith(f"{path}/") for each in (HEALTH, *self._arrivals))

    def takes(self, head: RequestHead) -> bool:
        """Whether a connection that begins with this request is for L{arrive}."""
        return head.wantsWebSocket and (head.path in self._arrivals or self._othersTake(head))

    def arrive(self, path: str, visitor: Visitor, ticket: Ticket) -> IProtocol:
        """
        A connection inside of TLS, for a path that L{takes} one.
        """
        return self._arrivals.get(path, self._othersArrive)(visitor, ticket)

    def _agentArrives(self, visitor: Visitor, ticket: Ticket) -> IProtocol:
        return self._websockets.protocolFor(_SiteVisit(self, visitor, ticket))

    def page(self, head: RequestHead) -> Response:
        """Answer any other request."""
        if self.takes(head):
            return errorPage(403, "Agents come by TLS: use wss instead of ws.")
        if head.method not in ("GET", "HEAD"):
            return errorPage(405, "There is nothing to send to here.", (("Allow", "GET, HEAD"),))
        if head.path == HEALTH:
            return Response(503, b"draining\n") if self.agents.draining else Response(200, b"ok\n")
        if head.path in self._arrivals:
            return errorPage(426, "This is for agents, which speak WebSocket.", (("Upgrade", "websocket"),))
        if head.path == "/":
            return Response(200, b"This is a gateway, and it is up.\n")
        return errorPage(404, "There is no such page here.")


@implementer(IWebSocketGate)
class _SiteVisit(ChannelStream):
    """One connection."""

    def __init__(self, site: Site, visitor: Visitor, ticket: Ticket) -> None:
        self._site = site
        self._visitor = visitor
        self._ticket = ticket

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Agents may; pages, which browsers send an Origin for, may not."""
        if head.get("origin") is not None:
            raise Denied(errorPage(403, "This is for agents, not for pages."))
        channel.subprotocol = chooseSubprotocol(head, (SUBPROTOCOL,))
        self._protocol = self._site.agents.arrive(self._visitor.host, "websocket")
        if self._protocol is None:
            raise Denied(errorPage(503, "No more agents are taken now."))
        self._ticket.release()  # an agent is no visitor
        return self

    def plain(self, head: RequestHead) -> Response:
        return self._site.page(head)

    def failed(self, reason: Failure) -> None:
        assert isinstance(reason.value, Exception)
        turnedAway("gateway", self._visitor.host, reason.value)
