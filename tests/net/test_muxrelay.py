"""Tests for a relay on streams of L{gateway.net.mux}: it promises what it does on any transport."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.net.relay import canHalfClose
from tests.net.muxside import YAMUX
from tests.net.relaypromises import RelayPromises
from tests.net.sides import TCP, TLS, Crossing
from tests.net.websocketside import WEBSOCKET


class YamuxNearTests(RelayPromises, SynchronousTestCase):
    """A stream on the near side."""

    nearKind, farKind = YAMUX, TCP


class YamuxFarTests(RelayPromises, SynchronousTestCase):
    """A stream on the far side."""

    nearKind, farKind = TCP, YAMUX


class YamuxBothTests(RelayPromises, SynchronousTestCase):
    """Streams on both sides."""

    nearKind = farKind = YAMUX


class YamuxFromTLSTests(RelayPromises, SynchronousTestCase):
    """A stream on the far side of TLS."""

    nearKind, farKind = TLS, YAMUX


class YamuxFromWebSocketTests(RelayPromises, SynchronousTestCase):
    """A stream on the far side of a WebSocket."""

    nearKind, farKind = WEBSOCKET, YAMUX


class HalfCloseTests(SynchronousTestCase):
    """L{canHalfClose} asks for what a transport really does."""

    def test_streamsDo(self) -> None:
        """A stream half-closes."""
        self.assertTrue(canHalfClose(Crossing(YAMUX, TCP).near.ours))
