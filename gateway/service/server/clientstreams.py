"""
The streams that agents and other clients open to the gateway: where each may lead, and what becomes of it.

A client is whoever has attached, with services or without. Its streams name what agents serve, and nothing else: the
gateway dials no host of the Internet for them. Whether one may lead there is decided for each stream anew, by the rules
of the client's grant::

    streams = ClientStreams(visitors, destinations)
    door = AgentDoor(reactor, registry, authority, clientStreams=streams.factoryFor, ...)
"""

__all__ = ["ClientStreams"]

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger

from gateway.domain.addresses import normaliseHost
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.incoming import IncomingStreams, Taken
from gateway.net.relay import Half, Relay, RelaySettings
from gateway.service.draining import Vacancy
from gateway.service.server.attached import IClient, Visitor
from gateway.service.server.destinations import Destinations
from gateway.service.server.visitors import Visitors
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Preamble, StreamError, Target


class ClientStreams:
    """
    Those of all clients.

    @param visitors: whose settings and memory these streams share. How many a client may open is in its grant; the
        limits of routes are for those who come through a door.
    @ivar vacancy: tells when none is left.
    """

    _log = Logger()

    def __init__(self, visitors: Visitors, destinations: Destinations) -> None:
        self._visitors = visitors
        self._destinations = destinations
        self._going: set[int] = set()  # the identities of preambles, as two may say the same
        self.vacancy = Vacancy(self._going)

    def factoryFor(self, session: IClient) -> IProtocolFactory:
        """
        @return: makes the protocols of the streams that a session's client opens.
        """
        return IncomingStreams(
            self._visitors.clock,
            partial(self._decide, session),
            partial(self._ended, session),
            budget=self._visitors.budget,
            meter=partial(self._meter, session),
        )

    def _meter(self, session: IClient, relay: Relay) -> Callable[[Half, int], float] | None:
        clock = self._visitors.clock

        def metered(half: Half, size: int) -> float:
            rates = session.rates
            # What a client sends comes down from it, as what it sends to its visitors does.
            return 0.0 if rates is None else rates[half is relay.near].take(size, clock.seconds())

        return None if session.rates is None else metered

    def _decide(self, session: IClient, preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        """
        @raise DialFailed: the stream may not lead there.
        @raise RemoteProtocolError: it leads nowhere.
        """
        if isinstance(preamble.to, str):
            raise RemoteProtocolError(StreamError.UNKNOWN_SERVICE, "The gateway has targets alone, and no services.")
        try:
            target = Target(normaliseHost(preamble.to.host), preamble.to.port)
        except ValueError as e:
            raise DialFailed(DialFailure.NAME, str(e)) from None
        session.checkStream(*target)
        settings, isDatagram = self._visitors.settings, preamble.header.datagram
        if isDatagram:
            settings = replace(settings, idleTimeout=self._visitors.datagramIdle)
        # What a preamble tells of addresses is not believed.
        visitor = Visitor(None, None, hostname=target.host, isDatagram=isDatagram)
        endpoint = self._destinations.endpointFor(target, visitor)
        self._going.add(id(preamble))
        return endpoint or self._destinations.publicEndpoint(target.host, visitor), settings

    def _ended(self, session: IClient, taken: Taken) -> None:
        preamble, outcome = taken.preamble, taken.outcome
        isTarget = preamble is not None and not isinstance(preamble.to, str)
        facts = {
            "agent": session.agent,
            "replica": session.replica,
            "target": ":".join(map(str, preamble.to)) if preamble is not None and isTarget else "nothing",
        }
        if outcome is None or taken.problem is not None:
            self._log.info(
                "no stream of {agent} to {target}: {problem}",
                event="client.failed",
                problem=taken.problem,
                **facts,
            )
        else:
            session.moved(outcome.down, outcome.up)
            self._log.info(
                "stream of {agent} to {target} over: {cause}, {up} bytes up, {down} down, {seconds} s",
                event="client.closed",
                cause=outcome.cause,
                up=outcome.up,
                down=outcome.down,
                seconds=round(outcome.seconds, 3),
                **facts,
            )
        if preamble is not None:
            self._going.discard(id(preamble))
            self.vacancy.left()
