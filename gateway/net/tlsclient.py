"""
TLS for those who dial: whom to believe, and a sentence for people when it comes to nothing.

A server proves itself by a certificate of a known authority that has the name or address that was dialled in it, or by
a key that the client was told beforehand, its pin. The result goes into Twisted's endpoint::

    trust = ClientTrust(pin="sha256//7HIpactkIAq2Y49orFOOQKurWxmmSFZhBCoQYcRhJ3Y=")
    endpoint = TLSClientEndpoint(reactor, tcpEndpoint, "gw.example", trust, [b"gateway/1"])

and C{transport.negotiatedProtocol} says what the two agreed on. The reason for which the connection is lost may be one
for L{explainTLS}.

This is not C{optionsForClientTLS}, which knows no pins and, in Twisted 26.10, takes a certificate of a known authority
that has no names in it for any name: the error that says so is logged, and then forgotten.
"""

__all__ = [
    "ClientTrust",
    "TLSClientEndpoint",
    "TrustError",
    "clientConnectionCreator",
    "explainTLS",
    "publicKeyPin",
]

import binascii
import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError as BadCertificate
from service_identity import VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.dial import DialFailed, DialFailure
from gateway.net.tls import CertificateError, newContext, useAuthorities, useCertificate

_PIN = "sha256//"
_SHOWN = 120
"""Characters of a certificate's names that are told."""
_CONTEXTS = 64
"""Contexts that are kept, since to read the authorities of the platform takes 10 ms."""


def publicKeyPin(certificate: x509.Certificate) -> str:
    """The SHA-256 of a certificate's public key (SubjectPublicKeyInfo, RFC 7469, section 2.4), as curl writes it."""
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _PIN + b64encode(hashlib.sha256(info).digest()).decode()


def _isPin(text: str) -> bool:
    try:
        return text.startswith(_PIN) and len(b64decode(text.removeprefix(_PIN), validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class ClientTrust:
    """
    How a server proves itself to us, and we to it.

    @ivar authorities: PEM file of the CAs that are believed; C{None}: those that the platform believes.
    @ivar pin: C{sha256//BASE64} of the server's public key, or several with C{;} between, so that the server can
        change its key. A pin alone decides: neither the name in the certificate, nor who issued it, nor its dates
        matter then, which is what a gateway with a self-signed certificate needs.
    @ivar certificate: PEM file of our own certificate and its chain; C{None}: we have none.
    @ivar key: PEM file of its key; C{None}: it is in the same file.
    @ivar verify: C{False} believes whoever answers: anyone between can read and change everything.
    @raise ValueError: when a pin is none, or two of these contradict each other.
    """

    authorities: str | None = None
    pin: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        for pin in self.pins:
            if not _isPin(pin):
                raise ValueError(f"not a pin, which is {_PIN} and 32 bytes in base64: {pin[:_SHOWN]!r}")
        if self.authorities is not None and self.pin is not None:
            raise ValueError("a server is known by its authority or by a pin, not by both")
        if not self.verify and (self.authorities is not None or self.pin is not None):
            raise ValueError("an authority or a pin is of no use to those who verify nothing")
        if self.key is not None and self.certificate is None:
            raise ValueError("a key is of no use without its certificate")

    @property
    def pins(self) -> Sequence[str]:
        """The pins one by one."""
        return () if self.pin is None else [pin.strip() for pin in self.pin.split(";")]


class TrustError(SSL.Error):
    """
    The server has not proved that it is the one that was asked for.

    An C{SSL.Error} in its shape too, since that is what Twisted takes for a failed handshake: then the server is sent
    an alert and this becomes the reason for which the connection is lost.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__([("gateway", "", sentence)])
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


def _shown(text: str) -> str:
    # It comes from a stranger, and goes to a terminal.
    text = text.encode("unicode_escape").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _names(certificate: x509.Certificate) -> str:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "none"
    names = [str(name) for name in alternatives.get_values_for_type(x509.DNSName)]
    names += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    return _shown(", ".join(names)) if names else "none"


def _refusal(certificate: x509.Certificate, error: int, depth: int) -> str:
    """What OpenSSL found wrong with a certificate, in our words."""
    codes = SSL.X509VerificationCodes
    whose = "The server's certificate" if depth == 0 else "A certificate of the server's authority"
    match error:
        case codes.ERR_CERT_HAS_EXPIRED:
            return f"{whose} has expired, on {certificate.not_valid_after_utc:%Y-%m-%d}."
        case codes.ERR_CERT_NOT_YET_VALID:
            return f"{whose} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}; is the clock right?"
        case codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
            return f"{whose} is self-signed, and no pin is set. Its pin is {publicKeyPin(certificate)}."
        case (
            codes.ERR_SELF_SIGNED_CERT_IN_CHAIN
            | codes.ERR_UNABLE_TO_GET_ISSUER_CERT
            | codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
        ):
            return (
                f"The server's certificate is from an unknown authority: {_shown(certificate.issuer.rfc4514_string())}."
            )
        case codes.ERR_INVALID_PURPOSE:
            return f"{whose} is not one for servers."
    return f"{whose} was refused, with OpenSSL's error {error} (see openssl-verification-options)."


_Check = Callable[[x509.Certificate, int | None, int], None]
"""
Takes a certificate of the chain, OpenSSL's error with it or C{None}, and its depth, which is 0 for the server's own;
raises L{TrustError}.
"""


class _Connection(SSL.Connection):
    """Knows what to ask of its server: Twisted has its own in the place that pyOpenSSL has for such things."""

    def __init__(self, context: SSL.Context, check: _Check) -> None:
        super().__init__(context, None)
        self.check = check


def _verify(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
    """
    What pyOpenSSL calls back, for all connections of a context: what the callback of a connection has raised it would
    not raise.
    """
    assert isinstance(connection, _Connection)
    try:
        connection.check(certificate.to_cryptography(), None if ok else error, depth)
    except TrustError:
        raise
    except Exception:
        # OpenSSL takes certificates that cryptography does not, which has many ways to say so.
        raise TrustError("The server's certificate cannot be read.") from None
    return True


def _checkName(identity: DNS_ID | IPAddress_ID, hostname: str) -> _Check:
    def check(certificate: x509.Certificate, error: int | None, depth: int) -> None:
        if error is not None:
            raise TrustError(_refusal(certificate, error, depth))
        if depth == 0:
            try:
                verify_service_identity(extract_patterns(certificate), [identity], [])
            except (VerificationError, BadCertificate):
                names = _names(certificate)
                raise TrustError(
                    f"The server's certificate is for another name: wanted {hostname}, it has {names}."
                ) from None

    return check


def _checkPin(pins: Sequence[str]) -> _Check:
    def check(certificate: x509.Certificate, error: int | None, depth: int) -> None:
        # The key at the depth 0 is the only one that the server has shown to have.
        if depth == 0 and (pin := publicKeyPin(certificate)) not in pins:
            raise TrustError(f"The pin does not match: the server has {pin}.")

    return check


def _seen(trust: ClientTrust) -> tuple[object, ...]:
    """What a change of the files that a context is made of changes."""
    paths = (trust.authorities or os.environ.get("SSL_CERT_FILE"), trust.certificate, trust.key)
    found: list[object] = []
    for path in paths:
        try:
            status = os.stat(path) if path is not None else None
        except OSError:
            status = None
        found.append((path, status and (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)))
    return tuple(found)


@lru_cache(_CONTEXTS)
def _clientContext(trust: ClientTrust, isFramed: bool, seen: tuple[object, ...]) -> SSL.Context:
    context = newContext(SSL.TLS_CLIENT_METHOD)
    if isFramed:
        context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF)
    if trust.certificate is not None:
        useCertificate(context, trust.certificate, trust.key or trust.certificate)
    if not trust.verify:
        return context
    if trust.authorities is not None:
        useAuthorities(context, trust.authorities)
    elif trust.pin is None:
        context.set_default_verify_paths()
    context.set_verify(SSL.VERIFY_PEER, _verify)
    return context


@implementer(IOpenSSLClientConnectionCreator)
class _ClientConnections:
    def __init__(self, context: SSL.Context, check: _Check, serverName: bytes | None, alpn: list[bytes]) -> None:
        self._context = context
        self._check = check
        self._serverName = serverName
        self._alpn = alpn

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = _Connection(self._context, self._check)
        if self._serverName is not None:
            connection.set_tlsext_host_name(self._serverName)
        if self._alpn:
            connection.set_alpn_protos(self._alpn)
        return connection


def clientConnectionCreator(
    hostname: str, trust: ClientTrust, alpn: Sequence[bytes] = (), *, isFramed: bool = False
) -> IOpenSSLClientConnectionCreator:
    """
    The client's side of connections to one server.

    The files are read now, if they have changed. Who makes a new one for every attempt to connect uses renewed files
    without a restart; the authorities of the platform are read once, unless C{SSL_CERT_FILE} names them.

    @param hostname: the name or the IP address that the certificate must have in it. A name is sent to the server too
        (SNI, RFC 6066, section 3), an address is not.
    @param alpn: the application protocols to offer, best first (RFC 7301). A server that knows none of them ends the
        handshake; of one that knows no ALPN, C{negotiatedProtocol} is C{None}.
    @param isFramed: what is spoken says where it ends, as HTTP does. Then an end of TCP without that of TLS
        (C{close_notify}), which many servers leave out, is an end too, and not a connection that was cut off.
    @raise gateway.net.tls.CertificateError: when a file cannot be used.
    @raise ValueError: when the hostname is neither a name nor an address.
    """
    identity: DNS_ID | IPAddress_ID
    if isIPAddress(hostname) or isIPv6Address(hostname):
        identity, serverName = IPAddress_ID(hostname), None
    else:
        # A dot at the end is the resolver's business, and in no certificate and no SNI.
        identity = DNS_ID(hostname.removesuffix("."))
        serverName = identity.hostname
    check = _checkName(identity, hostname) if trust.pin is None else _checkPin(trust.pins)
    return _ClientConnections(_clientContext(trust, isFramed, _seen(trust)), check, serverName, list(alpn))


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """
    TLS over another endpoint. Files are read again when they have changed, so that renewed ones are used without a
    restart.

    @param inner: leads to the server.
    @param hostname: as for L{clientConnectionCreator}, like C{alpn} and C{isFramed}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        inner: IStreamClientEndpoint,
        hostname: str,
        trust: ClientTrust,
        alpn: Sequence[bytes] = (),
        *,
        isFramed: bool = False,
    ) -> None:
        self._clock = clock
        self._inner = inner
        self._hostname = hostname
        self._trust = trust
        self._alpn = alpn
        self._isFramed = isFramed

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fires, as Twisted's, when the inner endpoint has connected, before there is TLS; fails as that does,
            or with L{DialFailed} when a file cannot be used.
        """
        try:
            connections = clientConnectionCreator(self._hostname, self._trust, self._alpn, isFramed=self._isFramed)
        except (CertificateError, ValueError) as e:
            return fail(DialFailed(DialFailure.OTHER, f"{e}."))
        return wrapClientTLS(connections, self._inner, clock=self._clock).connect(factory)


_REASONS = {
    "wrong version number": "The peer does not speak TLS.",
    "http request": "The peer does not speak TLS.",
    "packet length too long": "The peer does not speak TLS.",
    "unsupported protocol": "The peer speaks no version of TLS that we speak too.",
    "alert protocol version": "The peer speaks no version of TLS that we speak too.",
    "no application protocol": "The two sides have no application protocol in common (ALPN).",
    "unrecognized name": "The peer does not know the server name that was asked for (SNI).",
    "did not return a certificate": "A client certificate is needed, and there is none.",
    "alert certificate required": "A client certificate is needed, and there is none.",
    "alert unknown ca": "The peer refused our certificate: it does not know the authority.",
    "alert certificate expired": "The peer refused our certificate: it has expired.",
    "alert bad certificate": "The peer refused our certificate.",
    "alert certificate unknown": "The peer refused our certificate.",
    "alert unsupported certificate": "The peer refused our certificate.",
    "certificate verify failed": "The peer's certificate cannot be verified.",
    "no shared cipher": "The two sides have no cipher in common.",
    "alert handshake failure": "The peer ended the handshake: it cannot or does not want to speak TLS with us.",
}
"""What OpenSSL's words contain in all of its versions, and our words for it."""


def explainTLS(failure: Failure) -> str | None:
    """
    What went wrong with TLS, for people.

    @param failure: the reason for which a connection was lost or could not be made, on either side.
    @return: a sentence on one line, or C{None} when TLS is not to blame.
    """
    error = failure.value
    if isinstance(error, TrustError):
        return error.sentence
    if not isinstance(error, SSL.Error):
        return None
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = [str(entry[-1]) for entry in queue]
    for words, sentence in _REASONS.items():
        if any(words in reason for reason in said):
            return sentence
    return f"TLS failed: {', '.join(said) or 'no reason was given'}."
