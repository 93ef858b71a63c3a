"""
Connections to one origin that wait for the next request.

To make a connection takes round trips, more of them through an agent, and a request that finds one goes out at once::

    pool = OriginPool(lambda: agent.endpointFor(service, visitor), settings=settings, sweep=sweep)
    connection = pool.take(isIdempotent=True)
    if connection is None:
        connection = await pool.dial()          # comes back to the pool by itself after each response

The one that was used last is taken first, so that a pool is as large as it needs to be and the rest of it may end. An
origin may hang up just when a request is on the way to it. Nobody knows then whether it was seen, and one that may not
be repeated is lost; so such a request gets a connection that was in use a moment ago, or a new one.
"""

__all__ = ["OriginPool"]

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, Prepared, limitDial
from gateway.net.http1client import HttpClientConnection, IOriginOwner
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import ISwept, Sweep

FRESH = 1.0
"""Seconds for which a connection is trusted not to have been hung up on."""


@implementer(IOriginOwner, ISwept)
class OriginPool:
    """
    @param connect: returns the endpoint for one more connection.
    """

    def __init__(
        self,
        connect: Callable[[], IStreamClientEndpoint],
        *,
        settings: HttpSettings,
        sweep: Sweep,
    ) -> None:
        self._connect = connect
        self._clock = sweep.clock
        self._sweep = sweep
        self._settings = settings
        self._idle: dict[HttpClientConnection, float] = {}  # since when; the newest is the last
        self._isClosed = False

    def take(self, isIdempotent: bool) -> HttpClientConnection | None:
        """
        @param isIdempotent: whether the request may be sent again, should the connection turn out to be dead.
        @return: an idle connection, or C{None}.
        """
        if not self._idle:
            return None
        connection, since = self._idle.popitem()
        age = self._clock.seconds() - since
        if age < self._limit(connection) and (isIdempotent or age <= FRESH):
            return connection
        self._idle[connection] = since
        return None

    def _limit(self, connection: HttpClientConnection) -> float:
        limit = self._settings.originIdleTimeout
        return limit if connection.keptFor is None else min(limit, connection.keptFor)

    def dial(self) -> Deferred[HttpClientConnection]:
        """
        Make a connection, which is the caller's first.

        @return: may be cancelled; fails with L{DialFailed}.
        """
        connection = HttpClientConnection(self, settings=self._settings, sweep=self._sweep)
        dial = self._connect().connect(Prepared(connection))
        limitDial(dial, self._settings.dialTimeout, self._clock)
        return dial.addCallbacks(lambda _: connection, _failed)

    def close(self) -> None:
        """Close what is idle, now and from now on."""
        self._isClosed = True
        for connection in list(self._idle):
            connection.close()

    # -- IOriginOwner

    def idle(self, connection: HttpClientConnection) -> None:
        if self._isClosed:
            connection.close()
            return
        if not self._idle:
            self._sweep.watch(self)
        self._idle[connection] = self._clock.seconds()
        if len(self._idle) > self._settings.originIdle:
            next(iter(self._idle)).close()

    def lost(self, connection: HttpClientConnection) -> None:
        self._idle.pop(connection, None)

    # -- ISwept

    def check(self, now: float) -> None:
        for connection, since in list(self._idle.items()):
            if now - since >= self._limit(connection):
                connection.close()
        if not self._idle:
            self._sweep.forget(self)


def _failed(failure: Failure) -> HttpClientConnection:
    raise DialFailed.fromFailure(failure) from None
