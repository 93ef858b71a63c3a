"""
Tests for L{gateway.net.stdio}, on pipes. What a relay needs of it, the promises in L{tests.net.test_relaypairs} say, and
sockets, files and the process's own streams are in L{tests.integration.test_relaystdio}.
"""

import os
from io import FileIO
from typing import Any, cast

from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.stdio import (
    IReactorStdio,
    StandardIOAddress,
    StandardIOEndpoint,
    StandardIOTransport,
    Streams,
)
from tests.net.sides import KIB, Peer, pattern
from tests.net.stdioside import Turns, pipe


class Simple(Protocol):
    """Records what comes, and knows no half-close."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class StandardIOTestCase(SynchronousTestCase):
    """Two pipes, of which the tests have the other ends."""

    def setUp(self) -> None:
        self.reactor = Turns()
        self.input, self.typing = pipe(64 * KIB)
        self.reading, self.output = pipe(4 * KIB)
        os.set_blocking(self.reading.fileno(), False)
        for each in (self.input, self.typing, self.reading, self.output):
            self.addCleanup(each.close)
        self.streams = Streams(self.input, self.output)

    def connect(self, protocol: Protocol) -> StandardIOTransport:
        """Give a protocol the pipes."""
        return StandardIOTransport(cast(IReactorStdio, self.reactor), self.streams, protocol)

    def turns(self, count: int = 3) -> None:
        """Let the reactor work."""
        for _ in range(count):
            self.reactor.iterate(0)

    def written(self) -> bytes:
        """Read all that is written, until there is no more."""
        data = b""
        while True:
            self.turns()
            piece = self.reading.read(64 * KIB)
            if not piece:
                return data
            data += piece

    def reasonOf(self, protocol: Simple | Peer) -> type[object] | None:
        """Why the protocol was disconnected."""
        return None if protocol.reason is None else type(protocol.reason.value)


class ReadingTests(StandardIOTestCase):
    """Standard input."""

    def test_data(self) -> None:
        """What comes is handed over; nothing while reading is paused, and all of it afterwards."""
        peer = Peer()
        transport = self.connect(peer)
        self.typing.write(b"one")
        self.turns()
        transport.pauseProducing()
        self.typing.write(b"two")
        self.turns()
        self.assertEqual(peer.received, b"one")
        transport.resumeProducing()
        self.turns()
        self.assertEqual(peer.received, b"onetwo")

    def test_end(self) -> None:
        """The end of input ends reading alone, once, and what is written afterwards arrives."""
        peer = Peer()
        transport = self.connect(peer)
        self.typing.close()
        self.turns()
        self.assertTrue(peer.ended)
        peer.ended = False
        transport.resumeProducing()
        self.turns()
        self.assertEqual((peer.ended, peer.reason), (False, None))
        transport.write(b"answer")
        self.assertEqual(self.written(), b"answer")

    def test_endWithoutHalfClose(self) -> None:
        """A protocol that knows no half-close is disconnected at the end of input."""
        simple = Simple()
        self.connect(simple)
        self.typing.close()
        self.turns()
        self.assertIs(self.reasonOf(simple), ConnectionDone)
        self.assertTrue(self.input.closed and self.output.closed)

    def test_endOfADeadProcess(self) -> None:
        """When both ends of the pipes are gone that is no end but a reset, although input ends first."""
        peer = Peer()
        self.connect(peer)
        self.typing.write(b"last words")
        self.typing.close()
        self.reading.close()
        self.turns()
        self.assertFalse(peer.ended)
        self.assertIs(self.reasonOf(peer), ConnectionLost)


class WritingTests(StandardIOTestCase):
    """Standard output."""

    def test_large(self) -> None:
        """What a pipe does not take at once follows."""
        transport = self.connect(Peer())
        transport.write(pattern(100 * KIB))
        transport.writeSequence([b"a", b"b"])
        self.assertEqual(self.written(), pattern(100 * KIB) + b"ab")

    def test_halfClose(self) -> None:
        """Writing ends after what was written; reading goes on, and C{loseConnection} then completes at once."""
        peer = Peer()
        transport = self.connect(peer)
        transport.write(pattern(10 * KIB))
        transport.loseWriteConnection()
        self.assertEqual(self.written(), pattern(10 * KIB))
        self.assertEqual(self.reading.read(1), b"")
        self.assertTrue(self.output.closed)
        transport.loseWriteConnection()
        transport.write(b"too late")
        self.typing.write(b"still")
        self.turns()
        self.assertEqual(peer.received, b"still")
        transport.loseConnection()
        self.assertIs(self.reasonOf(peer), ConnectionDone)
        self.assertTrue(self.input.closed)

    def test_close(self) -> None:
        """C{loseConnection} writes what is left, then closes both."""
        peer = Peer()
        transport = self.connect(peer)
        transport.write(pattern(10 * KIB))
        transport.loseConnection()
        self.assertEqual(self.written(), pattern(10 * KIB))
        self.assertIs(self.reasonOf(peer), ConnectionDone)

    def test_readerLeaves(self) -> None:
        """It is noticed at once that nobody reads any more, without writing anything."""
        peer = Peer()
        self.connect(peer)
        self.reading.close()
        self.turns()
        self.assertIs(self.reasonOf(peer), ConnectionLost)

    def test_readerLeavesAfterHalfClose(self) -> None:
        """After our own end nobody needs to read, and reading goes on."""
        peer = Peer()
        transport = self.connect(peer)
        transport.loseWriteConnection()
        self.turns()
        self.reading.close()
        self.typing.write(b"still")
        self.turns()
        self.assertEqual((peer.received, peer.reason), (b"still", None))

    def test_atOnce(self) -> None:
        """What standard output takes is written without a turn of the reactor, and the order stays."""
        peer = Peer()
        transport = self.connect(peer)
        transport.write(memoryview(b"at once"))
        self.assertEqual(self.reading.read(64), b"at once")
        transport.write(pattern(5 * KIB))
        transport.write(b"behind it")
        self.assertEqual(self.reading.read(64 * KIB), pattern(4 * KIB))
        self.assertEqual(self.written(), pattern(1 * KIB, 4 * KIB) + b"behind it")

    def test_readDirectly(self) -> None:
        """Who reads directly gets what comes as a view, and ends go their usual way."""
        peer = Peer()
        transport = self.connect(peer)
        pieces: list[bytes] = []
        transport.readDirectly(lambda data: pieces.append(bytes(data)))
        self.typing.write(b"hello")
        self.typing.close()
        self.turns()
        self.assertEqual((pieces, bytes(peer.received), peer.ended), ([b"hello"], b"", True))

    def test_abort(self) -> None:
        """What was not written is dropped, nothing more is read or written, and the protocol is told in the next turn."""
        peer = Peer()
        transport = self.connect(peer)
        transport.write(bytes(4 * KIB) + b"lost")
        transport.abortConnection()
        transport.abortConnection()
        transport.write(b"too late")
        transport.loseWriteConnection()
        transport.resumeProducing()
        self.typing.write(b"too late")
        self.assertIsNone(peer.reason)
        self.assertEqual(self.written(), bytes(4 * KIB))
        self.assertEqual(peer.received, b"")
        self.assertIs(self.reasonOf(peer), ConnectionAborted)

    def test_descriptorsArePutBack(self) -> None:
        """Whoever shares the descriptors finds them as they were; one that did not block before still does not."""
        os.set_blocking(self.output.fileno(), False)
        shared = [FileIO(os.dup(each.fileno()), mode) for each, mode in ((self.input, "r"), (self.output, "w"))]
        for each in shared:
            self.addCleanup(each.close)
        transport = self.connect(Peer())
        self.assertFalse(os.get_blocking(shared[0].fileno()))
        transport.abortConnection()
        self.turns()
        self.assertEqual([os.get_blocking(each.fileno()) for each in shared], [True, False])


class EndpointTests(StandardIOTestCase):
    """L{StandardIOEndpoint}."""

    def endpoint(self) -> StandardIOEndpoint:
        """With the pipes."""
        return StandardIOEndpoint(cast(IReactorStdio, self.reactor), self.streams)

    def test_connectsOnce(self) -> None:
        """There is one connection, and whoever comes second is refused."""
        endpoint = self.endpoint()
        simple = self.successResultOf(endpoint.connect(Factory.forProtocol(Simple)))
        assert isinstance(simple, Simple)
        self.assertEqual(simple.transport.getPeer(), StandardIOAddress())
        self.assertIn("in use", str(self.failureResultOf(endpoint.connect(Factory()), ConnectError).value))

    def test_listens(self) -> None:
        """To listen makes the connection; when that stops it goes on."""
        factory = Factory.forProtocol(Simple)
        port = self.successResultOf(self.endpoint().listen(factory))
        port.startListening()
        self.assertEqual(port.getHost(), StandardIOAddress())
        stopped = port.stopListening()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertFalse(self.input.closed)

    def test_noProtocol(self) -> None:
        """A factory that wants no connection gets none."""

        class Refusing(Factory):
            def buildProtocol(self, address: object) -> None:
                return None

        self.failureResultOf(self.endpoint().connect(Refusing()), NoProtocol)
