"""
The tokens of go-tunnel: JSON Web Tokens (RFC 7519) with an HMAC of a secret that all agents and the server share.

An agent makes a new one for each connection; the server looks at the signature and the times, and at nothing else::

    tokens = GoTunnelTokens("a secret of more than thirty characters")
    text = tokens.make("mytunnel", 3600, now=time())
    tokens.verify(text, time())                      # "mytunnel", or a ValueError

So a token says that its agent knows the secret, and nothing of which agent that is.
"""

__all__ = ["GoTunnelTokens"]

from typing import Any

import jwt
import msgspec

from gateway.domain.agents import LEEWAY

_ALGORITHMS = ("HS256", "HS384", "HS512")
"""Agents use the first; go-tunnel's server takes all of them."""

_UNCHECKED = tuple(f"verify_{claim}" for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti"))

_BLOCK = 64
"""Bytes. HMAC itself adds zeros to a shorter key (RFC 2104, section 2)."""

_STRONG = 32
"""Bytes from which on a secret is not worth trying to guess (RFC 7518, section 3.2)."""

_MAX_ISSUER = 64


class _Claims(msgspec.Struct):
    """What is looked at."""

    exp: float
    iat: float = 0.0
    nbf: float = 0.0
    iss: str = ""


class GoTunnelTokens:
    """
    @param secret: may be short, as those of go-tunnel's users often are.
    @ivar isGuessable: it is short.
    @raise ValueError: there is none, or it is not UTF-8.
    """

    def __init__(self, secret: str) -> None:
        if not secret:
            raise ValueError("there is no secret")
        # With its zeros PyJWT does not warn of a short one with each token; whoever starts the server was told.
        self._key = secret.encode().ljust(_BLOCK, b"\0")
        self.isGuessable = len(secret.encode()) < _STRONG

    def make(self, issuer: str, lifetime: float, *, now: float) -> str:
        """
        @param lifetime: seconds.
        @param now: POSIX seconds.
        """
        claims = {"iss": issuer, "iat": int(now), "exp": int(now + lifetime)}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHMS[0])

    def verify(self, token: str, now: float) -> str:
        """
        @param now: POSIX seconds.
        @return: who issued it, as it says, on a short line: for people, and no proof of anything.
        @raise ValueError: it is not good; with what is wrong, for the server's own log.
        """
        try:
            # The times are looked at below: the library has a clock of its own.
            options: Any = dict.fromkeys(_UNCHECKED, False)
            payload = jwt.decode(token.encode("ascii"), self._key, algorithms=_ALGORITHMS, options=options)
        except (jwt.PyJWTError, RecursionError) as e:  # the latter: JSON that is nested too deep
            raise ValueError(str(e)) from None
        claims = msgspec.convert(payload, _Claims)
        if now >= claims.exp + LEEWAY:
            raise ValueError("the token has expired")
        if max(claims.iat, claims.nbf) > now + LEEWAY:
            raise ValueError("the token is not good yet: do the clocks agree?")
        return "".join(each if each.isprintable() else "\ufffd" for each in claims.iss[:_MAX_ISSUER])
