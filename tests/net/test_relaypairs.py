"""
Tests for L{gateway.net.relay} between every two kinds of transport that we have: it promises the same for all.

There is one class for each pair, such as C{TCPToTLSTests}.
"""

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from gateway.net.relay import canHalfClose
from tests.net.muxside import YAMUX
from tests.net.relaypromises import RelayPromises
from tests.net.sides import TCP, TLS, UNIX, Crossing
from tests.net.stdioside import STDIO
from tests.net.websocketside import WEBSOCKET, WEBSOCKET_CLIENT

KINDS = {
    "TCP": TCP,
    "TLS": TLS,
    "WebSocket": WEBSOCKET,
    "WebSocketClient": WEBSOCKET_CLIENT,
    "Yamux": YAMUX,
    "UNIX": UNIX,
    "StandardIO": STDIO,
}
"""A WebSocket is there twice, as its two ends do different things."""

for (_nearName, _near), (_farName, _far) in product(KINDS.items(), repeat=2):
    _name = f"{_nearName}To{_farName}Tests"
    globals()[_name] = type(
        _name,
        (RelayPromises, SynchronousTestCase),
        {
            "__doc__": f"{_nearName} on the near side, {_farName} on the far side.",
            "__module__": __name__,
            "nearKind": _near,
            "farKind": _far,
        },
    )


class HalfCloseTests(SynchronousTestCase):
    """L{canHalfClose} asks for what a transport really does."""

    def test_kinds(self) -> None:
        """It is true of the transports of which one direction can end alone; TLS only claims it."""
        for kind in KINDS.values():
            with self.subTest(kind.name):
                self.assertEqual(canHalfClose(Crossing(kind, TCP).near.ours), kind.halfCloses)
