"""
The settings of PipeGate's server: what its options say becomes a gateway's configuration, as it is one with a single
port; and each of a gateway's other keys can come from the environment::

    settings = serverSettings(port=443, interface="", tokens=tokens, environ=os.environ)
    settings.gateway.config.limits.originTimeout
"""

__all__ = ["PipeGateServerSettings", "serverSettings"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from gateway.domain.pipegate import PipeGateToken
from gateway.service.pipegate.jsonrequest import JsonLimits
from gateway.service.server.settings import GatewaySettings, Listen, parseListen, readGatewaySettings

NOWHERE = "127.0.0.1:1"
"""Where no agents of another kind come in: a gateway's configuration has to say some place."""


@dataclass(frozen=True, slots=True)
class PipeGateServerSettings:
    """
    All that a server is told.

    @ivar certificate: PEM files of a certificate and its key; C{None}: there is no TLS.
    @ivar domain: that each client has a name below; empty: they have none.
    @ivar shares: whether clients of one id share its visitors.
    @ivar json: of PipeGate's own dialect.
    """

    gateway: GatewaySettings
    listen: Listen
    certificate: tuple[str, str] | None
    tokens: tuple[PipeGateToken, ...] = field(repr=False)
    domain: str
    shares: bool
    json: JsonLimits


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def serverSettings(
    *,
    port: int,
    interface: str = "",
    certificate: tuple[str, str] | None = None,
    tokens: Sequence[PipeGateToken],
    domain: str = "",
    shares: bool = False,
    json: JsonLimits = JsonLimits(),  # noqa: B008 -- frozen
    trustedProxies: Sequence[str] = (),
    accessLog: str = "",
    accessLogFormat: str = "combined",
    drain: float = 10.0,
    environ: Mapping[str, str],
) -> PipeGateServerSettings:
    """
    @param interface: the address to listen on; empty: all.
    @param trustedProxies: networks.
    @raise gateway.service.configuration.ConfigurationError: in one line that names the key.
    """
    place = f"[{interface}]:{port}" if ":" in interface else f"{interface}:{port}"
    # A response has as long as its message may take, in the agent protocol too.
    keys = {
        "GATEWAY_AGENTS_PLAIN_LISTEN": _json([NOWHERE]),
        "GATEWAY_GATEWAY_DRAIN_SECONDS": _json(drain),
        "GATEWAY_HTTP_ACCESS_LOG": accessLog,
        "GATEWAY_HTTP_ACCESS_LOG_FORMAT": accessLogFormat,
        "GATEWAY_HTTP_TRUSTED_PROXIES": _json(list(trustedProxies)),
        "GATEWAY_LIMITS_ORIGIN_TIMEOUT": _json(json.timeout),
    }
    usual = {"GATEWAY_MANAGEMENT_LISTEN": "[]"}
    gateway = replace(readGatewaySettings(None, usual | dict(environ) | keys), plainListen=())
    return PipeGateServerSettings(gateway, parseListen(place), certificate, tuple(tokens), domain, shares, json)
