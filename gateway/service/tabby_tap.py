"""
C{twistd tabby-gateway}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

from typing import cast

from twisted.application.service import IService

from gateway.service.tabbyoptions import TabbyOptions as Options
from gateway.service.tabbyservice import IReactor, TabbyService


def makeService(options: Options) -> IService:
    """
    @raise twisted.python.usage.UsageError: when a file or endpoint that the options name cannot be used.
    """
    from twisted.internet import reactor

    return TabbyService(cast(IReactor, reactor), options)
