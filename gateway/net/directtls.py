"""
What L{gateway.net.direct} does for TLS on a plain socket.

Twisted's TLS takes and gives one record at a time, so that what is read at once comes as fifteen pieces, each with a
frame's work and a system call of its own, and what is written waits for the next turn of the reactor. Here all records
that are there come as one piece, and all that one write makes leave with one system call::

    write = tlsWriter(tls, directWriter(tls.transport))
    got = tlsReader(tls, gotData)               # takes what the socket reads

Until the handshake is over, when something is queued, and at the end everything goes the way of the transport, which
is also told of every failure. A message of a few bytes costs more in pyOpenSSL's methods than in OpenSSL, as they make
new memory for each piece, and an exception for "no more". So OpenSSL is called as they call it, on buffers that are
used again.

The price is that names are used which are not public: of Twisted's transport the connection, the steps of its end, and
what says whether something is queued; of pyOpenSSL its way to OpenSSL. C{tests/integration/test_direct.py} holds them
to it.
"""

__all__ = ["tlsOutput", "tlsReader", "tlsWriter"]

from collections.abc import Callable, Iterator, Sequence

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from twisted.protocols.tls import BufferingTLSTransport, _NullAggregator
from twisted.python.failure import Failure

_RECORD = 16 * 1024
"""Bytes of payload in a record, at most (RFC 8446, section 5.1)."""

_SIZE = 240 * 1024
"""Bytes that are handed over at once, at most: as many as are read at once."""

_CLOSED = SSL.ZeroReturnError()
"""How connections end. Raised, it would keep each of the frames that it came through, for the collector to find."""

# One of each for all connections: the reactor works in one thread, and nobody keeps a view beyond the call.
_plaintext, _ciphertext = memoryview(bytearray(_SIZE)), memoryview(bytearray(_SIZE))
_plain, _cipher = ffi.from_buffer(_plaintext), ffi.from_buffer(_ciphertext)


def tlsWriter(
    tls: BufferingTLSTransport, send: Callable[[Sequence[bytes | memoryview]], None]
) -> Callable[[Sequence[bytes | memoryview]], None]:
    """
    @param send: writes to the socket, and keeps nothing of what it is given.
    @return: writes pieces one after another, as one. It keeps none of them.
    """

    def write(pieces: Sequence[bytes | memoryview]) -> None:
        payload, connection, aggregator = b"".join(pieces), tls._tlsConnection, tls._aggregator
        if not payload or tls._lostTLSConnection or isinstance(aggregator, _NullAggregator):
            return
        # Whether it cannot be sent yet, or not any more, or something of the transport's own is to come first.
        if not tls._handshakeDone or tls._appSendBuffer or aggregator._buffer or tls.disconnecting:
            tls.write(payload)
            return
        # It goes into memory, which takes it all; one record at a time, if the context says so.
        ssl, clear, sent = connection._ssl, ffi.from_buffer(payload), 0
        while sent < len(payload):
            if (result := lib.SSL_write(ssl, clear + sent, len(payload) - sent)) <= 0:
                connection._raise_ssl_error(ssl, result)
            sent += result
        for piece in tlsOutput(connection):
            send((piece,))

    return write


def tlsOutput(connection: SSL.Connection) -> Iterator[memoryview]:
    """All that waits to be sent. A piece is valid until the next one."""
    while (count := lib.BIO_read(connection._from_ssl, _cipher, _SIZE)) > 0:
        yield _ciphertext[:count]
        if count < _SIZE:
            break


def tlsReader(
    tls: BufferingTLSTransport, gotData: Callable[[memoryview], None]
) -> Callable[[bytes | memoryview], None]:
    """
    @param gotData: must not keep what it is given.
    @return: takes what comes from the socket.
    """

    def got(data: bytes | memoryview) -> None:
        if not tls._handshakeDone or tls._appSendBuffer:
            tls.dataReceived(bytes(data))
            return
        connection = tls._tlsConnection
        ssl, more = connection._ssl, True
        lib.BIO_write(connection._into_ssl, ffi.from_buffer(data), len(data))
        while more:
            count = 0
            while count <= _SIZE - _RECORD and (more := (result := lib.SSL_read(ssl, _plain + count, _RECORD)) > 0):
                count += result
            error = None if more else _error(connection, result)
            if count:
                gotData(_plaintext[:count])
                if tls._lostTLSConnection or tls._aborted:
                    return
        # What OpenSSL may have to answer to what was no payload leaves with what is written next.
        if isinstance(error, SSL.ZeroReturnError):
            tls._shutdownTLS()
            tls._tlsShutdownFinished(None)
        elif error is not None:
            tls._tlsShutdownFinished(Failure(error))

    return got


def _error(connection: SSL.Connection, result: int) -> SSL.Error | None:
    """Why there is no more; C{None} when that is only because no more has come."""
    reason = lib.SSL_get_error(connection._ssl, result)
    if reason == lib.SSL_ERROR_WANT_READ:
        return None
    if reason == lib.SSL_ERROR_ZERO_RETURN:
        return _CLOSED
    try:
        connection._raise_ssl_error(connection._ssl, result)
    except SSL.Error as e:
        return e
    raise AssertionError(result)
