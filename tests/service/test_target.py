"""Tests for L{gateway.service.target}: from a name to a connection, past the policy."""

from ipaddress import ip_address
from typing import cast

from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IProtocol, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.identity import Identity
from gateway.domain.targets import TargetPolicy, parseRuleLine, parseTarget
from gateway.net.dial import DialFailed, DialFailure
from gateway.service.target import TargetEndpoint, TargetRefused, policyFor


class Resolver:
    """
    Knows some names, and counts how often it is asked.

    @ivar asked: the names, in order.
    """

    def __init__(self, **names: list[str]) -> None:
        self._names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []

    def resolveHostName(
        self, receiver: IResolutionReceiver, hostName: str, portNumber: int = 0, *args: object, **kwargs: object
    ) -> IHostResolution:
        """Answer at once."""
        self.asked.append(hostName)
        resolution = HostResolution(hostName)
        receiver.resolutionBegan(resolution)
        for address in self._names.get(hostName, []):
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return resolution


class TargetEndpointTests(SynchronousTestCase):
    """L{TargetEndpoint}."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.resolver = Resolver(
            box_test=["203.0.113.1"],
            inside_test=["10.0.0.1"],
            mixed_test=["10.0.0.1", "203.0.113.2"],
            metadata_test=["169.254.169.254"],
        )
        self.reactor.nameResolver = cast(IHostnameResolver, self.resolver)

    def connect(self, target: str, *rules: str, strict: bool = False) -> Deferred[IProtocol]:
        """Dial a target under these rules."""
        policy = TargetPolicy([parseRuleLine(rule) for rule in rules], strict=strict)
        endpoint = TargetEndpoint(self.reactor, parseTarget(target), policy)  # type: ignore[arg-type]
        return endpoint.connect(Factory.forProtocol(Protocol))

    def assertRefused(self, target: str, *rules: str, strict: bool = False) -> TargetRefused:
        """The policy refuses, and nothing is dialled."""
        failure = self.failureResultOf(self.connect(target, *rules, strict=strict), TargetRefused)
        self.assertEqual(self.reactor.tcpClients, [])
        error = failure.value
        assert isinstance(error, TargetRefused)
        self.assertIs(error.kind, DialFailure.DENIED)
        return error

    @property
    def dialled(self) -> list[tuple[str, int]]:
        """What was dialled."""
        return [(client[0], client[1]) for client in self.reactor.tcpClients]

    def test_dialsTheCheckedAddress(self) -> None:
        """A name is resolved once, and the address that was checked is dialled, never the name."""
        self.connect("box.test:22")
        self.assertEqual((self.dialled, self.resolver.asked), ([("203.0.113.1", 22)], ["box.test"]))

    def test_addressIsNotResolved(self) -> None:
        """An address is dialled as it is."""
        self.connect("203.0.113.9:22")
        self.assertEqual((self.dialled, self.resolver.asked), ([("203.0.113.9", 22)], []))

    def test_refusedNameIsNotResolved(self) -> None:
        """A name that the rules refuse is not even looked up."""
        error = self.assertRefused("box.test:22", "deny *.test")
        self.assertEqual((error.refusal.rule, self.resolver.asked), ("deny *.test", []))

    def test_nameOfARefusedAddress(self) -> None:
        """A harmless name that leads to a refused address is refused, and the person is not told the address."""
        error = self.assertRefused("inside.test:22", "deny 10.0.0.0/8")
        self.assertNotIn("10.0.0.1", error.details)
        self.assertIn("inside.test:22", error.details)
        self.assertRefused("metadata.test:80", "allow metadata.test")
        self.assertRefused("inside.test:22", strict=True)

    def test_onlyAllowedAddresses(self) -> None:
        """Of several addresses only those that are allowed are dialled."""
        self.connect("mixed.test:22", "deny 10.0.0.0/8")
        self.assertEqual(self.dialled, [("203.0.113.2", 22)])

    def test_unknownName(self) -> None:
        """A name without addresses fails as such."""
        failure = self.failureResultOf(self.connect("nowhere.test:22"), DialFailed)
        self.assertIs(failure.value.kind, DialFailure.NAME)

    def test_cancel(self) -> None:
        """A cancelled attempt is given up at the socket."""
        connecting = self.connect("box.test:22")
        connecting.cancel()
        self.failureResultOf(connecting)
        self.assertEqual(self.reactor.connectors[0].getDestination().host, "203.0.113.1")
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)

    def test_sentences(self) -> None:
        """Whatever goes wrong has a sentence for a person."""
        for error in (ConnectionRefusedError(), DNSLookupError(), OSError("x")):
            self.assertRegex(DialFailed.fromFailure(Failure(error)).details, r"\A[A-Z].* .*\.\Z")


class PolicyForTests(SynchronousTestCase):
    """L{policyFor}: a token can only narrow what the gateway allows."""

    def allows(self, identity: Identity, address: str) -> bool:
        """Whether an identity reaches an address on a gateway that refuses 10.0.0.0/8."""
        policy = policyFor(identity, TargetPolicy([parseRuleLine("deny 10.0.0.0/8")]))
        return policy.check(None, ip_address(address), 22) is None

    def test_withoutRules(self) -> None:
        """An identity without rules reaches what the gateway allows."""
        who = Identity("alice")
        self.assertEqual([self.allows(who, a) for a in ("203.0.113.1", "10.0.0.1")], [True, False])

    def test_narrows(self) -> None:
        """Its rules narrow that, and cannot widen it."""
        who = Identity("alice", targets=(parseRuleLine("allow 203.0.113.1"), parseRuleLine("allow 10.0.0.0/8")))
        self.assertEqual(
            [self.allows(who, a) for a in ("203.0.113.1", "203.0.113.2", "10.0.0.1")], [True, False, False]
        )

    def test_emptyList(self) -> None:
        """An identity with an empty list of targets reaches nothing."""
        self.assertFalse(self.allows(Identity("alice", targets=()), "203.0.113.1"))

    def test_builtInsAreTheGatewaysAlone(self) -> None:
        """What the gateway lifted on purpose is not refused again by a token that allows everything."""
        gateway = TargetPolicy([parseRuleLine("allow 169.254.169.254")])
        policy = policyFor(Identity("alice", targets=(parseRuleLine("allow *"),)), gateway)
        self.assertIsNone(policy.check(None, ip_address("169.254.169.254"), 80))

    def test_builtInsStay(self) -> None:
        """A token's rule lifts no built-in refusal."""
        self.assertFalse(
            self.allows(Identity("a", targets=(parseRuleLine("allow 169.254.169.254"),)), "169.254.169.254")
        )
