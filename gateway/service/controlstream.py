"""
The control stream of a session, at either end, in any dialect: ours, or go-tunnel's::

    control = ControlStream(ControlReader(client=False).receive, encode, gotMessage, failed, lost)
    control.send(Pong(id=1))
"""

__all__ = ["ControlStream"]

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.interfaces import IStreamTransport
from gateway.wire.errors import RemoteProtocolError

M = TypeVar("M")


@implementer(IPushProducer)
class ControlStream(Protocol, Generic[M]):
    """
    It produces answers, so a peer that does not read them is not read either.

    @param receive: takes what arrived, and returns the messages that are whole now.
    @param encode: a message as bytes.
    @param failed: what came is not the protocol. Nothing is read after that.
    @param lost: the stream is gone, and so is the session, or soon will be.
    """

    transport: IStreamTransport

    def __init__(
        self,
        receive: Callable[[bytes], Sequence[M]],
        encode: Callable[[M], bytes],
        gotMessage: Callable[[M], None],
        failed: Callable[[RemoteProtocolError], None],
        lost: Callable[[], None],
    ) -> None:
        self._receive = receive
        self._encode = encode
        self._gotMessage = gotMessage
        self._failed = failed
        self._lost = lost
        self._over = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        self._lost()
