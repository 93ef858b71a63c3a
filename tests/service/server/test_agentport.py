"""
Tests for the TLS port for agents alone.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from twisted.internet.interfaces import IProtocol
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.limits import Ticket
from gateway.service.server.agentport import AgentPort
from gateway.service.server.attached import Visitor
from gateway.service.server.certificates import Certificates
from tests.certificates import makeAuthority
from tests.net.sides import Peer
from tests.service.server.doorsfixture import OWN, Doors, TLSPeer, certificateFiles


class AgentPortTests(SynchronousTestCase):
    """
    L{AgentPort}.
    """

    def setUp(self) -> None:
        self.doors = Doors()
        self.proved: list[str | None] = []
        arrive = self.doors.door.arrive

        def record(host: str, carrier: str, *, certificate: str | None = None, ticket: Ticket | None = None) -> object:
            self.proved.append(certificate)
            return arrive(host, carrier, certificate=certificate, ticket=ticket)

        self.doors.door.arrive = record  # type: ignore[method-assign, assignment]

    def come(self, *protocols: bytes, **options: object) -> TLSPeer:
        """A carrier comes."""
        return self.doors.comeTLS(OWN, *protocols, arrive=self.doors.agentPort.arrive, **options)  # type: ignore[arg-type]

    def test_carrier(self) -> None:
        """Who agrees on our protocol is an agent, without a certificate of its own."""
        agent = self.come(b"gateway/1")
        self.assertEqual(agent.transport.negotiatedProtocol, b"gateway/1")
        self.assertEqual(agent.serverName, OWN)
        self.assertEqual(self.proved, [None])

    def test_certificate(self) -> None:
        """The fingerprint of the client certificate is what is proved, if its authority is believed."""
        authority = makeAuthority("Agents")
        path = authority.write(str(Path(tempfile.mkdtemp()) / "ca.pem"))
        credential = authority.issue("box")
        certificates = Certificates(certificateFiles(), clock=self.doors.clock, clientAuthority=path)
        self.doors.agentPort = AgentPort(self.doors.clock, self.doors.door, certificates)
        self.come(b"gateway/1", credential=credential.write(self.mktemp()))
        der = load_pem_x509_certificate(credential.certificatePEM).public_bytes(Encoding.DER)
        self.assertEqual(self.proved, [hashlib.sha256(der).hexdigest()])
        stranger = makeAuthority("Strangers").issue("box").write(self.mktemp())
        agent = self.come(b"gateway/1", credential=stranger)
        assert agent.reason is not None
        self.assertIsInstance(agent.reason.value, SSL.Error)
        self.come(b"gateway/1")
        self.assertEqual(len(self.proved), 2)

    def test_otherDialect(self) -> None:
        """Who agrees on nothing speaks another dialect, where there is one, and is cut off where there is none."""
        self.assertIsNotNone(self.come().reason)
        peer, hosts = Peer(), []

        def other(host: str, ticket: Ticket) -> IProtocol:
            hosts.append(host)
            return peer

        self.doors.agentPort.otherDialect = other
        agent = self.come()
        agent.transport.write(b"hello")
        self.doors.pump()
        self.assertEqual(peer.received, b"hello")
        self.assertEqual(hosts, ["127.0.0.1"])

    def test_wrongProtocol(self) -> None:
        """Who offers something else only is told so."""
        agent = self.come(b"h2")
        assert agent.reason is not None
        self.assertIn("no application protocol", str(agent.reason.value))

    def test_slow(self) -> None:
        """A handshake that does not come ends the carrier, which is not counted any more."""
        agent = self.doors.come(self.doors.agentPort.arrive)
        self.doors.wait(9.75)
        self.assertIsNone(agent.reason)
        self.doors.wait(0.5)
        self.assertIsNotNone(agent.reason)

    def test_full(self) -> None:
        """Where no carrier is taken none gets as far as a handshake."""
        self.doors.door.draining = True
        self.assertIsNone(self.doors.agentPort.arrive(Visitor(None, None)))
