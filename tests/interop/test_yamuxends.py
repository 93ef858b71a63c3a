"""
L{gateway.net.mux} and hashicorp's yamux: how streams and sessions end, in order and otherwise.

Which test of hashicorp's own is which of these is in L{tests.interop.test_yamux}. The times are short and real, as the
other process knows no others.
"""

from __future__ import annotations

from signal import SIGKILL, SIGSTOP
from typing import Any, cast

from twisted.internet.defer import gatherResults
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.task import deferLater

from gateway.net.mux import MuxSettings, StreamRefused
from tests.interop.yamuxpeer import WINDOW, YamuxTestCase, digest, eventually, reactor
from tests.net.muxpair import Plain, Source
from tests.net.sides import pattern

RESET = "connection reset"
"""What hashicorp's library says of a stream that was reset."""

_WATCHFUL = MuxSettings(pingInterval=0.3, pingTimeout=4.0)


class ClientOnTCPTests(YamuxTestCase):
    """What holds on every carrier and in both roles, with ours as the client."""

    def stopReading(self) -> None:
        """Our end reads nothing from the carrier, and so answers nothing."""
        cast(Any, self.session.transport).pauseProducing()

    def readOn(self) -> None:
        """Our end reads again."""
        cast(Any, self.session.transport).resumeProducing()

    # -- Streams

    async def test_halfClose(self) -> None:
        """A direction that ends leaves the other as it is, whoever ends it, and both are told when it is over."""
        await self.connect()
        for ours, number in await self.both():
            await self.peer.do("close", stream=number)
            await eventually(lambda ours=ours: ours.ended)  # type: ignore[misc]
            ours.transport.write(pattern(2 * WINDOW))
            ours.transport.loseWriteConnection()
            self.assertEqual((await self.peer.do("drain", stream=number)).digest, digest(pattern(2 * WINDOW)))
            ours.transport.loseConnection()
            await eventually(lambda ours=ours: ours.reason is not None)  # type: ignore[misc]
            ours.reason.trap(ConnectionDone)
        await self.assertNoStreams()

    async def test_halfCloseOfOurs(self) -> None:
        """The same when our end ends first."""
        await self.connect()
        for ours, number in await self.both():
            ours.transport.write(b"a")
            ours.transport.loseWriteConnection()
            self.assertEqual((await self.peer.do("drain", stream=number)).digest, digest(b"a"))
            written = await self.peer.do("write", stream=number, count=2 * WINDOW)
            await self.peer.do("close", stream=number)
            await eventually(lambda ours=ours: ours.ended)  # type: ignore[misc]
            self.assertEqual(digest(ours.received), written.digest)
            ours.transport.loseConnection()
            await eventually(lambda ours=ours: ours.reason is not None)  # type: ignore[misc]
            ours.reason.trap(ConnectionDone)
        await self.assertNoStreams()

    async def test_halfCloseSessionShutdown(self) -> None:
        """What was sent and ended before the session closes arrives, and so does its end; then the stream is lost."""
        await self.connect()
        ours, number = await self.taken()
        written = await self.peer.do("write", stream=number, count=WINDOW)
        await self.peer.do("close", stream=number)
        await self.peer.do("shutdown")
        await eventually(lambda: ours.reason is not None)
        self.assertEqual(digest(ours.received), written.digest)
        self.assertTrue(ours.ended)
        ours.reason.trap(ConnectionLost)

    async def test_halfCloseSessionShutdownWhilePaused(self) -> None:
        """The same for a reader that is paused when the session closes: it gets all when it goes on."""
        await self.connect()
        ours, number = await self.taken()
        ours.transport.pauseProducing()
        await self.peer.do("write", stream=number, count=WINDOW)
        await self.peer.do("close", stream=number)
        await self.peer.do("ping")
        await self.peer.do("shutdown")
        await eventually(lambda: bool(self.ended))
        self.assertEqual((len(ours.received), ours.ended), (0, False))
        ours.transport.resumeProducing()
        await eventually(lambda: ours.reason is not None)
        self.assertEqual((len(ours.received), ours.ended), (WINDOW, True))

    async def test_halfCloseSessionShutdownOfOurs(self) -> None:
        """The same when our end closes the session."""
        await self.connect(settings=MuxSettings(drainTimeout=0.1))
        ours, number = await self.opened()
        ours.transport.write(pattern(WINDOW))
        ours.transport.loseWriteConnection()
        await self.session.goAway()
        await self.peer.do("wait")
        self.assertEqual((await self.peer.do("drain", stream=number)).digest, digest(pattern(WINDOW)))

    async def test_reset(self) -> None:
        """A stream that our end aborts is reset at the other, whatever that is doing, and the rest goes on."""
        await self.connect()
        for ours, number in await self.both():
            ours.transport.pauseProducing()
            failures = [self.refusal("write", stream=number, count=2 * WINDOW), self.refusal("drain", stream=number)]
            await self.peer.do("ping")
            ours.transport.abortConnection()
            self.assertEqual(await gatherResults(failures), [RESET, RESET])
            self.assertEqual(await self.refusal("write", stream=number, count=1), RESET)
            ours.reason.trap(ConnectionAborted)
        await self.assertNoStreams()
        await self.both()

    async def test_writeAfterClose(self) -> None:
        """Who writes on to a stream that our end has closed is told, and does not wait for credit."""
        await self.connect()
        streams = await self.both()
        for ours, number in streams:
            ours.transport.loseConnection()
            self.assertEqual(await self.refusal("write", stream=number, count=2 * WINDOW), RESET)
            ours.reason.trap(ConnectionDone)
        await self.assertNoStreams()

    async def test_closeBeforeAck(self) -> None:
        """Streams that are closed before we have heard of them leave room for others."""
        await self.connect("-backlog", "8", accept=Plain)
        self.stopReading()
        for _ in range(8):
            await self.peer.do("close", stream=(await self.peer.do("open")).stream)
        waiting = self.peer.do("open")
        await deferLater(reactor, 0.05)
        self.assertFalse(waiting.called)
        self.readOn()
        await self.peer.do("close", stream=(await waiting).stream)
        await self.assertNoStreams()

    async def test_closeBeforeAckOfOurs(self) -> None:
        """The same when our end opens and closes."""
        await self.connect(settings=MuxSettings(backlog=8))
        for _ in range(8):
            self.open().transport.loseConnection()
        await self.peer.do("ping")
        self.assertEqual(self.assertRaises(StreamRefused, self.open).code, "backlog")
        for _ in range(8):
            await self.peer.do("close", stream=(await self.peer.do("accept")).stream)
        await self.peer.do("ping")
        ours, number = await self.opened()
        ours.transport.loseConnection()
        await self.peer.do("close", stream=number)
        await self.assertNoStreams()

    async def test_openStreamTimeout(self) -> None:
        """Hashicorp's end gives the session up when we do not accept a stream; ours is told."""
        self.complaint = "aborted stream open"
        await self.connect("-open-timeout", "100ms")
        ours, _ = await self.opened()
        self.stopReading()
        await self.peer.do("open")
        await self.peer.do("wait")
        self.readOn()
        await eventually(lambda: bool(self.ended))
        ours.reason.trap(ConnectionLost)

    async def test_openStreamTimeoutOfOurs(self) -> None:
        """Our end resets a stream that hashicorp's does not accept, and the session goes on."""
        await self.connect(settings=MuxSettings(openTimeout=0.1))
        ours = self.open()
        await eventually(lambda: ours.reason is not None)
        ours.reason.trap(ConnectionLost)
        number = (await self.peer.do("accept")).stream
        self.assertEqual(await self.refusal("read", stream=number, count=1), RESET)
        await self.assertNoStreams()
        await self.both()

    async def test_closeTimeout(self) -> None:
        """A stream that only hashicorp's end closes ends, and is then reset."""
        await self.connect("-close-timeout", "50ms")
        for ours, number in await self.both():
            await self.peer.do("close", stream=number)
            await eventually(lambda ours=ours: ours.reason is not None)  # type: ignore[misc]
            self.assertTrue(ours.ended)
            ours.reason.trap(ConnectionLost)
        await self.assertNoStreams()

    async def test_closeTimeoutOfOurs(self) -> None:
        """The same when our end closes."""
        await self.connect(settings=MuxSettings(closeTimeout=0.05))
        streams = await self.both()
        for ours, number in streams:
            ours.transport.loseConnection()
            self.assertEqual((await self.peer.do("drain", stream=number)).count, 0)
        await self.assertNoStreams()
        for ours, number in streams:
            self.assertEqual(await self.refusal("write", stream=number, count=1), RESET)
            ours.reason.trap(ConnectionDone)

    # -- Sessions

    async def test_goAway(self) -> None:
        """After hashicorp's end says Go Away we open no streams, and those that there are go on."""
        await self.connect()
        ours, number = await self.opened()
        await self.peer.do("goaway")
        await self.peer.do("ping")
        self.assertEqual(self.assertRaises(StreamRefused, self.open).code, "going-away")
        ours.transport.write(b"still here")
        self.assertEqual((await self.peer.do("read", stream=number, count=10)).digest, digest(b"still here"))

    async def test_goAwayCrossesOpen(self) -> None:
        """A stream that we open before we hear of the Go Away is reset."""
        await self.connect()
        self.stopReading()
        await self.peer.do("goaway")
        ours = self.open()
        self.readOn()
        await eventually(lambda: ours.reason is not None)
        self.assertFalse(ours.ended)
        ours.reason.trap(ConnectionLost)

    async def test_goAwayOfOurs(self) -> None:
        """
        After our Go Away hashicorp's end opens none, a stream that it had opened meanwhile is reset, those that there
        were go on, and the session ends in order after them.
        """
        await self.connect()
        ours, number = await self.opened()
        self.stopReading()
        crossing = (await self.peer.do("open")).stream
        gone = self.session.goAway()
        self.readOn()
        self.assertEqual(await self.refusal("read", stream=crossing, count=1), RESET)
        self.assertEqual(await self.refusal("open"), "remote end is not accepting connections")
        written = await self.peer.do("write", stream=number, count=2 * WINDOW)
        await self.peer.do("close", stream=number)
        await eventually(lambda: ours.ended)
        self.assertEqual(digest(ours.received), written.digest)
        self.assertFalse(gone.called)
        ours.transport.loseConnection()
        await gone
        await self.peer.do("wait")
        self.ended[0].trap(ConnectionDone)

    async def test_pingTimeout(self) -> None:
        """Hashicorp's end gives a ping up that we do not answer, and our late answer does no harm."""
        await self.connect("-write-timeout", "100ms")
        self.stopReading()
        self.assertEqual(await self.refusal("ping"), "i/o deadline reached")
        self.readOn()
        await self.peer.do("ping")

    async def test_keepAlive(self) -> None:
        """A session on which nothing happens stays, as each end answers the other's pings."""
        flags = ("-keepalive", "-keepalive-interval", "100ms", "-write-timeout", "500ms")
        await self.connect(*flags, settings=_WATCHFUL)
        ours, number = await self.opened()
        await deferLater(reactor, 1.0)
        ours.transport.write(b"!")
        await self.peer.do("read", stream=number, count=1)
        self.assertEqual((self.ended, ours.reason), ([], None))

    async def test_keepAliveTimeout(self) -> None:
        """Hashicorp's end finds that ours does not answer, and closes; ours is told."""
        self.complaint = "keepalive failed"
        await self.connect("-keepalive", "-keepalive-interval", "50ms", "-write-timeout", "100ms")
        ours, _ = await self.opened()
        waiting = self.refusal("accept")
        self.stopReading()
        self.assertEqual(await waiting, "keepalive timeout")
        self.readOn()
        await eventually(lambda: bool(self.ended))
        ours.reason.trap(ConnectionLost)
        self.assertFalse(ours.ended)

    async def test_keepAliveTimeoutOfOurs(self) -> None:
        """A peer that stands still is dead to our end within two intervals, and its streams are lost, not ended."""
        await self.connect(settings=_WATCHFUL)
        ours, _ = await self.opened()
        self.peer.signal(SIGSTOP)
        await eventually(lambda: bool(self.ended), 2)
        self.ended[0].trap(TimeoutError)
        ours.reason.trap(ConnectionLost)
        self.assertFalse(ours.ended)

    async def test_keepAliveTimeoutWhileSending(self) -> None:
        """The same while the stream is full of what the peer does not take."""
        await self.connect("-window", "67108864", settings=_WATCHFUL)
        ours, _ = await self.opened()
        source = Source(ours.transport, bytes(WINDOW), 256, streaming=True)
        self.peer.signal(SIGSTOP)
        source.resumeProducing()
        await eventually(lambda: bool(self.ended), 2)
        self.ended[0].trap(TimeoutError)
        ours.reason.trap(ConnectionLost)
        self.assertEqual(source.told[-1], "stop")

    async def test_killed(self) -> None:
        """A peer that dies loses its streams, which did not end, and the session."""
        await self.connect()
        streams = await self.both()
        self.peer.signal(SIGKILL)
        await eventually(lambda: bool(self.ended))
        for ours, _ in streams:
            self.assertFalse(ours.ended)
            ours.reason.trap(ConnectionLost)


class ServerOnTCPTests(ClientOnTCPTests):
    """Hashicorp's is the client."""

    client = False


class ClientOnTLSTests(ClientOnTCPTests):
    """Ours is the client, over TLS."""

    tls = True


class ServerOnTLSTests(ClientOnTCPTests):
    """Hashicorp's is the client, over TLS."""

    client, tls = False, True
