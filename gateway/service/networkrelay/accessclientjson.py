"""
An access client's connection through a relay that speaks http-network-relay's messages: a WebSocket of its own, which
is the transport of whatever protocol is to be connected::

    line = JsonAccessLine(reactor, ClientStart("box", "127.0.0.1", 22, "tcp", secret))
    line.opened(channel)                        # it is a WebSocket's receiver
    line.connect(factory)                       # fires once the relay has said that the target is there

Nobody can say in these messages that one direction has ended. So what ends here first is not told, and the connection
goes on until the target ends it. As some agents of http-network-relay's do not tell that either, it is over, too, when
nothing has come for a while.
"""

__all__ = ["JsonAccessLine"]

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableDescriptor,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.direct import Buffer
from gateway.net.interfaces import IStreamTransport, IWebSocketChannel, IWebSocketReceiver
from gateway.net.timer import Timer
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.networkrelay import (
    MAX_DATA,
    ClientData,
    ClientStart,
    Error,
    StartOk,
    decodeToClient,
    encode,
)

LINGER = 60.0
"""Seconds of silence after which a connection is over that has ended on this side."""

_NORMAL = 1000
_PROTOCOL_ERROR = 1002
"""Codes with which a WebSocket is closed (RFC 6455, section 7.4.1)."""


@implementer(IStreamTransport, IHalfCloseableDescriptor)
class _Transport:
    """
    A channel that carries payload in messages.

    @param ended: called when this side has no more to say.
    """

    def __init__(self, channel: IWebSocketChannel, ended: Callable[[], None]) -> None:
        self._channel = channel
        self._ended = ended

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        for at in range(0, len(view), MAX_DATA):
            self._channel.sendText(encode(ClientData(bytes(view[at : at + MAX_DATA]))))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._channel.loseConnection()

    def abortConnection(self) -> None:
        self._channel.abortConnection()

    def getPeer(self) -> IAddress:
        return self._channel.getPeer()

    def getHost(self) -> IAddress:
        return self._channel.getHost()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._channel.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._channel.unregisterProducer()

    def pauseProducing(self) -> None:
        self._channel.pauseProducing()

    def resumeProducing(self) -> None:
        self._channel.resumeProducing()

    def stopProducing(self) -> None:
        self._channel.stopProducing()

    def loseWriteConnection(self) -> None:
        """There is no message for it."""
        self._ended()

    def readConnectionLost(self, reason: Failure) -> None:
        """It never ends alone."""

    def writeConnectionLost(self, reason: Failure) -> None:
        """It never ends alone."""


@implementer(IWebSocketReceiver)
class JsonAccessLine:
    """
    @param start: the first message, which says where to.
    @ivar problem: what the relay has said of a connection's end; empty: nothing.
    """

    def __init__(self, clock: IReactorTime, start: ClientStart) -> None:
        self.problem = ""
        self._start = start
        self._factory: IProtocolFactory | None = None
        self._waiting: Deferred[IProtocol] | None = None
        self._protocol: IProtocol | None = None
        self._isOver = False
        self._lingering = Timer(clock)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        To be called once, right after L{opened}.

        @return: may be cancelled; fails with L{DialFailed}.
        """
        self._factory = factory
        waiting: Deferred[IProtocol] = Deferred(lambda _: self._cancel())
        self._waiting = waiting
        self._channel.sendText(encode(self._start))
        return waiting

    def _cancel(self) -> None:
        self._waiting = None
        self._isOver = True
        self._channel.abortConnection()

    def _connected(self) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None and self._factory is not None
        try:
            transport = _Transport(self._channel, self._linger)
            protocol = self._factory.buildProtocol(transport.getPeer())
            if protocol is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            self._isOver = True
            self._channel.abortConnection()
            waiting.errback()
            return
        self._protocol = protocol
        protocol.makeConnection(transport)
        waiting.callback(protocol)

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._isOver:
            return
        try:
            message = decodeToClient(payload)
        except RemoteProtocolError as e:
            self._end(f"The relay does not keep to the protocol: {e.details}", _PROTOCOL_ERROR)
            return
        match message:
            case StartOk() if self._waiting is not None:
                self._connected()
            case ClientData(data=data) if self._protocol is not None:
                if self._lingering.isRunning:
                    self._linger()
                if data:
                    self._protocol.dataReceived(data)
            case Error(message=text):
                self._end(text, _NORMAL)
            case _:
                self._end("The relay does not keep to the protocol: a message is out of turn.", _PROTOCOL_ERROR)

    def _linger(self) -> None:
        """This side has ended."""
        self._lingering.start(LINGER, self._silent)

    def _silent(self) -> None:
        self._channel.close(_NORMAL)
        self._over(DialFailed(DialFailure.CANCELLED, "Nobody waited any longer."), Failure(ConnectionDone()))

    def _end(self, problem: str, code: int) -> None:
        self.problem = problem
        self._over(DialFailed(DialFailure.DENIED, problem), Failure(ConnectionLost(problem)))
        self._channel.close(code)

    def close(self) -> None:
        """Nobody wants it."""
        self._isOver = True
        self._channel.close(_NORMAL)

    def lost(self, reason: Failure) -> None:
        if self._channel.closeCode not in (None, _NORMAL) and reason.check(ConnectionDone):
            # A relay that restarts closes properly, too: that is no end of the target's.
            self.problem = self.problem or "The relay ended the connection."
            reason = Failure(ConnectionLost(self.problem))
        self._over(DialFailed(DialFailure.GONE, "The relay closed the connection without an answer."), reason)

    def _over(self, error: DialFailed, reason: Failure) -> None:
        if self._isOver:
            return
        self._isOver = True
        self._lingering.stop()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(error)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)
