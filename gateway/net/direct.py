"""
Reading from and writing to plain sockets with nothing in between.

A relay reads a piece, writes a piece, and does little else, so what Twisted's TCP transport adds to each of the two
system calls is most of its work. C{write} keeps the bytes, asks epoll to tell when the socket is writable, sends them
in the next turn of the reactor, and asks epoll to stop telling, though a socket with nothing queued almost always is
writable. C{doRead} takes new memory for each piece, which beyond 128 KiB the C library fetches from the
kernel, page by page. Here both are done at once and in place::

    write = directWriter(far)
    readDirectly(near, lambda data: write([data]))

What the kernel does not take goes to C{transport.write}, so order, back-pressure and errors stay the transport's
own. All of this holds for plain TCP, and for TLS on it. A transport of another kind that can hand over what it reads
without a copy provides L{IDirectTransport}; any other is used as it is.

The price is that names of Twisted's are used which are not public: C{_tempDataBuffer} and C{_aborting}, to see
whether something is queued or over, C{_writeDisconnected} and C{_closeWriteConnection}, to end the sending, and
C{doRead} of an instance, which is replaced. (L{gateway.net.directtls} needs more.)
C{tests/integration/test_direct.py} holds Twisted to them.
"""

__all__ = [
    "Buffer",
    "IDirectTransport",
    "closeDirectly",
    "directWriter",
    "endDirectly",
    "letGo",
    "limitUnsent",
    "readDirectly",
]

import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from errno import ENOBUFS

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Client, Server
from twisted.internet.unix import Client as UNIXClient
from twisted.internet.unix import Server as UNIXServer
from twisted.protocols.tls import BufferingTLSTransport

from gateway.net.directtls import tlsReader, tlsWriter
from gateway.net.interfaces import IStreamTransport

Buffer = bytes | memoryview
"""Payload. A C{memoryview} is only valid until the call that it was given to returns."""

READ_SIZE = 240 * 1024
"""
Bytes read at once. On loopback a segment takes 65,483: with a WebSocket's headers this is a little less than four,
where 256 KiB would be four and a tiny fifth, and a segment costs something however small it is.
"""


_MAX_PIECES = 64
"""Pieces that are worth a vector of their own; the kernel takes no more than 1,024."""


class IDirectTransport(IStreamTransport):
    """A stream transport whose C{write} takes a C{memoryview}, too, and keeps none beyond the call."""

    def readDirectly(gotData: Callable[[Buffer], None]) -> None:
        """
        From here on hand over what is read as it stands in a buffer of somebody else's.

        @param gotData: called in place of the protocol's C{dataReceived}; must not keep what it is given.
        """


def _plain(transport: object) -> Client | Server | None:
    # UNIX sockets have a way of reading of their own, for the descriptors that may come along.
    if not isinstance(transport, Client | Server) or isinstance(transport, UNIXClient | UNIXServer) or transport.TLS:
        return None
    return transport


def directWriter(transport: IStreamTransport) -> Callable[[Sequence[Buffer]], None]:
    """
    @param transport: connected; its own C{write} may be used beside the writer.
    @return: writes pieces one after another, as one. It keeps none of them.
    """
    if isinstance(transport, BufferingTLSTransport) and _plain(transport.transport) is not None:
        return tlsWriter(transport, directWriter(transport.transport))  # type: ignore[arg-type]  # it is TCP
    connection = _plain(transport)
    if connection is None:
        return lambda pieces: transport.write(b"".join(pieces))

    def write(pieces: Sequence[Buffer]) -> None:
        if connection._aborting or not connection.connected:
            return
        # Whether anything is queued, or will be followed by the end.
        if connection._tempDataBuffer or connection.dataBuffer or connection.disconnecting:
            connection.write(b"".join(pieces))
            return
        if len(pieces) > _MAX_PIECES:
            pieces = (b"".join(pieces),)
        try:
            sent = connection.socket.sendmsg(pieces)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as e:
            if e.errno != ENOBUFS:
                # The kernel reports a reset once. To the transport the connection would look as if it had ended well.
                connection.abortConnection()
                return
            sent = 0
        if sent < sum(map(len, pieces)):
            connection.write(b"".join(_after(pieces, sent)))

    return write


def endDirectly(transport: IStreamTransport) -> None:
    """
    End our sending after what is queued, which mostly is nothing: then now, and not when epoll has said that the socket
    is writable.

    @param transport: one that can half-close, without a producer.
    """
    connection = _plain(transport)
    if connection is None or connection._tempDataBuffer or connection.dataBuffer or connection.disconnecting:
        transport.loseWriteConnection()
    elif not connection._writeDisconnected:
        connection._writeDisconnected = True
        connection._closeWriteConnection()


def closeDirectly(transport: IStreamTransport) -> None:
    """
    Close a connection on which all was said, whatever the peer would have to say. There is no reset if that can be: not
    every system lets somebody read on after one.

    @param transport: on which nothing waits to be sent.
    """
    connection = _plain(transport.transport if isinstance(transport, BufferingTLSTransport) else transport)
    if connection is None:
        transport.abortConnection()
    else:
        connection.loseConnection()


def _after(pieces: Sequence[Buffer], sent: int) -> Iterator[Buffer]:
    """What is left of pieces once some bytes of them are sent."""
    for piece in pieces:
        if sent < len(piece):
            yield piece[sent:]
        sent = max(0, sent - len(piece))


UNSENT = 64 * 1024
"""
Bytes that the kernel takes before it can send them, where L{limitUnsent} was called. Less than this means more wake-ups
on a fast line, and hardly less waiting on a slow one.
"""

_NOTSENT_LOWAT = 25
"""Linux's C{TCP_NOTSENT_LOWAT}, a name that Python has from 3.12 on."""


def limitUnsent(transport: IStreamTransport) -> None:
    """
    Where many share a connection, keep what waits for the network out of the kernel's buffer, as it takes megabytes and
    nobody can overtake them there.

    @param transport: what has, by way of whatever is on it, a TCP C{socket}; nothing happens to another, or elsewhere
        than on Linux.
    """
    connection = getattr(transport, "socket", None)
    if sys.platform == "linux" and isinstance(connection, socket.socket) and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT)


_buffer = memoryview(bytearray(READ_SIZE))
# One for all connections: the reactor reads in one thread, and nobody keeps a view beyond the call.


def readDirectly(transport: IStreamTransport, gotData: Callable[[Buffer], None]) -> None:
    """
    From here on hand over what TCP, TLS on it or an L{IDirectTransport} reads as it stands in a buffer that is used
    again. Pausing, ends and errors go their usual way; a transport of another kind goes on calling its protocol's
    C{dataReceived}.

    @param gotData: must not keep what it is given.
    """
    if IDirectTransport.providedBy(transport):
        transport.readDirectly(gotData)
        return
    if isinstance(transport, BufferingTLSTransport):
        connection = _plain(transport.transport)
        gotData = tlsReader(transport, gotData)
    else:
        connection = _plain(transport)
    if connection is None:
        return

    def doRead() -> ConnectionLost | ConnectionDone | None:
        try:
            count = connection.socket.recv_into(_buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        gotData(_buffer[:count])
        return None

    connection.doRead = doRead  # type: ignore[method-assign]  # the point of it


def letGo(transport: IStreamTransport) -> None:
    """
    A transport is gone: it may forget who read from it with L{readDirectly}. Otherwise the two keep one another until
    the garbage collector finds them, which is a tenth of the work where connections are many and short.
    """
    connection = _plain(transport.transport if isinstance(transport, BufferingTLSTransport) else transport)
    if connection is not None:
        vars(connection).pop("doRead", None)
