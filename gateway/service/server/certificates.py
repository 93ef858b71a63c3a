"""
Which certificate is shown to visitors of which name.

A name's own certificate comes before a wildcard's. What is spoken after the handshake differs from door to door, and
with it what TLS may agree on, so each use of a certificate is a context of its own, made when it is first wanted::

    certificates = Certificates(entries, clock=reactor)
    tls = certificates.find("app.example.com", HTTP)     # None: there is none
    protocol = tls.protocol(tls, Handshake(...))
"""

__all__ = ["CARRIER", "HTTP", "OWN", "RAW", "Certificates"]

from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from gateway.net.tls import CertificateError, CertificateFiles
from gateway.service.server.settings import CertificateFilesPaths

RAW: Sequence[bytes] = ()
"""Bytes, of whatever protocol: nothing is agreed on."""

HTTP: Sequence[bytes] = (b"http/1.1",)
CARRIER: Sequence[bytes] = (b"gateway/1",)
OWN: Sequence[bytes] = (*CARRIER, *HTTP)


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
        files: dict[tuple[CertificateFilesPaths, Sequence[bytes], bool], TLSMemoryBIOFactory] = {}
        for entry in entries:
            files[entry, RAW, False] = self._factory(entry, RAW, clients=False)
            for name in entry.hostnames:
                names.setdefault(name, entry)
        self._names, self._files = names, files

    def _factory(
        self, entry: CertificateFilesPaths, protocols: Sequence[bytes], *, clients: bool
    ) -> TLSMemoryBIOFactory:
        authority = self._clientAuthority if clients else None
        files = CertificateFiles(
            entry.certificate, entry.key, authority, alpn=protocols, demands=False, clock=self._clock
        )
        return TLSMemoryBIOFactory(files, False, Factory(), self._clock)

    def find(self, name: str, protocols: Sequence[bytes], *, clients: bool = False) -> TLSMemoryBIOFactory | None:
        """
        @param name: in lower case; empty for whoever names none, who gets the first certificate.
        @param protocols: that are spoken, best first.
        @param clients: whether client certificates are looked at.
        @return: makes protocols that speak TLS; C{None} without a certificate for the name.
        """
        entry = self._names.get(name) or self._names.get(f"*.{name.partition('.')[2]}")
        if entry is None and not name:
            entry = next(iter(self._names.values()), None)
        if entry is None:
            return None
        key = entry, protocols, clients
        if key not in self._files:
            try:
                self._files[key] = self._factory(entry, protocols, clients=clients)
            except CertificateError as e:  # it could be used at the start
                self._log.error(
                    "a certificate cannot be used: {problem}", event="gateway.certificate-lost", problem=str(e)
                )
                return None
        return self._files[key]
