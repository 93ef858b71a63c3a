"""
PipeGate's client as one service: an application, a server, and what is between them::

    options = PipeGateClientOptions()
    options.parseOptions(["--local-url", "http://localhost:5001", "--server-url", "wss://fooserver.com/node"])
    PipeGateClientService(reactor, options).setServiceParent(application)
"""

__all__ = ["PipeGateClientService"]

from dataclasses import replace

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads, IStreamClientEndpoint
from twisted.logger import Logger

from gateway.net.budget import StallBudget
from gateway.net.dial import IReactorDial
from gateway.net.incoming import IncomingStreams, Taken
from gateway.net.relay import RelaySettings
from gateway.service.agent.carrier import connectionEndpoint, isLoopback
from gateway.service.agent.service import CLOSE_TIMEOUT, LOOKUP_THREADS
from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining, IReactorDraining
from gateway.service.pipegate.client import PipeGateClient
from gateway.service.pipegate.clientoptions import PipeGateClientOptions
from gateway.service.pipegate.jsonclient import LocalRequests
from gateway.service.pipegate.local import localEndpoint
from gateway.wire.preamble import Preamble
from gateway.wire.proxyheader import Address, Tlv

STREAMS = 4096
"""Visitors at once."""


class IReactor(IReactorDial, IReactorDraining):
    """What the service needs of a reactor."""


class PipeGateClientService(Service):
    """One client."""

    _log = Logger()

    def __init__(self, reactor: IReactor, options: PipeGateClientOptions) -> None:
        self._reactor = reactor
        self._options = options
        self._draining = Draining(reactor)
        self._endpoint = localEndpoint(reactor, options.local, options.localTrust)
        self._requests = LocalRequests(reactor, options.local, self._endpoint)
        self._visitors = IncomingStreams(reactor, self._decide, self._visitEnded, budget=StallBudget())
        self.client = PipeGateClient(
            reactor,
            connectionEndpoint(reactor, options.link),
            options.request,
            self._requests,
            self._visitors,
            server=options.link.to,
        )

    def _decide(self, preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        return self._endpoint, _SETTINGS

    def _visitEnded(self, taken: Taken) -> None:
        preamble = taken.preamble
        if taken.problem is None or preamble is None:
            return
        source = preamble.header.source
        self._log.info(
            "{visitor} could not reach {to}: {problem}",
            event="agent.visit-failed",
            to=str(self._options.local),
            visitor=str(source.host) if isinstance(source, Address) else "?",
            visit=(preamble.header.get(Tlv.UNIQUE_ID) or b"").decode("latin-1"),
            problem=taken.problem,
        )

    def privilegedStartService(self) -> None:
        # Each visitor takes one, for the application.
        raiseDescriptorLimit(STREAMS + 64)

    def startService(self) -> None:
        super().startService()
        if IReactorThreads.providedBy(self._reactor):
            self._reactor.suggestThreadPoolSize(LOOKUP_THREADS)
        link = self._options.link
        if link.trust is None and not isLoopback(link.host):
            self._log.warn(
                "{gateway} is not encrypted: everybody on the way can read and change all, the token too",
                event="pipegate.unencrypted",
                gateway=link.to,
            )
        if self._options.local.path:
            self._log.warn(
                "{local} has a path, so only PipeGate's own dialect is spoken: text, and one message for each body",
                event="pipegate.json-alone",
                local=str(self._options.local),
            )
        self.client.start()

    def stopService(self) -> Deferred[None]:
        """Take no more visitors, let those that there are finish, then leave."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        seconds = self._options["drain"]
        with self._draining.hurriedBySignals():
            self._log.info(
                "stopping: {count} visits have {seconds:g} seconds",
                event="agent.stopping",
                count=self.client.streams,
                seconds=seconds,
            )
            over = self.client.drain(seconds)
            await self._draining.wait(seconds, over)
            self.client.close()
            await self._draining.wait(CLOSE_TIMEOUT, over)
            self._requests.pool.close()
            self._requests.sweep.stop()
            super().stopService()
        self._log.info("stopped", event="agent.stopped")


_SETTINGS = replace(RelaySettings(), dialTimeout=10.0)
