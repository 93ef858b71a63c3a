"""
Tests for a Tabby gateway in the process of a gateway, whose users reach what is behind agents.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.identity import Identity
from gateway.domain.targets import Target, parseRuleLine
from gateway.net.dial import DialFailed, DialFailure
from gateway.service.server.destinations import Destinations
from gateway.service.tabby.options import TabbyOptions
from gateway.service.tabby.service import IReactor, TabbyService
from gateway.service.target import TargetEndpoint
from tests.net.sides import Peer
from tests.service.server.doorsfixture import SSH, WEB, Doors


class TabbyTunnelTests(SynchronousTestCase):
    """
    L{TabbyService}, with L{Destinations}.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.doors.attached("box", SSH, WEB)
        self.destinations = Destinations(self.doors.registry, self.doors.clock)

    def service(self, *words: str, destinations: Destinations | None = None) -> TabbyService:
        """A Tabby gateway."""
        options = TabbyOptions()
        options.parseOptions(list(words or ("--state", self.mktemp())))
        return TabbyService(cast(IReactor, MemoryReactorClock()), options, destinations or self.destinations)

    def dial(self, service: TabbyService, host: str, *rules: str) -> DialFailed | None:
        """Dial a name with a token that has these rules; why it leads nowhere."""
        targets = tuple(map(parseRuleLine, rules)) if rules else None
        endpoint = service._endpointFor(Target(host, 22), Identity("alice", targets))
        failures: list[Any] = []
        endpoint.connect(Factory.forProtocol(Peer)).addErrback(failures.append)
        self.doors.pump()
        return cast(DialFailed, failures[0].value) if failures else None

    def test_leads(self) -> None:
        """A name of an agent's service leads there."""
        self.assertIsNone(self.dial(self.service(), "ssh.box.agent"))
        self.assertEqual(self.doors.preambles[-1].to, "ssh")

    def test_elsewhere(self) -> None:
        """Every other target is dialled as ever, and so are all without a tunnel."""
        service = self.service()
        self.assertIsInstance(service._endpointFor(Target("box", 22), Identity("alice")), TargetEndpoint)
        service._destinations = None
        self.assertIsInstance(service._endpointFor(Target("ssh.box.agent", 22), Identity("alice")), TargetEndpoint)

    def test_rules(self) -> None:
        """The rules of a token decide by the name; rules for addresses do not let it in."""
        service = self.service()
        for rules, allowed in (
            (("allow ssh.box.agent",), True),
            (("allow *.agent",), True),
            (("deny web.box.agent", "allow *.box.agent"), True),
            (("deny ssh.box.agent",), False),
            (("allow 10.0.0.0/8",), False),
            (("allow 10.0.0.0/8", "allow ssh.box.agent"), True),
            (("allow ssh.box.agent:23",), False),
        ):
            error = self.dial(service, "ssh.box.agent", *rules)
            self.assertEqual(error is None, allowed, rules)
            if error is not None:
                self.assertIs(error.kind, DialFailure.DENIED)

    def test_refusedFirst(self) -> None:
        """Who may not go there does not learn whether there is such an agent."""
        error = self.dial(self.service(), "ssh.nobody.agent", "deny *.agent")
        assert error is not None
        self.assertIs(error.kind, DialFailure.DENIED)

    def test_withoutTokens(self) -> None:
        """Where nobody is asked for a token, a rule has to name what they may reach."""
        self.assertIsNotNone(self.dial(self.service("--no-auth"), "ssh.box.agent"))
        self.assertIsNone(self.dial(self.service("--no-auth", "--allow", "ssh.box.agent"), "ssh.box.agent"))
