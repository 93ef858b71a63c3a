"""
Which certificate is shown to visitors of which name.

A name's own certificate comes before a wildcard's. What is spoken after the handshake differs from door to door, and
with it what TLS may agree on, and a session that was begun for one route may not be resumed for another, whose policy
may be another one (as it could in nginx, CVE-2025-23419). So each use of a certificate for a route is a context of its
own, with keys of its own for the tickets, made when it is first wanted::

    certificates = Certificates(entries, clock=reactor)
    tls = certificates.find("app.example.com", HTTP, "app.example.com")     # None: there is none
    protocol = tls.protocol(tls, Handshake(...))
"""

__all__ = ["CARRIER", "HTTP", "NOBODYS", "OWN", "RAW", "Certificates"]

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gateway.net.tls import CertificateError, CertificateFiles
from gateway.net.tlsserver import TLSServerFactory
from gateway.service.server.settings import CertificateFilesPaths
from gateway.wire.agentcontrol import ALPN

RAW: Sequence[bytes] = ()
"""Bytes, of whatever protocol: nothing is agreed on."""

HTTP: Sequence[bytes] = (b"h2", b"http/1.1")
CARRIER: Sequence[bytes] = (ALPN,)
OWN: Sequence[bytes] = (*CARRIER, *HTTP)

NOBODYS = "?"
"""
The scope of all names that no route has, which no route's place reads like. One for each of them would let whoever
makes up names push out the contexts of routes.
"""

MAX_CONTEXTS = 512
"""
Contexts that are kept, of some 50 KB each. A visitor for whom one was dropped begins a new session of TLS.
"""


class _Use(NamedTuple):
    """What a context is for."""

    entry: CertificateFilesPaths
    protocols: Sequence[bytes]
    clients: bool
    scope: str


class Certificates:
    """
    The certificates of one gateway.

    @param clientAuthority: PEM file of the authorities whose client certificates are looked at, where that is
        asked for.
    @raise CertificateError: files cannot be used.
    """

    _log = Logger()

    def __init__(
        self, entries: Iterable[CertificateFilesPaths], *, clock: IReactorTime, clientAuthority: str | None = None
    ) -> None:
        self._clock = clock
        self._clientAuthority = clientAuthority
        self.replace(entries)

    def replace(self, entries: Iterable[CertificateFilesPaths]) -> None:
        """
        Use others from now on.

        @raise CertificateError: files cannot be used; then nothing is replaced.
        """
        names: dict[str, CertificateFilesPaths] = {}
        for entry in entries:
            self._factory(_Use(entry, RAW, False, ""))
            for name in entry.hostnames:
                names.setdefault(name, entry)
        self._names = names
        self._contexts: OrderedDict[_Use, TLSServerFactory] = OrderedDict()

    def _factory(self, use: _Use) -> TLSServerFactory:
        entry = use.entry
        authority = self._clientAuthority if use.clients else None
        files = CertificateFiles(
            entry.certificate, entry.key, authority, alpn=use.protocols, demands=False, clock=self._clock
        )
        return TLSServerFactory(files, clock=self._clock)

    def find(
        self, name: str, protocols: Sequence[bytes], scope: str = "", *, clients: bool = False
    ) -> TLSServerFactory | None:
        """
        @param name: in lower case; empty for whoever names none, who gets the first certificate.
        @param protocols: that are spoken, best first.
        @param scope: what sessions of TLS are for: they are resumed nowhere else.
        @param clients: whether client certificates are looked at.
        @return: makes protocols that speak TLS; C{None} without a certificate for the name.
        """
        entry = self._names.get(name) or self._names.get(f"*.{name.partition('.')[2]}")
        if entry is None and not name:
            entry = next(iter(self._names.values()), None)
        if entry is None:
            return None
        use = _Use(entry, protocols, clients, scope)
        factory = self._contexts.get(use)
        if factory is None:
            try:
                factory = self._contexts[use] = self._factory(use)
            except CertificateError as e:  # it could be used at the start
                self._log.error(
                    "a certificate cannot be used: {problem}", event="gateway.certificate-lost", problem=str(e)
                )
                return None
            if len(self._contexts) > MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(use)
        return factory
