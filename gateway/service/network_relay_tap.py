"""
C{twistd network-relay}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService

from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.relayoptions import NetworkRelayOptions as Options
from gateway.service.server.service import GatewayService, IReactor


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when something that it is told cannot be used.
    """
    from twisted.internet import reactor

    try:
        return GatewayService(cast(IReactor, reactor), options.readSettings(), options.readSettings)
    except ConfigurationError as e:
        print(f"network-relay: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
