"""
Tests for where an edge agent lets people connect to.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.rules import parseRule
from gateway.net.dial import DialFailed
from gateway.net.udp import DATAGRAM_IDLE
from gateway.service.networkrelay.edgeagenttargets import IDLE, EdgeTargets
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Preamble, Target
from gateway.wire.proxyheader import ProxyHeader
from tests.net.sides import Peer
from tests.service.test_target import Resolver


class TargetsTests(SynchronousTestCase):
    """L{EdgeTargets}."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.resolver = Resolver(box_test=["10.0.0.1"], outside_test=["203.0.113.1"])
        self.reactor.nameResolver = cast(IHostnameResolver, self.resolver)

    def connect(self, host: str, *rules: str, isDatagram: bool = False) -> Deferred[IProtocol]:
        """Ask for a target of port 22."""
        targets = EdgeTargets(self.reactor, [parseRule("allow", each) for each in rules])  # type: ignore[arg-type]
        endpoint, _ = targets.endpointFor(host, 22, isDatagram=isDatagram)
        return endpoint.connect(Factory.forProtocol(Peer))

    def assertDials(self, host: str, address: str, *rules: str) -> None:
        """It is dialled."""
        self.connect(host, *rules)
        self.assertEqual(self.reactor.tcpClients.pop()[:2], (address, 22))

    def assertRefused(self, host: str, *rules: str, isDatagram: bool = False) -> None:
        """It is not."""
        connecting = self.connect(host, *rules, isDatagram=isDatagram)
        self.assertIn(host, self.failureResultOf(connecting, DialFailed).value.details)
        self.assertEqual(self.reactor.tcpClients, [])

    def test_noRules(self) -> None:
        """Without rules everything may be reached, as with the original: this machine, and its cloud's metadata."""
        for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "203.0.113.1"):
            self.assertDials(address, address)
        self.assertDials("BOX.test", "10.0.0.1")

    def test_rules(self) -> None:
        """With rules nothing else is reached, by whatever name and protocol."""
        self.assertDials("10.0.0.1", "10.0.0.1", "10.0.0.0/8:22")
        self.assertDials("box.test", "10.0.0.1", "10.0.0.0/8:22")
        for isDatagram in (False, True):
            self.assertRefused("127.0.0.1", "10.0.0.0/8:22", isDatagram=isDatagram)
            self.assertRefused("10.0.0.1", "10.0.0.0/8:23", isDatagram=isDatagram)
            self.assertRefused("outside.test", "10.0.0.0/8", isDatagram=isDatagram)

    def test_noHost(self) -> None:
        """What can be no host is refused with a sentence."""
        targets = EdgeTargets(self.reactor)  # type: ignore[arg-type]
        self.assertRaises(DialFailed, targets.endpointFor, "no host", 22, isDatagram=False)

    def test_decide(self) -> None:
        """A stream's preamble names a target, and never a service; datagrams have an idle time of their own."""
        targets = EdgeTargets(self.reactor)  # type: ignore[arg-type]
        for isDatagram, idle in ((False, IDLE), (True, DATAGRAM_IDLE)):
            preamble = Preamble(Target("10.0.0.1", 22), ProxyHeader(datagram=isDatagram))
            self.assertEqual(targets.decide(preamble)[1].idleTimeout, idle)
        self.assertRaises(RemoteProtocolError, targets.decide, Preamble("web", ProxyHeader()))

    def test_address(self) -> None:
        """Only an address that was checked is dialled."""
        self.resolver._names["box.test"] = ["203.0.113.1", "10.0.0.1"]
        self.assertDials("box.test", "10.0.0.1", "10.0.0.0/8")
