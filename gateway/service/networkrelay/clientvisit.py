"""
An access client that speaks http-network-relay's messages, from its first to its last.

Inside of the relay it is a client as any other: what it wants becomes the preamble of a stream, and the stream's answer
what it is told. Only what is said on its WebSocket is different::

    receiver = JsonClientVisit(clients, "192.0.2.7", ticket)

There is no message that says that the target has ended well, so that is a Close without an error. Everything else that
ends a connection is told in an C{error} first.
"""

__all__ = ["JsonClientVisit"]

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import uuid4

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProducer, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.addresses import normaliseHost
from gateway.domain.agents import AgentIdentity
from gateway.domain.limits import Ticket
from gateway.net.direct import Buffer
from gateway.net.interfaces import IStreamTransport, IWebSocketChannel, IWebSocketReceiver
from gateway.net.timer import Timer
from gateway.service.networkrelay.access import JsonClient
from gateway.service.networkrelay.session import CARRIER, LOST
from gateway.service.server.agentdoor import Unwelcome
from gateway.service.server.destinations import viaName
from gateway.wire.agentcontrol import SecretCredential, SessionError
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.networkrelay import (
    GOING_AWAY,
    INTERNAL,
    MAX_DATA,
    MAX_MESSAGE,
    NORMAL,
    NOT_INITIATED,
    NOT_REGISTERED,
    POLICY,
    ClientData,
    ClientStart,
    Error,
    StartOk,
    agentLabel,
    decodeClientStart,
    decodeFromClient,
    encode,
)
from gateway.wire.preamble import Preamble, Target, decodeAnswer, encodePreamble
from gateway.wire.proxyheader import ProxyHeader

if TYPE_CHECKING:
    from gateway.service.networkrelay.clients import AccessClients

BROKEN_OFF = "The connection was broken off: the target has reset it, or the agent is gone."


@implementer(IWebSocketReceiver, IStreamTransport)
class JsonClientVisit:
    """
    One access client, which is also the transport of its stream.

    @param host: its address.
    @param ticket: released when it is gone.
    @ivar identity: who it is, once that is known.
    """

    _log = Logger()

    def __init__(self, clients: "AccessClients", host: str, ticket: Ticket) -> None:
        self.identity: AgentIdentity | None = None
        self._clients = clients
        self._door = clients.door
        self._host = host
        self._ticket = ticket
        self._connection = str(uuid4())
        self._stream: IProtocol | None = None
        self._answer = b""
        self._isConnected = False
        self._isOver = False
        self._deadline = Timer(clients.door.clock)
        self._channel: IWebSocketChannel

    # -- IWebSocketReceiver

    def opened(self, channel: IWebSocketChannel) -> None:
        self._channel = channel
        self._clients.visits.add(self)
        self._deadline.start(self._door.settings.registerTimeout, self._late)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._isOver:
            return  # what was on its way when the WebSocket was closed
        try:
            if isBinary:
                raise RemoteProtocolError(SessionError.INVALID_MESSAGE, "A message is binary, and all are text here.")
            if self._stream is None:
                self._start(decodeClientStart(payload))
            else:
                self._stream.dataReceived(decodeFromClient(payload).data)
        except RemoteProtocolError as e:
            self.end(e.code, e.details)

    def lost(self, reason: Failure) -> None:
        self._deadline.stop()
        if not (self._isOver or self.identity is not None or reason.check(ConnectionDone)):
            self._logEnded(LOST, reason.getErrorMessage())
        self._isOver = True
        self._ticket.release()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.connectionLost(reason)
        self._clients.visitOver(self)

    # -- Beginning

    def _late(self) -> None:
        self.end(SessionError.REGISTER_TIMEOUT, "The access client did not say in time where to connect it.")

    def _start(self, start: ClientStart) -> None:
        credential = SecretCredential(secret=start.secret)
        try:
            self.identity = who = self._door.identify(self._host, "", "", credential)
        except Unwelcome as e:
            self.end(e.code, e.details, **e.facts)
            return
        self._deadline.stop()
        self._ticket.authenticated()
        self._channel.limitMessages(MAX_MESSAGE)
        try:
            if start.protocol != "tcp":
                raise ValueError(f"Unsupported protocol: {start.protocol!a:.20} needs the access-client of txgateway.")
            preamble = Preamble(
                Target(viaName(normaliseHost(start.host), agentLabel(start.agent)), start.port), _NOBODY
            )
        except ValueError as e:
            self._log.info(
                "no stream of {agent} to {target}: {problem}",
                event="client.failed",
                agent=who.name,
                replica="",
                target="nothing",
                problem=str(e),
            )
            self._part(NORMAL, NOT_INITIATED.format(message=e))
            return
        stream = self._clients.streams.factoryFor(JsonClient(who)).buildProtocol(None)  # type: ignore[arg-type]
        assert stream is not None  # they are made for everybody
        self._stream = stream
        stream.makeConnection(self)
        stream.dataReceived(encodePreamble(preamble))

    # -- Ending

    def _part(self, code: int, message: str = "") -> None:
        """Say why, unless the target has ended well, and close the WebSocket."""
        self._isOver = True
        self._deadline.stop()
        if message:
            self._channel.sendText(encode(Error(message)))
        self._channel.close(code)

    def end(self, code: str, details: str, **facts: object) -> None:
        """The client may not stay."""
        if self._isOver:
            return
        self._logEnded(code, details, **facts)
        stream, self._stream = self._stream, None
        self._part(GOING_AWAY if code == SessionError.SHUTTING_DOWN else POLICY, details)
        if stream is not None:
            stream.connectionLost(Failure(ConnectionLost(details)))

    def _logEnded(self, code: str, details: str, **facts: object) -> None:
        self._log.info(
            "ended the connection of an access client: {details}, from {peer}",
            event="client.ended",
            code=str(code),
            details=details,
            peer=self._host,
            carrier=CARRIER,
            client="?" if self.identity is None else self.identity.name,
            **facts,
        )

    # -- ITransport, of the stream

    def write(self, data: Buffer) -> None:
        if self._isOver:
            return
        if not self._isConnected:
            line, end, rest = (self._answer + data).partition(b"\n")
            self._answer = line
            if end:
                self._answered(line)
                self.write(rest)
            return
        view = memoryview(data)
        for at in range(0, len(view), MAX_DATA):
            self._channel.sendText(encode(ClientData(bytes(view[at : at + MAX_DATA]), self._connection)))

    def _answered(self, line: bytes) -> None:
        answer = decodeAnswer(line)
        if answer.ok:
            self._isConnected = True
            self._channel.sendText(encode(StartOk(self._connection)))
        else:
            isKnown = answer.details != NOT_REGISTERED
            self._part(NORMAL, NOT_INITIATED.format(message=answer.details) if isKnown else NOT_REGISTERED)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self._isOver:
            self._part(NORMAL)

    def loseWriteConnection(self) -> None:
        """There is no message for that."""
        self.loseConnection()

    def abortConnection(self) -> None:
        if self._isOver:
            self._channel.abortConnection()
        else:
            self._part(INTERNAL, BROKEN_OFF)

    def getPeer(self) -> IAddress:
        return self._channel.getPeer()

    def getHost(self) -> IAddress:
        return self._channel.getHost()

    # -- IPushProducer, IConsumer: those of the WebSocket

    def pauseProducing(self) -> None:
        self._channel.pauseProducing()

    def resumeProducing(self) -> None:
        self._channel.resumeProducing()

    def stopProducing(self) -> None:
        self.abortConnection()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._channel.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._channel.unregisterProducer()


_NOBODY = ProxyHeader()
"""All that is told of an access client."""
