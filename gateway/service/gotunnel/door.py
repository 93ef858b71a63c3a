"""
Where agents of go-tunnel's arrive: they are taken as those of our own are, in their own dialect::

    dialect = GoTunnelDialect(agents, GoTunnelTokens(secret))
    protocol = dialect.arrive("192.0.2.7", ticket)      # on a TLS carrier without ALPN

Who may have a name. A name belongs to one live agent, and to no ghost. But nothing in this protocol says which agent
somebody is: every agent proves that it knows the one secret, with a new token each time, and the issuer in it is
whatever the example said that people copied. So who wants a name that another session has is not told at once. The
holder is asked to show that it lives, by a ping. If it answers, the newcomer is refused, as by go-tunnel's own server;
if it does not answer within a moment it is cut off, and the newcomer has the name. Of several newcomers the first to
come gets it, and is itself asked for by the next.

What was rejected: to believe that whoever has the same issuer, names and address is the same agent, and to let that
newcomer in without asking. It is a second faster when an agent has lost its network, but two agents that were started
with the same configuration, by mistake, would throw each other out every two seconds, and visitors with them. And to
wait for the next heartbeat, as the original does: an agent would be refused for up to 35 seconds after its network
came back. An agent that is killed leaves no ghost: its names are free when its connection ends.
"""

__all__ = ["GoTunnelDialect"]

from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.grant import EVERYTHING, Grant
from gateway.domain.limits import Ticket
from gateway.domain.registry import Problem
from gateway.domain.routes import hostPlace
from gateway.service.gotunnel.session import CARRIER, GoTunnelSession, GoTunnelSettings
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import IAgentSession
from gateway.service.server.carrierarrival import CarrierArrival
from gateway.wire.agentcontrol import ServiceError, SessionError
from gateway.wire.gotunnel import (
    AUTH_FAILED,
    HOST_TAKEN,
    NO_ROUTES,
    Ack,
    ControlReader,
    Message,
    Pong,
    Register,
    Route,
    encode,
)

NO_ROUTES_CODE = "no-routes"
"""For the log; the agent is told in go-tunnel's words."""


class GoTunnelDialect:
    """
    Takes carriers that speak it.

    @param grant: the names that agents may have.
    """

    def __init__(
        self,
        agents: AgentDoor,
        tokens: GoTunnelTokens,
        grant: Grant = EVERYTHING,
        settings: GoTunnelSettings = GoTunnelSettings(),  # noqa: B008 -- frozen
    ) -> None:
        self.agents = agents
        self.tokens = tokens
        self.grant = grant
        self.settings = settings

    def arrive(self, host: str, ticket: Ticket) -> IProtocol:
        """
        A carrier has come from an address.

        @param ticket: released when it is gone.
        """
        return _Arrival(self, host, ticket).mux


class _Arrival(CarrierArrival[Message, GoTunnelSession]):
    _log = Logger()

    def __init__(self, dialect: GoTunnelDialect, host: str, ticket: Ticket) -> None:
        super().__init__(dialect.agents, host, CARRIER, ticket, ControlReader(client=False).receive, encode)
        self._dialect = dialect
        self._routes: Sequence[Route] = ()

    def refusal(self, code: str, details: str) -> Ack:
        return Ack(ok=False, error=details)

    def gotMessage(self, message: Message) -> None:
        if isinstance(message, Register):
            self._register(message)
        elif isinstance(message, Pong) and self.session is not None:
            self.session.gotPong()

    # -- Registration

    def _register(self, register: Register) -> None:
        dialect, door = self._dialect, self.door
        if door.draining:
            self.refuse(SessionError.SHUTTING_DOWN, "The gateway is shutting down.")
            return
        try:
            issuer = dialect.tokens.verify(register.token, door.wallClock())
        except ValueError as e:
            # There are no bans: an agent with an old secret comes back every two seconds, whatever it is told, and
            # would shut out all others behind its address.
            self.refuse(SessionError.UNAUTHORIZED, AUTH_FAILED, problem=str(e))
            return
        if not register.routes:
            self.refuse(NO_ROUTES_CODE, NO_ROUTES)
            return
        self._ticket.authenticated()
        self._routes = register.routes
        session = GoTunnelSession(
            door,
            self.mux,
            self.send,
            register.routes,
            dialect.settings,
            dialect.grant,
            issuer=issuer,
            peer=self._host,
        )
        self._claim(session)

    def _holders(self) -> dict[IAgentSession, str]:
        """Who has names that are wanted here, each with the first of them as the newcomer spells it."""
        holders: dict[IAgentSession, str] = {}
        for route in self._routes:
            taken = self.door.registry.routes.get(hostPlace(route.name))
            for holder in () if taken is None else taken.replicas:
                holders.setdefault(cast(IAgentSession, holder), route.key)
        return holders

    def _claim(self, session: GoTunnelSession) -> None:
        """Take the names, unless somebody who lives has one of them. See the module's text."""
        holders = self._holders()
        if not holders:
            self._attach(session)
            return
        answers: list[Deferred[bool]] = [
            each.isAlive() if isinstance(each, GoTunnelSession) else succeed(True) for each in holders
        ]
        gatherResults(answers).addCallback(self._answered, holders, session).addErrback(
            lambda failure: self._log.failure("an agent could not be taken", failure, event="gateway.defect")
        )

    def _answered(self, answers: Sequence[bool], holders: dict[IAgentSession, str], session: GoTunnelSession) -> None:
        if self.isOver:
            return
        for isAlive, name in zip(answers, holders.values(), strict=True):
            if isAlive:
                self.refuse(ServiceError.TAKEN, HOST_TAKEN.format(host=name))
                return
        for holder in holders:
            if holder in self.door.sessions:
                cast(GoTunnelSession, holder).cutOff(
                    SessionError.REPLACED, "The agent did not answer, and another one wants its names."
                )
        self._claim(session)

    def _attach(self, session: GoTunnelSession) -> None:
        door = self.door
        door.attach(session)
        outcomes = door.registry.offer(session, session.services.values())
        for outcome in outcomes.values():
            if isinstance(outcome, Problem):
                door.sessionOver(session)
                self.refuse(outcome.code, outcome.details)
                return
        self.attached(session)
        session.logAttached()
        for key, service in session.services.items():
            session.logService(key, *door.publicAddress(service, hostPlace(service.hostnames[0])))
        self.send(Ack(ok=True))
        session.start()
