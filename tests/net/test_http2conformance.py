"""
What the rules of RFC 9113 (and RFC 7541, where it says so) make of frames that a visitor sends: a table, each row of
which is a test. The frames are made without h2, and the answer is looked at on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.http1 import ResponseHead
from gateway.wire.http2frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    goAway,
    ping,
    rstStream,
    windowUpdate,
)
from tests.net.http2peer import REQUEST, Http2Visitor, setting

PROTOCOL_ERROR = ErrorCodes.PROTOCOL_ERROR
FLOW_CONTROL_ERROR = ErrorCodes.FLOW_CONTROL_ERROR
STREAM_CLOSED = ErrorCodes.STREAM_CLOSED
FRAME_SIZE_ERROR = ErrorCodes.FRAME_SIZE_ERROR
COMPRESSION_ERROR = ErrorCodes.COMPRESSION_ERROR

OK = ResponseHead(200, "OK", "1.1", [])


@dataclass(frozen=True)
class Connection:
    """The connection ends: GOAWAY with this, and nothing more is read."""

    code: ErrorCodes

    def check(self, test: SynchronousTestCase, visitor: Http2Visitor) -> None:
        test.assertEqual((visitor.goAwayCode(), visitor.isClosed), (self.code, True))
        test.assertEqual(len(visitor.of(GOAWAY)), 1)
        test.assertTrue(visitor.owner.refusals)


@dataclass(frozen=True)
class Stream:
    """One stream ends: RST_STREAM with this, and the connection goes on."""

    code: ErrorCodes
    number: int = 1

    def check(self, test: SynchronousTestCase, visitor: Http2Visitor) -> None:
        test.assertEqual((visitor.resetCode(self.number), visitor.isClosed), (self.code, False))
        serves(test, visitor)


@dataclass(frozen=True)
class Answer:
    """The request is answered, and the connection goes on."""

    status: str

    def check(self, test: SynchronousTestCase, visitor: Http2Visitor) -> None:
        test.assertEqual(visitor.heads(1)[0][":status"], self.status)
        serves(test, visitor)


@dataclass(frozen=True)
class Fine:
    """Nothing is wrong, and nothing is reset."""

    def check(self, test: SynchronousTestCase, visitor: Http2Visitor) -> None:
        test.assertEqual((visitor.of(RST_STREAM), visitor.of(GOAWAY), visitor.isClosed), ([], [], False))
        serves(test, visitor)


FINE = Fine()


def serves(test: SynchronousTestCase, visitor: Http2Visitor) -> None:
    """A further request is served."""
    request = visitor.request(99)
    request.respond(OK, 3)
    request.write(b"yes")
    request.finish()
    visitor.turn()
    test.assertEqual((visitor.body(99), visitor.ended(99)), (b"yes", True))


Frames = Callable[[Http2Visitor], Sequence[bytes]]
Row = tuple[str, str, Frames, Connection | Stream | Answer | Fine]


def opened(v: Http2Visitor, *, end: bool = False) -> bytes:
    """Stream 1, open."""
    return v.headers(1, REQUEST, end=end)


def block(data: bytes) -> bytes:
    """HEADERS with what may be no header list."""
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, data)


def with_(*fields: tuple[str, str], without: str = "", end: bool = True) -> Frames:
    """A request with these fields, and without one."""
    return lambda v: [v.headers(1, [*[each for each in REQUEST if each[0] != without], *fields], end=end)]


def raw(*fields: tuple[str, str]) -> Frames:
    """A request of nothing but these fields."""
    return lambda v: [v.headers(1, list(fields), end=True)]


def finished(v: Http2Visitor) -> Http2Visitor:
    """Stream 1, closed: both ends have said all."""
    request = v.request(1)
    request.respond(OK, 0)
    request.finish()
    v.turn()
    return v


def aborted(v: Http2Visitor) -> Http2Visitor:
    """Stream 1, reset by us."""
    v.request(1, end=False).abort()
    v.turn()
    v.frames.clear()
    return v


def left(v: Http2Visitor) -> Http2Visitor:
    """Stream 1, reset by the visitor."""
    v.send(opened(v), rstStream(1, ErrorCodes.CANCEL))
    return v


ROWS: list[Row] = [
    # 4.1, 4.2: frames
    ("unknownTypes", "frames of unknown types are ignored", lambda v: [frame(0x16, 0, 0, b"x"), frame(0xFF, 9, 1)], FINE),
    ("unknownFlags", "flags that a type does not have are ignored", lambda v: [frame(PING, 0xFE, 0, bytes(8))], FINE),
    ("reservedBit", "the reserved bit is ignored", lambda v: [frame(PING, 0, 1 << 31, bytes(8))], FINE),
    ("reservedBitOfHeaders", "the reserved bit is no part of a stream's number",
     lambda v: [frame(HEADERS, 5, 1 << 31 | 1, v.encoder.encode(REQUEST))], FINE),
    ("longData", "a frame of DATA that is too long ends the connection",
     lambda v: [opened(v), frame(DATA, 0, 1, bytes(16_385))], Connection(FRAME_SIZE_ERROR)),
    ("longHeaders", "so do HEADERS", lambda v: [block(bytes(16_385))], Connection(FRAME_SIZE_ERROR)),
    ("longUnknown", "so does what nobody knows", lambda v: [frame(0x16, 0, 0, bytes(16_385))], Connection(FRAME_SIZE_ERROR)),
    ("longBeforeItIsThere", "a length is judged before the payload is there",
     lambda v: [b"\xff\xff\xff\0\0\0\0\0\1"], Connection(FRAME_SIZE_ERROR)),
    ("longestData", "the longest frame is fine", lambda v: [opened(v), frame(DATA, 0, 1, bytes(16_384))], FINE),
    # 4.3, RFC 7541: header lists
    ("badIndex", "an index beyond the tables cannot be read (RFC 7541, 2.3.3)", lambda v: [block(b"\xff\x7f")], Connection(COMPRESSION_ERROR)),
    ("indexZero", "there is no index 0 (RFC 7541, 6.1)", lambda v: [block(b"\x80")], Connection(COMPRESSION_ERROR)),
    ("cutLiteral", "a literal has to be there (RFC 7541, 5.2)", lambda v: [block(b"\x40\x0aab")], Connection(COMPRESSION_ERROR)),
    ("longInteger", "an integer has to end (RFC 7541, 5.1)", lambda v: [block(b"\xff" * 64)], Connection(COMPRESSION_ERROR)),
    ("eos", "a string does not hold the end of strings (RFC 7541, 5.2)",
     lambda v: [block(b"\x82\x87\x84\x41\x84\xff\xff\xff\xff")], Connection(COMPRESSION_ERROR)),
    ("longPadding", "the padding of a string is shorter than a byte (RFC 7541, 5.2)",
     lambda v: [block(b"\x82\x87\x84\x41\x85\x1c\x64\x95\xff\xff")], Connection(COMPRESSION_ERROR)),
    ("zeroPadding", "the padding of a string is of ones (RFC 7541, 5.2)",
     lambda v: [block(b"\x82\x87\x84\x41\x81\x00")], Connection(COMPRESSION_ERROR)),
    ("largeTable", "the table may not grow beyond what we said (RFC 7541, 6.3)",
     lambda v: [block(b"\x3f\xe2\x1f" + v.encoder.encode(REQUEST))], Connection(COMPRESSION_ERROR)),
    ("lateTableSize", "the table's size changes before the list, not behind it (RFC 7541, 4.2)",
     lambda v: [block(v.encoder.encode(REQUEST) + b"\x20")], Connection(COMPRESSION_ERROR)),
    ("smallTable", "the table may shrink (RFC 7541, 4.2)", lambda v: [block(b"\x20\x82\x87\x84\x41\x01a")], FINE),
    ("listOfSeveralFrames", "a list may come in several frames",
     lambda v: [frame(HEADERS, END_STREAM, 1, (b := v.encoder.encode(REQUEST))[:3]), frame(CONTINUATION, 0, 1, b[3:5]),
                frame(CONTINUATION, END_HEADERS, 1, b[5:])], FINE),
    ("interruptedByPriority", "no frame may interrupt a list: PRIORITY",
     lambda v: [v.headers(1, REQUEST, flags=0), frame(PRIORITY, 0, 1, bytes(5))], Connection(PROTOCOL_ERROR)),
    ("interruptedByHeaders", "nor HEADERS of another stream",
     lambda v: [v.headers(1, REQUEST, flags=0), v.headers(3, REQUEST)], Connection(PROTOCOL_ERROR)),
    ("interruptedByUnknown", "nor what nobody knows",
     lambda v: [v.headers(1, REQUEST, flags=0), frame(0x16, 0, 1)], Connection(PROTOCOL_ERROR)),
    ("interruptedByPing", "nor PING", lambda v: [v.headers(1, REQUEST, flags=0), ping(bytes(8))], Connection(PROTOCOL_ERROR)),
    ("continuedElsewhere", "nor CONTINUATION of another stream",
     lambda v: [v.headers(1, REQUEST, flags=0), frame(CONTINUATION, END_HEADERS, 3)], Connection(PROTOCOL_ERROR)),
    # 5.1: states
    ("idleData", "an idle stream has no DATA", lambda v: [v.data(1, b"a")], Connection(PROTOCOL_ERROR)),
    ("idleReset", "an idle stream cannot be reset", lambda v: [rstStream(1, 8)], Connection(PROTOCOL_ERROR)),
    ("idleWindow", "an idle stream has no window", lambda v: [windowUpdate(1, 9)], Connection(PROTOCOL_ERROR)),
    ("idleContinuation", "an idle stream has nothing to continue", lambda v: [frame(CONTINUATION, 4, 1)], Connection(PROTOCOL_ERROR)),
    ("idlePriority", "an idle stream may have a priority", lambda v: [frame(PRIORITY, 0, 1, bytes(4) + b"\5")], FINE),
    ("idleOfOurs", "streams of even numbers are ours, of which there are none", lambda v: [windowUpdate(2, 9)], Connection(PROTOCOL_ERROR)),
    ("endedData", "a stream that the visitor ended has no more DATA",
     lambda v: [opened(v, end=True), v.data(1, b"a")], Stream(STREAM_CLOSED)),
    ("endedHeaders", "nor HEADERS", lambda v: [opened(v, end=True), opened(v, end=True)], Stream(STREAM_CLOSED)),
    ("endedContinuation", "nor CONTINUATION",
     lambda v: [opened(v, end=True), frame(CONTINUATION, 4, 1)], Connection(PROTOCOL_ERROR)),
    ("endedWindow", "but its window may be opened", lambda v: [opened(v, end=True), windowUpdate(1, 9)], FINE),
    ("endedPriority", "and its priority be changed",
     lambda v: [opened(v, end=True), frame(PRIORITY, 0, 1, bytes(4) + b"\5")], FINE),
    ("leftData", "a stream that the visitor reset has no more DATA", lambda v: [left(v).data(1, b"a")], Stream(STREAM_CLOSED)),
    ("leftHeaders", "nor HEADERS", lambda v: [opened(left(v))], Stream(STREAM_CLOSED)),
    ("leftWindow", "its window does not matter", lambda v: [windowUpdate((left(v), 1)[1], 9)], FINE),
    ("leftAgain", "it may be reset again", lambda v: [rstStream((left(v), 1)[1], 8)], FINE),
    ("finishedData", "a stream that is over has no more DATA", lambda v: [finished(v).data(1, b"a")], Stream(STREAM_CLOSED)),
    ("finishedHeaders", "nor HEADERS", lambda v: [opened(finished(v))], Connection(STREAM_CLOSED)),
    ("finishedWindow", "its window does not matter", lambda v: [windowUpdate((finished(v), 1)[1], 9)], FINE),
    ("finishedReset", "it may be reset, as that may have been on its way", lambda v: [rstStream((finished(v), 1)[1], 8)], FINE),
    ("abortedData", "what was on the way when we reset a stream is ignored", lambda v: [aborted(v).data(1, b"a", end=True)], FINE),
    ("abortedTrailers", "trailers are, too", lambda v: [aborted(v).headers(1, [("x-sum", "1")], end=True)], FINE),
    ("abortedWindow", "and credit", lambda v: [windowUpdate((aborted(v), 1)[1], 9)], FINE),
    # 5.1.1: numbers
    ("evenStream", "a visitor's streams have odd numbers", lambda v: [v.headers(2, REQUEST)], Connection(PROTOCOL_ERROR)),
    ("lowerStream", "and rising ones", lambda v: [v.headers(5, REQUEST), v.headers(3, REQUEST)], Connection(PROTOCOL_ERROR)),
    ("skippedStream", "of which some may be left out", lambda v: [v.headers(7, REQUEST)], FINE),
    # 5.3: priorities
    ("headersOnItself", "a stream does not depend on itself: HEADERS",
     lambda v: [v.headers(1, REQUEST, priority=b"\0\0\0\1\5")], Stream(PROTOCOL_ERROR)),
    ("priorityOnItself", "nor by PRIORITY", lambda v: [opened(v), frame(PRIORITY, 0, 1, b"\0\0\0\1\5")], Stream(PROTOCOL_ERROR)),
    ("idleOnItself", "where it is not open there is no stream to end",
     lambda v: [frame(PRIORITY, 0, 1, b"\0\0\0\1\5")], Connection(PROTOCOL_ERROR)),
    ("exclusiveOnAnother", "it may depend on any other, open or not",
     lambda v: [v.headers(1, REQUEST, priority=b"\x80\0\0\x0b\5")], FINE),
    # 6.1: DATA
    ("dataOfNoStream", "DATA is of a stream", lambda v: [frame(DATA, 0, 0, b"a")], Connection(PROTOCOL_ERROR)),
    ("dataPaddingTooLong", "padding is no longer than its frame",
     lambda v: [opened(v), frame(DATA, PADDED, 1, b"\6abcde")], Connection(PROTOCOL_ERROR)),
    ("dataPaddingWithoutLength", "a padded frame says by how much",
     lambda v: [opened(v), frame(DATA, PADDED, 1)], Connection(FRAME_SIZE_ERROR)),
    ("dataAllPadding", "a frame may be nothing but padding", lambda v: [opened(v), frame(DATA, PADDED, 1, b"\5abcde")], FINE),
    # 6.2: HEADERS
    ("headersOfNoStream", "HEADERS are of a stream", lambda v: [v.headers(0, REQUEST)], Connection(PROTOCOL_ERROR)),
    ("headersPaddingTooLong", "padding is no longer than its frame",
     lambda v: [frame(HEADERS, END_HEADERS | PADDED, 1, b"\xf0" + v.encoder.encode(REQUEST))], Connection(PROTOCOL_ERROR)),
    ("headersCutPriority", "a priority has five bytes",
     lambda v: [frame(HEADERS, END_HEADERS | 0x20, 1, bytes(4))], Connection(FRAME_SIZE_ERROR)),
    # 6.3 to 6.5: PRIORITY, RST_STREAM, SETTINGS
    ("priorityOfNoStream", "PRIORITY is of a stream", lambda v: [frame(PRIORITY, 0, 0, bytes(5))], Connection(PROTOCOL_ERROR)),
    ("shortPriority", "PRIORITY has five bytes", lambda v: [opened(v), frame(PRIORITY, 0, 1, bytes(4))], Stream(FRAME_SIZE_ERROR)),
    ("resetOfNoStream", "RST_STREAM is of a stream", lambda v: [rstStream(0, 8)], Connection(PROTOCOL_ERROR)),
    ("shortReset", "RST_STREAM has four bytes", lambda v: [opened(v), frame(RST_STREAM, 0, 1, bytes(3))], Connection(FRAME_SIZE_ERROR)),
    ("unknownReset", "a reset for a reason that nobody knows is one", lambda v: [opened(v), rstStream(1, 0xFFFF)], FINE),
    ("settingsOfAStream", "SETTINGS are the connection's", lambda v: [frame(SETTINGS, 0, 1)], Connection(PROTOCOL_ERROR)),
    ("settingsAckWithPayload", "an acknowledgement says nothing else",
     lambda v: [frame(SETTINGS, ACK, 0, setting(4, 9))], Connection(FRAME_SIZE_ERROR)),
    ("shortSettings", "a setting has six bytes", lambda v: [frame(SETTINGS, 0, 0, bytes(5))], Connection(FRAME_SIZE_ERROR)),
    ("pushIsAFlag", "whether to push is yes or no", lambda v: [frame(SETTINGS, 0, 0, setting(2, 2))], Connection(PROTOCOL_ERROR)),
    ("largeWindow", "the initial window has 31 bits",
     lambda v: [frame(SETTINGS, 0, 0, setting(4, 1 << 31))], Connection(FLOW_CONTROL_ERROR)),
    ("smallFrames", "a frame has at least 16 KiB", lambda v: [frame(SETTINGS, 0, 0, setting(5, 16_383))], Connection(PROTOCOL_ERROR)),
    ("largeFrames", "and less than 16 MiB", lambda v: [frame(SETTINGS, 0, 0, setting(5, 1 << 24))], Connection(PROTOCOL_ERROR)),
    ("unknownSettings", "settings that nobody knows are ignored",
     lambda v: [frame(SETTINGS, 0, 0, setting(0, 1) + setting(0xAA, 1))], FINE),
    ("windowsTooLarge", "a new initial window may not make one too large",
     lambda v: [opened(v), windowUpdate(1, MAX_WINDOW - 65_535), frame(SETTINGS, 0, 0, setting(4, 65_536))],
     Connection(FLOW_CONTROL_ERROR)),
    ("noTable", "we do without a table where there may be none", lambda v: [frame(SETTINGS, 0, 0, setting(1, 0))], FINE),
    # 6.6 to 6.8: PUSH_PROMISE, PING, GOAWAY
    ("push", "visitors do not push", lambda v: [opened(v), frame(PUSH_PROMISE, 4, 1, bytes([0, 0, 0, 2]))], Connection(PROTOCOL_ERROR)),
    ("pingOfAStream", "PING is the connection's", lambda v: [frame(PING, 0, 1, bytes(8))], Connection(PROTOCOL_ERROR)),
    ("shortPing", "PING has eight bytes", lambda v: [frame(PING, 0, 0, bytes(6))], Connection(FRAME_SIZE_ERROR)),
    ("longPing", "and no more", lambda v: [frame(PING, 0, 0, bytes(9))], Connection(FRAME_SIZE_ERROR)),
    ("goAwayOfAStream", "GOAWAY is the connection's", lambda v: [frame(GOAWAY, 0, 1, bytes(8))], Connection(PROTOCOL_ERROR)),
    ("shortGoAway", "GOAWAY has eight bytes", lambda v: [frame(GOAWAY, 0, 0, bytes(7))], Connection(FRAME_SIZE_ERROR)),
    # 6.9: WINDOW_UPDATE
    ("nothingForAll", "a window is not opened by nothing: the connection's", lambda v: [windowUpdate(0, 0)], Connection(PROTOCOL_ERROR)),
    ("nothingForAStream", "nor a stream's", lambda v: [opened(v), windowUpdate(1, 0)], Stream(PROTOCOL_ERROR)),
    ("shortWindow", "WINDOW_UPDATE has four bytes", lambda v: [frame(WINDOW_UPDATE, 0, 0, bytes(3))], Connection(FRAME_SIZE_ERROR)),
    ("tooMuchForAll", "a window has 31 bits: the connection's", lambda v: [windowUpdate(0, MAX_WINDOW)], Connection(FLOW_CONTROL_ERROR)),
    ("tooMuchForAStream", "and a stream's", lambda v: [opened(v), windowUpdate(1, MAX_WINDOW)], Stream(FLOW_CONTROL_ERROR)),
    ("mostForAll", "as much as fits is fine", lambda v: [windowUpdate(0, MAX_WINDOW - 65_535)], FINE),
    # 6.10: CONTINUATION
    ("continuationOfNoStream", "CONTINUATION is of a stream", lambda v: [frame(CONTINUATION, 4, 0)], Connection(PROTOCOL_ERROR)),
    ("continuationOfACompleteList", "a list that is complete is not continued",
     lambda v: [opened(v), frame(CONTINUATION, 4, 1, v.encoder.encode([("a", "b")]))], Connection(PROTOCOL_ERROR)),
    ("continuationBehindData", "DATA is not continued",
     lambda v: [opened(v), v.data(1, b"a"), frame(CONTINUATION, 4, 1)], Connection(PROTOCOL_ERROR)),
    # 8.1: messages
    ("trailersWithoutEnd", "trailers end their stream",
     lambda v: [opened(v), v.headers(1, [("x-sum", "1")])], Stream(PROTOCOL_ERROR)),
    ("dataBehindTrailers", "so that no DATA is behind them",
     lambda v: [opened(v), v.headers(1, [("x-sum", "1")], end=True), v.data(1, b"a")], Stream(STREAM_CLOSED)),
    ("pseudoTrailers", "trailers have no pseudo fields",
     lambda v: [opened(v), v.headers(1, [(":status", "100")], end=True)], Stream(PROTOCOL_ERROR)),
    ("upperCaseTrailers", "and names in lower case",
     lambda v: [opened(v), v.headers(1, [("X-Sum", "1")], end=True)], Stream(PROTOCOL_ERROR)),
    ("shortBody", "a body is as long as was said: not shorter",
     lambda v: [*with_(("content-length", "3"), end=False)(v), v.data(1, b"ab", end=True)], Stream(PROTOCOL_ERROR)),
    ("longBody", "not longer", lambda v: [*with_(("content-length", "3"), end=False)(v), v.data(1, b"abcd")], Stream(PROTOCOL_ERROR)),
    ("shortBodyWithTrailers", "nor with trailers",
     lambda v: [*with_(("content-length", "3"), end=False)(v), v.data(1, b"ab"), v.headers(1, [("a", "b")], end=True)],
     Stream(PROTOCOL_ERROR)),
    ("noBody", "nor missing", with_(("content-length", "3")), Stream(PROTOCOL_ERROR)),
    ("wholeBody", "what is as long as was said is fine",
     lambda v: [*with_(("content-length", "3"), end=False)(v), v.data(1, b"ab"), v.data(1, b"c", end=True)], FINE),
    ("twoLengths", "there are not two lengths, not even equal ones",
     with_(("content-length", "0"), ("content-length", "0")), Stream(PROTOCOL_ERROR)),
    ("signedLength", "a length is digits", with_(("content-length", "+0")), Stream(PROTOCOL_ERROR)),
    # 8.2: fields
    ("upperCase", "names are in lower case", with_(("X-Name", "a")), Stream(PROTOCOL_ERROR)),
    ("emptyName", "names are not empty", with_(("", "a")), Stream(PROTOCOL_ERROR)),
    ("spaceInName", "names are tokens", with_(("a b", "a")), Stream(PROTOCOL_ERROR)),
    ("colonInName", "with a colon at most in front", with_(("a:b", "a")), Stream(PROTOCOL_ERROR)),
    ("lineInValue", "a value is one line: no LF", with_(("a", "b\nc: d")), Stream(PROTOCOL_ERROR)),
    ("returnInValue", "no CR", with_(("a", "b\rc")), Stream(PROTOCOL_ERROR)),
    ("nulInValue", "no NUL", with_(("a", "b\0")), Stream(PROTOCOL_ERROR)),
    ("spaceBeforeValue", "a value does not begin with a space", with_(("a", " b")), Stream(PROTOCOL_ERROR)),
    ("tabBehindValue", "nor end with a tab", with_(("a", "b\t")), Stream(PROTOCOL_ERROR)),
    ("lineInPath", "pseudo fields are no exception", with_((":path", "/\n"), without=":path"), Stream(PROTOCOL_ERROR)),
    ("beyondAscii", "a value may be more than ASCII", with_(("a", "\xe9")), FINE),
    ("connectionField", "Connection is not HTTP/2's", with_(("connection", "close")), Stream(PROTOCOL_ERROR)),
    ("keepAlive", "nor Keep-Alive", with_(("keep-alive", "timeout=1")), Stream(PROTOCOL_ERROR)),
    ("proxyConnection", "nor Proxy-Connection", with_(("proxy-connection", "close")), Stream(PROTOCOL_ERROR)),
    ("transferEncoding", "nor Transfer-Encoding", with_(("transfer-encoding", "chunked"), end=False), Stream(PROTOCOL_ERROR)),
    ("upgrade", "nor Upgrade", with_(("upgrade", "h2c")), Stream(PROTOCOL_ERROR)),
    ("te", "TE speaks of trailers alone", with_(("te", "gzip")), Stream(PROTOCOL_ERROR)),
    ("teTrailers", "and may", with_(("te", "trailers")), FINE),
    # 8.3: pseudo fields
    ("unknownPseudo", "pseudo fields that nobody knows are malformed", with_((":test", "a")), Stream(PROTOCOL_ERROR)),
    ("protocolPseudo", "extended CONNECT was not offered (RFC 8441)",
     raw((":method", "CONNECT"), (":protocol", "websocket"), *REQUEST[1:]), Stream(PROTOCOL_ERROR)),
    ("status", "a request has no status", with_((":status", "200")), Stream(PROTOCOL_ERROR)),
    ("latePseudo", "pseudo fields come first", raw(("a", "b"), *REQUEST), Stream(PROTOCOL_ERROR)),
    ("noMethod", "a request has a method", with_(without=":method"), Stream(PROTOCOL_ERROR)),
    ("noScheme", "a scheme", with_(without=":scheme"), Stream(PROTOCOL_ERROR)),
    ("noPath", "a path", with_(without=":path"), Stream(PROTOCOL_ERROR)),
    ("noHost", "and a host", with_(without=":authority"), Stream(PROTOCOL_ERROR)),
    ("emptyPath", "a path is not empty", raw(*REQUEST[:3], (":path", "")), Stream(PROTOCOL_ERROR)),
    ("relativePath", "and begins with a slash", raw(*REQUEST[:3], (":path", "a")), Stream(PROTOCOL_ERROR)),
    ("absolutePath", "and is no URL", raw(*REQUEST[:3], (":path", "http://b.example/")), Stream(PROTOCOL_ERROR)),
    ("starOfGet", "all of a server is asked for its options alone", raw(*REQUEST[:3], (":path", "*")), Stream(PROTOCOL_ERROR)),
    ("starOfOptions", "for which it may", raw((":method", "OPTIONS"), *REQUEST[1:3], (":path", "*")), FINE),
    ("twoMethods", "there is one method", with_((":method", "GET")), Stream(PROTOCOL_ERROR)),
    ("twoPaths", "one path", raw(*REQUEST, (":path", "/")), Stream(PROTOCOL_ERROR)),
    ("twoAuthorities", "one authority", raw(*REQUEST, (":authority", "a.example")), Stream(PROTOCOL_ERROR)),
    ("twoHosts", "and no other host beside it", with_(("host", "b.example")), Stream(PROTOCOL_ERROR)),
    ("sameHost", "but the same", with_(("host", "A.example")), FINE),
    ("hostAlone", "or that alone", with_(("host", "a.example"), without=":authority"), FINE),
    ("userInAuthority", "an authority has no user", with_((":authority", "u@a.example"), without=":authority"), Answer("400")),
    ("spaceInPath", "a path that is none is no request's", raw(*REQUEST[:3], (":path", "/a b")), Answer("400")),
    ("noNameInAuthority", "nor is a host that is none", raw(*REQUEST[:2], (":authority", "a..b"), (":path", "/")), Answer("400")),
    ("connect", "CONNECT is understood, and refused", raw((":method", "CONNECT"), (":authority", "a.example:1")), Answer("405")),
    ("connectWithPath", "where it is one", raw((":method", "CONNECT"), *REQUEST[1:]), Stream(PROTOCOL_ERROR)),
]  # fmt: skip


class RuleTests(SynchronousTestCase):
    """A test for each row of the table."""


def _test(details: str, frames: Frames, expected: Connection | Stream | Answer | Fine) -> Callable[[RuleTests], None]:
    def test(self: RuleTests) -> None:
        visitor = Http2Visitor()
        visitor.send(*frames(visitor))
        expected.check(self, visitor)

    test.__doc__ = f"In HTTP/2 {details}."
    return test


for _name, _details, _frames, _expected in ROWS:
    assert not hasattr(RuleTests, f"test_{_name}"), _name
    setattr(RuleTests, f"test_{_name}", _test(_details, _frames, _expected))


class BeginningTests(SynchronousTestCase):
    """Section 3.4: how a connection begins."""

    def assertEnds(self, *data: bytes) -> None:
        """The connection ends with PROTOCOL_ERROR."""
        visitor = Http2Visitor(begins=False)
        visitor.send(*data)
        self.assertEqual((visitor.goAwayCode(), visitor.isClosed), (PROTOCOL_ERROR, True))

    def test_anotherPreface(self) -> None:
        """What does not begin as HTTP/2 is not HTTP/2."""
        self.assertEnds(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEnds(PREFACE[:-1] + b"x", frame(SETTINGS, 0, 0))

    def test_anotherFirstFrame(self) -> None:
        """The first frame is SETTINGS."""
        self.assertEnds(PREFACE, ping(bytes(8)))
        self.assertEnds(PREFACE, frame(0x16, 0, 0))

    def test_anAcknowledgementFirst(self) -> None:
        """And not the acknowledgement of ours."""
        self.assertEnds(PREFACE, frame(SETTINGS, ACK, 0))

    def test_byteByByte(self) -> None:
        """It does not matter in what pieces it comes."""
        visitor = Http2Visitor(begins=False)
        for byte in PREFACE + frame(SETTINGS, 0, 0) + opened(visitor, end=True):
            visitor.send(bytes([byte]))
        self.assertEqual(len(visitor.owner.requests), 1)


class FlowControlTests(SynchronousTestCase):
    """Section 6.9: a visitor keeps to the windows."""

    def test_beyondAStreamsWindow(self) -> None:
        """More than a stream's window ends the connection."""
        visitor = Http2Visitor(streamWindow=65_535)
        visitor.request(1, end=False).pauseProducing()
        visitor.send(*[visitor.data(1, bytes(16_384))] * 4)
        self.assertEqual((visitor.goAwayCode(), visitor.isClosed), (FLOW_CONTROL_ERROR, True))

    def test_beyondTheConnectionsWindow(self) -> None:
        """So does more than all streams may have together."""
        visitor = Http2Visitor(connectionWindow=100_000)
        for stream in (1, 3):
            visitor.request(stream, end=False).pauseProducing()
            visitor.send(*[visitor.data(stream, bytes(10_000))] * 5)
        self.assertFalse(visitor.isClosed)
        visitor.send(visitor.data(1, b"a"))
        self.assertEqual((visitor.goAwayCode(), visitor.isClosed), (FLOW_CONTROL_ERROR, True))

    def test_aClosedStreamDoesNotKeepCredit(self) -> None:
        """What a stream held when it ended may be sent again on others."""
        visitor = Http2Visitor(connectionWindow=100_000)
        for stream in range(1, 41, 2):
            visitor.request(stream, end=False).pauseProducing()
            visitor.send(visitor.data(stream, bytes(16_000)), visitor.data(stream, bytes(16_000)))
            visitor.send(rstStream(stream, ErrorCodes.CANCEL))
            self.assertFalse(visitor.isClosed)


class AnswerTests(SynchronousTestCase):
    """What has to be answered, and when."""

    def test_ping(self) -> None:
        """A PING is answered with the same bytes, and an answer is not answered."""
        visitor = Http2Visitor()
        visitor.send(ping(b"12345678"), ping(b"87654321", isAnswer=True))
        self.assertEqual([(each.flags, each.payload) for each in visitor.of(PING)], [(ACK, b"12345678")])

    def test_pingOnTheWayOut(self) -> None:
        """A PING is answered, too, while the connection ends, whoever ends it."""
        visitor = Http2Visitor()
        visitor.request(1)
        visitor.connection.drain()
        visitor.send(ping(b"12345678"))
        visitor.send(goAway(0, ErrorCodes.NO_ERROR), ping(b"87654321"))
        self.assertEqual([each.payload for each in visitor.of(PING) if each.flags], [b"12345678", b"87654321"])

    def test_settings(self) -> None:
        """SETTINGS are acknowledged, each time."""
        visitor = Http2Visitor()
        visitor.send(frame(SETTINGS, 0, 0, setting(4, 1)), frame(SETTINGS, 0, 0))
        self.assertEqual([each.flags for each in visitor.of(SETTINGS)], [ACK, ACK])

    def test_settingsApplyToStreamsThatAreOpen(self) -> None:
        """A new initial window counts for streams that are open, and not for the connection."""
        visitor = Http2Visitor(setting(4, 0))
        request = visitor.request(1)
        request.respond(OK, None)
        request.write(b"abcdef")
        visitor.turn()
        self.assertEqual(visitor.body(1), b"")
        visitor.send(frame(SETTINGS, 0, 0, setting(4, 4)))
        self.assertEqual(visitor.body(1), b"abcd")

    def test_smallTables(self) -> None:
        """We keep to the table that the visitor has room for."""
        visitor = Http2Visitor(setting(1, 0))
        for stream in (1, 3):
            request = visitor.request(stream)
            request.respond(ResponseHead(200, "OK", "1.1", [("x-a", "b")]), 0)
            request.finish()
            visitor.turn()
        self.assertEqual(visitor.heads(1), visitor.heads(3))
        self.assertEqual(visitor._decoder.header_table_size, 0)

    def test_whatCameBeforeAnErrorCounts(self) -> None:
        """A request is not lost by an error behind it in what was read."""
        visitor = Http2Visitor()
        visitor.send(opened(visitor, end=True), frame(DATA, 0, 0))
        self.assertEqual(len(visitor.owner.requests), 1)
        self.assertEqual(visitor.of(GOAWAY)[0].payload[:4], bytes([0, 0, 0, 1]))


class HostileTests(SynchronousTestCase):
    """What comes may be anything."""

    @given(st.binary(max_size=200))
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_anything(self, data: bytes) -> None:
        """Whatever bytes come, the answer is a connection that goes on or one that ends by the rules."""
        visitor = Http2Visitor()
        visitor.send(opened(visitor), data)
        self.assertIn(visitor.goAwayCode(), [None, *ErrorCodes])
        self.assertFalse(self.flushLoggedErrors())

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 10), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5]), st.binary(max_size=20)
            ),
            max_size=12,
        )
    )
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_anyFrames(self, frames: list[tuple[int, int, int, bytes]]) -> None:
        """Whatever frames come, it is the same."""
        visitor = Http2Visitor()
        visitor.send(opened(visitor), v := visitor.headers(3, REQUEST))
        self.assertTrue(v)
        for each in frames:
            if not visitor.isClosed:
                visitor.send(frame(*each))
        self.assertIn(visitor.goAwayCode(), [None, *ErrorCodes])
        self.assertFalse(self.flushLoggedErrors())
