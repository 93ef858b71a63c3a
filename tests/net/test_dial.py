"""Tests for L{gateway.net.dial}."""

from functools import partial
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.dial import (
    HEAD_START,
    AddressesEndpoint,
    DialFailed,
    DialFailure,
    HostEndpoint,
    IPAddress,
    limitDial,
    resolve,
)
from gateway.testing import FlowTransport

V4, OTHER_V4, V6 = (ip_address(text) for text in ("192.0.2.1", "192.0.2.2", "2001:db8::1"))


@implementer(IHostnameResolver)
class Resolver:
    """
    A resolver that is answered by the test.

    @ivar asked: every name that was looked up, and who waits for it.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, IResolutionReceiver]] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution: Any = object()
        resolutionReceiver.resolutionBegan(resolution)
        self.asked.append((hostName, resolutionReceiver))
        answer: IHostResolution = resolution
        return answer


@implementer(IReactorPluggableNameResolver)
class DialReactor(MemoryReactorClock):
    """A reactor in memory that resolves names."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = Resolver()

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Nobody does."""
        raise NotImplementedError

    @property
    def dialled(self) -> list[tuple[str, int]]:
        """The addresses that were dialled, in order."""
        return [(host, port) for host, port, *_ in self.tcpClients]

    def accept(self, attempt: int) -> None:
        """Let an attempt succeed."""
        protocol = self.tcpClients[attempt][2].buildProtocol(TCP4Address("TCP", "192.0.2.1", 22))
        assert protocol is not None
        protocol.makeConnection(StringTransport())

    def refuse(self, attempt: int, reason: Exception | None = None) -> None:
        """Let an attempt fail."""
        factory = self.tcpClients[attempt][2]
        factory.clientConnectionFailed(self.connectors[attempt], Failure(reason or ConnectionRefusedError()))


class ResolveTests(SynchronousTestCase):
    """L{resolve} turns a name into addresses."""

    def setUp(self) -> None:
        self.reactor: Any = DialReactor()

    def answer(self, *addresses: Any) -> None:
        """Complete the resolution that is under way."""
        _, receiver = self.reactor.nameResolver.asked[-1]
        for address in addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()

    def test_literals(self) -> None:
        """An address is its own answer, at once, and nobody is asked."""
        for text in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::1", "0.0.0.0"):
            self.assertEqual(self.successResultOf(resolve(self.reactor, text)), [ip_address(text)])
        self.assertEqual(self.reactor.nameResolver.asked, [])

    def test_oddSpellings(self) -> None:
        """What only the system takes for an address is left to the system."""
        for text in ("127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "localhost"):
            self.assertNoResult(resolve(self.reactor, text))
        self.assertEqual(len(self.reactor.nameResolver.asked), 5)

    def test_name(self) -> None:
        """A name's addresses come in the resolver's order, v4 and v6, each once."""
        resolving = resolve(self.reactor, "box.example")
        self.assertNoResult(resolving)
        self.assertEqual([name for name, _ in self.reactor.nameResolver.asked], ["box.example"])
        self.answer(
            TCP6Address("TCP", "2001:db8::1", 0),
            TCP4Address("TCP", "192.0.2.2", 0),
            TCP6Address("TCP", "2001:DB8:0::1", 0),
            TCP4Address("TCP", "192.0.2.1", 0),
            TCP4Address("TCP", "192.0.2.2", 0),
        )
        self.assertEqual(self.successResultOf(resolving), [V6, OTHER_V4, V4])

    def test_zone(self) -> None:
        """The zone that a resolver adds to an address is not part of it."""
        resolving = resolve(self.reactor, "box.local")
        self.answer(TCP6Address("TCP", "fe80::1%eth0", 0))
        self.assertEqual(self.successResultOf(resolving), [ip_address("fe80::1")])

    def test_otherAddresses(self) -> None:
        """What is not an IP address is passed over."""
        resolving = resolve(self.reactor, "box.example")
        self.answer(UNIXAddress("/run/box"), TCP4Address("TCP", "192.0.2.1", 0))
        self.assertEqual(self.successResultOf(resolving), [V4])

    def test_notFound(self) -> None:
        """A name without addresses does not exist, and the person is told which name."""
        resolving = resolve(self.reactor, "nowhere.example")
        self.answer()
        error = self.failureResultOf(resolving, DialFailed).value
        self.assertIs(error.kind, DialFailure.NAME)
        self.assertEqual(error.details, "The name nowhere.example could not be resolved.")

    def test_cancel(self) -> None:
        """A resolution may be cancelled; an answer that comes all the same is nobody's."""
        for late in ((), (TCP4Address("TCP", "192.0.2.1", 0),)):
            resolving = resolve(self.reactor, "slow.example")
            resolving.cancel()
            failure = self.failureResultOf(resolving, CancelledError)
            self.assertIs(DialFailed.fromFailure(failure).kind, DialFailure.CANCELLED)
            self.answer(*late)


class AddressesEndpointTests(SynchronousTestCase):
    """L{AddressesEndpoint} connects to the addresses that it was given and to nothing else."""

    def setUp(self) -> None:
        self.reactor: Any = DialReactor()

    def connect(self, *addresses: IPAddress, **options: float) -> Deferred[IProtocol]:
        """Dial these addresses."""
        endpoint = AddressesEndpoint(self.reactor, addresses, 22, **options)
        return endpoint.connect(Factory.forProtocol(Protocol))

    def assertNothingLeft(self) -> None:
        """Assert that nothing is under way, and that no name was ever looked up."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.nameResolver.asked, [])
        self.assertEqual(self.flushWarnings(), [])

    def test_single(self) -> None:
        """One address, of either family, is dialled as it is."""
        for address in (V4, V6):
            self.setUp()
            connecting = self.connect(address)
            self.assertEqual(self.reactor.dialled, [(str(address), 22)])
            self.assertNoResult(connecting)
            self.reactor.accept(0)
            self.assertIsInstance(self.successResultOf(connecting), Protocol)
            self.assertNothingLeft()

    def test_singleFails(self) -> None:
        """Why the only address failed is told."""
        connecting = self.connect(V4)
        self.reactor.refuse(0)
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.assertNothingLeft()

    def test_order(self) -> None:
        """Several addresses are dialled in the order given, each with a head start over the next."""
        connecting = self.connect(V6, V4, OTHER_V4)
        expected = [(str(address), 22) for address in (V6, V4, OTHER_V4)]
        for count in (1, 2, 3):
            self.assertEqual(self.reactor.dialled, expected[:count])
            self.reactor.advance(HEAD_START - 0.01)
            self.assertEqual(self.reactor.dialled, expected[:count])
            self.reactor.advance(0.01)
        self.reactor.advance(60)
        self.assertEqual(self.reactor.dialled, expected)
        self.assertNoResult(connecting)
        connecting.cancel()
        self.failureResultOf(connecting)
        self.assertNothingLeft()

    def test_firstIsFast(self) -> None:
        """When the first address answers at once, no other is dialled."""
        connecting = self.connect(V6, V4)
        self.reactor.accept(0)
        self.assertIsInstance(self.successResultOf(connecting), Protocol)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.dialled), 1)
        self.assertNothingLeft()

    def test_firstHesitates(self) -> None:
        """The address that answers first wins, and the attempts that still hesitate are given up."""
        connecting = self.connect(V6, V4, OTHER_V4)
        self.reactor.advance(HEAD_START)
        self.reactor.accept(1)
        self.assertIsInstance(self.successResultOf(connecting), Protocol)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.dialled), 2)
        self.assertNothingLeft()

    def test_firstFails(self) -> None:
        """When one address fails, the next is dialled at once, and has a whole head start itself."""
        connecting = self.connect(V6, V4, OTHER_V4)
        self.reactor.advance(HEAD_START / 2)
        self.reactor.refuse(0)
        self.assertNoResult(connecting)
        for _ in range(2):
            self.assertEqual(self.reactor.dialled, [(str(V6), 22), (str(V4), 22)])
            self.reactor.advance(HEAD_START / 2)
        self.assertEqual(len(self.reactor.dialled), 3)
        self.reactor.accept(1)
        self.assertIsInstance(self.successResultOf(connecting), Protocol)
        self.assertNothingLeft()

    def test_allFail(self) -> None:
        """When all addresses have failed, in whatever order, the last failure is told."""
        for first, second in ((0, 1), (1, 0)):
            self.setUp()
            connecting = self.connect(V6, V4)
            self.reactor.advance(HEAD_START)
            self.reactor.refuse(first, NoRouteError())
            self.assertNoResult(connecting)
            self.reactor.refuse(second)
            self.failureResultOf(connecting, ConnectionRefusedError)
            self.assertNothingLeft()

    def test_failsLate(self) -> None:
        """What becomes of attempts that were given up, as a real reactor tells it, changes nothing."""
        connecting = self.connect(V6, V4)
        self.reactor.advance(HEAD_START)
        self.reactor.accept(1)
        self.reactor.refuse(0, UserError())
        self.assertIsInstance(self.successResultOf(connecting), Protocol)
        connecting = self.connect(V6, V4)
        connecting.cancel()
        self.reactor.refuse(2, UserError())
        self.failureResultOf(connecting, CancelledError)
        self.assertNothingLeft()

    def test_noProtocol(self) -> None:
        """When the factory wants no connection after all, the dial fails, and no other address is tried."""
        factory = Factory()
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        connecting = AddressesEndpoint(self.reactor, [V6, V4], 22).connect(factory)
        self.assertIsNone(self.reactor.tcpClients[0][2].buildProtocol(TCP6Address("TCP", "2001:db8::1", 22)))
        self.failureResultOf(connecting, NoProtocol)
        self.assertNothingLeft()

    def test_protocol(self) -> None:
        """
        The protocol has the connection's own transport when the dial succeeds, and everything that happens to it: what
        comes, its own half-close and the peer's, and the end.
        """
        events: list[object] = []

        @implementer(IHalfCloseableProtocol)
        class Target(Protocol):
            def connectionMade(self) -> None:
                events.append("made")

            def dataReceived(self, data: bytes) -> None:
                events.append(data)

            def readConnectionLost(self) -> None:
                events.append("read ended")

            def writeConnectionLost(self) -> None:
                events.append("write ended")

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                events.append(reason.type)

        connecting = AddressesEndpoint(self.reactor, [V4], 22).connect(Factory.forProtocol(Target))

        def connected(protocol: IProtocol) -> IProtocol:
            events.append("connected")
            return protocol

        connecting.addCallback(connected)
        transport = FlowTransport(self.reactor.tcpClients[0][2].buildProtocol(TCP4Address("TCP", "192.0.2.1", 22)))
        protocol = self.successResultOf(connecting)
        assert isinstance(protocol, Target)
        self.assertIs(protocol.transport, transport)
        transport.deliver(b"banner")
        transport.deliverEOF()
        transport.loseWriteConnection()
        transport.pump()
        transport.abortConnection()
        transport.pump()
        self.assertEqual(events, ["made", "connected", b"banner", "read ended", "write ended", ConnectionAborted])

    def test_protocolWithoutHalfClose(self) -> None:
        """For a protocol that does not half-close the peer's end is the connection's."""
        connecting = self.connect(V4)
        transport = FlowTransport(self.reactor.tcpClients[0][2].buildProtocol(TCP4Address("TCP", "192.0.2.1", 22)))
        self.successResultOf(connecting)
        transport.deliverEOF()
        self.assertTrue(transport.disconnected)

    def test_cancel(self) -> None:
        """A dial that is cancelled gives up every attempt, and starts none."""
        for addresses in ([V4], [V6, V4, OTHER_V4]):
            self.setUp()
            connecting = self.connect(*addresses)
            self.reactor.advance(HEAD_START)
            connecting.cancel()
            failure = self.failureResultOf(connecting, CancelledError)
            self.assertIs(DialFailed.fromFailure(failure).kind, DialFailure.CANCELLED)
            self.assertTrue(all(connector.stoppedConnecting for connector in self.reactor.connectors))
            dialled = len(self.reactor.dialled)
            self.reactor.advance(60)
            self.assertEqual(len(self.reactor.dialled), dialled)
            self.assertNothingLeft()

    def test_timeout(self) -> None:
        """Each attempt has its own time, when one is given."""
        for addresses in ([V4], [V6], [V4, V6]):
            for options, seconds in (({}, None), ({"timeout": 5.0}, 5.0)):
                self.setUp()
                connecting = self.connect(*addresses, **options)
                self.reactor.advance(HEAD_START)
                self.assertEqual([client[3] for client in self.reactor.tcpClients], [seconds] * len(addresses))
                connecting.cancel()
                self.failureResultOf(connecting)


class DialFailedTests(SynchronousTestCase):
    """L{DialFailed} says what a person can understand."""

    def test_fromFailure(self) -> None:
        """Every way in which a dial fails has its kind and its sentence."""
        for error, kind, details in (
            (ConnectionRefusedError(), DialFailure.REFUSED, "The connection was refused."),
            (DNSLookupError("x"), DialFailure.NAME, "The name could not be resolved."),
            (TimeoutError(), DialFailure.TIMEOUT, "There was no answer in time."),
            (TCPTimedOutError(110, "Connection timed out"), DialFailure.TIMEOUT, "There was no answer in time."),
            (CancelledError(), DialFailure.CANCELLED, "The attempt was cancelled."),
            (
                ConnectingCancelledError(TCP4Address("TCP", "192.0.2.1", 22)),
                DialFailure.CANCELLED,
                "The attempt was cancelled.",
            ),
            (
                NoRouteError(113, "No route to host"),
                DialFailure.UNREACHABLE,
                "No connection could be made: No route to host.",
            ),
            (NoRouteError(), DialFailure.UNREACHABLE, "No connection could be made: NoRouteError."),
            (
                ConnectError(101, "Network is unreachable"),
                DialFailure.UNREACHABLE,
                "No connection could be made: Network is unreachable.",
            ),
            (ValueError("secret"), DialFailure.OTHER, "No connection could be made (ValueError)."),
        ):
            failed = DialFailed.fromFailure(Failure(error))
            self.assertEqual((failed.kind, failed.details), (kind, details), error)

    def test_alreadyTranslated(self) -> None:
        """What is a L{DialFailed} already stays as it is."""
        failed = DialFailed(DialFailure.DENIED, "No.")
        self.assertIs(DialFailed.fromFailure(Failure(failed)), failed)


class LimitDialTests(SynchronousTestCase):
    """L{limitDial} gives a dial some time."""

    def test_tooSlow(self) -> None:
        """At the limit the dial is cancelled, and fails as one that took too long, whatever it says of the end."""
        for error in (CancelledError(), DialFailed(DialFailure.CANCELLED, "The attempt was cancelled.")):
            clock = Clock()
            dial: Deferred[IProtocol] = Deferred(partial(Deferred.errback, fail=error))
            limitDial(dial, 20.0, clock)
            clock.advance(19.9)
            self.assertNoResult(dial)
            clock.advance(0.1)
            failed = self.failureResultOf(dial, DialFailed).value
            self.assertEqual(
                (failed.kind, failed.details), (DialFailure.TIMEOUT, "There was no answer within 20 seconds.")
            )

    def test_inTime(self) -> None:
        """What ends before is what it was, and the clock is left alone."""
        clock = Clock()
        dial: Deferred[IProtocol] = Deferred()
        limitDial(dial, 20.0, clock)
        dial.callback(Protocol())
        self.assertIsInstance(self.successResultOf(dial), Protocol)
        self.assertEqual(clock.getDelayedCalls(), [])


class HostEndpointTests(SynchronousTestCase):
    """L{HostEndpoint} looks a name up each time."""

    def test_name(self) -> None:
        """The name's addresses are dialled, those that it has now."""
        reactor: Any = DialReactor()
        endpoint = HostEndpoint(reactor, "gw.example", 443)
        peer = Protocol()
        done = endpoint.connect(Factory.forProtocol(lambda: peer))
        ((name, receiver),) = reactor.nameResolver.asked
        self.assertEqual(name, "gw.example")
        receiver.addressResolved(TCP4Address("TCP", "192.0.2.1", 0))
        receiver.resolutionComplete()
        ((host, port, factory, _, _),) = reactor.tcpClients
        self.assertEqual((ip_address(host), port), (ip_address("192.0.2.1"), 443))
        FlowTransport(factory.buildProtocol(None))
        self.assertIs(self.successResultOf(done), peer)
