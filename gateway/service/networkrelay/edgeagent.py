"""
The edge agent as one service: an attachment to the relay, and targets that it leads to::

    options = EdgeAgentOptions()
    options.parseOptions(["--relay-url", "wss://relay.example.com/ws_for_edge_agents", "--secret-file", "secret.txt"])
    EdgeAgentService(reactor, options).setServiceParent(application)
"""

__all__ = ["EdgeAgentService"]

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger

from gateway.net.udp import IReactorDatagrams
from gateway.service.agent.carrier import connectionEndpoint, isLoopback
from gateway.service.agent.service import CLOSE_TIMEOUT, LOOKUP_THREADS
from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining, IReactorDraining
from gateway.service.networkrelay.edgeagentclient import EdgeAgentClient
from gateway.service.networkrelay.edgeagentjson import STREAMS
from gateway.service.networkrelay.edgeagentoptions import EdgeAgentOptions
from gateway.service.networkrelay.edgeagenttargets import EdgeTargets


class IReactor(IReactorDatagrams, IReactorDraining):
    """What the service needs of a reactor."""


class EdgeAgentService(Service):
    """One edge agent."""

    _log = Logger()

    def __init__(self, reactor: IReactor, options: EdgeAgentOptions) -> None:
        self._reactor = reactor
        self._options = options
        self._draining = Draining(reactor)
        link = options.link
        assert link.request is not None
        self.client = EdgeAgentClient(
            reactor,
            connectionEndpoint(reactor, link),
            link.request,
            options["name"],
            options.readSecret,
            EdgeTargets(reactor, options.rules),
            relay=link.to,
        )

    def privilegedStartService(self) -> None:
        # Each connection takes one, for its target.
        raiseDescriptorLimit(STREAMS + 64)

    def startService(self) -> None:
        super().startService()
        if IReactorThreads.providedBy(self._reactor):
            self._reactor.suggestThreadPoolSize(LOOKUP_THREADS)
        if self._options.link.trust is None and not isLoopback(self._options.link.host):
            self._log.warn(
                "{gateway} is not encrypted: everybody on the way can read and change all, the secret too",
                event="edge-agent.unencrypted",
                gateway=self._options.link.to,
            )
        self.client.start()

    def stopService(self) -> Deferred[None]:
        """Take no more connections, let those that there are end, then leave."""
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
            super().stopService()
        self._log.info("stopped", event="agent.stopped")
