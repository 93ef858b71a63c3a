"""
A process whose work is to keep one attachment, as a service: an agent of an older dialect's, or another client that
visitors come through::

    class EdgeAgentService(AttachedService):
        def __init__(self, reactor, options):
            self.client = EdgeAgentClient(...)
            super().__init__(reactor, self.client, streams=256, drain=options["drain"])

At SIGTERM it takes no more visitors, lets those that there are finish, and then leaves.
"""

__all__ = ["CLOSE_TIMEOUT", "LOOKUP_THREADS", "AttachedService", "IAttachedClient"]

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining, IReactorDraining

CLOSE_TIMEOUT = 5.0
"""Seconds for the gateway to take what was written to it, when all is over."""

LOOKUP_THREADS = 16
"""Origins' names that can be looked up at once."""


class IAttachedClient(Interface):
    """Keeps an attachment, and makes it again whenever it is lost."""

    streams = Attribute("How many visitors there are.")

    def start() -> None:
        """Attach, and stay attached."""

    def drain(seconds: float) -> Deferred[None]:
        """
        Take no more visitors, let those that there are end, and leave.

        @return: fires when nothing is left.
        """

    def close() -> None:
        """After L{drain}: there is no more time."""


class AttachedService(Service):
    """
    @param streams: visitors at once.
    @param drain: seconds that they have to end at SIGTERM.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorDraining, client: IAttachedClient, *, streams: int, drain: float) -> None:
        self._reactor = reactor
        self._client = client
        self._streams = streams
        self._drain = drain
        self._draining = Draining(reactor)

    def privilegedStartService(self) -> None:
        # Each visitor takes one, for its origin; the rest is for the carrier, log files and name lookups.
        raiseDescriptorLimit(self._streams + 64)

    def startService(self) -> None:
        super().startService()
        if IReactorThreads.providedBy(self._reactor):
            self._reactor.suggestThreadPoolSize(LOOKUP_THREADS)
        self._client.start()

    def stopService(self) -> Deferred[None]:
        """Take no more visitors, let those that there are finish, then leave."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        with self._draining.hurriedBySignals():
            self._log.info(
                "stopping: {count} visits have {seconds:g} seconds",
                event="agent.stopping",
                count=self._client.streams,
                seconds=self._drain,
            )
            over = self._client.drain(self._drain)
            await self._draining.wait(self._drain, over)
            self._client.close()
            await self._draining.wait(CLOSE_TIMEOUT, over)
            super().stopService()
        self._log.info("stopped", event="agent.stopped")
