"""Tests for a relay on WebSockets that somebody opens or that we open: it promises what it does on any transport."""

from twisted.trial.unittest import SynchronousTestCase

from tests.net.relaypromises import RelayPromises
from tests.net.sides import TCP, TLS
from tests.net.websocketside import WEBSOCKET, WEBSOCKET_CLIENT


class NearTests(RelayPromises, SynchronousTestCase):
    """A WebSocket on the near side."""

    nearKind, farKind = WEBSOCKET, TCP


class NearToTLSTests(RelayPromises, SynchronousTestCase):
    """A WebSocket on the near side, TLS on the far side."""

    nearKind, farKind = WEBSOCKET, TLS


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
