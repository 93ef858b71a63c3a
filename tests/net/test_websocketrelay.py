"""
Tests for a relay on WebSockets that we open: it promises what it does on any transport. Those that are opened to us are in
L{tests.net.test_relaypairs}.
"""

from twisted.trial.unittest import SynchronousTestCase

from tests.net.relaypromises import RelayPromises
from tests.net.sides import TCP, TLS
from tests.net.websocketside import WEBSOCKET, WEBSOCKET_CLIENT


class FarTests(RelayPromises, SynchronousTestCase):
    """A WebSocket that we open on the far side."""

    nearKind, farKind = TCP, WEBSOCKET_CLIENT


class FarFromTLSTests(RelayPromises, SynchronousTestCase):
    """TLS on the near side, a WebSocket that we open on the far side."""

    nearKind, farKind = TLS, WEBSOCKET_CLIENT


class BothTests(RelayPromises, SynchronousTestCase):
    """A WebSocket on the near side, and one that we open on the far side."""

    nearKind, farKind = WEBSOCKET, WEBSOCKET_CLIENT


class BackwardsTests(RelayPromises, SynchronousTestCase):
    """One that we opened on the near side, and one that somebody opened on the far side."""

    nearKind, farKind = WEBSOCKET_CLIENT, WEBSOCKET
