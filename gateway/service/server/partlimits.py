"""
The limits of a configuration, as the parts of a gateway take them::

    admission = visitorAdmission(config.limits, reactor.seconds())
    visitors.limit(routeLimits(config.limits))

A configuration says 0 for no limit; the parts say C{None}.
"""

__all__ = ["agentAdmission", "muxSettings", "relaySettings", "routeLimits", "visitorAdmission"]

from math import ceil

from gateway.domain.limits import Admission, Bans
from gateway.net.mux import MuxSettings
from gateway.net.relay import RelaySettings
from gateway.service.server.config import GatewayConfig, LimitsSection
from gateway.service.server.usage import RouteLimits


def visitorAdmission(limits: LimitsSection, now: float) -> Admission:
    """
    How many visitors are let in, and how fast.

    @param now: seconds of the clock.
    """
    return Admission(
        now,
        unauthenticated=limits.undecided,
        unauthenticatedPerAddress=limits.undecidedPerAddress,
        perAddress=limits.perAddress or None,
        newPerSecond=limits.newPerSecond or None,
        newPerSecondPerAddress=limits.newPerSecondPerAddress or None,
    )


def agentAdmission(limits: LimitsSection, now: float, bans: Bans, perAddress: int | None = None) -> Admission:
    """
    How many agents are let in, and how fast.

    @param now: seconds of the clock.
    @param perAddress: that have registered; C{None}: no limit.
    """
    return Admission(
        now,
        unauthenticated=limits.unregistered,
        unauthenticatedPerAddress=limits.unregisteredPerAddress,
        perAddress=perAddress,
        newPerSecondPerAddress=limits.newPerSecondPerAddress or None,
        bans=bans,
    )


def muxSettings(config: GatewayConfig) -> MuxSettings:
    """What holds for each agent's session."""
    usual, interval = MuxSettings(), config.limits.pingInterval
    return MuxSettings(
        pings=max(usual.pings, ceil(usual.pingTimeout / interval)),
        pingInterval=interval,
        drainTimeout=config.gateway.drainSeconds + usual.drainTimeout,
    )


def relaySettings(limits: LimitsSection) -> RelaySettings:
    """What holds for each visitor's connection."""
    return RelaySettings(dialTimeout=limits.connectTimeout, idleTimeout=limits.idleTimeout or None)


def routeLimits(limits: LimitsSection) -> RouteLimits:
    """What holds for the visitors of a route, and of an address, together."""
    return RouteLimits(
        limits.routeConnections or None,
        limits.routeNewPerSecond or None,
        limits.routeBytesPerSecond or None,
        limits.bytesPerSecondPerAddress or None,
    )
