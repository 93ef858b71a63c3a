"""
Streams that begin with what they are for, and are answered with whether there is somebody at their end.

A session's streams are all alike. So the first bytes of each are a preamble, which names a service or a target, and
where the peer's dialect has one its first line back is the answer. To whoever dials it looks like any endpoint::

    endpoint = OpeningEndpoint(MuxEndpoint(session), preamble, readAnswer)
    relay.connect(endpoint)         # joined when the agent reached the origin, or a DialFailed

The preamble and the visitor's first bytes leave together, before the answer: see L{IEarlyEndpoint}.
"""

__all__ = ["ANSWER_LIMIT", "OpeningEndpoint"]

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IEarlyData, IEarlyEndpoint, IStreamTransport
from gateway.net.peek import become

ANSWER_LIMIT = 4096
"""Bytes of the longest answer, with its newline."""


class _Opening(Protocol):
    """
    Is on a stream until it was answered, and becomes the protocol that it is for.
    """

    transport: IStreamTransport

    def __init__(
        self,
        factory: IProtocolFactory,
        preamble: bytes,
        readAnswer: Callable[[bytes], None] | None,
        early: IEarlyData | None,
    ) -> None:
        self._factory = factory
        self._preamble = preamble
        self._readAnswer = readAnswer
        self._early = early
        self._answer = b""
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
        self._answer += data
        line, newline, rest = self._answer.partition(b"\n")
        if len(line) >= ANSWER_LIMIT:
            self._fail(DialFailed(DialFailure.OTHER, "The agent's answer is too long."))
        elif newline:
            assert self._readAnswer is not None
            try:
                self._readAnswer(line)
            except DialFailed as e:
                self._fail(e)
            else:
                self._become(rest)

    def _fail(self, error: DialFailed) -> None:
        self._giveUp()
        self.done.errback(error)

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
            self.done.errback(DialFailed(DialFailure.OTHER, "The agent ended the stream without an answer."))


@implementer(IEarlyEndpoint)
class OpeningEndpoint:
    """
    Opens a stream, says what it is for, and waits to be told that its end was reached.

    @param inner: opens streams.
    @param preamble: the first bytes.
    @param readAnswer: takes the first line that comes back, without its newline; raises L{DialFailed} when it is a
        refusal or no answer at all. C{None} in a dialect without answers.
    """

    def __init__(
        self, inner: IStreamClientEndpoint, preamble: bytes, readAnswer: Callable[[bytes], None] | None
    ) -> None:
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
        opened = self._inner.connect(ClientFactory.forProtocol(lambda: opening))
        return opened.addCallback(lambda _: opening.done)
