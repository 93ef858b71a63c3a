"""
What a gateway takes of its configuration only when it starts::

    for key in needRestart(before, after):
        print(f"{key}: restart the gateway")
"""

__all__ = ["needRestart"]

from collections.abc import Iterator

from msgspec import structs

from gateway.service.server.config import GatewayConfig

_TAKEN = {
    "tls": {"proxyProtocolFrom", "access"},
    "http": {
        "proxyProtocolFrom",
        "access",
        "trustedProxies",
        "httpsRedirect",
        "hsts",
        "accessLog",
        "accessLogFormat",
    },
    "ports": {"access"},
    "limits": {
        "connectTimeout",
        "idleTimeout",
        "udpIdleTimeout",
        "routeConnections",
        "routeNewPerSecond",
        "routeBytesPerSecond",
        "bytesPerSecondPerAddress",
        "stallMemory",
        "windowMemory",
        "requestsPerAddress",
        "routeRequests",
        "requestsPerConnection",
        "headBytes",
        "headFields",
        "headTimeout",
        "bodyBytes",
        "bodyRate",
        "bodyGrace",
        "takeTimeout",
        "takeLimit",
        "keepAliveTimeout",
        "originTimeout",
        "originHeadBytes",
        "originIdleConnections",
        "originIdleTimeout",
        "h2Streams",
        "h2Backlog",
        "h2Resets",
        "h2Controls",
    },
    "agent": None,
    "gotunnel": {"hostnames"},
    "certificate": None,
}
"""What is taken while the gateway runs: keys by section; C{None}: all of it."""


def needRestart(before: GatewayConfig, after: GatewayConfig) -> Iterator[str]:
    """
    @return: the keys that differ and are taken at the start alone, as they are written: C{section.key}.
    """
    for section in structs.fields(GatewayConfig):
        if (taken := _TAKEN.get(section.name, set())) is None:
            continue
        one, other = getattr(before, section.name), getattr(after, section.name)
        for key in structs.fields(one):
            if key.name not in taken and getattr(one, key.name) != getattr(other, key.name):
                yield f"{section.encode_name}.{key.encode_name}"
