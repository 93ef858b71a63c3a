"""
TLS for listeners whose certificate changes while they run.

Certificates are renewed every few weeks by another program, which replaces the files. A L{CertificateFiles} looks at
them when a connection comes, at most once a second, and uses the new ones from then on; connections that
stand keep theirs::

    files = CertificateFiles("fullchain.pem", "privkey.pem", clock=reactor)
    factory = TLSMemoryBIOFactory(files, False, innerFactory)
"""

__all__ = ["CertificateError", "CertificateFiles"]

import os
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

_CHECK_INTERVAL = 1.0
"""Seconds between two looks at the files."""


class CertificateError(Exception):
    """A certificate, key or CA file cannot be used. Its text is one line that names the file."""


def _context(certificate: str, privateKey: str, authority: str | None) -> SSL.Context:
    """
    @param authority: a file with the CA certificates that clients must have theirs from; C{None}: clients need none.
    @raise CertificateError: when a file is missing, unreadable, not PEM, or the key has a passphrase or is not the
        certificate's.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # OpenSSL refuses to resume the session of a client that has a certificate in a context without this.
    context.set_session_id(b"txgateway")

    def use(path: str, load: Callable[[bytes], object], problem: str) -> None:
        try:
            with open(path, "rb") as file:
                load(file.read())
        except OSError as e:
            raise CertificateError(f"{path}: {e.strerror}") from None
        except SSL.Error as e:
            reasons = ", ".join(str(entry[-1]) for entry in (e.args[0] if e.args else ()))
            raise CertificateError(f"{path}: {problem} ({reasons})" if reasons else f"{path}: {problem}") from None
        except (TypeError, ValueError, UnsupportedAlgorithm):
            raise CertificateError(f"{path}: not a private key in PEM without a passphrase") from None

    def useKey(pem: bytes) -> None:
        # Not use_privatekey_file: of a key with a passphrase it asks at the terminal, and the reactor waits.
        context.use_privatekey(load_pem_private_key(pem, None))  # type: ignore[arg-type]  # more than TLS can use
        context.check_privatekey()

    use(certificate, lambda _: context.use_certificate_chain_file(certificate), "not certificates in PEM")
    use(privateKey, useKey, f"not the key of {certificate}")
    if authority is not None:
        use(authority, lambda _: context.load_verify_locations(authority), "not CA certificates in PEM")
        # So that a browser offers the right certificate.
        use(authority, lambda _: context.load_client_ca(os.fsencode(authority)), "not CA certificates in PEM")
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class CertificateFiles:
    """
    A listener's certificate chain, private key and client CA, as the files say.

    When changed files cannot be used the old certificate stays in use and one error is logged for each change.

    @param authority: PEM file of the CAs that client certificates must come from; C{None}: no client certificates.
    @raise CertificateError: when the files cannot be used at the start.
    """

    _log = Logger()

    def __init__(self, certificate: str, privateKey: str, authority: str | None = None, *, clock: IReactorTime) -> None:
        self._paths = (certificate, privateKey, authority)
        self._clock = clock
        self._checked = clock.seconds()
        # First the look, then the reading: a change between the two is found by the next look.
        self._seen = self._look()
        self._context = _context(*self._paths)

    def _look(self) -> list[tuple[int, ...] | None]:
        found: list[tuple[int, ...] | None] = []
        for path in self._paths:
            try:
                status = os.stat(path) if path is not None else None
            except OSError:
                status = None
            # A change of owner or mode, which may make a file readable, shows in the ctime alone.
            found.append(status and (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))
        return found

    def refresh(self, *, always: bool = False) -> None:
        """
        Look at the files now. Never raises.

        @param always: read them even if they seem unchanged.
        """
        self._checked = self._clock.seconds()
        seen = self._look()
        if seen == self._seen and not always:
            return
        self._seen = seen
        try:
            self._context = _context(*self._paths)
        except CertificateError as e:
            self._log.error(
                "the changed certificate is not used, the old one stays: {problem}",
                event="gateway.certificate-refused",
                problem=str(e),
            )
        else:
            self._log.info("certificate read again: {path}", event="gateway.certificate-read", path=self._paths[0])

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        if self._clock.seconds() - self._checked >= _CHECK_INTERVAL:
            self.refresh()
        return SSL.Connection(self._context, None)
