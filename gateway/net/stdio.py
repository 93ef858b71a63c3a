"""
Standard input and output as a byte stream that a relay can use.

For a program that is started to carry one connection, as by ssh's C{ProxyCommand}::

    streams = takeStandardStreams()     # first of all, before anything writes to standard output
    StandardIOEndpoint(reactor, streams).listen(factory)

Twisted has a C{StandardIO} too. It is no L{IStreamTransport}: it cannot be aborted, its C{loseConnection} after a
half-close never completes, and a failed write looks like an end. This one has the manners of a TCP connection:

  - An end of standard input is the end of reading, and C{loseWriteConnection} closes standard output alone.
  - When nobody is left to read standard output, the process at the other end has gone: that is a reset. It is noticed
    at once where the kernel can tell, which is on a pipe, and elsewhere when writing fails.
  - The other direction has no reset: to whom we abort, it looks like an end. The exit status has to tell.

Like L{gateway.net.direct} it reads to where the bytes stay, and writes at once what standard output takes: an ssh
session's keystrokes need no turn of the reactor more than they would on a socket.

Descriptors are made non-blocking, which all processes notice that share them, so they are put back in the end.
"""

__all__ = [
    "IReactorStdio",
    "StandardIOAddress",
    "StandardIOEndpoint",
    "StandardIOTransport",
    "Streams",
    "takeStandardStreams",
]

import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from errno import EAGAIN, EBADF, EINTR
from fcntl import F_GETFL, fcntl
from io import FileIO

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.error import ConnectError, ConnectionAborted, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorFDSet,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct import Buffer, IDirectTransport

_READ_SIZE = 64 * 1024
"""Bytes read at once: what a pipe holds."""

_EMPTY = (EAGAIN, EINTR)

_buffer = memoryview(bytearray(_READ_SIZE))
"""What the latest read brought. The reactor reads in one thread, and what is kept is copied."""


class IReactorStdio(IReactorFDSet, IReactorTime):
    """What this needs of a reactor."""


@implementer(IAddress)
@dataclass(frozen=True, slots=True)
class StandardIOAddress:
    """
    The address of either end.

    @ivar name: what to call it.
    """

    name: str = "stdio:"


@dataclass(frozen=True, slots=True)
class Streams:
    """
    The two directions of a byte stream.

    @ivar input: to read from.
    @ivar output: to write to; a descriptor of its own, even where both are one connection.
    """

    input: FileIO
    output: FileIO


def takeStandardStreams() -> Streams:
    """
    Take standard input and output away from everybody else in this process. Who reads standard input from now on finds
    it empty; what is written to standard output, a log or a stray C{print}, comes out on standard error.

    @raise OSError: one of them is closed, or standard error is.
    """
    if None in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        raise OSError(EBADF, os.strerror(EBADF))  # by now the number may be something else's
    streams = Streams(FileIO(os.dup(0), "rb"), FileIO(os.dup(1), "wb"))
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return streams


def _isPipe(file: FileIO) -> bool:
    """Whether this is the end of a pipe for writing, and for nothing else."""
    forWriting = fcntl(file.fileno(), F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    return forWriting and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)


class _Input(FileDescriptor):
    """The reading direction, which the reactor knows by a descriptor of its own."""

    gotData: Callable[[Buffer], None] | None = None

    def __init__(self, reactor: IReactorStdio, file: FileIO, transport: "StandardIOTransport") -> None:
        super().__init__(reactor)
        self._file = file
        self._transport = transport

    def fileno(self) -> int:
        return -1 if self._file.closed else self._file.fileno()

    def logPrefix(self) -> str:
        return self._transport.logPrefix()

    def doRead(self) -> Exception | None:
        try:
            count = os.readv(self.fileno(), (_buffer,))
        except OSError as e:
            return None if e.errno in _EMPTY else CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        if self.gotData is not None:
            self.gotData(_buffer[:count])
        else:
            self._transport.protocol.dataReceived(bytes(_buffer[:count]))
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        self._transport.readConnectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        self._transport.connectionLost(reason)


@implementer(IDirectTransport)
class StandardIOTransport(FileDescriptor):
    """
    A transport on two descriptors, which it owns. The protocol is connected here.

    @ivar protocol: the application.
    """

    connected = 1

    def __init__(self, reactor: IReactorStdio, streams: Streams, protocol: IProtocol) -> None:
        super().__init__(reactor)
        self.protocol = protocol
        self._clock: IReactorTime = reactor
        self._input = _Input(reactor, streams.input, self)
        self._streams = streams
        # Two descriptors may be one open file: ask about both before either is changed.
        self._wereBlocking = [(each, os.get_blocking(each.fileno())) for each in (streams.input, streams.output)]
        for each, _ in self._wereBlocking:
            os.set_blocking(each.fileno(), False)
        self._isPipe = _isPipe(streams.output)
        if self._isPipe:
            reactor.addReader(self)  # which is how it tells that the reader of a pipe has gone
        self._input.startReading()
        protocol.makeConnection(self)

    def fileno(self) -> int:
        return -1 if self._streams.output.closed else self._streams.output.fileno()

    def logPrefix(self) -> str:
        return self._getLogPrefix(self.protocol)

    def getPeer(self) -> StandardIOAddress:
        """There is only one."""
        return StandardIOAddress()

    def getHost(self) -> StandardIOAddress:
        """There is only one."""
        return StandardIOAddress()

    # -- Reading

    def startReading(self) -> None:
        """Read, unless there is nothing more to come."""
        if self._input.fileno() >= 0:
            self._input.startReading()

    def stopReading(self) -> None:
        """Leave what comes where it is."""
        self._input.stopReading()

    def readDirectly(self, gotData: Callable[[Buffer], None]) -> None:
        """Hand over what is read as it stands in the buffer."""
        self._input.gotData = gotData

    def readConnectionLost(self, reason: Failure) -> None:
        """Standard input has ended; with nobody left at standard output that is no end, but a process that died."""
        if self._readerIsGone():
            self.connectionLost(Failure(CONNECTION_LOST))
            return
        self._close(self._streams.input)
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self.connectionLost(reason)

    # -- Writing

    def write(self, data: Buffer) -> None:
        """Write at once what standard output takes, and keep the rest."""
        if not self.connected or self._writeDisconnected:
            return
        if not (self._tempDataBuffer or self.dataBuffer):
            try:
                sent = os.write(self.fileno(), data)
            except OSError:  # it takes nothing, or nobody is there: the reactor's next turn tells which
                sent = 0
            data = data[sent:]
        super().write(bytes(data))

    def startWriting(self) -> None:
        """Write what waits to be, while there is where to."""
        if self.connected and self.fileno() >= 0:
            super().startWriting()

    def doRead(self) -> Exception | None:
        """A pipe is for writing: some reactors say that it can be read when its reader has gone."""
        return CONNECTION_LOST if self._readerIsGone() else None

    def _readerIsGone(self) -> bool:
        if not self._isPipe or self.fileno() < 0:
            return False
        question = select.poll()
        question.register(self.fileno(), 0)
        return any(answer & select.POLLERR for _, answer in question.poll(0))

    def writeSomeData(self, data: bytes) -> int | Exception:
        try:
            return os.write(self.fileno(), data)
        except OSError as e:
            return 0 if e.errno in _EMPTY else CONNECTION_LOST

    def _closeWriteConnection(self) -> None:
        self.stopWriting()
        if self._isPipe:
            self.reactor.removeReader(self)
        output = self._streams.output
        if stat.S_ISSOCK(os.fstat(output.fileno()).st_mode):
            # Standard input may be the same socket, which closing a descriptor would leave open.
            with socket.socket(fileno=os.dup(output.fileno())) as connection:
                connection.shutdown(socket.SHUT_WR)
        self._close(output)
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()

    # -- Ending

    def abortConnection(self) -> None:
        """Drop what is not written, and close both directions. The protocol is told in the reactor's next turn."""
        if self.connected:
            self.connected = 0
            self.stopReading()
            self.stopWriting()
            self._clock.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """Both directions are over."""
        if self.disconnected:
            return
        if self._isPipe:
            self.reactor.removeReader(self)
        super().connectionLost(reason)
        try:
            # First, so that what it says on standard error comes before the end of standard output, which ssh takes for
            # the end of its ProxyCommand.
            self.protocol.connectionLost(reason)
        finally:
            for file in (self._streams.input, self._streams.output):
                self._close(file)

    def _close(self, file: FileIO) -> None:
        for each, wasBlocking in self._wereBlocking:
            if each is file and not file.closed:
                os.set_blocking(file.fileno(), wasBlocking)
                file.close()


@implementer(IListeningPort)
class _OneConnection:
    """What listens on standard input: nothing more will come."""

    def startListening(self) -> None:
        """There is the one connection already."""

    def stopListening(self) -> Deferred[None]:
        """The connection goes on, as those of any port do."""
        return succeed(None)

    def getHost(self) -> StandardIOAddress:
        return StandardIOAddress()


@implementer(IStreamClientEndpoint, IStreamServerEndpoint)
class StandardIOEndpoint:
    """
    One connection, either way: to dial it and to listen for it are the same.

    @param streams: C{None}: those of the process, which are taken when they are needed.
    """

    def __init__(self, reactor: IReactorStdio, streams: Streams | None = None) -> None:
        self._reactor = reactor
        self._streams = streams
        self._used = False

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fails with C{ConnectError} the second time, with C{NoProtocol}, or with C{OSError} where one of the
            streams is closed.
        """
        return execute(self._connect, factory)

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @return: fires when the one connection is made, and fails as that of L{connect} does.
        """
        factory.doStart()
        return self.connect(factory).addCallback(lambda protocol: _OneConnection())

    def _connect(self, factory: IProtocolFactory) -> IProtocol:
        if self._used:
            raise ConnectError(string="standard input and output are in use")
        self._used = True
        protocol = factory.buildProtocol(StandardIOAddress())
        if protocol is None:
            raise NoProtocol()
        StandardIOTransport(self._reactor, self._streams or takeStandardStreams(), protocol)
        return protocol
