"""
The command line of the Tabby gateway: the options of tabby-connection-gateway, and ours::

    options = TabbyOptions()
    options.parseOptions(["--no-auth", "--port", "9000"])     # UsageError names the option at fault
"""

__all__ = ["TabbyOptions"]

import os
from ipaddress import ip_network
from urllib.parse import urlsplit

from twisted.python import usage

from gateway.domain.addresses import IPNetwork
from gateway.domain.identity import ENVIRONMENT
from gateway.domain.targets import Rule, parseRule
from gateway.domain.tokens import MAX_TOKEN_LENGTH
from gateway.service.options import ServiceOptions


class TabbyOptions(ServiceOptions):
    """
    All that the gateway can be told. After C{parseOptions} the values have their types; C{rules}, C{origins},
    C{hosts}, C{listen} and C{trustedProxies} hold what was repeated, in order.
    """

    command = "gateway tabby"
    synopsis = "[--token-auth | --tokens FILE | --no-auth | --admin-port PORT] [options]"
    longdesc = """
    A gateway that lets Tabby Web, a terminal in the browser, reach ssh and telnet hosts. It takes the options of
    tabby-connection-gateway, and more.
    The token of --token-auth comes from the environment variable TABBY_AUTH_TOKEN. SIGHUP reads tokens, rules and
    certificates again; SIGTERM lets sessions end for up to --drain seconds."""

    optFlags = [
        ["token-auth", None, "Clients show the token of the environment variable TABBY_AUTH_TOKEN"],
        ["no-auth", None, "Let anyone in. Then only pages of the same host may connect, and loopback and private "
                          "targets are refused unless a rule allows them"],
    ]  # fmt: skip

    optParameters = [
        ["host", None, "127.0.0.1", "Address to listen on"],
        ["port", None, "9000", "Port to listen on"],
        ["certificate", None, None, "TLS certificate chain (PEM); turns TLS on; read again when it changes"],
        ["private-key", None, None, "The certificate's private key (PEM)"],
        ["ca", None, None, "CA certificates (PEM) that clients must have theirs from; turns client certificates on"],
        ["admin-host", None, "127.0.0.1", "Address to listen on for management"],
        ["admin-port", None, None, "Port to listen on for management, with mutual TLS; also serves /metrics"],
        ["admin-certificate", None, None, "TLS certificate chain (PEM) of the management listener"],
        ["admin-private-key", None, None, "Its private key (PEM)"],
        ["admin-ca", None, None, "CA certificates (PEM) that management clients must have theirs from"],
        ["tokens", None, None, "File of named tokens and rules (TOML); see: gateway tabby-token"],
        ["state", None, None, "Directory in which to keep a generated token; prints it and the URL. For a first try"],
        ["public-url", None, None, "URL under which browsers reach the gateway, e.g. wss://gw.example.com"],
        ["metrics-listen", None, None, "Endpoint for /metrics without TLS, e.g. tcp:9100:interface=127.0.0.1"],
        ["drain", None, "10", "Seconds that sessions have to end at SIGTERM"],
        ["connect-timeout", None, "20", "Seconds to reach a target"],
        ["handshake-timeout", None, "10", "Seconds for each step before a session"],
        ["idle-timeout", None, "86400", "Seconds without a byte after which a session ends; 0: never"],
        ["ping-interval", None, "20", "Seconds between pings; a client that answers none is cut off; 0: never"],
        ["one-shot-ttl", None, "120", "Seconds that a token given by the management listener is good"],
        ["one-shot-limit", None, "10000", "Tokens of the management listener that may wait at once"],
        ["max-unauthenticated", None, "2000", "Connections at once that are not authenticated; 0: no limit"],
        ["max-unauthenticated-per-address", None, "100", "The same, of one address (IPv6: of one /64); 0: no limit"],
        ["max-per-address", None, "1000", "Connections at once of one address (IPv6: of one /64); 0: no limit"],
        ["new-per-second", None, "2000", "New connections a second; 0: no limit"],
        ["new-per-second-per-address", None, "200", "New connections a second of one address; 0: no limit"],
        ["ban-after", None, "10", "Wrong tokens of one address within a minute that ban it; 0: never"],
        ["ban-seconds", None, "600", "How long a ban lasts"],
        ["stall-memory", None, "512", "MiB that may be held for clients and targets that do not read"],
    ]

    compData = usage.Completions(
        optActions={name: usage.CompleteFiles() for name in ("certificate", "private-key", "ca", "tokens", "admin-ca")}
    )

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[Rule] = []
        self.origins: set[str] = set()
        self.hosts: set[str] = set()
        self.listen: list[str] = []
        self.trustedProxies: list[IPNetwork] = []
        self.environmentToken: str | None = None

    # -- Options that may be given more than once

    def _addRule(self, action: str, text: str) -> None:
        try:
            self.rules.append(parseRule(action, text))
        except ValueError as e:
            raise usage.UsageError(f"--{action}: {e}") from None

    def opt_allow(self, rule: str) -> None:
        """Allow a target: CIDR, address, host, *.example.com or *, each optionally :PORT, :PORT-PORT or :22,80. The
        first rule that matches decides; with any --allow, what no rule allows is refused"""
        self._addRule("allow", rule)

    def opt_deny(self, rule: str) -> None:
        """Refuse a target, written as for --allow"""
        self._addRule("deny", rule)

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to listen on instead of --host and --port, in Twisted's syntax: ssl:443:privateKey=key.pem,
        systemd:domain=INET:index=0, unix:/run/gw.sock. May be repeated"""
        self.listen.append(endpoint)

    def opt_origin(self, origin: str) -> None:
        """Web origin whose pages may connect, e.g. https://app.tabby.sh, or *. May be repeated [default: any; with
        --no-auth: the gateway's own host]"""
        text = origin.rstrip("/").lower()
        if text != "*" and _site(text) != text:
            raise usage.UsageError(f"--origin: {origin!a} is not a web origin such as https://app.tabby.sh")
        self.origins.add(text)

    def opt_allowed_host(self, name: str) -> None:
        """Host name under which the gateway may be addressed, besides addresses; others are refused. May be repeated
        [default: any; with --no-auth: localhost, --host and the one of --public-url]"""
        self.hosts.add(name.lower())

    def opt_trusted_proxy(self, network: str) -> None:
        """Address or network of a proxy in front, whose X-Forwarded-For and X-Forwarded-Proto are believed. May be
        repeated"""
        try:
            self.trustedProxies.append(ip_network(network))
        except ValueError as e:
            raise usage.UsageError(f"--trusted-proxy: {e}") from None

    # -- Checks

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        self.number("port", int, 0, 65535)
        if self["admin-port"] is not None:
            self.number("admin-port", int, 0, 65535)
        for name in ("drain", "idle-timeout", "ping-interval", "new-per-second", "new-per-second-per-address"):
            self.number(name, float, 0)
        for name in ("connect-timeout", "handshake-timeout", "one-shot-ttl", "ban-seconds"):
            self.number(name, float, 0.1)
        for name in ("max-unauthenticated", "max-unauthenticated-per-address", "max-per-address", "ban-after"):
            self.number(name, int, 0)
        for name in ("one-shot-limit", "stall-memory"):
            self.number(name, int, 1)
        url = self["public-url"]
        if url is not None and not (_site(url) or "").startswith(("ws://", "wss://")):
            raise usage.UsageError(f"--public-url: {url!a} is not a WebSocket URL such as wss://gw.example.com")
        self._checkCombinations()
        self.chooseLogger()

    def _checkCombinations(self) -> None:
        # The words of the first four are the original's, for people who search for them.
        if (self["certificate"] is None) != (self["private-key"] is None):
            given, missing = ("certificate", "private-key") if self["certificate"] else ("private-key", "certificate")
            raise usage.UsageError(f"--{missing} is required if --{given} is set")
        if self["token-auth"]:
            self.environmentToken = os.environ.get(ENVIRONMENT)
            if not self.environmentToken:
                raise usage.UsageError(f"{ENVIRONMENT} must be provided when using --token-auth")
            if len(self.environmentToken) > MAX_TOKEN_LENGTH:
                raise usage.UsageError(f"{ENVIRONMENT} must have at most {MAX_TOKEN_LENGTH} characters")
        adminFiles = ("admin-ca", "admin-certificate", "admin-private-key")
        if self["admin-port"] is not None and None in (self[name] for name in adminFiles):
            raise usage.UsageError(
                "--admin-ca, --admin-certificate and --admin-private-key are all required when --admin-port is set"
            )
        ways = (self["no-auth"], self["token-auth"], self["admin-port"] is not None, self["tokens"], self["state"])
        if not any(ways):
            raise usage.UsageError("either --no-auth, --token-auth or --admin-port must be provided, or --tokens")
        if self["certificate"] is not None and any(endpoint.startswith("ssl:") for endpoint in self.listen):
            raise usage.UsageError("--certificate and --listen ssl: contradict each other: that endpoint has its own")
        if self["ca"] is not None and self["certificate"] is None:
            raise usage.UsageError("--certificate and --private-key are required if --ca is set")
        for one, other in (("no-auth", "token-auth"), ("state", "token-auth"), ("state", "no-auth")):
            if self[one] and self[other]:
                raise usage.UsageError(f"--{one} and --{other} contradict each other")


def _site(url: str) -> str | None:
    """A URL's scheme, host and port, as an origin is written; C{None} when it lacks one of the first two."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.scheme and parts.hostname else None
