"""
The interfaces between the transports of this floor and those who use them.

Everything that moves bytes here is a plain Twisted transport or protocol; what Twisted has no interface for
is a WebSocket, whose connection carries messages first and a byte stream afterwards.
"""

__all__ = [
    "IEarlyData",
    "IEarlyEndpoint",
    "IStreamTransport",
    "IWebSocketChannel",
    "IWebSocketGate",
    "IWebSocketReceiver",
]

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from gateway.wire.http1 import RequestHead, Response


class IStreamTransport(ITransport, IConsumer, IPushProducer, Interface):
    """
    What a relay needs of a transport, and all of Twisted's stream transports have. One that can end its writing alone
    provides C{IHalfCloseableDescriptor} besides.
    """

    def abortConnection() -> None:
        """Cut the connection off at once; the peer can tell that it was."""

    def loseWriteConnection() -> None:
        """End writing after what was written; only where C{IHalfCloseableDescriptor} is provided."""


class IEarlyData(Interface):
    """What a visitor sends before it is known whether anybody is there to read it."""

    size = Attribute("How many bytes came so far.")

    def follow(write: Callable[[bytes], object]) -> None:
        """
        Write what came so far, and what comes from now on. Whoever follows once has to see to all of it; a second call
        begins again, for another attempt.
        """


class IEarlyEndpoint(IStreamClientEndpoint, Interface):
    """
    An endpoint that can send a visitor's first bytes while it still waits to hear whether there is a far side: that
    saves a round trip, and the bytes are there to be sent again when another attempt is made.
    """

    def connectEarly(factory: IProtocolFactory, early: IEarlyData) -> Deferred[IProtocol]:
        """
        As C{connect}; and what is early, up to the moment when the result is there, was written by then.
        """


class IWebSocketReceiver(Interface):
    """Who is told what happens on an L{IWebSocketChannel}."""

    def opened(channel: "IWebSocketChannel") -> None:
        """The opening handshake is done. Called once, before anything else but a client's L{lost}."""

    def gotMessage(payload: bytes, isBinary: bool) -> None:
        """
        A whole message came.

        @param payload: at most as long as the channel's limit; valid UTF-8 when it is text.
        """

    def lost(reason: Failure) -> None:
        """
        Nothing will come any more, and nothing can be sent. Called once, last. The connection itself may stand a little
        longer, until the peer has taken what was written.

        @param reason: C{ConnectionDone} when the peer has made its part of the closing handshake, so that all it sent
            has come, and for no other reason. Of a client's receiver that was not told C{opened}, a
            L{gateway.net.dial.DialFailed}.
        """


class IWebSocketChannel(IStreamTransport):
    """
    An open WebSocket. As a transport, what is written goes out in binary frames, C{loseConnection} makes
    the closing handshake after all that was written, and there is no half-close (C{IHalfCloseableDescriptor} is not
    provided). C{write} also takes a C{memoryview}, and keeps none beyond the call.
    """

    sentData = Attribute("Whether any binary frame was sent.")
    subprotocol = Attribute("The one agreed upon, or C{None}. A server's gate sets it when it accepts.")
    closeCode = Attribute("With which the peer closed (RFC 6455, section 7.4), 1000 if it gave none; C{None} before.")

    def sendText(text: str) -> None:
        """Send a text message; nothing happens once the channel is closing."""

    def stream(gotData: Callable[[bytes], None]) -> None:
        """
        From here on hand binary payload over piece by piece as it arrives, whatever the frames' size, instead of
        whole messages. Text stays with the receiver.
        """

    def limitMessages(size: int) -> None:
        """
        Take longer messages from here on, or only shorter ones, than the settings say.

        @param size: bytes of the longest outside stream mode; a longer one ends the connection with 1009.
        """

    def ping(answered: Callable[[], None]) -> None:
        """
        Send a ping.

        @param answered: called when the pong comes, which proves that the peer's WebSocket stack has taken
            everything that was written before; never called when the channel is lost first.
        """

    def close(code: int, reason: str = "") -> None:
        """
        Make the closing handshake after what was written; a peer that does not take part is cut off.

        @param code: a close code (RFC 6455, section 7.4).
        @param reason: at most 123 bytes of it are sent.
        """


class IWebSocketGate(Interface):
    """Decides about one HTTP connection that may become a WebSocket."""

    def accept(head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """
        The client wants to upgrade.

        @param channel: not open yet: nothing can be sent before L{IWebSocketReceiver.opened}.
        @return: whom to tell about the channel.
        @raise gateway.net.websocket.Denied: with the answer to give instead.
        @raise gateway.wire.upgrade.UpgradeRefused: with the answer to give instead; L{failed} is told too.
        """

    def plain(head: RequestHead) -> Response:
        """The client wants something else: answer it."""

    def failed(reason: Failure) -> None:
        """The connection ended before it asked for anything, or without a proper request."""
