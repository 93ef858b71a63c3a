"""
PipeGate's client as one service: an application, a server, and what is between them::

    options = PipeGateClientOptions()
    options.parseOptions(["--local-url", "http://localhost:5001", "--server-url", "wss://fooserver.com/node"])
    PipeGateClientService(reactor, options).setServiceParent(application)
"""

__all__ = ["PipeGateClientService"]

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from gateway.net.budget import StallBudget
from gateway.net.dial import IReactorDial
from gateway.net.incoming import IncomingStreams, Taken
from gateway.net.relay import RelaySettings
from gateway.service.agent.attachedservice import AttachedService
from gateway.service.agent.carrier import connectionEndpoint, isLoopback
from gateway.service.draining import IReactorDraining
from gateway.service.pipegate.client import PipeGateClient
from gateway.service.pipegate.clientoptions import PipeGateClientOptions
from gateway.service.pipegate.jsonclient import LocalRequests
from gateway.service.pipegate.local import localEndpoint
from gateway.wire.preamble import Preamble
from gateway.wire.proxyheader import Address, Tlv

STREAMS = 4096
"""Visitors at once."""


class IReactor(IReactorDial, IReactorDraining):
    """What the service needs of a reactor."""


class PipeGateClientService(AttachedService):
    """One client."""

    _log = Logger()

    def __init__(self, reactor: IReactor, options: PipeGateClientOptions) -> None:
        self._options = options
        self._endpoint = localEndpoint(reactor, options.local, options.localTrust)
        self._requests = LocalRequests(reactor, options.local, self._endpoint)
        self._visitors = IncomingStreams(reactor, self._decide, self._visitEnded, budget=StallBudget())
        self.client = PipeGateClient(
            reactor,
            connectionEndpoint(reactor, options.link),
            options.request,
            self._requests,
            self._visitors,
            server=options.link.to,
        )
        super().__init__(reactor, self.client, streams=STREAMS, drain=options["drain"])

    def _decide(self, preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        return self._endpoint, _SETTINGS

    def _visitEnded(self, taken: Taken) -> None:
        preamble = taken.preamble
        if taken.problem is None or preamble is None:
            return
        source = preamble.header.source
        self._log.info(
            "{visitor} could not reach {to}: {problem}",
            event="agent.visit-failed",
            to=str(self._options.local),
            visitor=str(source.host) if isinstance(source, Address) else "?",
            visit=(preamble.header.get(Tlv.UNIQUE_ID) or b"").decode("latin-1"),
            problem=taken.problem,
        )

    def startService(self) -> None:
        link = self._options.link
        if link.trust is None and not isLoopback(link.host):
            self._log.warn(
                "{gateway} is not encrypted: everybody on the way can read and change all, the token too",
                event="pipegate.unencrypted",
                gateway=link.to,
            )
        if self._options.local.path:
            self._log.warn(
                "{local} has a path, so only PipeGate's own dialect is spoken: text, and one message for each body",
                event="pipegate.json-alone",
                local=str(self._options.local),
            )
        super().startService()

    def stopService(self) -> Deferred[None]:
        return super().stopService().addCallback(self._left)

    def _left(self, result: None) -> None:
        self._requests.pool.close()
        self._requests.sweep.stop()


_SETTINGS = replace(RelaySettings(), dialTimeout=10.0)
