"""
What is behind an edge agent, as an endpoint: through a relay of ours or of http-network-relay's::

    target = AccessTarget("box", "127.0.0.1", 22, "tcp")
    endpoint = AccessEndpoint(reactor, connectionEndpoint(reactor, link), link.request, target, readSecret)
    endpoint.connect(factory)           # DialFailed says why not

With a relay of ours all connections share a session, and each is a stream in it. With another one each has a WebSocket.
"""

__all__ = ["AccessEndpoint", "AccessTarget"]

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway import __version__
from gateway.domain.addresses import normaliseHost, parseAddress
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IEarlyData, IEarlyEndpoint
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.agent.dialect import DialectEndpoint
from gateway.service.agent.dialledsession import explainLoss
from gateway.service.agent.tunnelclient import ClientTunnel
from gateway.service.networkrelay.accessclientjson import JsonAccessLine
from gateway.wire.agentcontrol import Register, SecretCredential
from gateway.wire.networkrelay import MAX_MESSAGE, ClientStart, agentLabel
from gateway.wire.preamble import Target
from gateway.wire.proxyheader import ProxyHeader
from gateway.wire.upgraderequest import WebSocketRequest

_NAME = "access-client"
"""What all clients register as: their secret alone says who they are."""


@dataclass(frozen=True, slots=True)
class AccessTarget:
    """
    Where an access client connects to.

    @ivar agent: the name of an edge agent.
    @ivar host: a name or an address, as the agent sees it.
    @raise ValueError: the host is none; with a sentence that says so.
    """

    agent: str
    host: str
    port: int
    protocol: Literal["tcp", "udp"]

    def __post_init__(self) -> None:
        normaliseHost(self.host)

    def __str__(self) -> str:
        return f"{self.protocol} {self.host}:{self.port} behind {self.agent}"

    def name(self) -> Target:
        """As a gateway's clients name it: an IPv6 address as one label, C{fd00-0000-...-0001}."""
        host = normaliseHost(self.host)
        address = parseAddress(host)
        if isinstance(address, IPv6Address):
            host = address.exploded.replace(":", "-")
        return Target(f"{host}.via.{agentLabel(self.agent)}.agent", self.port)


@implementer(IStreamClientEndpoint)
class _Relay:
    """The way to the relay, whose failures are told from those of the way to the target."""

    def __init__(self, inner: IStreamClientEndpoint) -> None:
        self._inner = inner

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._inner.connect(factory).addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        error = DialFailed.fromFailure(failure)
        return Failure(DialFailed(error.kind, f"The relay cannot be reached: {error.details}"))


@implementer(IEarlyEndpoint)
class AccessEndpoint:
    """
    @param connection: makes the connections to the relay that WebSockets are opened on.
    @param request: what to ask for there.
    @param readSecret: returns what proves who we are; raises
        L{ConfigurationError<gateway.service.configuration.ConfigurationError>} when it cannot be read.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connection: IStreamClientEndpoint,
        request: WebSocketRequest,
        target: AccessTarget,
        readSecret: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._target = target
        self._readSecret = readSecret
        self._secret = ""
        self._dialect = DialectEndpoint(
            clock,
            connection,
            request,
            self._speakJson,
            settings=WebSocketSettings(maxMessage=MAX_MESSAGE),
        )
        self._tunnel = ClientTunnel(clock, _Relay(self._dialect), self._introduce)
        self._line: JsonAccessLine | None = None  # that nobody has taken yet
        self._lines = 0
        self._last: JsonAccessLine | None = None

    def _introduce(self) -> Register:
        self._secret = self._readSecret()
        return Register(
            version=1,
            agent=_NAME,
            software=f"txgateway/{__version__}",
            credential=SecretCredential(secret=self._secret),
        )

    def _speakJson(self) -> JsonAccessLine:
        """The relay has answered, and knows the older dialect alone."""
        self._lines += 1
        target = self._target
        start = ClientStart(target.agent, target.host, target.port, target.protocol, self._secret)
        self._line = self._last = JsonAccessLine(self._clock, start)
        return self._line

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fires when the target is connected. May be cancelled; fails with L{DialFailed}.
        """
        return Deferred.fromCoroutine(self._connect(factory, None))

    def connectEarly(self, factory: IProtocolFactory, early: IEarlyData) -> Deferred[IProtocol]:
        """The same, and with a relay of ours what is sent meanwhile leaves at once."""
        return Deferred.fromCoroutine(self._connect(factory, early))

    async def _connect(self, factory: IProtocolFactory, early: IEarlyData | None) -> IProtocol:
        target = self._target
        header = ProxyHeader(datagram=target.protocol == "udp")
        while True:
            before = self._lines
            try:
                return await self._tunnel.connect(target.name(), factory, early, header)
            except DialFailed:
                if self._lines == before:
                    raise
            line, self._line = self._line, None
            if line is None:
                continue  # another visitor has taken it
            if target.protocol != "tcp":
                line.close()
                details = "This relay speaks http-network-relay's messages, which carry tcp alone."
                raise DialFailed(DialFailure.DENIED, details)
            return await line.connect(factory)

    @property
    def problem(self) -> str:
        """What is known of why a connection that stood was lost; empty: nothing."""
        if self._last is not None and self._last.problem:
            return self._last.problem
        return "" if self._dialect.loss is None else explainLoss(self._dialect.loss, "relay")

    def close(self) -> Deferred[None]:
        """
        End all there is.

        @return: fires when the relay has taken all that was sent, or is gone.
        """
        self._tunnel.close()
        return self._dialect.vacancy.awaited()
