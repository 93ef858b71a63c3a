"""
The Autobahn TestSuite, by which WebSocket implementations are measured, against ours.

Two echoes are held to it, as servers and as clients: one that takes whole messages, and one that takes binary as a
stream, which goes through code of its own. Left out are the cases about speed and size (9) and compression (12, 13),
which we do not offer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast
from unittest import SkipTest

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from gateway.net.dial import DialFailed
from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.websocket import WebSocketServerFactory
from gateway.net.websocketclient import WebSocketClientFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.wire.http1 import RequestHead, Response
from gateway.wire.upgraderequest import parseWebSocketURL
from tests.peers import require
from tests.processes import freePort

reactor = cast(Any, _reactor)

_PEERS = Path(__file__).resolve().parents[2] / ".peers"
_WSTEST = _PEERS / "wstest/bin/wstest"
_MISSING = _PEERS / "wstest-missing"

# In 6.4.3 and 6.4.4 the client answers our Close in the middle of a frame, where nobody can see it.
_SETTINGS = WebSocketSettings(maxMessage=1 << 20, closeTimeout=1.0)

_PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}

# A stream has no messages: these have none, or one that does not arrive in one piece.
_NOT_FOR_STREAMS = ["1.2.1", "1.2.6", "1.2.7", "1.2.8"]


@implementer(IWebSocketGate, IWebSocketReceiver)
class Echo:
    """Sends back what it gets."""

    channel: IWebSocketChannel

    def __init__(self, *, streaming: bool) -> None:
        self._streaming = streaming

    def accept(self, head: RequestHead, channel: IWebSocketChannel) -> IWebSocketReceiver:
        """Everybody may come in."""
        return self

    def plain(self, head: RequestHead) -> Response:
        """Nobody asks."""
        return Response(404, b"")

    def failed(self, reason: Failure) -> None:
        """Somebody looked whether we listen."""

    def opened(self, channel: IWebSocketChannel) -> None:
        """Begin."""
        self.channel = channel
        if self._streaming:
            channel.stream(channel.write)

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        """Send it back."""
        if isBinary:
            self.channel.write(payload)
        else:
            self.channel.sendText(payload.decode())

    def lost(self, reason: Failure) -> None:
        """Nothing to do."""


class Visitor(Echo):
    """
    Sends back what it gets from a server.

    @ivar over: fires with the last message.
    """

    def __init__(self, *, streaming: bool) -> None:
        super().__init__(streaming=streaming)
        self.over: Deferred[bytes] = Deferred()
        self._last = b""

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        """Keep it, and send it back."""
        self._last = payload
        super().gotMessage(payload, isBinary)

    def lost(self, reason: Failure) -> None:
        """Only that the WebSocket was opened matters: the suite judges its end."""
        if reason.check(DialFailed):
            self.over.errback(reason)
        else:
            self.over.callback(self._last)


class Suite(ProcessProtocol):
    """The suite as a server."""

    def __init__(self) -> None:
        self._ended: Deferred[None] = Deferred()

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        self._ended.callback(None)

    def stop(self) -> Deferred[None]:
        """End it."""
        if not self._ended.called and self.transport is not None:
            self.transport.signalProcess("KILL")
        return self._ended


class AutobahnTests(TestCase):
    """Our server passes, and so does our client."""

    timeout = 120

    def setUp(self) -> None:
        """Without Python 2.7 it cannot be installed at all: that is nobody's omission, and so a skip everywhere."""
        if _MISSING.exists():
            raise SkipTest(_MISSING.read_text().strip())
        require(os.access(_WSTEST, os.X_OK), "the Autobahn TestSuite is missing: run scripts/peers")
        self.work = Path(mkdtemp(dir="."))

    def serve(self, *, streaming: bool) -> str:
        """Start a server. @return: its URL."""

        def gateFor(address: IAddress | None) -> IWebSocketGate:
            return Echo(streaming=streaming)

        factory = WebSocketServerFactory(gateFor, clock=reactor, settings=_SETTINGS)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"ws://127.0.0.1:{port.getHost().port}"

    def specify(self, **more: object) -> None:
        """Tell the suite what to do."""
        specification = {
            "outdir": "reports",
            "cases": ["*"],
            "exclude-cases": ["9.*", "12.*", "13.*"],
            "exclude-agent-cases": {"stream": _NOT_FOR_STREAMS},
            **more,
        }
        (self.work / "spec.json").write_text(json.dumps(specification))

    def check(self) -> None:
        """Look at the suite's report."""
        results = json.loads((self.work / "reports/index.json").read_text())
        self.assertEqual({agent: len(cases) for agent, cases in results.items()}, {"messages": 247, "stream": 243})
        failed = [
            f"{agent} {name}: {case['behavior']}, closing {case['behaviorClose']}"
            for agent, cases in results.items()
            for name, case in cases.items()
            if not {case["behavior"], case["behaviorClose"]} <= _PASSED
        ]
        self.assertEqual(failed, [])

    @inlineCallbacks
    def test_server(self) -> Any:
        """Our server passes every case, with whole messages and with a stream."""
        self.specify(
            servers=[
                {"agent": "messages", "url": self.serve(streaming=False)},
                {"agent": "stream", "url": self.serve(streaming=True)},
            ]
        )
        running: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            str(_WSTEST), ("-m", "fuzzingclient", "-s", "spec.json"), env=os.environ, path=str(self.work)
        )
        out, err, code = yield running
        self.assertEqual(code, 0, (out + err).decode("utf-8", "replace")[-2000:])
        self.check()

    @inlineCallbacks
    def test_client(self) -> Any:
        """Our client passes every case, with whole messages and with a stream."""
        url = f"ws://127.0.0.1:{freePort()}"
        self.specify(url=url)
        suite = Suite()
        arguments = (str(_WSTEST), "-m", "fuzzingserver", "-s", "spec.json")
        reactor.spawnProcess(suite, arguments[0], arguments, env=os.environ, path=str(self.work))
        self.addCleanup(suite.stop)
        count = None
        while count is None:
            try:
                count = yield self.visit(f"{url}/getCaseCount", streaming=False)
            except ConnectionRefusedError:  # it starts
                yield deferLater(reactor, 0.05)
        for agent in ("messages", "stream"):
            for case in range(1, int(count) + 1):
                yield self.visit(f"{url}/runCase?case={case}&agent={agent}", streaming=agent == "stream")
            yield self.visit(f"{url}/updateReports?agent={agent}", streaming=False)
        self.check()

    def visit(self, url: str, *, streaming: bool) -> Deferred[bytes]:
        """Open a WebSocket, and echo what comes. @return: fires with the last message when the WebSocket is over."""
        _, host, port, request = parseWebSocketURL(url)
        visitor = Visitor(streaming=streaming)
        factory = WebSocketClientFactory(lambda: visitor, request, clock=reactor, settings=_SETTINGS)
        connected: Deferred[Any] = TCP4ClientEndpoint(reactor, host, port).connect(factory)
        return connected.addCallback(lambda _: visitor.over)
