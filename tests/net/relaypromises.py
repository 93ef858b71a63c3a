"""
What a relay promises, whatever the transports of its two sides are.

One mixin, so that every transport is held to the same promises::

    class PlainTests(RelayPromises, SynchronousTestCase):
        nearKind = farKind = TCP
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure

from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.relay import Half, Outcome, RelaySettings
from tests.net.sides import KIB, Crossing, Kind, Side, pattern

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase

    _Base = SynchronousTestCase
else:
    _Base = object

# What one stalled reader may cost: the buffer of its transport and the reads that came in on top of it.
BOUND = 3 * 64 * KIB


class RelayPromises(_Base):
    """
    Every promise, as a test. One that speaks of half-close asks the kinds first.

    @cvar nearKind: the transport of the near side.
    @cvar farKind: that of the far side.
    """

    nearKind: Kind
    farKind: Kind

    def crossing(self, **options: Any) -> Crossing:
        """A relay that dials."""
        return Crossing(self.nearKind, self.farKind, **options)

    def joined(self, **options: Any) -> Crossing:
        """A relay between two sides."""
        crossing = self.crossing(**options)
        crossing.accept()
        self.assertEqual(crossing.joined, "joined")
        crossing.pump()
        return crossing

    def failure(self, crossing: Crossing) -> DialFailed:
        """What the dial failed with."""
        assert isinstance(crossing.joined, Failure)
        assert isinstance(crossing.joined.value, DialFailed)
        return crossing.joined.value

    def bothWays(self, test: Callable[[Crossing, Side, Side, str], None], **options: Any) -> None:
        """Run a test from near to far and, with a new relay, from far to near."""
        crossing = self.joined(**options)
        test(crossing, crossing.near, crossing.far, "near")
        crossing = self.joined(**options)
        test(crossing, crossing.far, crossing.near, "far")

    # -- Bytes

    def test_everyByteOnceAndInOrder(self) -> None:
        """What each side sends reaches the other unchanged, however it is cut into pieces."""
        for chunk in (1, 7, 1000, 64 * KIB):
            crossing = self.joined()
            for side in (crossing.near, crossing.far):
                side.chunk(chunk)
                side.send(pattern(3001))
                side.send(pattern(2000, 3001))
            crossing.pump()
            self.assertEqual(crossing.far.received, pattern(5001))
            self.assertEqual(crossing.near.received, pattern(5001))

    def test_stallsLoseNothing(self) -> None:
        """Readers that stop and go on at random still get every byte, once and in order."""
        random = Random(7)
        crossing = self.joined()
        sent = {id(crossing.near): 0, id(crossing.far): 0}
        for _ in range(200):
            side = random.choice((crossing.near, crossing.far))
            side.stall(random.random() < 0.5)
            side.chunk(random.choice((1000, 20_000, 65536)))
            size = random.randrange(40_000)
            side.send(pattern(size, sent[id(side)]))
            sent[id(side)] += size
            for _ in range(random.randrange(4)):
                crossing.step()
        crossing.near.stall(False)
        crossing.far.stall(False)
        crossing.pump()
        self.assertEqual(crossing.far.received, pattern(sent[id(crossing.near)]))
        self.assertEqual(crossing.near.received, pattern(sent[id(crossing.far)]))
        self.assertLessEqual(crossing.far.held, BOUND)
        self.assertLessEqual(crossing.near.held, BOUND)

    def test_stalledReaderStopsItsSourceAlone(self) -> None:
        """One stalled reader costs a bounded buffer; its source waits, and the opposite direction flows."""

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            reader.stall(True)
            source.send(pattern(1024 * KIB))
            reader.send(b"the other way")
            crossing.pump()
            self.assertLessEqual(reader.held, BOUND)
            self.assertGreaterEqual(source.unread, 1024 * KIB - BOUND)
            self.assertEqual(source.received, b"the other way")
            reader.stall(False)
            crossing.pump()
            self.assertEqual(reader.received, pattern(1024 * KIB))
            self.assertLessEqual(reader.held, BOUND)
            self.assertEqual(crossing.relay.budget.used, 0)

        self.bothWays(test)

    # -- Before the far side exists

    def test_bytesInHandAreReplayed(self) -> None:
        """What the near side sends while we dial reaches the far side first and in order."""
        crossing = self.crossing()
        for at in range(0, 3000, 1000):
            crossing.near.send(pattern(1000, at))
            crossing.pump()
        crossing.accept()
        crossing.near.send(pattern(1000, 3000))
        crossing.pump()
        self.assertEqual(crossing.far.received, pattern(4000))

    def test_pendingIsBounded(self) -> None:
        """While we dial the near side is read up to the limit, then paused; afterwards nothing is missing."""
        crossing = self.crossing(settings=RelaySettings(pending=10_000))
        crossing.near.chunk(4000)
        crossing.near.send(pattern(500 * KIB))
        crossing.pump()
        # Paused in the middle of what TLS had decrypted already: that still comes.
        self.assertLessEqual(crossing.relay.near.received, 10_000 + 4 * 4000)
        self.assertGreaterEqual(crossing.relay.near.received, 10_000)
        self.assertEqual(crossing.relay.near.received + crossing.near.unread, 500 * KIB)
        crossing.accept()
        crossing.pump()
        self.assertEqual(crossing.far.received, pattern(500 * KIB))

    def test_greetingOfTheFarSide(self) -> None:
        """What the far side sends before the near side says anything arrives."""
        crossing = self.joined()
        crossing.far.send(b"SSH-2.0-banner\r\n")
        crossing.pump()
        self.assertEqual(crossing.near.received, b"SSH-2.0-banner\r\n")

    def test_nearThatLeavesCancelsTheDial(self) -> None:
        """A near side that breaks off while we dial ends the attempt and the relay."""
        crossing = self.crossing()
        crossing.clock.advance(3)
        crossing.near.send(b"abc")
        crossing.pump()
        crossing.near.reset()
        crossing.pump()
        self.assertTrue(crossing.endpoint.attempts[0].cancelled)
        self.assertEqual(self.failure(crossing).kind, DialFailure.CANCELLED)
        self.assertEqual(crossing.outcome(), Outcome("near-reset", 3, 0, 3.0))

    def test_nearThatFinishesWhileDialling(self) -> None:
        """An end of sending while we dial is passed on later; where it can only mean leaving, it cancels the dial."""
        crossing = self.crossing()
        crossing.near.send(b"request")
        crossing.near.finish()
        crossing.pump()
        if not self.nearKind.halfCloses:
            self.assertTrue(crossing.endpoint.attempts[0].cancelled)
            self.assertEqual(self.failure(crossing).kind, DialFailure.CANCELLED)
            self.assertEqual(crossing.outcome().cause, "near-closed")
            return
        self.assertFalse(crossing.endpoint.attempts[0].cancelled)
        crossing.accept()
        crossing.pump()
        self.assertEqual(crossing.far.received, b"request")
        self.assertEqual(crossing.far.end, "clean")

    def test_dialTimeout(self) -> None:
        """A dial is given up at its timeout, not before, and the near side is left open for the door's answer."""
        crossing = self.crossing(settings=RelaySettings(dialTimeout=5))
        crossing.clock.advance(4.75)
        self.assertIsNone(crossing.joined)
        crossing.clock.advance(0.25)
        self.assertEqual(self.failure(crossing).kind, DialFailure.TIMEOUT)
        self.assertTrue(crossing.endpoint.attempts[0].cancelled)
        crossing.pump()
        self.assertIsNone(crossing.near.end)
        self.assertEqual(crossing.outcomes, [])
        self.answerAndClose(crossing)
        crossing.pump()
        self.assertEqual(crossing.near.received, b"sorry")
        self.assertEqual(crossing.near.end, "clean")
        self.assertEqual(crossing.outcome(), Outcome("dial-failed", 0, 0, 5.0))

    def answerAndClose(self, crossing: Crossing) -> None:
        """What a door does after a failed dial."""
        crossing.near.ours.write(b"sorry")
        crossing.near.ours.loseConnection()

    def test_failedDialIsTyped(self) -> None:
        """A refused dial fails with the reason as a value."""
        crossing = self.crossing()
        crossing.endpoint.attempts[0].fail(ConnectionRefusedError())
        self.assertEqual(self.failure(crossing).kind, DialFailure.REFUSED)
        self.answerAndClose(crossing)
        crossing.pump()
        self.assertEqual(crossing.outcome().cause, "dial-failed")

    def test_failedDialReleasesThePausedNearSide(self) -> None:
        """A near side that was paused for having sent too much early can be answered and closed all the same."""
        crossing = self.crossing(settings=RelaySettings(pending=1000))
        crossing.near.send(pattern(300 * KIB))
        crossing.pump()
        crossing.endpoint.attempts[0].fail(ConnectionRefusedError())
        self.answerAndClose(crossing)
        crossing.pump()
        self.assertEqual(crossing.near.received, b"sorry")
        self.assertTrue(crossing.near.gone)
        self.assertEqual(crossing.outcome().cause, "dial-failed")

    def test_failedDialCutsOffWhoDoesNotTakeTheAnswer(self) -> None:
        """After a failed dial too, a near side that does not read is cut off at the close timeout."""
        crossing = self.crossing(settings=RelaySettings(closeTimeout=4))
        crossing.near.stall(True)
        crossing.endpoint.attempts[0].fail(ConnectionRefusedError())
        self.answerAndClose(crossing)
        crossing.pump()
        crossing.clock.advance(3.75)
        crossing.pump()
        self.assertEqual(crossing.outcomes, [])
        crossing.clock.advance(0.25)
        crossing.pump()
        self.assertEqual(crossing.outcome().cause, "dial-failed")

    def test_endWhileDialling(self) -> None:
        """A door may end a relay that still dials."""
        crossing = self.crossing()
        crossing.relay.end("shutdown")
        crossing.pump()
        self.assertEqual(self.failure(crossing).kind, DialFailure.CANCELLED)
        self.assertEqual(crossing.near.end, "clean")
        self.assertEqual(crossing.outcome().cause, "shutdown")

    def test_farSideThatComesTooLate(self) -> None:
        """A far side that comes into being although its dial was cancelled is cut off."""
        crossing = self.crossing()
        crossing.near.reset()
        crossing.pump()
        far = crossing.arrive()
        crossing.pump()
        self.assertEqual(far.end, "reset")
        self.assertEqual(crossing.outcome().cause, "near-reset")

    def test_dialAfterTheNearSideLeft(self) -> None:
        """Nobody is dialled for a near side that is gone already."""
        crossing = self.crossing(dial=False)
        crossing.near.reset()
        crossing.pump()
        crossing.dial()
        self.assertEqual(self.failure(crossing).kind, DialFailure.CANCELLED)
        self.assertEqual(crossing.endpoint.attempts, [])
        self.assertEqual(crossing.outcome().cause, "near-reset")

    # -- Ends

    def test_endComesAfterTheLastByte(self) -> None:
        """An end of sending reaches the other side after everything that was sent before, and looks like an end."""

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            reader.stall(True)
            source.send(pattern(200 * KIB))
            source.finish()
            crossing.pump()
            reader.stall(False)
            crossing.pump()
            self.assertEqual(reader.received, pattern(200 * KIB))
            self.assertEqual(reader.end, "clean")

        self.bothWays(test)

    def test_halfClose(self) -> None:
        """Where both sides half-close, the answer to a finished request still comes, and then the relay ends."""
        if not (self.nearKind.halfCloses and self.farKind.halfCloses):
            return

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            source.send(b"request")
            source.finish()
            crossing.pump()
            self.assertEqual(reader.end, "clean")
            self.assertEqual(crossing.outcomes, [])
            reader.send(pattern(100 * KIB))
            crossing.pump()
            reader.finish()
            crossing.pump()
            self.assertEqual(source.received, pattern(100 * KIB))
            self.assertEqual(source.end, "clean")
            up, down = (7, 100 * KIB) if name == "near" else (100 * KIB, 7)
            last = "far" if name == "near" else "near"
            self.assertEqual(crossing.outcome(), Outcome(f"{last}-closed", up, down, 0.0))

        self.bothWays(test)

    def test_withoutHalfCloseBothSidesClose(self) -> None:
        """Where one side cannot half-close, the end of either closes both, after what was written."""
        if self.nearKind.halfCloses and self.farKind.halfCloses:
            return

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            source.send(pattern(1000))
            source.finish()
            crossing.pump()
            self.assertEqual(reader.received, pattern(1000))
            self.assertEqual((source.end, reader.end), ("clean", "clean"))
            self.assertEqual(crossing.outcome().cause, f"{name}-closed")

        self.bothWays(test)

    def test_resetIsToldFromAnEnd(self) -> None:
        """A side that breaks off breaks off the other: what came through may not look whole."""

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            source.send(pattern(1000))
            crossing.pump()
            source.reset()
            crossing.pump()
            self.assertEqual(reader.end, "reset")
            self.assertEqual(crossing.outcome().cause, f"{name}-reset")

        self.bothWays(test)

    def test_resetAfterTheEnd(self) -> None:
        """A side that breaks off after it has sent everything truncates nothing: the other gets all of it."""

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            if not (source.kind.halfCloses and reader.kind.halfCloses):
                return
            reader.stall(True)
            source.send(pattern(1000))
            source.finish()
            crossing.pump()
            source.reset()
            reader.send(b"more")  # or the loss would not be noticed
            crossing.pump()
            reader.stall(False)
            crossing.pump()
            self.assertEqual(reader.received, pattern(1000))
            self.assertEqual(crossing.outcome().cause, f"{name}-closed")

        self.bothWays(test)

    def test_closeTimeout(self) -> None:
        """A side that does not take its last bytes is cut off at the close timeout, not before."""

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            reader.stall(True)
            source.send(pattern(1000))
            crossing.pump()
            if source.kind.halfCloses and reader.kind.halfCloses:
                reader.finish()  # so that the source's end is the end of both
            source.finish()
            crossing.pump()
            crossing.clock.advance(6.75)
            crossing.pump()
            self.assertEqual(crossing.outcomes, [])
            crossing.clock.advance(0.25)
            crossing.pump()
            self.assertEqual(len(crossing.outcomes), 1)
            self.assertTrue(reader.gone)
            reader.stall(False)
            crossing.pump()
            self.assertEqual(reader.end, "reset")
            self.assertEqual(crossing.outcome().seconds, 7.0)

        self.bothWays(test, settings=RelaySettings(closeTimeout=7))

    def test_endByTheDoor(self) -> None:
        """A door's own reason flushes the near side, cuts off the far one, and is reported."""
        crossing = self.joined()
        crossing.far.send(pattern(5000))
        crossing.pump()
        crossing.clock.advance(2)
        crossing.relay.end("revoked")
        crossing.relay.end("again")
        crossing.pump()
        self.assertEqual(crossing.near.received, pattern(5000))
        self.assertEqual(crossing.near.end, "clean")
        self.assertEqual(crossing.far.end, "reset")
        self.assertEqual(crossing.outcome(), Outcome("revoked", 0, 5000, 2.0))

    def test_nothingHappensAfterTheEnd(self) -> None:
        """Once it was reported, neither time nor the door can make a relay report again."""
        crossing = self.joined()
        crossing.near.reset()
        crossing.pump()
        crossing.relay.end("late")
        crossing.clock.advance(10_000)
        crossing.pump()
        self.assertEqual(crossing.outcome().cause, "near-reset")

    # -- Limits

    def test_idleTimeout(self) -> None:
        """A relay on which nothing moves ends after the idle timeout and at most a quarter more."""
        crossing = self.joined(settings=RelaySettings(idleTimeout=40))
        for _ in range(4):
            crossing.clock.advance(10)
        crossing.pump()
        self.assertEqual(crossing.outcomes, [])
        crossing.clock.advance(9.75)
        crossing.pump()
        self.assertEqual(crossing.outcomes, [])
        crossing.clock.advance(0.25)
        crossing.pump()
        self.assertEqual(crossing.near.end, "clean")
        self.assertEqual(crossing.far.end, "reset")
        self.assertEqual(crossing.outcome().cause, "idle-timeout")

    def test_trafficIsNotIdle(self) -> None:
        """A byte in either direction starts the idle timeout anew, and it is never noticed early."""
        crossing = self.joined(settings=RelaySettings(idleTimeout=40))
        for side in (crossing.near, crossing.far) * 3:
            for _ in range(39):
                crossing.clock.advance(1)
            side.send(b".")
            crossing.pump()
        for _ in range(39):
            crossing.clock.advance(1)
        crossing.pump()
        self.assertEqual(crossing.outcomes, [])
        for _ in range(11):
            crossing.clock.advance(1)
            crossing.pump()
        self.assertEqual(crossing.outcome(), Outcome("idle-timeout", 3, 3, 39 * 6 + 46.0))

    def test_budgetEndsWhoStalledLongest(self) -> None:
        """When stalled readers use up the common budget, the relay stalled longest ends and no other."""

        def stall(crossing: Crossing) -> None:
            crossing.far.stall(True)
            crossing.near.send(pattern(200 * KIB))
            crossing.pump()

        budget = StallBudget(2 * StallBudget.PER_HALF)
        crossings = [self.joined(budget=budget) for _ in range(3)]
        stall(crossings[0])
        stall(crossings[1])
        self.assertEqual(budget.used, budget.limit)
        stall(crossings[2])
        crossings[0].far.stall(False)
        crossings[0].pump()
        self.assertEqual(crossings[0].outcome().cause, "memory-budget")
        self.assertEqual(crossings[0].far.end, "reset")
        self.assertEqual((crossings[1].outcomes, crossings[2].outcomes), ([], []))
        self.assertEqual(budget.used, budget.limit)

    def test_budgetFreesTheMemoryAtOnce(self) -> None:
        """A reader that costs its relay the budget is cut off: waiting for it to read would keep the memory."""

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            reader.stall(True)
            source.send(pattern(200 * KIB))
            crossing.pump()
            self.assertTrue(reader.gone)
            self.assertTrue(source.gone)
            self.assertEqual(crossing.outcome().cause, "memory-budget")

        self.bothWays(test, budget=StallBudget(0))

    def test_budgetUsedUpByTheReplay(self) -> None:
        """A relay may run out of budget at the very moment in which it is joined."""
        crossing = self.crossing(
            budget=StallBudget(0), settings=RelaySettings(pending=100 * KIB, idleTimeout=5), dial=True
        )
        crossing.near.send(pattern(100 * KIB))
        crossing.pump()
        crossing.accept()
        crossing.pump()
        self.assertEqual(crossing.outcome().cause, "memory-budget")
        self.assertTrue(crossing.near.gone)
        self.assertEqual(crossing.far.end, "reset")

    def test_rate(self) -> None:
        """A meter's word pauses one direction for so long, and the other flows."""

        def test(crossing: Crossing, source: Side, reader: Side, name: str) -> None:
            source.send(b"first")
            crossing.pump()
            source.send(b"second")
            reader.send(b"back")
            crossing.pump()
            self.assertEqual((reader.received, source.received), (b"first", b"back"))
            crossing.clock.advance(1.75)
            crossing.pump()
            self.assertEqual(reader.received, b"first")
            crossing.clock.advance(0.25)
            crossing.pump()
            self.assertEqual(reader.received, b"firstsecond")
            source.reset()
            crossing.clock.advance(2)
            crossing.pump()
            self.assertEqual(crossing.outcome().cause, f"{name}-reset")

        self.bothWays(test, meter=lambda half, size: 2.0)

    def test_everyReasonToPauseCounts(self) -> None:
        """A side that is paused for two reasons is read again when both are gone."""
        crossing = self.joined()
        crossing.relay.near.pause(Half.RATE)
        crossing.relay.near.pause(Half.CONSUMER)
        crossing.near.send(b"wait")
        crossing.relay.near.resume(Half.CONSUMER)
        crossing.pump()
        self.assertEqual(crossing.far.received, b"")
        crossing.relay.near.resume(Half.RATE)
        crossing.pump()
        self.assertEqual(crossing.far.received, b"wait")

    def test_rateLeavesNothingBehind(self) -> None:
        """A relay that ends while a direction is paused for its rate leaves nothing on the clock."""
        crossing = self.joined(meter=lambda half, size: 1000.0)
        crossing.near.send(b"first")
        crossing.far.send(b"first")
        crossing.pump()
        crossing.relay.end("done")
        crossing.pump()
        self.assertEqual(crossing.outcome().cause, "done")

    def test_ratePauseIsNotCutShort(self) -> None:
        """Pieces that came in spite of the pause, as they do from TLS, make it longer and never shorter."""
        waits = iter([1.0, 5.0])
        crossing = self.joined(meter=lambda half, size: next(waits, 0.0))
        crossing.relay.near.dataReceived(b"a")
        crossing.relay.near.dataReceived(b"b")
        crossing.near.send(b"c")
        crossing.clock.advance(4.75)
        crossing.pump()
        self.assertEqual(crossing.far.received, b"ab")
        crossing.clock.advance(0.25)
        crossing.pump()
        self.assertEqual(crossing.far.received, b"abc")
