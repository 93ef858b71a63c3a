"""
What both ends of a network relay are told of it on their command lines: where it is, whom to believe, and what proves
who one is::

    class Options(RelayClientOptions):
        path = "/ws_for_edge_agents"

        def postOptions(self) -> None:
            self.readLink()
"""

__all__ = ["RelayClientOptions", "isText"]

import getopt
import os
import sys
from collections.abc import Sequence

from twisted.python import usage

from gateway.service.agent.carrier import GatewayLink
from gateway.service.agent.dialect import relayLink
from gateway.service.configuration import CREDENTIAL_LIMIT, ConfigurationError, readCredentialFile
from gateway.service.options import ServiceOptions

_SECRET = "HTTP_NETWORK_RELAY_SECRET"  # the variable


class RelayClientOptions(ServiceOptions):
    """
    The options of both.

    @cvar path: of the default URL.
    @ivar link: where the relay is. Set by L{readLink}.
    """

    path = "/"
    link: GatewayLink

    compData = usage.Completions(optActions={name: usage.CompleteFiles() for name in ("ca", "secret-file")})

    optParameters = [
        ["relay-url", None, None, "The relay [default: HTTP_NETWORK_RELAY_URL, or port 8000 of this machine]"],
        [
            "secret",
            None,
            None,
            "What proves who we are; all users here can see it [default: HTTP_NETWORK_RELAY_SECRET]",
        ],
        ["secret-file", None, None, "File with it, which nobody else needs to see"],
        ["ca", None, None, "CA certificates (PEM) that the relay must have its certificate from"],
        ["pin", None, None, "sha256//BASE64 of the relay's public key, believed alone; several with semicolons"],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        As http-network-relay does, take options before, between and behind the words.

        @raise usage.UsageError: in one line.
        """
        rest = list(sys.argv[1:] if options is None else options)
        found: list[str] = []
        words: list[str] = []
        try:
            while rest:
                given, rest = getopt.getopt(rest, self.shortOpt, self.longOpt)
                for name, value in given:
                    hasValue = f"{name.removeprefix('--')}=" in self.longOpt
                    found.append(f"{name}={value}" if hasValue else name)
                if rest:
                    words.append(rest.pop(0))
        except getopt.error as e:
            raise usage.UsageError(str(e)) from None
        super().parseOptions([*found, "--", *words])

    def readLink(self) -> None:
        """
        Take the URL from the command line, the environment, or the default, and what goes with it.

        @raise usage.UsageError: in one line that names the option.
        """
        url = self["relay-url"] or os.environ.get("HTTP_NETWORK_RELAY_URL") or f"ws://127.0.0.1:8000{self.path}"
        self["relay-url"] = url
        if self["secret"] is not None and self["secret-file"] is not None:
            raise usage.UsageError("--secret and --secret-file are not both needed")
        for name in ("ca", "secret-file"):
            if self[name] is not None:
                self[name] = os.path.abspath(self[name])  # twistd may change the working directory
        try:
            self.link = relayLink("--relay-url", url, authorities=self["ca"], pin=self["pin"], environ=os.environ)
        except ValueError as e:
            raise usage.UsageError(str(e)) from None

    def readSecret(self) -> str:
        """
        What proves who we are now: a file may have been written anew.

        @raise ConfigurationError: there is nothing, or it cannot be used.
        """
        if self["secret-file"] is not None:
            return readCredentialFile("--secret-file", self["secret-file"])
        secret = self["secret"] if self["secret"] is not None else os.environ.get(_SECRET, "")
        if not secret:
            raise ConfigurationError(f"--secret-file, --secret or {_SECRET} is required")
        if len(secret) > CREDENTIAL_LIMIT:
            raise ConfigurationError(f"the secret is longer than {CREDENTIAL_LIMIT} bytes")
        if not isText(secret):
            raise ConfigurationError("the secret is not UTF-8")
        return str(secret)


def isText(word: str) -> bool:
    """Whether a word of the command line, or of the environment, was UTF-8, as all that is sent is."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
