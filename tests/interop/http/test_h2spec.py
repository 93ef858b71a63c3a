"""
L{gateway.net.http2server} by h2spec, which asks a server some 150 questions about RFC 9113 and RFC 7541, on plain TCP and
inside of TLS. Our own questions are in C{tests/net/test_http2conformance.py}.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from gateway.net.http2server import Http2ServerConnection
from gateway.net.httpinterfaces import Fields, IVisitorRequest
from gateway.net.httpsettings import HttpSettings
from gateway.net.sweep import Sweep
from gateway.wire.http1 import ResponseHead
from tests.certificates import makeAuthority
from tests.net.http2peer import Owner, Recorder
from tests.peers import require

H2SPEC = str(Path(__file__).resolve().parents[3] / ".peers/go/h2spec")

reactor: Any = installed


class _Page(Recorder):
    """Answers when the request is complete."""

    def __init__(self, request: IVisitorRequest) -> None:
        super().__init__()
        self._request = request

    def gotRequestEnd(self, trailers: Fields) -> None:
        self._request.respond(ResponseHead(200, "OK", "1.1", [("content-type", "text/plain")]), 5)
        self._request.write(b"hello")
        self._request.finish()


class _Site(Owner):
    def gotRequest(self, request: IVisitorRequest) -> None:
        request.accept(_Page(request))


class _Serving(Factory):
    noisy = False

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def buildProtocol(self, address: IAddress | None) -> Http2ServerConnection:
        return Http2ServerConnection(_Site(), settings=HttpSettings(), sweep=self._sweep)


class H2specTests(TestCase):
    """All of its questions."""

    def setUp(self) -> None:
        require(os.access(H2SPEC, os.X_OK), "h2spec is missing: apt-get install golang-go, then scripts/gopeers")
        self.sweep = Sweep(reactor)
        self.addCleanup(self.sweep.stop)

    async def ask(self, port: int, *options: str) -> None:
        """Let it ask."""
        command = ["-h", "127.0.0.1", "-p", str(port), "-o", "5", *options]
        output, _, code = await getProcessOutputAndValue(H2SPEC, command, env=os.environ, reactor=reactor)
        result = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", output.decode())
        assert result is not None, output.decode()
        self.assertEqual((code, result[4], result[3]), (0, "0", "0"), output.decode()[-4000:])
        self.assertGreater(int(result[2]), 140)

    async def test_plain(self) -> None:
        """It finds nothing wrong."""
        port = reactor.listenTCP(0, _Serving(self.sweep), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        await self.ask(port.getHost().port)

    async def test_tls(self) -> None:
        """Nor inside of TLS."""
        credential = makeAuthority("Test Authority").issue("localhost")
        certificate = PrivateCertificate.loadPEM(credential.certificatePEM + credential.keyPEM)
        context = CertificateOptions(
            privateKey=certificate.privateKey.original,
            certificate=certificate.original,
            acceptableProtocols=[b"h2"],
        )
        port = reactor.listenSSL(0, _Serving(self.sweep), context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        await self.ask(port.getHost().port, "-t", "-k")
