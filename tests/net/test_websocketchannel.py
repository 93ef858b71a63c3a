"""
Tests for L{gateway.net.websocketchannel}: the frames that it writes, and what it needs of autobahn. What a channel does is
tested where one is opened, by a server (L{tests.net.test_websocket}, L{tests.net.test_websocketframes}) and by a client
(L{tests.net.test_websocketclient}).
"""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketAdapterProtocol
from autobahn.websocket.protocol import WebSocketClientProtocol, WebSocketProtocol, WebSocketServerProtocol
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.websocketchannel import WebSocketChannel, maskedFrame, plainFrame
from tests.net.sides import pattern
from tests.net.websocketconnection import Connection, close, frame
from tests.websocketclient import BINARY, TEXT


class FrameTests(SynchronousTestCase):
    """A frame is its header and its payload."""

    headers = (
        (0, "8200", "8280"),
        (1, "8201", "8281"),
        (125, "827d", "82fd"),
        (126, "827e007e", "82fe007e"),
        (0xFFFF, "827effff", "82feffff"),
        (0x10000, "827f0000000000010000", "82ff0000000000010000"),
    )

    def test_masks(self) -> None:
        """Frames of any size are read as they were written, however they are cut."""
        for size in (1, 3, 15, 16, 17, 1023, 1024, 1025):
            for chunkSize in (None, 7):
                connection = Connection.open(streaming=True)
                data = frame(BINARY, pattern(size)) + frame(BINARY, b"next")
                for at in range(0, len(data), chunkSize or len(data)):
                    connection.send(data[at : at + (chunkSize or len(data))])
                self.assertEqual(connection.receiver.events, [("data", pattern(size) + b"next")])

    def test_plain(self) -> None:
        """A server's frame has the shortest form of its length, and the payload as it is, not a copy."""
        for size, expected, _ in self.headers:
            payload = pattern(size)
            header, sent = plainFrame(0x82, payload)
            self.assertEqual(bytes(header).hex(), expected)
            self.assertIs(sent, payload)

    def test_masked(self) -> None:
        """A client's frame has its key between the two, and its payload is masked by it, whatever kind of bytes it is."""
        for size, _, expected in self.headers:
            for payload in (pattern(size), memoryview(b"x" + pattern(size))[1:]):
                header, sent = maskedFrame(0x82, payload)
                self.assertEqual(bytes(header[:-4]).hex(), expected)
                key = bytes(header[-4:])
                unmasked = bytes(byte ^ key[at & 3] for at, byte in enumerate(sent))
                self.assertEqual(unmasked, bytes(payload))

    def test_freshKeys(self) -> None:
        """No two frames have the same key, but by chance."""
        self.assertGreater(len({bytes(maskedFrame(0x82, b"x")[0]) for _ in range(100)}), 90)


class AutobahnTests(SynchronousTestCase):
    """
    What we rely on and autobahn does not promise. When one of these fails after an upgrade of autobahn, read
    C{gateway/net/websocketchannel.py} beside its new C{protocol.py}.
    """

    methods = (
        "_connectionMade",
        "consumeData",
        "dropConnection",
        "onCloseFrame",
        "onFrameData",
        "onMessageBegin",
        "onMessageEnd",
        "onMessageFrameBegin",
        "onMessageFrameData",
        "onMessageFrameEnd",
        "processControlFrame",
        "processData",
        "processHandshake",
        "sendCloseFrame",
        "sendFrame",
        "sendPing",
        "sendPong",
    )

    def test_methods(self) -> None:
        """The methods that we override or call are there."""
        missing = [name for name in self.methods if not callable(getattr(WebSocketProtocol, name, None))]
        self.assertEqual(missing, [], "autobahn's WebSocketProtocol has changed")
        for name in ("_closeConnection", "_onMessage", "_onPing", "_onPong"):
            self.assertTrue(callable(getattr(WebSocketAdapterProtocol, name)), "autobahn's adapter has changed")

    def test_options(self) -> None:
        """Every option of autobahn's is an attribute of our class, so that none is left to its defaults."""
        ours = Connection().transport.protocol
        options = {*WebSocketServerProtocol.CONFIG_ATTRS, *WebSocketClientProtocol.CONFIG_ATTRS}
        self.assertGreater(len(options), 20, "autobahn's options are kept elsewhere now")
        # We ping ourselves, and read and write the opening handshake ourselves.
        unused = {"autoPingSize", "allowedOrigins", "allowedOriginsPatterns", "allowNullOrigin", "version", "versions"}
        unused |= {"maxConnections", "trustXForwardedFor", "serveFlashSocketPolicy", "flashSocketPolicy", "webStatus"}
        unused |= {"perMessageCompressionAccept", "perMessageCompressionOffers"}
        unset = {name for name in options - unused if name not in vars(WebSocketChannel) and name not in vars(ours)}
        self.assertEqual(unset, set(), "autobahn has options that gateway/net/websocketchannel.py does not set")

    def test_state(self) -> None:
        """The attributes that we read and write are the ones that autobahn uses."""
        connection = Connection.open()
        protocol: Any = connection.transport.protocol
        for name in ("data", "current_frame", "inside_message", "failedByMe", "wasClean", "localCloseReason"):
            self.assertTrue(hasattr(protocol, name), f"autobahn's {name} is gone")
        self.assertEqual(protocol.state, protocol.STATE_OPEN)
        self.assertEqual(len({protocol.STATE_CONNECTING, protocol.STATE_OPEN, protocol.STATE_CLOSED}), 3)
        connection.send(frame(TEXT, b"abc", final=False)[:-1])
        self.assertEqual((protocol.current_frame.opcode, protocol.current_frame.length), (TEXT, 3))
        self.assertTrue(protocol.inside_message, "autobahn keeps elsewhere whether a message is under way")
        connection.send(close(1000))
