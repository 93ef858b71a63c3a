"""
C{twistd gotunnel-agent}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

from typing import cast

from twisted.application.service import IService

from gateway.service.agentservice import IReactor
from gateway.service.gotunnelagent import GoTunnelAgent
from gateway.service.gotunnelagentoptions import GoTunnelAgentOptions as Options


def makeService(options: Options) -> IService:
    """All that can be wrong with the options was said when they were parsed."""
    from twisted.internet import reactor

    return GoTunnelAgent(cast(IReactor, reactor), options.plan, drain=options["drain"])
