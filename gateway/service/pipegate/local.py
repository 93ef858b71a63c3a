"""
The application that a client of PipeGate's publishes: where it is, and connections to it::

    local = parseLocalURL("http://localhost:5001")
    localEndpoint(reactor, local, ClientTrust()).connect(factory)
"""

__all__ = ["LocalURL", "localEndpoint", "parseLocalURL"]

import re
from dataclasses import dataclass
from urllib.parse import quote

from twisted.internet.interfaces import IStreamClientEndpoint

from gateway.domain.addresses import normaliseHost, parsePort
from gateway.net.dial import HostEndpoint, IReactorDial
from gateway.net.tlsclient import ClientTrust, TLSClientEndpoint
from gateway.net.tlshandshake import HandshakeEndpoint

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#:@\[\]]+)(?::(?P<port>[0-9]+))?(?P<path>/[^?#]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class LocalURL:
    """
    @ivar path: that all paths begin with, percent-encoded, without a slash at its end; mostly empty.
    """

    isSecure: bool
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """For the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.isSecure else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.isSecure else 'http'}://{self.authority}{self.path}"


def parseLocalURL(text: str) -> LocalURL:
    """
    @param text: C{http://HOST}, C{https://HOST}, with a port and a path or without.
    @raise ValueError: it is none; with a sentence that says what one looks like.
    """
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError("an application is written http://HOST:PORT, without a query, a name or a password")
    isSecure = found["scheme"].lower() == "https"
    port = parsePort(found["port"]) if found["port"] else (443 if isSecure else 80)
    path = quote(found["path"] or "", safe="/%:@!$&'()*+,;=~").rstrip("/")
    return LocalURL(isSecure, normaliseHost(found["host"].strip("[]")), port, path)


def localEndpoint(reactor: IReactorDial, local: LocalURL, trust: ClientTrust) -> IStreamClientEndpoint:
    """
    @param trust: for C{https}.
    """
    endpoint: IStreamClientEndpoint = HostEndpoint(reactor, local.host, local.port)
    if not local.isSecure:
        return endpoint
    tls = TLSClientEndpoint(reactor, endpoint, local.host, trust, [b"http/1.1"], isFramed=True)
    return HandshakeEndpoint(reactor, tls)
