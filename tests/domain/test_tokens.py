"""Tests for L{gateway.domain.tokens}."""

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.identity import ANONYMOUS, Identity, Limits
from gateway.domain.targets import parseRuleLine
from gateway.domain.tokens import (
    MAX_ONE_SHOT_TOKENS,
    MAX_TOKEN_LENGTH,
    ONE_SHOT_TTL,
    OneShotRefused,
    OneShotTokens,
    Rejection,
    TokenAuthority,
    generateToken,
    hashToken,
)
from gateway.domain.tokensfile import TokensFile

ALICE = "a" * 64
BOB = "b" * 64


def fileWith(*identities: Identity) -> TokensFile:
    return TokensFile(tokens={identity.name: identity for identity in identities})


def named(name: str, token: str, expires: float | None = None, limits: Limits | None = None) -> Identity:
    return Identity(name, limits=limits or Limits(), expires=expires, revision=hashToken(token))


class HashTests(SynchronousTestCase):
    """L{generateToken} and L{hashToken}."""

    def test_generatedTokensHaveTabbysShape(self) -> None:
        """A token of ours is 64 hexadecimal digits, and another one each time."""
        token = generateToken()
        self.assertRegex(token, r"\A[0-9a-f]{64}\Z")
        self.assertNotEqual(token, generateToken())

    def test_hashIsSHA256(self) -> None:
        """The hash is the plain SHA-256 of the UTF-8 text, with its name before it."""
        self.assertEqual(hashToken("pâté"), "sha256:" + sha256("pâté".encode()).hexdigest())

    def test_anyStringHasAHash(self) -> None:
        """Lone surrogates, which are no text but arrive in JSON, have a hash as well, each its own."""
        self.assertNotEqual(hashToken("\ud800"), hashToken("\ud801"))


class OneShotTokensTests(SynchronousTestCase):
    """L{OneShotTokens} are good once, and not for long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.tokens = OneShotTokens(self.clock.seconds)

    def test_spentOnce(self) -> None:
        """A token can be spent, and then it is gone."""
        self.tokens.authorize(ALICE)
        self.assertIn(hashToken(ALICE), self.tokens)
        self.assertTrue(self.tokens.spend(hashToken(ALICE)))
        self.assertFalse(self.tokens.spend(hashToken(ALICE)))
        self.assertNotIn(hashToken(ALICE), self.tokens)

    def test_unknownIsNotSpent(self) -> None:
        """What was never authorised cannot be spent."""
        self.assertFalse(self.tokens.spend(hashToken(ALICE)))

    def test_expires(self) -> None:
        """A token is good until just before its time to live is over."""
        self.tokens.authorize(ALICE)
        self.clock.advance(ONE_SHOT_TTL - 0.5)
        self.assertIn(hashToken(ALICE), self.tokens)
        self.clock.advance(0.5)
        self.assertNotIn(hashToken(ALICE), self.tokens)
        self.assertFalse(self.tokens.spend(hashToken(ALICE)))
        self.assertEqual(len(self.tokens), 0)

    def test_authorizingAgainRenews(self) -> None:
        """A token authorised again starts its time anew, and does not keep others from expiring."""
        self.tokens.authorize(ALICE)
        self.tokens.authorize(BOB)
        self.clock.advance(100.0)
        self.tokens.authorize(ALICE)
        self.assertEqual(len(self.tokens), 2)
        self.clock.advance(20.0)
        self.assertNotIn(hashToken(BOB), self.tokens)
        self.assertIn(hashToken(ALICE), self.tokens)
        self.clock.advance(100.0)
        self.assertNotIn(hashToken(ALICE), self.tokens)

    def test_capacity(self) -> None:
        """The last place can be taken, one more is refused, and a renewal needs no place."""
        tokens = OneShotTokens(self.clock.seconds, capacity=2)
        tokens.authorize(ALICE)
        tokens.authorize(BOB)
        error = self.assertRaises(OneShotRefused, tokens.authorize, "third")
        self.assertEqual(error.code, "quota-exceeded")
        tokens.authorize(ALICE)
        self.assertEqual(len(tokens), 2)

    def test_expiredOnesMakePlace(self) -> None:
        """Expired tokens do not count towards the capacity."""
        tokens = OneShotTokens(self.clock.seconds, ttl=10.0, capacity=1)
        tokens.authorize(ALICE)
        self.clock.advance(10.0)
        tokens.authorize(BOB)
        self.assertEqual(len(tokens), 1)

    def test_defaultCapacity(self) -> None:
        """Without more, ten thousand tokens wait, and not one more."""
        for number in range(MAX_ONE_SHOT_TOKENS):
            self.tokens.authorize(str(number))
        self.assertRaises(OneShotRefused, self.tokens.authorize, "one more")

    def test_emptyIsRefused(self) -> None:
        """An empty token, which every visitor without one would present, is refused."""
        error = self.assertRaises(OneShotRefused, self.tokens.authorize, "")
        self.assertEqual(error.code, "expected-token")

    def test_length(self) -> None:
        """The longest token is taken, one character more is refused."""
        self.tokens.authorize("x" * MAX_TOKEN_LENGTH)
        error = self.assertRaises(OneShotRefused, self.tokens.authorize, "x" * (MAX_TOKEN_LENGTH + 1))
        self.assertEqual(error.code, "invalid-message")
        self.assertNotIn("xx", str(error))

    def test_keepsNoToken(self) -> None:
        """No token is to be found in what the object holds."""
        self.tokens.authorize(ALICE)
        self.assertNotIn(ALICE, f"{self.tokens!r} {vars(self.tokens)!r}")


class TokenAuthorityTests(SynchronousTestCase):
    """L{TokenAuthority} says whom a token proves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.oneShot = OneShotTokens(self.clock.seconds)

    def assertRejected(self, who: Identity | Rejection, code: str) -> Rejection:
        assert isinstance(who, Rejection), who
        self.assertEqual(who.code, code)
        self.assertNotEqual(who.details, "")
        return who

    def identity(self, who: Identity | Rejection) -> Identity:
        assert isinstance(who, Identity), who
        return who

    def test_missingToken(self) -> None:
        """No token and an empty one are answered with what is expected."""
        authority = TokenAuthority(environmentToken=ALICE)
        for presented in (None, ""):
            self.assertRejected(authority.authenticate(presented, 0.0), "expected-auth-token")

    def test_wrongToken(self) -> None:
        """A token that no source knows is incorrect, non-ASCII and lone surrogates included."""
        authority = TokenAuthority(environmentToken=ALICE, oneShot=self.oneShot, file=fileWith(named("b", BOB)))
        for presented in ("c" * 64, "é", "\ud800", "\0", "sha256:" + "0" * 64, hashToken(ALICE), hashToken(BOB)):
            self.assertRejected(authority.authenticate(presented, 0.0), "incorrect-auth-token")

    def test_environmentToken(self) -> None:
        """The token of the environment proves an identity with the variable's name."""
        authority = TokenAuthority(environmentToken="pâté")
        self.assertEqual(self.identity(authority.authenticate("pâté", 0.0)).name, "TABBY_AUTH_TOKEN")

    def test_environmentTokenLength(self) -> None:
        """A token of the environment that could never match is refused at the start."""
        longest = "x" * MAX_TOKEN_LENGTH
        self.identity(TokenAuthority(environmentToken=longest).authenticate(longest, 0.0))
        for token in ("", longest + "x"):
            self.assertRaises(ValueError, TokenAuthority, environmentToken=token)

    def test_tooLongIsUnknown(self) -> None:
        """A token one character over the longest is unknown, whatever a source may say."""
        tooLong = "x" * (MAX_TOKEN_LENGTH + 1)
        authority = TokenAuthority(file=fileWith(named("alice", tooLong)))
        self.assertRejected(authority.authenticate(tooLong, 0.0), "incorrect-auth-token")

    def test_fileToken(self) -> None:
        """A token of the file proves the identity that the file gives it."""
        alice = named("alice", ALICE, limits=Limits(sessions=1))
        authority = TokenAuthority(file=fileWith(alice, named("bob", BOB)))
        self.assertEqual(authority.authenticate(ALICE, 0.0), alice)

    def test_expiredFileToken(self) -> None:
        """At its expiry a token becomes incorrect, and the details say why and the name whose it was."""
        authority = TokenAuthority(file=fileWith(named("alice", ALICE, expires=100.0)))
        self.identity(authority.authenticate(ALICE, 99.0))
        rejection = self.assertRejected(authority.authenticate(ALICE, 100.0), "incorrect-auth-token")
        self.assertIn("expired", rejection.details)
        self.assertEqual(rejection.name, "alice")

    def test_oneShotIsNotSpentByAsking(self) -> None:
        """To authenticate with a one-shot token leaves it; to spend it takes it away."""
        authority = TokenAuthority(oneShot=self.oneShot)
        self.oneShot.authorize(ALICE)
        self.identity(authority.authenticate(ALICE, 0.0))
        who = self.identity(authority.authenticate(ALICE, 0.0))
        self.assertEqual(who.name, "one-shot")
        self.assertTrue(authority.spend(who))
        self.assertRejected(authority.authenticate(ALICE, 0.0), "incorrect-auth-token")

    def test_oneShotRace(self) -> None:
        """Of two connections with the same one-shot token, one gets through."""
        authority = TokenAuthority(oneShot=self.oneShot)
        self.oneShot.authorize(ALICE)
        first = self.identity(authority.authenticate(ALICE, 0.0))
        second = self.identity(authority.authenticate(ALICE, 0.0))
        self.assertEqual([authority.spend(first), authority.spend(second)], [True, False])

    def test_expiredOneShot(self) -> None:
        """A one-shot token whose time is over proves nothing, and cannot be spent by who was late."""
        authority = TokenAuthority(oneShot=self.oneShot)
        self.oneShot.authorize(ALICE)
        who = self.identity(authority.authenticate(ALICE, 0.0))
        self.clock.advance(ONE_SHOT_TTL)
        self.assertRejected(authority.authenticate(ALICE, 0.0), "incorrect-auth-token")
        self.assertFalse(authority.spend(who))

    def test_oneShotStandsInForAnExpiredToken(self) -> None:
        """A token that one source knows as expired and another as good is good."""
        authority = TokenAuthority(oneShot=self.oneShot, file=fileWith(named("alice", ALICE, expires=1.0)))
        self.oneShot.authorize(ALICE)
        self.assertEqual(self.identity(authority.authenticate(ALICE, 2.0)).name, "one-shot")

    def test_othersDoNotWearOut(self) -> None:
        """To spend an identity that is not one-shot always succeeds."""
        authority = TokenAuthority(environmentToken=ALICE, file=fileWith(named("bob", BOB)))
        for who in (self.identity(authority.authenticate(token, 0.0)) for token in (ALICE, BOB)):
            self.assertEqual([authority.spend(who), authority.spend(who)], [True, True])
        self.assertTrue(authority.spend(ANONYMOUS))

    def test_anonymous(self) -> None:
        """Where everyone is let in, no token, an unknown, an expired and a far too long one are all anonymous."""
        authority = TokenAuthority(anonymous=True, file=fileWith(named("alice", ALICE, expires=1.0)))
        for presented in (None, "", BOB, ALICE, "x" * (MAX_TOKEN_LENGTH + 1)):
            self.assertIs(authority.authenticate(presented, 2.0), ANONYMOUS)

    def test_anonymousWithAKnownToken(self) -> None:
        """Where everyone is let in, a known token still proves its owner."""
        authority = TokenAuthority(anonymous=True, file=fileWith(named("alice", ALICE)))
        self.assertEqual(self.identity(authority.authenticate(ALICE, 0.0)).name, "alice")

    def test_reload(self) -> None:
        """After a reload the tokens of the new file count, and those of the old one no more."""
        authority = TokenAuthority(file=fileWith(named("alice", ALICE)))
        authority.replaceFile(fileWith(named("bob", BOB)))
        self.assertRejected(authority.authenticate(ALICE, 0.0), "incorrect-auth-token")
        self.assertEqual(self.identity(authority.authenticate(BOB, 0.0)).name, "bob")

    def test_revocation(self) -> None:
        """A live session's token is invalid once it is removed, has another hash, or has expired."""
        alice = named("alice", ALICE, expires=100.0)
        authority = TokenAuthority(file=fileWith(alice))
        self.assertEqual(authority.renewed(alice, 99.0), alice)
        self.assertIsNone(authority.renewed(alice, 100.0))
        for file in (TokensFile(), fileWith(named("alice", BOB)), fileWith(named("alice", ALICE, expires=50.0))):
            authority.replaceFile(file)
            self.assertIsNone(authority.renewed(alice, 99.0))

    def test_renamedIsRevoked(self) -> None:
        """A token given to another name is no longer the first one's."""
        alice = named("alice", ALICE)
        authority = TokenAuthority(file=fileWith(named("bob", ALICE)))
        self.assertIsNone(authority.renewed(alice, 0.0))

    def test_otherChangesDoNotRevoke(self) -> None:
        """New limits, new targets and a later expiry are what a live session's token proves from then on."""
        alice = named("alice", ALICE, expires=100.0)
        changed = Identity(
            "alice", (parseRuleLine("deny *"),), limits=Limits(1, 1, 1.0), expires=200.0, revision=alice.revision
        )
        authority = TokenAuthority(file=fileWith(changed))
        self.assertEqual(authority.renewed(alice, 150.0), changed)

    def test_oneShotAndAnonymousStayValid(self) -> None:
        """Sessions of spent one-shot tokens and anonymous ones outlive a reload."""
        authority = TokenAuthority(oneShot=self.oneShot, anonymous=True)
        self.oneShot.authorize(ALICE)
        who = self.identity(authority.authenticate(ALICE, 0.0))
        authority.spend(who)
        authority.replaceFile(TokensFile())
        self.assertEqual(authority.renewed(who, 0.0), who)
        self.assertEqual(authority.renewed(ANONYMOUS, 0.0), ANONYMOUS)

    def test_environmentStaysValidWhileConfigured(self) -> None:
        """The environment's token is valid for the authority that has it, and not for one with another or none."""
        authority = TokenAuthority(environmentToken=ALICE)
        who = self.identity(authority.authenticate(ALICE, 0.0))
        self.assertEqual(authority.renewed(who, 0.0), who)
        self.assertIsNone(TokenAuthority(environmentToken=BOB).renewed(who, 0.0))
        self.assertIsNone(TokenAuthority().renewed(who, 0.0))

    def test_showsNoToken(self) -> None:
        """No C{repr} or C{str} of what the authority is or returns holds a token or a part of one."""
        authority = TokenAuthority(environmentToken=ALICE, oneShot=self.oneShot, file=fileWith(named("b", BOB)))
        self.oneShot.authorize("c" * 64)
        shown = [authority, vars(authority)["_environment"], self.oneShot]
        shown += [authority.authenticate(c * 64, 0.0) for c in "abcd"]
        for token in (ALICE, BOB, "c" * 64, "d" * 64):
            for each in shown:
                self.assertNotIn(token[:6], f"{each!r} {each}")

    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    @given(st.text(st.characters(exclude_categories=()), max_size=600))
    def test_neverRaises(self, presented: str) -> None:
        """Any string at all is either an identity or a rejection."""
        authority = TokenAuthority(environmentToken=ALICE, oneShot=OneShotTokens(Clock().seconds))
        self.assertIsInstance(authority.authenticate(presented, 0.0), Rejection)
