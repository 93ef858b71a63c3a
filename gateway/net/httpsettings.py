"""
The limits of HTTP connections, all in one place, and what they are when nobody says otherwise::

    settings = HttpSettings(idleTimeout=30.0, bodyRate=1024)
    HttpServerConnection(owner, settings=settings, sweep=sweep)

Whoever is slow on purpose holds a connection and the memory that goes with it, so each thing that a connection may wait
for has a limit of its own. All are kept by a L{Sweep<gateway.net.sweep.Sweep>}: up to two seconds late, never early.
"""

__all__ = ["HttpSettings"]

from dataclasses import dataclass, field

from gateway.wire.http2budget import Http2Limits


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """
    What visitors may do, and what origins may.

    @ivar headLimit: bytes of a request's head; of HTTP/2 the size of its header list (RFC 9113, section 6.5.2).
    @ivar headFields: header lines in it.
    @ivar headTimeout: seconds from its first byte, or from the connection's beginning, to its last.
    @ivar idleTimeout: seconds from a response to the next request.
    @ivar bodyRate: bytes per second of a request's body, at least...
    @ivar bodyGrace: ...over any so many seconds in which it could be read.
    @ivar takeTimeout: seconds for a visitor to take some of what waits to be sent to them.
    @ivar takeLimit: seconds to take all of it, however much of it was taken meanwhile: at most 304 KiB.
    @ivar requests: requests on one connection. After the last of them it is closed.
    @ivar unreadLimit: bytes of a request's body that are read for nothing once it has been answered, so that the
        connection can go on.
    @ivar lingerTimeout: seconds for a visitor to hang up by itself once they have taken all that was said.
    @ivar originHeadLimit: bytes of a response's head.
    @ivar originHeadFields: header lines in it.
    @ivar originHeadTimeout: seconds from the end of a request to the head of its response, or for which nothing of a
        request is taken.
    @ivar originIdle: connections to one origin that wait for the next request, at most.
    @ivar originIdleTimeout: seconds for which one waits. The origin may say less (C{Keep-Alive: timeout}).
    @ivar dialTimeout: seconds for a connection to an origin to be made.
    @ivar http2: what else a connection of HTTP/2 may do. Its C{headerList} does not count.
    @ivar backlog: HTTP/2: bytes that wait to be sent on a connection, all streams together, before each stream's source
        is paused, and counted by a L{StallBudget<gateway.net.budget.StallBudget>}.
    """

    headLimit: int = 16 * 1024
    headFields: int = 100
    headTimeout: float = 10.0
    idleTimeout: float = 75.0
    bodyRate: int = 240
    bodyGrace: float = 20.0
    takeTimeout: float = 60.0
    takeLimit: float = 900.0
    requests: int = 10_000
    unreadLimit: int = 256 * 1024
    lingerTimeout: float = 2.0
    originHeadLimit: int = 64 * 1024
    originHeadFields: int = 200
    originHeadTimeout: float = 300.0
    originIdle: int = 64
    originIdleTimeout: float = 60.0
    dialTimeout: float = 20.0
    http2: Http2Limits = field(default_factory=Http2Limits)
    backlog: int = 1024 * 1024
