"""
The command line of PipeGate's client, which is the original's, and a little more::

    options = PipeGateClientOptions()
    options.parseOptions(["--local-url", "http://localhost:5001", "--server-url", "wss://fooserver.com/node"])
    options.request                             # what to ask the server for, with the token
"""

__all__ = ["TOKEN", "PipeGateClientOptions"]

import os

from twisted.python import usage

from gateway.net.tls import CertificateError
from gateway.net.tlsclient import ClientTrust, clientConnectionCreator
from gateway.service.agent.carrier import GatewayLink
from gateway.service.agent.dialect import relayLink
from gateway.service.options import ServiceOptions
from gateway.service.pipegate.client import serverRequest
from gateway.service.pipegate.local import LocalURL, parseLocalURL
from gateway.wire.pipegate import isConnectionID
from gateway.wire.upgraderequest import WebSocketRequest

TOKEN = "PIPEGATE_CLIENT_TOKEN"
"""The variable that may hold a token, at either end."""


class PipeGateClientOptions(ServiceOptions):
    """
    What C{gateway pipegate-client} and C{twistd pipegate-client} can be told.

    @ivar local: the application.
    @ivar localTrust: for one that speaks TLS.
    @ivar link: where the server is.
    @ivar request: what to ask it for.
    """

    local: LocalURL
    localTrust: ClientTrust
    link: GatewayLink
    request: WebSocketRequest

    command = "gateway pipegate-client"
    longdesc = """
    A client for PipeGate's server, or ours: it publishes an application of this machine below a path of the server's,
    which is the last part of the server's URL. Either kind of server is recognised. SIGTERM lets visitors end for up to
    --drain seconds."""

    optParameters = [
        ["local-url", None, None, "The application, e.g. http://localhost:5001"],
        ["server-url", None, None, "The server and the path below it, e.g. wss://fooserver.com/node"],
        [
            "client-token",
            None,
            None,
            "The token, which all users here can see [default: PIPEGATE_CLIENT_TOKEN]",
        ],
        ["ca", None, None, "CA certificates (PEM) that the server must have its certificate from"],
        ["pin", None, None, "sha256//BASE64 of the server's public key, believed alone; several with semicolons"],
        ["local-ca", None, None, "CA certificates (PEM) for an application with https"],
        ["drain", None, "10", "Seconds that visitors have to end at SIGTERM"],
    ]

    compData = usage.Completions(optActions={name: usage.CompleteFiles() for name in ("ca", "local-ca")})

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        for name in ("local-url", "server-url"):
            if not self[name]:
                raise usage.UsageError(f"--{name} is required")
        for name in ("ca", "local-ca"):
            if self[name] is not None:
                self[name] = os.path.abspath(self[name])  # twistd may change the working directory
        self.number("drain", float, 0, 86400)
        try:
            self.local = parseLocalURL(self["local-url"])
        except ValueError as e:
            raise usage.UsageError(f"--local-url: {e}") from None
        if self["local-ca"] is not None and not self.local.isSecure:
            raise usage.UsageError("--local-ca: it is for an application with https")
        self.localTrust = ClientTrust(authorities=self["local-ca"])
        try:
            if self.local.isSecure:
                clientConnectionCreator(self.local.host, self.localTrust)  # so that no visitor is the first to notice
        except CertificateError as e:
            raise usage.UsageError(f"--local-ca: {e}") from None
        try:
            self.link = relayLink(
                "--server-url", self["server-url"], authorities=self["ca"], pin=self["pin"], environ=os.environ
            )
        except ValueError as e:
            raise usage.UsageError(str(e)) from None
        assert self.link.request is not None
        if not isConnectionID(self.link.request.target.removeprefix("/")):
            raise usage.UsageError(
                "--server-url: its path is one word, of letters, digits and ._~-, as in wss://HOST/node"
            )
        token = self["client-token"] if self["client-token"] is not None else os.environ.get(TOKEN, "")
        if not token:
            raise usage.UsageError(f"--client-token or {TOKEN} is required")
        try:
            self.request = serverRequest(self.link.request, token)
        except ValueError:
            raise usage.UsageError("--client-token: it holds a character that no header can hold") from None
        self.chooseLogger()
