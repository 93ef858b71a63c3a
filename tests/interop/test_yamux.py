"""
L{gateway.net.mux} and hashicorp's yamux, the library that defined the protocol: opening, bytes and windows.

How streams and sessions end is in L{tests.interop.test_yamuxends}. Each test runs with either as the client, over TCP and
TLS. Those of hashicorp's own C{session_test.go} whose promise concerns the other end of a session have a
counterpart, which often asks for the same of our end:

  - C{TestPing}, C{TestAccept}, C{TestSendData_Small}, C{TestSendData_Large}, C{TestSendData_VeryLarge},
    C{TestManyStreams}, C{TestManyStreams_PingPong}, C{TestBacklogExceeded}, C{TestBacklogExceeded_Accept},
    C{TestLargeWindow}, C{TestSession_PartialReadWindowUpdate}, C{TestSession_PingOfDeath}: here, by that name.
  - C{TestSession_WindowUpdateWriteDuringRead}: C{test_sendDataVeryLarge}, where credit has to pass a carrier that is full
    in both directions.
  - C{TestSession_ConnectionWriteTimeout}, C{TestSession_sendNoWait_Timeout}: C{test_connectionWriteTimeout}. Theirs asks
    that who writes is told in time; our writers are paused, and the pings find out that the peer is dead.
  - C{TestPing_Timeout}, C{TestCloseBeforeAck}, C{TestOpenStreamTimeout}, C{TestClose_closeTimeout}, C{TestGoAway},
    C{TestHalfClose}, C{TestHalfCloseSessionShutdown}, C{TestKeepAlive}, C{TestKeepAlive_Timeout}: in
    L{tests.interop.test_yamuxends}.
  - C{TestReadDeadline}, C{TestReadDeadline_BlockedRead}, C{TestWriteDeadline}, C{TestWriteDeadline_BlockedWrite},
    C{TestCancelAccept}, C{TestNonNilInterface}: none. They are about calls that block, and nothing of them crosses the
    connection.
  - C{TestConst}, C{TestEncodeDecode}: C{tests/wire}; all the tests here rest on the same bytes.
"""

from __future__ import annotations

from random import Random
from signal import SIGCONT, SIGSTOP
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater

from gateway.net.mux import MuxSettings, StreamRefused
from gateway.net.muxstream import HIGH_WATER
from tests.interop.yamuxpeer import WINDOW, Echo, YamuxTestCase, digest, eventually, reactor
from tests.net.muxpair import Source
from tests.net.sides import KIB, Peer

MIB = 1024 * KIB

# Its length divides no frame, so that frames which change places show.
_NOISE = Random(7).randbytes(MIB - 1)


class Sipper(Peer):
    """Reads a little more than half a window, and pauses."""

    def dataReceived(self, data: bytes) -> None:
        """Record bytes."""
        super().dataReceived(data)
        if len(self.received) > WINDOW // 2:
            self.transport.pauseProducing()


class ClientOnTCPTests(YamuxTestCase):
    """What holds on every carrier and in both roles, with ours as the client."""

    async def test_ping(self) -> None:
        """Our answer to a ping is one."""
        await self.connect()
        self.assertGreater((await self.peer.do("ping")).seconds, 0)

    async def test_accept(self) -> None:
        """Both ends open and accept at the same time, with numbers of their own."""
        await self.connect()
        ours = self.open()
        theirs, accepted = await gatherResults([self.peer.do("open"), self.peer.do("accept")])
        await eventually(lambda: bool(self.accepted))
        numbers = [1, 2] if self.client else [2, 1]
        self.assertEqual([accepted.stream, theirs.stream], numbers)
        self.assertEqual([each.transport.getHost().stream for each in (ours, self.accepted[0])], numbers)

    async def test_sendDataSmall(self) -> None:
        """A thousand small writes arrive in order, both ways, and nothing is left of the streams."""
        await self.connect()
        for ours, number in await self.both():
            for position in range(0, 4000, 4):
                ours.transport.write(_NOISE[position : position + 4])
            ours.transport.loseWriteConnection()
            self.assertEqual((await self.peer.do("drain", stream=number)).digest, digest(_NOISE[:4000]))
            written = await self.peer.do("write", stream=number, count=4000, most=4)
            await self.peer.do("close", stream=number)
            await eventually(lambda ours=ours: ours.ended)  # type: ignore[misc]
            self.assertEqual(digest(ours.received), written.digest)
            ours.transport.loseConnection()
        await self.assertNoStreams()

    async def test_sendDataLarge(self) -> None:
        """What is much longer than a window arrives, both ways at once."""
        await self.connect()
        for ours, number in await self.both():
            written = self.peer.do("write", stream=number, count=20 * MIB)
            read = self.peer.do("drain", stream=number)
            Source(ours.transport, _NOISE, 20, streaming=True).resumeProducing()
            ours.transport.loseWriteConnection()
            self.assertEqual((await read).digest, digest(_NOISE * 20))
            expected = (await written).digest
            await eventually(lambda ours=ours: len(ours.received) == 20 * MIB)  # type: ignore[misc]
            self.assertEqual(digest(ours.received), expected)

    async def test_sendDataVeryLarge(self) -> None:
        """Thirty-two streams, of either end's, fill the carrier both ways at once; all bytes come back."""
        await self.connect(accept=Echo)
        self.peer.do("echo")
        theirs = self.peer.do("exchange", count=16, most=2 * MIB)
        streams = [self.open() for _ in range(16)]
        for each in streams:
            Source(each.transport, _NOISE, 1, streaming=True).resumeProducing()
            each.transport.loseWriteConnection()
        await eventually(lambda: all(each.ended for each in streams), 15)
        self.assertEqual([each.received == _NOISE for each in streams], [True] * 16)
        self.assertGreater((await theirs).count, 8 * MIB)

    async def test_manyStreams(self) -> None:
        """A thousand streams that are open at the same time bring back what each of them is sent."""
        await self.connect("-backlog", "1000", settings=MuxSettings(backlog=1000))
        random = Random(1)
        streams = [(self.open(), random.randbytes(random.randrange(20_000))) for _ in range(1000)]
        await self.theirStreams(1000)
        self.peer.do("echo")
        for ours, payload in streams:
            ours.transport.write(payload)
            ours.transport.loseWriteConnection()
        await eventually(lambda: all(ours.ended for ours, _ in streams), 15)
        self.assertEqual([payload for ours, payload in streams if ours.received != payload], [])
        for ours, _ in streams:
            ours.transport.loseConnection()
        await self.assertNoStreams()

    async def test_manyStreamsOfTheirs(self) -> None:
        """The same when hashicorp's end opens them, with no larger limits than usual."""
        await self.connect(accept=Echo)
        self.assertGreater((await self.peer.do("exchange", count=1000, most=20_000)).count, 1000 * 5000)
        self.assertEqual(len(self.accepted), 1000)
        await self.assertNoStreams()

    async def test_manyStreamsPingPong(self) -> None:
        """Fifty streams each way, on which each end waits for the other, keep going."""
        await self.connect(accept=Echo)
        opened = [await self.opened() for _ in range(50)]
        taken = [await self.taken() for _ in range(50)]

        async def ours(stream: Any, number: int) -> None:
            for turn in range(1, 21):
                stream.transport.write(b"ping")
                await self.peer.do("read", stream=number, count=4)
                await self.peer.do("write", stream=number, count=4)
                await eventually(lambda: len(stream.received) == 4 * turn)  # noqa: B023

        async def theirs(number: int) -> None:
            for _ in range(20):
                written = await self.peer.do("write", stream=number, count=4)
                self.assertEqual((await self.peer.do("read", stream=number, count=4)).digest, written.digest)

        games = [ours(*each) for each in opened] + [theirs(number) for _, number in taken]
        await gatherResults([Deferred.fromCoroutine(each) for each in games])

    async def test_backlogExceeded(self) -> None:
        """A stream too many for hashicorp's end is reset, which is not its end; the others go on."""
        await self.connect("-backlog", "4")
        streams = [self.open() for _ in range(5)]
        await eventually(lambda: streams[4].reason is not None)
        streams[4].reason.trap(ConnectionLost)
        self.assertFalse(streams[4].ended)
        for ours in streams[:4]:
            number = (await self.peer.do("accept")).stream
            ours.transport.write(b"foo")
            self.assertEqual((await self.peer.do("read", stream=number, count=3)).digest, digest(b"foo"))

    async def test_backlogExceededOfOurs(self) -> None:
        """A stream too many for our end is reset; the others go on, and we do not open too many."""
        await self.connect(settings=MuxSettings(streams=4, backlog=4))
        taken = [await self.taken() for _ in range(4)]
        number = (await self.peer.do("open")).stream
        self.assertEqual(await self.refusal("read", stream=number, count=1), "connection reset")
        for ours, number in taken:
            ours.transport.write(b"foo")
            self.assertEqual((await self.peer.do("read", stream=number, count=3)).digest, digest(b"foo"))
        for _ in range(4):
            self.open()
        self.assertEqual(self.assertRaises(StreamRefused, self.open).code, "streams")

    async def test_backlogExceededAccept(self) -> None:
        """Five times the backlog can be opened one after the other, as the other end accepts."""
        await self.connect("-backlog", "8", settings=MuxSettings(backlog=8), accept=Echo)
        await self.peer.do("exchange", count=40, most=3)
        streams: list[Peer] = []
        while len(streams) < 40:
            try:
                streams.append(self.open())
            except StreamRefused as e:
                self.assertEqual(e.code, "backlog")
                await self.peer.do("accept")
        self.assertEqual([each.reason for each in streams], [None] * 40)

    async def test_largeWindow(self) -> None:
        """We use the whole of a window that is larger than usual, and not a byte more."""
        await self.connect("-window", str(4 * MIB))
        for ours, number in await self.both():
            ours.transport.write(bytes(4 * MIB))
            await eventually(lambda ours=ours: not ours.transport.unsent)  # type: ignore[misc]
            ours.transport.write(b"!")
            await self.peer.do("ping")
            self.assertEqual(ours.transport.unsent, 1)
            ours.transport.loseWriteConnection()
            self.assertEqual((await self.peer.do("drain", stream=number)).digest, digest(bytes(4 * MIB) + b"!"))

    async def test_partialReadWindowUpdate(self) -> None:
        """Who has read half of a window gets as much again, without reading the rest."""
        await self.connect()
        for ours, number in await self.both():
            ours.transport.write(_NOISE[: WINDOW * 3 // 2])
            await eventually(lambda ours=ours: ours.transport.unsent == WINDOW // 2)  # type: ignore[misc]
            await self.peer.do("read", stream=number, count=WINDOW // 2)
            await eventually(lambda ours=ours: not ours.transport.unsent)  # type: ignore[misc]
            ours.transport.write(b"!")
            await self.peer.do("ping")
            self.assertEqual(ours.transport.unsent, 1)

    async def test_partialReadWindowUpdateOfOurs(self) -> None:
        """The same when our end reads."""
        await self.connect(accept=Sipper)
        for ours, number in [await self.opened(Sipper), await self.taken()]:
            ours.transport.pauseProducing()
            first = await self.peer.do("write", stream=number, count=WINDOW)
            waiting = self.peer.do("write", stream=number, count=WINDOW // 2)
            await self.peer.do("ping")
            self.assertFalse(waiting.called)
            ours.transport.resumeProducing()
            second = await waiting
            self.assertLessEqual(len(ours.received), WINDOW)
            while len(ours.received) < WINDOW * 3 // 2:
                ours.transport.resumeProducing()
                await deferLater(reactor, 0)
            self.assertEqual(digest(ours.received[:WINDOW]), first.digest)
            self.assertEqual(digest(ours.received[WINDOW:]), second.digest)

    async def test_pingOfDeath(self) -> None:
        """Pings are answered, at once with payload that fills the carrier both ways."""
        await self.connect(accept=Echo)
        exchange = self.peer.do("exchange", count=4, most=8 * MIB)
        answers = await gatherResults([self.peer.do("ping") for _ in range(100)])
        self.assertLess(max(each.seconds for each in answers), 2)
        await exchange

    async def test_connectionWriteTimeout(self) -> None:
        """A peer that takes nothing stops who writes to it, and is not lost a byte when it goes on."""
        await self.connect("-window", str(64 * MIB))
        ours, number = await self.opened()
        self.peer.signal(SIGSTOP)
        source = Source(ours.transport, _NOISE, 40, streaming=True)
        source.resumeProducing()
        ours.transport.loseWriteConnection()
        await deferLater(reactor, 0.3)
        self.assertEqual(source.told[-1], "pause")
        self.assertGreater(source.left, 20)
        self.assertLessEqual(ours.transport.unsent, HIGH_WATER + len(_NOISE))
        self.peer.signal(SIGCONT)
        self.assertEqual((await self.peer.do("drain", stream=number)).digest, digest(_NOISE * 40))


class ServerOnTCPTests(ClientOnTCPTests):
    """Hashicorp's is the client."""

    client = False


class ClientOnTLSTests(ClientOnTCPTests):
    """Ours is the client, over TLS."""

    tls = True


class ServerOnTLSTests(ClientOnTCPTests):
    """Hashicorp's is the client, over TLS."""

    client, tls = False, True
