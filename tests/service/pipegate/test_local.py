"""
Tests for the application that a client of PipeGate's publishes, where it speaks TLS.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory

from gateway.net.dial import DialFailed
from gateway.net.tlsclient import ClientTrust
from gateway.service.pipegate.local import localEndpoint, parseLocalURL
from tests.certificates import makeAuthority
from tests.net.sides import Peer
from tests.service.agent.test_tlsorigins import TLSOrigins


class LocalTLSTests(TLSOrigins):
    """
    L{localEndpoint}, for an URL with C{https}.
    """

    def dial(self) -> Peer:
        """Connect."""
        peer, local = Peer(), parseLocalURL("https://127.0.0.1:8443")
        endpoint = localEndpoint(self.reactor, local, ClientTrust(self.authorities))
        self.done = endpoint.connect(Factory.forProtocol(lambda: peer))
        return peer

    def test_notBelieved(self) -> None:
        """An application that has not proved itself cannot be reached, and it is said why."""
        self.dial()
        self.accept(makeAuthority("Others").issue("127.0.0.1"))
        problem = self.failureResultOf(self.done, DialFailed).value
        self.assertIn("from an unknown authority: CN=Others.", str(problem))

    def test_noGoodbye(self) -> None:
        """One that hangs up without a word of TLS has ended, and was not cut off."""
        peer = self.dial()
        self.accept(None, b"http/1.1")
        self.assertIs(self.successResultOf(self.done), peer)
        self.origin.transport.transport.loseConnection()
        self.settle()
        assert peer.reason is not None
        self.assertIsNotNone(peer.reason.check(ConnectionDone))
