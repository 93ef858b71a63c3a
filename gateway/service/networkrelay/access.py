"""
Access clients of http-network-relay: who they are, and where they may go.

In either dialect an access client is a client of the gateway, whose streams lead to what is behind agents and to
nothing else. What it may reach is asked for each of them, by the credentials of then::

    authority = AccessAuthority(credentials)
    who = authority.authenticate("", SecretCredential(secret=secret), None, time())     # or a Rejection
    streams.factoryFor(JsonClient(who))                       # for one that does not speak the agent protocol
"""

__all__ = ["AccessAuthority", "JsonClient", "Targets"]

from dataclasses import dataclass, field

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from gateway.domain.agents import AgentAuthority, AgentIdentity, Rejection
from gateway.domain.grant import Grant
from gateway.domain.relaycredentials import AccessClient, RelayCredentials
from gateway.domain.targets import Refusal
from gateway.domain.targets import Target as DomainTarget
from gateway.net.dial import DialFailed, DialFailure, FailingEndpoint
from gateway.service.server.attached import IClient, Visitor
from gateway.service.server.destinations import Destinations, parseAgentTarget
from gateway.wire.agentcontrol import Credential, SecretCredential
from gateway.wire.networkrelay import INVALID_SECRET, NOT_REGISTERED
from gateway.wire.preamble import Target

_NOWHERE = "An access client names HOST.via.AGENT.agent, or what else leads to an agent."


@dataclass(frozen=True, slots=True)
class _Grant(Grant):
    """
    What an access client may do: open streams, as its rules say.
    """

    client: AccessClient = field(kw_only=True)

    def refusalOf(self, host: str, port: int) -> Refusal | None:
        try:
            wanted = parseAgentTarget(Target(host, port))
        except ValueError:
            wanted = None
        if wanted is None:
            return Refusal("no rule allows it", _NOWHERE)
        if wanted.target is not None:
            return self.client.refusalOf(wanted.agent, wanted.target)
        if self.client.targets is not None:
            return Refusal("no rule allows it", f"This access client may reach targets alone, and {host} is a service.")
        return self.client.refusalOfAgent(wanted.agent)


def _identity(client: AccessClient) -> AgentIdentity:
    return AgentIdentity(client.name, _Grant(services=0, client=client), entry=client.name, proof=client.secret)


class AccessAuthority(AgentAuthority):
    """
    Says who an access client is, by its secret alone: it has no name to prove.
    """

    def __init__(self, credentials: RelayCredentials) -> None:
        super().__init__(())
        self.credentials = credentials

    def authenticate(
        self, name: str, credential: Credential | None, certificate: str | None, now: float
    ) -> AgentIdentity | Rejection:
        client = self.credentials.client(credential.secret) if isinstance(credential, SecretCredential) else None
        if client is None:
            return Rejection(INVALID_SECRET, "the secret is no access client's")
        return _identity(client)

    def renewed(self, identity: AgentIdentity, now: float) -> AgentIdentity | None:
        return next((_identity(each) for each in self.credentials.clients if each.secret == identity.proof), None)


@implementer(IClient)
class JsonClient:
    """
    An access client that speaks http-network-relay's messages.
    """

    replica = ""
    rates = None

    def __init__(self, identity: AgentIdentity) -> None:
        self.agent = identity.name
        self._grant = identity.grant

    def checkStream(self, host: str, port: int) -> None:
        if (refusal := self._grant.refusalOf(host, port)) is not None:
            raise DialFailed(DialFailure.DENIED, refusal.details)

    def moved(self, up: int, down: int) -> None:
        """Nobody asks."""


class Targets(Destinations):
    """
    What access clients may name: what there is behind agents.
    """

    def endpointFor(self, target: DomainTarget | Target, visitor: Visitor) -> IStreamClientEndpoint | None:
        wanted = parseAgentTarget(target)
        if wanted is not None and not self.isHere(wanted.agent):
            return FailingEndpoint(DialFailed(DialFailure.NAME, NOT_REGISTERED))
        return super().endpointFor(target, visitor)
