"""
A public name, path or port, and the agents that serve it at this moment.

Several replicas of an agent may serve one route. A visitor gets the less loaded of two that are picked at random: as
good as the least loaded of all, nearly, and without all visitors running to the same one (Mitzenmacher, "The power of
two choices", 2001). One that just failed is passed over for a while, unless all have failed, and one that says that its
origin is not healthy gets nobody::

    replica = route.choose(now)
    replica.failed(now)                              # the next visitor goes elsewhere
    other = route.choose(now, tried={replica})       # and so may this one

Who owns a route, and when there is one, is the L{Registry<gateway.domain.registry.Registry>}'s business.
"""

__all__ = ["FAILED_SECONDS", "Place", "Replica", "Route", "hostPlace", "portPlace", "prefixPlace"]

from collections.abc import Callable, Collection
from typing import NamedTuple

from gateway.domain.attachment import IAttachment
from gateway.wire.agentcontrol import Service

FAILED_SECONDS = 5.0
"""For how long a replica that failed is passed over."""


class Place(NamedTuple):
    """
    Where visitors arrive.

    @ivar kind: C{host}, C{prefix}, C{tcp} or C{udp}: each a space of its own.
    @ivar name: a host name in lower case, C{*.} and a host name; the beginning of a path; or a port's number.
    """

    kind: str
    name: str | int

    def __str__(self) -> str:
        return f"{self.kind} port {self.name}" if self.isPort else str(self.name)

    @property
    def isPort(self) -> bool:
        """Whether it is one of its own, and no part of what a port for all has."""
        return isinstance(self.name, int)


def hostPlace(name: str) -> Place:
    """The place of a host name, as it is in a L{Service} or after normalisation."""
    return Place("host", name)


def prefixPlace(prefix: str) -> Place:
    """The place of a path at the gateway's own name, as it is in a L{Service}."""
    return Place("prefix", prefix)


def portPlace(kind: str, port: int) -> Place:
    """
    @param kind: C{tcp} or C{udp}.
    """
    return Place(kind, port)


class Replica:
    """
    One agent's session that serves a route.

    @ivar attachment: the session.
    @ivar service: what it serves there.
    @ivar isOffered: whether it does so still.
    """

    __slots__ = ("__weakref__", "_failedUntil", "attachment", "isOffered", "service")

    def __init__(self, attachment: IAttachment, service: Service) -> None:
        self.attachment = attachment
        self.service = service
        self.isOffered = True
        self._failedUntil = 0.0

    def failed(self, now: float) -> None:
        """A visitor could not be served by it."""
        self._failedUntil = now + FAILED_SECONDS

    def worked(self) -> None:
        """A visitor was served by it."""
        self._failedUntil = 0.0

    def hasFailed(self, now: float) -> bool:
        """Whether it failed a moment ago."""
        return now < self._failedUntil


class Route:
    """
    One place, and who serves it.

    @ivar place: where visitors arrive.
    @ivar agent: the name of the agent that owns it, of which all replicas are.
    @ivar replicas: by session; never empty while the route stands.
    """

    __slots__ = ("__weakref__", "_random", "agent", "place", "replicas")

    def __init__(self, place: Place, agent: str, random: Callable[[], float]) -> None:
        self.place = place
        self.agent = agent
        self.replicas: dict[IAttachment, Replica] = {}
        self._random = random

    @property
    def service(self) -> Service:
        """
        What is served, as the newest of the replicas says: during a change of its configuration an agent's replicas may
        differ, and those that say otherwise get no visitors.
        """
        return next(reversed(self.replicas.values())).service

    def choose(self, now: float, tried: Collection[Replica] = ()) -> Replica | None:
        """
        @param tried: not these again.
        @return: who serves the next visitor; C{None} when nobody can, as of a route that stands no more.
        """
        if len(self.replicas) < 2:
            for only in self.replicas.values():
                return only if only.service.healthy and only not in tried else None
            return None
        says = self.service
        able = [
            each
            for each in self.replicas.values()
            if each.service.healthy
            and (each.service.kind, each.service.tls) == (says.kind, says.tls)
            and each not in tried
        ]
        sound = [each for each in able if not each.hasFailed(now)] or able
        if len(sound) < 2:
            return sound[0] if sound else None
        first = int(self._random() * len(sound))
        second = (first + 1 + int(self._random() * (len(sound) - 1))) % len(sound)
        return min(sound[first], sound[second], key=lambda each: each.attachment.load)
