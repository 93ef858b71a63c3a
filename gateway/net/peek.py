"""
Look at a connection's first bytes, then become the protocol that they call for.

One port may serve several protocols (TLS or not, HTTP or not): the first bytes tell. L{Peek} collects them
within a limit and a deadline, asks, and hands over everything that it has read, in order::

    def decide(data: bytes) -> IProtocol | None:
        return tls.buildProtocol(address) if data[0] == 0x16 else plain.buildProtocol(address)

    Peek(decide, clock=reactor, timeout=10.0)

After the hand-over nothing of L{Peek} is left in the way: its entry points I{are} the chosen protocol's.
"""

__all__ = ["TLS_HANDSHAKE", "Peek", "PeekFailed", "become"]

from collections.abc import Callable

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from gateway.net.timer import Timer
from gateway.wire.errors import RemoteProtocolError

TLS_HANDSHAKE = 0x16
"""The first byte of a TLS connection: a record of the type handshake (RFC 8446, section 5.1)."""


class PeekFailed(Exception):
    """The first bytes did not come, or not in time, or were too many. Its text says which."""


def become(placeholder: Protocol, chosen: IProtocol) -> None:
    """
    Make a protocol pass on what its transport calls, but for C{connectionLost}, to another one.

    The transport goes on calling the placeholder, so its entry points become the chosen one's own, and no byte passes
    through a second frame. Whether it half-closes is decided by the interfaces that it provides, so these do too. What
    becomes of a L{Peek} becomes of the placeholder before it as well.
    """
    if isinstance(placeholder, Peek) and placeholder.before is not None:
        become(placeholder.before, chosen)
    if isinstance(chosen, Peek):
        chosen.before = placeholder
    names = ["dataReceived"]
    if IHalfCloseableProtocol.providedBy(chosen):
        directlyProvides(placeholder, providedBy(chosen))
        names += ["readConnectionLost", "writeConnectionLost"]
    for name in names:
        setattr(placeholder, name, getattr(chosen, name))


class Peek(Protocol):
    """
    The protocol of a connection about which nothing is known yet.

    @param decide: takes all bytes so far, never empty; returns the protocol to become, or C{None} for more bytes;
        raises L{RemoteProtocolError} when nothing fits. What it returns must not replace its own C{dataReceived}
        later, unless it is another L{Peek}.
    @param failed: told why nothing became of the connection: a L{RemoteProtocolError} or a L{PeekFailed}. Not told of
        one that leaves without a byte (a port scan, a health check) or is broken off.
    @param limit: bytes that may be looked at.
    @param timeout: seconds until the decision must be made.
    @param lost: called last of all when the connection is gone, whatever it became.
    @ivar before: the placeholder that became this one.
    """

    before: Protocol | None = None

    def __init__(
        self,
        decide: Callable[[bytes], IProtocol | None],
        failed: Callable[[Exception], None],
        *,
        clock: IReactorTime,
        limit: int = 16 * 1024,
        timeout: float = 10.0,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        self._decide = decide
        self._failed = failed
        self._limit = limit
        self._timeout = timeout
        self._lost = lost
        self._data = b""
        self._chosen: IProtocol | None = None
        self._deadline = Timer(clock)

    def connectionMade(self) -> None:
        self._deadline.start(self._timeout, self._expired)

    def _expired(self) -> None:
        self._drop(PeekFailed(f"undecided after {self._timeout:g} seconds"))

    def _drop(self, why: Exception) -> None:
        self._deadline.stop()
        self._failed(why)
        self.transport.abortConnection()  # type: ignore[union-attr]  # connected by now

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            chosen = self._decide(self._data)
        except RemoteProtocolError as e:
            self._drop(e)
            return
        if chosen is not None:
            self._become(chosen)
        elif len(self._data) >= self._limit:
            self._drop(PeekFailed(f"undecided after {self._limit} bytes"))

    def _become(self, chosen: IProtocol) -> None:
        self._deadline.stop()
        self._chosen = chosen
        data, self._data = self._data, b""
        become(self, chosen)
        assert self.transport is not None
        chosen.makeConnection(self.transport)
        chosen.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
        try:
            if self._chosen is not None:
                self._chosen.connectionLost(reason)
            elif self._data and reason.check(ConnectionDone):
                self._failed(PeekFailed("left before it was clear what it wants"))
            elif isinstance(reason.value, Exception) and not reason.check(ConnectionDone, ConnectionLost):
                self._failed(reason.value)  # TLS below, which says why
        finally:
            self._lost()
            self.before = self._chosen = None  # or they and we would keep one another
            del self._decide, self._failed
