"""Tests for L{gateway.net.tls}."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.tls import CertificateError, CertificateFiles
from gateway.net.tlsserver import TLSServerFactory
from gateway.testing import FlowLink, flowPair
from tests.certificates import Authority, Credential, makeAuthority

NAME = "gw.example"

_mtimes = count(1_700_000_000)


def put(path: str, pem: bytes) -> None:
    """Replace a file as a renewing program does: by another that is whole, with a time of its own."""
    new = f"{path}.new"
    with open(new, "wb") as f:
        f.write(pem)
    seconds = next(_mtimes)
    os.utime(new, (seconds, seconds))
    os.replace(new, path)


def pemOf(certificate: crypto.X509) -> bytes:
    """The certificate as a file holds it."""
    return certificate.to_cryptography().public_bytes(serialization.Encoding.PEM)


@implementer(IHandshakeListener)
class Side(Protocol):
    """
    One end of a TLS connection.

    @ivar certificate: what the other end showed, in PEM; C{None} before the handshake is done, and for no certificate.
    """

    def __init__(self) -> None:
        self.secured = False
        self.certificate: bytes | None = None
        self.received = b""
        self.reason: Failure | None = None

    def handshakeCompleted(self) -> None:
        self.secured = True
        transport: Any = self.transport
        certificate = transport.getPeerCertificate()
        if certificate is not None:
            self.certificate = pemOf(certificate)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class Meeting:
    """A client and a server that shake hands in memory, and what became of it."""

    def __init__(self, files: CertificateFiles, clientCreator: Any, clock: Clock) -> None:
        self.server, self.client = Side(), Side()
        self._clock = clock
        server = TLSServerFactory(files, Factory.forProtocol(lambda: self.server), clock=clock)
        client = TLSMemoryBIOFactory(clientCreator, True, Factory.forProtocol(lambda: self.client), clock)
        self._link: FlowLink = flowPair(server.buildProtocol(None), client.buildProtocol(None))
        self.settle()

    def settle(self) -> None:
        """Let everything arrive that is under way."""
        for _ in range(4):
            self._link.pump()
            self._clock.advance(0)

    def works(self) -> bool:
        """Whether bytes pass in both directions."""
        before = len(self.server.received), len(self.client.received)
        for side in (self.server, self.client):
            if side.transport is not None and side.reason is None:
                side.transport.write(b"hello")
        self.settle()
        return (len(self.server.received), len(self.client.received)) == (before[0] + 5, before[1] + 5)


@implementer(IOpenSSLClientConnectionCreator)
class FromContext:
    """
    A client that believes every certificate, with a context of the test's making.

    @ivar session: what it resumes, and after the handshake may resume the next time.
    """

    session: SSL.Session | None = None

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        self._connection = SSL.Connection(self._context, None)
        if self.session is not None:
            self._connection.set_session(self.session)
        return self._connection

    def keepSession(self) -> None:
        """Remember the session of the connection."""
        self.session = self._connection.get_session()


class Files(SynchronousTestCase):
    """What the tests have in common: an authority, and a server's files from it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.authority = makeAuthority("Test Authority")
        self.credential = self.authority.issue(NAME)
        self.directory = self.mktemp()
        self.certificatePath, self.keyPath = self.credential.write(self.directory)
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def path(self, name: str, content: bytes) -> str:
        """A file in the test's directory."""
        path = os.path.join(self.directory, name)
        put(path, content)
        return path

    def files(self, authority: str | None = None) -> CertificateFiles:
        """What is tested, with the test's clock."""
        return CertificateFiles(self.certificatePath, self.keyPath, authority, clock=self.clock)

    def meet(self, files: CertificateFiles, credential: Credential | None = None) -> Meeting:
        """Connect a client that trusts the authority and may have a certificate."""
        return Meeting(files, clientOptions(self.authority, credential), self.clock)

    def replace(self, credential: Credential) -> None:
        """Replace both files."""
        put(self.certificatePath, credential.certificatePEM)
        put(self.keyPath, credential.keyPEM)

    def logged(self) -> list[tuple[str, str]]:
        """The level and text of what was logged by the module since the last time."""
        events = [e for e in self.events if e.get("log_namespace", "").startswith("gateway.net.tls")]
        self.events.clear()
        return [(e["log_level"].name, e["log_format"].format(**e)) for e in events]


def clientOptions(authority: Authority, credential: Credential | None) -> Any:
    """A careful client's side of TLS, as Twisted makes it."""
    private = None if credential is None else PrivateCertificate.loadPEM(credential.certificatePEM + credential.keyPEM)
    return optionsForClientTLS(NAME, Certificate.loadPEM(authority.certificatePEM), private)


class HandshakeTests(Files):
    """L{CertificateFiles} makes the server's side of connections."""

    def test_serves(self) -> None:
        """A client that trusts the authority is shown the certificate, and bytes pass."""
        meeting = self.meet(self.files())
        self.assertEqual(meeting.client.certificate, self.credential.certificatePEM)
        self.assertTrue(meeting.works())
        self.assertIsNone(meeting.server.certificate)

    def test_chain(self) -> None:
        """The certificates that follow the first in the file are sent along."""
        put(self.certificatePath, self.credential.certificatePEM + self.authority.certificatePEM)
        chain: list[bytes] = []

        def look(connection: SSL.Connection, where: int, result: int) -> None:
            if where & SSL.SSL_CB_HANDSHAKE_DONE:
                sent = connection.get_peer_cert_chain() or []
                chain[:] = [pemOf(each) for each in sent]

        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.set_info_callback(look)
        Meeting(self.files(), FromContext(client), self.clock)
        self.assertEqual(chain, [self.credential.certificatePEM, self.authority.certificatePEM])

    def test_oldVersions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, older versions are not."""
        for version, secured in ((SSL.TLS1_3_VERSION, True), (SSL.TLS1_2_VERSION, True), (SSL.TLS1_1_VERSION, False)):
            client = SSL.Context(SSL.TLS_CLIENT_METHOD)
            client.set_min_proto_version(version)
            client.set_max_proto_version(version)
            client.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
            meeting = Meeting(self.files(), FromContext(client), self.clock)
            self.assertEqual((meeting.server.secured, meeting.client.secured), (secured, secured), version)
        assert meeting.server.reason is not None
        self.assertIn("unsupported protocol", str(meeting.server.reason.value))

    def test_garbage(self) -> None:
        """What is not TLS ends the connection with an error of TLS."""
        side = Side()
        server = TLSServerFactory(self.files(), Factory.forProtocol(lambda: side), clock=self.clock).buildProtocol(None)
        link = flowPair(server, Protocol())
        link.b.write(b"GET / HTTP/1.1\r\n\r\n")
        link.pump()
        assert side.reason is not None
        self.assertTrue(side.reason.check(SSL.Error))


class ClientCertificateTests(Files):
    """With an authority for them, L{CertificateFiles} wants client certificates."""

    def setUp(self) -> None:
        super().setUp()
        self.clients = makeAuthority("Clients")
        self.authorityPath = self.path("clients.pem", self.clients.certificatePEM)

    def assertTurnedAway(self, meeting: Meeting, why: str) -> None:
        """Assert that the server has broken off the handshake, for this reason."""
        self.assertFalse(meeting.server.secured)
        self.assertFalse(meeting.works())
        self.assertEqual(meeting.server.received, b"")
        assert meeting.server.reason is not None
        self.assertTrue(meeting.server.reason.check(SSL.Error))
        self.assertIn(why, str(meeting.server.reason.value))

    def test_good(self) -> None:
        """A client with a certificate of that authority comes in, and can be told by it."""
        client = self.clients.issue("backend")
        meeting = self.meet(self.files(self.authorityPath), client)
        self.assertTrue(meeting.works())
        self.assertEqual(meeting.server.certificate, client.certificatePEM)

    def test_none(self) -> None:
        """A client without a certificate stays out."""
        meeting = self.meet(self.files(self.authorityPath))
        self.assertTurnedAway(meeting, "peer did not return a certificate")

    def test_stranger(self) -> None:
        """A certificate of another authority is none, not even of one of the same name, or of the server's own."""
        for authority in (makeAuthority("Clients"), self.authority):
            meeting = self.meet(self.files(self.authorityPath), authority.issue("backend"))
            self.assertTurnedAway(meeting, "certificate verify failed")

    def test_resumption(self) -> None:
        """A client that comes again may resume its session, and is still known by its certificate."""
        client = self.clients.issue("backend")
        files = self.files(self.authorityPath)
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(version)
            context.use_certificate(x509.load_pem_x509_certificate(client.certificatePEM))
            context.use_privatekey(cast(Any, serialization.load_pem_private_key(client.keyPEM, None)))
            creator = FromContext(context)
            for _ in range(2):
                meeting = Meeting(files, creator, self.clock)
                self.assertTrue(meeting.works())
                self.assertEqual(meeting.server.certificate, client.certificatePEM)
                creator.keepSession()
                self.assertIsNotNone(creator.session)

    def test_notAsked(self) -> None:
        """Without an authority a client's certificate is not asked for."""
        meeting = self.meet(self.files(), self.clients.issue("backend"))
        self.assertTrue(meeting.works())
        self.assertIsNone(meeting.server.certificate)

    def test_changed(self) -> None:
        """A changed authority counts for new connections."""
        files = self.files(self.authorityPath)
        old, others = self.clients.issue("backend"), makeAuthority("Others")
        put(self.authorityPath, others.certificatePEM)
        self.clock.advance(1)
        self.assertTrue(self.meet(files, others.issue("backend")).works())
        self.assertTurnedAway(self.meet(files, old), "certificate verify failed")


class ChangeTests(Files):
    """Changed files are used without a restart."""

    def setUp(self) -> None:
        super().setUp()
        self.certificates = self.files()
        self.renewed = self.authority.issue(NAME)

    def assertServes(self, credential: Credential) -> None:
        """Assert which certificate a new client is shown."""
        self.assertEqual(self.meet(self.certificates).client.certificate, credential.certificatePEM)

    def test_seenAfterASecond(self) -> None:
        """The files are looked at when a connection comes, once a second at most."""
        self.replace(self.renewed)
        self.clock.advance(0.75)
        self.assertServes(self.credential)
        self.assertEqual(self.logged(), [])
        self.clock.advance(0.25)
        self.assertServes(self.renewed)
        self.assertEqual(self.logged(), [("info", f"certificate read again: {self.certificatePath}")])

    def test_lookedAtOnceASecond(self) -> None:
        """Also after a look that found nothing the next comes a second later."""
        self.clock.advance(1)
        self.assertServes(self.credential)
        self.replace(self.renewed)
        self.clock.advance(0.75)
        self.assertServes(self.credential)
        self.clock.advance(0.25)
        self.assertServes(self.renewed)

    def test_refresh(self) -> None:
        """Whoever asks for it has the files looked at now."""
        self.replace(self.renewed)
        self.certificates.refresh()
        self.assertServes(self.renewed)

    def test_modeChanged(self) -> None:
        """Files that become readable by a change of their mode alone are tried again."""
        self.certificates.refresh()
        before = self.certificates.serverConnectionForTLS(cast(Any, None)).get_context()
        os.chmod(self.keyPath, 0o640)
        self.certificates.refresh()
        self.assertIsNot(self.certificates.serverConnectionForTLS(cast(Any, None)).get_context(), before)

    def test_readAnyway(self) -> None:
        """Whoever asks for it has the files read even when they seem the same."""
        before = self.certificates.serverConnectionForTLS(cast(Any, None)).get_context()
        self.certificates.refresh()
        self.assertIs(self.certificates.serverConnectionForTLS(cast(Any, None)).get_context(), before)
        self.certificates.refresh(always=True)
        self.assertIsNot(self.certificates.serverConnectionForTLS(cast(Any, None)).get_context(), before)

    def test_nothingChanged(self) -> None:
        """Files that are as they were are not read again."""
        for _ in range(3):
            self.certificates.refresh()
        self.assertEqual(self.logged(), [])

    def test_establishedConnections(self) -> None:
        """Connections that stand go on."""
        meeting = self.meet(self.certificates)
        self.replace(self.renewed)
        self.certificates.refresh()
        self.assertTrue(meeting.works())
        self.assertEqual(meeting.client.certificate, self.credential.certificatePEM)

    def test_halfReplaced(self) -> None:
        """While only one file is replaced the old pair stays, which is logged once; then the new one is used."""
        for first, pem, second, rest in (
            (self.certificatePath, self.renewed.certificatePEM, self.keyPath, self.renewed.keyPEM),
            (self.keyPath, self.renewed.keyPEM, self.certificatePath, self.renewed.certificatePEM),
        ):
            self.replace(self.credential)
            self.certificates.refresh()
            self.logged()
            put(first, pem)
            for _ in range(3):
                self.clock.advance(1)
                self.assertServes(self.credential)
            [(level, text)] = self.logged()
            self.assertEqual(level, "error")
            self.assertIn(f"the old one stays: {self.keyPath}: ", text)
            put(second, rest)
            self.clock.advance(1)
            self.assertServes(self.renewed)
            self.assertEqual([level for level, _ in self.logged()], ["info"])

    def test_unusable(self) -> None:
        """Each change to something unusable, or to nothing, is logged once, names the file, and leaves the old pair."""
        damages: list[tuple[str, Callable[[str], None]]] = [
            (self.certificatePath, lambda path: put(path, b"")),
            (self.certificatePath, lambda path: put(path, self.renewed.certificatePEM[:200])),
            (self.keyPath, lambda path: put(path, b"")),
            (self.keyPath, os.remove),
            (self.certificatePath, os.remove),
        ]
        for path, damage in damages:
            self.replace(self.credential)
            self.certificates.refresh()
            self.logged()
            damage(path)
            for _ in range(3):
                self.clock.advance(1)
                self.assertServes(self.credential)
            [(level, text)] = self.logged()
            self.assertEqual(level, "error")
            self.assertIn(f": {path}: ", text)

    def test_recovery(self) -> None:
        """After unusable files, those that were there before are as good as new ones."""
        os.remove(self.certificatePath)
        self.certificates.refresh()
        self.replace(self.renewed)
        self.clock.advance(1)
        self.assertServes(self.renewed)
        self.assertEqual([level for level, _ in self.logged()], ["error", "info"])

    def test_writtenInPlace(self) -> None:
        """Files that are written over, rather than replaced, are seen to have changed, and so are symbolic links."""
        for path, pem in ((self.certificatePath, self.renewed.certificatePEM), (self.keyPath, self.renewed.keyPEM)):
            with open(path, "wb") as f:
                f.write(pem)
            os.utime(path, (1, 1))
        self.clock.advance(1)
        self.assertServes(self.renewed)
        for path, pem in (
            (self.certificatePath, self.credential.certificatePEM),
            (self.keyPath, self.credential.keyPEM),
        ):
            put(f"{path}.2", pem)
            os.remove(path)
            os.symlink(os.path.abspath(f"{path}.2"), path)
        self.clock.advance(1)
        self.assertServes(self.credential)


class StartTests(Files):
    """Files that cannot be used are refused at the start, with one line that names the file."""

    def assertUnusable(self, path: str, why: str, authority: str | None = None) -> None:
        """Assert that the start fails because of this file."""
        error = self.assertRaises(CertificateError, self.files, authority)
        self.assertTrue(str(error).startswith(f"{path}: "), str(error))
        self.assertIn(why, str(error))
        self.assertNotIn("\n", str(error))
        self.assertEqual(self.logged(), [])

    def test_missing(self) -> None:
        """A missing file."""
        authority = os.path.join(self.directory, "missing.pem")
        self.assertUnusable(authority, "No such file", authority)
        os.remove(self.keyPath)
        self.assertUnusable(self.keyPath, "No such file")
        os.remove(self.certificatePath)
        self.assertUnusable(self.certificatePath, "No such file")

    def test_directory(self) -> None:
        """A directory."""
        self.assertUnusable(self.directory, "Is a directory", self.directory)
        self.keyPath = self.directory
        self.assertUnusable(self.directory, "Is a directory")

    def test_notPEM(self) -> None:
        """A file without PEM in it, or with the wrong kind."""
        for content in (b"", b"\x00\xff", b"secret words", self.credential.keyPEM):
            path = self.path("wrong.pem", content)
            self.assertUnusable(path, "not CA certificates in PEM", path)
            certificatePath, self.certificatePath = self.certificatePath, path
            self.assertUnusable(path, "not certificates in PEM")
            self.certificatePath = certificatePath
        for content in (b"", b"\x00\xff", b"secret words", self.credential.certificatePEM):
            self.keyPath = self.path("wrong.pem", content)
            self.assertUnusable(self.keyPath, "not a private key in PEM")

    def test_otherKey(self) -> None:
        """A key that is not the certificate's, of the same kind or another."""
        others = self.authority.issue(NAME).keyPEM, encoded(rsa.generate_private_key(65537, 2048))
        for pem in others:
            put(self.keyPath, pem)
            self.assertUnusable(self.keyPath, f"not the key of {self.certificatePath} (")

    def test_passphrase(self) -> None:
        """A key with a passphrase, which nobody is asked for."""
        key = serialization.load_pem_private_key(self.credential.keyPEM, None)
        put(self.keyPath, encoded(key, serialization.BestAvailableEncryption(b"secret")))
        self.assertUnusable(self.keyPath, "not a private key in PEM without a passphrase")

    def test_formsOfKeys(self) -> None:
        """Keys in the forms that tools write are taken: PKCS#8, traditional, after parameters, in one file with the chain."""
        key = serialization.load_pem_private_key(self.credential.keyPEM, None)
        traditional = encoded(key, form=serialization.PrivateFormat.TraditionalOpenSSL)
        # The object identifier of P-256, as openssl ecparam -genkey writes it.
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        for pem in (
            self.credential.keyPEM,
            traditional,
            parameters + traditional,
            self.credential.certificatePEM + self.credential.keyPEM,
        ):
            put(self.keyPath, pem)
            self.assertTrue(self.meet(self.files()).works())


def encoded(
    key: Any,
    encryption: serialization.KeySerializationEncryption | None = None,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> bytes:
    """A key in PEM."""
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, form, encryption or serialization.NoEncryption())
