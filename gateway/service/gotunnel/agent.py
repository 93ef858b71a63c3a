"""
go-tunnel's agent as one service: a configuration to origins and an attachment to the server::

    plan = readAgentPlan("config.yaml")
    GoTunnelAgent(reactor, plan, drain=10.0).setServiceParent(application)
"""

__all__ = ["GoTunnelAgent"]

import time

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger

from gateway.net.budget import StallBudget
from gateway.net.dial import HostEndpoint
from gateway.net.tlsclient import TLSClientEndpoint
from gateway.service.agent.service import CLOSE_TIMEOUT, LOOKUP_THREADS, IReactor
from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining
from gateway.service.gotunnel.client import GoTunnelClient
from gateway.service.gotunnel.config import GoTunnelAgentPlan
from gateway.service.gotunnel.streams import GoTunnelStreams
from gateway.wire.gotunnel import Register

STREAMS = 4096
"""Visitors at once."""


class GoTunnelAgent(Service):
    """
    @param drain: seconds that visitors have to end at SIGTERM.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, plan: GoTunnelAgentPlan, *, drain: float) -> None:
        self._reactor = reactor
        self._plan = plan
        self._drain = drain
        self._draining = Draining(reactor)
        self.client = GoTunnelClient(
            reactor,
            TLSClientEndpoint(
                reactor, HostEndpoint(reactor, plan.server.host, plan.server.port), plan.serverName, plan.trust
            ),
            self._introduce,
            GoTunnelStreams(reactor, plan.origins, budget=StallBudget()),
            server=str(plan.server),
            streams=STREAMS,
        )

    def _introduce(self) -> Register:
        plan = self._plan
        return Register(plan.tokens.make(plan.issuer, plan.lifetime, now=time.time()), plan.routes)

    def privilegedStartService(self) -> None:
        # Each visit takes one, for its origin.
        raiseDescriptorLimit(STREAMS + 64)

    def startService(self) -> None:
        super().startService()
        if IReactorThreads.providedBy(self._reactor):
            self._reactor.suggestThreadPoolSize(LOOKUP_THREADS)
        if not self._plan.trust.verify:
            self._log.warn(
                "skip_tls_verify: whoever answers for {gateway} is believed, and may read and change everything",
                event="gotunnel.unverified",
                gateway=str(self._plan.server),
            )
        self.client.start()

    def stopService(self) -> Deferred[None]:
        """Take no more visitors, let those that there are finish, then leave."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        with self._draining.hurriedBySignals():
            self._log.info(
                "stopping: {count} visits have {seconds:g} seconds",
                event="agent.stopping",
                count=self.client.streams,
                seconds=self._drain,
            )
            over = self.client.drain(self._drain)
            await self._draining.wait(self._drain, over)
            self.client.close()
            await self._draining.wait(CLOSE_TIMEOUT, over)
            super().stopService()
        self._log.info("stopped", event="agent.stopped")
