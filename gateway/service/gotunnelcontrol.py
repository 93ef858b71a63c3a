"""
The control stream of a go-tunnel session, at either end::

    control = ControlStream(client=False, gotMessage=gotMessage, failed=failed, lost=lost)
    control.send(Ack(ok=True))
"""

__all__ = ["ControlStream"]

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.interfaces import IStreamTransport
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.gotunnel import ControlReader, Message, encode


@implementer(IPushProducer)
class ControlStream(Protocol):
    """
    It produces answers, so a peer that does not read them is not read either.

    @param client: whether this is the agent's end.
    @param failed: what came is not the protocol. Nothing is read after that.
    @param lost: the stream is gone, and so is the session, or soon will be.
    """

    transport: IStreamTransport

    def __init__(
        self,
        *,
        client: bool,
        gotMessage: Callable[[Message], None],
        failed: Callable[[RemoteProtocolError], None],
        lost: Callable[[], None],
    ) -> None:
        self._reader = ControlReader(client=client)
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

    def send(self, message: Message) -> None:
        """Say something, as long as there is somebody to hear it."""
        if not self._over:
            self.transport.write(encode(message))

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        try:
            for message in self._reader.receive(data):
                self._gotMessage(message)
        except RemoteProtocolError as e:
            self._failed(e)
            self._over = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        self._lost()
