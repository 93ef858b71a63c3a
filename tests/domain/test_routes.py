"""
Tests for routes, and for who serves the next visitor of one.
"""

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.routes import FAILED_SECONDS, Replica, Route, hostPlace, portPlace, prefixPlace
from gateway.wire.agentcontrol import Service
from tests.domain.attachments import FakeAttachment

WEB = Service(key="web", kind="http", hostnames=("app.example",))


def route(*loads: int, service: Service = WEB) -> tuple[Route, list[Replica]]:
    """A route with a replica for each load."""
    route = Route(hostPlace("app.example"), "alice", Random(1).random)
    for number, load in enumerate(loads):
        attachment = FakeAttachment("alice", str(number), load=load)
        route.replicas[attachment] = Replica(attachment, service)
    return route, list(route.replicas.values())


class RouteTests(SynchronousTestCase):
    """
    L{Route.choose}.
    """

    def test_onlyOne(self) -> None:
        """With one replica there is no choice, though it failed."""
        only, (replica,) = route(7)
        replica.failed(0.0)
        self.assertIs(only.choose(0.0), replica)

    def test_lessLoadedOfTwo(self) -> None:
        """With two, the less loaded one is chosen, always."""
        two, replicas = route(3, 2)
        self.assertEqual({two.choose(0.0) for _ in range(50)}, {replicas[1]})

    def test_notAlwaysTheSame(self) -> None:
        """With many, the most loaded is never chosen, and the least loaded does not get everybody."""
        many, replicas = route(0, 1, 2, 3)
        chosen = Counter(many.choose(0.0) for _ in range(600))
        self.assertNotIn(replicas[3], chosen)
        self.assertEqual(len(chosen), 3)
        self.assertTrue(200 < chosen[replicas[0]] < 400, chosen)

    def test_failedOnesArePassedOver(self) -> None:
        """One that failed gets nobody for a while, then again."""
        two, (first, second) = route(0, 9)
        first.failed(10.0)
        self.assertIs(two.choose(10.0 + FAILED_SECONDS - 0.01), second)
        self.assertIs(two.choose(10.0 + FAILED_SECONDS), first)

    def test_workingAgain(self) -> None:
        """One that served somebody since is as good as the others."""
        two, (first, _) = route(0, 9)
        first.failed(10.0)
        first.worked()
        self.assertIs(two.choose(10.0), first)

    def test_allFailed(self) -> None:
        """When all have failed, they are tried all the same."""
        two, (first, second) = route(0, 9)
        first.failed(0.0)
        second.failed(0.0)
        self.assertIs(two.choose(0.0), first)

    def test_anotherTry(self) -> None:
        """Those that were tried are not tried again; when no other is left there is nobody."""
        two, (first, second) = route(0, 9)
        self.assertIs(two.choose(0.0, {first}), second)
        self.assertIsNone(two.choose(0.0, {first, second}))

    def test_unhealthy(self) -> None:
        """One whose origin is not healthy gets nobody; when none is, there is nobody."""
        two, (first, second) = route(0, 9)
        first.service = Service(key="web", kind="http", hostnames=("app.example",), healthy=False)
        self.assertIs(two.choose(0.0), second)
        second.service = first.service
        self.assertIsNone(two.choose(0.0))

    def test_gone(self) -> None:
        """A route that was withdrawn serves nobody, whoever still has it in hand."""
        gone, _ = route()
        self.assertIsNone(gone.choose(0.0))

    def test_newestDecidesWhatIsServed(self) -> None:
        """While replicas differ in what they serve, those that say what the newest does not are left out."""
        two, (_, second) = route(0, 9)
        second.service = Service(key="web", kind="tls", hostnames=("app.example",))
        self.assertEqual(two.service.kind, "tls")
        self.assertIs(two.choose(0.0), second)
        self.assertIsNone(two.choose(0.0, {second}))

    def test_places(self) -> None:
        """Places are named as people do."""
        self.assertEqual(str(hostPlace("a.example")), "a.example")
        self.assertEqual(str(prefixPlace("/node")), "/node")
        self.assertEqual(str(portPlace("udp", 53)), "udp port 53")
        self.assertEqual([each.isPort for each in (hostPlace("a.example"), prefixPlace("/node"))], [False, False])
        self.assertTrue(portPlace("udp", 53).isPort)
