"""
Which agent a credential proves somebody to be, and what belongs to that agent.

An entry of the configuration is an identity: a name, a L{Grant}, and whatever proves it - the hash of a secret, the
fingerprint of a client certificate, the key of somebody who issues JSON Web Tokens::

    alice = AgentEntry("alice", Grant(hostnames=("*.alice.example",)), secrets=(hashToken(secret),))
    authority = AgentAuthority([alice])
    who = authority.authenticate("alice", SecretCredential(secret=secret), None, time())   # or a Rejection
    who = authority.renewed(who, time())                                # asked again after each reload

An entry of the name C{*} is for agents that choose their names themselves: all who know the secret, hold a certificate,
or are named in a token. One's own name comes first: no secret of C{*} proves a name that has an entry of its own.

A rejection never says which part was wrong: a stranger may not learn which names there are.
"""

__all__ = ["ANY_AGENT", "AgentAuthority", "AgentEntry", "AgentIdentity", "JwtIssuer", "Rejection"]

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import Any

import jwt

from gateway.domain.addresses import parsePort
from gateway.domain.grant import Grant
from gateway.domain.tokens import MAX_TOKEN_LENGTH, hashToken
from gateway.wire.agentcontrol import Credential, JwtCredential, SecretCredential

ANY_AGENT = "*"
"""The name of an entry that is for agents of any name."""

LEEWAY = 30.0
"""Seconds by which the issuer's clock may differ from ours."""

_UNKNOWN = "The gateway does not know this agent, or its credential is not good."


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """
    Somebody whose JSON Web Tokens (RFC 7519) we take.

    A token must have C{sub}, the agent's name, and C{exp}, after which it opens no session; one that it opened before
    goes on. It may narrow the grant of its entry by C{hostnames}, a list of names, C{prefixes}, a list of paths, and
    C{ports}, a list of ports and ranges as texts.

    @ivar key: the secret for HMAC, or a public key in PEM.
    @ivar algorithms: that the key may be used with. Never of both kinds: who knows a public key could sign with it.
    @ivar issuer: what C{iss} must be; C{None} is not asked.
    @ivar audience: what C{aud} must hold; C{None} is not asked.
    """

    key: str | bytes = field(repr=False)
    algorithms: tuple[str, ...] = ("HS256",)
    issuer: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """
    An agent that may come, and what proves that it is the one.

    @ivar name: one label, or C{*}.
    @ivar secrets: hashes of L{hashToken<gateway.domain.tokens.hashToken>}; several for a change without an outage.
    @ivar certificates: SHA-256 fingerprints of client certificates, in lower-case hexadecimal.
    @ivar expires: POSIX seconds from which it is not known any more; C{None} is never.
    """

    name: str
    grant: Grant
    secrets: tuple[str, ...] = field(default=(), repr=False)
    certificates: tuple[str, ...] = ()
    issuer: JwtIssuer | None = None
    expires: float | None = None

    def hasExpired(self, now: float) -> bool:
        """
        @param now: POSIX seconds.
        """
        return self.expires is not None and now >= self.expires


_NOBODY = AgentEntry("", Grant(), (hashToken(""),))
"""Stands in for an entry that is not there. No secret is empty."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """
    Who has attached.

    @ivar name: the agent's.
    @ivar expires: POSIX seconds from which the session has to end; C{None} is never.
    @ivar entry: the name of the entry that proved it.
    @ivar proof: what in that entry did: a hash, a fingerprint, or C{jwt}. Not for logs.
    @ivar hostnames: of the token, which narrow the grant; C{None}: none.
    @ivar ports: the same.
    @ivar prefixes: the same.
    """

    name: str
    grant: Grant
    expires: float | None = None
    entry: str = ""
    proof: str = field(default="", repr=False)
    hostnames: tuple[str, ...] | None = None
    ports: tuple[tuple[int, int], ...] | None = None
    prefixes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """
    Why nobody is proved.

    @ivar details: a sentence for whoever runs the agent.
    @ivar problem: what the gateway's own log may say besides.
    """

    details: str
    problem: str


class AgentAuthority:
    """
    Says who has come, by the entries of the configuration.
    """

    def __init__(self, entries: Iterable[AgentEntry]) -> None:
        self.replaceEntries(entries)

    def replaceEntries(self, entries: Iterable[AgentEntry]) -> None:
        """Use others from now on. Ask L{renewed} about each live session afterwards."""
        self._entries = {entry.name: entry for entry in entries}

    def authenticate(
        self, name: str, credential: Credential | None, certificate: str | None, now: float
    ) -> AgentIdentity | Rejection:
        """
        @param name: that the agent goes by.
        @param certificate: the fingerprint of the certificate that its carrier proved; C{None} without.
        @param now: POSIX seconds.
        """
        entry = self._entries.get(name) or self._entries.get(ANY_AGENT)
        if entry is None:
            if isinstance(credential, SecretCredential):
                self._proof(_NOBODY, credential, None)  # or the time that it takes would tell which agents there are
            return Rejection(_UNKNOWN, f"there is no agent {name}")
        if entry.hasExpired(now):
            return Rejection(_UNKNOWN, f"the entry {entry.name} has expired")
        if isinstance(credential, JwtCredential):
            return self._byToken(name, entry, credential.jwt, now)
        proof = self._proof(entry, credential, certificate)
        if proof is None:
            return Rejection(_UNKNOWN, f"the credential of {name} is not good")
        return AgentIdentity(name, entry.grant, entry.expires, entry.name, proof)

    def _proof(self, entry: AgentEntry, credential: SecretCredential | None, certificate: str | None) -> str | None:
        if credential is not None:
            if len(credential.secret) > MAX_TOKEN_LENGTH:
                return None
            digest = hashToken(credential.secret)
            # All are compared, each in constant time: which one it was, or nearly was, is nobody's to measure.
            found = [each for each in entry.secrets if compare_digest(digest, each)]
            return found[0] if found else None
        return certificate if certificate is not None and certificate in entry.certificates else None

    def _byToken(self, name: str, entry: AgentEntry, token: str, now: float) -> AgentIdentity | Rejection:
        issuer = entry.issuer
        if issuer is None:
            return Rejection(_UNKNOWN, f"no tokens are taken for {entry.name}")
        try:
            claims = jwt.decode(
                token,
                issuer.key,
                algorithms=list(issuer.algorithms),
                issuer=issuer.issuer,
                audience=issuer.audience,
                # The times are looked at below: the library has a clock of its own.
                options={
                    "require": ["exp", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": issuer.audience is not None,
                },
            )
            _checkTimes(claims, now)
            if claims["sub"] != name:
                raise ValueError("it is for another agent")
            narrowing = _narrowing(claims)
        except (jwt.PyJWTError, ValueError, RecursionError) as e:  # the last: JSON that is nested too deep
            return Rejection(_UNKNOWN, f"the token of {name} is not good: {e}")
        identity = AgentIdentity(name, entry.grant, entry.expires, entry.name, "jwt", *narrowing)
        return replace(identity, grant=_narrowed(entry.grant, identity))

    def renewed(self, identity: AgentIdentity, now: float) -> AgentIdentity | None:
        """
        Who the agent of a live session is by the entries of now: its grant may have changed.

        @return: C{None} when its credential is not good any more.
        """
        entry = self._entries.get(identity.name) or self._entries.get(ANY_AGENT)
        if entry is None or entry.name != identity.entry or entry.hasExpired(now):
            return None
        proofs = (*entry.secrets, *entry.certificates, *(["jwt"] if entry.issuer is not None else []))
        if identity.proof not in proofs:
            return None
        return replace(identity, grant=_narrowed(entry.grant, identity), expires=entry.expires)


def _checkTimes(claims: dict[str, Any], now: float) -> None:
    """
    @raise ValueError: it is not good now.
    """
    times: dict[str, float] = {}
    for claim in ("exp", "nbf", "iat"):
        value = claims.get(claim)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"its {claim} is not a number")
        times[claim] = value
    if now >= times["exp"] + LEEWAY:
        raise ValueError("it has expired")
    if max(times.get("nbf", now), times.get("iat", now)) > now + LEEWAY:
        raise ValueError("it is not good yet")


def _narrowing(
    claims: dict[str, Any],
) -> tuple[tuple[str, ...] | None, tuple[tuple[int, int], ...] | None, tuple[str, ...] | None]:
    """
    @raise ValueError: the claims are not lists of texts, or no ports.
    """
    lists: list[tuple[str, ...] | None] = []
    for claim in ("hostnames", "ports", "prefixes"):
        value = claims.get(claim)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise ValueError(f"its {claim} are not a list of texts")
        lists.append(None if value is None else tuple(value))
    hostnames, ranges, prefixes = lists
    return hostnames, None if ranges is None else tuple(map(_range, ranges)), prefixes


def _range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    return parsePort(low), parsePort(high if dash else low)


def _narrowed(grant: Grant, identity: AgentIdentity) -> Grant:
    """What the token leaves of the entry's grant."""
    if identity.hostnames is not None:
        grant = replace(grant, hostnames=tuple(filter(grant.allowsName, identity.hostnames)))
    if identity.prefixes is not None:
        grant = replace(grant, prefixes=tuple(filter(grant.allowsPrefix, identity.prefixes)))
    if identity.ports is not None:
        both = ((max(low, mine), min(high, top)) for low, high in identity.ports for mine, top in grant.ports)
        grant = replace(grant, ports=tuple((low, high) for low, high in both if low <= high))
    return grant
