"""
C{twistd gateway}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import os
import sys
from functools import partial
from typing import cast

from twisted.application.service import IService

from gateway.service.configuration import ConfigurationError, namingFile
from gateway.service.server.options import GatewayOptions as Options
from gateway.service.server.service import GatewayService, IReactor
from gateway.service.server.settings import readGatewaySettings


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when the configuration cannot be used.
    """
    from twisted.internet import reactor

    # twistd may change the working directory, and a reload reads the file again.
    path = options["config"] and os.path.abspath(options["config"])
    read = partial(readGatewaySettings, path, os.environ)
    try:
        settings = read()
        with namingFile(path):
            return GatewayService(cast(IReactor, reactor), settings, read)
    except ConfigurationError as e:
        print(f"gateway: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
