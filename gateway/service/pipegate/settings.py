"""
The settings of PipeGate's server: what its options say becomes a gateway's configuration, as it is one with a single
port; and each of a gateway's other keys can come from the environment::

    settings = serverSettings(PipeGateClients(tokens), port=443, environ=os.environ)
    settings.gateway.config.limits.originTimeout
"""

__all__ = ["PipeGateServerSettings", "serverSettings"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.domain.addresses import joinPort
from gateway.service.configuration import asVariable
from gateway.service.server.settings import (
    GatewaySettings,
    Listen,
    PipeGateClients,
    parseListen,
    readGatewaySettings,
)

NOWHERE = "127.0.0.1:1"
"""Where no agents of another kind come in: a gateway's configuration has to say some place."""


@dataclass(frozen=True, slots=True)
class PipeGateServerSettings:
    """
    All that a server is told.

    @ivar gateway: with the clients.
    @ivar certificate: PEM files of a certificate and its key; C{None}: there is no TLS.
    """

    gateway: GatewaySettings
    listen: Listen
    certificate: tuple[str, str] | None


def serverSettings(
    clients: PipeGateClients,
    *,
    port: int,
    interface: str = "",
    certificate: tuple[str, str] | None = None,
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
    # A response has as long as its message may take, in the agent protocol too.
    keys = {
        "GATEWAY_AGENTS_PLAIN_LISTEN": asVariable([NOWHERE]),
        "GATEWAY_GATEWAY_DRAIN_SECONDS": asVariable(drain),
        "GATEWAY_HTTP_ACCESS_LOG": accessLog,
        "GATEWAY_HTTP_ACCESS_LOG_FORMAT": accessLogFormat,
        "GATEWAY_HTTP_TRUSTED_PROXIES": asVariable(list(trustedProxies)),
        "GATEWAY_LIMITS_ORIGIN_TIMEOUT": asVariable(clients.json.timeout),
    }
    usual = {"GATEWAY_MANAGEMENT_LISTEN": "[]"}
    gateway = readGatewaySettings(None, usual | dict(environ) | keys)
    gateway = replace(gateway, plainListen=(), pipeGate=clients)
    return PipeGateServerSettings(gateway, parseListen(joinPort(interface, port)), certificate)
