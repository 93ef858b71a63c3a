"""
The command line of PipeGate's server, which is the original's, and a little more::

    options = PipeGateServerOptions()
    options.parseOptions(["--client-token", "123xyz", "--port", "8000"])
    options.readSettings()                      # ConfigurationError names the option at fault
"""

__all__ = ["PipeGateServerOptions"]

import os
from ipaddress import ip_network
from pathlib import Path

from twisted.python import usage

from gateway.domain.addresses import normaliseHost, parseAddress
from gateway.domain.pipegate import PipeGateToken, parseTokens
from gateway.domain.tokens import hashToken
from gateway.service.configuration import ConfigurationError
from gateway.service.options import ServiceOptions
from gateway.service.pipegate.clientoptions import TOKEN
from gateway.service.pipegate.jsonrequest import JsonLimits
from gateway.service.pipegate.settings import PipeGateServerSettings, serverSettings
from gateway.service.server.accesslog import checkAccessLog
from gateway.service.server.settings import PipeGateClients

_MAX_FILE = 4 * 1024 * 1024
_FILES = ("tokens", "ssl-keyfile", "ssl-certfile")


class PipeGateServerOptions(ServiceOptions):
    """
    What C{gateway pipegate-server} and C{twistd pipegate-server} can be told.
    """

    command = "gateway pipegate-server"
    longdesc = """
    A server for PipeGate's clients, and ours: each publishes an application below the path of its id. Whatever else a
    gateway can be told is taken from the environment, e.g. GATEWAY_LIMITS_BODY_BYTES. SIGHUP reads the tokens again,
    SIGTERM stops after a while in which visitors may end."""

    optParameters = [
        ["client-token", None, None, "A token that is good for every id, which all users here can see "
                                     "[default: PIPEGATE_CLIENT_TOKEN]"],
        ["tokens", None, None, "File of tokens, each with the ids that it is good for: in a line the hash, as gateway "
                               "secret prints it, and ids, or * for all"],
        ["port", None, "443", "Port for clients and visitors"],
        ["interface", None, "", "Address to listen on; :: is all, and nothing is all of IPv4"],
        ["ssl-keyfile", None, None, "Private key (PEM); read again when it changes"],
        ["ssl-certfile", None, None, "TLS certificate chain (PEM); read again when it changes"],
        ["domain", None, "", "Serve each client by name as well, as ID below this domain, e.g. node.fooserver.com"],
        ["timeout", None, "300", "Seconds that visitors wait for a response"],
        ["max-message", None, str(JsonLimits().message), "Bytes of the longest request to a client of PipeGate's own; "
                                                         "more than the default may be more than it takes"],
        ["access-log", None, "", "File for a line about each request; - is standard output"],
        ["access-log-format", None, "combined", "common, combined or json"],
        ["drain", None, "10", "Seconds that visitors have to end at SIGTERM"],
    ]  # fmt: skip

    optFlags = [["share", None, "Let clients of one id share its visitors; otherwise the newest takes over"]]

    compData = usage.Completions(optActions={name: usage.CompleteFiles() for name in (*_FILES, "access-log")})

    def __init__(self) -> None:
        super().__init__()
        self["trusted-proxy"] = []

    def opt_trusted_proxy(self, network: str) -> None:
        """Believe what a proxy at this address or in this network says in X-Forwarded-For and its like. May be
        repeated."""
        try:
            self["trusted-proxy"].append(str(ip_network(network)))
        except ValueError:
            raise usage.UsageError(f"--trusted-proxy: {network!a:.60} is neither an address nor a network") from None

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        self.number("port", int, 0, 65535)
        self.number("timeout", float, 0.1, 86400)
        self.number("max-message", int, 1024, 1024**3)
        self.number("drain", float, 0, 86400)
        if self["interface"] and parseAddress(self["interface"]) is None:
            raise usage.UsageError(f"--interface: {self['interface']!a:.60} is not an address")
        try:
            self["domain"] = self["domain"] and normaliseHost(self["domain"])
        except ValueError as e:
            raise usage.UsageError(f"--domain: {e}") from None
        if (self["ssl-keyfile"] is None) != (self["ssl-certfile"] is None):
            raise usage.UsageError("--ssl-keyfile and --ssl-certfile: one is of no use without the other")
        if self["access-log-format"] not in ("common", "combined", "json"):
            raise usage.UsageError("--access-log-format: choose common, combined or json")
        for name in _FILES:
            self[name] = self[name] and os.path.abspath(self[name])  # twistd may change the working directory
        if self["access-log"] not in ("", "-"):
            self["access-log"] = os.path.abspath(self["access-log"])
        if self["client-token"] is None:
            self["client-token"] = os.environ.get(TOKEN, "")
        if not (self["client-token"] or self["tokens"]):
            raise usage.UsageError(f"--client-token, {TOKEN} or --tokens is required")
        self.chooseLogger()

    def _tokens(self) -> tuple[PipeGateToken, ...]:
        tokens = [PipeGateToken(hashToken(self["client-token"]))] if self["client-token"] else []
        path = self["tokens"]
        if path is not None:
            try:
                with Path(path).open("rb") as file:
                    tokens += parseTokens(file.read(_MAX_FILE).decode())
            except OSError as e:
                raise ConfigurationError(f"--tokens: {path}: {e.strerror}") from None
            except UnicodeDecodeError:
                raise ConfigurationError(f"--tokens: {path}: not UTF-8") from None
            except ValueError as e:
                raise ConfigurationError(f"--tokens: {path}: {e}") from None
        return tuple(tokens)

    def _checkAccessLog(self) -> None:
        path = self["access-log"]
        try:
            checkAccessLog(path)
        except OSError as e:
            raise ConfigurationError(f"--access-log: {path}: {e.strerror}") from None

    def readSettings(self) -> PipeGateServerSettings:
        """
        Read the tokens, and what the environment says, as they are now.

        @raise gateway.service.configuration.ConfigurationError: in one line that names the option.
        """
        certificate = (self["ssl-certfile"], self["ssl-keyfile"]) if self["ssl-certfile"] else None
        json = JsonLimits(message=self["max-message"], timeout=self["timeout"])
        self._checkAccessLog()
        return serverSettings(
            PipeGateClients(self._tokens(), bool(self["share"]), self["domain"], json),
            port=self["port"],
            interface=self["interface"],
            certificate=certificate,
            trustedProxies=self["trusted-proxy"],
            accessLog=self["access-log"],
            accessLogFormat=self["access-log-format"],
            drain=self["drain"],
            environ=os.environ,
        )
