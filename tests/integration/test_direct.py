"""
Tests for L{gateway.net.direct} and the sockets that L{gateway.net.dial} makes, on real TCP connections, with TLS too.

They hold Twisted to the few names of its own that are used there: when one of them means something else, bytes are
lost, repeated or out of order here.
"""

import gc
import os
import socket
import sys
from collections.abc import Callable
from fcntl import ioctl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from weakref import ref

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from gateway.net.dial import AddressesEndpoint
from gateway.net.direct import READ_SIZE, UNSENT, Buffer, directWriter, letGo, limitUnsent, readDirectly
from gateway.net.mux import MuxSession
from gateway.net.tls import CertificateFiles
from gateway.net.tlsclient import ClientTrust, clientConnectionCreator
from gateway.net.tlsserver import TLSServerFactory
from gateway.wire.yamuxframes import ACK, PING, SYN, frame
from tests.certificates import makeAuthority

HERE = "127.0.0.1"
_SIOCOUTQNSD = 0x894B  # Linux: bytes that were not sent at all yet
_FIONREAD = 0x541B  # bytes that have come and were not read yet


def pattern(size: int) -> bytes:
    """Bytes of which no two stretches are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


class Taker(Protocol):
    """Keeps what comes, and tells when it is enough or over."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.made: Deferred[None] = Deferred()
        self.over: Deferred[object] = Deferred()
        self.enough: tuple[int, Deferred[None]] | None = None

    def connectionMade(self) -> None:
        self.made.callback(None)

    def dataReceived(self, data: Buffer) -> None:
        self.taken += data
        if self.enough is not None and len(self.taken) >= self.enough[0]:
            enough, self.enough = self.enough[1], None
            enough.callback(None)

    def until(self, size: int) -> Deferred[None]:
        """Fires when so many bytes are there."""
        done: Deferred[None] = Deferred()
        self.enough = (size, done)
        self.dataReceived(b"")
        return done

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.over.callback(reason.value)


@implementer(IPushProducer)
class Pace:
    """Remembers how it was asked to go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.resumed: Deferred[None] = Deferred()

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")
        if not self.resumed.called:
            self.resumed.callback(None)

    def stopProducing(self) -> None:
        self.asked.append("stop")


class Promises(TestCase if TYPE_CHECKING else object):  # type: ignore[misc]  # a case by itself, it would be run
    """What holds of every connection that is read and written directly."""

    timeout = 30
    near: Taker
    far: Taker
    write: Callable[[list[Buffer]], None]

    def connect(self) -> Any:
        """Make it."""
        raise NotImplementedError

    @inlineCallbacks
    def hangUp(self) -> Any:
        """Nothing is left open."""
        for side in (self.near, self.far):
            if not side.over.called:
                side.transport.abortConnection()  # type: ignore[union-attr]
                yield side.over

    @inlineCallbacks
    def test_order(self) -> Any:
        """Pieces arrive whole and in order, whether the kernel takes them at once, partly or not at all."""
        yield self.connect()
        self.far.transport.pauseProducing()  # type: ignore[union-attr]
        data = pattern(12_000_000)
        view = memoryview(data)
        for at in range(0, len(data), 300_000):
            self.write([view[at : at + 10], b"", view[at + 10 : at + 300_000]])
        self.far.transport.resumeProducing()  # type: ignore[union-attr]
        yield self.far.until(len(data))
        self.assertEqual(self.far.taken, data)

    @inlineCallbacks
    def test_beside(self) -> Any:
        """What the transport itself was given before and after stays in its place."""
        yield self.connect()
        self.near.transport.write(b"one ")  # type: ignore[union-attr]
        self.write([b"two ", b"three "])
        self.near.transport.write(b"four")  # type: ignore[union-attr]
        yield self.far.until(18)
        self.assertEqual(self.far.taken, b"one two three four")

    @inlineCallbacks
    def test_manyPieces(self) -> Any:
        """There may be more pieces than the kernel takes in one call."""
        yield self.connect()
        self.write([b"x"] * 5000)
        yield self.far.until(5000)

    @inlineCallbacks
    def test_producer(self) -> Any:
        """A producer is asked to pause only when the kernel takes no more, and to resume when it does again."""
        yield self.connect()
        pace = Pace()
        self.near.transport.registerProducer(pace, True)  # type: ignore[union-attr]
        self.write([b"x" * 100_000])
        self.assertEqual(pace.asked, [])
        self.far.transport.pauseProducing()  # type: ignore[union-attr]
        sent = 100_000
        while "pause" not in pace.asked:
            self.write([b"x" * 1_000_000])
            sent += 1_000_000
        self.far.transport.resumeProducing()  # type: ignore[union-attr]
        yield pace.resumed
        yield self.far.until(sent)
        self.near.transport.unregisterProducer()  # type: ignore[union-attr]

    @inlineCallbacks
    def test_nothingKept(self) -> Any:
        """What was given as a view may change as soon as the call is over, also when it could not be sent."""
        yield self.connect()
        self.far.transport.pauseProducing()  # type: ignore[union-attr]
        buffer = bytearray(READ_SIZE)
        view = memoryview(buffer)
        for number in range(60):
            buffer[:] = bytes([number]) * READ_SIZE
            self.write([view])
        buffer[:] = b"\xff" * READ_SIZE
        self.far.transport.resumeProducing()  # type: ignore[union-attr]
        yield self.far.until(60 * READ_SIZE)
        self.assertEqual(self.far.taken, b"".join(bytes([number]) * READ_SIZE for number in range(60)))

    @inlineCallbacks
    def test_loseConnection(self) -> Any:
        """All that was written before the end goes out before it, and nothing after an abort."""
        yield self.connect()
        self.write([b"last words"])
        self.near.transport.loseConnection()  # type: ignore[union-attr]
        reason = yield self.far.over
        self.assertIsInstance(reason, ConnectionDone)
        self.assertEqual(self.far.taken, b"last words")
        self.write([b"too late"])

    @inlineCallbacks
    def test_readDirectly(self) -> Any:
        """Bytes that are read in place are the ones that were sent; a pause and an end work as ever."""
        yield self.connect()
        data = pattern(3_000_000)
        readDirectly(self.far.transport, self.far.dataReceived)  # type: ignore[arg-type]
        self.write([data[:1000]])
        yield self.far.until(1000)
        self.far.transport.pauseProducing()  # type: ignore[union-attr]
        self.write([data[1000:]])
        self.assertEqual(len(self.far.taken), 1000)
        self.far.transport.resumeProducing()  # type: ignore[union-attr]
        yield self.far.until(len(data))
        self.assertEqual(self.far.taken, data)
        self.near.transport.loseConnection()  # type: ignore[union-attr]
        reason = yield self.far.over
        self.assertIsInstance(reason, ConnectionDone)

    @inlineCallbacks
    def test_letGo(self) -> Any:
        """Who read from a connection that is gone is freed at once, and not when the collector comes."""
        yield self.connect()
        reader = Taker()
        readDirectly(self.near.transport, reader.dataReceived)  # type: ignore[arg-type]
        reader.transport, freed = self.near.transport, ref(reader)
        self.near.transport.loseConnection()  # type: ignore[union-attr]
        yield self.near.over
        gc.disable()
        self.addCleanup(gc.enable)
        letGo(self.near.transport)  # type: ignore[arg-type]
        del reader
        self.assertIsNone(freed())


class DirectTests(Promises, TestCase):
    """A plain TCP connection."""

    @inlineCallbacks
    def connect(self) -> Any:
        """A connection from L{AddressesEndpoint}; both its ends are kept."""
        self.far, self.near = Taker(), Taker()
        factory = Factory.forProtocol(lambda: self.far)
        port = yield TCP4ServerEndpoint(reactor, 0, interface=HERE).listen(factory)
        self.addCleanup(port.stopListening)
        nearFactory = Factory.forProtocol(lambda: self.near)
        endpoint = AddressesEndpoint(reactor, [ip_address(HERE)], port.getHost().port)  # type: ignore[arg-type]
        yield endpoint.connect(nearFactory)
        yield self.far.made
        self.addCleanup(self.hangUp)
        self.write = directWriter(self.near.transport)  # type: ignore[arg-type]

    @inlineCallbacks
    def test_abort(self) -> Any:
        """After an abort nothing is sent, though the transport still calls itself connected."""
        yield self.connect()
        self.near.transport.abortConnection()  # type: ignore[union-attr]
        self.write([b"too late"])
        reason = yield self.far.over
        self.assertNotIsInstance(reason, ConnectionDone)
        self.assertEqual(self.far.taken, b"")

    @inlineCallbacks
    def test_resetWhileWriting(self) -> Any:
        """A reset that is met by a write is not taken for a proper end."""
        yield self.connect()
        self.near.transport.pauseProducing()  # type: ignore[union-attr]  # or the read would meet it first
        self.far.transport.abortConnection()  # type: ignore[union-attr]
        yield self.far.over
        while not self.near.over.called and not self.near.transport._aborting:  # type: ignore[union-attr]
            self.write([b"x"])
        reason = yield self.near.over
        self.assertNotIsInstance(reason, ConnectionDone)

    @inlineCallbacks
    def test_readDirectlyReset(self) -> Any:
        """A reset is told from an end."""
        yield self.connect()
        readDirectly(self.far.transport, self.far.dataReceived)  # type: ignore[arg-type]
        self.near.transport.abortConnection()  # type: ignore[union-attr]
        reason = yield self.far.over
        self.assertNotIsInstance(reason, ConnectionDone)

    @inlineCallbacks
    def test_limitUnsent(self) -> Any:
        """With L{limitUnsent} the kernel keeps little of what a peer does not take, and without it a lot."""
        unsent = []
        for limited in (True, False):
            yield self.connect()
            if limited:
                limitUnsent(self.near.transport)  # type: ignore[arg-type]
            pace = Pace()
            self.near.transport.registerProducer(pace, True)  # type: ignore[union-attr]
            self.far.transport.pauseProducing()  # type: ignore[union-attr]
            while "pause" not in pace.asked:
                self.write([b"x" * 64_000])
            waiting = ioctl(self.near.transport.getHandle().fileno(), _SIOCOUTQNSD, bytes(4))  # type: ignore[union-attr]
            unsent.append(int.from_bytes(waiting, sys.byteorder))
            self.near.transport.unregisterProducer()  # type: ignore[union-attr]
            yield self.hangUp()
        self.assertLessEqual(unsent[0], 2 * UNSENT)
        self.assertGreater(unsent[1], 4 * UNSENT)

    @inlineCallbacks
    def test_muxCarrier(self) -> Any:
        """What a yamux session is on is read in place and limited, and sends small frames at once."""
        yield self.connect()
        session = MuxSession(reactor, client=True)
        transport: Any = self.near.transport
        transport.protocol = session
        session.connectionLost = self.near.connectionLost  # type: ignore[method-assign]  # which the case waits for
        session.makeConnection(transport)
        self.addCleanup(session._deadlines.stop)
        handle = transport.getHandle()
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, 25), UNSENT)
        self.assertTrue(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        yield self.far.until(12)
        self.assertEqual(self.far.taken, frame(PING | SYN, 0, 0))
        self.far.transport.write(frame(PING | ACK, 0, 0))  # type: ignore[union-attr]
        yield self.far.until(24)
        self.assertEqual(self.far.taken[12:], frame(PING | SYN, 0, 1))

    @inlineCallbacks
    def test_tuned(self) -> Any:
        """A connection to a target sends keystrokes at once, and asks for signs of life."""
        yield self.connect()
        handle = self.near.transport.getHandle()  # type: ignore[union-attr]
        self.assertTrue(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)


class DirectTLSTests(Promises, TestCase):
    """A TLS connection on plain TCP."""

    @inlineCallbacks
    def connect(self, ours: bool = True) -> Any:
        """
        A connection on which the handshake is over.

        @param ours: whether the client's context is one of ours; else it is Twisted's.
        """
        authority, folder = makeAuthority("Test"), self.mktemp()
        certificate, key = authority.issue(HERE).write(folder)
        trust = ClientTrust(authorities=authority.write(os.path.join(folder, "ca.pem")))
        self.far, self.near = Taker(), Taker()
        files = CertificateFiles(certificate, key, clock=reactor)
        factory = TLSServerFactory(files, Factory.forProtocol(lambda: self.far), clock=reactor)
        port = yield TCP4ServerEndpoint(reactor, 0, interface=HERE).listen(factory)
        self.addCleanup(port.stopListening)
        plain = AddressesEndpoint(reactor, [ip_address(HERE)], port.getHost().port)  # type: ignore[arg-type]
        twisteds = optionsForClientTLS(HERE, trustRoot=Certificate.loadPEM(authority.certificatePEM))
        endpoint = wrapClientTLS(clientConnectionCreator(HERE, trust) if ours else twisteds, plain)
        yield endpoint.connect(Factory.forProtocol(lambda: self.near))
        self.addCleanup(self.hangUp)
        self.write = directWriter(self.near.transport)  # type: ignore[arg-type]
        self.write([b"waits for ", b"the handshake"])
        yield self.far.until(23)
        self.assertEqual(self.far.taken, b"waits for the handshake")
        self.far.taken.clear()

    @inlineCallbacks
    def test_atOnce(self) -> Any:
        """What is written is on its way when the call is over."""
        yield self.connect()
        self.write([b"now"])
        waiting = ioctl(self.far.transport.transport.getHandle().fileno(), _FIONREAD, bytes(4))  # type: ignore[union-attr]
        self.assertGreater(int.from_bytes(waiting, sys.byteorder), 0)

    @inlineCallbacks
    def test_recordByRecord(self) -> Any:
        """It is all sent, too, where a context makes one record at a time, as pyOpenSSL's do by themselves."""
        yield self.connect(ours=False)
        data = pattern(3_000_000)
        self.write([data])
        yield self.far.until(len(data))
        self.assertEqual(self.far.taken, data)

    @inlineCallbacks
    def test_recordsTogether(self) -> Any:
        """Records that came together are handed over together."""
        yield self.connect()
        sizes: list[int] = []

        def gotData(data: Buffer) -> None:
            sizes.append(len(data))
            self.far.dataReceived(data)

        readDirectly(self.far.transport, gotData)  # type: ignore[arg-type]
        data = pattern(3_000_000)
        self.write([data])
        yield self.far.until(len(data))
        self.assertEqual(self.far.taken, data)
        self.assertGreater(max(sizes), 4 * 16384)
        self.assertLessEqual(max(sizes), READ_SIZE)

    @inlineCallbacks
    def test_endAfterData(self) -> Any:
        """What came before TLS ended is handed over before the end, and the end is a proper one."""
        yield self.connect()
        readDirectly(self.far.transport, self.far.dataReceived)  # type: ignore[arg-type]
        data = pattern(300_000)
        self.write([data])
        self.near.transport.loseConnection()  # type: ignore[union-attr]
        reason = yield self.far.over
        self.assertIsInstance(reason, ConnectionDone)
        self.assertEqual(self.far.taken, data)

    @inlineCallbacks
    def test_forgedRecord(self) -> Any:
        """What is no record ends the connection, and not as an end of the peer's."""
        yield self.connect()
        readDirectly(self.far.transport, self.far.dataReceived)  # type: ignore[arg-type]
        self.near.transport.transport.write(b"\x17\x03\x03\x00\x20" + bytes(32))  # type: ignore[union-attr]
        reason = yield self.far.over
        self.assertNotIsInstance(reason, ConnectionDone)
        self.assertEqual(self.far.taken, b"")

    @inlineCallbacks
    def test_abortInside(self) -> Any:
        """A protocol that aborts gets nothing more of what came, and writes nothing more."""
        yield self.connect()
        sizes: list[int] = []

        def gotData(data: Buffer) -> None:
            sizes.append(len(data))
            self.far.transport.abortConnection()  # type: ignore[union-attr]

        readDirectly(self.far.transport, gotData)  # type: ignore[arg-type]
        write = directWriter(self.far.transport)  # type: ignore[arg-type]
        self.write([pattern(3_000_000)])
        yield self.far.over
        self.assertEqual(len(sizes), 1)
        write([b"too late"])
        yield self.near.over
        self.assertEqual(self.near.taken, b"")
