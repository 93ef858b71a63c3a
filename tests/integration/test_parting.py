"""
Tests for L{gateway.net.lingering.Parting} with a real socket, as only a kernel says what a peer has taken.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.net.httpsettings import HttpSettings
from gateway.net.lingering import Parting
from tests.processes import HERE, SECONDS


class _Transport:
    """Has a socket, and notes when it is aborted."""

    aborted = False

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def abortConnection(self) -> None:
        self.aborted = True


class PartingTests(SynchronousTestCase):
    """
    When a visitor to whom all was said is given up.
    """

    def setUp(self) -> None:
        with socket.create_server((HERE, 0)) as port:
            self.visitor = socket.create_connection(port.getsockname(), SECONDS)
            self.connection, _ = port.accept()
        self.addCleanup(self.visitor.close)
        self.addCleanup(self.connection.close)
        self.connection.setblocking(False)
        self.transport = _Transport(self.connection)
        transport: Any = self.transport
        self.parting = Parting(transport, HttpSettings(takeTimeout=60.0, takeLimit=100.0, lingerTimeout=2.0))

    def isOver(self, now: float) -> bool:
        """Whether it is, though the transport has sent all."""
        isOver = self.parting.check(now, isSent=True)
        self.assertEqual(self.transport.aborted, isOver)
        return isOver

    def fill(self) -> int:
        """Write as much as the kernel takes, and end."""
        count = 0
        with self.assertRaises(BlockingIOError):
            while True:
                count += self.connection.send(bytes(65536))
        self.connection.shutdown(socket.SHUT_WR)
        return count

    def take(self, count: int) -> None:
        """The visitor reads so much."""
        while count:
            count -= len(self.visitor.recv(min(count, 65536)))

    def test_slow(self) -> None:
        """Who takes what the kernel has at a pace of their own has the time for that, and then some to hang up."""
        count = self.fill()
        self.assertFalse(self.isOver(0.0))
        self.assertFalse(self.isOver(59.0))
        self.take(count)
        self.assertEqual(self.visitor.recv(1), b"")
        self.visitor.shutdown(socket.SHUT_WR)  # which acknowledges all, and at once
        self.assertFalse(self.isOver(61.0))
        self.assertFalse(self.isOver(62.5))
        self.assertTrue(self.isOver(63.5))

    def test_stalled(self) -> None:
        """Who takes nothing is given up."""
        self.fill()
        self.assertFalse(self.isOver(0.0))
        self.assertFalse(self.isOver(60.0))
        self.assertTrue(self.isOver(61.0))
