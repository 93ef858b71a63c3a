"""
The configuration of go-tunnel's agent: its C{config.yaml}, and what becomes of it::

    plan = readAgentPlan("config.yaml")      # ConfigurationError names the key
    plan.routes                              # what the agent registers
"""

__all__ = ["GoTunnelAgentFile", "GoTunnelAgentPlan", "TunnelSection", "readAgentPlan"]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta

from gateway.domain.addresses import parseAddress
from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.targets import Target, parseTarget
from gateway.net.tlsclient import ClientTrust
from gateway.service.agent.origins import Origin, parseOrigin
from gateway.service.configuration import ConfigurationError, explainInvalid
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.gotunnel import ControlReader, Mode, Register, Route, encode

PORT = 9443
"""Where agents connect to, if nothing else is said."""

_SIZE_LIMIT = 1024 * 1024


def _key(field: str) -> str:
    return re.sub("[A-Z]", lambda capital: "_" + capital[0].lower(), field)


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_key, kw_only=True):
    """A table of the file. A field C{tunnelAddr} is the key C{tunnel_addr}."""


class TunnelSection(_Section, frozen=True):
    """A name that is served."""

    hostname: Annotated[str, Meta(min_length=1)]
    """the public name; `*.` in front stands for one label"""

    target: Annotated[str, Meta(min_length=1)]
    """where it leads: `HOST:PORT` or `unix:/PATH`"""

    mode: str = "http"
    """what visitors speak inside of TLS: `http`, or `tcp` for anything"""


class GoTunnelAgentFile(_Section, frozen=True):
    """The whole file."""

    tunnelAddr: Annotated[str, Meta(min_length=1)]
    """the server; its port is 9443 if none is said"""

    skipTlsVerify: bool = False
    """believe whoever answers, for tests only"""

    jwtSecret: str = ""
    """the server's `JWT_SECRET`; there has to be one"""

    jwtIssuer: str = ""
    """in the tokens, for people"""

    jwtExpireSec: Annotated[int, Meta(ge=1)] = 3600
    """seconds that a token is good"""

    tunnels: list[TunnelSection] = []
    """what is served; there has to be one at least"""


@dataclass(frozen=True, slots=True)
class GoTunnelAgentPlan:
    """
    What an agent works with.

    @ivar server: where to connect to.
    @ivar serverName: what the server's certificate must be for: as go-tunnel's agent has it, the first tunnel's name.
    @ivar lifetime: of a token, in seconds.
    @ivar origins: by the routes' names.
    """

    server: Target
    serverName: str
    trust: ClientTrust
    tokens: GoTunnelTokens = field(repr=False)
    issuer: str
    lifetime: int
    routes: tuple[Route, ...]
    origins: Mapping[str, tuple[Origin, Mode]]


def readAgentPlan(path: str, authorities: str | None = None) -> GoTunnelAgentPlan:
    """
    @param path: of a file of at most 1 MiB.
    @param authorities: PEM file of those that are believed; C{None}: the system's.
    @raise ConfigurationError: in one line that names the file and the key.
    """
    try:
        return _plan(_read(path), authorities)
    except ConfigurationError as e:
        raise ConfigurationError(f"{path}: {e}") from None


def _read(path: str) -> GoTunnelAgentFile:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
        if len(content) > _SIZE_LIMIT:
            raise ConfigurationError(f"longer than {_SIZE_LIMIT} bytes")
        return msgspec.convert(yaml.safe_load(content), GoTunnelAgentFile)
    except OSError as e:
        raise ConfigurationError(str(e.strerror)) from None
    except (yaml.YAMLError, RecursionError) as e:
        raise ConfigurationError("not YAML: " + " ".join(str(e).split())[:200]) from None
    except msgspec.ValidationError as e:
        key, problem = explainInvalid(e, GoTunnelAgentFile)
        raise ConfigurationError(f"{key}: {problem}" if key else problem) from None


def _plan(config: GoTunnelAgentFile, authorities: str | None) -> GoTunnelAgentPlan:
    try:
        server = parseTarget(config.tunnelAddr, PORT)
    except ValueError as e:
        raise ConfigurationError(f"tunnel_addr: {e}") from None
    if not config.jwtSecret:
        raise ConfigurationError("jwt_secret: there is none, and no default: it is the server's JWT_SECRET")
    if not config.tunnels:
        raise ConfigurationError("tunnels: there are none")
    if config.skipTlsVerify and authorities is not None:
        raise ConfigurationError("skip_tls_verify: authorities are of no use to who verifies nothing")
    routes = _routes(config.tunnels)
    origins = {route.name: _origin(index, route) for index, route in enumerate(routes)}
    first = routes[0].name
    return GoTunnelAgentPlan(
        server=server,
        # A wildcard is nobody's name.
        serverName=server.host if first.startswith("*.") or parseAddress(first) else first,
        trust=ClientTrust(authorities, verify=not config.skipTlsVerify),
        tokens=GoTunnelTokens(config.jwtSecret),
        issuer=config.jwtIssuer,
        lifetime=config.jwtExpireSec,
        routes=routes,
        origins=origins,
    )


def _routes(tunnels: list[TunnelSection]) -> tuple[Route, ...]:
    """The routes, as a server would read them."""
    routes: dict[str, Route] = {}
    for index, tunnel in enumerate(tunnels):
        key = f"tunnels[{index}]"
        if tunnel.hostname in routes:
            raise ConfigurationError(f"{key}.hostname: {tunnel.hostname} is there twice")
        mode = tunnel.mode.lower() or Mode.HTTP
        if mode not in tuple(Mode):
            raise ConfigurationError(f"{key}.mode: {tunnel.mode!a:.40} is neither http nor tcp")
        routes[tunnel.hostname] = Route(tunnel.hostname, tunnel.hostname, tunnel.target, Mode(mode))
    try:
        (register,) = ControlReader(client=False).receive(encode(Register("", tuple(routes.values()))))
    except (RemoteProtocolError, LocalProtocolError) as e:
        raise ConfigurationError(f"tunnels: {e.details if isinstance(e, RemoteProtocolError) else e}") from None
    assert isinstance(register, Register)
    return register.routes


def _origin(index: int, route: Route) -> tuple[Origin, Mode]:
    try:
        return Origin("http" if route.mode is Mode.HTTP else "tcp", parseOrigin(route.target)), route.mode
    except ValueError as e:
        raise ConfigurationError(f"tunnels[{index}].target: {e}") from None
