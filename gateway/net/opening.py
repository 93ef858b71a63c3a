"""
Streams that begin with what they are for, and are answered with whether there is somebody at their end.

A session's streams are all alike. So the first bytes of each are a preamble, which names a service or a target, and
where the peer's dialect has one its first line back is the answer. To whoever dials it looks like any endpoint::

    endpoint = OpeningEndpoint(MuxEndpoint(session), preamble, readAnswer)
    relay.connect(endpoint)         # joined when the agent reached the origin, or a DialFailed

The preamble and the visitor's first bytes leave together, before the answer: see L{IEarlyEndpoint}.
"""

__all__ = ["OpeningEndpoint"]

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure, Prepared
from gateway.net.interfaces import IEarlyData, IEarlyEndpoint, IStreamTransport
from gateway.net.muxstream import StreamRefused
from gateway.net.peek import become

ReadAnswer = Callable[[bytes], int | None]
"""
Takes all that came back so far and returns how long the answer in it is, or C{None} when more is needed; raises
L{DialFailed} when it is a refusal, too long, or no answer at all.
"""


class _Opening(Protocol):
    """
    Is on a stream until it was answered, and becomes the protocol that it is for.
    """

    transport: IStreamTransport

    def __init__(
        self,
        factory: IProtocolFactory,
        preamble: bytes,
        readAnswer: ReadAnswer | None,
        early: IEarlyData | None,
    ) -> None:
        self._factory = factory
        self._preamble = preamble
        self._readAnswer = readAnswer
        self._early = early
        self._received = b""
        self._chosen: IProtocol | None = None
        self._over = False
        self.done: Deferred[IProtocol] = Deferred(lambda _: self._giveUp())

    def connectionMade(self) -> None:
        self.transport.write(self._preamble)
        if self._early is not None:
            self._early.follow(self.transport.write)
        if self._readAnswer is None:
            self._become(b"")

    def _giveUp(self) -> None:
        self._over = True
        if self.transport is not None:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        assert self._readAnswer is not None
        self._received += data
        try:
            size = self._readAnswer(self._received)
        except DialFailed as e:
            self._giveUp()
            self.done.errback(e)
            return
        if size is not None:
            self._become(self._received[size:])

    def _become(self, rest: bytes) -> None:
        address: IAddress = self.transport.getPeer()
        try:
            chosen = self._factory.buildProtocol(address)
            if chosen is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            self._giveUp()
            self.done.errback(Failure())
            return
        self._chosen = chosen
        become(self, chosen)
        chosen.makeConnection(self.transport)
        self.done.callback(chosen)
        if rest:
            chosen.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._chosen is not None:
            self._chosen.connectionLost(reason)
        elif not self._over:
            self._over = True
            # A target may also break off at once, as a port does where nobody takes datagrams: resets overtake answers.
            details = "The connection was broken off before it stood: the agent went away, or nobody is at the target."
            self.done.errback(DialFailed(DialFailure.GONE, details))


def _unopened(failure: Failure) -> Failure:
    if failure.check(StreamRefused):  # so nothing of this was seen by anybody
        raise DialFailed(DialFailure.UNAVAILABLE, "The agent takes no more streams.") from None
    return failure


@implementer(IEarlyEndpoint)
class OpeningEndpoint:
    """
    Opens a stream, says what it is for, and waits to be told that its end was reached.

    @param inner: opens streams.
    @param preamble: the first bytes.
    @param readAnswer: reads the answer; C{None} in a dialect without.
    """

    def __init__(self, inner: IStreamClientEndpoint, preamble: bytes, readAnswer: ReadAnswer | None) -> None:
        self._inner = inner
        self._preamble = preamble
        self._readAnswer = readAnswer

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled, which resets the stream; fails with L{DialFailed} or as the inner endpoint does.
        """
        return self._connect(factory, None)

    def connectEarly(self, factory: IProtocolFactory, early: IEarlyData) -> Deferred[IProtocol]:
        """The same, and the visitor's first bytes go right behind the preamble."""
        return self._connect(factory, early)

    def _connect(self, factory: IProtocolFactory, early: IEarlyData | None) -> Deferred[IProtocol]:
        opening = _Opening(factory, self._preamble, self._readAnswer, early)
        opened = self._inner.connect(Prepared(opening))
        return opened.addCallbacks(lambda _: opening.done, _unopened)
