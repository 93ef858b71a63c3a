"""Tests for L{gateway.domain.pipegate}."""

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.agents import AgentEntry, AgentIdentity, Rejection
from gateway.domain.grant import Grant
from gateway.domain.pipegate import PipeGateAuthority, PipeGateToken, PipeGateTokens, parseTokens
from gateway.domain.tokens import hashToken
from gateway.wire.agentcontrol import JwtCredential, SecretCredential

FILE = f"""
# two clients
{hashToken("one")}  node articles
  {hashToken("two")}\t*

{hashToken("one")} more
"""


class TokenTests(SynchronousTestCase):
    """Tokens prove ids."""

    def setUp(self) -> None:
        self.tokens = PipeGateTokens(parseTokens(FILE))

    def test_verify(self) -> None:
        """A token is good for its own ids, or for all, and nothing else is good for anything."""
        for token, identifier, isGood in (
            ("one", "node", True),
            ("one", "articles", True),
            ("one", "more", True),
            ("one", "other", False),
            ("two", "other", True),
            ("three", "node", False),
            ("", "node", False),
            ("one" * 1000, "node", False),
        ):
            with self.subTest(f"{token:.10} {identifier}"):
                digest = self.tokens.verify(token, identifier)
                self.assertEqual(digest, hashToken(token) if isGood else None)
                if digest is not None:
                    self.assertTrue(self.tokens.isGood(digest, identifier))

    def test_dots(self) -> None:
        """What is good for all ids is not for those that begin with a dot, which prove whose the host is."""
        self.assertIsNone(self.tokens.verify("two", ".well-known"))
        named = PipeGateTokens(parseTokens(f"{hashToken('one')} .well-known"))
        self.assertIsNotNone(named.verify("one", ".well-known"))

    def test_long(self) -> None:
        """A token that only begins like a long one is not that one."""
        token = "x" * 512
        tokens = PipeGateTokens([PipeGateToken(hashToken(token))])
        self.assertIsNotNone(tokens.verify(token, "node"))
        self.assertIsNone(tokens.verify(token + "y", "node"))

    def test_bad(self) -> None:
        """What is wrong with a file is told with its line, and without a secret that somebody wrote there."""
        for text, problem in (
            ("secret-token node", "line 1: it does not begin"),
            (f"\n{hashToken('x')}", "line 2: no id"),
            (f"{hashToken('x')} a/b", "line 1: 'a/b' is neither"),
            (f"{hashToken('x')} ..", "line 1: '..' is neither"),
        ):
            error = self.assertRaises(ValueError, parseTokens, text)
            self.assertIn(problem, str(error))
            self.assertNotIn("secret-token", str(error))

    def test_hidden(self) -> None:
        """Hashes are not shown."""
        self.assertNotIn("sha256", repr(parseTokens(FILE)))


class AuthorityTests(SynchronousTestCase):
    """Clients in the agent protocol are agents."""

    def setUp(self) -> None:
        self.authority = PipeGateAuthority(
            PipeGateTokens(parseTokens(FILE)), [AgentEntry("box", Grant(), secrets=(hashToken("box"),))]
        )

    def who(self, name: str, secret: str) -> AgentIdentity | Rejection:
        return self.authority.authenticate(name, SecretCredential(secret=secret), None, 0.0)

    def test_client(self) -> None:
        """A client has the paths below its id, and nothing else."""
        who = self.who("pipegate/node", "one")
        assert isinstance(who, AgentIdentity)
        self.assertTrue(who.grant.allowsPrefix("/node"))
        self.assertFalse(who.grant.allowsPrefix("/articles"))
        self.assertFalse(who.grant.allowsName("node.example") or who.grant.allowsPort(2222))

    def test_stranger(self) -> None:
        """A token that is not good for an id proves nothing."""
        for name, secret in (("pipegate/other", "one"), ("pipegate/node", "box"), ("box", "two"), ("node", "one")):
            self.assertIsInstance(self.who(name, secret), Rejection, name)
        self.assertIsInstance(self.authority.authenticate("pipegate/node", None, None, 0.0), Rejection)
        token = JwtCredential(jwt="two")
        self.assertIsInstance(self.authority.authenticate("pipegate/node", token, None, 0.0), Rejection)

    def test_others(self) -> None:
        """Other agents are known as ever."""
        self.assertIsInstance(self.who("box", "box"), AgentIdentity)

    def test_renewed(self) -> None:
        """A client whose token is not on file any more, or is for other ids, is not known any more."""
        who, box = self.who("pipegate/node", "one"), self.who("box", "box")
        assert isinstance(who, AgentIdentity) and isinstance(box, AgentIdentity)
        self.assertEqual(self.authority.renewed(who, 0.0), who)
        self.authority.tokens = PipeGateTokens(parseTokens(f"{hashToken('one')} other"))
        self.assertIsNone(self.authority.renewed(who, 0.0))
        self.assertEqual(self.authority.renewed(box, 0.0), box)
