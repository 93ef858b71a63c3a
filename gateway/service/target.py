"""
A target that a visitor asks for, as an endpoint: resolve it, check it, dial the addresses that passed.

Every door that lets its visitors name a host goes through here, so there is one place where a name becomes
a connection::

    endpoint = TargetEndpoint(reactor, parseTarget("box.example.com:22"), policy)
    relay.connect(endpoint)
"""

__all__ = ["TargetEndpoint", "TargetRefused", "policyFor"]

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from gateway.domain.addresses import parseAddress
from gateway.domain.identity import Identity
from gateway.domain.targets import AllOf, ITargetPolicy, Refusal, Target, onlyThese
from gateway.net.dial import AddressesEndpoint, DialFailed, DialFailure, IPAddress, IReactorDial, resolve


class TargetRefused(DialFailed):
    """
    The policy refuses the target.

    @ivar refusal: why; its C{details} are meant for the visitor.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(DialFailure.DENIED, refusal.details)
        self.refusal = refusal


def policyFor(identity: Identity, policy: ITargetPolicy) -> ITargetPolicy:
    """
    @param policy: the gateway's own, which what the identity brings can only narrow.
    """
    if identity.targets is None:
        return policy
    return AllOf(policy, onlyThese(identity.targets))


@implementer(IStreamClientEndpoint)
class TargetEndpoint:
    """
    Connects to a target by TCP if the policy allows it.
    """

    def __init__(self, reactor: IReactorDial, target: Target, policy: ITargetPolicy) -> None:
        self._reactor = reactor
        self._target = target
        self._policy = policy

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails with L{TargetRefused}, another L{DialFailed} or what TCP fails with.
        """
        host, port = self._target.host, self._target.port
        if (address := parseAddress(host)) is not None:
            return self._dial([address], factory)
        if (refusal := self._policy.checkName(host, port)) is not None:
            return fail(TargetRefused(refusal))
        return resolve(self._reactor, host).addCallback(self._dial, factory)

    def _dial(self, addresses: Sequence[IPAddress], factory: IProtocolFactory) -> Deferred[IProtocol]:
        host, port = self._target.host, self._target.port
        allowed, refusal = self._policy.filter(host, addresses, port)
        if refusal is not None:
            return fail(TargetRefused(refusal))
        return AddressesEndpoint(self._reactor, allowed, port).connect(factory)
