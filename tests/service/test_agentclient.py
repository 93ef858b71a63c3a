"""
Tests for an agent's attachment to its gateway: both ends are real, the network and the clock are not.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.routes import Place
from gateway.service.agentclient import Phase
from gateway.wire.agentcontrol import Service
from tests.service.tunnelfixture import Tunnel

WEB = Service(key="web", kind="http", hostnames=("app.example.com",))
SSH = Service(key="ssh", kind="tcp", port=2222)
ANY = Service(key="any", kind="tcp")


class AttachingTests(SynchronousTestCase):
    """
    L{AgentClient} attaches, and serves.
    """

    def setUp(self) -> None:
        self.tunnel = Tunnel()

    def test_serves(self) -> None:
        """What is offered is served as soon as the carrier is there."""
        client = self.tunnel.attached("box", WEB, SSH)
        self.assertIs(client.phase, Phase.ATTACHED)
        self.assertEqual(set(self.tunnel.registry.routes), {Place("host", "app.example.com"), Place("tcp", 2222)})
        self.assertEqual(client.statuses["ssh"].address, "tcp://gw.example:2222")

    def test_visit(self) -> None:
        """A visitor's bytes come to the origin, and the origin's to the visitor."""
        self.tunnel.attached("box", WEB)
        visitor, dialled = self.tunnel.visit("app.example.com")
        self.assertNoResult(dialled)
        origin = self.tunnel.originAccepts()
        self.successResultOf(dialled)
        visitor.transport.write(b"hello")
        self.tunnel.pump()
        self.assertEqual(origin.received, b"hello")
        origin.transport.write(b"world")
        self.tunnel.pump()
        self.assertEqual(visitor.received, b"world")
