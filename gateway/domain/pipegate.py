"""
Who may be which client of PipeGate's: tokens, by their hashes, each with the connection ids that it is good for.

A client says its id in the path of its URL and its token in a header. PipeGate has one token for everybody; here there
may be many, in a file with a line for each::

    # gateway secret prints the hash
    sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae node articles
    sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9 *

    tokens = PipeGateTokens(parseTokens(path.read_text()))
    tokens.verify("a token", "node")        # its hash; None: it is not good, or not for that id

A client in the agent protocol is an agent: L{PipeGateAuthority} knows both.
"""

__all__ = [
    "AGENT_PREFIX",
    "ANY_ID",
    "PipeGateAuthority",
    "PipeGateToken",
    "PipeGateTokens",
    "grantFor",
    "hostNames",
    "parseTokens",
]

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hmac import compare_digest

from gateway.domain.agents import AgentAuthority, AgentEntry, AgentIdentity, Rejection
from gateway.domain.grant import Grant
from gateway.domain.tokens import MAX_TOKEN_LENGTH, hashToken
from gateway.wire.agentcontrol import Credential, SecretCredential
from gateway.wire.hostname import isHostName
from gateway.wire.pipegate import isConnectionID

ANY_ID = "*"
"""
In the place of ids: all of them but those that begin with a dot. Who has C{.well-known} can prove to others whose the
server's name is (RFC 8615), so that has to be granted by its name.
"""

AGENT_PREFIX = "pipegate/"
"""What the names of these agents begin with; no agent that names itself can have it."""

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PipeGateToken:
    """
    @ivar digest: of L{hashToken}.
    @ivar ids: that it is good for; C{*} among them: L{ANY_ID}.
    """

    digest: str = field(repr=False)
    ids: frozenset[str] = frozenset((ANY_ID,))

    def isFor(self, identifier: str) -> bool:
        """Whether it is good for this id."""
        return identifier in self.ids or (ANY_ID in self.ids and not identifier.startswith("."))


def parseTokens(text: str) -> tuple[PipeGateToken, ...]:
    """
    @param text: of a tokens file: a hash and ids in each line; empty lines and what begins with C{#} is skipped.
    @raise ValueError: with the number of the line.
    """
    tokens = []
    for number, line in enumerate(text.splitlines(), 1):
        digest, *ids = line.split() or ("#",)
        if digest.startswith("#"):
            continue
        if not _HASH.fullmatch(digest):
            raise ValueError(
                f"line {number}: it does not begin with sha256: and 64 digits, as gateway secret prints it"
            )
        if not ids:
            raise ValueError(f"line {number}: no id follows the hash; * is for all of them")
        for each in ids:
            if each != ANY_ID and not isConnectionID(each):
                raise ValueError(f"line {number}: {each!a:.80} is neither an id, of letters, digits and ._~-, nor *")
        tokens.append(PipeGateToken(digest, frozenset(ids)))
    return tuple(tokens)


class PipeGateTokens:
    """All that are good."""

    def __init__(self, tokens: Iterable[PipeGateToken]) -> None:
        self._tokens = tuple(tokens)

    def verify(self, token: str, identifier: str) -> str | None:
        """
        @return: the token's hash, with which L{isGood} can be asked again; C{None}: it is not good, or not for this id.
        """
        digest = hashToken(token[: MAX_TOKEN_LENGTH + 1])
        # All are compared, each in constant time: which one it was, or nearly was, is nobody's to measure.
        found = [each for each in self._tokens if compare_digest(digest, each.digest)]
        return digest if any(each.isFor(identifier) for each in found) else None

    def isGood(self, digest: str, identifier: str) -> bool:
        """Whether what was good once is good now."""
        return any(each.digest == digest and each.isFor(identifier) for each in self._tokens)


def hostNames(identifier: str, domain: str) -> tuple[str, ...]:
    """
    The name by which a client is reached besides its path, if there is one.

    @param domain: that it is below; empty: there is none.
    """
    name = f"{identifier}.{domain}"
    return (name,) if domain and "." not in identifier and isHostName(name) else ()


def grantFor(identifier: str, domain: str = "") -> Grant:
    """What belongs to a client: the paths below its id, and the name of that."""
    return Grant(prefixes=(f"/{identifier}",), hostnames=hostNames(identifier, domain))


class PipeGateAuthority(AgentAuthority):
    """
    Says who has come, with clients of PipeGate's among the agents.

    @ivar tokens: of those clients; may be replaced.
    @ivar domain: that each of them has a name below; empty: they have none.
    """

    def __init__(self, tokens: PipeGateTokens, entries: Iterable[AgentEntry] = (), *, domain: str = "") -> None:
        super().__init__(entries)
        self.tokens = tokens
        self.domain = domain

    def authenticate(
        self, name: str, credential: Credential | None, certificate: str | None, now: float
    ) -> AgentIdentity | Rejection:
        """
        @param name: that of a client is L{AGENT_PREFIX} and its id.
        """
        if not name.startswith(AGENT_PREFIX):
            return super().authenticate(name, credential, certificate, now)
        identifier = name.removeprefix(AGENT_PREFIX)
        token = credential.secret if isinstance(credential, SecretCredential) else ""
        digest = self.tokens.verify(token, identifier)
        if digest is None:
            return Rejection("The token is not good for this id.", f"the token is not good for {identifier}")
        return AgentIdentity(name, grantFor(identifier, self.domain), entry=name, proof=digest)

    def renewed(self, identity: AgentIdentity, now: float) -> AgentIdentity | None:
        """
        Who the agent of a live session is by the tokens and entries of now.
        """
        if not identity.name.startswith(AGENT_PREFIX):
            return super().renewed(identity, now)
        return identity if self.tokens.isGood(identity.proof, identity.name.removeprefix(AGENT_PREFIX)) else None
