"""
The door of a network relay: two WebSocket paths, each with two dialects, and a page for everybody else::

    door = RelayDoor(reactor, agents, clients, visitors, RelayDoorSettings())
    factory = DoorFactory(door.arrive, door.websockets, clock=reactor)

Whoever offers the subprotocol of the agent protocol gets it, and is from there on what any agent or client of the
gateway is. The others do not know it, and are spoken to in http-network-relay's messages.
"""

__all__ = ["RelayDoor", "RelayDoorSettings"]

from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.access import EVERYBODY
from gateway.domain.addresses import IPNetwork
from gateway.domain.limits import Ticket
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.websocket import Denied, WebSocketServerFactory
from gateway.net.websocketendpoints import ChannelStream
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.listening import IVisit
from gateway.service.networkrelay.agentvisit import JsonAgentVisit
from gateway.service.networkrelay.clients import AccessClients
from gateway.service.networkrelay.session import JsonAgentSettings
from gateway.service.pages import errorPage
from gateway.service.proxies import LOOPBACK, TrustedProxies
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import Visitor
from gateway.service.server.turnedaway import turnedAway
from gateway.service.server.visitors import Visitors
from gateway.wire.agentcontrol import SUBPROTOCOL
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.networkrelay import AGENT_PATH, CLIENT_PATH, MAX_START

DOOR = "network-relay"
"""What metrics and logs call it."""


@dataclass(frozen=True, slots=True)
class RelayDoorSettings:
    """
    What the door is told.

    @ivar headTimeout: seconds for the head of a request.
    @ivar pingInterval: seconds between pings of WebSockets; whose peer does not answer within two is gone.
    @ivar proxies: whose C{X-Forwarded-For} is believed.
    @ivar json: of agents that speak http-network-relay's messages.
    """

    headTimeout: float = 10.0
    pingInterval: float = 20.0
    proxies: Sequence[IPNetwork] = LOOPBACK
    json: JsonAgentSettings = field(default_factory=JsonAgentSettings)


class RelayDoor:
    """
    @param agents: where edge agents attach, as all others do.
    @ivar proxies: whose word on who comes counts.
    @ivar websockets: makes the protocols of its connections.
    """

    def __init__(
        self,
        clock: IReactorTime,
        agents: AgentDoor,
        clients: AccessClients,
        visitors: Visitors,
        settings: RelayDoorSettings,
    ) -> None:
        self.agents = agents
        self.clients = clients
        self.settings = settings
        self.proxies = TrustedProxies(settings.proxies)
        self.websockets = WebSocketServerFactory(
            clock=clock,
            settings=WebSocketSettings(
                handshakeTimeout=settings.headTimeout, pingInterval=settings.pingInterval, maxMessage=MAX_START
            ),
        )
        self._visitors = visitors

    def arrive(self, host: str) -> IVisit | None:
        """
        A connection has come from an address.

        @return: C{None} to drop it.
        """
        ticket = self._visitors.admit(host, EVERYBODY, DOOR)
        return None if ticket is None else _Arrival(self, host, ticket)

    def arriveInside(self, visitor: Visitor, ticket: Ticket) -> IProtocol:
        """
        A connection has come by a door of the gateway's.

        @return: what to put on it.
        """
        return self.websockets.protocolFor(_Arrival(self, visitor.host, ticket))

    def page(self, head: RequestHead) -> Response:
        """What is answered to somebody who wants no WebSocket."""
        if head.method not in ("GET", "HEAD"):
            return errorPage(405, "There is nothing to send to here.", (("Allow", "GET, HEAD"),))
        if head.path == "/healthz":
            return Response(503, b"draining\n") if self.agents.draining else Response(200, b"ok\n")
        if head.path in (AGENT_PATH, CLIENT_PATH):
            return errorPage(426, "This is for programs, which speak WebSocket.", (("Upgrade", "websocket"),))
        if head.path == "/":
            return Response(200, b"This is a network relay, and it is up.\n")
        return errorPage(404, "There is no such page here.")


@implementer(IVisit)
class _Arrival(ChannelStream):
    """One connection, until it is known who comes and in which dialect."""

    def __init__(self, door: RelayDoor, host: str, ticket: Ticket) -> None:
        self._door = door
        self._host = host
        self._ticket = ticket

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        door = self._door
        if head.path not in (AGENT_PATH, CLIENT_PATH):
            raise Denied(door.page(head))
        if head.get("origin") is not None:
            raise Denied(errorPage(403, "This is for programs, not for pages."))
        isAgent = head.path == AGENT_PATH
        carriers = door.agents if isAgent else door.clients.door
        host = door.proxies.client(head, self._host)
        ticket = carriers.admit(host)
        if ticket is None:
            raise Denied(errorPage(503, "No more connections are taken now."))
        self._ticket.release()  # from here on it is no visitor
        if SUBPROTOCOL in head.members("sec-websocket-protocol"):
            channel.subprotocol = SUBPROTOCOL
            self._protocol = carriers.arrive(host, "websocket", ticket=ticket)
            return self
        if isAgent:
            return JsonAgentVisit(carriers, host, ticket, door.settings.json)
        return door.clients.visit(host, ticket)

    def plain(self, head: RequestHead) -> Response:
        return self._door.page(head)

    def failed(self, reason: Failure) -> None:
        assert isinstance(reason.value, Exception)
        turnedAway(DOOR, self._host, reason.value)

    def left(self) -> None:
        self._ticket.release()
