"""
C{twistd relay}: what the twistd plugin loads.
"""

__all__ = ["Options", "makeService"]

import sys
from typing import cast

from twisted.application.service import IService
from twisted.python import usage

from gateway.net.stdio import takeStandardStreams
from gateway.service.relay.options import RelayOptions as Options
from gateway.service.relay.service import IReactor, RelayService


def makeService(options: Options) -> IService:
    """
    @raise SystemExit: with status 2 and one line on standard error, when an endpoint that the options name cannot be
        used.
    """
    from twisted.internet import reactor

    try:
        # Before twistd begins to log.
        streams = takeStandardStreams() if options.isOnce else None
        return RelayService(cast(IReactor, reactor), options, streams)
    except usage.UsageError as e:  # which twistd knows only from parsing
        print(f"relay: error: {e}", file=sys.stderr)
    except OSError as e:
        print(f"relay: error: standard input and output cannot be used: {e.strerror}", file=sys.stderr)
    raise SystemExit(2)
