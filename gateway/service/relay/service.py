"""
The generic relay as one service: for each connection to one endpoint, a connection to another, and a relay between::

    options = RelayOptions()
    options.parseOptions(["--listen", "tcp:8000", "--to", "wss://gw.example/ssh"])
    RelayService(reactor, options).setServiceParent(application)
"""

__all__ = ["RelayService"]

from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorCore, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python import usage

from gateway.net.budget import StallBudget
from gateway.net.muxendpoints import MuxClientEndpoint
from gateway.net.relay import Cause, Outcome, RelaySettings
from gateway.net.stdio import IReactorStdio, StandardIOEndpoint, Streams
from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining, IReactorDraining
from gateway.service.endpoints import clientEndpoint, shown
from gateway.service.listening import ListenerService, describedEndpoint
from gateway.service.relay.door import SHUTDOWN, RelayDoor
from gateway.service.relay.options import RelayOptions, isStandardIO

CLOSE_TIMEOUT = 5.0
"""Seconds for peers to take what was written to them, when all is over."""

_ENDED = (Cause.NEAR_CLOSED, Cause.FAR_CLOSED)

_CUT_SHORT = {
    Cause.NEAR_RESET: "the near side broke off",
    Cause.FAR_RESET: "the far side broke off",
    Cause.IDLE: "nothing was sent for too long",
    Cause.MEMORY: "too much waited for a side that does not read",
    SHUTDOWN: "it was stopped",
}
"""What the other causes are to a person."""


class IReactor(IReactorCore, IReactorDraining, IReactorStdio):
    """What the service needs of a reactor, besides what the endpoints of the command line need."""


class RelayService(MultiService):
    """
    Listeners, and a door behind all of them.

    @param streams: what C{stdio:} stands for; C{None}: the process's own.
    @raise usage.UsageError: when an endpoint cannot be used; it names the option.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, options: RelayOptions, streams: Streams | None = None) -> None:
        super().__init__()
        self._reactor = reactor
        self._options = options
        self._streams = streams
        self._draining = Draining(reactor)
        self._isStopping = False
        self._to = self._clientEndpoint(options["to"])
        self._toName = shown(options["to"])
        self.door = RelayDoor(
            reactor,
            self._to,
            self._toName,
            settings=RelaySettings(dialTimeout=options["dial-timeout"], idleTimeout=options["idle-timeout"] or None),
            budget=StallBudget(options["memory"] * 1024 * 1024),
            maxConnections=1 if options.isOnce else options["max-connections"],
            ended=self._endedOnce if options.isOnce else None,
        )
        self._listeners = [
            ListenerService(self._serverEndpoint(description), self.door, "relay", description)
            for description in options.listen
        ]
        for listener in self._listeners:
            listener.setServiceParent(self)

    def _clientEndpoint(self, description: str) -> IStreamClientEndpoint:
        if isStandardIO(description):
            return StandardIOEndpoint(self._reactor, self._streams)
        try:
            return clientEndpoint(self._reactor, description)
        except ValueError as e:
            raise usage.UsageError(f"--to: {e}") from None

    def _serverEndpoint(self, description: str) -> IStreamServerEndpoint:
        if isStandardIO(description):
            return StandardIOEndpoint(self._reactor, self._streams)
        try:
            return describedEndpoint(self._reactor, description)
        except ValueError as e:
            raise usage.UsageError(f"--listen: {e}") from None

    # -- Life

    def privilegedStartService(self) -> None:
        # A visitor and the far side each take one; the rest is for listeners, sessions and log files.
        raiseDescriptorLimit(2 * self._options["max-connections"] + 64)
        super().privilegedStartService()

    def startService(self) -> None:
        super().startService()
        self._log.info("relaying to {to}", event="relay.started", to=self._toName)

    def _endedOnce(self, outcome: Outcome, problem: str) -> None:
        """The one connection of standard input and output is over, and so is the process."""
        # Whoever read our output and has left, as ssh does when it is done, knows that.
        left = Cause.NEAR_RESET if any(map(isStandardIO, self._options.listen)) else Cause.FAR_RESET
        if outcome.cause not in _ENDED:
            self._options.exitStatus = 1
        if outcome.cause not in (*_ENDED, left) or problem:
            self._log.error(
                "the relay to {to} failed: {problem}",
                event="relay.failed",
                to=self._toName,
                problem=problem or _CUT_SHORT[outcome.cause],
            )
        if not self._isStopping:
            self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let relays end, then stop the rest."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._isStopping = True
        drain = 0 if self._options.isOnce else self._options["drain"]
        with self._draining.hurriedBySignals():
            stopped: list[Deferred[Any]] = [listener.stopListening() for listener in self._listeners]
            self._log.info(
                "stopping: {count} relays have {seconds} s",
                event="relay.stopping",
                count=len(self.door.sessions),
                seconds=drain,
            )
            await self._draining.wait(drain, self.door.vacancy.awaited())
            self.door.end()
            await self._draining.wait(CLOSE_TIMEOUT, self.door.vacancy.awaited())
            self.door.abort()
            # What the last streams sent may still be on its way.
            if isinstance(self._to, MuxClientEndpoint):
                stopped.append(self._to.close())
            await self._draining.wait(CLOSE_TIMEOUT, gatherResults(stopped, consumeErrors=True))
            await super().stopService()
        self._log.info("stopped", event="relay.stopped")
