"""
C{twistd pipegate-server}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService

from gateway.service.configuration import ConfigurationError
from gateway.service.pipegate.server import PipeGateServer
from gateway.service.pipegate.serveroptions import PipeGateServerOptions as Options
from gateway.service.server.service import IReactor


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when something that it is told cannot be used.
    """
    from twisted.internet import reactor

    try:
        return PipeGateServer(cast(IReactor, reactor), options.readSettings(), options.readSettings)
    except ConfigurationError as e:
        print(f"pipegate-server: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
