"""
The door for access clients, in both dialects::

    clients = AccessClients(door, streams, authority)
    protocol = clients.door.arrive("192.0.2.7", "websocket", ticket=ticket)     # the agent protocol
    receiver = clients.visit("192.0.2.7", ticket)                               # http-network-relay's messages
"""

__all__ = ["AccessClients"]

from gateway.domain.limits import Ticket
from gateway.domain.relaycredentials import RelayCredentials
from gateway.service.draining import Vacancy
from gateway.service.networkrelay.access import AccessAuthority
from gateway.service.networkrelay.clientvisit import JsonClientVisit
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.clientstreams import ClientStreams
from gateway.wire.agentcontrol import SessionError


class AccessClients:
    """
    @param door: takes those that speak the agent protocol. It is one of its own: an access client is no agent, and
        nobody's name leads to one.
    @param authority: of that door.
    @ivar visits: of the others.
    """

    def __init__(self, door: AgentDoor, streams: ClientStreams, authority: AccessAuthority) -> None:
        self.door = door
        self.streams = streams
        self.visits: set[JsonClientVisit] = set()
        self._authority = authority
        self._vacancy = Vacancy(self.visits)

    def __len__(self) -> int:
        """How many are here."""
        return len(self.visits) + len(self.door.sessions)

    def visit(self, host: str, ticket: Ticket) -> JsonClientVisit:
        """One has come that speaks http-network-relay's messages."""
        return JsonClientVisit(self, host, ticket)

    def visitOver(self, visit: JsonClientVisit) -> None:
        """It is gone."""
        self.visits.discard(visit)
        self._vacancy.left()

    def use(self, credentials: RelayCredentials) -> None:
        """Use others from now on. Connections that stand go on, unless it is not known any more whose they are."""
        self._authority.credentials = credentials
        self.door.authorityChanged()
        now = self.door.wallClock()
        for visit in tuple(self.visits):
            if visit.identity is not None and self._authority.renewed(visit.identity, now) is None:
                visit.end(SessionError.REVOKED, "The secret of this access client is not good any more.")

    async def close(self) -> None:
        """End all of them."""
        for visit in tuple(self.visits):
            visit.end(SessionError.SHUTTING_DOWN, "The relay is shutting down.")
        await self.door.close()
        await self._vacancy.awaited()
