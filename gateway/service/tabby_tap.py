"""
C{twistd tabby-gateway}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService
from twisted.python import usage

from gateway.service.tabby.options import TabbyOptions as Options
from gateway.service.tabby.service import IReactor, TabbyService


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when a file or endpoint that the options name
        cannot be used.
    """
    from twisted.internet import reactor

    try:
        return TabbyService(cast(IReactor, reactor), options)
    except usage.UsageError as e:  # which twistd knows only from parsing
        print(f"tabby-gateway: error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
