"""
TLS for listeners whose certificate changes while they run, and what both sides' contexts have in common.

Certificates are renewed every few weeks by another program, which replaces the files. A L{CertificateFiles} looks at
them when a connection comes, at most once a second, and uses the new ones from then on; connections that
stand keep theirs::

    files = CertificateFiles("fullchain.pem", "privkey.pem", clock=reactor)
    factory = TLSMemoryBIOFactory(files, False, innerFactory)

The other side is L{gateway.net.tlsclient}.
"""

__all__ = ["CertificateError", "CertificateFiles", "newContext", "useAuthorities", "useCertificate"]

import os
from collections.abc import Callable, Sequence

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

_CHECK_INTERVAL = 1.0
"""Seconds between two looks at the files."""


_PARTIAL_WRITE = 1
"""
OpenSSL's C{SSL_MODE_ENABLE_PARTIAL_WRITE}, which pyOpenSSL sets: one call would make one record. It is meant for
sockets that take no more; memory does.
"""


_CIPHERSUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Those of TLS 1.3, which are all sound, the fastest first: with OpenSSL's order a handshake takes 18 us more."""


class CertificateError(Exception):
    """A certificate, key or CA file cannot be used. Its text is one line that names the file."""


def newContext(method: int) -> SSL.Context:
    """
    A context for TLS 1.2 and newer, without what has no use or is known to be dangerous.

    @param method: C{SSL.TLS_CLIENT_METHOD} or C{SSL.TLS_SERVER_METHOD}.
    """
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_tls13_ciphersuites(_CIPHERSUITES)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_PARTIAL_WRITE)
    return context


def _use(path: str, load: Callable[[bytes], object], problem: str) -> None:
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


def useCertificate(context: SSL.Context, certificate: str, privateKey: str) -> None:
    """
    Show this certificate to the other side.

    @param certificate: PEM file of the certificate and those that follow in its chain.
    @param privateKey: PEM file of its key; may be the same file.
    @raise CertificateError: when a file is missing, unreadable, not PEM, or the key has a passphrase or is not the
        certificate's.
    """

    def useKey(pem: bytes) -> None:
        # Not use_privatekey_file: of a key with a passphrase it asks at the terminal, and the reactor waits.
        context.use_privatekey(load_pem_private_key(pem, None))  # type: ignore[arg-type]  # more than TLS can use
        context.check_privatekey()

    _use(certificate, lambda _: context.use_certificate_chain_file(certificate), "not certificates in PEM")
    _use(privateKey, useKey, f"not the key of {certificate}")


def useAuthorities(context: SSL.Context, authorities: str) -> None:
    """
    Believe certificates of these authorities.

    @param authorities: PEM file of their certificates.
    @raise CertificateError: when it is missing, unreadable or not PEM.
    """
    _use(authorities, lambda _: context.load_verify_locations(authorities), "not CA certificates in PEM")


def _serverContext(
    certificate: str, privateKey: str, authority: str | None, alpn: Sequence[bytes], demands: bool
) -> SSL.Context:
    context = newContext(SSL.TLS_SERVER_METHOD)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    # OpenSSL refuses to resume the session of a client that has a certificate in a context without this.
    context.set_session_id(b"txgateway")
    useCertificate(context, certificate, privateKey)
    if authority is not None:
        useAuthorities(context, authority)
        # So that a browser offers the right certificate.
        _use(authority, lambda _: context.load_client_ca(os.fsencode(authority)), "not CA certificates in PEM")
        context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if demands else 0))

    def select(_: SSL.Connection, offered: Sequence[bytes]) -> bytes:
        for protocol in alpn:
            if protocol in offered:
                return protocol
        # An exception is what makes pyOpenSSL send the alert no_application_protocol (RFC 7301, section 3.2), and
        # one of this type is what Twisted takes for a failed handshake.
        raise SSL.Error([("gateway", "", "no application protocol")])

    if alpn:
        context.set_alpn_select_callback(select)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class CertificateFiles:
    """
    A listener's certificate chain, private key and client CA, as the files say.

    When changed files cannot be used the old certificate stays in use and one error is logged for each change.

    @param authority: PEM file of the CAs that client certificates must come from; C{None}: no client certificates.
    @param demands: whether a client without a certificate is turned away, where there is an authority.
    @param alpn: the application protocols spoken here, best first (RFC 7301). A client that offers others only is
        turned away; for one that offers none, C{negotiatedProtocol} of the transport is C{None}.
    @raise CertificateError: when the files cannot be used at the start.
    """

    _log = Logger()

    def __init__(
        self,
        certificate: str,
        privateKey: str,
        authority: str | None = None,
        *,
        alpn: Sequence[bytes] = (),
        demands: bool = True,
        clock: IReactorTime,
    ) -> None:
        self._paths = (certificate, privateKey, authority)
        self._alpn = tuple(alpn)
        self._demands = demands
        self._clock = clock
        self._checked = clock.seconds()
        # First the look, then the reading: a change between the two is found by the next look.
        self._seen = self._look()
        self._context = _serverContext(*self._paths, self._alpn, self._demands)

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
            self._context = _serverContext(*self._paths, self._alpn, self._demands)
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
