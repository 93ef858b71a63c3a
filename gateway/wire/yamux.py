"""
Yamux, version 0, of hashicorp's specification: many streams on one connection, sans-io, for both roles.

Bytes that arrive go into L{Session.receive}, which returns events; verbs change what the session knows and queue
frames; L{Session.take} returns what is to be written. There is no clock and no buffer of payload here::

    session = Session(client=True, budget=WindowBudget())
    stream = session.open(now=0.0)
    session.sendData(stream, b"hello")
    carrier.writeSequence(session.take())
    events = session.receive(data, now=0.1)    # e.g. [Ack(stream=1), Data(stream=1, payload=b"hi")]

Streams are known by their numbers: odd ones are the client's, even ones the server's. For the author of transports:

I{Reading.} Dispatch the events of one C{receive} in order. It took all the data before the first of them is dispatched,
so a verb may name a stream whose end is still among them. Such a verb does nothing, and events of a stream that
was closed or reset meanwhile are to be dropped. Payload is a slice of what was read, so of a C{memoryview} it is one:
copy what is kept, as a view would keep the whole read alive for one byte of it. Keep what the application does not
take in one buffer per stream and not in pieces, as a peer may send a byte at a time; drop it on L{Rst}. Say C{consume}
when the application has taken it, never before.

I{Writing.} Payload waits with the caller. A stream with something to write says C{wants} and gets in line. When the
carrier has room, C{nextWriter} says whose turn it is and for how many bytes, at most one frame::

    while carrierHasRoom and (turn := session.nextWriter()):
        stream, count = turn
        session.sendData(stream, first(count, queues[stream]))
        if queues[stream]:
            session.wants(stream)              # at the end of the line
    carrier.writeSequence(session.take())

Run that once per turn of the reactor, after C{receive} and after the application wrote. A stream that waits for credit
is not in line, returns to it by itself, and delays nobody. Keep little in the carrier, a frame or two: what it
buffers, a stream that has just one byte to write waits behind. While the carrier is full, do not C{take}: what the
peer makes us answer meanwhile is limited, and more ends the session. Say C{closeWrite} or C{close} when the stream's
queue is empty; C{reset} needs no waiting.

I{Time.} C{now} is in seconds on one monotonic clock. Say C{ping} when the carrier is connected, as windows cannot grow
before the round trip is known, and then at the keepalive interval. Say C{expire} when C{deadline} has come.

I{The end.} L{RemoteProtocolError} from C{receive} or C{expire} ends the session and every stream in it: write what
C{take} returns, which ends with our Go Away, and close the carrier. When the carrier is gone say C{lost}, which gives
the windows back to the budget.

The state of a stream is a table, in L{gateway.wire.yamuxstreams}. Besides, a frame for a stream that is not known is
skipped, as it crossed our RST; and a SYN that cannot be taken (we go away, or a limit) is answered with RST. Payload
for a stream that was closed is not answered with RST at once, as TCP would do: hashicorp's library drops at an RST what
its application has not read yet, so an answer would be lost because the question was long.

Length: one state machine, whose two directions share all of their state; a fifth is this contract.
"""

__all__ = ["Session"]

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.window import INITIAL_WINDOW, WindowBudget
from gateway.wire.yamuxframes import (
    ACK,
    DATA,
    FIN,
    FLAGS,
    GO_AWAY,
    HEADER,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Ack,
    Code,
    Data,
    Event,
    Fin,
    GoAway,
    GoAwayCode,
    Piece,
    Pong,
    Rst,
    Syn,
    frame,
)
from gateway.wire.yamuxstreams import End, Limits, State, Stream, Streams

_HEADER_SIZE = HEADER.size


class Session:
    """
    One end of a yamux session.

    @param client: which of the two roles. The ends have to differ in it, and in nothing else.
    @param budget: shared with all other sessions of the process.
    @ivar ended: nothing is received or sent any more.
    @ivar goingAway: we said Go Away, so the peer can open no streams.
    @ivar rtt: the shortest round trip seen, in seconds, or C{None}. What longer ones add are queues, which no window
        should grow to fill.
    """

    def __init__(self, *, client: bool, budget: WindowBudget, limits: Limits | None = None) -> None:
        self.ended = False
        self.goingAway = False
        self.rtt: float | None = None
        self._limits = limits or Limits()
        self._streams = Streams(client=client, budget=budget, limits=self._limits)
        self._byNumber = self._streams.byNumber
        self._peerWentAway = False
        self._pings: dict[int, float] = {}
        self._nextPing = 0
        self._output: list[Piece] = []
        self._answers = 0
        self._newStreams = 0
        self._grants: dict[int, int] = {}
        # What a read ended in the middle of: a header, or the payload of a frame for the target.
        self._head = b""
        self._left = 0
        self._target = 0
        self._fin = False

    @property
    def streamCount(self) -> int:
        """How many streams there are, of either side, with those that wait for the application only."""
        return len(self._byNumber)

    def receive(self, data: Piece, now: float) -> list[Event]:
        """
        Take what arrived, in pieces of any size. After the end it is ignored.

        @raise RemoteProtocolError: with any L{Code} but C{ping-timeout}, and the session has ended. What there was in
            C{data} before the wrong frame is lost with it.
        """
        events: list[Event] = []
        if self.ended:
            return events
        streams, end, position = self._byNumber, len(data), 0
        if self._head:
            position = _HEADER_SIZE - len(self._head)
            self._head += bytes(data[:position])
            if len(self._head) < _HEADER_SIZE:
                return events
            word, identifier, length = HEADER.unpack(self._head)
            self._receiveFrame(word, identifier, length, now, events)
        while True:
            if self._left:
                position = self._receivePayload(data, position, events)
            if end - position < _HEADER_SIZE:
                break
            word, identifier, length = HEADER.unpack_from(data, position)
            position += _HEADER_SIZE
            # Plain Data for a stream that reads, and all of it here, as nearly every frame of a busy session is.
            if word == DATA and 0 < length <= end - position:
                stream = streams.get(identifier)
                if stream is not None and not stream.closing and stream.window.receive(length):
                    stop = position + length
                    events.append(Data(identifier, data[position:stop]))
                    position = stop
                    continue
            self._receiveFrame(word, identifier, length, now, events)
        self._head = bytes(data[position:])
        return events

    def _receivePayload(self, data: Piece, position: int, events: list[Event]) -> int:
        """Pass on what is there of a frame's payload, or skip it if nobody wants it. Return where it stops."""
        stop = min(position + self._left, len(data))
        stream = self._byNumber.get(self._target)
        if stop > position and stream is not None and not stream.closing:
            events.append(Data(self._target, data[position:stop]))
        self._left -= stop - position
        if not self._left and self._fin and stream is not None:
            self._receiveFin(stream, events)
        return stop

    def _receiveFrame(self, word: int, identifier: int, length: int, now: float, events: list[Event]) -> None:
        """Act on a header."""
        kind, flags = word & ~0xFFFF, word & 0xFFFF
        if kind > GO_AWAY:
            if word >> 24:
                raise self._fail(Code.BAD_VERSION, "The version of a frame is not 0.")
            raise self._fail(Code.BAD_TYPE, "The type of a frame is unknown.")
        if flags & ~FLAGS:
            raise self._fail(Code.BAD_FLAGS, "A frame has unknown flags.")
        if kind == PING:
            self._receivePing(flags, length, now, events)
        elif kind == GO_AWAY:
            self._receiveGoAway(length, events)
        else:
            payload = length if kind == DATA else 0
            if payload > self._limits.window:
                raise self._fail(Code.WINDOW_EXCEEDED, "A frame is longer than any window.")
            if flags & SYN:
                self._receiveSyn(flags, identifier, payload, now, events)
            self._left, self._target, self._fin = payload, identifier, False
            if (stream := self._byNumber.get(identifier)) is not None:
                self._receiveForStream(stream, flags, payload, length - payload, events)

    def _receiveSyn(self, flags: int, identifier: int, payload: int, now: float, events: list[Event]) -> None:
        """Make a stream of the peer's, or refuse it."""
        if identifier == 0 or self._streams.isOurs(identifier):
            raise self._fail(Code.BAD_STREAM, "The peer opened a stream with a number that is not its own.")
        if identifier in self._byNumber:
            raise self._fail(Code.DUPLICATE_STREAM, "The peer opened a stream that is open.")
        if payload > INITIAL_WINDOW:
            raise self._fail(Code.WINDOW_EXCEEDED, "The peer sent more than a new stream's window allows.")
        if flags & RST:
            return
        # A stream may end before the carrier took the ACK; the peer, who did not see one, counts it all the same.
        if self.goingAway or self._streams.isFull or self._newStreams >= self._limits.backlog:
            self._answer(WINDOW_UPDATE | RST, identifier, 0)
            return
        self._newStreams += 1
        self._streams.add(identifier, now)
        events.append(Syn(identifier))

    def _receiveForStream(self, stream: Stream, flags: int, payload: int, credit: int, events: list[Event]) -> None:
        """Data with this much payload, or a window update with that much credit."""
        if flags & ACK and self._streams.acknowledged(stream):
            events.append(Ack(stream.identifier))
        if flags & RST:
            self._forget(stream)
            events.append(Rst(stream.identifier))
            return
        if not stream.window.receive(payload):
            raise self._fail(Code.WINDOW_EXCEEDED, "The peer sent more than the window allows.")
        if stream.closing:
            stream.window.unconsumed = 0
            if payload and stream.window.isSpent and not flags & FIN:
                self.reset(stream.identifier)
                return
        if credit:
            self._streams.grant(stream, credit)
        if flags & FIN:
            if not stream.allows(End.RECEIVED):
                raise self._fail(Code.UNEXPECTED_FIN, "The peer ended a stream twice.")
            if payload:
                self._fin = True
            else:
                self._receiveFin(stream, events)

    def _receiveFin(self, stream: Stream, events: list[Event]) -> None:
        stream.end(End.RECEIVED)
        stream.window.end()
        self._grants.pop(stream.identifier, None)
        if not stream.closing:
            events.append(Fin(stream.identifier))
        self._forgetIfDone(stream)

    def _receivePing(self, flags: int, opaque: int, now: float, events: list[Event]) -> None:
        if flags & SYN:
            self._answer(PING | ACK, 0, opaque)
        elif (sent := self._pings.pop(opaque, None)) is not None:
            rtt = now - sent
            self.rtt = rtt if self.rtt is None else min(self.rtt, rtt)
            events.append(Pong(opaque, rtt))

    def _receiveGoAway(self, code: int, events: list[Event]) -> None:
        if code != GoAwayCode.NORMAL:
            raise self._fail(Code.WENT_AWAY, f"The peer ended the session with error {code}.")
        self._peerWentAway = True
        events.append(GoAway())

    def _answer(self, word: int, identifier: int, length: int) -> None:
        """Queue a frame because the peer wants it so."""
        if self._answers >= self._limits.answers:
            raise self._fail(Code.CONTROL_FLOOD, "The peer asks for more answers than it reads.")
        self._answers += 1
        self._output.append(frame(word, identifier, length))

    def _fail(self, code: Code, details: str) -> RemoteProtocolError:
        """End the session because of the peer."""
        self.goAway(GoAwayCode.PROTOCOL_ERROR)
        return RemoteProtocolError(code, details)

    def _forget(self, stream: Stream) -> None:
        self._streams.forget(stream)
        self._grants.pop(stream.identifier, None)

    def _forgetIfDone(self, stream: Stream) -> None:
        if stream.isDone:
            self._forget(stream)

    def _send(self, stream: Stream, word: int, length: int) -> None:
        """Queue a header for a stream."""
        if stream.flags:
            word |= stream.flags
            self._streams.accepted(stream)
        self._output.append(frame(word, stream.identifier, length))

    @property
    def openRefusal(self) -> str | None:
        """
        Why no stream can be opened at present: C{ended}, C{going-away}, C{exhausted} (no numbers are left),
        C{streams} or C{backlog} (a limit); or C{None}.
        """
        if self.ended:
            return "ended"
        if self._peerWentAway or self.goingAway:
            return "going-away"
        return self._streams.refusal

    def open(self, now: float) -> int:
        """
        Open a stream. Payload may be sent at once; L{Ack} or L{Rst} comes later.

        @return: its number.
        @raise LocalProtocolError: when there is an L{openRefusal}.
        """
        if refusal := self.openRefusal:
            raise LocalProtocolError(f"cannot open a stream: {refusal}")
        stream = self._streams.new(now)
        self._send(stream, WINDOW_UPDATE | SYN, 0)
        return stream.identifier

    def accept(self, identifier: int) -> None:
        """Acknowledge a stream of the peer's, unless a frame did it already."""
        stream = self._byNumber.get(identifier)
        if stream is not None and stream.flags:
            self._send(stream, WINDOW_UPDATE, 0)

    def wants(self, identifier: int) -> None:
        """The application has payload to send: get in line for L{nextWriter}. Once is enough."""
        stream = self._byNumber.get(identifier)
        if stream is not None:
            stream.wants = True
            self._streams.enterLine(stream)

    def nextWriter(self) -> tuple[int, int] | None:
        """
        @return: the stream whose turn it is, with how many bytes it may send now; it has left the line. C{None} when
            nobody can send.
        """
        stream = self._streams.nextInLine()
        return None if stream is None else (stream.identifier, min(stream.credit, self._limits.frame))

    def sendable(self, identifier: int) -> int:
        """Bytes that L{sendData} takes now: 0 when there is no credit, or no such stream, or FIN was sent."""
        stream = self._byNumber.get(identifier)
        return 0 if stream is None else min(stream.credit, self._limits.frame)

    def sendData(self, identifier: int, payload: Piece) -> None:
        """
        Queue one frame of payload, which is not copied: it must not change before it is written.

        @param payload: not empty; a memoryview has to be of bytes.
        @raise LocalProtocolError: when it is longer than what is L{sendable}.
        """
        length, allowed = len(payload), self.sendable(identifier)
        if not 0 < length <= allowed:
            raise LocalProtocolError(f"{length} bytes sent on stream {identifier}, {allowed} allowed")
        stream = self._byNumber[identifier]
        stream.credit -= length
        self._send(stream, DATA, length)
        self._output.append(payload)

    def consume(self, identifier: int, count: int, now: float) -> None:
        """
        The application took payload of a stream: return the credit for it.

        @raise LocalProtocolError: when more is consumed than was received.
        """
        stream = self._byNumber.get(identifier)
        if stream is None or stream.closing:
            return
        if grant := stream.window.consume(count, now, self.rtt):
            self._grants[identifier] = self._grants.get(identifier, 0) + grant
        self._forgetIfDone(stream)

    def closeWrite(self, identifier: int) -> None:
        """
        Send FIN: no more payload from us. The other direction goes on for as long as the peer likes.

        @raise LocalProtocolError: when it was sent before.
        """
        stream = self._byNumber.get(identifier)
        if stream is None:
            return
        if not stream.allows(End.SENT):
            raise LocalProtocolError(f"stream {identifier} is {stream.state}")
        stream.end(End.SENT)
        self._send(stream, WINDOW_UPDATE | FIN, 0)
        self._forgetIfDone(stream)

    def close(self, identifier: int, now: float) -> None:
        """
        The application is done with both directions: send FIN unless it was sent, and drop what still comes. The peer
        gets no credit for that, and C{closeTimeout} to end its direction. If it goes on until half of its credit is
        used up, or waits for credit already, the stream is reset. What may follow is an L{Ack} and an L{Rst}.
        """
        stream = self._byNumber.get(identifier)
        if stream is None or stream.closing:
            return
        stream.window.credit -= self._grants.pop(identifier, 0)
        self._streams.close(stream, now)
        if stream.allows(End.RECEIVED) and stream.window.isSpent:
            self.reset(identifier)
        elif stream.allows(End.SENT):
            self.closeWrite(identifier)
        else:
            self._forgetIfDone(stream)

    def reset(self, identifier: int) -> None:
        """Send RST: both directions end at once, and what was received is dropped. Also refuses a stream."""
        stream = self._byNumber.get(identifier)
        if stream is not None:
            if stream.state is not State.CLOSED:
                self._output.append(frame(WINDOW_UPDATE | RST, identifier, 0))  # without ACK: it may be a refusal
            self._forget(stream)

    def ping(self, now: float) -> int:
        """
        Ask the peer for an answer, to be seen as L{Pong}.

        @return: the ping's number.
        @raise LocalProtocolError: when too many are not answered yet, or the session has ended.
        """
        if self.ended or len(self._pings) >= self._limits.pings:
            raise LocalProtocolError("cannot ping: " + ("ended" if self.ended else "pings"))
        opaque = self._nextPing
        self._nextPing = (opaque + 1) & 0xFFFFFFFF
        self._pings[opaque] = now
        self._output.append(frame(PING | SYN, 0, opaque))
        return opaque

    def goAway(self, code: GoAwayCode = GoAwayCode.NORMAL) -> None:
        """Take no new streams. C{NORMAL} lets those that there are go on; an error ends the session."""
        if self.ended:
            return
        self.goingAway = True
        self._output.append(frame(GO_AWAY, 0, code))
        if code is not GoAwayCode.NORMAL:
            self.lost()

    def lost(self) -> None:
        """The carrier is gone, or will be: end the session and forget every stream."""
        self.ended = True
        self._pings.clear()
        for stream in list(self._byNumber.values()):
            self._forget(stream)

    @property
    def deadline(self) -> float | None:
        """When L{expire} has something to do, unless something happens before; C{None} for never."""
        times = [self._streams.deadline, self._pingDeadline]
        return min((when for when in times if when is not None), default=None)

    @property
    def _pingDeadline(self) -> float | None:
        oldest = next(iter(self._pings.values()), None)
        return None if oldest is None else oldest + self._limits.pingTimeout

    def expire(self, now: float) -> list[Event]:
        """
        Reset the streams that waited too long, for an ACK or after L{close}.

        @return: an L{Rst} for each.
        @raise RemoteProtocolError: C{ping-timeout}, and the session has ended.
        """
        if (when := self._pingDeadline) is not None and now >= when:
            raise self._fail(Code.PING_TIMEOUT, "The peer does not answer.")
        events: list[Event] = []
        while (identifier := self._streams.overdue(now)) is not None:
            self.reset(identifier)
            events.append(Rst(identifier))
        return events

    def take(self) -> list[Piece]:
        """
        @return: what is to be written, in order: headers, and payload as it was given. The credit for one stream is one
            frame, however often it was consumed from.
        """
        for identifier, grant in self._grants.items():
            self._send(self._byNumber[identifier], WINDOW_UPDATE, grant)
        self._grants.clear()
        output, self._output = self._output, []
        self._answers = self._newStreams = 0
        return output
