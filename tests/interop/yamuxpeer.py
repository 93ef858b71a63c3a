"""
A yamux session between ours and hashicorp's library: the Go program of C{tests/interop/go}, and both ends of a test.

The program is one end of a session and does what it is told, one order at a time or many at once; a L{GoPeer} tells it.
A L{YamuxTestCase} starts it, has the L{MuxSession} at the other end, and afterwards stops both::

    class PingTests(YamuxTestCase):
        async def test_ping(self) -> None:
            await self.connect("-write-timeout", "1s")
            answer = await self.peer.do("ping")
            assert answer.seconds > 0
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from signal import Signals
from typing import Any, cast

import msgspec
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProcessTransport, IStreamClientEndpoint
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from gateway.net.mux import MuxSession, MuxSettings
from gateway.net.tls import CertificateFiles
from tests.certificates import Authority, makeAuthority
from tests.net.muxpair import Applications
from tests.net.sides import Peer
from tests.peers import require

reactor = cast(Any, _reactor)

HERE = "127.0.0.1"
WINDOW = 256 * 1024
"""Bytes that may be sent on a stream before the other end reads: the specification's."""

_PATIENCE = 5.0
"""Seconds that anything which should happen at once may take on a busy machine."""

_PROGRAM = Path(__file__).resolve().parents[2] / ".peers/go/interop"


def digest(payload: bytes | bytearray) -> str:
    """What the program says of payload."""
    return sha256(payload).hexdigest()


async def eventually(holds: Callable[[], bool], seconds: float = _PATIENCE) -> None:
    """Wait until something comes to hold. What crosses two processes has no other end that can be seen."""
    deadline = reactor.seconds() + seconds
    while not holds():
        if reactor.seconds() > deadline:
            raise AssertionError(f"it did not come to hold in {seconds} seconds")
        await deferLater(reactor, 0.002)


class Answer(msgspec.Struct):
    """
    What the program says after an order.

    @ivar count: bytes, or streams.
    @ivar digest: of the bytes that were read or written.
    @ivar error: what hashicorp's library says that is wrong; C{""} for nothing.
    """

    id: int
    address: str = ""
    stream: int = 0
    count: int = 0
    digest: str = ""
    seconds: float = 0.0
    error: str = ""


class GoError(Exception):
    """An order came to nothing. The text is the library's."""


class GoPeer(ProcessProtocol):
    """
    The program.

    @ivar listening: fires with its port, if it listens.
    @ivar ready: fires when it has a session.
    @ivar over: fires when the process has ended.
    @ivar log: what it wrote on standard error.
    """

    transport: IProcessTransport

    def __init__(self) -> None:
        self.listening: Deferred[int] = Deferred()
        self.ready: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()
        self.log = ""
        self._output = b""
        self._orders = 0
        self._waiting: dict[int, Deferred[Answer]] = {}

    @classmethod
    def start(cls, *flags: str) -> GoPeer:
        """Start it."""
        peer = cls()
        reactor.spawnProcess(peer, str(_PROGRAM), [str(_PROGRAM), "peer", *flags], env=os.environ)
        return peer

    def stop(self) -> Deferred[None]:
        """End the process, even one that was stopped. @return: fires when it is gone."""
        self.signal(Signals.SIGKILL)
        return self.over

    def signal(self, number: Signals) -> None:
        """Send a signal, unless the process has ended."""
        if not self.over.called:
            self.transport.signalProcess(number)

    def do(self, what: str, **fields: int) -> Deferred[Answer]:
        """
        Give an order.

        @param fields: C{stream}, C{count}, C{most}, as in the program's C{peer.go}.
        @return: fails with L{GoError}.
        """
        self._orders += 1
        line = msgspec.json.encode({"id": self._orders, "do": what, **fields}) + b"\n"
        answer = self._waiting[self._orders] = Deferred()
        self.transport.write(line)
        return answer

    def outReceived(self, data: bytes) -> None:
        *lines, self._output = (self._output + data).split(b"\n")
        for line in lines:
            self._answered(msgspec.json.decode(line, type=Answer))

    def _answered(self, answer: Answer) -> None:
        if answer.id:
            waiting = self._waiting.pop(answer.id)
            if answer.error:
                waiting.errback(GoError(answer.error))
            else:
                waiting.callback(answer)
        elif answer.address:
            self.listening.callback(int(answer.address.rpartition(":")[2]))
        else:
            self.ready.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.log += data.decode("utf-8", "replace")

    def processEnded(self, reason: Failure) -> None:
        self.over.callback(None)
        if not self.ready.called:
            self.ready.errback(GoError(self.log))


class Echo(Protocol):
    """Sends back what comes, at the pace at which it is taken, to the end."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class YamuxTestCase(TestCase):
    """
    A test with a session between the two. See the module's text.

    @cvar client: whether ours is the yamux client, which is the one that dials; otherwise hashicorp's is.
    @cvar tls: whether the carrier is TLS, and not TCP.
    @ivar peer: hashicorp's end.
    @ivar session: our end.
    @ivar accepted: our ends of the streams that hashicorp's opened.
    @ivar ended: what our session ended with.
    @ivar complaint: what the library is to log as an error in this test: a part of the line.
    """

    client = True
    tls = False
    timeout = 30.0

    def setUp(self) -> None:
        require(
            os.access(_PROGRAM, os.X_OK),
            "hashicorp's yamux is missing: apt-get install golang-go, then scripts/gopeers",
        )
        self.ended: list[Failure] = []
        self.complaint: str | None = None

    async def connect(self, *flags: str, settings: MuxSettings | None = None, accept: Callable[[], Any] = Peer) -> None:
        """
        Start the program, and let the two make a session.

        @param flags: the program's, besides those for the carrier.
        @param accept: makes our protocols for the streams that hashicorp's end opens.
        """
        applications = Applications(accept)
        self.accepted = applications.made
        self.session = MuxSession(
            reactor, client=self.client, factory=applications, settings=settings, ended=self.ended.append
        )
        factory: Any = Factory.forProtocol(lambda: self.session)
        factory.noisy = False
        authority = makeAuthority("Test Authority") if self.tls else None
        await (self._dial if self.client else self._listen)(factory, authority, *flags)
        await self.peer.ready
        await self.peer.do("ping")  # so that TLS's handshake is over

    async def _dial(self, factory: Any, authority: Authority | None, *flags: str) -> None:
        options = ["-listen", f"{HERE}:0"]
        if authority is not None:
            certificate, key = authority.issue(HERE).write(self.mktemp())
            options += ["-cert", certificate, "-key", key]
        self._start(*options, *flags)
        endpoint: IStreamClientEndpoint = TCP4ClientEndpoint(reactor, HERE, await self.peer.listening)
        if authority is not None:
            creator = optionsForClientTLS(HERE, Certificate.loadPEM(authority.certificatePEM))
            endpoint = wrapClientTLS(creator, endpoint)
        await endpoint.connect(factory)

    async def _listen(self, factory: Any, authority: Authority | None, *flags: str) -> None:
        options: list[str] = []
        if authority is not None:
            files = CertificateFiles(*authority.issue(HERE).write(self.mktemp()), clock=reactor)
            factory = TLSMemoryBIOFactory(files, False, factory)
            options = ["-ca", authority.write(self.mktemp())]
        port = reactor.listenTCP(0, factory, interface=HERE)
        self.addCleanup(port.stopListening)
        self._start("-dial", f"{HERE}:{port.getHost().port}", *options, *flags)

    def _start(self, *flags: str) -> None:
        self.peer = GoPeer.start(*flags)
        self.addCleanup(self._stop)

    async def _stop(self) -> None:
        """End both, once hashicorp's library has said what it thinks of us."""
        errors = [line for line in self.peer.log.splitlines() if "[ERR]" in line]
        await self.peer.stop()
        if self.session.connected and not self.ended:
            self.session.abortConnection()
            await eventually(lambda: bool(self.ended))
        if self.complaint is None:
            self.assertEqual(errors, [])
        else:
            self.assertIn(self.complaint, "".join(errors))

    # -- What tests do

    def open(self, make: Callable[[], Any] = Peer) -> Any:
        """Open a stream. @return: our end of it."""
        return self.session.open(Applications(make))

    async def opened(self, make: Callable[[], Any] = Peer) -> tuple[Any, int]:
        """A stream that we opened and hashicorp's end accepted. @return: our end, and its number."""
        ours = self.open(make)
        return ours, (await self.peer.do("accept")).stream

    async def taken(self) -> tuple[Any, int]:
        """A stream that hashicorp's end opened and we accepted. @return: our end, and its number."""
        before = len(self.accepted)
        number = (await self.peer.do("open")).stream
        await eventually(lambda: len(self.accepted) > before)
        return self.accepted[-1], number

    async def both(self) -> list[tuple[Any, int]]:
        """A stream that we opened, and one that hashicorp's end opened."""
        return [await self.opened(), await self.taken()]

    def refusal(self, what: str, **fields: int) -> Deferred[str]:
        """Give an order that has to fail. @return: fires with what is wrong."""

        def failed(reason: Failure) -> str:
            reason.trap(GoError)
            return str(reason.value)

        def done(answer: Answer) -> str:
            raise AssertionError(f"it did not fail: {answer}")

        return self.peer.do(what, **fields).addCallbacks(done, failed)

    async def assertNoStreams(self) -> None:
        """Both ends forget all streams."""
        await eventually(lambda: not self.session.streamCount)
        await self.theirStreams(0)

    async def theirStreams(self, count: int) -> None:
        """Wait until hashicorp's end has so many streams."""
        deadline = reactor.seconds() + _PATIENCE
        while (found := (await self.peer.do("streams")).count) != count:
            if reactor.seconds() > deadline:
                raise AssertionError(f"they have {found} streams, and not {count}")
            await deferLater(reactor, 0.002)
