"""Tests for L{gateway.service.listening}: TLS or not, wrong schemes, and ports."""

import errno
import os
import socket
from ipaddress import ip_address

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.tls import CertificateFiles
from gateway.service.listening import (
    ListenerService,
    describedEndpoint,
    explain,
    isLocalAddress,
    serverEndpoint,
)
from tests.certificates import Credential, makeAuthority
from tests.service.tabby.tabbyfixture import TOKEN, GatewayTestCase, TabbyFixture, TLSClient, Visitor


class TLSTests(GatewayTestCase):
    """A port with a certificate."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = makeAuthority("Test Authority")
        self.paths = self.authority.issue("gateway.test").write(self.mktemp())

    def gateway(self, authority: str | None = None) -> TabbyFixture:
        """A gateway with TLS, and with client certificates of an authority if one is given."""
        gateway = TabbyFixture.make(environmentToken=TOKEN)
        files = CertificateFiles(*self.paths, authority, clock=gateway.clock)
        return TabbyFixture.make(environmentToken=TOKEN, certificate=files, clock=gateway.clock)

    def arriveWithTLS(self, gateway: TabbyFixture, credential: Credential | None = None) -> Visitor:
        """A client that speaks TLS."""

        def pump() -> None:
            for _ in range(8):
                gateway.pump()
                gateway.clock.advance(0)  # small TLS writes wait for the next turn of the reactor

        visitor = Visitor(pump, gateway.clock.seconds)
        creator = TLSClient(credential.write(self.mktemp()) if credential is not None else None)
        factory = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(lambda: visitor), gateway.clock)
        wrapped = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 443))
        assert wrapped is not None
        link = gateway.connect(wrapped)
        assert link is not None
        visitor.link = link
        pump()
        return visitor

    def test_session(self) -> None:
        """A session works over TLS."""
        gateway = self.gateway()
        visitor = self.arriveWithTLS(gateway)
        visitor.upgrade()
        visitor.say(_="hello", auth_token=TOKEN)
        visitor.say(_="connect", host="box.test", port=22)
        target = gateway.acceptDial()
        visitor.send(b"typed")
        self.assertEqual((target.received, visitor.kinds[-1]), (b"typed", "connected"))
        visitor.close()
        self.assertEqual(gateway.door.visits, set())

    def test_renewedCertificate(self) -> None:
        """A certificate that is replaced on disk serves the next connection; those that stand are not touched."""
        gateway = self.gateway()
        before = self.arriveWithTLS(gateway)
        self.authority.issue("renewed.test").write(self.paths[0].rpartition("/")[0])
        gateway.clock.advance(1)
        after = self.arriveWithTLS(gateway)
        names = [visitor.transport.getPeerCertificate().get_subject().CN for visitor in (before, after)]  # type: ignore[union-attr]
        self.assertEqual(names, ["gateway.test", "renewed.test"])
        before.upgrade()
        self.assertEqual(before.answer.status, 101)

    def test_clientCertificates(self) -> None:
        """With a CA, only clients with a certificate of it come in; the others are one line in the log."""
        gateway = self.gateway(self.authority.write(self.mktemp()))
        good = self.arriveWithTLS(gateway, self.authority.issue("client"))
        good.upgrade()
        self.assertEqual(good.answer.status, 101)
        for credential in (None, makeAuthority("Another").issue("client")):
            self.events.clear()
            bad = self.arriveWithTLS(gateway, credential)
            self.assertTrue(bad.isGone)
            self.assertIsNone(bad.codec.answer)
            (event,) = self.logged("tabby.failed")
            self.assertTrue(event["problem"].startswith("TLS: "), event["problem"])

    def test_plainHTTPOnATLSPort(self) -> None:
        """Plain HTTP gets a page with the URL to use, WebSocket or not, and one line in the log."""
        for ask in (
            lambda visitor: visitor.upgrade(),
            lambda visitor: visitor.write(b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n"),
        ):
            self.events.clear()
            visitor = self.gateway().arrive()
            ask(visitor)
            self.assertEqual(visitor.answer.status, 400)
            self.assertRegex(visitor.answer.body, rb"Use wss://(gateway.test|gw) for Tabby")
            (event,) = self.events
            self.assertEqual(event["event"], "tabby.failed")
            self.assertIn("plain HTTP on a TLS port", event["problem"])

    def test_hostileHostOnATLSPort(self) -> None:
        """That page escapes the Host header."""
        visitor = self.gateway().arrive()
        visitor.upgrade(Host="<script>")
        self.assertNotIn(b"<script>", visitor.answer.body)


class PlainPortTests(GatewayTestCase):
    """A port without a certificate."""

    def test_TLSOnAPlainPort(self) -> None:
        """TLS bytes are one line in the log that says which scheme to use, and the connection is dropped."""
        gateway = TabbyFixture.make(environmentToken=TOKEN)
        visitor = gateway.arrive()
        visitor.write(bytes.fromhex("1603010200010001fc0303"))
        self.assertTrue(visitor.isGone)
        (event,) = self.events
        self.assertEqual((event["event"], event["visitor"]), ("tabby.failed", "198.51.100.7"))
        self.assertIn("ws://", event["problem"])
        self.assertEqual(gateway.door.admission.connections, 0)

    def test_silence(self) -> None:
        """A connection that says nothing is dropped after the timeout, and frees its place."""
        gateway = TabbyFixture.make(environmentToken=TOKEN)
        visitor = gateway.arrive()
        gateway.advance(9.9)
        self.assertFalse(visitor.isGone)
        gateway.advance(0.1)
        self.assertTrue(visitor.isGone)
        self.assertEqual(gateway.door.admission.connections, 0)

    def test_slowHead(self) -> None:
        """A head that never ends is dropped after the handshake time, however its bytes trickle."""
        gateway = TabbyFixture.make(environmentToken=TOKEN)
        visitor = gateway.arrive()
        for _ in range(9):
            visitor.write(b"G")
            gateway.advance(1)
        self.assertFalse(visitor.isGone)
        gateway.advance(1)
        self.assertTrue(visitor.isGone)
        (event,) = self.logged("tabby.failed")
        self.assertIn("too long", event["problem"])

    def test_portScan(self) -> None:
        """A connection that leaves without a byte is no line in the log."""
        TabbyFixture.make(environmentToken=TOKEN).arrive().link.a.loseConnection()
        self.assertEqual(self.events, [])

    def test_UNIXSocket(self) -> None:
        """A connection over a UNIX socket, which has no address, is served."""
        gateway = TabbyFixture.make(environmentToken=TOKEN)
        self.assertEqual(gateway.greeted(host="").kinds[-1], "ready")


@implementer(IListeningPort)
class FakePort:
    """A port that listens nowhere."""

    def __init__(self, host: IAddress) -> None:
        self._host = host
        self.stopped = False

    def startListening(self) -> None:
        """Nothing to do."""

    def stopListening(self) -> None:
        self.stopped = True

    def getHost(self) -> IAddress:
        return self._host


class FakeEndpoint:
    """
    An endpoint with one answer.

    @param answer: a port, why there is none, or a Deferred of either.
    """

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def listen(self, factory: object) -> object:
        """Give the answer."""
        if isinstance(self._answer, Deferred):
            return self._answer
        return fail(self._answer) if isinstance(self._answer, Exception) else succeed(self._answer)


def listener(answer: object) -> ListenerService:
    """A service that listens on a L{FakeEndpoint}."""
    return ListenerService(FakeEndpoint(answer), ServerFactory(), "tabby", "where")  # type: ignore[arg-type]


class ListenerServiceTests(GatewayTestCase):
    """L{ListenerService}."""

    def test_saysWhere(self) -> None:
        """Where it listens is one line, IPv6 in brackets."""
        for address, text in (
            (IPv4Address("TCP", "127.0.0.1", 9000), "127.0.0.1:9000"),
            (IPv6Address("TCP", "::1", 9000), "[::1]:9000"),
            (UNIXAddress("/run/gw.sock"), "/run/gw.sock"),
        ):
            listener(FakePort(address)).startService()
            self.assertEqual(self.logged("gateway.listening")[-1]["where"], text)

    def test_listensOnce(self) -> None:
        """twistd's two steps of starting open one port."""
        service = listener(FakePort(IPv4Address("TCP", "127.0.0.1", 9000)))
        service.privilegedStartService()
        service.startService()
        self.assertEqual(len(self.logged("gateway.listening")), 1)

    def test_stops(self) -> None:
        """A stopped service has stopped its port, once."""
        port = FakePort(IPv4Address("TCP", "127.0.0.1", 9000))
        service = listener(port)
        service.startService()
        self.successResultOf(service.stopListening())
        self.assertTrue(port.stopped)
        self.successResultOf(service.stopService())

    def test_startsAgain(self) -> None:
        """A service that was stopped listens again when it is started again."""
        port = FakePort(IPv4Address("TCP", "127.0.0.1", 9000))
        service = listener(port)
        for times in (1, 2):
            service.startService()
            self.assertEqual(len(self.logged("gateway.listening")), times)
            self.assertIs(service.port, port)
            self.successResultOf(service.stopService())
            self.assertIsNone(service.port)

    def test_stoppedBeforeItListens(self) -> None:
        """A port that is there only after the service was stopped is closed at once, and nobody hears of it."""
        answer: Deferred[object] = Deferred()
        service = listener(answer)
        service.startService()
        self.successResultOf(service.stopService())
        port = FakePort(IPv4Address("TCP", "127.0.0.1", 9000))
        answer.callback(port)
        self.assertTrue(port.stopped)
        self.assertIsNone(service.port)
        self.assertEqual(self.events, [])

    def test_stoppedBeforeItCannotListen(self) -> None:
        """What fails only after the service was stopped is nobody's trouble any more."""
        answer: Deferred[object] = Deferred()
        service = listener(answer)
        service.startService()
        self.successResultOf(service.stopService())
        answer.errback(OSError("refused"))
        self.assertEqual(self.events, [])

    def test_cannotListen(self) -> None:
        """A port that cannot be had ends the program with exit status 1 and one line that names it."""
        service = listener(CannotListenError("127.0.0.1", 9000, OSError(98, "Address already in use")))
        with self.assertRaises(SystemExit) as caught:
            service.startService()
        self.assertEqual(caught.exception.code, 1)
        (event,) = self.logged("gateway.not-listening")
        self.assertEqual((event["label"], event["where"]), ("tabby", "where"))
        self.assertIn("Address already in use", event["problem"])

    def test_cannotListenLater(self) -> None:
        """An endpoint that finds out later, such as one that asks another program, is one line in the log."""
        answer: Deferred[object] = Deferred()
        listener(answer).startService()
        answer.errback(OSError("refused"))
        self.assertEqual(self.logged("gateway.not-listening")[0]["problem"], "refused")

    def test_reaches(self) -> None:
        """It knows which addresses lead to its port: its own, or this machine's for a wildcard."""
        service = listener(FakePort(IPv4Address("TCP", "127.0.0.1", 9000)))
        self.assertFalse(service.reaches(ip_address("127.0.0.1"), 9000))
        service.startService()
        self.assertTrue(service.reaches(ip_address("127.0.0.1"), 9000))
        self.assertFalse(service.reaches(ip_address("127.0.0.1"), 9001))
        self.assertFalse(service.reaches(ip_address("127.0.0.2"), 9000))
        wildcard = listener(FakePort(IPv4Address("TCP", "0.0.0.0", 9000)))
        wildcard.startService()
        self.assertTrue(wildcard.reaches(ip_address("127.0.0.2"), 9000))
        self.assertFalse(wildcard.reaches(ip_address("203.0.113.1"), 9000))


class EndpointTests(SynchronousTestCase):
    """Endpoints from options."""

    def test_addresses(self) -> None:
        """IPv4, IPv6 and the empty host listen where they should."""
        for host in ("127.0.0.1", "::1", ""):
            reactor = MemoryReactorClock()
            serverEndpoint(reactor, host, 9000).listen(Factory.forProtocol(Protocol))
            ((port, _, _, interface),) = reactor.tcpServers
            self.assertEqual((port, interface), (9000, host))

    def test_description(self) -> None:
        """A description in Twisted's syntax is an endpoint; one that is not is a ValueError of one line."""
        reactor = MemoryReactorClock()
        describedEndpoint(reactor, "tcp:9000:interface=127.0.0.1").listen(Factory.forProtocol(Protocol))
        self.assertEqual(reactor.tcpServers[0][0], 9000)
        for wrong in ("", "nonsense:1", "tcp", "tcp:x", "ssl:443:privateKey=/nonexistent"):
            with self.assertRaises(ValueError) as caught:
                describedEndpoint(reactor, wrong)
            self.assertNotIn("\n", str(caught.exception))

    def test_secrets(self) -> None:
        """A URL, given by mistake, is not repeated with its query."""
        with self.assertRaises(ValueError) as caught:
            describedEndpoint(MemoryReactorClock(), "ws://127.0.0.1:8000/?secret")
        self.assertIn("for connecting", str(caught.exception))
        self.assertNotIn("secret", str(caught.exception))

    def test_localAddresses(self) -> None:
        """Loopback and unspecified addresses are this machine's, those for documentation are nobody's."""
        for text, local in (
            ("127.0.0.1", True),
            ("127.9.9.9", True),
            ("0.0.0.0", True),
            ("::", True),
            ("192.0.2.1", False),
        ):
            self.assertEqual(isLocalAddress(ip_address(text)), local, text)

    def test_localAddressesInDoubt(self) -> None:
        """Where the system cannot say whether an address is this machine's, it counts as if; not so one that cannot be."""

        class Socket(socket.socket):
            def bind(self, address: object) -> None:
                raise OSError(number, os.strerror(number))

        self.patch(socket, "socket", Socket)
        for number, local in (
            (errno.EADDRNOTAVAIL, False),
            (errno.EINVAL, False),
            (errno.EAFNOSUPPORT, False),
            (errno.EMFILE, True),
            (errno.EACCES, True),
            (errno.EADDRINUSE, True),
        ):
            self.assertEqual(isLocalAddress(ip_address("192.0.2.1")), local, errno.errorcode[number])


class ExplainTests(SynchronousTestCase):
    """L{explain}."""

    def test_ordinaryEndsAreNotWorthALine(self) -> None:
        """A connection that just ends needs no explanation."""
        for error in (ConnectionDone(), ConnectionLost()):
            self.assertIsNone(explain(Failure(error)))
        self.assertEqual(explain(Failure(TimeoutError(None, "the peer took too long"))), "the peer took too long")
        self.assertEqual(explain(Failure(SSL.Error([]))), "TLS: the client broke off the handshake")
        self.assertEqual(explain(Failure(SSL.Error([("a", "b", "no shared cipher")]))), "TLS: no shared cipher")
