"""
go-tunnel's agent as one service: a configuration to origins and an attachment to the server::

    plan = readAgentPlan("config.yaml")
    GoTunnelAgent(reactor, plan, drain=10.0).setServiceParent(application)
"""

__all__ = ["GoTunnelAgent"]

import time

from twisted.logger import Logger

from gateway.net.budget import StallBudget
from gateway.net.dial import HostEndpoint
from gateway.net.tlsclient import TLSClientEndpoint
from gateway.service.agent.attachedservice import AttachedService
from gateway.service.agent.service import IReactor
from gateway.service.gotunnel.client import GoTunnelClient
from gateway.service.gotunnel.config import GoTunnelAgentPlan
from gateway.service.gotunnel.streams import GoTunnelStreams
from gateway.wire.gotunnel import Register

STREAMS = 4096
"""Visitors at once."""


class GoTunnelAgent(AttachedService):
    """
    @param drain: seconds that visitors have to end at SIGTERM.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, plan: GoTunnelAgentPlan, *, drain: float) -> None:
        self._plan = plan
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
        super().__init__(reactor, self.client, streams=STREAMS, drain=drain)

    def _introduce(self) -> Register:
        plan = self._plan
        return Register(plan.tokens.make(plan.issuer, plan.lifetime, now=time.time()), plan.routes)

    def startService(self) -> None:
        if not self._plan.trust.verify:
            self._log.warn(
                "skip_tls_verify: whoever answers for {gateway} is believed, and may read and change everything",
                event="gotunnel.unverified",
                gateway=str(self._plan.server),
            )
        super().startService()
