"""
Tests for who serves which name and port.
"""

from __future__ import annotations

from random import Random

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.domain.attachment import IAttachment
from gateway.domain.grant import Grant
from gateway.domain.registry import Former, IDoors, PortRules, PortUnavailable, Problem, Registry
from gateway.domain.routes import Place, Route
from gateway.wire.agentcontrol import Service, ServiceError
from gateway.wire.httpoptions import HttpOptions
from tests.domain.attachments import FakeAttachment


def web(*names: str, key: str = "web") -> Service:
    """A service with names."""
    return Service(key=key, kind="http", hostnames=names)


def below(*prefixes: str, key: str = "web") -> Service:
    """A service at prefixes."""
    return Service(key=key, kind="http", prefixes=prefixes)


def tcp(port: int, key: str = "ssh") -> Service:
    """A service with a port."""
    return Service(key=key, kind="tcp", port=port)


@implementer(IDoors)
class RecordingDoors:
    """Opens no port, and remembers which it would have."""

    def __init__(self) -> None:
        self.isOpen: list[Place] = []
        self.ours: set[Place] = {Place("tcp", 8443)}
        self.broken: set[int | str] = set()
        self.history: list[str] = []

    def isOurs(self, place: Place) -> bool:
        return place in self.ours

    def open(self, route: Route) -> None:
        if route.place.name in self.broken:
            raise PortUnavailable("Address already in use")
        self.history.append(f"open {route.place}")
        self.isOpen.append(route.place)

    def close(self, route: Route) -> None:
        self.history.append(f"close {route.place}")
        self.isOpen.remove(route.place)


class RegistryTests(SynchronousTestCase):
    """
    L{Registry}.
    """

    def setUp(self) -> None:
        self.doors = RecordingDoors()
        self.registry = Registry(PortRules(automatic=(20000, 20002)), self.doors, random=Random(1).random)
        self.alice = FakeAttachment("alice")
        self.bob = FakeAttachment("bob")
        for each in (self.alice, self.bob):
            self.assertIsNone(self.registry.attach(each))

    def offer(self, attachment: FakeAttachment, *services: Service) -> dict[str, tuple[Place, ...] | Problem]:
        """An agent offers services, and nothing else any more."""
        return self.registry.offer(attachment, services)

    def refusal(self, attachment: FakeAttachment, service: Service) -> ServiceError:
        """Why a service is not served."""
        problem = self.offer(attachment, service)[service.key]
        assert isinstance(problem, Problem)
        return problem.code

    def serving(self, name: str) -> list[IAttachment]:
        """Who serves a name."""
        route = self.registry.host(name)
        return [] if route is None else list(route.replicas)

    def test_names(self) -> None:
        """A name that was offered is served by who offered it; others by nobody."""
        outcome = self.offer(self.alice, web("a.example", "b.example"))
        self.assertEqual(outcome, {"web": (Place("host", "a.example"), Place("host", "b.example"))})
        self.assertEqual(self.serving("a.example"), [self.alice])
        self.assertEqual(self.serving("c.example"), [])

    def test_exactBeatsWildcard(self) -> None:
        """A wildcard holds one label, and a name of its own comes first, whoever owns the wildcard."""
        self.offer(self.alice, web("*.example"))
        self.offer(self.bob, web("b.example"))
        self.assertEqual(self.serving("a.example"), [self.alice])
        self.assertEqual(self.serving("b.example"), [self.bob])
        self.assertEqual(self.serving("x.a.example"), [])
        self.assertEqual(self.serving("example"), [])

    def found(self, target: str) -> tuple[str, str] | None:
        """The agent that serves a request's target at the gateway's own name, and what the origin gets."""
        found = self.registry.prefix(target)
        return None if found is None else (found[0].agent, found[1])

    def test_prefixes(self) -> None:
        """The longest prefix of whole segments leads to its service, which gets the rest of the target."""
        self.offer(self.alice, below("/team"))
        self.offer(self.bob, below("/team/node", "/x/y/z"))
        for target, expected in (
            ("/team", ("alice", "/")),
            ("/team/", ("alice", "/")),
            ("/team?a/team/node", ("alice", "/?a/team/node")),
            ("/team/a/b?c", ("alice", "/a/b?c")),
            ("/team/nodes", ("alice", "/nodes")),
            ("/team/node", ("bob", "/")),
            ("/team/node/a?b=/c", ("bob", "/a?b=/c")),
            ("/team//node", ("alice", "//node")),
            ("/team/../team/node", ("alice", "/../team/node")),
            ("/team%2fnode", None),
            ("/teams", None),
            ("//team", None),
            ("/x/y", None),
            ("/x/y/z/a/b/c/d/e/f/g", ("bob", "/a/b/c/d/e/f/g")),
            ("/", None),
            ("*", None),
            ("", None),
        ):
            self.assertEqual(self.found(target), expected, target)
        self.registry.detach(self.bob)
        self.assertEqual(self.found("/team/node"), ("alice", "/node"))
        self.assertEqual(self.doors.history, [])

    def test_prefixAndName(self) -> None:
        """A service may have names and prefixes, and has both or none."""
        service = Service(key="web", kind="http", hostnames=("a.example",), prefixes=("/a",))
        self.assertEqual(self.offer(self.alice, service), {"web": (Place("host", "a.example"), Place("prefix", "/a"))})
        self.assertEqual(self.serving("a.example"), [self.alice])
        self.assertEqual(self.found("/a/b"), ("alice", "/b"))
        both = Service(key="web", kind="http", hostnames=("b.example",), prefixes=("/a",))
        self.assertEqual(self.refusal(self.bob, both), ServiceError.TAKEN)
        self.assertEqual(self.serving("b.example"), [])
        self.bob.grant = Grant(hostnames=("*",))
        self.assertEqual(self.refusal(self.bob, replace(both, prefixes=("/b",))), ServiceError.NOT_ALLOWED)
        self.offer(self.alice)
        self.assertEqual(self.registry.routes, {})

    def test_invalidOptions(self) -> None:
        """A service that asks for what cannot be is not served, and its agent told what is wrong."""
        service = replace(below("/a"), http=HttpOptions(access=("allow 10.0.0.1/8",)))
        problem = self.offer(self.alice, service)["web"]
        assert isinstance(problem, Problem)
        self.assertEqual(problem.code, ServiceError.INVALID_OPTIONS)
        self.assertIn("10.0.0.0/8", problem.details)
        self.assertEqual(self.registry.routes, {})

    def test_ourOwnPath(self) -> None:
        """What the gateway itself answers is nobody's."""
        self.doors.ours.add(Place("prefix", "/agent"))
        self.assertEqual(self.refusal(self.alice, below("/agent")), ServiceError.TAKEN)

    def test_takenNames(self) -> None:
        """A name belongs to one agent, and a service that wants another's gets none of its names."""
        self.offer(self.alice, web("a.example"))
        self.assertEqual(self.refusal(self.bob, web("b.example", "a.example")), ServiceError.TAKEN)
        self.assertEqual(self.serving("a.example"), [self.alice])
        self.assertEqual(self.serving("b.example"), [])

    def test_freedAtOnce(self) -> None:
        """The moment that a session is detached its names and ports are anybody's."""
        self.offer(self.alice, web("a.example"), tcp(2222))
        self.registry.detach(self.alice)
        self.registry.detach(self.alice)
        self.assertEqual(self.registry.routes, {})
        self.assertEqual(self.doors.isOpen, [])
        self.assertIsInstance(self.offer(self.bob, web("a.example"))["web"], tuple)
        self.assertEqual(list(self.registry.attachments), [self.bob])
        self.assertEqual(list(self.registry.replicas("alice")), [])

    def test_former(self) -> None:
        """What was at a name is remembered until somebody serves it again, with whether its agent is here."""
        tls = Service(key="tls", kind="tls", hostnames=("b.example",))
        self.assertIsNone(self.registry.former("a.example"))
        self.offer(self.alice, web("a.example", "*.c.example"), tls)
        self.assertIsNone(self.registry.former("a.example"))
        self.offer(self.alice, tls)
        self.assertEqual(self.registry.former("a.example"), Former("http", isGone=False))
        self.registry.detach(self.alice)
        self.assertEqual(self.registry.former("a.example"), Former("http", isGone=True))
        self.assertEqual(self.registry.former("x.c.example"), Former("http", isGone=True))
        self.assertEqual(self.registry.former("b.example"), Former("tls", isGone=True))
        self.assertIsNone(self.registry.former("c.example"))
        self.offer(self.bob, web("a.example"))
        self.assertIsNone(self.registry.former("a.example"))

    def test_formerOfManyAreForgotten(self) -> None:
        """No more than 10,000 names are remembered, those that were served last."""
        names = [f"n{number}.example" for number in range(10_001)]
        for start in range(0, len(names), 1000):
            self.offer(self.alice, web(*names[start : start + 1000]))
        self.registry.detach(self.alice)
        forgotten = [name for name in names if self.registry.former(name) is None]
        self.assertEqual((len(forgotten), forgotten[0] in names[:1000]), (1, True))

    def test_replicasShare(self) -> None:
        """Replicas of an agent serve one name and one port together; the last to leave takes them along."""
        other = FakeAttachment("alice", "2")
        self.assertIsNone(self.registry.attach(other))
        for each in (self.alice, other):
            self.offer(each, web("a.example"), tcp(2222))
        self.assertEqual(self.serving("a.example"), [self.alice, other])
        self.registry.detach(self.alice)
        self.assertEqual(self.serving("a.example"), [other])
        self.assertEqual(self.doors.history, ["open tcp port 2222"])
        self.registry.detach(other)
        self.assertEqual(self.doors.isOpen, [])

    def test_takeover(self) -> None:
        """A new session of the same replica has all that the old one had, at once, and no port is closed for it."""
        self.offer(self.alice, web("a.example"), tcp(2222))
        again = FakeAttachment("alice")
        self.assertIs(self.registry.attach(again), self.alice)
        self.assertEqual(self.serving("a.example"), [again])
        self.offer(again, web("a.example"), tcp(2222))
        self.registry.detach(self.alice)  # the ghost finds out
        self.assertEqual(self.serving("a.example"), [again])
        self.assertEqual(self.doors.history, ["open tcp port 2222"])

    def test_takeoverLosesWhatIsNotOfferedAgain(self) -> None:
        """What the new session does not offer is free."""
        self.offer(self.alice, web("a.example"), tcp(2222))
        again = FakeAttachment("alice")
        self.registry.attach(again)
        self.offer(again)
        self.assertEqual(self.registry.routes, {})
        self.assertEqual(self.doors.isOpen, [])

    def test_update(self) -> None:
        """Services come and go; what stays is not touched."""
        self.offer(self.alice, web("a.example", "b.example"), tcp(2222))
        before = self.registry.host("a.example")
        self.offer(self.alice, web("a.example", "c.example"), tcp(2222), tcp(2223, "more"))
        self.assertIs(self.registry.host("a.example"), before)
        self.assertEqual(self.serving("b.example"), [])
        self.assertEqual(self.serving("c.example"), [self.alice])
        self.assertEqual(self.doors.history, ["open tcp port 2222", "open tcp port 2223"])

    def test_placesMoveBetweenServices(self) -> None:
        """A name and a port go over to another service of the agent without being free in between."""
        self.offer(self.alice, web("a.example"), tcp(2222))
        self.offer(self.alice, web("a.example", key="new"), tcp(2222, "newer"))
        route = self.registry.host("a.example")
        assert route is not None
        self.assertEqual(route.service.key, "new")
        self.assertEqual(self.doors.history, ["open tcp port 2222"])

    def test_grants(self) -> None:
        """An agent gets the names and ports that belong to it, and no others."""
        carol = FakeAttachment("carol", grant=Grant(hostnames=("*.carol.example",), ports=((3000, 3001),)))
        self.registry.attach(carol)
        self.assertIsInstance(self.offer(carol, web("x.carol.example"))["web"], tuple)
        self.assertIsInstance(self.offer(carol, tcp(3001))["ssh"], tuple)
        self.assertEqual(self.refusal(carol, web("carol.example")), ServiceError.NOT_ALLOWED)
        self.assertEqual(self.refusal(carol, tcp(3002)), ServiceError.NOT_ALLOWED)
        self.assertEqual(self.refusal(carol, tcp(0)), ServiceError.UNAVAILABLE)

    def test_ports(self) -> None:
        """A port is opened once, and belongs to one agent; TCP and UDP do not meet."""
        self.assertEqual(self.offer(self.alice, tcp(2222)), {"ssh": (Place("tcp", 2222),)})
        self.assertEqual(self.refusal(self.bob, tcp(2222)), ServiceError.TAKEN)
        dns = Service(key="dns", kind="udp", port=2222)
        self.assertEqual(self.offer(self.bob, dns), {"dns": (Place("udp", 2222),)})
        self.assertEqual(self.doors.isOpen, [Place("tcp", 2222), Place("udp", 2222)])

    def test_privilegedPorts(self) -> None:
        """Ports below 1024 are given out only where that is allowed."""
        self.assertEqual(self.refusal(self.alice, tcp(1023)), ServiceError.NOT_ALLOWED)
        self.assertIsInstance(self.offer(self.alice, tcp(1024))["ssh"], tuple)
        open_ = Registry(PortRules(privileged=True), self.doors)
        open_.attach(self.alice)
        self.assertEqual(open_.offer(self.alice, [tcp(22)]), {"ssh": (Place("tcp", 22),)})

    def test_ourOwnPorts(self) -> None:
        """The gateway's own ports are nobody's."""
        self.assertEqual(self.refusal(self.alice, tcp(8443)), ServiceError.TAKEN)

    def test_ourOwnName(self) -> None:
        """Neither is its name, whatever an agent may have."""
        self.doors.ours.add(Place("host", "gw.example"))
        self.assertEqual(self.refusal(self.alice, web("app.example", "gw.example", key="ssh")), ServiceError.TAKEN)
        self.assertIsNone(self.registry.host("app.example"))

    def test_unavailablePorts(self) -> None:
        """A port that cannot be opened is refused, and stays nobody's."""
        self.doors.broken = {2222}
        self.assertEqual(self.refusal(self.alice, tcp(2222)), ServiceError.UNAVAILABLE)
        self.assertEqual(self.registry.routes, {})
        self.doors.broken = set()
        self.assertIsInstance(self.offer(self.bob, tcp(2222))["ssh"], tuple)

    def test_defectiveDoor(self) -> None:
        """When a door raises what no door may, there is no place left that nobody could give back."""
        self.offer(self.alice, web("old.example"))

        def open(route: Route) -> None:
            raise RuntimeError

        self.doors.open = open  # type: ignore[method-assign]
        self.assertRaises(
            RuntimeError, self.offer, self.alice, web("new.example"), tcp(2222), web("a.example", key="a")
        )
        self.registry.detach(self.alice)
        self.assertEqual(self.registry.routes, {})

    def port(self, attachment: FakeAttachment, key: str = "any") -> int:
        """The port that the gateway chose."""
        places = self.offer(attachment, tcp(0, key))[key]
        assert isinstance(places, tuple)
        return int(places[0].name)

    def test_chosenPorts(self) -> None:
        """A port that the gateway chooses is a free one of the range; when none is free there is none."""
        self.doors.broken = {20001}
        ports = {self.port(self.alice), self.port(self.bob)}
        self.assertEqual(ports, {20000, 20002})
        carol = FakeAttachment("carol")
        self.registry.attach(carol)
        self.assertEqual(self.refusal(carol, tcp(0)), ServiceError.UNAVAILABLE)

    def test_chosenPortsStay(self) -> None:
        """A service keeps the port that was chosen, through updates, takeovers and absences."""
        port = self.port(self.alice)
        self.assertEqual({self.port(self.alice) for _ in range(20)}, {port})
        self.registry.detach(self.alice)
        again = FakeAttachment("alice")
        self.registry.attach(again)
        self.assertEqual(self.port(again), port)

    def test_chosenPortsDiffer(self) -> None:
        """No port is chosen that another service of the same agent has or names, in whatever order they come."""
        registry = Registry(PortRules(automatic=(20000, 20003)), self.doors, random=Random(3).random)
        registry.attach(self.alice)
        services = [tcp(0, "a"), tcp(0, "b"), tcp(20001, "c"), tcp(0, "d")]
        outcomes = registry.offer(self.alice, services)
        self.assertEqual(len(set(outcomes.values())), 4)
        self.assertEqual(outcomes["c"], (Place("tcp", 20001),))
        chosen = outcomes["a"]
        assert isinstance(chosen, tuple)
        outcomes = registry.offer(self.alice, [tcp(0, "a"), tcp(int(chosen[0].name), "e")])
        self.assertEqual(outcomes["e"], chosen)
        self.assertNotEqual(outcomes["a"], chosen)
        registry.detach(self.alice)
        self.assertEqual(registry.routes, {})

    def test_listing(self) -> None:
        """All sessions, and those of one agent, can be listed."""
        other = FakeAttachment("alice", "2")
        self.registry.attach(other)
        self.assertEqual(list(self.registry.attachments), [self.alice, self.bob, other])
        self.assertEqual(list(self.registry.replicas("alice")), [self.alice, other])
