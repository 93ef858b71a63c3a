"""
The command line of the agent: a configuration file, or for a few services none::

    options = AgentOptions()
    options.parseOptions(["--to", "wss://gw.example/agent", "--http", "app.example.com=127.0.0.1:8080"])
    plan = options.readPlan()       # ConfigurationError names the key

What an option says becomes the key that it stands for, in the place of the environment's variable for that key. So
options win over variables, and those over the file.
"""

__all__ = ["AgentOptions", "parseService"]

import os
import re
from contextlib import AbstractContextManager, nullcontext

import msgspec
from twisted.python import usage

from gateway.domain.rules import parseRule
from gateway.service.agent.carrier import gatewayLink
from gateway.service.agent.config import (
    AgentConfig,
    AgentPlan,
    ServiceKind,
    ServiceSection,
    agentPlan,
    checkPlan,
    originOf,
    wireService,
)
from gateway.service.configuration import namingFile, readConfiguration
from gateway.service.options import ServiceOptions

_KEYS = {
    "to": "GATEWAY_GATEWAY_TO",
    "name": "GATEWAY_GATEWAY_NAME",
    "replica": "GATEWAY_GATEWAY_REPLICA",
    "secret-file": "GATEWAY_GATEWAY_SECRET_FILE",
    "jwt-file": "GATEWAY_GATEWAY_JWT_FILE",
    "ca": "GATEWAY_GATEWAY_CA",
    "pin": "GATEWAY_GATEWAY_PIN",
    "certificate": "GATEWAY_GATEWAY_CERTIFICATE",
    "private-key": "GATEWAY_GATEWAY_KEY",
    "proxy": "GATEWAY_GATEWAY_PROXY",
    "drain": "GATEWAY_LIMITS_DRAIN",
}
"""The variable whose place an option takes."""


def parseService(kind: ServiceKind, text: str) -> ServiceSection:
    """
    @param text: C{PUBLIC=ORIGIN} or C{KEY:PUBLIC=ORIGIN}. PUBLIC is a port, or names with commas between them, of which
        those that begin with a slash are prefixes of paths.
    @raise ValueError: with a sentence that says what is wrong.
    """
    public, equals, origin = text.partition("=")
    key, colon, names = public.rpartition(":")
    if not (equals and origin and names):
        example = "2222=127.0.0.1:22" if kind in ("tcp", "udp") else "app.example.com=127.0.0.1:8080"
        raise ValueError(f"{text!a:.80} is not of the form PUBLIC=ORIGIN, such as {example}")
    words: list[str] = []
    port = 0
    if kind in ("tcp", "udp"):
        if not re.fullmatch("[0-9]{1,5}", names) or int(names) > 65535:
            raise ValueError(f"{names!a:.40} is not a port")
        port = int(names)
    else:
        words = [name.strip() for name in names.split(",")]
    if not colon:
        word = words[0].replace("*", "any") if words else f"{kind}-{port}"
        key = re.sub("[^a-z0-9]+", "-", word.lower())[:63].strip("-") or kind
    section = ServiceSection(
        key=key,
        kind=kind,
        origin=origin,
        hostnames=tuple(word for word in words if not word.startswith("/")),
        prefixes=tuple(word for word in words if word.startswith("/")),
        port=port,
    )
    wireService(section)
    originOf(section)
    return section


class AgentOptions(ServiceOptions):
    """
    All that an agent can be told on its command line.
    """

    command = "gateway agent"
    synopsis = "--config FILE | --to URL [--http NAME=ORIGIN] [--tcp PORT=ORIGIN] ... [options]"
    longdesc = """
    An agent: it connects to a gateway, and what is reached at the gateway under its names and ports is led to origins
    near the agent. An origin is HOST:PORT, PORT of the agent's machine, or unix:/PATH; one that speaks TLS is
    https://HOST:PORT for requests, and tls://HOST:PORT behind a port. Before a name or port there may be a key and a
    colon, which is the agent's own name for the service. What proves the agent's name is in
    --secret-file, in --jwt-file, or in the variable GATEWAY_SECRET or GATEWAY_JWT. Every key of the file has a
    variable, too. SIGHUP reads the file again; SIGTERM lets visits end for up to --drain seconds."""

    optParameters = [
        ["config", None, None, "The configuration, agent.toml"],
        ["to", None, None, "The gateway: wss://HOST/PATH, tls://HOST:PORT, or on this machine tcp://127.0.0.1:PORT"],
        ["name", None, None, "The agent's name [default: that of the machine]"],
        ["replica", None, None, "Which of several agents of that name this is"],
        ["secret-file", None, None, "File with the secret that proves the name"],
        ["jwt-file", None, None, "File with a JSON Web Token that does"],
        ["ca", None, None, "PEM file of the authorities to believe [default: the system's]"],
        ["pin", None, None, "sha256//BASE64 of the gateway's public key, to believe that alone"],
        ["certificate", None, None, "PEM file of the agent's own certificate"],
        ["private-key", None, None, "PEM file of its key [default: the same file]"],
        ["proxy", None, None, "HTTP proxy to go through, http://HOST:PORT [default: HTTPS_PROXY and NO_PROXY]"],
        ["drain", None, None, "Seconds that visits have to end at SIGTERM [default: 30]"],
    ]

    compData = usage.Completions(
        optActions={
            name: usage.CompleteFiles()
            for name in ("config", "secret-file", "jwt-file", "ca", "certificate", "private-key")
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self._services: list[ServiceSection] = []
        self._targets: list[str] = []

    def _add(self, kind: ServiceKind, text: str) -> None:
        try:
            section = parseService(kind, text)
        except ValueError as e:
            raise usage.UsageError(f"--{kind}: {e}") from None
        if any(each.key == section.key for each in self._services):
            raise usage.UsageError(f"--{kind}: the key {section.key} is there twice: write KEY:PUBLIC=ORIGIN")
        self._services.append(section)

    def opt_http(self, service: str) -> None:
        """Serve requests for names, e.g. app.example.com=127.0.0.1:8080, or with a slash in front below a path at the
        gateway's own name, e.g. /node=127.0.0.1:8080. May be repeated"""
        self._add("http", service)

    def opt_tls(self, service: str) -> None:
        """Serve TLS for names, passed on untouched, e.g. shop.example.com=127.0.0.1:8443. May be repeated"""
        self._add("tls", service)

    def opt_tcp(self, service: str) -> None:
        """Serve a port, or with 0 one of the gateway's choice, e.g. 2222=127.0.0.1:22. May be repeated"""
        self._add("tcp", service)

    def opt_udp(self, service: str) -> None:
        """Serve a port of UDP, e.g. 5353=127.0.0.1:53. May be repeated"""
        self._add("udp", service)

    def opt_allow_target(self, rule: str) -> None:
        """Let the gateway reach what is behind the agent: CIDR, address or name, with ports, e.g. 10.0.0.0/8:22. May be
        repeated [default: nothing]"""
        try:
            self._targets.append(str(parseRule("allow", rule)))
        except ValueError as e:
            raise usage.UsageError(f"--allow-target: {e}") from None

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        if self["config"] is not None and (self._services or self._targets):
            raise usage.UsageError("--config: then services and targets are in the file, not among the options")
        if self["drain"] is not None:
            self.number("drain", float, 0, 86400)
        if self["to"] is not None:
            try:
                gatewayLink(self["to"], environ={})
            except ValueError as e:
                raise usage.UsageError(f"--{e}") from None
        elif self["config"] is None and _KEYS["to"] not in os.environ:
            raise usage.UsageError("--config or --to is required, e.g. --to wss://gw.example.com/agent")
        if self["config"] is not None:
            self["config"] = os.path.abspath(self["config"])  # twistd may change the working directory
        self.chooseLogger()

    def readPlan(self) -> AgentPlan:
        """
        Read what can change: the file, and the variables.

        @raise ConfigurationError: it cannot be used.
        """
        environ = {**os.environ, **{_KEYS[name]: str(self[name]) for name in _KEYS if self[name] is not None}}
        if self._services:
            environ["GATEWAY_SERVICE"] = msgspec.json.encode(self._services).decode()
        if self._targets:
            environ["GATEWAY_TARGETS"] = msgspec.json.encode(self._targets).decode()
        config = readConfiguration(self["config"], AgentConfig, environ=environ)
        with self._namingFile():
            return agentPlan(config, environ)

    def checkedPlan(self) -> AgentPlan:
        """
        The same for the start, at which there must be what proves the agent's name.

        @raise ConfigurationError: it cannot be used, or there is not.
        """
        plan = self.readPlan()
        with self._namingFile():
            checkPlan(plan, os.environ)
        return plan

    def _namingFile(self) -> AbstractContextManager[None]:
        return nullcontext() if self["config"] is None else namingFile(self["config"])
