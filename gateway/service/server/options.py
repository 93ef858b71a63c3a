"""
The command line of the gateway, which says little: all else is in its configuration::

    options = GatewayOptions()
    options.parseOptions(["--config", "gateway.toml"])
"""

__all__ = ["GatewayOptions"]

import os

from twisted.python import usage

from gateway.service.configuration import environmentNames
from gateway.service.options import ServiceOptions
from gateway.service.server.config import GatewayConfig


class GatewayOptions(ServiceOptions):
    """
    What C{gateway serve} and C{twistd gateway} can be told.
    """

    command = "gateway serve"
    longdesc = """
    The server end of the tunnel: agents attach to it, and visitors reach through it what is behind them. Every key of
    the configuration can come from the environment as well. SIGHUP reads it again, SIGTERM stops after a while in which
    visitors may end."""

    optParameters = [
        ["config", "c", None, "The configuration, e.g. gateway.toml; without one, all comes from the environment"],
    ]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        if self["config"] is None and not any(each in os.environ for each in environmentNames(GatewayConfig).values()):
            raise usage.UsageError(
                "--config is required, unless variables have it all; gateway quick-start makes a first one"
            )
        self.chooseLogger()
