"""
C{twistd edge-agent}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService

from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.edgeagent import EdgeAgentService, IReactor
from gateway.service.networkrelay.edgeagentoptions import EdgeAgentOptions as Options


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when there is no secret.
    """
    from twisted.internet import reactor

    try:
        options.readSecret()
    except ConfigurationError as e:
        print(f"edge-agent: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
    return EdgeAgentService(cast(IReactor, reactor), options)
