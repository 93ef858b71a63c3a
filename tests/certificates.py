"""
Certificates for tests, made when they are needed and never kept: an authority and what it issues.

Real TLS needs real chains, and a key in the repository is a key that someone will trust one day::

    authority = makeAuthority("Test Authority")
    server = authority.issue("localhost", "127.0.0.1")
    certificatePath, keyPath = server.write(self.mktemp())
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Credential", "makeAuthority"]

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its key, both PEM."""

    certificatePEM: bytes
    keyPEM: bytes

    def write(self, directory: str) -> tuple[str, str]:
        """
        Write C{certificate.pem} and C{key.pem} into a directory, which is made if it is missing.

        @return: the two paths, which are absolute, as in a configuration they would be relative to that.
        """
        directory = os.path.abspath(directory)
        os.makedirs(directory, exist_ok=True)
        paths = os.path.join(directory, "certificate.pem"), os.path.join(directory, "key.pem")
        for path, pem in zip(paths, (self.certificatePEM, self.keyPEM), strict=True):
            with open(path, "wb") as f:
                f.write(pem)
        return paths


class Authority:
    """
    A certificate authority with an ECDSA P-256 key.

    @ivar certificatePEM: what those who trust it need.
    """

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _commonName(name)
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signsCertificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificatePEM = certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, path: str) -> str:
        """
        Write the authority's certificate to a file.

        @return: the path, which is absolute.
        """
        path = os.path.abspath(path)
        with open(path, "wb") as f:
            f.write(self.certificatePEM)
        return path

    def issue(self, *names: str) -> Credential:
        """
        Issue a certificate, valid from yesterday until tomorrow, for servers and for clients.

        @param names: host names and IP addresses; the first is the common name too.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(_commonName(names[0]), self._name, key.public_key())
            .add_extension(x509.SubjectAlternativeName([_generalName(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_usage(signsCertificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Credential(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def makeAuthority(name: str) -> Authority:
    """
    Make a new authority.

    @param name: its common name.
    """
    return Authority(name)


def _usage(*, signsCertificates: bool) -> x509.KeyUsage:
    # What RFC 5280 wants of each, and Python 3.13 does too (ssl.VERIFY_X509_STRICT).
    return x509.KeyUsage(
        digital_signature=not signsCertificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signsCertificates,
        crl_sign=signsCertificates,
        encipher_only=False,
        decipher_only=False,
    )


def _commonName(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _generalName(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    # The real time, since OpenSSL knows no other.
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )
