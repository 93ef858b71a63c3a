"""
Where an edge agent lets people connect to: to everything that it can reach, or to what its rules allow::

    targets = EdgeTargets(reactor, [parseRule("allow", "10.0.0.0/8:22")])
    IncomingStreams(reactor, targets.decide, targets.streamOver, budget=targets.budget)

Without rules it is as with http-network-relay: who has the secret of an access client reaches whatever the agent does.
"""

__all__ = ["EdgeTargets"]

from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from gateway.domain.addresses import normaliseHost
from gateway.domain.rules import Rule
from gateway.domain.targets import ITargetPolicy, Target, TargetPolicy
from gateway.net.budget import StallBudget
from gateway.net.dial import DialFailed, DialFailure, resolve
from gateway.net.incoming import Taken
from gateway.net.relay import Outcome, RelaySettings
from gateway.net.udp import DATAGRAM_IDLE, IReactorDatagrams, UDPEndpoint
from gateway.service.agent.visitlog import visitClosed, visitFailed
from gateway.service.target import TargetEndpoint, TargetRefused
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.preamble import Preamble, StreamError

IDLE = 86_400.0
"""Seconds without a byte after which a connection ends."""


@implementer(IStreamClientEndpoint)
class _DatagramTarget:
    """A target by UDP: one of its addresses that the policy allows."""

    def __init__(self, reactor: IReactorDatagrams, target: Target, policy: ITargetPolicy) -> None:
        self._reactor = reactor
        self._target = target
        self._policy = policy

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fails with L{TargetRefused}, or as that of a L{UDPEndpoint} does.
        """
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        host, port = self._target.host, self._target.port
        allowed, refusal = self._policy.filter(host, await resolve(self._reactor, host), port)
        if refusal is not None:
            raise TargetRefused(refusal)
        return await UDPEndpoint(self._reactor, str(allowed[0]), port).connect(factory)


class EdgeTargets:
    """
    @param rules: which targets may be reached; none: all.
    @param settings: of the relays.
    @ivar budget: the memory that all of them share for those who do not read.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorDatagrams, rules: Sequence[Rule] = (), *, settings: RelaySettings | None = None
    ) -> None:
        self.budget = StallBudget()
        self._reactor = reactor
        self._isOpen = not rules
        self._policy = TargetPolicy(rules, strict=True) if rules else TargetPolicy((), builtIns=False)
        self._settings = settings or RelaySettings(idleTimeout=IDLE)

    def endpointFor(self, host: str, port: int, *, isDatagram: bool) -> tuple[IStreamClientEndpoint, RelaySettings]:
        """
        @param host: as somebody has written it.
        @return: what dials the target, if the rules allow it, and the limits of its relay.
        @raise DialFailed: there can be no such target.
        """
        try:
            target = Target(normaliseHost(host), port)
        except ValueError as e:
            raise DialFailed(DialFailure.NAME, str(e)) from None
        if isDatagram:
            endpoint: IStreamClientEndpoint
            if self._isOpen:
                endpoint = UDPEndpoint(self._reactor, target.host, port)  # which tries one address after another
            else:
                endpoint = _DatagramTarget(self._reactor, target, self._policy)
            return endpoint, replace(self._settings, idleTimeout=DATAGRAM_IDLE)
        return TargetEndpoint(self._reactor, target, self._policy), self._settings

    def decide(self, preamble: Preamble) -> tuple[IStreamClientEndpoint, RelaySettings]:
        """
        As L{IncomingStreams<gateway.net.incoming.IncomingStreams>} wants it.

        @raise RemoteProtocolError: C{unknown-service}.
        @raise DialFailed: the target is none.
        """
        if isinstance(preamble.to, str):
            raise RemoteProtocolError(StreamError.UNKNOWN_SERVICE, "An edge agent has targets alone, and no services.")
        return self.endpointFor(preamble.to.host, preamble.to.port, isDatagram=preamble.header.datagram)

    # -- What became of connections

    def streamOver(self, taken: Taken) -> None:
        """A stream in the agent protocol is over."""
        preamble, outcome = taken.preamble, taken.outcome
        if preamble is None or isinstance(preamble.to, str):
            self._log.info("a stream led nowhere: {problem}", event="agent.stream-refused", problem=taken.problem)
        elif outcome is None or taken.problem is not None:
            self.visitFailed(f"{preamble.to.host}:{preamble.to.port}", taken.problem or "")
        else:
            self.visitClosed(f"{preamble.to.host}:{preamble.to.port}", outcome)

    def visitFailed(self, to: str, problem: str) -> None:
        """Somebody could not reach a target."""
        visitFailed(self._log, to, problem)

    def visitClosed(self, to: str, outcome: Outcome) -> None:
        """Somebody has left a target."""
        visitClosed(self._log, to, outcome)
