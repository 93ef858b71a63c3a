"""
The Autobahn TestSuite, by which WebSocket implementations are measured, against ours.

Two echo servers are held to it: one that takes whole messages, and one that takes binary as a stream, which goes through
code of its own. Left out are the cases about speed and size (9) and compression (12, 13), which we do not offer.
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
from twisted.internet.interfaces import IAddress
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from gateway.net.interfaces import IWebSocketChannel, IWebSocketGate, IWebSocketReceiver
from gateway.net.websocket import WebSocketServerFactory, WebSocketSettings
from gateway.wire.http1 import RequestHead, Response
from tests.peers import require

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


class AutobahnTests(TestCase):
    """Our server passes."""

    timeout = 120

    def setUp(self) -> None:
        """Without Python 2.7 it cannot be installed at all: that is nobody's omission, and so a skip everywhere."""
        if _MISSING.exists():
            raise SkipTest(_MISSING.read_text().strip())
        require(os.access(_WSTEST, os.X_OK), "the Autobahn TestSuite is missing: run scripts/peers")

    def serve(self, *, streaming: bool) -> str:
        """Start a server. @return: its URL."""

        def gateFor(address: IAddress | None) -> IWebSocketGate:
            return Echo(streaming=streaming)

        factory = WebSocketServerFactory(gateFor, clock=reactor, settings=_SETTINGS)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"ws://127.0.0.1:{port.getHost().port}"

    @inlineCallbacks
    def test_everyCasePasses(self) -> Any:
        """Every case is passed, with whole messages and with a stream."""
        work = Path(mkdtemp(dir="."))
        specification = {
            "outdir": "reports",
            "servers": [
                {"agent": "messages", "url": self.serve(streaming=False)},
                {"agent": "stream", "url": self.serve(streaming=True)},
            ],
            "cases": ["*"],
            "exclude-cases": ["9.*", "12.*", "13.*"],
            "exclude-agent-cases": {"stream": _NOT_FOR_STREAMS},
        }
        (work / "spec.json").write_text(json.dumps(specification))
        running: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            str(_WSTEST), ("-m", "fuzzingclient", "-s", "spec.json"), env=os.environ, path=str(work)
        )
        out, err, code = yield running
        self.assertEqual(code, 0, (out + err).decode("utf-8", "replace")[-2000:])
        results = json.loads((work / "reports/index.json").read_text())
        self.assertEqual({agent: len(cases) for agent, cases in results.items()}, {"messages": 247, "stream": 243})
        failed = [
            f"{agent} {name}: {case['behavior']}, closing {case['behaviorClose']}"
            for agent, cases in results.items()
            for name, case in cases.items()
            if not {case["behavior"], case["behaviorClose"]} <= _PASSED
        ]
        self.assertEqual(failed, [])
