"""
The command line of a network relay, that of http-network-relay's::

    options = NetworkRelayOptions()
    options.parseOptions(["--port", "8000"])
    options.readSettings()                            # ConfigurationError names the option at fault
"""

__all__ = ["NetworkRelayOptions"]

import os
from dataclasses import replace

from twisted.python import usage

from gateway.domain.addresses import joinPort, parseAddress
from gateway.service.configuration import asVariable
from gateway.service.options import ServiceOptions
from gateway.service.server.settings import GatewaySettings, readGatewaySettings

_VARIABLES = {
    "host": "HTTP_NETWORK_RELAY_SERVER_HOST",
    "port": "HTTP_NETWORK_RELAY_SERVER_PORT",
    "credentials-file": "HTTP_NETWORK_RELAY_CREDENTIALS_FILE",
}


class NetworkRelayOptions(ServiceOptions):
    """
    What C{network-relay}, C{gateway network-relay} and C{twistd network-relay} can be told.
    """

    command = "gateway network-relay"
    longdesc = """
    A relay for the edge agents and access clients of http-network-relay and for our own, which are faster. It takes the
    options and variables of http-network-relay's. The credentials file is read again when it changes. Variables such as
    GATEWAY_LIMITS_CONNECT_TIMEOUT, of gateway.toml, count too. SIGTERM stops after a while in which connections may
    end."""

    optParameters = [
        ["host", None, "127.0.0.1", "Address to listen on; HTTP_NETWORK_RELAY_SERVER_HOST says it, too"],
        ["port", None, "8000", "Port to listen on; HTTP_NETWORK_RELAY_SERVER_PORT says it, too"],
        ["credentials-file", None, "credentials.json", "Who may come; HTTP_NETWORK_RELAY_CREDENTIALS_FILE says it too"],
    ]  # fmt: skip

    compData = usage.Completions(optActions={"credentials-file": usage.CompleteFiles("*.json")})

    def __init__(self) -> None:
        super().__init__()
        for option, variable in _VARIABLES.items():
            if os.environ.get(variable):
                self[option] = os.environ[variable]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        self.number("port", int, 0, 65535)
        # twistd may change the working directory, and the file is read again.
        self["credentials-file"] = os.path.abspath(self["credentials-file"])
        self.chooseLogger()

    def readSettings(self) -> GatewaySettings:
        """
        @raise gateway.service.configuration.ConfigurationError: in one line that names what is wrong.
        """
        host, port = self["host"], self["port"]
        address = parseAddress(host)
        isPlain = address is not None or host == "localhost"
        place = joinPort(host, port) if isPlain else f"tcp:{port}:interface={host}"
        keys = {
            "GATEWAY_NETWORKRELAY_LISTEN": asVariable([place]),
            "GATEWAY_NETWORKRELAY_CREDENTIALS_FILE": self["credentials-file"],
        }
        # The page for people who run a gateway is not where the original has nothing, unless somebody wants it.
        settings = readGatewaySettings(None, {"GATEWAY_MANAGEMENT_LISTEN": "[]", **os.environ, **keys})
        assert settings.networkRelay is not None  # it has a credentials file
        return replace(settings, networkRelay=replace(settings.networkRelay, key="--credentials-file"))
