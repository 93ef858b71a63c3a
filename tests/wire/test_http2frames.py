"""Tests for L{gateway.wire.http2frames}."""

from h2.errors import ErrorCodes
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, RstStreamFrame, WindowUpdateFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http2frames import (
    DATA,
    MAX_FRAME,
    PADDED,
    PING,
    FrameReader,
    frame,
    goAway,
    ping,
    rstStream,
    unpadded,
    windowUpdate,
)

Read = tuple[int, int, int, bytes]


def read(reader: FrameReader, data: bytes) -> list[Read]:
    """Everything in some bytes."""
    return [(kind, flags, stream, bytes(payload)) for kind, flags, stream, payload in reader.receive(data)]


class FrameReaderTests(SynchronousTestCase):
    """Bytes to frames."""

    @given(
        st.lists(st.tuples(st.just(DATA), st.integers(0, 255), st.integers(1, 2**31 - 1), st.binary(max_size=40))),
        st.integers(1, 60),
    )
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_anySplit(self, frames: list[Read], size: int) -> None:
        """It does not matter in what pieces frames come."""
        data = b"".join(frame(*each) for each in frames)
        reader = FrameReader()
        found = [each for at in range(0, len(data), size) for each in read(reader, data[at : at + size])]
        self.assertEqual(found, frames)

    def test_longFrames(self) -> None:
        """A frame of the most that there may be is read; a longer one is an error as soon as its header is there."""
        whole = frame(DATA, 0, 1, bytes(MAX_FRAME))
        self.assertEqual(len(read(FrameReader(), whole)), 1)
        error = self.assertRaises(RemoteProtocolError, read, FrameReader(), frame(DATA, 0, 1, bytes(MAX_FRAME + 1))[:9])
        self.assertEqual(error.code, ErrorCodes.FRAME_SIZE_ERROR.name)

    def test_whatCameBefore(self) -> None:
        """Frames before one that is wrong are read."""
        frames = FrameReader().receive(ping(bytes(8)) + frame(PING, 0, 0))
        self.assertEqual(next(frames)[0], PING)
        self.assertRaises(RemoteProtocolError, next, frames)


class PaddingTests(SynchronousTestCase):
    """Padding, and what it is around."""

    def test_unpadded(self) -> None:
        """What is left without the length and the padding; all of a frame that is not padded."""
        for flags, payload, inside in ((0, b"\1ab", b"\1ab"), (PADDED, b"\1ab", b"a"), (PADDED, b"\0ab", b"ab")):
            self.assertEqual(bytes(unpadded(flags, memoryview(payload))), inside)
        self.assertEqual(bytes(unpadded(PADDED, memoryview(b"\2ab"))), b"")

    def test_tooMuch(self) -> None:
        """More padding than frame, and a length that is missing, are errors."""
        for payload, code in ((b"\3ab", ErrorCodes.PROTOCOL_ERROR), (b"", ErrorCodes.FRAME_SIZE_ERROR)):
            error = self.assertRaises(RemoteProtocolError, unpadded, PADDED, memoryview(payload))
            self.assertEqual(error.code, code.name)


class WritingTests(SynchronousTestCase):
    """Frames to bytes, as hyperframe reads them."""

    def parsed(self, data: bytes) -> Frame:
        """A frame."""
        parsed, length = Frame.parse_frame_header(memoryview(data[:9]))
        self.assertEqual(length, len(data) - 9)
        parsed.parse_body(memoryview(data[9:]))
        return parsed

    def test_frames(self) -> None:
        """Each of those that are written here is what it is meant to be."""
        reset = self.parsed(rstStream(7, ErrorCodes.CANCEL))
        assert isinstance(reset, RstStreamFrame)
        self.assertEqual((reset.stream_id, reset.error_code), (7, 8))
        update = self.parsed(windowUpdate(7, 9))
        assert isinstance(update, WindowUpdateFrame)
        self.assertEqual((update.stream_id, update.window_increment), (7, 9))
        answer = self.parsed(ping(b"12345678", isAnswer=True))
        assert isinstance(answer, PingFrame)
        self.assertEqual((answer.opaque_data, set(answer.flags)), (b"12345678", {"ACK"}))
        goodbye = self.parsed(goAway(5, ErrorCodes.ENHANCE_YOUR_CALM))
        assert isinstance(goodbye, GoAwayFrame)
        self.assertEqual((goodbye.last_stream_id, goodbye.error_code), (5, 11))
