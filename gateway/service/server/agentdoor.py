"""
Where agents arrive: a carrier comes, a session is set up on it, and the first stream says who it is.

What the carrier is (TLS, a WebSocket, a plain connection on this machine) is the listener's business. It asks for a
protocol and puts that on the connection::

    door = AgentDoor(reactor, registry, authority, settings=AgentDoorSettings(), ...)
    protocol = door.arrive("192.0.2.7", "tls", certificate=None)     # None: too many, drop the connection
"""

__all__ = ["AgentDoor", "AgentDoorSettings", "Unwelcome"]

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.logger import Logger

from gateway.domain.agents import AgentAuthority, AgentIdentity, Rejection
from gateway.domain.limits import Admission, Bans, Ticket
from gateway.domain.registry import Registry
from gateway.domain.routes import Place
from gateway.net.mux import MuxSettings
from gateway.net.muxdeadlines import monotonic
from gateway.service.draining import Vacancy
from gateway.service.logs import RefusalLog
from gateway.service.server.agentsession import AgentSession
from gateway.service.server.attached import IAgentSession
from gateway.service.server.carrierarrival import CarrierArrival
from gateway.service.server.identifiedsession import IdentifiedSession
from gateway.wire.agentcontrol import (
    ControlReader,
    Credential,
    Message,
    Refused,
    Register,
    Service,
    SessionError,
    encode,
)
from gateway.wire.window import WindowBudget


@dataclass(frozen=True, slots=True)
class AgentDoorSettings:
    """
    What the door is told.

    @ivar registerTimeout: seconds from the carrier's first moment to a good C{register}.
    @ivar pingInterval: seconds between pings; an agent from which nothing came in the interval after one is gone, so a
        dead one is found within two.
    @ivar mux: limits of each session.
    @ivar publicHost: the name under which visitors reach this gateway; empty: not known.
    @ivar tlsPort: on which they reach names, for the addresses that agents are told; 0: there is none.
    @ivar httpPort: the same without TLS.
    """

    registerTimeout: float = 10.0
    pingInterval: float = 15.0
    mux: MuxSettings = field(default_factory=lambda: MuxSettings(pingInterval=15.0))
    publicHost: str = ""
    tlsPort: int = 443
    httpPort: int = 80


class Unwelcome(Exception):
    """
    An agent is not taken.

    @ivar code: a L{SessionError}.
    @ivar details: a sentence for whoever runs it.
    @ivar facts: for the log alone.
    """

    def __init__(self, code: str, details: str, **facts: object) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.facts = facts


class AgentDoor:
    """
    Takes agents, and keeps them all.

    @param clientStreams: makes the protocol of a stream that an agent opens beside its control stream.
    @ivar isCertified: whether TLS for a name can end here; as a wildcard, of each name that it is for.
    @ivar sessions: those of agents that have registered, whatever the dialect.
    @ivar seconds: the time of pings: what C{lastPong} of a session is measured in.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        authority: AgentAuthority,
        *,
        settings: AgentDoorSettings,
        admission: Admission,
        bans: Bans,
        windows: WindowBudget,
        clientStreams: Callable[[AgentSession], IProtocolFactory] | None = None,
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.seconds = monotonic(clock)
        self.registry = registry
        self.authority = authority
        self.settings = settings
        self.bans = bans
        self.windows = windows
        self.clientStreams = clientStreams
        self.wallClock = wallClock
        self.isCertified: Callable[[str], bool] = lambda name: True
        self.sessions: set[IAgentSession] = set()
        self.draining = False
        self._admission = admission
        self._refusals = RefusalLog(clock)
        self._vacancy = Vacancy(self.sessions)

    def arrive(
        self, host: str, carrier: str, *, certificate: str | None = None, ticket: Ticket | None = None
    ) -> IProtocol | None:
        """
        A carrier has come from an address.

        @param certificate: the fingerprint of the client certificate that it proved.
        @param ticket: of L{admit}, if it was asked already.
        @return: the protocol to put on it; C{None} to drop it.
        """
        ticket = ticket or self.admit(host)
        return None if ticket is None else AgentArrival(self, host, carrier, certificate, ticket).mux

    def admit(self, host: str) -> Ticket | None:
        """Count a carrier from an address, if there is room for it."""
        if self.draining:
            return None
        answer = self._admission.admit(host, self.clock.seconds())
        if isinstance(answer, Ticket):
            return answer
        self._refusals.refused(answer.value, host)
        return None

    def publicAddress(self, service: Service, place: Place) -> tuple[str, str]:
        """
        Where visitors reach a service.

        @return: a URL, empty if they do not; and a sentence about what is missing, empty if nothing is.
        """
        host = self.settings.publicHost or "*"
        if place.isPort:
            return f"{place.kind}://{host}:{place.name}", ""
        name, path = (host, place.name) if place.kind == "prefix" else (str(place.name), "")
        scheme, number, usual, missing = "https", self.settings.tlsPort, 443, ""
        if service.kind == "tls" and service.tls == "terminate":
            scheme = "tls"
        endsHere = service.kind == "http" or scheme == "tls"
        if number and endsHere and name != "*" and not self.isCertified(name):
            number, missing = 0, f"The gateway has no certificate for {name}."
        if not number and service.kind == "http":
            scheme, number, usual = "http", self.settings.httpPort, 80
        if not number:
            return "", missing or "The gateway has no port that leads there."
        return f"{scheme}://{name}{'' if number == usual else f':{number}'}{path}", missing

    def identify(
        self, host: str, name: str, replica: str, credential: Credential | None, certificate: str | None = None
    ) -> AgentIdentity:
        """
        An agent says who it is.

        @param host: its address.
        @param certificate: the fingerprint of the client certificate that its carrier proved.
        @raise Unwelcome: there can be no session.
        """
        if self.draining:
            raise Unwelcome(SessionError.SHUTTING_DOWN, "The gateway is shutting down.")
        now = self.clock.seconds()
        if self.bans.remaining(host, now):
            details = "Too many wrong credentials came from this address: wait a while."
            raise Unwelcome(SessionError.UNAUTHORIZED, details)
        who = self.authority.authenticate(name, credential, certificate, self.wallClock())
        if isinstance(who, Rejection):
            banned = self.bans.failed(host, now)
            raise Unwelcome(SessionError.UNAUTHORIZED, who.details, problem=who.problem, banned=banned)
        others = [each for each in self.registry.replicas(who.name) if each.replica != replica]
        if who.grant.sessions is not None and len(others) >= who.grant.sessions:
            details = f"The agent {who.name} has {who.grant.sessions} sessions already."
            raise Unwelcome(SessionError.TOO_MANY_SESSIONS, details)
        self.bans.succeeded(host)
        return who

    def logRefused(self, peer: str, carrier: str, code: str, details: str, **facts: object) -> None:
        """
        Say that somebody is not taken, in whatever dialect.

        @param peer: its address.
        @param details: what it is told.
        @param facts: for the log alone.
        """
        self._log.info(
            "no agent attached: {details}, from {peer}",
            event="agent.refused",
            code=str(code),
            details=details,
            peer=peer,
            carrier=carrier,
            **facts,
        )

    def attach(self, session: IAgentSession) -> IAgentSession | None:
        """
        A session has proved whose it is.

        @return: the one of the same replica that it takes over from: end it when the agent was told what it has, as
            visitors who were about to be served there come here then.
        """
        self.sessions.add(session)
        return cast(IAgentSession | None, self.registry.attach(session))

    def sessionOver(self, session: IAgentSession) -> None:
        """A session is gone: its names and ports are free."""
        self.registry.detach(session)
        self.sessions.discard(session)
        self._vacancy.left()

    def authorityChanged(self) -> None:
        """End the sessions of agents that are not known any more, and hold the others to what they may have now."""
        now = self.wallClock()
        for session in tuple(self.sessions):
            if isinstance(session, IdentifiedSession):
                current = self.authority.renewed(session.identity, now)
                if current is None:
                    session.end(SessionError.REVOKED, "The agent's credential is not good any more.")
                elif current != session.identity:
                    session.renew(current)

    def drain(self, seconds: float) -> None:
        """Take no more agents, and tell those that are here that the gateway stops in so many seconds."""
        self.draining = True
        for session in tuple(self.sessions):
            session.drain(seconds, "The gateway is shutting down.")

    async def close(self) -> None:
        """End all sessions. Those whose agents do not take it are cut off after the session's C{goodbyeTimeout}."""
        self.draining = True
        for session in tuple(self.sessions):
            session.end(SessionError.SHUTTING_DOWN, "The gateway is shutting down.")
        await self._vacancy.awaited()
        self._refusals.stop()


class AgentArrival(CarrierArrival[Message, AgentSession]):
    """
    A carrier in the agent protocol.

    @param certificate: the fingerprint of the client certificate that it proved.
    """

    def __init__(self, door: AgentDoor, host: str, carrier: str, certificate: str | None, ticket: Ticket) -> None:
        super().__init__(door, host, carrier, ticket, ControlReader(client=False).receive, encode)
        self._certificate = certificate
        self._clients: IProtocolFactory | None = None

    def streamProtocol(self, address: IAddress | None) -> IProtocol | None:
        if self.session is None:
            return None
        if self._clients is None and self.door.clientStreams is not None:
            self._clients = self.door.clientStreams(self.session)
        return None if self._clients is None else self._clients.buildProtocol(address)  # type: ignore[arg-type]

    def refusal(self, code: str, details: str) -> Refused:
        return Refused(code=code, details=details)

    def gotMessage(self, message: Message) -> None:
        """The first message registers, the rest is the session's."""
        if self.session is not None:
            self.session.gotMessage(message)
        else:
            assert isinstance(message, Register), message  # ControlReader lets nothing else through
            self.register(message)

    def register(self, register: Register) -> None:
        """The agent says who it is, and what it serves."""
        door = self.door
        try:
            who = door.identify(self._host, register.agent, register.replica, register.credential, self._certificate)
        except Unwelcome as e:
            self.refuse(e.code, e.details, **e.facts)
            return
        self._ticket.authenticated()
        session = AgentSession(door, self.mux, self.send, register, who, peer=self._host, carrier=self._carrier)
        self.attached(session)
        session.logAttached()
        ghost = door.attach(session)
        session.offer(register.services, register.request)
        self.mux.flush()  # no stream may come before the answer
        if ghost is not None:
            ghost.end(SessionError.REPLACED, "A newer session of the same agent has taken over.")
