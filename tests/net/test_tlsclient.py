"""Tests for L{gateway.net.tlsclient}."""

from __future__ import annotations

import datetime
import os
import ssl
from pathlib import Path
from typing import Any, cast
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import INegotiated
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.dial import DialFailed
from gateway.net.tls import CertificateError, CertificateFiles
from gateway.net.tlsclient import (
    ClientTrust,
    TLSClientEndpoint,
    TrustError,
    clientConnectionCreator,
    explainTLS,
    publicKeyPin,
)
from gateway.testing import FlowEndpoint, flowPair
from tests.certificates import Authority, Credential, makeAuthority
from tests.net.test_tls import Meeting, Side

NAME = "gw.example"
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Issuer:
    """An authority that issues what L{Authority}, which is a good one, does not."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificatePEM = self.issue("Careless", ca=True, key=self._key).certificatePEM

    def issue(
        self,
        name: str,
        *alternatives: x509.GeneralName,
        start: datetime.datetime = NOW - DAY,
        end: datetime.datetime = NOW + DAY,
        key: ec.EllipticCurvePrivateKey | None = None,
        issuer: str = "Careless",
        ca: bool = False,
        usage: x509.ObjectIdentifier | None = None,
    ) -> Credential:
        """A certificate that is signed by this authority, or by itself when it says that it is its own issuer."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(key if issuer == name else self._key, hashes.SHA256())
        return Credential(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )


def pinOf(credential: Credential) -> str:
    return publicKeyPin(x509.load_pem_x509_certificate(credential.certificatePEM))


class Connections(SynchronousTestCase):
    """What the tests have in common: an authority, and a server of its making."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = self.mktemp()
        os.makedirs(self.directory)
        self.authority = makeAuthority("Test Authority")
        self.authorities = self.write("authority.pem", self.authority.certificatePEM)
        self.trust = ClientTrust(self.authorities)

    def write(self, name: str, content: bytes) -> str:
        path = os.path.join(self.directory, name)
        with open(path, "wb") as f:
            f.write(content)
        return path

    def serve(
        self, credential: Credential, alpn: tuple[bytes, ...] = (), clients: str | None = None
    ) -> CertificateFiles:
        """A server's side with this certificate."""
        return CertificateFiles(*credential.write(self.mktemp()), clients, alpn=alpn, clock=self.clock)

    def meet(
        self,
        server: Credential | CertificateFiles,
        hostname: str = NAME,
        trust: ClientTrust | None = None,
        alpn: tuple[bytes, ...] = (),
    ) -> Meeting:
        """Connect to a server."""
        files = server if isinstance(server, CertificateFiles) else self.serve(server)
        return Meeting(files, clientConnectionCreator(hostname, trust or self.trust, alpn), self.clock)

    def trusting(self, *issuers: Issuer | Authority) -> ClientTrust:
        """Trust in these authorities."""
        return ClientTrust(self.write("issuers.pem", b"".join(each.certificatePEM for each in issuers)))

    def assertRefused(self, meeting: Meeting, sentence: str) -> None:
        """Assert that the client ends the handshake with this sentence, and lets the server know."""
        self.assertFalse(meeting.client.secured)
        self.assertFalse(meeting.works())
        self.assertEqual(self.reason(meeting.client), sentence)
        assert meeting.server.reason is not None
        self.assertIn("alert", str(meeting.server.reason.value))

    def reason(self, side: Side) -> str | None:
        """What one side would tell its people."""
        assert side.reason is not None
        return explainTLS(side.reason)


class AuthorityTests(Connections):
    """A server is believed that has a certificate of a known authority for what was dialled."""

    def test_name(self) -> None:
        """The name, in upper case, and with a dot at the end too, or one that the certificate's wildcard stands for."""
        credential = self.authority.issue(NAME, "*.apps.example")
        for name in (NAME, "GW.Example", f"{NAME}.", "a.apps.example"):
            self.assertTrue(self.meet(credential, name).works(), name)

    def test_internationalName(self) -> None:
        """A name in another script is compared as it is in the certificate."""
        self.assertTrue(self.meet(self.authority.issue("xn--bcher-kva.example"), "b\u00fccher.example").works())

    def test_address(self) -> None:
        """An IP address of either family, in any spelling."""
        credential = self.authority.issue("192.0.2.1", "2001:db8::1")
        for address in ("192.0.2.1", "2001:db8::1", "2001:DB8:0::1"):
            self.assertTrue(self.meet(credential, address).works(), address)

    def test_otherName(self) -> None:
        """Another name, more than the wildcard stands for, the common name alone, another address."""
        for names, hostname, has in (
            ((NAME,), "other.example", NAME),
            ((NAME, "192.0.2.1"), "192.0.2.2", f"{NAME}, 192.0.2.1"),
            (("*.gw.example",), NAME, "*.gw.example"),
            (("*.gw.example",), "a.b.gw.example", "*.gw.example"),
            (("192.0.2.1",), NAME, "192.0.2.1"),
        ):
            self.assertRefused(
                self.meet(self.authority.issue(*names), hostname),
                f"The server's certificate is for another name: wanted {hostname}, it has {has}.",
            )

    def test_addressAsName(self) -> None:
        """An address that stands among the names is no address."""
        issuer = Issuer()
        self.assertRefused(
            self.meet(issuer.issue("x", x509.DNSName("192.0.2.1")), "192.0.2.1", self.trusting(issuer)),
            "The server's certificate is for another name: wanted 192.0.2.1, it has 192.0.2.1.",
        )

    def test_noNames(self) -> None:
        """A certificate without names is for no name, whatever its subject says."""
        issuer = Issuer()
        self.assertRefused(
            self.meet(issuer.issue(NAME), trust=self.trusting(issuer)),
            f"The server's certificate is for another name: wanted {NAME}, it has none.",
        )

    def test_hostileNames(self) -> None:
        """Names in a certificate cannot write to a terminal, nor fill it."""
        issuer = Issuer()
        name = "\x1b[2J" + "a" * 500
        meeting = self.meet(issuer.issue("x", x509.DNSName(name)), trust=self.trusting(issuer))
        self.assertRefused(
            meeting,
            f"The server's certificate is for another name: wanted {NAME}, it has \\x1b[2J{'a' * 113}....",
        )

    def test_unknownAuthority(self) -> None:
        """A certificate of an authority that is not in the file, even one of the same name."""
        for authority in (makeAuthority("Others"), makeAuthority("Test Authority")):
            meeting = self.meet(authority.issue(NAME))
            self.assertFalse(meeting.works())
            self.assertIn("authority", self.reason(meeting.client) or "")
        self.assertRefused(
            self.meet(makeAuthority("Others").issue(NAME)),
            "The server's certificate is from an unknown authority: CN=Others.",
        )

    def test_chainOfUnknownAuthority(self) -> None:
        """An authority does not become known by being sent along."""
        others = makeAuthority("Others")
        credential = others.issue(NAME)
        chained = Credential(credential.certificatePEM + others.certificatePEM, credential.keyPEM)
        self.assertRefused(self.meet(chained), "The server's certificate is from an unknown authority: CN=Others.")

    def test_selfSigned(self) -> None:
        """A self-signed certificate is refused with its pin, for those who know that it is the right one."""
        credential = Issuer().issue(NAME, x509.DNSName(NAME), issuer=NAME)
        self.assertRefused(
            self.meet(credential),
            f"The server's certificate is self-signed, and no pin is set. Its pin is {pinOf(credential)}.",
        )

    def test_selfSignedInFile(self) -> None:
        """A self-signed certificate in the file is believed, for its name."""
        credential = Issuer().issue(NAME, x509.DNSName(NAME), issuer=NAME)
        trust = ClientTrust(self.write("self.pem", credential.certificatePEM))
        self.assertTrue(self.meet(credential, trust=trust).works())
        self.assertFalse(self.meet(credential, "other.example", trust).works())

    def test_dates(self) -> None:
        """A certificate that has expired, or is not yet valid, with the date."""
        issuer = Issuer()
        trust, name = self.trusting(issuer), x509.DNSName(NAME)
        expired = issuer.issue("x", name, start=NOW - 9 * DAY, end=NOW - 2 * DAY)
        self.assertRefused(
            self.meet(expired, trust=trust),
            f"The server's certificate has expired, on {NOW - 2 * DAY:%Y-%m-%d}.",
        )
        early = issuer.issue("x", name, start=NOW + 2 * DAY, end=NOW + 9 * DAY)
        self.assertRefused(
            self.meet(early, trust=trust),
            f"The server's certificate is not valid before {NOW + 2 * DAY:%Y-%m-%d}; is the clock right?",
        )

    def test_purpose(self) -> None:
        """A certificate for clients only is not one for servers."""
        issuer = Issuer()
        credential = issuer.issue("x", x509.DNSName(NAME), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        self.assertRefused(
            self.meet(credential, trust=self.trusting(issuer)), "The server's certificate is not one for servers."
        )

    def test_otherRefusals(self) -> None:
        """Whatever else OpenSSL finds wrong is told with its number."""
        issuer = Issuer()
        between = ec.generate_private_key(ec.SECP256R1())
        notCA = issuer.issue("Not CA", x509.DNSName("x"), key=between)
        leaf = Issuer()
        leaf._key = between
        credential = leaf.issue("x", x509.DNSName(NAME), issuer="Not CA")
        chained = Credential(credential.certificatePEM + notCA.certificatePEM, credential.keyPEM)
        meeting = self.meet(chained, trust=self.trusting(issuer))
        self.assertFalse(meeting.works())
        self.assertRegex(
            self.reason(meeting.client) or "",
            r"^A certificate of the server's authority was refused, with OpenSSL's error \d+ ",
        )

    def test_unreadable(self) -> None:
        """A certificate that OpenSSL reads, but Python cannot, is refused like any other."""
        credential = self.authority.issue(NAME)
        der = ssl.PEM_cert_to_DER_cert(credential.certificatePEM.decode())
        version3, version9 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x08"
        self.assertIn(version3, der)
        pem = ssl.DER_cert_to_PEM_cert(der.replace(version3, version9)).encode()
        for trust in (self.trust, ClientTrust(pin=pinOf(credential))):
            meeting = self.meet(Credential(pem, credential.keyPEM), trust=trust)
            self.assertRefused(meeting, "The server's certificate cannot be read.")

    def test_platform(self) -> None:
        """Without a file the authorities of the platform are believed, which do not include ours."""
        credential = self.authority.issue(NAME)
        self.assertFalse(self.meet(credential, trust=ClientTrust()).works())
        with mock.patch.dict(os.environ, SSL_CERT_FILE=self.authorities):
            self.assertTrue(self.meet(credential, trust=ClientTrust()).works())

    def test_nobody(self) -> None:
        """Those who verify nothing talk to anyone."""
        credential = Issuer().issue("x", issuer="x")
        self.assertTrue(self.meet(credential, trust=ClientTrust(verify=False)).works())

    def test_oldVersions(self) -> None:
        """A server that speaks TLS 1.1 at most is not spoken to."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        certificatePath, keyPath = self.authority.issue(NAME).write(self.directory)
        context.use_certificate_file(certificatePath)
        context.use_privatekey_file(keyPath)
        context.set_min_proto_version(0)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        files = self.serve(self.authority.issue(NAME))
        files._context = context
        meeting = self.meet(files)
        self.assertFalse(meeting.client.secured)
        self.assertEqual(self.reason(meeting.client), "The peer speaks no version of TLS that we speak too.")


class PinTests(Connections):
    """A server is believed that has the key with this pin."""

    def test_match(self) -> None:
        """Neither name, authority, dates, nor anything else matter then."""
        issuer = Issuer()
        for credential in (
            self.authority.issue("other.example"),
            issuer.issue("x", issuer="x"),
            issuer.issue("x", start=NOW - 9 * DAY, end=NOW - DAY, usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        ):
            self.assertTrue(self.meet(credential, trust=ClientTrust(pin=pinOf(credential))).works())

    def test_mismatch(self) -> None:
        """Another key is refused with its pin, whatever else is or is not in order."""
        others, issuer = makeAuthority("Others"), Issuer()
        chained = others.issue(NAME)
        trust = ClientTrust(pin=pinOf(self.authority.issue(NAME)))
        for credential in (
            self.authority.issue(NAME),
            Credential(chained.certificatePEM + others.certificatePEM, chained.keyPEM),
            issuer.issue(NAME, x509.DNSName(NAME), issuer=NAME),
            issuer.issue(NAME, start=NOW - 9 * DAY, end=NOW - DAY),
        ):
            self.assertRefused(
                self.meet(credential, trust=trust), f"The pin does not match: the server has {pinOf(credential)}."
            )

    def test_rotation(self) -> None:
        """Of several pins each will do."""
        old, new, other = (self.authority.issue(NAME) for _ in range(3))
        trust = ClientTrust(pin=f"{pinOf(old)}; {pinOf(new)}")
        self.assertTrue(self.meet(old, trust=trust).works())
        self.assertTrue(self.meet(new, trust=trust).works())
        self.assertFalse(self.meet(other, trust=trust).works())

    def test_authorityIsNotTheServer(self) -> None:
        """The pin of a certificate that is merely sent along, whose key may be anyone's, does not count."""
        credential = self.authority.issue(NAME)
        chained = Credential(credential.certificatePEM + self.authority.certificatePEM, credential.keyPEM)
        pin = publicKeyPin(x509.load_pem_x509_certificate(self.authority.certificatePEM))
        self.assertFalse(self.meet(chained, trust=ClientTrust(pin=pin)).works())

    def test_form(self) -> None:
        """The pin of a key is what curl and OpenSSL make of it."""
        key = ec.derive_private_key(1, ec.SECP256R1())
        credential = Issuer().issue("x", key=key)
        self.assertEqual(pinOf(credential), "sha256//XNJS+wzokyQ2+vjM0QQJgbie5K1rn+niorfnGqyyfNM=")

    def test_refused(self) -> None:
        """What is no pin, or would not decide alone, is refused at once."""
        good = "sha256//" + "A" * 43 + "="
        ClientTrust(pin=good)
        for pin in (
            "",
            "A" * 44,
            "sha1//" + "A" * 43 + "=",
            good[:-4],
            good + ";",
            good + "AAAA",
            "sha256//" + "\u00e9" * 44,
        ):
            error = self.assertRaises(ValueError, ClientTrust, pin=pin)
            self.assertIn("not a pin", str(error))
        self.assertRaises(ValueError, ClientTrust, authorities="ca.pem", pin=good)
        self.assertRaises(ValueError, ClientTrust, authorities="ca.pem", verify=False)
        self.assertRaises(ValueError, ClientTrust, pin=good, verify=False)


class ServerNameTests(Connections):
    """The server is told which name is wanted."""

    def asked(self, hostname: str) -> bytes | None:
        """The name that a server gets to see."""
        seen: list[bytes | None] = []
        files = self.serve(self.authority.issue(NAME, "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"))
        files._context.set_tlsext_servername_callback(lambda connection: seen.append(connection.get_servername()))
        self.assertTrue(self.meet(files, hostname).works())
        return seen[0]

    def test_name(self) -> None:
        """A name, in lower case, in ASCII and without the dot at its end."""
        self.assertEqual(self.asked(NAME), b"gw.example")
        self.assertEqual(self.asked("GW.Example."), b"gw.example")
        self.assertEqual(self.asked("b\u00fccher.example"), b"xn--bcher-kva.example")

    def test_address(self) -> None:
        """An address is none."""
        self.assertIsNone(self.asked("192.0.2.1"))
        self.assertIsNone(self.asked("2001:db8::1"))

    def test_neither(self) -> None:
        """What is neither a name nor an address is refused."""
        for hostname in ("", ".", "a b", "gw.example:443", "[::1]", "a\0b"):
            self.assertRaises(ValueError, clientConnectionCreator, hostname, self.trust)


class ProtocolTests(Connections):
    """Both sides agree on an application protocol (ALPN)."""

    def agreed(self, server: tuple[bytes, ...], client: tuple[bytes, ...]) -> bytes | None:
        """What both sides agree on."""
        meeting = self.meet(self.serve(self.authority.issue(NAME), server), alpn=client)
        self.assertTrue(meeting.works())
        protocols = {INegotiated(side.transport).negotiatedProtocol for side in (meeting.server, meeting.client)}
        self.assertEqual(len(protocols), 1)
        return protocols.pop()

    def test_agreed(self) -> None:
        """The one that the server likes best, of those that the client offers."""
        self.assertEqual(self.agreed((b"gateway/1", b"h2"), (b"h2", b"gateway/1")), b"gateway/1")
        self.assertEqual(self.agreed((b"gateway/1", b"h2"), (b"h2",)), b"h2")

    def test_none(self) -> None:
        """None, when one of them does not ask."""
        self.assertIsNone(self.agreed((b"gateway/1",), ()))
        self.assertIsNone(self.agreed((), (b"gateway/1",)))
        self.assertIsNone(self.agreed((), ()))

    def test_disagreed(self) -> None:
        """When they have none in common there is no connection, and both know why."""
        meeting = self.meet(self.serve(self.authority.issue(NAME), (b"h2",)), alpn=(b"gateway/1",))
        self.assertFalse(meeting.works())
        self.assertFalse(meeting.client.secured)
        for side in (meeting.client, meeting.server):
            self.assertEqual(self.reason(side), "The two sides have no application protocol in common (ALPN).")


class ClientCertificateTests(Connections):
    """The client proves itself too."""

    def setUp(self) -> None:
        super().setUp()
        self.clients = makeAuthority("Clients")
        self.server = self.serve(
            self.authority.issue(NAME), clients=self.write("clients.pem", self.clients.certificatePEM)
        )

    def test_shown(self) -> None:
        """The server sees the certificate, from two files or from one."""
        credential = self.clients.issue("agent-1")
        certificate, key = credential.write(self.mktemp())
        both = self.write("both.pem", credential.certificatePEM + credential.keyPEM)
        for files in ((certificate, key), (both, None)):
            meeting = self.meet(self.server, trust=ClientTrust(self.authorities, None, *files))
            self.assertTrue(meeting.works())
            self.assertEqual(meeting.server.certificate, credential.certificatePEM)

    def test_missing(self) -> None:
        """Without one both sides know what is missing."""
        meeting = self.meet(self.server)
        self.assertFalse(meeting.works())
        for side in (meeting.client, meeting.server):
            self.assertEqual(self.reason(side), "A client certificate is needed, and there is none.")

    def test_stranger(self) -> None:
        """A certificate of another authority is refused, and both sides know."""
        certificate, key = makeAuthority("Strangers").issue("agent-1").write(self.mktemp())
        meeting = self.meet(self.server, trust=ClientTrust(self.authorities, None, certificate, key))
        self.assertFalse(meeting.works())
        self.assertEqual(
            self.reason(meeting.client), "The peer refused our certificate: it does not know the authority."
        )
        self.assertEqual(self.reason(meeting.server), "The peer's certificate cannot be verified.")

    def test_keyAlone(self) -> None:
        """A key without a certificate is a mistake."""
        self.assertRaises(ValueError, ClientTrust, key="key.pem")


class FileTests(Connections):
    """Files that cannot be used are refused with one line that names the file."""

    def test_endpoint(self) -> None:
        """L{TLSClientEndpoint} reads them for each connection, and fails with them that alone."""
        path = self.mktemp()
        inner = FlowEndpoint()
        endpoint = TLSClientEndpoint(self.clock, inner, NAME, ClientTrust(path))
        failed = self.failureResultOf(endpoint.connect(Factory.forProtocol(Protocol)), DialFailed).value
        self.assertEqual(failed.details, f"{path}: No such file or directory.")
        self.assertEqual(inner.attempts, [])
        Path(path).write_bytes(makeAuthority("Here").certificatePEM)
        self.assertNoResult(endpoint.connect(Factory.forProtocol(Protocol)))
        self.assertEqual(len(inner.attempts), 1)

    def assertUnusable(self, trust: ClientTrust, path: str, why: str) -> None:
        error = self.assertRaises(CertificateError, clientConnectionCreator, NAME, trust)
        self.assertTrue(str(error).startswith(f"{path}: "), str(error))
        self.assertIn(why, str(error))
        self.assertNotIn("\n", str(error))

    def test_authorities(self) -> None:
        """A missing file of authorities, or one without any."""
        self.assertUnusable(ClientTrust("missing.pem"), "missing.pem", "No such file")
        empty = self.write("empty.pem", b"")
        self.assertUnusable(ClientTrust(empty), empty, "not CA certificates in PEM")

    def test_certificate(self) -> None:
        """A certificate or key that is missing, is none, or does not go with the other."""
        certificate, key = self.authority.issue(NAME).write(self.mktemp())
        _, otherKey = self.authority.issue(NAME).write(self.mktemp())
        self.assertUnusable(ClientTrust(None, None, "missing.pem", key), "missing.pem", "No such file")
        self.assertUnusable(ClientTrust(None, None, certificate, "missing.pem"), "missing.pem", "No such file")
        self.assertUnusable(ClientTrust(None, None, key, key), key, "not certificates in PEM")
        self.assertUnusable(ClientTrust(None, None, certificate), certificate, "not a private key in PEM")
        self.assertUnusable(ClientTrust(None, None, certificate, otherKey), otherKey, f"not the key of {certificate}")

    def test_renewed(self) -> None:
        """A creator that is made later uses what is in the files then."""
        credential = Issuer().issue(NAME, x509.DNSName(NAME), issuer=NAME)
        self.assertFalse(self.meet(credential).works())
        self.write("authority.pem", credential.certificatePEM)
        self.assertTrue(self.meet(credential).works())


class ExplainTests(Connections):
    """L{explainTLS} says what went wrong."""

    def explain(self, *reasons: str) -> str | None:
        return explainTLS(Failure(SSL.Error([("SSL routines", "", reason) for reason in reasons])))

    def test_notTLS(self) -> None:
        """A server that answers something else."""
        for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 64):
            side = Side()
            factory = Factory()
            factory.protocol = lambda side=side: side
            creator = clientConnectionCreator(NAME, self.trust)
            client = TLSMemoryBIOFactory(creator, True, factory, self.clock).buildProtocol(None)
            link = flowPair(client, Protocol())
            link.b.write(answer)
            link.pump()
            self.assertEqual(self.reason(side), "The peer does not speak TLS.", answer)

    def test_noHandshake(self) -> None:
        """A server that cuts the connection off has said nothing about TLS."""
        for error in (ConnectionLost(), ConnectionDone(), ValueError("x")):
            self.assertIsNone(explainTLS(Failure(error)))

    def test_olderWords(self) -> None:
        """Alerts are known in the words of OpenSSL 1.1 and 3 as well."""
        for words in (
            "sslv3 alert handshake failure",
            "ssl/tls alert handshake failure",
            "tlsv1 alert unknown ca",
            "tlsv1 unrecognized name",
            "tlsv13 alert certificate required",
            "sslv3 alert certificate expired",
        ):
            sentence = self.explain(words) or ""
            self.assertNotIn("TLS failed", sentence)

    def test_unknownWords(self) -> None:
        """What is not known is passed on."""
        self.assertEqual(self.explain("bad record", "mac"), "TLS failed: bad record, mac.")
        self.assertEqual(explainTLS(Failure(SSL.Error())), "TLS failed: no reason was given.")
        self.assertEqual(explainTLS(Failure(SSL.SysCallError(104, "x"))), "TLS failed: no reason was given.")

    def test_trustError(self) -> None:
        """The refusal itself is a sentence, and has the form of OpenSSL's errors."""
        error = TrustError("No.")
        self.assertEqual(str(error), "No.")
        self.assertEqual(cast(SSL.Error, error).args[0][-1][-1], "No.")


class ReuseTests(Connections):
    """One creator makes many connections."""

    def test_failuresStayApart(self) -> None:
        """A refusal is the one connection's, and the next begins afresh."""
        creator = clientConnectionCreator(NAME, self.trust)
        good, bad = self.serve(self.authority.issue(NAME)), self.serve(makeAuthority("Others").issue(NAME))
        for _ in range(2):
            self.assertFalse(Meeting(bad, creator, self.clock).works())
            self.assertTrue(Meeting(good, creator, self.clock).works())

    def test_authoritiesAreReadOnce(self) -> None:
        """What a file says is kept until it changes, and each connection is still asked for its own name."""
        self.meet(self.authority.issue(NAME))
        with mock.patch("gateway.net.tlsclient.useAuthorities", side_effect=AssertionError):
            self.assertTrue(self.meet(self.authority.issue("other.example"), "other.example").works())
            self.assertRefused(
                self.meet(self.authority.issue("other.example")),
                f"The server's certificate is for another name: wanted {NAME}, it has other.example.",
            )


class EndTests(Connections):
    """How a connection ends that TLS has not ended (RFC 8446, section 6.1)."""

    def end(self, *, isFramed: bool) -> Failure | None:
        """What a client is told when the server just hangs up, after some words."""
        creator = clientConnectionCreator(NAME, self.trust, isFramed=isFramed)
        meeting = Meeting(self.serve(self.authority.issue(NAME)), creator, self.clock)
        self.assertTrue(meeting.works())
        server: Any = meeting.server.transport
        server.transport.loseConnection()
        meeting.settle()
        self.assertEqual(meeting.client.received, b"hello")
        return meeting.client.reason

    def test_cutOff(self) -> None:
        """It was cut off, for all that is known."""
        reason = self.end(isFramed=False)
        assert reason is not None
        self.assertIsNotNone(reason.check(ConnectionLost))

    def test_framed(self) -> None:
        """Where what is spoken says by itself where it ends, it has ended."""
        reason = self.end(isFramed=True)
        assert reason is not None
        self.assertIsNotNone(reason.check(ConnectionDone))
