"""
Connections through an HTTP proxy, which is asked for one with C{CONNECT} (RFC 9110, section 9.3.6).

Some networks let nothing out but by way of such a proxy. To those who dial it is an endpoint like any other, and TLS
goes on top of it, so that the proxy sees a host, a port and then nothing that it could read::

    proxy = ConnectProxyEndpoint(reactor, HostEndpoint(reactor, "proxy.corp", 3128), "gw.example", 443)
    TLSClientEndpoint(reactor, proxy, "gw.example", trust).connect(factory)
"""

__all__ = ["ConnectProxyEndpoint", "ProxyCredentials", "ProxyRefused"]

from base64 import b64encode
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure, Prepared
from gateway.net.interfaces import IStreamTransport
from gateway.net.timer import Timer
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http1 import ResponseHead, parseResponseHead

MAX_HEAD = 16 * 1024
"""Bytes of the proxy's answer, without what comes through the tunnel."""

TIMEOUT = 20.0
"""Seconds for the proxy to answer, which it does when it has connected itself."""

_END = b"\r\n\r\n"
_DENIALS = (401, 403, 407)


class ProxyRefused(DialFailed):
    """
    The proxy answered, and did not connect us. The kind is C{DENIED} when it is about credentials or rules.

    @ivar status: of HTTP.
    """

    def __init__(self, head: ResponseHead) -> None:
        kind = DialFailure.DENIED if head.status in _DENIALS else DialFailure.REFUSED
        reason = "".join(each for each in head.reason if each.isprintable())[:100]
        details = f"The proxy refused to connect: {f'{head.status} {reason}'.strip()}."
        if head.status == 407:
            details += " It wants a user name and a password."
        super().__init__(kind, details)
        self.status = head.status


@dataclass(frozen=True, slots=True)
class ProxyCredentials:
    """
    Who we are to the proxy (RFC 7617).

    @raise ValueError: the user name has a colon in it.
    """

    user: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if ":" in self.user:
            raise ValueError("a user name has no colon in it")

    def header(self) -> bytes:
        """The value of Proxy-Authorization."""
        return b"Basic " + b64encode(f"{self.user}:{self.password}".encode())


class _Tunnel(Protocol):
    """
    Is on the connection to the proxy, and stays there: what is beneath may have kept our C{dataReceived}.
    """

    transport: IStreamTransport

    def __init__(self, clock: IReactorTime, request: bytes, timeout: float, factory: IProtocolFactory) -> None:
        self._request = request
        self._timeout = timeout
        self._factory = factory
        self._received = b""
        self._chosen: IProtocol | None = None
        self._over = False
        self._deadline = Timer(clock)
        self.done: Deferred[IProtocol] = Deferred(lambda _: self._end())

    def connectionMade(self) -> None:
        self._deadline.start(self._timeout, self._late)
        self.transport.write(self._request)

    def _late(self) -> None:
        self._fail(DialFailed(DialFailure.TIMEOUT, "The proxy did not answer in time."))

    def _end(self) -> None:
        self._over = True
        self._deadline.stop()
        if self.transport is not None:
            self.transport.abortConnection()

    def _fail(self, error: Exception | Failure) -> None:
        self._end()
        self.done.errback(error)

    def dataReceived(self, data: bytes) -> None:
        if self._chosen is not None:
            self._chosen.dataReceived(data)
            return
        if self._over:
            return
        self._received += data
        try:
            head = parseResponseHead(self._received, MAX_HEAD)
        except RemoteProtocolError as e:
            self._fail(DialFailed(DialFailure.OTHER, f"The proxy does not answer as one. {e.details}"))
            return
        if head is None:
            return
        if 200 <= head.status < 300:
            self._begin(self._received.partition(_END)[2])
        else:
            self._fail(ProxyRefused(head))

    def _begin(self, rest: bytes) -> None:
        self._deadline.stop()
        address: IAddress = self.transport.getPeer()
        try:
            chosen = self._factory.buildProtocol(address)
            if chosen is None:
                raise NoProtocol()
        except Exception:  # whatever a factory raises, the one who waits is told
            self._fail(Failure())
            return
        self._chosen = chosen
        chosen.makeConnection(self.transport)
        self.done.callback(chosen)
        if rest:
            chosen.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
        if self._chosen is not None:
            self._chosen.connectionLost(reason)
        elif not self._over:
            self._over = True
            self.done.errback(DialFailed(DialFailure.UNREACHABLE, "The proxy ended the connection without an answer."))


@implementer(IStreamClientEndpoint)
class ConnectProxyEndpoint:
    """
    Connects to a host and port by way of a proxy. There is no half-close: proxies seldom know any.

    @param inner: the proxy.
    @param host: a name, which the proxy looks up, or an address.
    @param timeout: seconds for its answer.
    """

    def __init__(
        self,
        clock: IReactorTime,
        inner: IStreamClientEndpoint,
        host: str,
        port: int,
        *,
        credentials: ProxyCredentials | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._clock = clock
        self._inner = inner
        self._timeout = timeout
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {where} HTTP/1.1".encode("ascii"), f"Host: {where}".encode("ascii")]
        if credentials is not None:
            lines.append(b"Proxy-Authorization: " + credentials.header())
        self._request = b"\r\n".join(lines) + _END

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails with L{DialFailed}, which is L{ProxyRefused} when the proxy said no, or as the
            inner endpoint does.
        """
        tunnel = _Tunnel(self._clock, self._request, self._timeout, factory)
        connecting = self._inner.connect(Prepared(tunnel))
        return connecting.addCallbacks(lambda _: tunnel.done, _atProxy)


def _atProxy(failure: Failure) -> Failure:
    """It is the proxy that was not reached, not what is behind it."""
    error = DialFailed.fromFailure(failure)
    if error.kind is not DialFailure.CANCELLED:
        error = DialFailed(error.kind, f"The proxy cannot be reached: {error.details}")
    return Failure(error)
