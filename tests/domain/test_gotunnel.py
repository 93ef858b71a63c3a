"""Tests for L{gateway.domain.gotunnel}."""

import warnings
from typing import Any

import jwt
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.agents import LEEWAY
from gateway.domain.gotunnel import GoTunnelTokens

SECRET = "supersecretjwtkey"


def signed(claims: Any, secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A token that another program made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short secret
        return jwt.encode(claims, secret, algorithm=algorithm)


class GoTunnelTokensTests(SynchronousTestCase):
    """L{GoTunnelTokens}."""

    def setUp(self) -> None:
        self.tokens = GoTunnelTokens(SECRET)

    def refusal(self, token: str, now: float = 1000.0) -> str:
        """What is wrong with a token."""
        return str(self.assertRaises(ValueError, self.tokens.verify, token, now))

    def test_own(self) -> None:
        """A token of ours is good for its time and a little more, and other programs can read it."""
        token = self.tokens.make("mytunnel", 3600, now=1000.5)
        for now in (1000.5 - LEEWAY, 1000.5, 4600, 4600 + LEEWAY - 1):
            self.assertEqual(self.tokens.verify(token, now), "mytunnel")
        self.assertIn("expired", self.refusal(token, 4600 + LEEWAY))
        self.assertIn("not good yet", self.refusal(token, 1000 - LEEWAY - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})
        self.assertEqual(claims, {"iss": "mytunnel", "iat": 1000, "exp": 4600})

    def test_algorithms(self) -> None:
        """Every HMAC is good, as for go-tunnel's server, whatever the length of the secret; nothing else is."""
        for secret in ("x", SECRET, "s" * 64, "s" * 65, "s" * 200):
            tokens = GoTunnelTokens(secret)
            for algorithm in ("HS256", "HS384", "HS512"):
                self.assertEqual(tokens.verify(signed({"exp": 2000, "iss": "a"}, secret, algorithm), 1000), "a")
        self.assertIn("alg", self.refusal(jwt.encode({"exp": 2000}, "", algorithm="none")))

    def test_nestedTooDeep(self) -> None:
        """A token of a stranger's whose JSON no parser goes through is refused as any other."""
        self.refusal(f"{'W1tb' * 1500}.e30.eA")

    def test_otherClaims(self) -> None:
        """Claims that we do not know are no reason to refuse."""
        token = signed({"exp": 2000.5, "iat": 999.5, "aud": "somebody", "sub": "a", "jti": "b", "new": [1]})
        self.assertEqual(self.tokens.verify(token, 1000), "")

    def test_issuer(self) -> None:
        """The issuer is on a short line, whatever the token says."""
        issuer = self.tokens.verify(signed({"exp": 2000, "iss": "a\nb" + "c" * 1000}), 1000)
        self.assertEqual(issuer, "a\ufffdb" + "c" * 61)

    def test_refused(self) -> None:
        """What is not signed with the secret, says no proper times or is no token at all is refused."""
        good = signed({"exp": 2000})
        head, payload, signature = good.split(".")
        for token in (
            signed({"exp": 2000}, "anothersecret"),
            signed({"exp": 900}),
            signed({"exp": 3000, "nbf": 2000}),
            signed({}),
            signed({"exp": "2000"}),
            signed({"exp": True}),
            signed({"exp": 2000, "iat": None}),
            f"{head}.{payload}.",
            f"{head}.{payload[:-2]}.{signature}",
            "",
            "a.b.c",
            "\u00e9",
            "\ud800",
            "x" * 60_000,
        ):
            self.assertNotIn(SECRET, self.refusal(token))

    def test_noSecret(self) -> None:
        """There is no default: without a secret there are no tokens."""
        self.assertRaises(ValueError, GoTunnelTokens, "")

    def test_noWarnings(self) -> None:
        """A short secret is no reason for a warning with each token."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.tokens.verify(self.tokens.make("a", 10, now=1000), 1000)
