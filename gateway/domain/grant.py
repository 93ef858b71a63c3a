"""
What an agent may ask for: names, ports, and how much of everything::

    grant = Grant(hostnames=("app.example.com", "*.alice.example.eu"), ports=((20000, 29999),))
    grant.allowsName("shop.alice.example.eu")       # True
    grant.allowsName("evilalice.example.eu")        # False: the dot belongs to the pattern
    grant.refusalOf("ssh.box.agent", 0)             # that no rule allows it: there are none
"""

__all__ = ["ANY_NAME", "EVERYTHING", "Grant"]

from dataclasses import dataclass

from gateway.domain.rules import Rule
from gateway.domain.targets import Refusal, onlyThese

ANY_NAME = "*"
"""The pattern that holds every name, wildcards too."""


@dataclass(frozen=True, slots=True)
class Grant:
    """
    What belongs to an identity. C{None} is no limit.

    @ivar hostnames: names, as L{normaliseHost<gateway.domain.addresses.normaliseHost>} returns them; C{*.} and a name,
        which holds the names one label below it and that wildcard itself; or C{*}.
    @ivar ports: inclusive ranges, for TCP and UDP.
    @ivar targets: rules for the names that its own streams may lead to.
    @ivar sessions: sessions at once, all replicas together.
    @ivar services: services of one session.
    @ivar streams: visitors' streams open at once, in one session.
    @ivar newPerSecond: new streams per second, in one session.
    @ivar bytesPerSecond: payload in each direction, all streams of a session together.
    """

    hostnames: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    sessions: int | None = None
    services: int | None = None
    streams: int | None = None
    newPerSecond: float | None = None
    bytesPerSecond: int | None = None
    targets: tuple[Rule, ...] = ()

    def allowsName(self, name: str) -> bool:
        """
        @param name: in lower case; may be a wildcard.
        """
        _, dot, parent = name.partition(".")
        return ANY_NAME in self.hostnames or name in self.hostnames or bool(dot and f"*.{parent}" in self.hostnames)

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


EVERYTHING = Grant(hostnames=(ANY_NAME,), ports=((1, 65535),))
"""For whoever runs the gateway themselves."""
