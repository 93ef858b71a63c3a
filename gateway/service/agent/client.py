"""
An agent's attachment to its gateway, which outlives every session: it is made again whenever it is lost::

    client = AgentClient(reactor, carrierEndpoint(reactor, link), introduce, visitors)
    client.offer(services)
    client.start()
    await client.drain(30.0)

After a failure there is a pause, which doubles with each one up to half a minute, slowly at first, and has chance in
it, so that agents that lost their gateway together do not all come back together. A session that has lasted makes the
pause none again.
Where trying again does not help by what the gateway says, an agent tries all the same, at its longest pause: somebody
may have mended the other end.
"""

__all__ = ["AgentClient"]

import re
from collections.abc import Callable, Mapping
from random import random

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from gateway.net.mux import MuxSettings
from gateway.net.timer import Timer
from gateway.service.agent.attachedclient import AttachedClient, Phase
from gateway.service.agent.backoff import Backoff
from gateway.service.agent.dialledsession import IClientSession, SessionEnd
from gateway.service.agent.session import ClientSession, ISessionOwner
from gateway.wire.agentcontrol import Ack, Drain, Register, Service, ServiceStatus, SessionError
from gateway.wire.window import WindowBudget

STABLE = 10.0
"""Seconds that a session has to last for the pauses to begin anew."""

UPDATE_INTERVAL = 1.0
"""Seconds between two updates, at least."""

HOPELESS = frozenset(
    {
        SessionError.INVALID_MESSAGE,
        SessionError.UNKNOWN_MESSAGE,
        SessionError.UNEXPECTED_MESSAGE,
        SessionError.UNSUPPORTED_VERSION,
        SessionError.UNAUTHORIZED,
        SessionError.TOO_MANY_SESSIONS,
        SessionError.REPLACED,
        SessionError.REVOKED,
    }
)
"""Codes after which an agent is in no hurry."""

_HINTS: Mapping[str, str] = {
    SessionError.REPLACED: (
        "Another process with the same name and replica is running: give one of them a replica of its own."
    ),
    SessionError.UNAUTHORIZED: "Look at the name and at the credential.",
}


@implementer(ISessionOwner)
class AgentClient(AttachedClient):
    """
    Keeps a session in which services are offered.

    @param introduce: makes the first message but for what is offered; raises L{ConfigurationError} when the credential
        cannot be read.
    @param visitors: makes the protocols of streams that the gateway opens.
    @param ping: seconds between pings until the gateway has said how many.
    @param drain: seconds that visitors have to end in a session that is left for another.
    @ivar statuses: what became of each service that is offered, by its key, as the gateway said last.
    """

    _log = Logger()
    hints = _HINTS

    def __init__(
        self,
        clock: IReactorTime,
        carrier: IStreamClientEndpoint,
        introduce: Callable[[], Register],
        visitors: IProtocolFactory,
        *,
        gateway: str = "the gateway",
        windows: WindowBudget | None = None,
        streams: int = 4096,
        ping: float = 15.0,
        drain: float = 30.0,
        random: Callable[[], float] = random,
    ) -> None:
        super().__init__(clock, carrier, gateway)
        self.statuses: dict[str, ServiceStatus] = {}
        self._introduce = introduce
        self._visitors = visitors
        self._windows = windows or WindowBudget()
        self._streams = streams
        self._ping = ping
        self._drain = drain
        self._backoff = Backoff(random)
        self._services: tuple[Service, ...] = ()
        self._targets = False
        self._isNew = False  # the gateway was not told of it
        self._ports: dict[tuple[str, str], int] = {}  # that the gateway chose, by the services' kinds and keys
        self._update = Timer(clock)
        self._nextUpdate = 0.0

    # -- AttachedClient

    def newSession(self) -> ClientSession:
        introduction = self._introduce()
        register = msgspec.structs.replace(introduction, services=self._wanted(), targets=self._targets)
        self._isNew = False
        settings = MuxSettings(streams=self._streams, pingInterval=self._ping)
        return ClientSession(self._clock, self, register, self._visitors, settings=settings, windows=self._windows)

    def pauseAfter(self, end: SessionEnd, lasted: float | None) -> float:
        self._sessionLasted(lasted)
        return self._backoff.longest() if end.code in HOPELESS else self._backoff.next(self._seconds())

    def _sessionLasted(self, seconds: float | None) -> None:
        if seconds is not None and seconds >= STABLE:
            self._backoff.reset()

    # -- ISessionOwner

    def gotAck(self, session: ClientSession, ack: Ack) -> None:
        if session is not self._session:
            return
        if self.phase is Phase.CONNECTING:
            self.statuses = {}
        self.attached(session, ack.session)
        before, self.statuses = self.statuses, {status.key: status for status in ack.services}
        for status in ack.services:
            if before.get(status.key) != status:
                self._gotStatus(status)
        self._say()

    def _gotStatus(self, status: ServiceStatus) -> None:
        kind = next((each.kind for each in self._services if each.key == status.key and not each.port), "")
        if status.code:
            if self._ports.pop((kind, status.key), None) is not None:
                self._isNew = True  # ask for any other
            self._log.warn(
                "{service} is not served: {details}",
                event="agent.not-serving",
                service=status.key,
                code=status.code,
                details=status.details,
            )
            return
        chosen = re.fullmatch(rf"{kind}://.*:([1-9][0-9]{{0,4}})", status.address)
        if kind in ("tcp", "udp") and chosen is not None and int(chosen[1]) < 65536:
            self._ports[kind, status.key] = int(chosen[1])
        if status.address:
            self._log.info(
                "{service} is served at {address}", event="agent.serving", service=status.key, address=status.address
            )
        if status.details:
            self._log.warn(
                "{service} lacks something: {details}",
                event="agent.serving-incomplete",
                service=status.key,
                details=status.details,
            )

    def gotDrain(self, session: IClientSession, drain: Drain) -> None:
        if session is self._session:
            self._sessionLasted(self.lasted(session))
        super().gotDrain(session, drain)

    def sessionOver(self, session: IClientSession, end: SessionEnd) -> None:
        if session is self._session:
            self.statuses = {}
        super().sessionOver(session, end)

    # -- What is offered

    def offer(self, services: tuple[Service, ...], *, targets: bool = False) -> None:
        """Serve these from now on. The gateway is told at once, or as soon as an update is due."""
        if (services, targets) == (self._services, self._targets):
            return
        self._services, self._targets, self._isNew = services, targets, True
        free = {(each.kind, each.key) for each in services if not each.port}
        self._ports = {owner: port for owner, port in self._ports.items() if owner in free}
        self._say()

    def _wanted(self) -> tuple[Service, ...]:
        """What to say: a port that the gateway chose before is asked for again."""
        taken = {(each.kind, each.port) for each in self._services}
        wanted = []
        for service in self._services:
            port = self._ports.get((service.kind, service.key), 0)
            if not service.port and port and (service.kind, port) not in taken:
                taken.add((service.kind, port))
                service = msgspec.structs.replace(service, port=port)
            wanted.append(service)
        return tuple(wanted)

    def _say(self) -> None:
        session = self._session
        if self.phase is not Phase.ATTACHED or self._update.isRunning or not self._isNew:
            return
        if not isinstance(session, ClientSession):
            return  # in the dialect that is spoken, services are not named
        wait = self._nextUpdate - self._seconds()
        if wait > 0:
            self._update.start(wait, self._say)
            return
        self._nextUpdate = self._seconds() + UPDATE_INTERVAL
        self._isNew = False
        session.update(self._wanted(), targets=self._targets)

    # -- Going elsewhere, and ending

    def move(self, carrier: IStreamClientEndpoint, introduce: Callable[[], Register], gateway: str) -> None:
        """Use another gateway, or another name, from now on. Visitors that came through the old session may finish."""
        self._carrier, self._introduce, self._gateway = carrier, introduce, gateway
        if self.phase in (Phase.IDLE, Phase.LEAVING):
            return
        self._backoff.reset()
        self._pause.stop()
        session, self._session = self._session, None
        if session is not None:
            session.drain(self._drain, "The agent goes to another gateway.")
        self._connect()

    def drain(self, seconds: float) -> Deferred[None]:
        self._update.stop()
        return super().drain(seconds)
