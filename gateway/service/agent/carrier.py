"""
How an agent reaches its gateway: by TLS, or by a WebSocket on it, through a proxy where there has to be one::

    link = gatewayLink("wss://gw.example/agent", environ=os.environ)     # ValueError names the key
    carrierEndpoint(reactor, link).connect(factory)                      # one attempt; fails with DialFailed

Plain TCP is only for this machine. Files are read for each attempt, so that renewed ones are used without a restart.
"""

__all__ = [
    "GatewayLink",
    "Proxy",
    "carrierEndpoint",
    "checkFiles",
    "connectionEndpoint",
    "gatewayLink",
    "isLoopback",
    "parseProxy",
]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # undocumented, and the only one

from twisted.internet.interfaces import IStreamClientEndpoint

from gateway.domain.addresses import parseAddress
from gateway.domain.targets import Target, parseTarget
from gateway.net.connectproxy import ConnectProxyEndpoint, ProxyCredentials
from gateway.net.dial import HostEndpoint, IReactorDial
from gateway.net.tls import CertificateError
from gateway.net.tlsclient import ClientTrust, TLSClientEndpoint, clientConnectionCreator
from gateway.net.tlshandshake import HandshakeEndpoint
from gateway.net.websocketendpoints import WebSocketClientEndpoint
from gateway.wire.agentcontrol import ALPN, SUBPROTOCOL
from gateway.wire.upgraderequest import WebSocketRequest, parseWebSocketURL

HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class Proxy:
    """
    An HTTP proxy to go through.

    @ivar isSecure: it is spoken to by TLS.
    """

    host: str
    port: int
    isSecure: bool = False
    credentials: ProxyCredentials | None = None


@dataclass(frozen=True, slots=True)
class GatewayLink:
    """
    Where a gateway is, and how to get there.

    @ivar to: as it was written, but for a query, which may be secret.
    @ivar request: for a WebSocket; C{None} without one.
    @ivar trust: C{None} without TLS.
    """

    to: str
    host: str
    port: int
    request: WebSocketRequest | None = None
    trust: ClientTrust | None = None
    proxy: Proxy | None = field(default=None, repr=False)

    @property
    def carrier(self) -> Literal["websocket", "tls", "plain"]:
        """What the session runs on, for people."""
        if self.request is not None:
            return "websocket"
        return "plain" if self.trust is None else "tls"


def gatewayLink(
    to: str,
    *,
    authorities: str | None = None,
    pin: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
    proxy: str | None = None,
    environ: Mapping[str, str],
) -> GatewayLink:
    """
    @param to: C{wss://HOST/PATH}, C{tls://HOST:PORT}, or of this machine C{ws://} and C{tcp://}.
    @param proxy: as for L{parseProxy}; empty: none; C{None}: that of the environment.
    @param environ: where C{HTTPS_PROXY} and C{NO_PROXY} are.
    @raise ValueError: something cannot be; the text names the key.
    """
    scheme, host, port, request = _parseTo(to)
    isSecure = scheme in ("wss", "tls")
    if not isSecure and not isLoopback(host):
        raise ValueError(f"to: {scheme}:// is not encrypted, so it is for this machine only: write wss:// or tls://")
    if not isSecure and (authorities, pin, certificate, key) != (None, None, None, None):
        raise ValueError("ca, pin, certificate and key are for wss:// and tls://")
    try:
        trust = ClientTrust(authorities, pin, certificate, key) if isSecure else None
    except ValueError as e:
        raise ValueError(f"{'key' if pin is None else 'pin'}: {e}") from None
    if proxy is None:
        proxy = _environmentProxy(host, port, environ) if isSecure else ""
    try:
        way = parseProxy(proxy) if proxy else None
    except ValueError as e:
        raise ValueError(f"proxy: {e}") from None
    return GatewayLink(to.partition("?")[0], host, port, request, trust, way)


def checkFiles(link: GatewayLink) -> None:
    """
    Find out at the start, and not with the first session, that the files cannot be used by which the two know each
    other.

    @raise ValueError: they cannot; the text names the key, and the file.
    """
    trust = link.trust
    if trust is None:
        return
    try:
        clientConnectionCreator(link.host, trust)
    except CertificateError as e:
        paths = {"ca": trust.authorities, "key": trust.key}
        key = next((key for key, path in paths.items() if path and str(e).startswith(f"{path}: ")), "certificate")
        raise ValueError(f"{key}: {e}") from None


def _parseTo(to: str) -> tuple[str, str, int, WebSocketRequest | None]:
    scheme, separator, rest = to.partition("://")
    scheme = scheme.lower()
    try:
        if separator and scheme in ("wss", "ws"):
            _, host, port, request = parseWebSocketURL(to)
            return scheme, host, port, replace(request, subprotocols=(SUBPROTOCOL,))
        if separator and scheme in ("tls", "tcp"):
            target = parseTarget(rest.removesuffix("/"), HTTPS_PORT if scheme == "tls" else None)
            return scheme, target.host, target.port, None
    except ValueError as e:
        raise ValueError(f"to: {e}") from None
    raise ValueError(
        f"to: a gateway is written wss://HOST/PATH or tls://HOST:PORT, unlike {to.partition('?')[0]!a:.40}"
    )


def isLoopback(host: str) -> bool:
    """Whether a host is this machine, by the way it is written."""
    address = parseAddress(host)
    return host == "localhost" if address is None else address.is_loopback


def _environmentProxy(host: str, port: int, environ: Mapping[str, str]) -> str:
    """What C{HTTPS_PROXY} says, unless C{NO_PROXY} holds the host. Programs write both in either case."""
    proxy = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
    exceptions = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if isLoopback(host) or proxy_bypass_environment(f"{host}:{port}", {"no": exceptions}):
        return ""
    return proxy


def parseProxy(text: str) -> Proxy:
    """
    @param text: C{http://HOST:PORT}, with C{USER:PASSWORD@} before the host or not; the scheme may be left out.
    @raise ValueError: it is none. The text has no part of a password.
    """
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.query:
        raise ValueError("a proxy is written http://HOST:PORT")
    target = Target(parseTarget(f"[{host}]:1" if ":" in host else f"{host}:1").host, port or _PROXY_PORTS[parts.scheme])
    credentials = None
    if parts.username is not None:
        credentials = ProxyCredentials(unquote(parts.username), unquote(parts.password or ""))
    return Proxy(target.host, target.port, parts.scheme == "https", credentials)


_PROXY_PORTS = {"http": 80, "https": 443}


def connectionEndpoint(reactor: IReactorDial, link: GatewayLink) -> IStreamClientEndpoint:
    """
    @return: makes the connection that a carrier is begun on: by TCP, through the proxy, with TLS; without the
        WebSocket. Otherwise as L{carrierEndpoint}.
    """
    endpoint: IStreamClientEndpoint
    if link.proxy is None:
        endpoint = HostEndpoint(reactor, link.host, link.port)
    else:
        endpoint = HostEndpoint(reactor, link.proxy.host, link.proxy.port)
        if link.proxy.isSecure:
            endpoint = TLSClientEndpoint(reactor, endpoint, link.proxy.host, ClientTrust())
        endpoint = ConnectProxyEndpoint(reactor, endpoint, link.host, link.port, credentials=link.proxy.credentials)
    if link.trust is not None:
        alpn = [ALPN] if link.request is None else []
        endpoint = TLSClientEndpoint(reactor, endpoint, link.host, link.trust, alpn)
    return endpoint


def carrierEndpoint(reactor: IReactorDial, link: GatewayLink) -> IStreamClientEndpoint:
    """
    @return: makes a carrier to the gateway. C{connect} may be cancelled, and fails with L{DialFailed} or with what TCP
        fails with. It has no time limit of its own.
    """
    endpoint = connectionEndpoint(reactor, link)
    if link.request is not None:
        return WebSocketClientEndpoint(reactor, endpoint, link.request)
    return endpoint if link.trust is None else HandshakeEndpoint(reactor, endpoint, demanded=ALPN)
