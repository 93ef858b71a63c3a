"""
C{twistd gotunnel-server}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService

from gateway.service.configuration import ConfigurationError
from gateway.service.gotunnel.server import GoTunnelServer
from gateway.service.gotunnel.serveroptions import GoTunnelServerOptions as Options
from gateway.service.server.service import IReactor


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when something that it is told cannot be used.
    """
    from twisted.internet import reactor

    try:
        return GoTunnelServer(cast(IReactor, reactor), options.readSettings(), options.readSettings)
    except ConfigurationError as e:
        print(f"gotunnel-server: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
