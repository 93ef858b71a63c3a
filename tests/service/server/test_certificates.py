"""
Tests for which certificate is shown for which name.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.tls import CertificateError
from gateway.service.server.certificates import HTTP, RAW, Certificates
from gateway.service.server.settings import CertificateFilesPaths
from gateway.testing import flowPair
from tests.certificates import makeAuthority
from tests.net.sides import Peer
from tests.service.server.doorsfixture import TLSClient, TLSPeer, wrapped


class CertificatesTests(SynchronousTestCase):
    """
    L{Certificates}.
    """

    def setUp(self) -> None:
        self.authority = makeAuthority("Names")
        self.entries = [self.issue("gw.example"), self.issue("app.example.com"), self.issue("*.example.com")]
        self.certificates = Certificates(self.entries, clock=Clock())

    def issue(self, *names: str) -> CertificateFilesPaths:
        """A certificate."""
        return CertificateFilesPaths(names, *self.authority.issue(*names).write(self.mktemp()))

    def shown(self, name: str, certificates: Certificates | None = None) -> str | None:
        """The name in the certificate that is shown for a name."""
        tls = (certificates or self.certificates).find(name, RAW)
        if tls is None:
            return None
        visitor = TLSPeer()
        flowPair(wrapped(visitor, TLSClient(None), Clock()), tls.protocol(tls, Peer())).pump()
        return visitor.serverName

    def test_names(self) -> None:
        """A name's own certificate comes before a wildcard's, which is for one label."""
        for name, expected in (
            ("app.example.com", "app.example.com"),
            ("other.example.com", "*.example.com"),
            ("gw.example", "gw.example"),
            ("a.b.example.com", None),
            ("example.com", None),
            ("gw.example.net", None),
        ):
            self.assertEqual(self.shown(name), expected, name)

    def test_noName(self) -> None:
        """Who names nobody is shown the first."""
        self.assertEqual(self.shown(""), "gw.example")
        self.assertIsNone(Certificates([], clock=Clock()).find("", RAW))

    def test_kept(self) -> None:
        """A context is made once for each use."""
        self.assertIs(self.certificates.find("app.example.com", RAW), self.certificates.find("app.example.com", RAW))
        self.assertIsNot(
            self.certificates.find("app.example.com", RAW), self.certificates.find("app.example.com", HTTP)
        )

    def test_missing(self) -> None:
        """Files that cannot be used are found at once."""
        entry = CertificateFilesPaths(("x.example",), "/nonexistent", "/nonexistent")
        self.assertRaises(CertificateError, Certificates, [entry], clock=Clock())

    def test_replace(self) -> None:
        """Others are used from now on, or none of them when one is bad."""
        bad = CertificateFilesPaths(("x.example",), "/nonexistent", "/nonexistent")
        self.assertRaises(CertificateError, self.certificates.replace, [self.issue("new.example"), bad])
        self.assertEqual(self.shown("app.example.com"), "app.example.com")
        self.certificates.replace([self.issue("new.example")])
        self.assertIsNone(self.shown("app.example.com"))
        self.assertEqual(self.shown("new.example"), "new.example")

    def test_lost(self) -> None:
        """When files are gone that were good at the start, the log says so, and there is no certificate."""
        Path(self.entries[0].certificate).unlink()
        with capturedLogs() as events:
            self.assertIsNone(self.certificates.find("gw.example", HTTP))
        self.assertEqual([each["event"] for each in events], ["gateway.certificate-lost"])
