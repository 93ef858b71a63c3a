"""
C{twistd gateway-agent}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService

from gateway.service.agent.options import AgentOptions as Options
from gateway.service.agent.service import AgentService, IReactor
from gateway.service.configuration import ConfigurationError


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when the configuration cannot be used.
    """
    from twisted.internet import reactor

    try:
        plan = options.checkedPlan()
    except ConfigurationError as e:
        print(f"gateway-agent: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
    return AgentService(cast(IReactor, reactor), plan, options.readPlan)
