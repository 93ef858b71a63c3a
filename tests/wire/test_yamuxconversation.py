"""
Tests for L{gateway.wire.yamux} with two sessions and everything that may happen between them, and with garbage.

    Conversation: two sessions, and wires that split, merge and delay at will
    Fuzz: one session, and a peer that sends anything
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.window import INITIAL_WINDOW, MAX_WINDOW, WindowBudget
from gateway.wire.yamux import Session
from gateway.wire.yamuxframes import (
    ACK,
    FIN,
    RST,
    SYN,
    WINDOW_UPDATE,
    Ack,
    Code,
    Data,
    Event,
    Fin,
    Rst,
    Syn,
    frame,
)
from gateway.wire.yamuxstreams import Limits
from tests.wire.yamuxpair import KIB, PATTERN, merged, session, wire

CLIENT, SERVER = 0, 1


class Side:
    """
    One end of the machine's session, with an application that plays by the rules.

    @ivar sent: how many bytes were sent on each stream. They are C{PATTERN}, from the stream's number on.
    @ivar received: how many bytes arrived on each stream.
    @ivar unconsumed: how many of them the application did not consume yet.
    @ivar queued: how many bytes the application wants to send on each stream.
    @ivar ended: the streams on which it sent FIN.
    @ivar finished: the streams on which FIN arrived.
    @ivar gone: the streams that were reset, by either side.
    @ivar inFlight: what the wire towards the other side holds.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sent: dict[int, int] = {}
        self.received: dict[int, int] = {}
        self.unconsumed: dict[int, int] = {}
        self.queued: dict[int, int] = {}
        self.ended: set[int] = set()
        self.finished: set[int] = set()
        self.closed: set[int] = set()
        self.gone: set[int] = set()
        self.inFlight = b""

    def add(self, stream: int) -> None:
        """A stream is there."""
        assert stream not in self.sent
        self.sent[stream] = self.received[stream] = self.unconsumed[stream] = self.queued[stream] = 0

    def streams(self, without: Iterable[int] = ()) -> list[int]:
        """Those that are of use."""
        return [stream for stream in self.sent if stream not in self.gone | self.closed | set(without)]

    def pump(self, turns: int) -> None:
        """Let whose turn it is send."""
        for _ in range(turns):
            if (turn := self.session.nextWriter()) is None:
                return
            stream, allowed = turn
            count = min(allowed, self.queued[stream])
            assert 0 < count <= 64 * KIB
            start = (stream + self.sent[stream]) % 251
            self.session.sendData(stream, memoryview(PATTERN)[start : start + count])
            self.sent[stream] += count
            self.queued[stream] -= count
            if self.queued[stream]:
                self.session.wants(stream)

    def flush(self) -> None:
        """Put on the wire what the session has to say."""
        self.inFlight += wire(self.session)

    def take(self, event: Event) -> None:
        """Note what happened, and that it may happen."""
        if isinstance(event, Syn):
            self.add(event.stream)
            return
        if isinstance(event, Ack | Data | Fin | Rst):
            assert event.stream in self.sent and event.stream not in self.gone, event
        if isinstance(event, Rst):
            self.gone.add(event.stream)
            self.unconsumed[event.stream] = 0
        elif isinstance(event, Data | Fin):
            assert event.stream not in self.finished | self.closed, event
            if isinstance(event, Fin):
                self.finished.add(event.stream)
                return
            start = (event.stream + self.received[event.stream]) % 251
            pattern = memoryview(PATTERN)
            assert event.payload == pattern[start : start + len(event.payload)], "bytes are out of order"
            self.received[event.stream] += len(event.payload)
            self.unconsumed[event.stream] += len(event.payload)

    def consume(self, stream: int, count: int, now: float) -> None:
        """The application takes what it was given."""
        count = min(count, self.unconsumed[stream])
        self.session.consume(stream, count, now)
        self.unconsumed[stream] -= count


WHICH = st.sampled_from([CLIENT, SERVER])
PICK = st.integers(0, 7)
SIZES = st.sampled_from([1, 100, 64 * KIB, 64 * KIB + 1, 300 * KIB, 2000 * KIB])


class Conversation(RuleBasedStateMachine):
    """Two sessions, and wires that split, merge and delay at will."""

    LIMITS = Limits(streams=6, backlog=4, window=1024 * KIB)

    def __init__(self) -> None:
        super().__init__()
        self.budgets = (WindowBudget(1500 * KIB), WindowBudget(300 * KIB))
        self.sides = [
            Side(session(client=which == CLIENT, budget=budget, limits=self.LIMITS))
            for which, budget in enumerate(self.budgets)
        ]
        self.now = 0.0

    def pick(self, streams: list[int], pick: int) -> int | None:
        """One of the streams, or none if there are none."""
        return streams[pick % len(streams)] if streams else None

    @rule(which=WHICH)
    def open(self, which: int) -> None:
        side = self.sides[which]
        if side.session.openRefusal is None:
            side.add(side.session.open(self.now))

    @rule(which=WHICH, pick=PICK)
    def accept(self, which: int, pick: int) -> None:
        if (stream := self.pick(self.sides[which].streams(), pick)) is not None:
            self.sides[which].session.accept(stream)

    @rule(which=WHICH, pick=PICK, size=SIZES, turns=st.integers(0, 40))
    def write(self, which: int, pick: int, size: int, turns: int) -> None:
        side = self.sides[which]
        if (stream := self.pick(side.streams(side.ended), pick)) is not None:
            side.queued[stream] += size
            side.session.wants(stream)
        side.pump(turns)

    @rule(which=WHICH)
    def flush(self, which: int) -> None:
        self.sides[which].flush()

    @rule(
        which=WHICH,
        size=st.sampled_from([1, 11, 12, 13, 1000, 64 * KIB, 10**9]),
        passed=st.sampled_from([0.0, 0.01, 0.1]),
    )
    def deliver(self, which: int, size: int, passed: float) -> None:
        self.now += passed
        sender, receiver = self.sides[which], self.sides[1 - which]
        data, sender.inFlight = sender.inFlight[:size], sender.inFlight[size:]
        for event in receiver.session.receive(data, self.now):
            receiver.take(event)

    @rule(which=WHICH, pick=PICK, size=SIZES)
    def consume(self, which: int, pick: int, size: int) -> None:
        side = self.sides[which]
        if (stream := self.pick(side.streams(), pick)) is not None:
            side.consume(stream, size, self.now)

    @rule(which=WHICH, pick=PICK)
    def closeWrite(self, which: int, pick: int) -> None:
        side = self.sides[which]
        if (stream := self.pick([s for s in side.streams(side.ended) if not side.queued[s]], pick)) is not None:
            side.session.closeWrite(stream)
            side.ended.add(stream)

    @rule(which=WHICH, pick=PICK)
    def close(self, which: int, pick: int) -> None:
        side = self.sides[which]
        if (stream := self.pick([s for s in side.streams() if not side.queued[s]], pick)) is not None:
            side.session.close(stream, self.now)
            side.closed.add(stream)
            side.ended.add(stream)
            side.unconsumed[stream] = 0

    @rule(which=WHICH, pick=PICK)
    def reset(self, which: int, pick: int) -> None:
        side = self.sides[which]
        if (stream := self.pick(side.streams(), pick)) is not None:
            side.session.reset(stream)
            side.gone.add(stream)
            side.unconsumed[stream] = 0

    @rule(which=WHICH)
    def ping(self, which: int) -> None:
        if self.sides[which].session.deadline is None:
            self.sides[which].session.ping(self.now)

    @precondition(lambda self: self.now > 1)
    @rule(which=WHICH)
    def goAway(self, which: int) -> None:
        self.sides[which].session.goAway()

    @invariant()
    def isBounded(self) -> None:
        """No count is negative, and what waits for the application is within the windows, and those in the budget."""
        for side, budget in zip(self.sides, self.budgets, strict=True):
            excess = 0
            for number, stream in side.session._byNumber.items():
                assert 0 <= stream.credit <= MAX_WINDOW
                assert stream.window.credit >= 0
                assert side.unconsumed[number] <= stream.window.unconsumed or stream.closing
                held = stream.window.credit + stream.window.unconsumed
                assert held <= self.LIMITS.window
                excess += 0 if stream.closing else max(0, held - INITIAL_WINDOW)
            assert excess <= budget.used <= budget.limit
            assert side.session.streamCount <= 2 * self.LIMITS.streams

    def teardown(self) -> None:
        """Let everything arrive and be consumed: all that was sent on streams that nobody reset is there."""
        for _ in range(100):
            quiet = True
            for which, side in enumerate(self.sides):
                for stream in side.streams():
                    side.consume(stream, side.unconsumed[stream], self.now)
                side.pump(100)
                side.flush()
                quiet = quiet and not side.inFlight
                self.deliver(which, 10**9, 0.01)
            if quiet:
                break
        assert quiet
        for side, other in (self.sides, self.sides[::-1]):
            for stream in side.streams(other.gone | other.closed):
                assert side.queued[stream] == 0
                assert other.received[stream] == side.sent[stream]
                assert (stream in side.ended) == (stream in other.finished)
        for side, budget in zip(self.sides, self.budgets, strict=True):
            side.session.lost()
            assert (side.session.streamCount, budget.used) == (0, 0)


class ConversationTests(SynchronousTestCase):
    """Two sessions understand each other, whatever lies between them."""

    def test_conversation(self) -> None:
        """Every byte arrives in order or the stream is reset; windows hold; memory is bounded by them."""
        run_state_machine_as_test(
            Conversation,
            settings=settings(deadline=None, max_examples=60, stateful_step_count=80, database=None, derandomize=True),
        )


WORDS = st.builds(
    lambda version, kind, flags: version << 24 | kind << 16 | flags,
    st.sampled_from([0] * 40 + [1, 255]),
    st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2, 3, 4]),
    st.sampled_from([0, 0, 0, SYN, SYN, ACK, FIN, RST, SYN | FIN, SYN | RST, ACK | FIN, 15, 16]),
)
LENGTHS = st.sampled_from([0, 0, 1, 2, 5, 300, INITIAL_WINDOW, INITIAL_WINDOW + 1, MAX_WINDOW])
FRAMES = st.builds(
    lambda word, stream, length, garbage: (
        frame(word, stream, length) + PATTERN[: length if word >> 16 == 0 and length < 999 else 0] + garbage
    ),
    WORDS,
    st.sampled_from([0, 1, 1, 1, 2, 2, 3, 3, 5, 2**32 - 1]),
    LENGTHS,
    st.sampled_from([b""] * 20 + [b"\x00", b"garbage"]),
)
STREAMS = st.binary(max_size=100) | st.lists(FRAMES, max_size=30).map(b"".join)
"""Noise, and frames of which most are in order."""


class FuzzTests(SynchronousTestCase):
    """Whatever a peer sends, nothing but L{RemoteProtocolError} comes of it."""

    def run_(self, pieces: Sequence[bytes]) -> tuple[list[Event], str | None]:
        """What a client with two streams, and one that the server opened, makes of it."""
        budget = WindowBudget()
        client = session(client=True, budget=budget, limits=Limits(streams=4, backlog=2, answers=8))
        client.open(0.0)
        client.open(0.0)
        client.receive(frame(WINDOW_UPDATE | SYN, 2, 0), 0.0)
        events: list[Event] = []
        for piece in pieces:
            try:
                events += client.receive(piece, 1.0)
            except RemoteProtocolError as e:
                self.assertIn(e.code, set(Code))
                self.assertEqual((client.ended, client.streamCount, budget.used), (True, 0, 0))
                return merged(events), e.code
            self.assertLessEqual(client.streamCount, 8)
        self.assertLessEqual(len(wire(client)), 20 * 12)
        return merged(events), None

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(data=STREAMS, cuts=st.lists(st.integers(0, 500), max_size=10))
    def test_fuzz(self, data: bytes, cuts: list[int]) -> None:
        """Garbage gets a documented error or none, the same however it is cut, and leaves nothing behind."""
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        pieces = [data[start:stop] for start, stop in pairwise(edges)]
        events, code = self.run_(pieces)
        single, singleCode = self.run_([data[n : n + 1] for n in range(len(data))])
        self.assertEqual(code, singleCode)
        if code is None:
            self.assertEqual(events, single)
            self.assertEqual(self.run_([data]), (events, None))
