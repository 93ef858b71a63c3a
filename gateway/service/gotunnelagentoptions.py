"""
The command line of go-tunnel's agent::

    options = GoTunnelAgentOptions()
    options.parseOptions(["--config", "config.yaml"])      # UsageError names the key at fault
    options.plan
"""

__all__ = ["GoTunnelAgentOptions"]

import os

from twisted.python import usage

from gateway.service.configuration import ConfigurationError
from gateway.service.gotunnelconfig import GoTunnelAgentPlan, readAgentPlan
from gateway.service.options import ServiceOptions


class GoTunnelAgentOptions(ServiceOptions):
    """
    What C{gateway gotunnel-agent} and C{twistd gotunnel-agent} can be told.

    @ivar plan: what the configuration comes to; there after C{parseOptions}.
    """

    plan: GoTunnelAgentPlan

    command = "gateway gotunnel-agent"
    longdesc = """
    An agent for go-tunnel's server, or ours: it registers the tunnels of its configuration, which is that of
    go-tunnel's agent, and leads visitors to their targets. SIGTERM lets visitors end for up to --drain seconds."""

    optParameters = [
        ["config", "c", "config.yaml", "The configuration"],
        [
            "ca",
            None,
            None,
            "CA certificates (PEM) that the server must have its certificate from",
        ],
        ["drain", None, "10", "Seconds that visitors have to end at SIGTERM"],
    ]

    compData = usage.Completions(optActions={name: usage.CompleteFiles() for name in ("config", "ca")})

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option, or the file and the key.
        """
        self.number("drain", float, 0)
        ca = self["ca"]
        try:
            # twistd may change the working directory, and the CA is read for each attempt to connect.
            self.plan = readAgentPlan(self["config"], ca and os.path.abspath(ca))
        except ConfigurationError as e:
            raise usage.UsageError(str(e)) from None
        self.chooseLogger()
