"""
C{twistd gotunnel-agent}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService

from gateway.service.agent.service import IReactor
from gateway.service.configuration import ConfigurationError
from gateway.service.gotunnel.agent import GoTunnelAgent
from gateway.service.gotunnel.agentoptions import GoTunnelAgentOptions as Options


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when the configuration cannot be used.
    """
    from twisted.internet import reactor

    try:
        return GoTunnelAgent(cast(IReactor, reactor), options.readPlan(), drain=options["drain"])
    except ConfigurationError as e:
        print(f"gotunnel-agent: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
