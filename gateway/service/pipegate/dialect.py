"""
Where clients of PipeGate's arrive: a WebSocket at the id that they want, with a token that is good for it::

    dialect = PipeGateDialect(agents, authority, JsonLimits())
    if dialect.takes(head):
        protocol = dialect.arrive(visitor, ticket)          # on the connection that the head came on

A client of ours offers the agent protocol there, and is an agent from then on, whose one service is the paths below the
id. All others speak PipeGate's own dialect. Who has no good token is told so before there is a WebSocket.

Two clients of one id: the newest takes over from the one before, unless they are to share their visitors. PipeGate's
own server lets them share by chance, so that one that was forgotten somewhere gets every other request.
"""

__all__ = ["PipeGateDialect"]

import os
from collections.abc import Sequence

import msgspec
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.addresses import IPNetwork, hostOf
from gateway.domain.limits import Ticket
from gateway.domain.pipegate import AGENT_PREFIX, PipeGateAuthority
from gateway.domain.registry import Problem
from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.websocket import Denied, WebSocketServerFactory
from gateway.net.websocketendpoints import ChannelStream
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.pages import errorPage
from gateway.service.pipegate.absence import Absence
from gateway.service.pipegate.jsonrequest import Held, JsonLimits
from gateway.service.pipegate.jsonsession import CARRIER, JsonSession, serviceOf
from gateway.service.proxies import TrustedProxies
from gateway.service.server.agentdoor import AgentArrival, AgentDoor
from gateway.service.server.attached import IAgentSession, Visitor
from gateway.service.server.turnedaway import turnedAway
from gateway.wire.agentcontrol import SUBPROTOCOL, Register, SecretCredential, SessionError
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.pipegate import MAX_RESPONSE, TOKEN_HEADER, isConnectionID

_REFUSED = "The token is wrong, or not good for this id."


class PipeGateDialect:
    """
    Takes clients.

    @param authority: of C{agents}, too.
    @param shares: whether several clients of one id share its visitors.
    @param proxies: networks.
    @ivar proxies: whose word on who a client is counts.
    @ivar held: what requests in PipeGate's own dialect hold.
    """

    def __init__(
        self,
        agents: AgentDoor,
        authority: PipeGateAuthority,
        limits: JsonLimits = JsonLimits(),  # noqa: B008 -- frozen
        *,
        shares: bool = False,
        proxies: Sequence[IPNetwork] = (),
        handshakeTimeout: float = 10.0,
    ) -> None:
        self.agents = agents
        self.authority = authority
        self.shares = shares
        self.held = Held(limits)
        self.proxies = TrustedProxies(proxies)
        self._absences: dict[str, Absence] = {}
        settings = WebSocketSettings(
            handshakeTimeout, pingInterval=agents.settings.pingInterval, maxMessage=MAX_RESPONSE
        )
        self._sockets = WebSocketServerFactory(clock=agents.clock, settings=settings)

    def takes(self, head: RequestHead) -> bool:
        """Whether a request is a client's: a visitor's WebSocket has a path below the id, or is at a client's name."""
        if not (head.wantsWebSocket and isConnectionID(head.path[1:])):
            return False
        return head.get(TOKEN_HEADER) is not None or not self._isName(head.get("host") or "")

    def _isName(self, authority: str) -> bool:
        domain = self.authority.domain
        try:
            return bool(domain) and hostOf(authority).endswith(f".{domain}")
        except ValueError:
            return False

    def isSure(self, head: RequestHead) -> bool:
        """Whether it says so itself, where others may open WebSockets at such a path."""
        return self.takes(head) and head.get(TOKEN_HEADER) is not None

    def arrive(self, visitor: Visitor, ticket: Ticket) -> IProtocol:
        """
        A connection begins with a client's request.

        @param ticket: of visitors.
        """
        return self._sockets.protocolFor(_ClientVisit(self, visitor, ticket))

    def replica(self, wanted: str = "") -> str:
        """Which of several clients of one id a new one is."""
        return (wanted or os.urandom(8).hex()) if self.shares else ""

    # -- Sessions

    def attach(self, session: JsonSession) -> Problem | None:
        """
        A client has proved who it is.

        @return: why it cannot be served.
        """
        agents = self.agents
        ghost = agents.attach(session)
        service = serviceOf(session.identifier, self.authority.domain)
        (outcome,) = agents.registry.offer(session, (service,)).values()
        if ghost is not None:
            ghost.end(SessionError.REPLACED, "A newer client with the same id has taken over.")
        self.back(session.agent)
        if isinstance(outcome, Problem):
            return outcome
        session.logAttached()
        session.logService(service.key, *agents.publicAddress(service, outcome[0]))
        return None

    def back(self, agent: str) -> None:
        """Who waits for a client need not any more."""
        if (absence := self._absences.get(agent)) is not None:
            absence.end("", "")

    def left(self, session: IAgentSession) -> None:
        """A client is gone, and has not said that it goes: its visitors wait for it a little."""
        registry, agent = self.agents.registry, session.agent
        if self.agents.draining or any(each is not session for each in registry.replicas(agent)):
            return
        if registry.placesOf(session):
            identifier = agent.removeprefix(AGENT_PREFIX)
            self._absences[agent] = Absence(
                identifier,
                self.authority.domain,
                registry,
                self.agents.clock,
                self.held.limits.grace,
                self._absenceOver,
            )

    def _absenceOver(self, absence: Absence) -> None:
        del self._absences[absence.agent]

    def tokensChanged(self) -> None:
        """
        End the sessions of clients in PipeGate's own dialect whose tokens are not good any more. The others are agents.
        """
        for session in tuple(self.agents.sessions):
            if isinstance(session, JsonSession) and not self.authority.tokens.isGood(
                session.digest, session.identifier
            ):
                session.end(SessionError.REVOKED, "The token is not good any more.")

    def stop(self) -> None:
        """Nobody waits any more."""
        for absence in tuple(self._absences.values()):
            absence.end("", "")


class _Arrival(AgentArrival):
    """A client in the agent protocol. Who it is, and what it serves, was said when the WebSocket opened."""

    def __init__(self, dialect: PipeGateDialect, identifier: str, token: str, host: str, ticket: Ticket) -> None:
        super().__init__(dialect.agents, host, "websocket", None, ticket)
        self._dialect = dialect
        self._agent = AGENT_PREFIX + identifier
        self._service = serviceOf(identifier, dialect.authority.domain)
        self._credential = SecretCredential(secret=token)

    def register(self, register: Register) -> None:
        replica = self._dialect.replica(register.replica)
        super().register(
            msgspec.structs.replace(
                register,
                agent=self._agent,
                replica=replica,
                credential=self._credential,
                services=(self._service,),
                targets=False,
            )
        )
        if self.session is not None:
            self._dialect.back(self._agent)

    def ended(self, reason: Failure) -> None:
        if self.session is not None:
            self._dialect.left(self.session)
        super().ended(reason)


@implementer(IWebSocketGate)
class _ClientVisit(ChannelStream):
    """One connection."""

    def __init__(self, dialect: PipeGateDialect, visitor: Visitor, ticket: Ticket) -> None:
        self._dialect = dialect
        self._host = visitor.host
        self._ticket = ticket

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Whoever has a token that is good for the id."""
        dialect, agents = self._dialect, self._dialect.agents
        host = self._host = dialect.proxies.client(head, self._host)
        identifier, tokens = head.path[1:], head.all(TOKEN_HEADER)
        now = agents.clock.seconds()
        if agents.bans.remaining(host, now):
            raise self._refused(403, "Too many wrong tokens came from this address: wait a while.")
        digest = dialect.authority.tokens.verify(tokens[0], identifier) if len(tokens) == 1 else None
        if digest is None:
            # Who has none guesses nothing: it may be a page in the browser of somebody who runs a client, too.
            banned = bool(tokens) and agents.bans.failed(host, now)
            raise self._refused(403, _REFUSED, banned=banned)
        agents.bans.succeeded(host)
        ticket = agents.admit(host)
        if ticket is None:
            raise self._refused(503, "No more clients are taken now.")
        self._ticket.release()  # a client is no visitor
        if SUBPROTOCOL in head.members("sec-websocket-protocol"):
            channel.subprotocol = SUBPROTOCOL
            self._protocol = _Arrival(dialect, identifier, tokens[0], host, ticket).mux
            return self
        ticket.authenticated()
        return JsonSession(dialect, identifier, digest, peer=host, replica=dialect.replica(), gone=ticket.release)

    def _refused(self, status: int, details: str, **facts: object) -> Denied:
        code = SessionError.UNAUTHORIZED if status == 403 else SessionError.SHUTTING_DOWN
        self._dialect.agents.logRefused(self._host, CARRIER, code, details, **facts)
        return Denied(Response(status, f"{details}\n".encode()))  # plain text, which clients show

    def plain(self, head: RequestHead) -> Response:
        return errorPage(426, "This is for clients, which speak WebSocket.", (("Upgrade", "websocket"),))

    def failed(self, reason: Failure) -> None:
        assert isinstance(reason.value, Exception)
        turnedAway("pipegate", self._host, reason.value)
