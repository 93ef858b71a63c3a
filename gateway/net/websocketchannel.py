"""
An open WebSocket as a transport, whichever side opened it: the only file that imports autobahn.

A WebSocket here is a plain Twisted transport once it is open (L{IWebSocketChannel}), so that the relay joins it to
anything else. How one is opened is told in L{gateway.net.websocket} for a server and L{gateway.net.websocketclient}
for a client; each adds to L{WebSocketChannel} what its role has of its own::

    class ServerChannel(WebSocketChannel):
        peerMasks, frame = True, staticmethod(plainFrame)

What autobahn does: control frames, the closing handshake, every rule of RFC 6455 about what a peer may not send. What
we do ourselves, and why:

  - I{The opening handshake.} Who opens decides by it, so it is read once, by L{gateway.wire}.

  - I{Time.} autobahn's timers run on the global reactor, one or two for each connection. Ours run on the
    clock that was given; all connections of a factory share one timer that pings the silent ones.
  - I{Binary payload in stream mode.} autobahn assembles whole messages; a terminal's or a tunnel's bytes should
    move on as they arrive. C{_receiveStream} walks over the headers of ordinary binary frames, unmasks their payload,
    and hands over as one piece what came at once. Every frame that is not ordinary, valid or not, is autobahn's to
    judge, so there is one set of rules.
  - I{Masks.} autobahn's native code works in place, but what is around it copies a payload thrice, and takes longer
    over a keystroke than all else that is done to its frame. So it is called as it is.
  - I{Sending.} A frame is 2 to 14 bytes and the payload; autobahn would copy both into one string, log it, and mask it
    with a key that a peer can foresee (RFC 6455, section 10.3, says why it must not).
  - I{Weight.} autobahn copies some thirty options into every connection and formats them for a log that nobody
    reads. Here they are attributes of the class.

Length: one file, so that autobahn is known in one place; most of it is the class that stands between.
"""

__all__ = ["WebSocketChannel", "maskedFrame", "plainFrame"]

import os
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, ClassVar

os.environ["AUTOBAHN_USE_NVX"] = "1"  # without its native code autobahn is fifty times slower: fail instead

from _nvx_xormasker import ffi as _ffi  # type: ignore[import-not-found]  # a part of autobahn
from _nvx_xormasker import lib as _native
from autobahn.twisted.websocket import WebSocketAdapterProtocol as _AutobahnAdapter
from autobahn.websocket.protocol import WebSocketProtocol as _AutobahnProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IAddress, IProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer, directWriter, readDirectly
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.pieces import keep
from gateway.net.progress import Progress
from gateway.net.timer import Timer
from gateway.net.websocketlimits import ILimited, OpenChannels, Pace

_SHORT_HEADER = Struct("!BB").pack
_MEDIUM_HEADER = Struct("!BBH").pack
_LONG_HEADER = Struct("!BBQ").pack
_FINAL = 0x80
_FINAL_BINARY = 0x82
_UINT16 = Struct("!H").unpack_from
_UINT64 = Struct("!Q").unpack_from
_LARGEST_PAYLOAD = 0x7FFFFFFFFFFFFFFF
_LATE = "the peer took too long over a handshake"
_MAX_ANSWERS = 64
"""Pieces of output for one piece of input, beyond which pings are answered together."""


class _Silence:
    """Takes autobahn's log lines, which are many, and say nothing that our own do not."""

    def debug(self, *args: object, **kwargs: object) -> None:
        """Nothing."""

    info = warn = error = failure = critical = debug


def _exchanged(key: bytes, payload: Buffer) -> bytearray:
    """
    Mask payload, or unmask it (RFC 6455, section 5.3).

    @return: a copy, the only one.
    """
    copy = bytearray(payload)
    masker = _native.nvx_xormask_new(key)
    _native.nvx_xormask_process(masker, _ffi.from_buffer(copy), len(copy))
    _native.nvx_xormask_free(masker)
    return copy


def plainFrame(first: int, payload: Buffer) -> tuple[Buffer, Buffer]:
    """
    A frame of a server (RFC 6455, section 5.2).

    @param first: the first byte: FIN and the opcode.
    @return: the header, and the payload as it was given.
    """
    length = len(payload)
    if length <= 125:
        return _SHORT_HEADER(first, length), payload
    if length <= 0xFFFF:
        return _MEDIUM_HEADER(first, 126, length), payload
    return _LONG_HEADER(first, 127, length), payload


def maskedFrame(first: int, payload: Buffer) -> tuple[Buffer, Buffer]:
    """
    A frame of a client: masked, with a key that nobody can foresee (RFC 6455, section 5.3).

    @param first: the first byte: FIN and the opcode.
    @return: the header with the key, and the masked payload, which is the only copy.
    """
    length = len(payload)
    key = os.urandom(4)
    if length <= 125:
        header = _SHORT_HEADER(first, 0x80 | length) + key
    elif length <= 0xFFFF:
        header = _MEDIUM_HEADER(first, 0x80 | 126, length) + key
    else:
        header = _LONG_HEADER(first, 0x80 | 127, length) + key
    return header, memoryview(_exchanged(key, payload))


def _discard(data: bytes) -> None:
    """Payload that comes after we closed."""


@implementer(IWebSocketChannel, ILimited)
class WebSocketChannel(_AutobahnAdapter, _AutobahnProtocol):  # type: ignore[misc]  # autobahn's classes are not typed
    """
    One connection, from its beginning to its end. Each role says how it is opened (C{processHandshake} reads C{data}
    and calls L{opened}) and whom it tells that it was not (L{openingFailed}).

    @cvar peerMasks: whether the peer's frames are masked: those of a client are, those of a server must not be.
    @ivar subprotocol: the one that the opening handshake settled on.
    @ivar settled: the opening handshake has come to its end, a good one or a bad one.
    """

    peerMasks: ClassVar[bool]

    log = _Silence()

    # autobahn's options, which it would otherwise copy into each instance. Its timers are all off.
    CONFIG_ATTRS = ()
    logOctets = logFrames = trackTimings = False
    utf8validateIncoming = requireMaskedClientFrames = maskClientFrames = applyMask = tcpNoDelay = True
    maskServerFrames = acceptMaskedServerFrames = failByDrop = echoCloseCodeReason = False
    openHandshakeTimeout = closeHandshakeTimeout = autoPingInterval = autoPingTimeout = serverConnectionDropTimeout = 0
    autoPingRestartOnAnyTraffic = False
    autoFragmentSize = maxFramePayloadSize = 0
    websocket_version = 13

    data: bytes  # autobahn's: what has come and is not read yet
    current_frame: Any  # autobahn's: the frame under way, if it is for autobahn to read

    def __init__(self, channels: OpenChannels) -> None:
        super().__init__()
        self.factory = channels  # autobahn's name
        self.maxMessagePayloadSize = channels.settings.maxMessage
        self.subprotocol: str | None = None
        self.sentData = False
        self.settled = False
        self._receiver: IWebSocketReceiver | None = None
        self._gotData: Callable[[bytes], None] | None = None
        self._pace = Pace(self, channels.clock)
        self._pongs: list[tuple[bytes, Callable[[], None]]] = []
        self._deadline = Timer(channels.clock)
        self._output: list[Buffer] | None = None
        self._heard = True
        self._readingPaused = False
        self._progress: Progress | None = None
        self._reason: Exception | None = None
        # Stream mode: whether autobahn is within a message; payload bytes still to come of the frame under way, the key
        # that they are masked with, and whether a message goes on after it.
        self.inside_message = self._isMessageCompressed = self.utf8validateIncomingCurrentMessage = False
        self._rest = 0
        self._key = b""
        self._fragmented = False

    @staticmethod
    def frame(first: int, payload: Buffer) -> tuple[Buffer, Buffer]:
        """L{plainFrame} or L{maskedFrame}."""
        raise NotImplementedError

    # -- The connection's life

    def connectionMade(self) -> None:
        self.peer = ""  # autobahn only logs it
        self._connectionMade()
        self.factory.opening.add(self)
        self._send = directWriter(self.transport)
        readDirectly(self.transport, self.dataReceived)
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.setDeadline(self.factory.settings.handshakeTimeout)

    def setDeadline(self, seconds: float) -> None:
        """Cut the peer off in so many seconds, unless something happens before."""
        self._deadline.start(seconds, self._cutOff, _LATE)

    def _cutOff(self, why: str) -> None:
        self._reason = TimeoutError(None, why)
        self.transport.abortConnection()

    def opened(self, receiver: IWebSocketReceiver, rest: bytes) -> None:
        """
        The opening handshake is done.

        @param rest: what the peer has sent since.
        """
        self._deadline.stop()
        self.settled = True
        self.state = self.STATE_OPEN
        self.current_frame = None
        self.data = rest
        self._receiver = receiver
        self.factory.remember(self)
        self.transport.registerProducer(self._pace, True)
        self._transport_details = None  # autobahn keeps it for its own use; an idle connection should not
        receiver.opened(self)
        if self.data:
            self.consumeData()

    def openingFailed(self, reason: Failure) -> None:
        """The connection is gone before the opening handshake was done."""
        raise NotImplementedError

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
        self.factory.forget(self)
        self.state = self.STATE_CLOSED
        self._gotData = None
        self._pace.unregister()
        self._pace.channel = None  # or the two would wait for the garbage collector
        self._pongs.clear()
        if self._reason is not None:
            reason = Failure(self._reason)
        if not self.settled:
            self.settled = True
            self.openingFailed(reason)
        elif reason.check(ConnectionDone):
            self._over(Failure(ConnectionLost("the connection ended without a closing handshake")))
        else:
            self._over(reason)

    def _over(self, reason: Failure) -> None:
        """
        Tell the receiver that nothing will come any more, though the connection may take a while to end.
        """
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(reason)

    # -- Receiving

    def dataReceived(self, data: Buffer) -> None:
        self._heard = True
        # What is sent in answer to one piece of input goes out in one piece.
        self._output = []
        try:
            if self._gotData is None or self.current_frame is not None:
                self.data += data
                self.consumeData()
            elif self._receiveStream(data):
                self.consumeData()
        finally:
            self._pace.pay()
            self._flush()
            self._output = None

    def _flush(self) -> None:
        if self._output:
            output, self._output = self._output, []
            self._send(output)

    def consumeData(self) -> None:
        # As autobahn's, but once the stream has begun most frames are not its own any more.
        if self.state == self.STATE_CONNECTING:
            self.processHandshake()
            return
        while self.state != self.STATE_CLOSED:
            if self._gotData is not None and self.current_frame is None and not self._receiveStream(b""):
                return
            if not self.processData():
                break
        if self.state == self.STATE_CLOSED:
            self.data = b""

    def _receiveStream(self, data: Buffer) -> bool:
        """
        Hand over the payload of binary frames, as one piece.

        @return: whether the rest begins with a frame that autobahn should read or refuse.
        """
        if self.data:
            data = self.data + data
        view, end, at = memoryview(data), len(data), 0
        pieces: list[Buffer | bytearray] = []
        ours = True
        masked = self.peerMasks
        header = 6 if masked else 2
        while True:
            if self._rest and at < end:
                piece = view[at : at + self._rest]
                at += len(piece)
                self._rest -= len(piece)
                if masked:
                    pieces.append(_exchanged(self._key, piece))
                    turn = len(piece) & 3
                    self._key = self._key[turn:] + self._key[:turn]
                else:
                    pieces.append(piece)
            if end - at < 2:
                break
            first, second = view[at], view[at + 1]
            opcode = first & 0x7F
            ours = opcode == (0 if self._fragmented else 2) and not self.inside_message and (second >= 0x80) is masked
            if not ours:
                break
            length = second & 0x7F
            start = at + header
            if length == 126:
                start += 2
                if end < start:
                    break
                (length,) = _UINT16(view, at + 2)
                minimal = length > 125
            elif length == 127:
                start += 8
                if end < start:
                    break
                (length,) = _UINT64(view, at + 2)
                minimal = 0xFFFF < length <= _LARGEST_PAYLOAD
            else:
                if end < start:
                    break
                minimal = True
            if not minimal:
                ours = False
                break
            self._rest = length
            if masked:
                self._key = bytes(view[start - 4 : start])
            self._fragmented = first < 0x80
            at = start
        self.data = bytes(view[at:])
        if not ours:
            # A control frame between the fragments of a binary message is none of the message's; anything else there is
            # a violation, which autobahn sees only if it knows that a message is under way.
            self.inside_message = self.inside_message or (self._fragmented and not view[at] & 0x08)
        if pieces:
            self._gotData(b"".join(pieces))  # type: ignore[misc]  # it is set by now
            if self.state == self.STATE_CLOSED:
                self.data = b""
                return False
        return not ours

    def onFrameData(self, payload: bytes) -> bool | None:
        # Of a control frame that is too long, and was refused for it, autobahn would keep all that comes.
        if self.current_frame.opcode & 0x08 and self.current_frame.length > 125:
            return None
        result: bool | None = super().onFrameData(payload)
        return result

    def onMessageFrameBegin(self, length: int) -> None:
        if self.state == self.STATE_OPEN:
            super().onMessageFrameBegin(length)

    def onMessageFrameData(self, payload: bytes) -> None:
        if self.state == self.STATE_OPEN and not self.wasMaxMessagePayloadSizeExceeded and payload:
            keep(self.message_data, payload)  # autobahn would keep an object for each frame, however small

    def onMessageFrameEnd(self) -> None:
        if self.state == self.STATE_OPEN and not self.wasMaxMessagePayloadSizeExceeded:
            super().onMessageFrameEnd()

    def onMessageEnd(self) -> None:
        if self.state == self.STATE_OPEN and not self.wasMaxMessagePayloadSizeExceeded:
            super().onMessageEnd()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary and self._gotData is not None:
            self._gotData(payload)  # it began before the stream did
        elif self._receiver is not None:
            self._receiver.gotMessage(payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        if self._pace.paused or (self._output is not None and len(self._output) > _MAX_ANSWERS):
            self._pace.owed = payload  # one pong for the latest will do (RFC 6455, section 5.5.3)
        else:
            self.sendPong(payload)

    def onPong(self, payload: bytes) -> None:
        for at, (expected, answered) in enumerate(self._pongs):
            if payload == expected:
                del self._pongs[: at + 1]
                answered()
                return

    # -- IWebSocketChannel: sending

    def sendText(self, text: str) -> None:
        if self.state == self.STATE_OPEN:
            self.sendFrame(opcode=1, payload=text.encode())

    def sendFrame(self, opcode: int, payload: bytes = b"", **ignored: object) -> None:
        """All that autobahn sends comes through here; it uses no other argument."""
        self.emit(self.frame(_FINAL | opcode, payload))

    def emit(self, pieces: Sequence[Buffer]) -> None:
        """Send bytes as they are."""
        if self._output is None:
            self._send(pieces)
        else:
            self._output += map(bytes, pieces)

    def write(self, data: Buffer) -> None:
        if self.state != self.STATE_OPEN:
            return
        self.sentData = True
        size = self.factory.settings.frameSize
        if len(data) <= size:
            self.emit(self.frame(_FINAL_BINARY, data))
            return
        view = memoryview(data)
        pieces: list[Buffer] = []
        for at in range(0, len(data), size):
            pieces += self.frame(_FINAL_BINARY, view[at : at + size])
        self.emit(pieces)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def stream(self, gotData: Callable[[bytes], None]) -> None:
        self._gotData = gotData

    def limitMessages(self, size: int) -> None:
        self.maxMessagePayloadSize = size

    def ping(self, answered: Callable[[], None]) -> None:
        payload = os.urandom(8)
        self._pongs.append((payload, answered))
        self.sendPing(payload)

    def pingOrCutOff(self) -> None:
        """
        Called by the factory once an interval.
        """
        if self.state != self.STATE_OPEN:
            return  # it has a deadline
        if self._readingPaused:
            self.sendPing()  # the pong cannot be heard, but of a peer that is gone TCP tells only who writes
        elif self._heard:
            self._heard = False
            self.sendPing()
        elif not self._takesData():
            self._cutOff("the peer does not answer pings")

    @property
    def socket(self) -> object:
        """For L{Progress}."""
        return getattr(self.transport, "socket", None)

    def _takesData(self) -> bool:
        if self._progress is None:
            self._progress = Progress(self)
        return self._progress.isMade()

    # -- IWebSocketChannel: the transport

    @property
    def closeCode(self) -> int | None:
        """See L{IWebSocketChannel}."""
        code: int | None = self.remoteCloseCode
        return code

    def close(self, code: int = 1000, reason: str = "") -> None:
        encoded = reason.encode()[:123].decode("utf-8", "ignore").encode()
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=code, reasonUtf8=encoded or None, isReply=False)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        if self.state == self.STATE_OPEN:
            # Nothing of the peer is payload any more, and it has this long to take what we wrote and to answer.
            if self._gotData is not None:
                self._gotData = _discard
            self.transport.unregisterProducer()
            self._pace.closing()
            self.resumeProducing()
            settings = self.factory.settings
            limit = self.factory.clock.seconds() + settings.closeLimit
            self._deadline.start(settings.closeTimeout, self._closeLate, limit)
        super().sendCloseFrame(code, reasonUtf8, isReply)
        if self.failedByMe:
            self._over(Failure(ConnectionLost((reasonUtf8 or b"").decode())))

    def _closeLate(self, limit: float) -> None:
        # To cut off a peer on a slow line is to drop what it has not got yet.
        if self.factory.clock.seconds() < limit and self._takesData():
            self._deadline.start(self.factory.settings.closeTimeout, self._closeLate, limit)
        else:
            self._cutOff(_LATE)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        refused: bool | None = super().onCloseFrame(code, reasonRaw)
        if self.wasClean and self.state != self.STATE_CLOSED:
            # A client leaves it to the server to end the connection (RFC 6455, section 7.1.1), within the deadline.
            self.state = self.STATE_CLOSED
            self._over(Failure(ConnectionDone()))
        return refused

    @property
    def disconnecting(self) -> bool:
        """As of Twisted's own transports: some protocols look."""
        return bool(self.state != self.STATE_OPEN)

    def loseConnection(self) -> None:
        self.close(1000)

    def loseWriteConnection(self) -> None:
        """A WebSocket does not half-close."""
        self.close(1000)

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    def _closeConnection(self, abort: bool = False) -> None:
        """autobahn is done with the connection. (It wants to abort it after a closing handshake: no need.)"""
        self._flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._over(Failure(ConnectionDone() if self.wasClean else ConnectionLost()))

    def pauseProducing(self) -> None:
        self._readingPaused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if self._readingPaused:
            self._readingPaused = False
            self._heard = True
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.abortConnection()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._pace.register(producer, streaming)

    def unregisterProducer(self) -> None:
        self._pace.unregister()

    def getPeer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        host: IAddress = self.transport.getHost()
        return host
