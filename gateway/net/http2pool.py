"""
Connections to one origin that speaks HTTP/2, each of which carries many requests at once.

Those who come while a connection is being made wait for that one, as many as it can carry::

    pool = Http2OriginPool(lambda: agent.endpointFor(service, visitor), settings=settings, sweep=sweep)
    connection = pool.take(isIdempotent=True)
    if connection is None:
        connection = await pool.dial()

An origin says which requests it has not looked at when it ends a connection, so none has to be kept from an old one, as
with L{HTTP/1.1<gateway.net.httppool>}.
"""

__all__ = ["Http2OriginPool"]

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure, Prepared, limitDial
from gateway.net.http2client import Http2ClientConnection, IHttp2OriginOwner
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import ISwept, Sweep


@implementer(IHttp2OriginOwner, ISwept)
class Http2OriginPool:
    """
    @param connect: returns the endpoint for one more connection.
    """

    def __init__(self, connect: Callable[[], IStreamClientEndpoint], *, settings: HttpSettings, sweep: Sweep) -> None:
        self._connect = connect
        self._settings = settings
        self._sweep = sweep
        self._connections: dict[Http2ClientConnection, float | None] = {}  # since when idle; None: busy
        self._waiting: dict[Deferred[Http2ClientConnection], None] = {}
        self._dialling: Deferred[IProtocol] | None = None
        self._isClosed = False

    def take(self, isIdempotent: bool) -> Http2ClientConnection | None:
        """
        @return: a connection that carries one more request; C{None}: there is none.
        """
        for connection in self._connections:
            if connection.canSend:
                self._connections[connection] = None
                return connection
        return None

    def dial(self) -> Deferred[Http2ClientConnection]:
        """
        Wait for a connection.

        @return: may be cancelled; fails with L{DialFailed}.
        """
        waiting: Deferred[Http2ClientConnection] = Deferred(self._cancelled)
        self._waiting[waiting] = None
        if self._dialling is None:
            self._begin()
        return waiting

    def _begin(self) -> None:
        connection = Http2ClientConnection(self, settings=self._settings, sweep=self._sweep)
        self._dialling = dialling = self._connect().connect(Prepared(connection))
        limitDial(dialling, self._settings.dialTimeout, self._sweep.clock)
        dialling.addCallbacks(lambda _: self._dialled(connection), self._failed)

    def _dialled(self, connection: Http2ClientConnection) -> None:
        self._dialling = None
        if self._isClosed and not self._waiting:
            connection.close()
            return
        if not self._connections:
            self._sweep.watch(self)
        self._connections[connection] = None if self._waiting else self._sweep.clock.seconds()
        while self._waiting and connection.canSend:
            waiting = next(iter(self._waiting))
            del self._waiting[waiting]
            waiting.callback(connection)
        if not self._waiting or self._dialling is not None:
            return
        if connection.isReused:
            self._begin()
        else:  # a connection that takes nothing from its beginning on; another one would do no better
            connection.close()
            self._failed(Failure(DialFailed(DialFailure.OTHER, "The origin takes no request.")))

    def _failed(self, failure: Failure) -> None:
        self._dialling = None
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.errback(DialFailed.fromFailure(failure))

    def _cancelled(self, waiting: Deferred[Http2ClientConnection]) -> None:
        self._waiting.pop(waiting, None)
        if not self._waiting and self._dialling is not None:
            self._dialling.cancel()

    def close(self) -> None:
        """Take no more requests on connections that there are; they end with those that they carry."""
        self._isClosed = True
        for connection in tuple(self._connections):
            connection.close()

    # -- IHttp2OriginOwner

    def idle(self, connection: Http2ClientConnection) -> None:
        if self._isClosed:
            connection.close()
        elif connection in self._connections:
            self._connections[connection] = self._sweep.clock.seconds()

    def lost(self, connection: Http2ClientConnection) -> None:
        self._connections.pop(connection, None)

    # -- ISwept

    def check(self, now: float) -> None:
        for connection, since in tuple(self._connections.items()):
            if since is not None and now - since >= self._settings.originIdleTimeout:
                connection.close()
        if not self._connections:
            self._sweep.forget(self)
