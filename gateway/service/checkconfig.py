"""
C{gateway check-config}: what is wrong with a configuration, or, if nothing is, what it means::

    gateway check-config gateway.toml

A gateway's file and an agent's are told apart by C{[gateway] to}, which only an agent has.
"""

__all__ = ["CheckOptions"]

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted.python import usage

from gateway.domain.agents import AgentEntry
from gateway.service.configuration import ConfigurationError, namingFile, readConfiguration
from gateway.service.options import CommandOptions
from gateway.wire.networkrelay import AGENT_PATH


class CheckOptions(CommandOptions):
    """What C{gateway check-config} can be told."""

    command = "gateway check-config"
    synopsis = "[options] FILE"
    longdesc = """
    Reads a configuration with the environment, and the files that it names. The exit status is 0 when it can be used, 1
    when it cannot, and 2 for a wrong command line."""
    optFlags = [["agent", None, "It is an agent's, even if it does not look like one"]]

    def parseArgs(self, *files: str) -> None:
        """
        @raise usage.UsageError: there is not exactly one.
        """
        if len(files) != 1:
            raise usage.UsageError("one file is expected")
        (self["file"],) = files

    def run(self) -> int:
        """
        @return: the exit status.
        """
        path = self["file"]
        try:
            lines = _agent if self["agent"] or _isAgents(path, os.environ) else _gateway
            for line in lines(path, os.environ):
                print(line)
        except ConfigurationError as e:
            print(f"gateway check-config: {e}", file=sys.stderr)
            return 1
        return 0


def _isAgents(path: str, environ: Mapping[str, str]) -> bool:
    try:
        section = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("gateway")
    except (OSError, ValueError):
        return False  # whoever reads it next says why
    return "GATEWAY_GATEWAY_TO" in environ or (isinstance(section, dict) and "to" in section)


def _gateway(path: str, environ: Mapping[str, str]) -> Iterator[str]:
    from gateway.service.server.service import checkFiles
    from gateway.service.server.settings import readGatewaySettings

    settings = readGatewaySettings(path, environ)
    with namingFile(path):
        checkFiles(settings)
    yield f"{path}: a gateway's configuration that can be used"
    for label, places in (
        ("visitors, TLS", settings.tlsListen),
        ("visitors, plain HTTP", settings.httpListen),
        ("agents, TLS", settings.agentsListen),
        ("agents, plain", settings.plainListen),
        ("a network relay's agents and clients", settings.networkRelayListen),
        ("management", settings.managementListen),
    ):
        yield from (f"listens for {label} on {place.text}" for place in places)
    for place in settings.tlsListen:
        if settings.publicHost:
            port = f":{place.port}" if place.port not in (0, 443) else ""  # 0: in an endpoint string, which is its own
            paths = [settings.config.agents.websocketPath, *([AGENT_PATH] if settings.networkRelay is not None else [])]
            yield from (f"takes agents at wss://{settings.publicHost}{port}{path} too" for path in paths)
    yield from (f"certificate for {', '.join(each.hostnames)}: {each.certificate}" for each in settings.certificates)
    yield from map(_agentLine, settings.agents)


def _agentLine(entry: AgentEntry) -> str:
    ports = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in entry.grant.ports)
    paths = f"; paths {', '.join(entry.grant.prefixes)}" if entry.grant.prefixes else ""
    return f"agent {entry.name}: names {', '.join(entry.grant.hostnames) or 'none'}; ports {ports or 'none'}{paths}"


def _agent(path: str, environ: Mapping[str, str]) -> Iterator[str]:
    from gateway.service.agent.config import AgentConfig, agentPlan, checkPlan

    config = readConfiguration(path, AgentConfig, environ=environ)
    with namingFile(path):
        checkPlan(agentPlan(config, environ), environ)
    yield f"{path}: an agent's configuration that can be used"
    yield f"attaches to {config.gateway.to}"
    yield from (f"serves {each.key} ({each.kind}) from {each.origin}" for each in config.service)
