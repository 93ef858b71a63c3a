"""
Which agents are here, and which public names, paths and ports they serve.

The rules, in short. A name or port belongs to one agent at a time, and to all replicas of that agent together. A
session of the same replica takes over from the one before at once: what is left of the old one is a ghost, and a ghost
holds nothing. What a session held is free the moment it is detached. A service is taken whole or not at all::

    registry = Registry(PortRules(), doors)
    ghost = registry.attach(attachment)              # end it, if there is one
    outcomes = registry.offer(attachment, services)  # {"web": (Place("host", "app.example.com"),), "ssh": Problem(...)}
    route = registry.host("app.example.com")
    registry.detach(attachment)

Ports have to be opened to be served, which is for the L{IDoors} to do; a name is served by a port that is open anyway.
"""

__all__ = ["Former", "IDoors", "PortRules", "PortUnavailable", "Problem", "Registry"]

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from random import random
from typing import NamedTuple

from zope.interface import Interface

from gateway.domain.attachment import IAttachment
from gateway.domain.httppolicy import RoutePolicy
from gateway.domain.routes import Place, Replica, Route, hostPlace, portPlace, prefixPlace
from gateway.wire.agentcontrol import Service, ServiceError
from gateway.wire.httpoptions import MAX_SEGMENTS

_REMEMBERED = 10_000
"""Ports that the gateway chose, and names that were served: each so many, for when the agent is back."""

_TRIES = 64
"""Ports that are tried before a range counts as used up."""


class PortUnavailable(Exception):
    """A port cannot be opened: the system uses it, or does not let us. Its text says which."""


class IDoors(Interface):
    """Opens and closes the ports that agents ask for."""

    def isOurs(place: Place) -> bool:
        """Whether the gateway itself listens there, goes by that name, or answers at or below that path."""

    def open(route: Route) -> None:
        """
        Listen for a route's visitors.

        @raise PortUnavailable: it cannot.
        """

    def close(route: Route) -> None:
        """Listen no more. Visitors that are in stay."""


@dataclass(frozen=True, slots=True)
class PortRules:
    """
    Which ports agents may have at all.

    @ivar privileged: whether those below 1024 are among them.
    @ivar automatic: the range to choose from for an agent that leaves the choice to us; inclusive.
    """

    privileged: bool = False
    automatic: tuple[int, int] = (20000, 29999)


@dataclass(frozen=True, slots=True)
class Problem:
    """
    Why a service is not served.

    @ivar code: for the agent's program.
    @ivar details: one sentence for the person who runs it.
    """

    code: ServiceError
    details: str


class Former(NamedTuple):
    """
    What was at a name that nobody serves now.

    @ivar kind: of the service.
    @ivar isGone: its agent is not here; otherwise it is, and does not serve the name any more.
    """

    kind: str
    isGone: bool


@dataclass(slots=True)
class _Session:
    """What the registry knows of an attachment: where each of its services is."""

    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)

    @property
    def all(self) -> list[Place]:
        return [place for places in self.places.values() for place in places]


class Registry:
    """
    All attached agents and all routes.

    @param random: from 0 up to 1, for choosing.
    @ivar routes: by place.
    """

    def __init__(self, rules: PortRules, doors: IDoors, *, random: Callable[[], float] = random) -> None:
        self.routes: dict[Place, Route] = {}
        self._rules = rules
        self._doors = doors
        self._random = random
        self._sessions: dict[IAttachment, _Session] = {}
        self._agents: dict[str, dict[str, IAttachment]] = {}
        self._chosen: OrderedDict[tuple[str, str], int] = OrderedDict()  # ports, by agent and service
        self._left: OrderedDict[Place, tuple[str, str]] = OrderedDict()  # the kind of a service and its agent

    # -- Agents

    @property
    def attachments(self) -> Iterator[IAttachment]:
        """Every session, the oldest first."""
        return iter(self._sessions)

    def replicas(self, agent: str) -> Iterable[IAttachment]:
        """The sessions of an agent, none if it is not here."""
        return self._agents.get(agent, {}).values()

    def placesOf(self, attachment: IAttachment) -> list[Place]:
        """Where visitors reach what a session serves."""
        session = self._sessions.get(attachment)
        return [] if session is None else session.all

    def attach(self, attachment: IAttachment) -> IAttachment | None:
        """
        A session has proved whose it is.

        @return: the session of the same replica that it takes over from, which is detached: end it.
        """
        ghost = self._agents.get(attachment.agent, {}).get(attachment.replica)
        if ghost is not None:
            # Its places go over as they are: a port that is closed and opened again might be lost in between.
            session = self._sessions.pop(ghost)
            self._sessions[attachment] = session
            for place in session.all:
                route = self.routes[place]
                gone = route.replicas.pop(ghost)
                gone.isOffered = False
                route.replicas[attachment] = Replica(attachment, gone.service)
        else:
            self._sessions[attachment] = _Session()
        self._agents.setdefault(attachment.agent, {})[attachment.replica] = attachment
        return ghost

    def detach(self, attachment: IAttachment) -> None:
        """A session is over: all that it held is free. Does nothing a second time."""
        session = self._sessions.pop(attachment, None)
        if session is None:
            return
        for place in session.all:
            self._withdraw(place, attachment)
        replicas = self._agents[attachment.agent]
        del replicas[attachment.replica]
        if not replicas:
            del self._agents[attachment.agent]

    # -- Services

    def offer(self, attachment: IAttachment, services: Iterable[Service]) -> dict[str, tuple[Place, ...] | Problem]:
        """
        Take an agent's services in place of those that it offered before. Where nothing changed, nothing is touched.

        @param attachment: one that is attached.
        @param services: with different keys, and no two with the same place.
        @return: for each key, where visitors reach the service, or why they do not.
        """
        session = self._sessions[attachment]
        before, session.places = session.places, {}
        outcomes: dict[str, tuple[Place, ...] | Problem] = {}
        taken: set[Place] = set()
        try:
            # Those that know what they want come first, so that no port is chosen that another one of them names.
            for service in sorted(services, key=lambda each: not (each.hostnames or each.prefixes or each.port)):
                outcome = self._take(attachment, service, before.get(service.key, ()), taken)
                outcomes[service.key] = outcome
                if isinstance(outcome, tuple):
                    session.places[service.key] = outcome
                    taken.update(outcome)
        finally:  # whatever a door raises, there is no place that its owner could not give back
            for place in {place for places in before.values() for place in places} - taken:
                self._withdraw(place, attachment)
        return outcomes

    def _take(
        self, attachment: IAttachment, service: Service, before: tuple[Place, ...], taken: Collection[Place]
    ) -> tuple[Place, ...] | Problem:
        if service.hostnames or service.prefixes:
            return self._takeNames(attachment, service)
        if service.port == 0:
            return self._choosePort(attachment, service, before, taken)
        return self._takePort(attachment, service)

    def _takeNames(self, attachment: IAttachment, service: Service) -> tuple[Place, ...] | Problem:
        try:
            RoutePolicy(service.http)
        except ValueError as e:
            return Problem(ServiceError.INVALID_OPTIONS, str(e))
        grant = attachment.grant
        names = [("name", hostPlace(each), grant.allowsName(each)) for each in service.hostnames]
        names += [("path", prefixPlace(each), grant.allowsPrefix(each)) for each in service.prefixes]
        for what, place, isAllowed in names:
            if not isAllowed:
                return Problem(ServiceError.NOT_ALLOWED, f"The agent may not have the {what} {place}.")
            if self._doors.isOurs(place):
                return Problem(ServiceError.TAKEN, f"The {what} {place} is the gateway's own.")
            if self._isTaken(place, attachment):
                return Problem(ServiceError.TAKEN, f"Another agent has the {what} {place}.")
        for _, place, _ in names:
            self._serve(place, attachment, service)
        return tuple(place for _, place, _ in names)

    def _takePort(self, attachment: IAttachment, service: Service) -> tuple[Place, ...] | Problem:
        place = portPlace(service.kind, service.port)
        problem = self._portProblem(attachment, place)
        if problem is None:
            problem = self._openAndServe(place, attachment, service)
        return (place,) if problem is None else problem

    def _portProblem(self, attachment: IAttachment, place: Place) -> Problem | None:
        port = place.name
        assert isinstance(port, int)
        if not attachment.grant.allowsPort(port):
            return Problem(ServiceError.NOT_ALLOWED, f"The agent may not have the {place}.")
        if port < 1024 and not self._rules.privileged:
            return Problem(ServiceError.NOT_ALLOWED, f"This gateway gives out no port below 1024, and so not {port}.")
        if self._doors.isOurs(place):
            return Problem(ServiceError.TAKEN, f"The {place} is the gateway's own.")
        if self._isTaken(place, attachment):
            return Problem(ServiceError.TAKEN, f"Another agent has the {place}.")
        return None

    def _choosePort(
        self, attachment: IAttachment, service: Service, before: tuple[Place, ...], taken: Collection[Place]
    ) -> tuple[Place, ...] | Problem:
        owner = (attachment.agent, service.key)
        for port in self._candidates(owner, before):
            place = portPlace(service.kind, port)
            if place in taken or self._portProblem(attachment, place) or self._openAndServe(place, attachment, service):
                continue
            self._chosen[owner] = port
            self._chosen.move_to_end(owner)
            if len(self._chosen) > _REMEMBERED:
                self._chosen.popitem(last=False)
            return (place,)
        low, high = self._rules.automatic
        return Problem(ServiceError.UNAVAILABLE, f"No port from {low} to {high} that the agent may have is free.")

    def _candidates(self, owner: tuple[str, str], before: tuple[Place, ...]) -> Iterator[int]:
        """The port that the service has or had, and then any."""
        for place in before:
            if isinstance(place.name, int):
                yield place.name
        if (last := self._chosen.get(owner)) is not None:
            yield last
        low, high = self._rules.automatic
        for _ in range(_TRIES):
            yield low + int(self._random() * (high - low + 1))

    # -- Routes

    def _isTaken(self, place: Place, attachment: IAttachment) -> bool:
        route = self.routes.get(place)
        return route is not None and route.agent != attachment.agent

    def _openAndServe(self, place: Place, attachment: IAttachment, service: Service) -> Problem | None:
        if place not in self.routes:
            try:
                self._doors.open(self._serve(place, attachment, service))
            except Exception as e:
                del self.routes[place]
                if not isinstance(e, PortUnavailable):
                    raise
                return Problem(ServiceError.UNAVAILABLE, f"The {place} cannot be opened: {e}.")
        else:
            self._serve(place, attachment, service)
        return None

    def _serve(self, place: Place, attachment: IAttachment, service: Service) -> Route:
        route = self.routes.get(place)
        if route is None:
            route = self.routes[place] = Route(place, attachment.agent, self._random)
            self._left.pop(place, None)
        replica = route.replicas.get(attachment)
        if replica is None or replica.service != service:
            if replica is not None:
                replica.isOffered = False
            route.replicas.pop(attachment, None)  # the newest is the last
            route.replicas[attachment] = Replica(attachment, service)
        return route

    def _withdraw(self, place: Place, attachment: IAttachment) -> None:
        route = self.routes[place]
        replica = route.replicas.pop(attachment)
        replica.isOffered = False
        if not route.replicas:
            del self.routes[place]
            if place.isPort:
                self._doors.close(route)
            elif place.kind == "host":
                self._left[place] = replica.service.kind, route.agent
                if len(self._left) > _REMEMBERED:
                    self._left.popitem(last=False)

    def host(self, name: str) -> Route | None:
        """
        @param name: in lower case, without a trailing dot. A name of its own beats a wildcard, which holds one label.
        """
        route = self.routes.get(Place("host", name))
        if route is None:
            _, dot, parent = name.partition(".")
            if dot:
                route = self.routes.get(Place("host", f"*.{parent}"))
        return route

    def former(self, name: str) -> Former | None:
        """
        @param name: one that L{host} has found nobody for.
        @return: what was there before, as far as it is remembered.
        """
        left = self._left.get(hostPlace(name)) or self._left.get(hostPlace(f"*.{name.partition('.')[2]}"))
        return None if left is None else Former(left[0], isGone=left[1] not in self._agents)

    def prefix(self, target: str) -> tuple[Route, str] | None:
        """
        Who serves a path at the gateway's own name: the longest prefix of whole segments wins. A path is taken as it
        was sent, so none is found by two spellings, and C{..} in it leads nowhere else than to the prefix before it.

        @param target: of a request: a path, and maybe a query.
        @return: the route, whose place is the prefix, and the target as it is below it, which begins with a slash.
        """
        found, end = None, 0
        path = target.partition("?")[0]
        for _ in range(MAX_SEGMENTS):
            end = path.find("/", end + 1)
            prefix = path if end < 0 else path[:end]
            if (route := self.routes.get(Place("prefix", prefix))) is not None:
                rest = target[len(prefix) :]
                found = route, rest if rest.startswith("/") else f"/{rest}"
            if end < 0:
                break
        return found
