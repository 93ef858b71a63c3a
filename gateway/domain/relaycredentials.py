"""
The credentials file of http-network-relay, with what ours may say besides: who its edge agents and access clients are,
and what may be reached.

The first two keys are the original's, and all that it knows. A secret may be stored as its hash, as C{gateway secret}
and C{gateway hash-secret} print it. The other keys are optional, and without them everybody may go everywhere, as
there::

    {
      "edge-agents": {"box": "sha256:..."},
      "access-client-secrets": ["a secret"],
      "edge-agent-targets": {"box": ["allow 10.0.0.0/8:22", "allow db.internal:5432"]},
      "access-clients": {"alice": {"secret": "sha256:...", "agents": ["box"], "targets": ["allow 10.0.0.5:22"]}}
    }

    credentials = parseCredentials(path.read_bytes())
    client = credentials.client("a secret")                          # None: nobody's
    client.refusalOf("box", Target("10.0.0.5", 22))                  # None: it may

What rules say of targets that an agent is to look up is told in L{gateway.domain.targets}.
"""

__all__ = ["AccessClient", "CredentialsError", "EdgeAgent", "RelayCredentials", "parseCredentials"]

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from hmac import compare_digest

import msgspec

from gateway.domain.rules import Rule, parseRuleLine
from gateway.domain.targets import Refusal, Target, refusalBehind
from gateway.domain.tokens import MAX_TOKEN_LENGTH, hashToken
from gateway.wire.networkrelay import agentLabel

MAX_FILE = 4 * 1024 * 1024
"""Bytes."""

_LIKENESS = 0.85
"""From which on, of 1, a key is one of ours misspelt: C{edge-agents-targets} is, C{edge-agent-names} is not."""

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CredentialsError(ValueError):
    """The credentials file is not as it must be. Its text is one line, names the key and shows no secret."""


@dataclass(frozen=True, slots=True)
class EdgeAgent:
    """
    An agent that may come.

    @ivar name: as the file spells it.
    @ivar label: see L{agentLabel<gateway.wire.networkrelay.agentLabel>}.
    @ivar secret: its hash.
    @ivar targets: rules for what may be reached through it; C{None}: everything.
    """

    name: str
    label: str
    secret: str = field(repr=False)
    targets: tuple[Rule, ...] | None = None


@dataclass(frozen=True, slots=True)
class AccessClient:
    """
    Somebody who may be connected.

    @ivar name: for logs; that of a secret without one says its place in the list.
    @ivar secret: its hash.
    @ivar agents: labels of those that it may go to; C{None}: to all.
    @ivar targets: rules for what it may reach there; C{None}: everything.
    """

    name: str
    secret: str = field(repr=False)
    agents: frozenset[str] | None = None
    targets: tuple[Rule, ...] | None = None

    def refusalOf(self, agent: str, target: Target) -> Refusal | None:
        """
        @param agent: a label.
        @return: C{None} when the client may go there, as far as it is about the client.
        """
        return self.refusalOfAgent(agent) or refusalBehind(self.targets, target)

    def refusalOfAgent(self, agent: str) -> Refusal | None:
        """The same, whatever the target."""
        if self.agents is None or agent in self.agents:
            return None
        return Refusal("no rule allows it", f"This access client may not go to the agent {agent}.")


@dataclass(frozen=True, slots=True)
class RelayCredentials:
    """
    What a credentials file says.
    """

    agents: tuple[EdgeAgent, ...] = ()
    clients: tuple[AccessClient, ...] = ()

    def client(self, secret: str) -> AccessClient | None:
        """Whose secret this is."""
        if len(secret) > MAX_TOKEN_LENGTH:
            return None
        digest = hashToken(secret)
        # All are compared, each in constant time: which one it was, or nearly was, is nobody's to measure.
        found = [each for each in self.clients if compare_digest(digest, each.secret)]
        return found[0] if found else None


class _Client(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    secret: str
    agents: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    # The original takes no notice of other keys, so neither do we, but of what looks like one of these.
    edge_agents: dict[str, str] = {}
    access_client_secrets: tuple[str, ...] = ()
    edge_agent_targets: dict[str, tuple[str, ...]] = {}
    access_clients: dict[str, _Client] = {}


def parseCredentials(data: bytes) -> RelayCredentials:
    """
    Read a credentials file.

    @raise CredentialsError: at the first thing that is wrong.
    """
    if len(data) > MAX_FILE:
        raise CredentialsError(f"longer than {MAX_FILE} bytes")
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.ValidationError as e:
        raise CredentialsError(str(e).replace("`$.", "`")) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise CredentialsError(f"not JSON: {e}" if isinstance(e, msgspec.DecodeError) else "not JSON") from None
    _checkKeys(data)
    return RelayCredentials(_agents(file), _clients(file))


def _checkKeys(data: bytes) -> None:
    """With rules under a misspelt key, everybody could go everywhere."""
    known = [each.encode_name for each in msgspec.structs.fields(_File)]
    for key in msgspec.json.decode(data, type=dict[str, msgspec.Raw]):
        if key not in known and (near := get_close_matches(key, known, 1, _LIKENESS)):
            raise CredentialsError(f"{key!a:.60}: there is no such key; did you mean {near[0]}?")


def _agents(file: _File) -> tuple[EdgeAgent, ...]:
    agents: dict[str, EdgeAgent] = {}
    for name, secret in file.edge_agents.items():
        key, label = f"edge-agents.{name!a:.60}", agentLabel(name)
        if label in agents:
            raise CredentialsError(f"{key}: the agent {agents[label].name!a:.60} has the label {label}, too")
        rules = None
        if name in file.edge_agent_targets:
            rules = _rules(f"edge-agent-targets.{name!a:.60}", file.edge_agent_targets[name])
        agents[label] = EdgeAgent(name, label, _secret(key, secret), rules)
    for name in file.edge_agent_targets:
        if name not in file.edge_agents:
            raise CredentialsError(f"edge-agent-targets.{name!a:.60}: there is no such agent in edge-agents")
    return tuple(agents.values())


def _clients(file: _File) -> tuple[AccessClient, ...]:
    clients = [
        AccessClient(f"access-client-{number}", _secret(f"access-client-secrets[{number - 1}]", secret))
        for number, secret in enumerate(file.access_client_secrets, 1)
    ]
    for name, client in file.access_clients.items():
        key = f"access-clients.{name!a:.60}"
        if not _NAME.fullmatch(name):
            raise CredentialsError(f"{key}: a name has 1 to 64 letters, digits, dots, underscores and hyphens")
        agents = None if client.agents is None else frozenset(map(agentLabel, client.agents))
        targets = None if client.targets is None else _rules(f"{key}.targets", client.targets)
        clients.append(AccessClient(name, _secret(f"{key}.secret", client.secret), agents, targets))
    seen: dict[str, str] = {}
    for each in clients:
        if (other := seen.setdefault(each.secret, each.name)) != each.name:
            raise CredentialsError(f"the access clients {other} and {each.name} have the same secret")
    return tuple(clients)


def _secret(key: str, text: str) -> str:
    if not text:
        raise CredentialsError(f"{key}: the secret is empty")
    if len(text) > MAX_TOKEN_LENGTH:
        raise CredentialsError(f"{key}: the secret is longer than {MAX_TOKEN_LENGTH} characters")
    if text.startswith("sha256:"):
        if not _HASH.fullmatch(text):  # or what is meant as a hash, and was not kept secret, would be the secret
            raise CredentialsError(f"{key}: a hash is sha256: and 64 digits in lower case, as gateway secret prints it")
        return text
    return hashToken(text)


def _rules(key: str, lines: Sequence[str]) -> tuple[Rule, ...]:
    rules = []
    for number, line in enumerate(lines):
        try:
            rules.append(parseRuleLine(line))
        except ValueError as e:
            raise CredentialsError(f"{key}[{number}]: {e}") from None
    return tuple(rules)
