"""
Connections to one origin that speaks HTTP/2, each of which carries many exchanges.

Mostly it is one connection. There are more while an origin takes fewer requests at a time than there are, or while one
that takes no more finishes those that it has::

    pool = Http2OriginPool(lambda: agent.endpointFor(service, visitor), settings=settings, sweep=sweep)
    connection = pool.take()
    if connection is None:
        connection = await pool.dial()          # one connection for all who wait for one

An HTTP/2 origin says goodbye before it hangs up, and which requests it has not seen; so unlike with HTTP/1 it does not
matter to a request how long the connection has been idle.
"""

__all__ = ["Http2OriginPool"]

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, Prepared, limitDial
from gateway.net.http2client import Http2ClientConnection, IHttp2OriginOwner
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import ISwept, Sweep

Waiting = Deferred[Http2ClientConnection]


@implementer(IHttp2OriginOwner, ISwept)
class Http2OriginPool:
    """
    @param connect: returns the endpoint for one more connection.
    """

    def __init__(self, connect: Callable[[], IStreamClientEndpoint], *, settings: HttpSettings, sweep: Sweep) -> None:
        self._connect = connect
        self._settings = settings
        self._sweep = sweep
        self._connections: dict[Http2ClientConnection, float | None] = {}  # idle since; None: it is not
        self._waiting: dict[Waiting, None] = {}
        self._dial: Deferred[IProtocol] | None = None
        self._isClosed = False

    def take(self, isIdempotent: bool = True) -> Http2ClientConnection | None:
        """
        @param isIdempotent: does not matter.
        @return: a connection on which a request may be sent at once, or C{None}.
        """
        for connection in self._connections:
            if connection.canSend:
                self._connections[connection] = None
                return connection
        return None

    def dial(self) -> Waiting:
        """
        Make a connection, or wait for the one that is being made.

        @return: a connection on which a request may be sent at once. May be cancelled; fails with L{DialFailed}.
        """
        waiting: Waiting = Deferred(self._leave)
        self._waiting[waiting] = None
        if self._dial is None:
            self._begin()
        return waiting

    def _leave(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting, None)  # it may be one of several who are just told of a failure
        if not self._waiting and self._dial is not None:
            self._dial.cancel()

    def _begin(self) -> None:
        connection = Http2ClientConnection(self, settings=self._settings, sweep=self._sweep)
        self._dial = dial = self._connect().connect(Prepared(connection))
        limitDial(dial, self._settings.dialTimeout, self._sweep.clock)
        dial.addCallbacks(lambda _: self._dialled(connection), self._failed)

    def _dialled(self, connection: Http2ClientConnection) -> None:
        self._dial = None
        self._connections[connection] = None
        while self._waiting and connection.canSend:
            waiting = next(iter(self._waiting))
            del self._waiting[waiting]
            waiting.callback(connection)
        if self._waiting and self._dial is None:
            self._begin()
        if not connection.streams:
            self.idle(connection)  # nobody used it after all

    def _failed(self, failure: Failure) -> None:
        self._dial = None
        failed, self._waiting = self._waiting, {}
        problem = DialFailed.fromFailure(failure)
        for waiting in failed:
            if not waiting.called:  # it may have left when another one was told
                waiting.errback(problem)

    def close(self) -> None:
        """Close what is idle, now and from now on."""
        self._isClosed = True
        for connection, since in list(self._connections.items()):
            if since is not None:
                connection.close()

    # -- IHttp2OriginOwner

    def idle(self, connection: Http2ClientConnection) -> None:
        if self._isClosed:
            connection.close()
        elif connection in self._connections:
            self._connections[connection] = self._sweep.clock.seconds()
            self._sweep.watch(self)

    def lost(self, connection: Http2ClientConnection) -> None:
        self._connections.pop(connection, None)

    # -- ISwept

    def check(self, now: float) -> None:
        for connection, since in list(self._connections.items()):
            if since is not None and now - since >= self._settings.originIdleTimeout:
                connection.close()
        if not self._connections:
            self._sweep.forget(self)
