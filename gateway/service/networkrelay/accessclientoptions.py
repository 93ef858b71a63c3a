"""
The command line of the access client, which is that of http-network-relay's, and a little more::

    options = AccessClientOptions()
    options.parseOptions(["box", "127.0.0.1", "22", "tcp", "--relay-url", "wss://relay.example.com/ws_for_access_clients"])
    options.run()                                       # the exit status
"""

__all__ = ["AccessClientOptions"]

from twisted.python import usage

from gateway.domain.addresses import parseAddress, parsePort
from gateway.domain.targets import Target, parseTarget
from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.accessclientendpoint import AccessTarget
from gateway.service.networkrelay.relayclientoptions import RelayClientOptions, isText


class AccessClientOptions(RelayClientOptions):
    """
    What C{access-client} and C{gateway access-client} can be told.

    @ivar target: where to.
    @ivar listen: on which address of this machine; C{None}: standard input and output are the connection.
    """

    command = "gateway access-client"
    synopsis = "AGENT HOST PORT tcp|udp [options]"
    longdesc = """
    Connects standard input and output to what an edge agent can reach, through a network relay: AGENT is the agent's
    name, HOST and PORT what it is to connect to. It is made to be ssh's ProxyCommand: gateway ssh-config prints one.
    With udp each datagram is its length in two bytes, the higher one first, and its payload, both ways. Nothing else is
    ever written to standard output, but with --listen, where the log is; what went wrong is one line on standard error,
    and exit status 1."""
    path = "/ws_for_access_clients"
    target: AccessTarget
    listen: Target | None = None

    optParameters = [
        ["listen", None, None, "Take connections, or datagrams, at this address instead, e.g. 127.0.0.1:5353"],
    ]

    def parseArgs(self, *words: str) -> None:
        """
        @raise usage.UsageError: they name no target.
        """
        if len(words) != 4:
            raise usage.UsageError("write AGENT HOST PORT tcp, e.g. box 127.0.0.1 22 tcp")
        agent, host, port, protocol = words
        if protocol not in ("tcp", "udp"):
            raise usage.UsageError(f"the protocol is tcp or udp, not {protocol!a:.20}")
        if not isText(agent):
            raise usage.UsageError("the name of the agent is not UTF-8")
        try:
            self.target = AccessTarget(agent, host, parsePort(port), protocol)  # type: ignore[arg-type]  # one of the two
        except ValueError as e:
            raise usage.UsageError(str(e)) from None

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        self.readLink()
        if self["listen"] is not None:
            try:
                self.listen = parseTarget(f"127.0.0.1:{self['listen']}" if self["listen"].isdigit() else self["listen"])
            except ValueError as e:
                raise usage.UsageError(f"--listen: {e}") from None
            if parseAddress(self.listen.host) is None:
                raise usage.UsageError("--listen: write an address of this machine and a port, e.g. 127.0.0.1:5353")
        self.chooseLogger()

    def run(self) -> int:
        """
        @return: the exit status, when all is over.
        @raise usage.UsageError: there is no secret.
        """
        try:
            self.readSecret()
        except ConfigurationError as e:
            raise usage.UsageError(str(e)) from None
        from gateway.service.networkrelay.accessclient import runAccessClient

        return runAccessClient(self)
