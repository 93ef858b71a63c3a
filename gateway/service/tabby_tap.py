"""
C{twistd tabby-gateway}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

from typing import cast

from twisted.application.service import IService
from twisted.python import usage

from gateway.service.tabbyoptions import TabbyOptions as Options
from gateway.service.tabbyservice import IReactor, TabbyService


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with one line, when a file or endpoint that the options name cannot be used.
    """
    from twisted.internet import reactor

    try:
        return TabbyService(cast(IReactor, reactor), options)
    except usage.UsageError as e:  # which twistd knows only from parsing
        raise SystemExit(f"tabby-gateway: error: {e}") from None
