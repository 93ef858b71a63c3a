"""
The two ends of a yamux session that measure it, with our library on the reactor that C{gateway} runs on.

Each end is a process. C{tests/interop/go/bench.go} is the same with hashicorp's library: it has the same flags and
loads. The applications are what anybody would write on Twisted::

    python -m bench.yamuxends --listen 127.0.0.1:0                            # prints where it listens
    python -m bench.yamuxends --dial 127.0.0.1:40123 --load upload

The connecting end prints C{begin} when it has warmed up, and then C{end} and a line of JSON with its figures. An end
lives until its standard input ends.

The first byte on a stream says what the accepting end does: C{e}, send back all that comes, this byte included; C{u},
receive, say C{b} when the measurement begins, and at its end send the count and the nanoseconds as two words of 64
bits; C{d}, send; C{g}, collect garbage, and say C{g}.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from struct import Struct
from typing import cast

from twisted.internet import stdio
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IPushProducer, IReactorCore, IReactorTCP, IReactorTime, ITransport
from twisted.internet.protocol import Factory, Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.epoll import install
from gateway.net.interfaces import IStreamTransport
from gateway.net.mux import MuxSession, MuxSettings

MESSAGE = 64
"""Bytes of what is echoed."""

STAMP = Struct(">Q")
"""What a message of the load C{beside} starts with: nanoseconds of the wall clock, or zero in the last one."""

_HELLO = b"e".ljust(MESSAGE, b"\0")
_FIGURES = Struct(">QQ")

Done = Callable[[int, int], None]
"""Takes a count, and the nanoseconds in which it was reached."""


class Meter:
    """
    Counts what is added in a span of time.

    @ivar count: what was added since ever.
    """

    def __init__(self, reactor: IReactorTime, warm: float, span: float) -> None:
        self.count = 0
        self._reactor = reactor
        self._warm = warm
        self._span = span
        self._started = False

    def start(self, begun: Callable[[], None], done: Done) -> None:
        """Begin when it is warm, unless it was started before."""
        if not self._started:
            self._started = True
            self._reactor.callLater(self._warm, self._begin, begun, done)

    def _begin(self, begun: Callable[[], None], done: Done) -> None:
        begun()
        before, since = self.count, time.perf_counter_ns()

        def end() -> None:
            done(self.count - before, time.perf_counter_ns() - since)

        self._reactor.callLater(self._span, end)


@implementer(IPushProducer)
class Flood:
    """Writes a block to a transport, again and again, for as long as the transport takes it."""

    def __init__(self, transport: IStreamTransport, block: bytes) -> None:
        self._transport = transport
        self._block = block
        transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """The transport has room."""
        self._flows = True
        while self._flows:
            self._transport.write(self._block)

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._flows = False

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._flows = False


class OnStream(Protocol):
    """Something that happens on a stream."""

    transport: IStreamTransport


# The accepting end.


class Served(OnStream):
    """What the first byte asks for."""

    def __init__(self, meter: Meter, block: bytes) -> None:
        self._meter = meter
        self._block = block
        self._take: Callable[[bytes], None] | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._take is None:
            self._take = self._chosen(data[:1])
        self._take(data)

    def _chosen(self, what: bytes) -> Callable[[bytes], None]:
        if what == b"u":
            self._meter.start(self._begun, self._done)
            return self._count
        return {b"d": self._flood, b"g": self._collect}.get(what, self._echo)

    def _begun(self) -> None:
        self.transport.write(b"b")

    def _done(self, count: int, took: int) -> None:
        self.transport.write(_FIGURES.pack(count, took))

    def _count(self, data: bytes) -> None:
        self._meter.count += len(data)

    def _flood(self, data: bytes) -> None:
        Flood(self.transport, self._block)

    def _collect(self, data: bytes) -> None:
        gc.collect()
        self.transport.write(data)

    def _echo(self, data: bytes) -> None:
        self.transport.write(data)


# The connecting end.


class Upload(OnStream):
    """Sends without end; on one of the streams the other end tells what it counted."""

    def __init__(self, block: bytes, begun: Callable[[], None], done: Done) -> None:
        self._block = block
        self._begun = begun
        self._done = done
        self._told = b""

    def connectionMade(self) -> None:
        self.transport.write(b"u")
        Flood(self.transport, self._block)

    def dataReceived(self, data: bytes) -> None:
        if not self._told:
            self._begun()
        self._told += data
        if len(self._told) == 1 + _FIGURES.size:
            self._done(*_FIGURES.unpack_from(self._told, 1))


class Download(OnStream):
    """Receives without end."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def connectionMade(self) -> None:
        self.transport.write(b"d")

    def dataReceived(self, data: bytes) -> None:
        self._meter.count += len(data)


class Visit(OnStream):
    """One message there and back, and the end."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._awaited = MESSAGE

    def connectionMade(self) -> None:
        self.transport.write(_HELLO)

    def dataReceived(self, data: bytes) -> None:
        self._awaited -= len(data)
        if not self._awaited:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended()


class PingPong(OnStream):
    """
    One message there and back, again and again.

    @ivar times: nanoseconds of each.
    """

    def __init__(self) -> None:
        self.times: list[int] = []
        self._awaited = 0

    def connectionMade(self) -> None:
        self._send()

    def _send(self) -> None:
        self._awaited = MESSAGE
        self._sent = time.perf_counter_ns()
        self.transport.write(_HELLO)

    def dataReceived(self, data: bytes) -> None:
        self._awaited -= len(data)
        if not self._awaited:
            self.times.append(time.perf_counter_ns() - self._sent)
            self._send()


class Stamped(OnStream):
    """
    Messages that hold the time at which they were sent come back.

    @param ready: called when the other end echoes.
    @param done: called with the nanoseconds of each.
    """

    def __init__(self, ready: Callable[[], None], done: Callable[[list[int]], None]) -> None:
        self._times: list[int] = []
        self._ready = ready
        self._done = done
        self._pending: bytes | None = None

    def connectionMade(self) -> None:
        self.transport.write(b"e")

    def dataReceived(self, data: bytes) -> None:
        if self._pending is None:
            self._pending = b""
            self._ready()
            return
        now = time.time_ns()
        self._pending += data
        whole = len(self._pending) - len(self._pending) % MESSAGE
        for at in range(0, whole, MESSAGE):
            (sent,) = STAMP.unpack_from(self._pending, at)
            if sent:
                self._times.append(now - sent)
            else:
                self._done(self._times)
        self._pending = self._pending[whole:]


class Idle(OnStream):
    """One byte there and back, after which the stream stays."""

    def __init__(self, back: Callable[[], None]) -> None:
        self._back = back

    def connectionMade(self) -> None:
        self.transport.write(b"e")

    def dataReceived(self, data: bytes) -> None:
        self._back()


class Collection(OnStream):
    """Garbage is collected at the other end."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done

    def connectionMade(self) -> None:
        self.transport.write(b"g")

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._done()


class Console(Protocol):
    """
    Standard input and output. The end of the first is the end of all.

    @ivar take: gets what comes in.
    """

    transport: ITransport

    def __init__(self, reactor: IReactorCore) -> None:
        self.take: Callable[[bytes], object] = lambda data: None
        self._reactor = reactor

    def dataReceived(self, data: bytes) -> None:
        self.take(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._reactor.running:
            self._reactor.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self.transport.write(line.encode() + b"\n")

    def begin(self) -> None:
        """The measurement begins."""
        self.say("begin")

    def tell(self, count: int, took: int, times: Sequence[int] = ()) -> None:
        """The measurement ended, with these figures."""
        self.say("end")
        self.say(json.dumps({"count": count, "nanoseconds": took, "times": times}))


class Loads:
    """What the connecting end can do: each public method is a load."""

    def __init__(self, session: MuxSession, console: Console, meter: Meter, streams: int, block: bytes) -> None:
        self._session = session
        self._console = console
        self._meter = meter
        self._streams = streams
        self._block = block

    def _open(self, make: Callable[[], Protocol]) -> None:
        self._session.open(Factory.forProtocol(make))

    def upload(self) -> None:
        """Send in bulk."""
        for _ in range(self._streams):
            self._open(lambda: Upload(self._block, self._console.begin, self._console.tell))

    def download(self) -> None:
        """Receive in bulk."""
        for _ in range(self._streams):
            self._open(lambda: Download(self._meter))
        self._meter.start(self._console.begin, self._console.tell)

    def visits(self) -> None:
        """Open, exchange one message, close, so many at a time."""

        def ended() -> None:
            self._meter.count += 1
            visit()

        def visit() -> None:
            self._open(lambda: Visit(ended))

        for _ in range(self._streams):
            visit()
        self._meter.start(self._console.begin, self._console.tell)

    def pingpong(self) -> None:
        """Exchange messages, one at a time."""
        game = PingPong()

        def begun() -> None:
            self._console.begin()
            game.times.clear()

        def done(count: int, took: int) -> None:
            self._console.tell(len(game.times), took, game.times)

        self._open(lambda: game)
        self._meter.start(begun, done)

    def beside(self) -> None:
        """Forward messages from standard input, beside a stream that sends in bulk."""
        bulk: list[tuple[int, int]] = []
        echoed: list[list[int]] = []

        def tell() -> None:
            if bulk and echoed:
                self._console.tell(*bulk[0], echoed[0])

        def ready() -> None:
            self._console.take = echo.transport.write
            self._open(lambda: Upload(self._block, self._console.begin, counted))

        def counted(count: int, took: int) -> None:
            bulk.append((count, took))
            tell()

        def done(times: list[int]) -> None:
            echoed.append(times)
            tell()

        echo = Stamped(ready, done)
        self._open(lambda: echo)

    def idle(self) -> None:
        """Open streams that stay, once a byte comes on standard input."""
        awaited = self._streams

        def back() -> None:
            nonlocal awaited
            awaited -= 1
            if not awaited:
                collect(lambda: self._console.tell(self._streams, 0))

        def go(data: bytes) -> None:
            for _ in range(self._streams):
                self._open(lambda: Idle(back))

        def collect(then: Callable[[], None]) -> None:
            gc.collect()
            self._open(lambda: Collection(then))

        self._console.take = go
        collect(self._console.begin)


class IReactor(IReactorCore, IReactorTCP, IReactorTime):
    """What an end needs of a reactor."""


def main() -> None:
    """Be one end until standard input ends."""
    install()
    from twisted.internet import reactor as installed

    reactor = cast(IReactor, installed)
    options = _options()
    settings = MuxSettings()
    settings = replace(
        settings,
        streams=max(options.streams + 1, settings.streams),  # one more: idle streams, and one that collects garbage
        backlog=max(options.streams + 1, settings.backlog),
        window=options.window,
    )
    meter = Meter(reactor, options.warm, options.span)
    block = bytes(options.block)
    console = Console(reactor)
    stdio.StandardIO(console)
    host, port = options.dial or options.listen

    def session() -> MuxSession:
        factory = Factory.forProtocol(lambda: Served(meter, block))
        return MuxSession(reactor, client=options.dial is not None, factory=factory, settings=settings)

    def failed(failure: Failure) -> None:
        failure.printTraceback()
        reactor.stop()

    if options.dial is None:
        listener = reactor.listenTCP(port, ServerFactory.forProtocol(session), interface=host)  # type: ignore[arg-type]
        address = cast(IPv4Address, listener.getHost())
        console.say(f"{address.host}:{address.port}")
    else:
        connecting = connectProtocol(TCP4ClientEndpoint(reactor, host, port), session())
        connecting.addCallback(Loads, console, meter, options.streams, block)
        connecting.addCallback(lambda loads: getattr(loads, options.load)())
        connecting.addErrback(failed)
    reactor.run()


def _options() -> argparse.Namespace:
    def address(text: str) -> tuple[str, int]:
        host, _, port = text.rpartition(":")
        return host, int(port)

    parser = argparse.ArgumentParser(description="One end of a yamux session that measures it.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--listen", type=address, metavar="HOST:PORT", help="accept the session here")
    where.add_argument("--dial", type=address, metavar="HOST:PORT", help="connect to the other end")
    parser.add_argument("--load", help="with --dial: what to do")
    parser.add_argument("--warm", type=float, default=0.0, help="seconds before the measurement")
    parser.add_argument("--span", type=float, default=1.0, help="seconds of the measurement")
    parser.add_argument("--streams", type=int, default=1, help="streams at a time")
    parser.add_argument("--block", type=int, default=65536, help="bytes of a write in bulk")
    parser.add_argument("--window", type=int, default=MuxSettings().window, help="bytes to which a window may grow")
    return parser.parse_args()


if __name__ == "__main__":
    main()
