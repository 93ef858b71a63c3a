"""
The limits of WebSockets, and who sees that they are kept once a WebSocket is open.

All channels of a factory share an L{OpenChannels}, whose one timer finds the dead among their peers; each channel has a
L{Pace}, which hears how fast its peer takes what is sent::

    channels = OpenChannels(reactor, WebSocketSettings(pingInterval=30), isServer=True)
"""

__all__ = ["ILimited", "OpenChannels", "Pace", "WebSocketSettings"]

from dataclasses import dataclass
from typing import cast

from twisted.internet.interfaces import IDelayedCall, IProducer, IPullProducer, IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import Interface, implementer


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """
    The limits of the WebSockets of one listener or client.

    @ivar handshakeTimeout: seconds from the first byte of the connection to the end of the opening handshake.
    @ivar pingInterval: seconds between pings; a peer from which nothing came in the interval after a ping is cut off,
        so a dead one is found within two, or three if it died in the middle of a backlog. Zero turns that off.
    @ivar closeTimeout: seconds that a peer has for its part of the closing handshake; as often as it goes on taking
        what was written before.
    @ivar closeLimit: seconds after which it is cut off all the same.
    @ivar maxMessage: bytes of the longest message outside stream mode; a longer one ends the connection with 1009.
    @ivar maxHead: bytes of the longest head of a request or of its answer.
    @ivar frameSize: bytes of payload in the largest frame that we send. Chromium re-orders frames of 256 KiB, so
        keep it at 64 KiB.
    """

    handshakeTimeout: float = 10.0
    pingInterval: float = 20.0
    closeTimeout: float = 10.0
    closeLimit: float = 900.0
    maxMessage: int = 16 * 1024
    maxHead: int = 16 * 1024
    frameSize: int = 64 * 1024


class ILimited(Interface):
    """What is asked of a channel here."""

    def pingOrCutOff() -> None:
        """An interval is over: send a ping, or cut off a peer that did not answer the last one."""

    def sendPong(payload: bytes) -> None:
        """Answer a ping."""


class OpenChannels:
    """
    The channels of one factory: what they have in common, and the one timer that pings those that are open.

    @param clock: for every deadline and for the pings.
    @ivar opening: those that are connected, and not open yet or never to be.
    """

    _log = Logger()
    proxy = None  # autobahn asks

    def __init__(self, clock: IReactorTime, settings: WebSocketSettings | None, *, isServer: bool) -> None:
        self.clock = clock
        self.settings = settings or WebSocketSettings()
        self.isServer = isServer  # autobahn asks
        self.opening: set[ILimited] = set()
        self._channels: set[ILimited] = set()
        self._pings = LoopingCall(self._pingAll)
        self._pings.clock = clock

    def remember(self, channel: ILimited) -> None:
        """A channel is open: look after it."""
        self.opening.discard(channel)
        self._channels.add(channel)
        if not self._pings.running and self.settings.pingInterval:
            self._pings.start(self.settings.pingInterval, now=False)

    def forget(self, channel: ILimited) -> None:
        """A channel is gone."""
        self.opening.discard(channel)
        self._channels.discard(channel)
        if not self._channels and self._pings.running:
            self._pings.stop()

    def _pingAll(self) -> None:
        for channel in tuple(self._channels):
            try:
                channel.pingOrCutOff()
            except Exception:  # one that fails may not keep the others from being pinged
                self._log.failure("a ping failed", event="gateway.defect")


@implementer(IPushProducer)
class Pace:
    """
    Hears from the transport how fast the peer takes what is sent, for the producer of the channel, if it has one, and
    for the channel itself: who floods it with pings and reads nothing would fill its memory with pongs.

    @ivar channel: C{None} once it is gone.
    @ivar owed: the payload of a ping that is not answered yet.
    """

    __slots__ = ("_isStreaming", "_producer", "_pull", "channel", "clock", "owed", "paused")

    def __init__(self, channel: ILimited, clock: IReactorTime) -> None:
        self.channel: ILimited | None = channel
        self.clock = clock
        self.owed: bytes | None = None
        self.paused = False
        self._producer: IProducer | None = None
        self._isStreaming = True
        self._pull: IDelayedCall | None = None

    def register(self, producer: IProducer, isStreaming: bool) -> None:
        """
        @param isStreaming: whether it is an C{IPushProducer}. An C{IPullProducer} is asked once a turn of the reactor.
        """
        self._producer, self._isStreaming = producer, isStreaming
        if not self.paused:
            self._ask()
        elif isStreaming:
            cast(IPushProducer, producer).pauseProducing()

    def unregister(self) -> None:
        """There is no producer any more."""
        self._producer = None
        if self._pull is not None:
            self._pull.cancel()
            self._pull = None

    def closing(self) -> None:
        """Nothing more is sent: who would be asked for more is stopped. Who is not may leave when it sees fit."""
        if not self._isStreaming:
            self.stopProducing()
            self.unregister()

    def _ask(self) -> None:
        self._pull = None
        if self._producer is not None and not self._isStreaming and not self.paused:
            self._pull = self.clock.callLater(0, self._ask)
            cast(IPullProducer, self._producer).resumeProducing()

    def pay(self) -> None:
        """Send the pong that is owed, unless the peer takes nothing."""
        if self.owed is not None and self.channel is not None and not self.paused:
            owed, self.owed = self.owed, None
            self.channel.sendPong(owed)

    def pauseProducing(self) -> None:
        self.paused = True
        if self._isStreaming and self._producer is not None:
            cast(IPushProducer, self._producer).pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self.pay()
        if self._producer is None:
            return
        if self._isStreaming:
            cast(IPushProducer, self._producer).resumeProducing()
        elif self._pull is None:
            self._ask()

    def stopProducing(self) -> None:
        if self._producer is not None:
            self._producer.stopProducing()
