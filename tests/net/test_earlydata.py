"""
Tests for what a relay passes on before its far side is known to exist.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.interfaces import IEarlyData, IEarlyEndpoint
from gateway.net.relay import Outcome, Relay, RelaySettings
from gateway.testing import FlowEndpoint, FlowLink, flowPair
from tests.net.sides import Peer


@implementer(IEarlyEndpoint)
class EarlyFlowEndpoint(FlowEndpoint):
    """An endpoint that records what comes early, once for each of its tries."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.tries: list[list[bytes]] = []
        self.early: IEarlyData | None = None

    def connectEarly(self, factory: IProtocolFactory, early: IEarlyData) -> Deferred[IProtocol]:
        """Take early data for a first try."""
        self.early = early
        self.tryAgain()
        return self.connect(factory)

    def tryAgain(self) -> None:
        """Take all of it again."""
        assert self.early is not None
        self.tries.append([])
        self.early.follow(self.tries[-1].append)


class EarlyDataTests(SynchronousTestCase):
    """
    An L{IEarlyEndpoint} gets what the near side sends while the dial goes on.
    """

    def setUp(self) -> None:
        self.outcomes: list[Outcome] = []
        self.relay = Relay(Clock(), self.outcomes.append, settings=RelaySettings(pending=10))
        self.visitor = Peer()
        self.link: FlowLink = flowPair(self.relay.near, self.visitor)
        self.endpoint = EarlyFlowEndpoint()

    def say(self, data: bytes) -> None:
        """The visitor sends."""
        self.visitor.transport.write(data)
        self.link.pump()

    def test_bytesInHandAndLaterOnes(self) -> None:
        """What came before the dial and what comes during it is passed on at once, in order."""
        self.say(b"one ")
        self.relay.connect(self.endpoint)
        self.assertEqual(self.endpoint.tries, [[b"one "]])
        self.say(b"two")
        self.assertEqual(self.endpoint.tries, [[b"one ", b"two"]])

    def test_nothingTwice(self) -> None:
        """When the far side is there, what the endpoint sent is not sent again, and what follows is the relay's."""
        self.say(b"early")
        self.relay.connect(self.endpoint)
        far = Peer()
        link = self.endpoint.attempts[0].accept(far)
        self.say(b"later")
        link.pump()
        self.assertEqual(bytes(far.received), b"later")
        self.assertEqual(self.endpoint.tries, [[b"early"]])

    def test_anotherTry(self) -> None:
        """An endpoint that tries again gets everything from the beginning, and the try before it no more."""
        self.say(b"one ")
        self.relay.connect(self.endpoint)
        self.say(b"two")
        self.endpoint.tryAgain()
        self.say(b" 3")
        self.assertEqual(self.endpoint.tries, [[b"one ", b"two"], [b"one ", b"two", b" 3"]])

    def test_bounded(self) -> None:
        """What comes early is limited as what waits is: then the near side is not read any more."""
        self.relay.connect(self.endpoint)
        self.say(b"0123456789")
        self.say(b"more")
        self.assertEqual(self.endpoint.tries, [[b"0123456789"]])
        link = self.endpoint.attempts[0].accept(far := Peer())
        self.link.pump()
        link.pump()
        self.assertEqual(bytes(far.received), b"more")

    def test_otherEndpointsAreDialledAsAlways(self) -> None:
        """An endpoint that knows nothing of early data gets it all when it has connected."""
        plain = FlowEndpoint()
        self.say(b"early")
        self.relay.connect(plain)
        far = Peer()
        plain.attempts[0].accept(far).pump()
        self.assertEqual(bytes(far.received), b"early")
