"""
One end of an HTTP/2 connection, without the connection (RFC 9113): C{h2}, and what has to stand in front of it.

h2 says and reads the settings, and counts how far the peer may go on. It is not given what is about streams, because

  - it ends the connection for what is the fault of one stream (a length that is not kept, a stream too many, trailers
    that do not end theirs), or with another error than the RFC names (compression, settings);
  - after a GOAWAY in either direction it neither sends nor receives any more, where the streams that there are should
    be finished;
  - it remembers every setting that it does not know, lets the peer choose the size of a table of ours, and waits for a
    frame to be complete before it looks how long it is;
  - with all of that judged here, what it does for a request is to do it again, in three times the time.

So frames are found and written here, header lists are read and written by L{gateway.wire.http2lists}, and what is known
of a stream is a few bits and two windows::

    connection = Http2Connection(client=False)
    connection.begin()
    for event in connection.receive(data, now): # an event at a time: what is done about one comes before the next
        ...
    send(connection.take())

Length: the two directions of one state; what can be said without it is in the modules beside this one.
"""

__all__ = ["Http2Connection"]

from collections.abc import Callable, Iterator
from struct import iter_unpack, pack

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import FlowControlError, ProtocolError
from h2.settings import SettingCodes, Settings
from h2.windows import WindowManager

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http2budget import Budget, Http2Limits
from gateway.wire.http2events import DataReceived, Event, GoneAway, HeadReceived, Ponged, StreamReset, WindowOpened
from gateway.wire.http2frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    MAX_WINDOW,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Buffer,
    FrameReader,
    connectionError,
    frame,
    goAway,
    ping,
    rstStream,
    unpadded,
    windowUpdate,
)
from gateway.wire.http2lists import HeaderList, HeaderLists, HeaderListWriter, RawFields

_FIRST_STREAMS = 100
"""Streams that a client opens before the server has said how many there may be: as many as servers mostly let it."""

_REMEMBERED = 1000
"""Streams that are over of which it is known how they ended."""

_HEADER_TABLE = 4096
"""Bytes that compression remembers in either direction, at most: what both ends begin with."""

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _LAST_SETTING = 1, 2, 6

# What is known of an open stream.
_PEER_ENDED, _WE_ENDED, _HEAD_RECEIVED = 1, 2, 4
_BOTH_ENDED = _PEER_ENDED | _WE_ENDED

# How one ended: both sides said so, the peer reset it, or we did (or never let it begin).
_ENDED, _PEER_RESET, _WE_RESET = range(3)

_FIRST_ROOM = 65_535
"""Bytes of payload that either end may send at first, on a stream and on all of them (RFC 9113, section 6.9.2)."""

_ON_ITSELF = "A stream depends on itself."


class _Stream(msgspec.Struct):
    """
    A stream that is open.

    @ivar room: bytes that the peer takes. May be less than 0, after it changed its settings.
    @ivar window: counts what we take, once there was something.
    @ivar state: what is known of it.
    """

    room: int
    window: WindowManager | None = None
    state: int = 0


class Http2Connection:
    """
    @param client: which end.
    @ivar highest: the last stream that the peer opened.
    @ivar hasSettings: the peer has said its own.
    """

    def __init__(self, *, client: bool, limits: Http2Limits = Http2Limits()) -> None:  # noqa: B008  # frozen
        self._client = client
        self._limits = limits
        self._h2 = H2Connection(H2Configuration(client_side=client))
        settings = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.MAX_CONCURRENT_STREAMS: 0 if client else limits.streams,
            SettingCodes.INITIAL_WINDOW_SIZE: limits.streamWindow,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.headerList,
        }
        self._h2.local_settings = Settings(client=client, initial_values=settings)
        self._lists = HeaderLists(limits.headerList, limits.continuations)
        self._h2.encoder = self._writer = HeaderListWriter()
        self._window = WindowManager(limits.connectionWindow)
        self._room = self._firstRoom = _FIRST_ROOM
        self._reader = FrameReader()
        self._preface = b"" if client else PREFACE
        self._streams: dict[int, _Stream] = {}
        self._over: dict[int, int] = {}
        self._output: list[bytes] = []
        self._raw = bytearray()
        self._dropped = 0  # bytes of payload for streams that are over, for which the connection's window is due
        self._goingAway = self._said = self._isOverdrawn = False
        self._nextStream = 1
        self.highest = 0
        self.hasSettings = False
        seconds = limits.seconds
        self._resets = Budget(limits.resets, seconds)
        self._controls = Budget(limits.controls, seconds)
        self._updates = Budget(10 * limits.controls, seconds)
        self._now = 0.0
        self._receivers: dict[int, Callable[[int, int, memoryview], Event | None]] = {
            DATA: self._gotData,
            HEADERS: self._gotHeaders,
            PRIORITY: self._gotPriority,
            RST_STREAM: self._gotRstStream,
            SETTINGS: self._gotSettings,
            PUSH_PROMISE: self._gotPushPromise,
            PING: self._gotPing,
            GOAWAY: self._gotGoAway,
            WINDOW_UPDATE: self._gotWindowUpdate,
            CONTINUATION: self._gotContinuation,
        }

    def begin(self) -> None:
        """Say our settings, and a client's preface. Called once, first."""
        self._h2.initiate_connection()
        if self._preface:
            self._h2.receive_data(PREFACE)
        self._output.append(self._h2.data_to_send())
        self._output.append(windowUpdate(0, self._limits.connectionWindow - _FIRST_ROOM))

    # -- Receiving

    def receive(self, data: Buffer, now: float) -> Iterator[Event]:
        """
        Take what came. Go on until there is nothing more, or give up the connection.

        @param now: seconds, of any clock that does not go back.
        @raise RemoteProtocolError: with the name of one of C{ErrorCodes}. The peer is told with what L{take} returns;
            nothing can be done with the connection any more.
        """
        self._now = now
        try:
            if self._preface:
                data = self._receivePreface(data)
            for kind, flags, stream, payload in self._reader.receive(data):
                if self._lists.stream and (kind != CONTINUATION or stream != self._lists.stream):
                    raise connectionError(ErrorCodes.PROTOCOL_ERROR, "A header list is interrupted.")
                if not self.hasSettings and (kind != SETTINGS or flags & ACK):
                    raise connectionError(ErrorCodes.PROTOCOL_ERROR, "The first frame has no settings.")
                receiver = self._receivers.get(kind)
                if receiver is None:
                    self._spend(self._controls, "unknown")
                elif (event := receiver(flags, stream, payload)) is not None:
                    yield event
                if self._isOverdrawn:
                    raise connectionError(ErrorCodes.ENHANCE_YOUR_CALM, "Too many streams with mistakes.")
        except RemoteProtocolError as e:
            self.goAway(self.highest, ErrorCodes[e.code])
            self._streams.clear()
            raise

    def _receivePreface(self, data: Buffer) -> Buffer:
        view = memoryview(data)
        count = min(len(view), len(self._preface))
        if view[:count] != self._preface[:count]:
            raise connectionError(ErrorCodes.PROTOCOL_ERROR, "This does not begin as HTTP/2.")
        self._preface = self._preface[count:]
        return view[count:]

    def _spend(self, budget: Budget, what: str) -> None:
        if not budget.spend(self._now):
            raise connectionError(ErrorCodes.ENHANCE_YOUR_CALM, f"Too many frames: {what}.")

    def _isIdle(self, stream: int) -> bool:
        if self._client:
            return not stream % 2 or stream >= self._nextStream
        return not stream % 2 or stream > self.highest

    def _known(self, stream: int, what: str) -> _Stream | None:
        """
        @return: a stream, C{None} for one that is over.
        @raise RemoteProtocolError: C{PROTOCOL_ERROR} for one that never was.
        """
        if (known := self._streams.get(stream)) is None and self._isIdle(stream):
            raise connectionError(ErrorCodes.PROTOCOL_ERROR, f"{what} is for a stream that there is not.")
        return known

    def _gotData(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        known = self._known(stream, "DATA")
        size = len(payload)
        isLast = flags & END_STREAM
        data = unpadded(flags, payload)
        if not data and not isLast:
            self._spend(self._controls, "DATA without data")
        if known is None or known.state & _PEER_ENDED:
            self._dropped += size  # it was not counted
            if known is not None:
                return self._fault(stream, ErrorCodes.STREAM_CLOSED, "There is DATA behind the end of a stream.")
            if self._over.get(stream) != _WE_RESET:  # or it was sent before that was known
                self._spend(self._controls, "DATA for streams that are over")
                self._raw += rstStream(stream, ErrorCodes.STREAM_CLOSED)
            return None
        if not known.state & _HEAD_RECEIVED:
            raise connectionError(ErrorCodes.PROTOCOL_ERROR, "There is DATA before a head.")
        if size:
            if known.window is None:
                known.window = WindowManager(self._limits.streamWindow)
            try:
                self._window.window_consumed(size)
                known.window.window_consumed(size)
            except FlowControlError:
                raise connectionError(ErrorCodes.FLOW_CONTROL_ERROR, "There is more DATA than a window has.") from None
        if isLast:
            self._note(stream, known, _PEER_ENDED)
        return DataReceived(stream, bytes(data), size, bool(isLast))

    def _gotHeaders(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        if not stream % 2 or (self._client and stream not in self._streams):
            self._known(stream, "HEADERS")
        return self._gotList(self._lists.begin(stream, flags, payload))

    def _gotContinuation(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        if not self._lists.stream:
            raise connectionError(ErrorCodes.PROTOCOL_ERROR, "There is nothing that a CONTINUATION would continue.")
        return self._gotList(self._lists.goOn(stream, flags, payload))

    def _gotList(self, received: HeaderList | None) -> Event | None:
        if received is None:
            return None
        stream, ended = received.stream, received.ended
        known = self._streams.get(stream)
        isInformational = False
        if known is None:
            if self._client or not self._admits(stream):
                return None
            known = self._streams[stream] = _Stream(self._firstRoom)
        elif known.state & _PEER_ENDED:
            return self._fault(stream, ErrorCodes.STREAM_CLOSED, "There are HEADERS behind the end of a stream.")
        elif known.state & _HEAD_RECEIVED:
            if not ended:
                return self._fault(stream, ErrorCodes.PROTOCOL_ERROR, "Trailers do not end their stream.")
        elif (isInformational := received.isInformational) and ended:
            return self._fault(stream, ErrorCodes.PROTOCOL_ERROR, "A response of 1xx ends its stream.")
        if received.dependsOnItself:
            return self._fault(stream, ErrorCodes.PROTOCOL_ERROR, _ON_ITSELF)
        isTrailers = bool(known.state & _HEAD_RECEIVED)
        if not isInformational:
            self._note(stream, known, (_HEAD_RECEIVED | _PEER_ENDED) if ended else _HEAD_RECEIVED)
        return HeadReceived(stream, received.fields, received.size, ended, isTrailers)

    def _admits(self, stream: int) -> bool:
        """Whether a stream that is not open may be opened by the peer, now."""
        if stream <= self.highest:
            how = self._over.get(stream)
            if how is None:
                raise connectionError(ErrorCodes.PROTOCOL_ERROR, "A stream has a lower number than one before.")
            if how == _ENDED:
                raise connectionError(ErrorCodes.STREAM_CLOSED, "There are HEADERS for a stream that is over.")
            self._spend(self._controls, "HEADERS for streams that are over")
            if how == _PEER_RESET:
                self._raw += rstStream(stream, ErrorCodes.STREAM_CLOSED)
            return False
        self.highest = stream
        if self._goingAway:
            self._end(stream, _WE_RESET)  # without a word: the GOAWAY says that nobody will look at it
            return False
        if len(self._streams) >= self._limits.streams:
            self._spend(self._resets, "HEADERS of streams too many")
            self._raw += rstStream(stream, ErrorCodes.REFUSED_STREAM)
            self._end(stream, _WE_RESET)
            return False
        return True

    def _gotPriority(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        self._spend(self._controls, "PRIORITY")
        if len(payload) != 5:
            return self._faultAnywhere(stream, ErrorCodes.FRAME_SIZE_ERROR, "A priority has not the length of one.")
        if int.from_bytes(payload[:4]) & MAX_WINDOW == stream:
            return self._faultAnywhere(stream, ErrorCodes.PROTOCOL_ERROR, _ON_ITSELF)
        return None

    def _gotRstStream(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        if self._known(stream, "RST_STREAM") is None:
            self._spend(self._controls, "RST_STREAM for streams that are over")
            return None
        self._spend(self._resets, "RST_STREAM")
        self._end(stream, _PEER_RESET)
        return StreamReset(stream, int.from_bytes(payload), False, "The stream was reset.")

    def _gotSettings(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        if payload and flags & ACK:
            raise connectionError(ErrorCodes.FRAME_SIZE_ERROR, "SETTINGS are acknowledged, and said.")
        self._spend(self._controls, "SETTINGS")
        if flags & ACK:
            return None
        self.hasSettings = True
        known = b""
        for setting, value in iter_unpack(">HL", payload):
            if setting == _HEADER_TABLE_SIZE:
                value = min(value, _HEADER_TABLE)
            elif setting == _ENABLE_PUSH and value and self._client:
                raise connectionError(ErrorCodes.PROTOCOL_ERROR, "A server would take pushes.")
            if 0 < setting <= _LAST_SETTING:
                known += pack(">HL", setting, value)
        try:
            self._h2.receive_data(frame(SETTINGS, 0, 0, known))
        except ProtocolError as e:
            self._said = True  # h2 does that by itself
            raise connectionError(ErrorCodes(e.error_code), str(e)) from e
        finally:
            self._output.append(self._h2.data_to_send())
        self._resize(self._h2.remote_settings.initial_window_size)
        return WindowOpened(0)

    def _resize(self, room: int) -> None:
        """The peer takes so much at first, which is about streams that are open, too (RFC 9113, section 6.9.2)."""
        more, self._firstRoom = room - self._firstRoom, room
        if more:
            for known in self._streams.values():
                known.room += more
                if known.room > MAX_WINDOW:
                    raise connectionError(ErrorCodes.FLOW_CONTROL_ERROR, "Settings make a window too large.")

    def _gotPushPromise(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        raise connectionError(ErrorCodes.PROTOCOL_ERROR, "Nobody may push here.")

    def _gotPing(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        self._spend(self._controls, "PING")
        if flags & ACK:
            return Ponged(bytes(payload))
        self._raw += ping(payload, isAnswer=True)
        return None

    def _gotGoAway(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        return GoneAway(int.from_bytes(payload[:4]) & MAX_WINDOW, int.from_bytes(payload[4:8]))

    def _gotWindowUpdate(self, flags: int, stream: int, payload: memoryview) -> Event | None:
        self._spend(self._updates, "WINDOW_UPDATE")
        known = self._known(stream, "WINDOW_UPDATE") if stream else None
        if stream and known is None:
            return None
        increment = int.from_bytes(payload) & MAX_WINDOW
        if not increment:
            return self._faultAnywhere(stream, ErrorCodes.PROTOCOL_ERROR, "A window is opened by nothing.")
        if known is None:
            self._room += increment
        else:
            known.room += increment
        if (self._room if known is None else known.room) > MAX_WINDOW:
            return self._faultAnywhere(stream, ErrorCodes.FLOW_CONTROL_ERROR, "A window is too large.")
        return WindowOpened(stream)

    # -- What a peer did wrong

    def _fault(self, stream: int, code: ErrorCodes, details: str) -> Event:
        """End an open stream for something that the peer did."""
        self.reset(stream, code, isFault=True)
        return StreamReset(stream, code, True, details)

    def _faultAnywhere(self, stream: int, code: ErrorCodes, details: str) -> Event:
        """The same; it ends the connection where the stream is not open."""
        if stream not in self._streams:
            raise connectionError(code, details)
        return self._fault(stream, code, details)

    # -- The state of streams

    def _note(self, stream: int, known: _Stream, what: int) -> None:
        known.state |= what
        if known.state & _BOTH_ENDED == _BOTH_ENDED:
            self._end(stream, _ENDED)
            self._resets.earn()

    def _end(self, stream: int, how: int) -> None:
        self._streams.pop(stream, None)
        self._over[stream] = how
        if len(self._over) > _REMEMBERED:
            del self._over[next(iter(self._over))]

    @property
    def streamCount(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def isInList(self) -> bool:
        """Whether there is more to come of a header list."""
        return self._lists.stream != 0

    @property
    def openable(self) -> int:
        """How many more streams a client may open at the moment."""
        if self._nextStream > MAX_WINDOW:
            return 0
        most = self._h2.remote_settings.max_concurrent_streams if self.hasSettings else _FIRST_STREAMS
        return max(0, min(most, self._limits.streams) - len(self._streams))

    # -- Sending. For a stream that is not open any more nothing happens.

    def open(self, fields: RawFields, *, isLast: bool) -> int:
        """
        Send a request's head.

        @return: the number of its stream. Only where L{openable} is not 0.
        """
        stream, self._nextStream = self._nextStream, self._nextStream + 2
        self._streams[stream] = _Stream(self._firstRoom)
        self.sendFields(stream, fields, isLast=isLast)
        return stream

    def sendFields(self, stream: int, fields: RawFields, *, isLast: bool = False) -> None:
        """
        Send a head, or trailers.

        @param fields: with the pseudo fields first; all of bytes, with names in lower case, and values that are proper.
        """
        if (known := self._streams.get(stream)) is None:
            return
        block = self._writer.write(fields)
        kind, flags = HEADERS, END_STREAM if isLast else 0
        while len(block) > MAX_FRAME:
            self._output.append(frame(kind, flags, stream, block[:MAX_FRAME]))
            kind, flags, block = CONTINUATION, 0, block[MAX_FRAME:]
        self._output.append(frame(kind, flags | END_HEADERS, stream, block))
        if isLast:
            self._note(stream, known, _WE_ENDED)

    def room(self, stream: int) -> int:
        """How many bytes of payload the peer takes on a stream at the moment; may be less than 0."""
        return 0 if (known := self._streams.get(stream)) is None else min(known.room, self._room)

    def sendData(self, stream: int, data: Buffer, *, isLast: bool = False) -> None:
        """
        Send payload.

        @param data: no more than L{room}, and than L{MAX_FRAME}. May be empty, at the end. Not kept.
        """
        if (known := self._streams.get(stream)) is None:
            return
        size = len(data)
        self._output.append(frame(DATA, END_STREAM if isLast else 0, stream, data))
        known.room -= size
        self._room -= size
        self._updates.earn(4)
        self._controls.earn()
        if isLast:
            self._note(stream, known, _WE_ENDED)

    def consumed(self, stream: int, credit: int) -> None:
        """
        Payload was taken, or dropped: let the peer send as much again.

        @param credit: of its L{DataReceived}.
        """
        if increment := self._window.process_bytes(credit):
            self._output.append(windowUpdate(0, increment))
        known = self._streams.get(stream)
        if known is None or known.window is None or known.state & _PEER_ENDED:
            return  # nothing more comes
        if increment := known.window.process_bytes(credit):
            self._output.append(windowUpdate(stream, increment))

    def reset(self, stream: int, code: int, *, isFault: bool = False) -> None:
        """
        End a stream at once.

        @param isFault: for something that the peer did, which counts as if it had reset it.
        """
        if stream in self._streams:
            self._output.append(rstStream(stream, code))
            self._end(stream, _WE_RESET)
            if isFault and not self._resets.spend(self._now):
                self._isOverdrawn = True

    def goAway(self, last: int, code: int) -> None:
        """
        Say that no more streams are taken. Those that there are go on.

        @param last: the last one that is taken; L{MAX_WINDOW}: whatever comes until this is said again.
        """
        if not self._said:
            self._raw += goAway(last, code)
            self._said = code != ErrorCodes.NO_ERROR
            self._goingAway = last != MAX_WINDOW

    def ping(self, data: bytes) -> None:
        """Ask the peer for a sign of life: L{Ponged} with the same 8 bytes."""
        self._raw += ping(data)

    @property
    def hoards(self) -> bool:
        """Whether more answers wait than a peer may leave unread."""
        return len(self._raw) > self._limits.queued

    def take(self) -> bytes:
        """All that is to be sent by now."""
        if self._dropped:
            self._raw += windowUpdate(0, self._dropped)
            self._dropped = 0
        if self._raw:
            self._output.append(bytes(self._raw))
            self._raw.clear()
        output = b"".join(self._output)
        self._output.clear()
        return output
