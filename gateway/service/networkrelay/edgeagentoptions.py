"""
The command line of the edge agent, which is that of http-network-relay's, and a little more::

    options = EdgeAgentOptions()
    options.parseOptions(["--relay-url", "wss://relay.example.com/ws_for_edge_agents", "--name", "box"])
    options.readSecret()                                # ConfigurationError says where there should be one
"""

__all__ = ["EdgeAgentOptions"]

import os
import socket

from twisted.python import usage

from gateway.domain.rules import Rule, parseRule
from gateway.service.networkrelay.relayclientoptions import RelayClientOptions, isText


class EdgeAgentOptions(RelayClientOptions):
    """
    What C{gateway edge-agent}, C{edge-agent} and C{twistd edge-agent} can be told.

    @ivar rules: which targets may be reached; none: all.
    """

    command = "gateway edge-agent"
    longdesc = """
    The edge agent of a network relay: it attaches to the relay, and connects people who come through that to what this
    machine can reach. Relays of http-network-relay's and of ours are told apart by themselves. SIGTERM lets
    connections end for up to --drain seconds."""
    path = "/ws_for_edge_agents"

    optParameters = [
        [
            "name",
            None,
            None,
            "The agent's name, as the relay knows it [default: HTTP_NETWORK_RELAY_NAME, or the machine's]",
        ],
        ["drain", None, "10", "Seconds that connections have to end at SIGTERM"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[Rule] = []

    def opt_allow(self, rule: str) -> None:
        """Let people reach this, and nothing that is not allowed: CIDR, address or name, with ports, e.g.
        10.0.0.0/8:22. May be repeated [default: everything]"""
        try:
            self.rules.append(parseRule("allow", rule))
        except ValueError as e:
            raise usage.UsageError(f"--allow: {e}") from None

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        self.readLink()
        self.number("drain", float, 0, 86400)
        if self["name"] is None:
            self["name"] = os.environ.get("HTTP_NETWORK_RELAY_NAME") or socket.gethostname()
        if not 0 < len(self["name"]) <= 255 or not isText(self["name"]):
            raise usage.UsageError("--name: it has 1 to 255 characters, in UTF-8")
        self.chooseLogger()
