"""
The command line of go-tunnel's server; most of what it is told is in variables::

    options = GoTunnelServerOptions()
    options.parseOptions(["--env-file", ".env"])
    options.readSettings()                            # ConfigurationError names the variable at fault
"""

__all__ = ["GoTunnelServerOptions"]

import os

from twisted.python import usage

from gateway.domain.addresses import parseAddress
from gateway.service.gotunnel.settings import GoTunnelServerSettings, readServerSettings, readVariables
from gateway.service.options import ServiceOptions

_VARIABLES = {"certificate": "CERT_FILE", "private-key": "KEY_FILE", "certificate-directory": "CERT_DIR"}
"""The variable that an option is another way to say."""


class GoTunnelServerOptions(ServiceOptions):
    """
    What C{gateway gotunnel-server} and C{twistd gotunnel-server} can be told.
    """

    command = "gateway gotunnel-server"
    longdesc = """
    A gateway for agents of go-tunnel. It takes the variables of go-tunnel's server: GATEWAY_HOST or SERVER_DOMAIN,
    GATEWAY_PORT or SERVER_PORT, TUNNEL_HOST, TUNNEL_PORT, DASHBOARD_PORT, JWT_SECRET. Certificates are files. SIGHUP
    reads all of it again, SIGTERM stops after a while in which visitors may end."""

    optParameters = [
        ["env-file", None, None, "File of variables, e.g. .env; the environment wins over it"],
        ["certificate", None, None, "TLS certificate chain (PEM), the same as CERT_FILE; read again when it changes"],
        ["private-key", None, None, "Its private key (PEM), the same as KEY_FILE"],
        ["certificate-directory", None, None, "Directory of files (PEM) that hold a certificate and its key each, the "
                                              "same as CERT_DIR; that of ACME_CACHE will do"],
        ["interface", None, "", "Address to listen on; :: is all, and nothing is all of IPv4"],
    ]  # fmt: skip

    compData = usage.Completions(
        optActions={
            **{name: usage.CompleteFiles() for name in ("env-file", "certificate", "private-key")},
            "certificate-directory": usage.CompleteDirs(),
        }
    )

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        if self["interface"] and parseAddress(self["interface"]) is None:
            raise usage.UsageError(f"--interface: {self['interface']!a:.60} is not an address")
        for name in ("env-file", *_VARIABLES):
            # twistd may change the working directory, and SIGHUP reads them again.
            self[name] = self[name] and os.path.abspath(self[name])
        self.chooseLogger()

    def readSettings(self) -> GoTunnelServerSettings:
        """
        Read the variables, and what they name, as they are now.

        @raise gateway.service.configuration.ConfigurationError: in one line that names the variable.
        """
        variables = readVariables(self["env-file"], os.environ)
        variables |= {variable: self[name] for name, variable in _VARIABLES.items() if self[name]}
        return readServerSettings(variables, self["interface"])
