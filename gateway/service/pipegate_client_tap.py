"""
C{twistd pipegate-client}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

from typing import cast

from twisted.application.service import IService

from gateway.service.pipegate.clientoptions import PipeGateClientOptions as Options
from gateway.service.pipegate.clientservice import IReactor, PipeGateClientService


def makeService(options: Options) -> IService:
    """
    What was wrong with the options was told when they were read.
    """
    from twisted.internet import reactor

    return PipeGateClientService(cast(IReactor, reactor), options)
