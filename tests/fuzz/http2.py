"""
An end of an HTTP/2 connection, and an application that answers what comes there, for L{tests.fuzz.targets}::

    decode(client=False)([frame(SETTINGS, 0, 0), frame(PING, 0, 0, b"12345678")])

What has to come first, a client's preface, has come; an input is frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from h2.errors import ErrorCodes

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.http2 import Http2Connection
from gateway.wire.http2budget import Http2Limits
from gateway.wire.http2events import DataReceived, Event, HeadReceived, StreamReset, WindowOpened
from gateway.wire.http2fields import requestFields, requestHead, responseFields, responseHead, trailers
from gateway.wire.http2frames import MAX_FRAME, PREFACE, FrameReader

__all__ = ["decode", "units"]

_LIMITS = Http2Limits(streams=4, streamWindow=1024, headerList=512, continuations=4, resets=8, controls=24, queued=512)
_REQUEST = requestFields(RequestHead("POST", "/", "2", [("host", "a.example")]), None)
_RESPONSE = responseFields(ResponseHead(200, "OK", "2", [("etag", '"1"')]))


def units(data: bytes) -> list[bytes]:
    """Frames, each with its payload."""
    pieces, position = [], 0
    while position < len(data):
        stop = min(len(data), position + 9 + int.from_bytes(data[position : position + 3]))
        pieces.append(data[position:stop])
        position = stop
    return pieces


def decode(*, client: bool) -> Callable[[Sequence[bytes]], Iterator[object]]:
    """
    @param client: which end it is. A client has two requests out, one of which it has said to the end.
    """

    def run(pieces: Sequence[bytes]) -> Iterator[object]:
        application = _Client() if client else _Server()
        try:
            for piece in pieces:
                for event in application.connection.receive(piece, 1.0):
                    yield event
                    yield application.got(event)
                    assert application.connection.streamCount <= _LIMITS.streams
        finally:
            application.check()

    return run


class _Application:
    """What does something about each event, which depends on the stream."""

    def __init__(self, connection: Http2Connection) -> None:
        self.connection = connection
        self._output = b""
        self._ended: set[int] = set()
        self._gone: set[int] = set()
        self._open: set[int] = set()  # may have payload
        connection.begin()

    def got(self, event: Event) -> object:
        """
        @return: what a head stands for, or the code of why it stands for none.
        """
        connection = self.connection
        result: object = None
        if isinstance(event, HeadReceived | DataReceived | StreamReset):
            assert event.stream not in self._gone, event
            assert isinstance(event, StreamReset) or event.stream not in self._ended, event
            if isinstance(event, StreamReset):
                self._forget(event.stream)
            elif event.ended:
                self._ended.add(event.stream)
        if isinstance(event, DataReceived):
            assert len(event.payload) <= event.credit <= MAX_FRAME
            connection.consumed(event.stream, event.credit)
        elif isinstance(event, WindowOpened):
            for stream in list(self._open):
                room = connection.room(stream)
                if room > 0:
                    connection.sendData(stream, bytes(min(room, 100)), isLast=room > 70_000)
                    if room > 70_000:
                        self._open.remove(stream)
        elif isinstance(event, HeadReceived):
            try:
                result = trailers(event.fields) if event.isTrailers else self.gotHead(event)
            except RemoteProtocolError as e:
                result = e.code
                connection.reset(event.stream, ErrorCodes.PROTOCOL_ERROR, isFault=True)
                self._forget(event.stream)
        self._output += connection.take()
        return result

    def _forget(self, stream: int) -> None:
        self._gone.add(stream)
        self._open.discard(stream)

    def gotHead(self, event: HeadReceived) -> object:
        """A head came that is none of trailers."""
        raise NotImplementedError

    def check(self) -> None:
        """Assert that what was said is frames."""
        self._output += self.connection.take()
        sizes = [len(payload) for _, _, _, payload in FrameReader().receive(self._output.removeprefix(PREFACE))]
        assert sum(sizes) + 9 * len(sizes) == len(self._output.removeprefix(PREFACE))


class _Server(_Application):
    def __init__(self) -> None:
        super().__init__(Http2Connection(client=False, limits=_LIMITS))
        assert list(self.connection.receive(PREFACE, 1.0)) == []

    def gotHead(self, event: HeadReceived) -> object:
        head = requestHead(event.fields, ended=event.ended)
        if event.stream % 4 == 1:
            self.connection.sendFields(event.stream, _RESPONSE, isLast=event.stream % 8 == 1)
            if event.stream % 8 == 5:
                self._open.add(event.stream)
        elif event.stream % 8 == 3:
            self.connection.reset(event.stream, ErrorCodes.CANCEL)
            self._forget(event.stream)
        return head


class _Client(_Application):
    def __init__(self) -> None:
        super().__init__(Http2Connection(client=True, limits=_LIMITS))
        self.connection.open(_REQUEST, isLast=True)
        self._open.add(self.connection.open(_REQUEST, isLast=False))

    def gotHead(self, event: HeadReceived) -> object:
        return responseHead(event.fields, ended=event.ended, method="POST")
