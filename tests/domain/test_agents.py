"""
Tests for which agent a credential proves somebody to be.
"""

from dataclasses import replace
from typing import Any

import jwt
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain import agents
from gateway.domain.agents import LEEWAY, AgentAuthority, AgentEntry, AgentIdentity, JwtIssuer, Rejection
from gateway.domain.grant import EVERYTHING, Grant
from gateway.domain.tokens import MAX_TOKEN_LENGTH, hashToken
from gateway.wire.agentcontrol import Credential, JwtCredential, SecretCredential

KEY = "k" * 32
NOW = 1000.0
PRINT = "ab" * 32

GRANT = Grant(("*.alice.example",), ((20000, 20099),), prefixes=("/alice/*",))
ALICE = AgentEntry("alice", GRANT, (hashToken("old"), hashToken("new")))
ANY = AgentEntry("*", EVERYTHING, (hashToken("shared"),), (PRINT,), JwtIssuer(KEY))


def secret(text: str) -> SecretCredential:
    """What an agent says that knows a secret."""
    return SecretCredential(secret=text)


def token(key: str = KEY, algorithm: str | None = "HS256", **claims: Any) -> JwtCredential:
    """What an agent says that has a token."""
    return JwtCredential(jwt=jwt.encode({"sub": "bob", "exp": NOW + 60, **claims}, key, algorithm))


class AgentAuthorityTests(SynchronousTestCase):
    """
    L{AgentAuthority}.
    """

    def setUp(self) -> None:
        self.authority = AgentAuthority([ALICE, ANY])

    def who(self, name: str, credential: Credential | None, certificate: str | None = None) -> AgentIdentity:
        """Who is proved."""
        found = self.authority.authenticate(name, credential, certificate, NOW)
        assert isinstance(found, AgentIdentity), found
        self.assertEqual(found.name, name)
        return found

    def refused(self, name: str, credential: Credential | None, certificate: str | None = None) -> str:
        """Nobody is, and the agent is not told why; the gateway's own log is."""
        found = self.authority.authenticate(name, credential, certificate, NOW)
        assert isinstance(found, Rejection), found
        self.assertEqual(found.details, "The gateway does not know this agent, or its credential is not good.")
        return found.problem

    def test_secret(self) -> None:
        """Each of an agent's secrets proves its name; nothing else does."""
        for text in ("old", "new"):
            self.assertEqual(self.who("alice", secret(text)).grant, ALICE.grant)
        for text in ("older", hashToken("old"), "x" * (MAX_TOKEN_LENGTH + 1)):
            self.refused("alice", secret(text))
        self.refused("alice", None)

    def test_unknown(self) -> None:
        """For a name that is not known as much is computed as for one that is: the time tells nothing."""
        hashed: list[str] = []

        def recording(text: str) -> str:
            hashed.append(text)
            return hashToken(text)

        self.patch(agents, "hashToken", recording)
        authority = AgentAuthority([ALICE])
        for name in ("alice", "mallory"):
            self.assertIsInstance(authority.authenticate(name, secret("wrong"), None, NOW), Rejection)
        self.assertEqual(hashed, ["wrong"] * 2)
        self.assertIsInstance(authority.authenticate("", secret(""), None, NOW), Rejection)

    def test_ownNameFirst(self) -> None:
        """What is good for any name is not for one that has an entry of its own."""
        self.who("bob", secret("shared"))
        self.who("bob", None, PRINT)
        self.refused("alice", secret("shared"))
        self.refused("alice", None, PRINT)
        self.refused("alice", token(sub="alice"))

    def test_certificate(self) -> None:
        """A certificate counts when no credential was said: who says a wrong one is refused."""
        self.refused("bob", None, "cd" * 32)
        self.refused("bob", secret("wrong"), PRINT)

    def test_nobody(self) -> None:
        """Without an entry there is nobody, and an entry ends when it expires."""
        self.authority.replaceEntries([replace(ALICE, expires=NOW)])
        self.refused("alice", secret("new"))
        self.refused("bob", secret("shared"))

    def test_token(self) -> None:
        """A token proves the name in it for its time, give or take what clocks differ."""
        self.who("bob", token())
        self.who("bob", token(exp=NOW - LEEWAY + 1, nbf=NOW + LEEWAY))
        self.refused("carol", token())
        for claims in ({"exp": NOW - LEEWAY}, {"exp": None}, {"exp": True}, {"nbf": NOW + LEEWAY + 1}, {"iat": "now"}):
            self.refused("bob", token(**claims))

    def test_forgedToken(self) -> None:
        """A token that is signed with another key or in another way, or not at all, proves nothing."""
        self.refused("bob", token(key="x" * 32))
        self.refused("bob", token(key=KEY * 2, algorithm="HS512"))
        self.refused("bob", token(key="", algorithm="none"))
        for text in ("a", "a.b.c", "\u00e9.b.c", f"{'W1tb' * 1500}.e30.eA"):
            self.refused("bob", JwtCredential(jwt=text))

    def test_tokenNarrows(self) -> None:
        """A token takes from the grant of its entry, and adds nothing to it."""
        self.authority.replaceEntries([replace(ALICE, issuer=JwtIssuer(KEY))])
        names = ["a.alice.example", "*.alice.example", "*", "b.example", "evilalice.example", "*.a.alice.example"]
        claims: dict[str, Any] = {"sub": "alice", "hostnames": names, "ports": ["20090-20200", "22"]}
        who = self.who("alice", token(**claims))
        self.assertEqual(who.grant.hostnames, ("a.alice.example", "*.alice.example"))
        self.assertEqual(who.grant.ports, ((20090, 20099),))
        self.assertEqual(who.grant.prefixes, ALICE.grant.prefixes)
        who = self.who("alice", token(sub="alice", prefixes=["/alice/shop", "/alice/*", "/alice", "/bob", "*"]))
        self.assertEqual(who.grant.prefixes, ("/alice/shop", "/alice/*"))
        for wrong in ({"hostnames": "*"}, {"hostnames": [1]}, {"ports": [22]}, {"ports": ["1-2-3"]}, {"ports": ["0"]}):
            self.refused("alice", token(sub="alice", **wrong))
        self.refused("alice", token(sub="alice", prefixes="/alice/shop"))

    def test_renewed(self) -> None:
        """A live session keeps what its proof is still good for, a token's narrowing included."""
        entry = replace(ALICE, issuer=JwtIssuer(KEY))
        self.authority.replaceEntries([entry])
        who = self.who("alice", token(sub="alice", hostnames=["a.alice.example"]))
        self.authority.replaceEntries([replace(entry, grant=EVERYTHING)])
        renewed = self.authority.renewed(who, NOW)
        assert renewed is not None
        self.assertEqual((renewed.grant.hostnames, renewed.grant.ports), (("a.alice.example",), EVERYTHING.ports))
        for entries in ([ALICE], [replace(entry, expires=NOW)], [ANY], []):
            self.authority.replaceEntries(entries)
            self.assertIsNone(self.authority.renewed(who, NOW))

    def test_secretIsWithdrawn(self) -> None:
        """A secret that is taken away ends the sessions that it opened, and no others."""
        old, new = self.who("alice", secret("old")), self.who("alice", secret("new"))
        self.authority.replaceEntries([replace(ALICE, secrets=(hashToken("new"),))])
        self.assertIsNone(self.authority.renewed(old, NOW))
        self.assertEqual(self.authority.renewed(new, NOW), new)

    def test_nothingSecretIsShown(self) -> None:
        """No key and no proof is in what may get into a log."""
        shown = repr((ALICE, ANY, self.who("alice", secret("new")), token(), secret("new")))
        for each in (KEY, "sha256:", "eyJ"):
            self.assertNotIn(each, shown)
