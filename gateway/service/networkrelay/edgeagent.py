"""
The edge agent as one service: an attachment to the relay, and targets that it leads to::

    options = EdgeAgentOptions()
    options.parseOptions(["--relay-url", "wss://relay.example.com/ws_for_edge_agents", "--secret-file", "secret.txt"])
    EdgeAgentService(reactor, options).setServiceParent(application)
"""

__all__ = ["EdgeAgentService"]

from twisted.logger import Logger

from gateway.net.udp import IReactorDatagrams
from gateway.service.agent.attachedservice import AttachedService
from gateway.service.agent.carrier import connectionEndpoint, isLoopback
from gateway.service.draining import IReactorDraining
from gateway.service.networkrelay.edgeagentclient import EdgeAgentClient
from gateway.service.networkrelay.edgeagentjson import STREAMS
from gateway.service.networkrelay.edgeagentoptions import EdgeAgentOptions
from gateway.service.networkrelay.edgeagenttargets import EdgeTargets


class IReactor(IReactorDatagrams, IReactorDraining):
    """What the service needs of a reactor."""


class EdgeAgentService(AttachedService):
    """One edge agent."""

    _log = Logger()

    def __init__(self, reactor: IReactor, options: EdgeAgentOptions) -> None:
        self._link = link = options.link
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
        super().__init__(reactor, self.client, streams=STREAMS, drain=options["drain"])

    def startService(self) -> None:
        if self._link.trust is None and not isLoopback(self._link.host):
            self._log.warn(
                "{gateway} is not encrypted: everybody on the way can read and change all, the secret too",
                event="edge-agent.unencrypted",
                gateway=self._link.to,
            )
        super().startService()
