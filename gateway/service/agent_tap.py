"""
C{twistd gateway-agent}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

from typing import cast

from twisted.application.service import IService

from gateway.service.agentoptions import AgentOptions as Options
from gateway.service.agentservice import AgentService, IReactor


def makeService(options: Options) -> IService:
    """All that can be wrong with the options was said when they were parsed."""
    from twisted.internet import reactor

    return AgentService(cast(IReactor, reactor), options.plan, options.readPlan)
