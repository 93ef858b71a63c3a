"""
The control stream of a session, at either end, in any dialect: ours, or go-tunnel's::

    control = ControlStream(ControlReader(client=False).receive, encode, gotMessage, failed, lost)
    control.send(Pong(id=1))
"""

__all__ = ["BURST", "RATE", "ControlStream"]

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.limits import TokenBucket
from gateway.net.interfaces import IStreamTransport
from gateway.wire.errors import RemoteProtocolError

M = TypeVar("M")

RATE = 64 * 1024
"""Bytes per second that are read of what a peer says, where its pace is limited."""

BURST = 256 * 1024
"""Bytes that it may say at once."""


@implementer(IPushProducer)
class ControlStream(Protocol, Generic[M]):
    """
    It produces answers, so a peer that does not read them is not read either. Nor is, for a while, one that says more
    than there is to say: every message costs all others time.

    @param receive: takes what arrived, and returns the messages that are whole now.
    @param encode: a message as bytes.
    @param failed: what came is not the protocol. Nothing is read after that.
    @param lost: the stream is gone, and so is the session, or soon will be.
    @param clock: for the peer's pace; C{None} at the end that trusts the other.
    """

    transport: IStreamTransport

    def __init__(
        self,
        receive: Callable[[bytes], Sequence[M]],
        encode: Callable[[M], bytes],
        gotMessage: Callable[[M], None],
        failed: Callable[[RemoteProtocolError], None],
        lost: Callable[[], None],
        clock: IReactorTime | None = None,
    ) -> None:
        self._receive = receive
        self._encode = encode
        self._gotMessage = gotMessage
        self._failed = failed
        self._lost = lost
        self._clock = clock
        self._pace = None if clock is None else TokenBucket(RATE, BURST, clock.seconds())
        self._rest: IDelayedCall | None = None
        self._isFull = False
        self._over = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._isFull = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._isFull = False
        if self._rest is None:
            self.transport.resumeProducing()

    def _rested(self) -> None:
        self._rest = None
        if not self._isFull:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The stream is gone, which C{connectionLost} tells."""

    def send(self, message: M) -> None:
        """Say something, as long as there is somebody to hear it."""
        if not self._over:
            self.transport.write(self._encode(message))

    def end(self) -> None:
        """Say no more, when all is said."""
        if not self._over:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        try:
            for message in self._receive(data):
                if self._over:  # by what the message before said
                    return
                self._gotMessage(message)
        except RemoteProtocolError as e:
            self._failed(e)
            self._over = True
            return
        if self._clock is None or self._pace is None or self._over:
            return
        if wait := self._pace.take(len(data), self._clock.seconds()):
            self.transport.pauseProducing()
            self._rest = self._clock.callLater(wait, self._rested)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._lost()
