"""
Tests for where a visitor's stream can lead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.routes import Route
from gateway.domain.targets import Target
from gateway.net.dial import DialFailed, DialFailure
from gateway.service.server.attached import Visitor
from gateway.service.server.destinations import AgentTarget, Destinations, RouteEndpoint, parseAgentTarget, viaName
from gateway.wire.agentcontrol import Service
from gateway.wire.hostname import isHostName
from gateway.wire.preamble import Target as StreamTarget
from tests.net.sides import Peer
from tests.service.server.doorsfixture import SSH, WEB, Doors

VISITOR = Visitor(None, None)


class Early:
    """What a visitor sent before there was anybody."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def follow(self, write: Callable[[bytes], object]) -> None:
        """Write it."""
        if self._data:
            write(self._data)


class RouteEndpointTests(SynchronousTestCase):
    """
    L{RouteEndpoint}.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        for replica in ("a", "b", "c"):
            self.doors.attached("box", SSH, replica=replica)
        (self.route,) = self.doors.registry.routes.values()
        self.chosen: list[str] = []

    def dial(self, route: Route | None = None, early: bytes = b"") -> tuple[Peer, Deferred[IProtocol]]:
        """Dial the route."""
        peer = Peer()
        endpoint = RouteEndpoint(
            route or self.route,
            VISITOR,
            self.doors.clock,
            lambda replica: self.chosen.append(replica.attachment.replica),
        )
        dialled = endpoint.connectEarly(Factory.forProtocol(lambda: peer), Early(early))  # type: ignore[arg-type]
        self.doors.pump()
        return peer, dialled

    def refuse(self) -> None:
        """The last dial of an agent fails."""
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()

    def test_triesTwo(self) -> None:
        """When one replica cannot, another is tried, and no third; all of it is told."""
        _, dialled = self.dial(early=b"hello")
        self.refuse()
        self.refuse()
        self.assertEqual(len(set(self.chosen)), 2)
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertIs(error.kind, DialFailure.REFUSED)

    def test_failedOneIsPassedOver(self) -> None:
        """One that failed gets nobody for a while."""
        self.dial()
        self.refuse()
        self.doors.originAccepts()
        failed = self.chosen[0]
        self.chosen.clear()
        for _ in range(8):
            self.dial()
            self.doors.originAccepts()
        self.assertNotIn(failed, self.chosen)

    def test_nothingIsSentTwice(self) -> None:
        """When an agent is lost after it got bytes, which its origin may have seen, no other gets them."""
        _, dialled = self.dial(early=b"hello")
        for link in self.doors.links[:3]:
            link.a.abortConnection()
        self.doors.pump()
        self.assertEqual(len(self.chosen), 1)
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertIs(error.kind, DialFailure.GONE)

    def test_lostBeforeAnything(self) -> None:
        """When it was lost before there was anything to get, another may try."""
        _, dialled = self.dial()
        index = {"a": 0, "b": 1, "c": 2}[self.chosen[0]]
        self.doors.links[index].a.abortConnection()
        self.doors.pump()
        self.doors.originAccepts()
        self.successResultOf(dialled)
        self.assertEqual(len(self.chosen), 2)

    def test_cancelled(self) -> None:
        """Who gives up while dialling is given up at the agent, too."""
        _, dialled = self.dial()
        dialled.cancel()
        self.doors.pump()
        self.failureResultOf(dialled)
        self.assertTrue(self.doors.origins.attempts[-1].cancelled)
        self.assertEqual(len(self.chosen), 1)

    def test_withdrawnMeanwhile(self) -> None:
        """When the route is gone by the time that an agent refuses, that is what the visitor is told."""
        session, *others = self.doors.registry.attachments
        for each in others:
            self.doors.registry.detach(each)
        _, dialled = self.dial()
        self.doors.registry.offer(session, ())
        self.refuse()
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertIs(error.kind, DialFailure.REFUSED)

    def test_silentOneIsPassedOver(self) -> None:
        """A replica that says nothing for long gets nobody for a while; one that was just not waited for does."""
        for seconds, isFailed in ((4.0, False), (6.0, True)):
            self.chosen.clear()
            _, dialled = self.dial()
            self.doors.clock.advance(seconds)
            dialled.cancel()
            self.failureResultOf(dialled)
            now = self.doors.clock.seconds()
            failed = [each.attachment.replica for each in self.route.replicas.values() if each.hasFailed(now)]
            self.assertEqual(failed, self.chosen if isFailed else [])

    def test_nobody(self) -> None:
        """A route whose replicas all say that they are not healthy leads nowhere."""
        for link in self.doors.links:
            link.a.abortConnection()
        self.doors.pump()
        client = self.doors.attached("box", SSH)
        client.offer((Service(key="ssh", kind="tcp", port=2222, healthy=False),))
        self.doors.wait(1.25)
        (route,) = self.doors.registry.routes.values()
        _, dialled = self.dial(route)
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertIs(error.kind, DialFailure.UNAVAILABLE)


class ParseTests(SynchronousTestCase):
    """
    L{parseAgentTarget}.
    """

    def test_names(self) -> None:
        """What a name means."""
        here = "127.0.0.1"
        for host, expected in (
            ("box.agent", AgentTarget("box", target=Target(here, 22))),
            ("ssh.box.agent", AgentTarget("box", service="ssh")),
            ("db.internal.via.box.agent", AgentTarget("box", target=Target("db.internal", 22))),
            ("10.0.0.1.via.box.agent", AgentTarget("box", target=Target("10.0.0.1", 22))),
            ("fd00-0000-0000-0000-0000-0000-0000-0001.via.box.agent", AgentTarget("box", target=Target("fd00::1", 22))),
            (
                "fd00-0000-0000-0000-0000-0000-0001.via.box.agent",
                AgentTarget("box", target=Target("fd00-0000-0000-0000-0000-0000-0001", 22)),
            ),
            ("box.agents", None),
            ("example.com", None),
        ):
            self.assertEqual(parseAgentTarget(Target(host, 22)), expected, host)

    def test_via(self) -> None:
        """What is behind an agent has one name, whatever it is."""
        for host in ("10.0.0.1", "db.internal", "fd00::1", "::"):
            name = viaName(host, "box")
            self.assertTrue(isHostName(name), name)
            self.assertEqual(parseAgentTarget(Target(name, 22)), AgentTarget("box", target=Target(host, 22)))

    def test_nonsense(self) -> None:
        """A name that means nothing is refused with a sentence."""
        self.assertRaises(ValueError, parseAgentTarget, Target("a.b.box.agent", 22))


class DestinationsTests(SynchronousTestCase):
    """
    L{Destinations}.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.client = self.doors.attached("box", SSH, WEB)
        self.destinations = Destinations(self.doors.registry, self.doors.clock)

    def dial(self, host: str, port: int = 22, *, isDatagram: bool = False) -> DialFailure | None:
        """Dial a name; what it fails with at once."""
        endpoint = self.destinations.endpointFor(Target(host, port), replace(VISITOR, isDatagram=isDatagram))
        assert endpoint is not None
        failures: list[Failure] = []
        endpoint.connect(Factory.forProtocol(Peer)).addErrback(failures.append)
        self.doors.pump()
        return DialFailed.fromFailure(failures[0]).kind if failures else None

    def test_elsewhere(self) -> None:
        """Other names are not our business."""
        self.assertIsNone(self.destinations.endpointFor(Target("example.com", 22), VISITOR))

    def test_service(self) -> None:
        """A service is reached by its key, whatever it is called outside."""
        for host, key in (("ssh.box.agent", "ssh"), ("web.box.agent", "web")):
            self.assertIsNone(self.dial(host))
            self.assertEqual(self.doors.preambles[-1].to, key)

    def test_unknown(self) -> None:
        """Unknown agents, services and forms of names are told apart from others by their sentences."""
        for host in ("ssh.other.agent", "db.box.agent", "a.b.box.agent"):
            self.assertIs(self.dial(host), DialFailure.NAME)

    def test_datagrams(self) -> None:
        """A service for datagrams is for those, and others are not."""
        self.client.offer((SSH, Service(key="dns", kind="udp", port=5353)))
        self.doors.wait(1.25)
        for host, isDatagram, expected in (
            ("dns.box.agent", True, None),
            ("dns.box.agent", False, DialFailure.NAME),
            ("ssh.box.agent", True, DialFailure.NAME),
        ):
            self.assertIs(self.dial(host, isDatagram=isDatagram), expected)

    def test_target(self) -> None:
        """A target is for the agent to allow; the one of the tunnel says nothing of targets."""
        self.assertIs(self.dial("db.via.box.agent", 5432), DialFailure.DENIED)

    def test_allowedTarget(self) -> None:
        """An agent that takes targets is told which."""
        self.client.offer((SSH,), targets=True)
        self.doors.wait(1.25)
        self.assertIsNone(self.dial("db.via.box.agent", 5432))
        self.assertEqual(self.doors.preambles[-1].to, StreamTarget("db", 5432))
        self.assertIsNone(self.dial("box.agent", 8080))
        self.assertEqual(self.doors.preambles[-1].to, StreamTarget("127.0.0.1", 8080))
