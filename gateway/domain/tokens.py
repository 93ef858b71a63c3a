"""
Tokens: where they come from, whom they prove, and when they stop.

A token may be the one of the environment, one of the tokens file, or a one-shot token that the management
listener handed over. L{TokenAuthority} asks them all, so a door has one question to put::

    authority = TokenAuthority(file=parseTokensFile(path.getContent(), path.path))
    who = authority.authenticate(presented, time())    # an Identity or a Rejection
    who = authority.renewed(who, time())               # asked again after each reload: None ends the session

No source keeps a token. Each keeps its plain SHA-256, which is right here and would be wrong for passwords:
our tokens are 256 random bits, so there is no dictionary to try and a slow, salted hash would only let a
stranger burn our CPU. Because a digest can be looked up, finding a token is one dictionary access however
many there are; its timing tells at most something about a digest, from which no one can work back to a token.
"""

__all__ = [
    "MAX_ONE_SHOT_TOKENS",
    "MAX_TOKEN_LENGTH",
    "ONE_SHOT_TTL",
    "OneShotRefused",
    "OneShotTokens",
    "Rejection",
    "TokenAuthority",
    "generateToken",
    "hashToken",
]

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from gateway.domain.identity import ANONYMOUS, ENVIRONMENT, ONE_SHOT, Identity
from gateway.domain.tokensfile import TokensFile

MAX_TOKEN_LENGTH = 512  # characters; a longer one is unknown, unhashed
ONE_SHOT_TTL = 120.0  # seconds
MAX_ONE_SHOT_TOKENS = 10_000  # at once; about 2 MiB


def generateToken() -> str:
    """A new token: 256 random bits as 64 hexadecimal digits, the shape that Tabby uses."""
    return secrets.token_hex(32)


def hashToken(token: str) -> str:
    """
    @param token: any string; lone surrogates, which JSON can carry, included.
    @return: C{sha256:} and 64 hexadecimal digits.
    """
    return "sha256:" + sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class OneShotRefused(Exception):
    """
    A one-shot token was not taken.

    @ivar code: a short stable word, for the management listener's reply.
    @ivar details: a sentence for a person.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details

    def __str__(self) -> str:
        return f"{self.code}: {self.details}"


class OneShotTokens:
    """
    Tokens that are good once, and not for long.

    All live equally long, so the order of insertion is the order of expiry: the expired ones are a prefix,
    and dropping them costs each token once, not each call the whole table.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        ttl: float = ONE_SHOT_TTL,
        capacity: int = MAX_ONE_SHOT_TOKENS,
    ) -> None:
        """
        @param clock: monotonic seconds.
        @param ttl: how long an unused token is good, in seconds.
        @param capacity: how many unused tokens to hold at once.
        """
        self._clock = clock
        self._ttl = ttl
        self._capacity = capacity
        self._expiries: OrderedDict[str, float] = OrderedDict()  # by digest

    def __len__(self) -> int:
        """How many tokens are waiting."""
        self._purge()
        return len(self._expiries)

    def __contains__(self, digest: str) -> bool:
        """Whether the token with this digest (of L{hashToken}) is waiting."""
        self._purge()
        return digest in self._expiries

    def authorize(self, token: str) -> None:
        """
        Make a token good for one session. One that is waiting already starts its time anew.

        @raise OneShotRefused: the token is empty or too long, or too many are waiting.
        """
        if not token:
            raise OneShotRefused("expected-token", "The token is empty")
        if len(token) > MAX_TOKEN_LENGTH:
            raise OneShotRefused("invalid-message", f"The token is longer than {MAX_TOKEN_LENGTH} characters")
        digest = hashToken(token)
        self._purge()
        if digest not in self._expiries and len(self._expiries) >= self._capacity:
            raise OneShotRefused("quota-exceeded", f"{self._capacity} tokens are waiting to be used already")
        self._expiries[digest] = self._clock() + self._ttl
        self._expiries.move_to_end(digest)

    def spend(self, digest: str) -> bool:
        """
        @param digest: of L{hashToken}.
        @return: whether the token was there to be spent; of two calls for one token, one gets C{True}.
        """
        self._purge()
        return self._expiries.pop(digest, None) is not None

    def _purge(self) -> None:
        now = self._clock()
        while self._expiries and next(iter(self._expiries.values())) <= now:
            self._expiries.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """
    Why a token proves no one.

    @ivar code: as Tabby's protocol spells it.
    @ivar details: a sentence for a person.
    @ivar name: whose token it was, for the log, where that is known.
    """

    code: str
    details: str
    name: str | None = None


class TokenAuthority:
    """
    Says whom a token proves, whichever source it came from.

    With C{anonymous} nobody is rejected; a token that is known still proves its owner.
    """

    def __init__(
        self,
        *,
        environmentToken: str | None = None,
        file: TokensFile | None = None,
        oneShot: OneShotTokens | None = None,
        anonymous: bool = False,
    ) -> None:
        """
        @param environmentToken: the value of C{TABBY_AUTH_TOKEN}, when that is to be honoured.
        @raise ValueError: the environment's token is empty or too long to ever match.
        """
        self.anonymous = anonymous
        self._environment: Identity | None = None
        if environmentToken is not None:
            if not 0 < len(environmentToken) <= MAX_TOKEN_LENGTH:
                raise ValueError(f"{ENVIRONMENT} must have 1 to {MAX_TOKEN_LENGTH} characters")
            self._environment = Identity(ENVIRONMENT, revision=hashToken(environmentToken))
        self._oneShot = oneShot
        self.replaceFile(file or TokensFile())

    def replaceFile(self, file: TokensFile) -> None:
        """Use another tokens file from now on. Ask L{renewed} about each live session afterwards."""
        self._named = file.tokens
        self._byHash = {identity.revision: identity for identity in file.tokens.values()}

    def authenticate(self, presented: str | None, now: float) -> Identity | Rejection:
        """
        @param presented: the visitor's token, any string; C{None} when there was none.
        @param now: POSIX seconds.
        """
        if not presented:
            return ANONYMOUS if self.anonymous else Rejection("expected-auth-token", "A token is required")
        found = self._find(presented) if len(presented) <= MAX_TOKEN_LENGTH else None
        if found is not None and not found.hasExpired(now):
            return found
        if self.anonymous:
            return ANONYMOUS
        if found is not None:
            return Rejection("incorrect-auth-token", "This token has expired", found.name)
        return Rejection("incorrect-auth-token", "This token is not known here")

    def _find(self, token: str) -> Identity | None:
        digest = hashToken(token)
        # A person may have chosen the environment's token, so not even its digest may leak through timing.
        if self._environment is not None and compare_digest(digest, self._environment.revision):
            return self._environment
        if self._oneShot is not None and digest in self._oneShot:
            return Identity(ONE_SHOT, revision=digest)
        return self._byHash.get(digest)

    def spend(self, identity: Identity) -> bool:
        """
        Use the identity up, when the visitor is told that all is well. Only one-shot tokens wear out.

        @return: C{False} when someone else was faster, and this visitor must be rejected after all.
        """
        if identity.name != ONE_SHOT:
            return True
        return self._oneShot is not None and self._oneShot.spend(identity.revision)

    def renewed(self, identity: Identity, now: float) -> Identity | None:
        """
        Who the visitor of a live session is by the tokens of now.

        A token of the file must be in it still, by name and hash, and not be past its (perhaps new) expiry; what else
        has changed is the new identity's. A one-shot token was spent on this very session, and anonymity is no
        credential to lose.

        @param now: POSIX seconds.
        @return: C{None} when the token is not good any more.
        """
        if identity.name in (ANONYMOUS.name, ONE_SHOT):
            return identity
        current = self._environment if identity.name == ENVIRONMENT else self._named.get(identity.name)
        if current is None or current.revision != identity.revision or current.hasExpired(now):
            return None
        return current
