"""
The access client: standard input and output, or a port of this machine, connected to what is behind an edge agent::

    client = AccessClient(reactor, options, takeStandardStreams())
    client.start()                      # stops the reactor in the end
    client.status                       # 0 when both sides ended well

It is no service of twistd's, as each ssh session waits for one of these to start.
"""

__all__ = ["AccessClient", "runAccessClient"]

import gc
import sys
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IReactorCore, IStreamServerEndpoint
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from gateway.domain.targets import Target
from gateway.net.relay import Cause, Outcome, RelaySettings
from gateway.net.stdio import IReactorStdio, StandardIOEndpoint, Streams, takeStandardStreams
from gateway.net.udp import DATAGRAM_IDLE, IReactorDatagrams
from gateway.net.udpport import DatagramPort
from gateway.service.agent.carrier import connectionEndpoint
from gateway.service.logs import chooseObserver
from gateway.service.networkrelay.accessclientendpoint import AccessEndpoint
from gateway.service.networkrelay.accessclientoptions import AccessClientOptions
from gateway.service.relay.door import RelayDoor
from gateway.service.relay.options import quietTextObserver

IDLE = 86_400.0
"""Seconds without a byte after which a connection ends."""

CLOSE_TIMEOUT = 5.0
"""Seconds for the relay to take what was written to it, when all is over."""

CONNECTIONS = 1024
"""At once, with C{--listen}."""

_ENDED = (Cause.NEAR_CLOSED, Cause.FAR_CLOSED)

_CUT_SHORT = {
    Cause.FAR_RESET: "the connection was broken off: the target reset it, or its agent or the relay has gone",
    Cause.IDLE: "nothing was sent for too long",
    Cause.MEMORY: "too much waited for a side that does not read",
}
"""What these causes are to a person. Of the other ones, all of them near, the person knows."""


class IReactor(IReactorCore, IReactorDatagrams):
    """What the client needs of a reactor."""


class AccessClient:
    """
    One run.

    @param streams: standard input and output; C{None} with C{--listen}.
    @ivar status: what the process is to end with.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, options: AccessClientOptions, streams: Streams | None) -> None:
        self.status = 1
        self._reactor = reactor
        self._streams = streams
        self._listen = options.listen
        self._isUDP = options.target.protocol == "udp"
        self._isLeaving = False
        self._datagrams: DatagramPort | None = None
        link = options.link
        assert link.request is not None
        self._endpoint = AccessEndpoint(
            reactor, connectionEndpoint(reactor, link), link.request, options.target, options.readSecret
        )
        self._to = str(options.target)
        self.door = RelayDoor(
            reactor,
            self._endpoint,
            self._to,
            settings=RelaySettings(idleTimeout=DATAGRAM_IDLE if self._isUDP and self._listen is not None else IDLE),
            maxConnections=1 if self._listen is None else CONNECTIONS,
            ended=self._ended if self._listen is None else None,
        )

    def start(self) -> None:
        """Begin."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        if self._listen is None:
            reactor = cast(IReactorStdio, self._reactor)  # it has all of that
            StandardIOEndpoint(reactor, self._streams).listen(self.door).addErrback(self._notListening)
        elif self._isUDP:
            try:
                self._datagrams = DatagramPort(
                    self._reactor,
                    self._listen.host,
                    self._listen.port,
                    lambda flow: self.door.buildProtocol(flow.getPeer()),
                )
            except OSError as e:
                self._fail(f"{self._listen}: {e.strerror}")
            else:
                self._listening(None)
        else:
            listening = self._serverEndpoint(self._listen).listen(self.door)
            listening.addCallbacks(self._listening, self._notListening)

    def _serverEndpoint(self, place: Target) -> IStreamServerEndpoint:
        kind = TCP6ServerEndpoint if ":" in place.host else TCP4ServerEndpoint
        return kind(cast(Any, self._reactor), place.port, interface=place.host)

    def _listening(self, port: IListeningPort | None) -> None:
        self.status = 0
        self._log.info("{listen} leads to {to}", event="access-client.listening", listen=str(self._listen), to=self._to)

    def _notListening(self, failure: Failure) -> None:
        self._fail(str(failure.value))

    def _fail(self, problem: str) -> None:
        self._say(problem)
        self._leave()

    def _say(self, problem: str) -> None:
        """One line for the person, whatever is logged."""
        print(f"access-client: error: {problem}", file=sys.stderr, flush=True)

    def _ended(self, outcome: Outcome, problem: str) -> None:
        """The one connection is over."""
        if outcome.cause in _ENDED and not problem:
            self.status = 0
        elif problem:
            self._say(problem)
        elif outcome.cause == Cause.FAR_RESET and self._endpoint.problem:
            self._say(self._endpoint.problem)
        elif outcome.cause in _CUT_SHORT:
            self._say(f"{_CUT_SHORT[Cause(outcome.cause)]}.")
        self._leave()

    def _leave(self) -> None:
        if not self._isLeaving:
            # What is above us may still have something to close.
            self._reactor.callLater(0, self._reactor.stop)

    def _stop(self) -> Deferred[Any]:
        """The reactor stops: let the relay take what was sent."""
        self._isLeaving = True
        if self._datagrams is not None:
            self._datagrams.stopListening()
        self.door.end()
        over = self._endpoint.close()
        over.addTimeout(CLOSE_TIMEOUT, self._reactor, onTimeoutCancel=lambda result, seconds: None)
        return over


def runAccessClient(options: AccessClientOptions) -> int:
    """
    Run until all is over. This is the process's main function: standard input and output are taken away from it.

    @return: the exit status.
    """
    if sys.platform == "linux" and "twisted.internet.reactor" not in sys.modules:  # nobody has chosen one
        from gateway.net.epoll import install

        install()
    try:
        # Before anything is written.
        streams = takeStandardStreams() if options.listen is None else None
    except OSError as e:
        print(f"access-client: error: standard input and output cannot be used: {e.strerror}", file=sys.stderr)
        return 1
    observer = quietTextObserver() if options.listen is None else chooseObserver(options["log-format"])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    from twisted.internet import reactor

    client = AccessClient(cast(IReactor, reactor), options, streams)
    cast(IReactorCore, reactor).callWhenRunning(client.start)
    gc.freeze()  # the modules, which stay: not even at the end, which ssh waits for, need they be looked through
    gc.enable()
    cast(IReactorCore, reactor).run()
    return client.status
