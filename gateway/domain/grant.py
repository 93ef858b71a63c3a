"""
What an agent may ask for: names, ports, and how much of everything::

    grant = Grant(hostnames=("app.example.com", "*.alice.example.eu"), ports=((20000, 29999),), prefixes=("/alice/*",))
    grant.allowsName("shop.alice.example.eu")       # True
    grant.allowsName("evilalice.example.eu")        # False: the dot belongs to the pattern
    grant.allowsPrefix("/alice/shop")               # True
    grant.refusalOf("ssh.box.agent", 0)             # that no rule allows it: there are none
"""

__all__ = ["ANY_NAME", "ANY_PREFIX", "EVERYTHING", "Grant"]

from dataclasses import dataclass

from gateway.domain.rules import Rule
from gateway.domain.targets import Refusal, Target, onlyThese, refusalBehind

ANY_NAME = "*"
"""The pattern that holds every name, wildcards too."""

ANY_PREFIX = "*"
"""
The pattern that holds every prefix but those that begin with a dot: C{/.well-known} proves to others whose a host is
(RFC 8615), so it has to be granted by its name.
"""


@dataclass(frozen=True, slots=True)
class Grant:
    """
    What belongs to an identity. C{None} is no limit.

    @ivar hostnames: names, as L{normaliseHost<gateway.domain.addresses.normaliseHost>} returns them; C{*.} and a name,
        which holds the names one label below it and that wildcard itself; or C{*}.
    @ivar ports: inclusive ranges, for TCP and UDP.
    @ivar targets: rules for the names that its own streams may lead to.
    @ivar prefixes: of paths at the gateway's own name; a prefix and C{/*}, which holds all below it; or C{*}.
    @ivar sessions: sessions at once, all replicas together.
    @ivar services: services of one session.
    @ivar streams: visitors' streams open at once, in one session.
    @ivar newPerSecond: new streams per second, in one session.
    @ivar bytesPerSecond: payload in each direction, all streams of a session together.
    @ivar behind: rules for the targets behind it that others may name; C{None}: those that the agent itself allows.
    """

    hostnames: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    sessions: int | None = None
    services: int | None = None
    streams: int | None = None
    newPerSecond: float | None = None
    bytesPerSecond: int | None = None
    targets: tuple[Rule, ...] = ()
    prefixes: tuple[str, ...] = ()
    behind: tuple[Rule, ...] | None = None

    def allowsName(self, name: str) -> bool:
        """
        @param name: in lower case; may be a wildcard.
        """
        _, dot, parent = name.partition(".")
        return ANY_NAME in self.hostnames or name in self.hostnames or bool(dot and f"*.{parent}" in self.hostnames)

    def allowsPrefix(self, prefix: str) -> bool:
        """
        @param prefix: as in a L{Service<gateway.wire.agentcontrol.Service>}.
        """
        parts = prefix.split("/")
        above = {"/".join([*parts[:count], "*"]) for count in range(2, len(parts))}
        return (
            prefix in self.prefixes
            or not above.isdisjoint(self.prefixes)
            or (ANY_PREFIX in self.prefixes and not prefix.startswith("/."))
        )

    def allowsPort(self, port: int) -> bool:
        """Whether the port is in one of the ranges."""
        return any(low <= port <= high for low, high in self.ports)

    def refusalOf(self, host: str, port: int) -> Refusal | None:
        """
        @param host: a name that a stream is to lead to.
        @param port: 0 where the name says it all.
        @return: C{None} when it may.
        """
        return onlyThese(self.targets).checkNameAlone(host, port)

    def refusalBehind(self, target: Target) -> Refusal | None:
        """
        @param target: that somebody wants to reach through the agent.
        @return: C{None} when it may.
        """
        return refusalBehind(self.behind, target)


EVERYTHING = Grant(hostnames=(ANY_NAME,), ports=((1, 65535),), prefixes=(ANY_PREFIX,))
"""For whoever runs the gateway themselves."""
