"""
Ports: who may come in, TLS or not, and what is on the other side of the door.

A door makes an L{IVisit} for each connection; this module does what all WebSocket doors have in common: it
looks at the first byte, wraps TLS where the port has a certificate, tells people who came with the wrong scheme so,
and sees to it that a visit is told when its connection is gone::

    factory = DoorFactory(door.arrive, websockets, clock=reactor, certificate=files)
    ListenerService(endpoint, factory, "tabby", "127.0.0.1:9000").setServiceParent(application)
"""

__all__ = [
    "DoorFactory",
    "IVisit",
    "ListenerService",
    "describedEndpoint",
    "explain",
    "isLocalAddress",
    "serverEndpoint",
]

import errno
import os
import socket
from collections.abc import Callable

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.addresses import IPAddress, parseAddress
from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.peek import TLS_HANDSHAKE, Peek, PeekFailed
from gateway.net.tls import CertificateFiles
from gateway.net.tlsserver import TLSServerFactory
from gateway.net.websocket import Denied, WebSocketServerFactory
from gateway.service.endpoints import unusable
from gateway.service.pages import errorPage
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import RequestHead, Response

UNIX = "unix"
"""Stands for the address of whoever comes by a UNIX socket."""

_BACKLOG = 1024
"""Connections that the kernel may hold for us; the system may have a lower limit."""


# What bind(2) says of an address of another machine, of one that needs a scope, and without IPv6.
_NOT_MINE = frozenset({errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT})


class IVisit(IWebSocketGate):
    """One connection to a door, from its first moment to its last."""

    def left() -> None:
        """The connection is gone, whatever became of it."""


@implementer(IWebSocketGate)
class _WrongScheme:
    """Answers HTTP on a port that expects TLS."""

    def __init__(self, visit: IVisit) -> None:
        self._visit = visit

    def _answer(self, head: RequestHead) -> Response:
        self._visit.failed(Failure(PeekFailed("plain HTTP on a TLS port: the client should use https:// or wss://")))
        host = head.get("host")
        url = f" Use wss://{host} for Tabby, or https://{host} with a browser." if host else ""
        return errorPage(400, f"This port expects TLS, and this request came without it.{url}")

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        raise Denied(self._answer(head))

    def plain(self, head: RequestHead) -> Response:
        return self._answer(head)

    def failed(self, reason: Failure) -> None:
        self._visit.failed(reason)


class DoorFactory(ServerFactory):
    """
    The protocol factory of one port.

    @param arrive: makes the visit of a connection from an address; C{None} drops the connection.
    @param certificate: for TLS; C{None} for a port without, or one whose endpoint does TLS itself.
    @param timeout: seconds until the first byte must come.
    """

    noisy = False

    def __init__(
        self,
        arrive: Callable[[str], IVisit | None],
        websockets: WebSocketServerFactory,
        *,
        clock: IReactorTime,
        certificate: CertificateFiles | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._arrive = arrive
        self._websockets = websockets
        self._clock = clock
        self._timeout = timeout
        self._tls = None if certificate is None else TLSServerFactory(certificate, websockets, clock=clock)

    def buildProtocol(self, address: IAddress | None) -> Peek | None:
        visit = self._arrive(getattr(address, "host", UNIX))
        if visit is None:
            return None
        return Peek(
            lambda data: self._decide(visit, data),
            lambda problem: visit.failed(Failure(problem)),
            clock=self._clock,
            limit=1,
            timeout=self._timeout,
            lost=visit.left,
        )

    def _decide(self, visit: IVisit, data: bytes) -> IProtocol | None:
        isTLS = data[0] == TLS_HANDSHAKE
        if self._tls is not None and isTLS:
            return self._tls.protocol(self._tls, self._websockets.protocolFor(visit))
        if self._tls is not None:
            return self._websockets.protocolFor(_WrongScheme(visit))
        if isTLS:
            raise RemoteProtocolError(
                "tls-on-plain-port",
                "TLS on a port without: the client should use http:// or ws://, not https:// or wss://",
            )
        return self._websockets.protocolFor(visit)


def explain(reason: Failure) -> str | None:
    """
    Why a connection ended before it asked for anything, as a line for the log; C{None} for what is not worth one.
    """
    error = reason.value
    if isinstance(error, RemoteProtocolError):
        return error.details
    if isinstance(error, PeekFailed):
        return str(error)
    if isinstance(error, TimeoutError):
        return str(error.args[-1])
    if isinstance(error, SSL.Error):
        entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return "TLS: " + (", ".join(str(entry[-1]) for entry in entries) or "the client broke off the handshake")
    return None


class ListenerService(Service):
    """
    One listening endpoint.

    @param label: for logs and errors.
    @param where: how errors name the endpoint.
    @ivar port: while it listens.
    """

    _log = Logger()
    port: IListeningPort | None = None

    def __init__(self, endpoint: IStreamServerEndpoint, factory: ServerFactory, label: str, where: str) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._label = label
        self._where = where
        self._listening: Deferred[IListeningPort] | None = None
        self._failedToListen = False

    def privilegedStartService(self) -> None:
        """
        Listen, while ports below 1024 may still be bound.

        @raise SystemExit: it cannot, and the log says why; an endpoint that finds out later only logs it.
        """
        self._failedToListen = False
        self._listening = listening = maybeDeferred(self._endpoint.listen, self._factory)
        listening.addCallbacks(self._listens, self._failed, (listening,), errbackArgs=(listening,))
        if self._failedToListen:
            raise SystemExit(1)  # not in _failed: a Deferred keeps every exception to itself

    def startService(self) -> None:
        super().startService()
        if self._listening is None:
            self.privilegedStartService()

    def _listens(self, port: IListeningPort, attempt: Deferred[IListeningPort]) -> Deferred[None] | None:
        if attempt is not self._listening:
            return maybeDeferred(port.stopListening).addCallback(lambda none: None)  # we were stopped meanwhile
        self.port = port
        self._log.info(
            "{label} listens on {where}", event="gateway.listening", label=self._label, where=_describe(port.getHost())
        )
        return None

    def _failed(self, failure: Failure, attempt: Deferred[IListeningPort]) -> None:
        if attempt is not self._listening:
            return
        error = failure.value
        problem = str(error.socketError) if isinstance(error, CannotListenError) else str(error)
        self._failedToListen = True
        self._log.critical(
            "{label} cannot listen on {where}: {problem}",
            event="gateway.not-listening",
            label=self._label,
            where=self._where,
            problem=problem,
        )

    def stopListening(self) -> Deferred[object]:
        """Take no more connections; those that stand are not touched."""
        self._listening = None
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)

    def stopService(self) -> Deferred[object]:
        super().stopService()
        return self.stopListening()

    @property
    def isLocal(self) -> bool:
        """Whether only this machine can reach it."""
        host = self.port.getHost() if self.port is not None else None
        address = parseAddress(getattr(host, "host", ""))
        return address.is_loopback if address is not None else isinstance(host, UNIXAddress)

    def reaches(self, address: IPAddress, number: int) -> bool:
        """Whether a connection to this address and port would come in here."""
        host = self.port.getHost() if self.port is not None else None
        if getattr(host, "port", None) != number:
            return False
        mine = parseAddress(getattr(host, "host", ""))
        return mine == address or (mine is not None and mine.is_unspecified and isLocalAddress(address))


def _describe(address: IAddress) -> str:
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        name = getattr(address, "name", None)
        return str(address) if name is None else os.fsdecode(name)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def isLocalAddress(address: IPAddress) -> bool:
    """
    Whether an address is one of this machine's: only then can a socket be bound to it. So it counts too when that
    cannot be tried, as without a descriptor left.
    """
    if address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as e:
        return e.errno not in _NOT_MINE
    return True


def serverEndpoint(reactor: object, host: str, port: int) -> IStreamServerEndpoint:
    """
    @param host: an address of this machine, v4 or v6, or a name; empty for all.
    """
    address = parseAddress(host)
    if address is not None and address.version == 6:
        return TCP6ServerEndpoint(reactor, port, backlog=_BACKLOG, interface=host)
    return TCP4ServerEndpoint(reactor, port, backlog=_BACKLOG, interface=host)


def describedEndpoint(reactor: object, description: str) -> IStreamServerEndpoint:
    """
    @param description: in Twisted's endpoint syntax, e.g. C{systemd:domain=INET:index=0}.
    @raise ValueError: in one line, when it is not one.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
        return endpoint
    except Exception as e:
        raise unusable(description, e) from e
