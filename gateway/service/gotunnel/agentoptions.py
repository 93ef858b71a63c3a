"""
The command line of go-tunnel's agent::

    options = GoTunnelAgentOptions()
    options.parseOptions(["--config", "config.yaml"])
    options.readPlan()                                # ConfigurationError names the key at fault
"""

__all__ = ["GoTunnelAgentOptions"]

import os

from twisted.python import usage

from gateway.service.gotunnel.config import GoTunnelAgentPlan, readAgentPlan
from gateway.service.options import ServiceOptions


class GoTunnelAgentOptions(ServiceOptions):
    """
    What C{gateway gotunnel-agent} and C{twistd gotunnel-agent} can be told.
    """

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
        @raise usage.UsageError: in one line that names the option.
        """
        self.number("drain", float, 0)
        self.chooseLogger()

    def readPlan(self) -> GoTunnelAgentPlan:
        """
        Read the configuration.

        @raise gateway.service.configuration.ConfigurationError: in one line that names the file and the key.
        """
        # twistd may change the working directory, and the CA is read for each attempt to connect.
        return readAgentPlan(self["config"], self["ca"] and os.path.abspath(self["ca"]))
