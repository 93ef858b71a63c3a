"""
Tests for waiting for a TLS handshake; the real thing is tested with the doors that use it.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.handshake import Handshake
from gateway.net.peek import PeekFailed
from gateway.testing import TLSFlowTransport
from tests.net.sides import Peer


class HandshakeTests(SynchronousTestCase):
    """
    L{Handshake}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.chosen: Peer | None = Peer()
        self.problems: list[Exception] = []
        self.handshake = Handshake(self.decide, self.problems.append, clock=self.clock, timeout=10.0)
        self.transport = TLSFlowTransport(self.handshake)

    def decide(self, transport: Any) -> IProtocol | None:
        """After the handshake."""
        self.assertIs(transport, self.transport)
        return self.chosen

    def test_becomes(self) -> None:
        """After the handshake it is what was decided on, to the end."""
        self.handshake.handshakeCompleted()
        assert self.chosen is not None
        self.transport.deliver(b"hello")
        self.assertEqual(self.chosen.received, b"hello")
        self.transport.deliverReset()
        self.assertIsNotNone(self.chosen.reason)
        self.assertEqual((self.problems, self.clock.getDelayedCalls()), ([], []))

    def test_refused(self) -> None:
        """Where nothing is decided on the connection is cut off."""
        self.chosen = None
        self.handshake.handshakeCompleted()
        self.assertTrue(self.transport.aborted)

    def test_late(self) -> None:
        """There are ten seconds, and what comes later is too late."""
        self.clock.advance(9.9)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.aborted)
        self.assertIsInstance(self.problems[0], PeekFailed)
        self.handshake.handshakeCompleted()
        self.transport.pump()
        assert self.chosen is not None
        self.assertIsNone(self.chosen.transport)
        self.assertEqual(len(self.problems), 1)

    def test_failed(self) -> None:
        """What is wrong with a handshake is told."""
        self.handshake.connectionLost(Failure(SSL.Error([("x", "y", "no shared cipher")])))
        self.assertIsInstance(self.problems[0], SSL.Error)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leaves(self) -> None:
        """Somebody who just leaves is told of as well."""
        self.handshake.connectionLost(Failure(ConnectionLost()))
        self.assertIsInstance(self.problems[0], ConnectionLost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_giveUp(self) -> None:
        """Who does not want to wait any longer is told no more."""
        self.handshake.giveUp()
        self.transport.pump()
        self.handshake.handshakeCompleted()
        self.assertTrue(self.transport.aborted)
        self.assertEqual((self.problems, self.clock.getDelayedCalls()), ([], []))

    def test_made(self) -> None:
        """What was decided on has its transport when it is told of, and there need not be a limit."""
        made: list[IProtocol] = []

        def gotProtocol(protocol: IProtocol) -> None:
            self.assertIs(self.chosen and self.chosen.transport, transport)
            made.append(protocol)

        handshake = Handshake(self.decide, self.problems.append, clock=self.clock, timeout=None, made=gotProtocol)
        self.clock.advance(10.0)
        self.transport = transport = TLSFlowTransport(handshake)
        self.assertEqual(len(self.clock.getDelayedCalls()), 0)
        handshake.handshakeCompleted()
        self.assertEqual(made, [self.chosen])
