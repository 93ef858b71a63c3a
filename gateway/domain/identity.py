"""
Who a credential proves someone to be, and what comes with it.

Every door ends its handshake with an L{Identity}; what follows (target policy, limits, logs, revocation) asks
the identity and never the credential again::

    who = authority.authenticate(presented, time())
    if isinstance(who, Identity):
        log.info("opened {who}", who=who.name)
"""

__all__ = ["ANONYMOUS", "ENVIRONMENT", "ONE_SHOT", "RESERVED_NAMES", "UNLIMITED", "Identity", "Limits"]

from dataclasses import dataclass, field

from gateway.domain.targets import Rule, Target


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How much one identity may use. C{None} is no limit.

    @ivar sessions: sessions open at once.
    @ivar bytesPerSecond: payload, in each direction, of one session.
    @ivar seconds: the longest that one session may last.
    """

    sessions: int | None = None
    bytesPerSecond: int | None = None
    seconds: float | None = None


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Who is at the door.

    @ivar name: what logs show. Unique: a token in the tokens file may not take the name of another source.
    @ivar targets: rules that narrow what the policy allows; C{None} narrows nothing, an empty tuple
        leaves nothing.
    @ivar defaultTarget: where to go when the visitor names no target.
    @ivar limits: how much this identity may use.
    @ivar expires: POSIX seconds from which the credential is no longer good; C{None} is never.
    @ivar revision: the digest of the credential, empty when there was none. It tells, after a reload, whether
        a live session's credential is still the one on file. Not a secret for a random token, but a person
        may have chosen a weak one, so it stays out of C{repr}.
    """

    name: str
    targets: tuple[Rule, ...] | None = None
    defaultTarget: Target | None = None
    limits: Limits = UNLIMITED
    expires: float | None = None
    revision: str = field(default="", repr=False)

    def hasExpired(self, now: float) -> bool:
        """
        @param now: POSIX seconds.
        """
        return self.expires is not None and now >= self.expires


ANONYMOUS = Identity("anonymous")

# The names of the identities that other credentials prove, and so of no token in the tokens file.
ENVIRONMENT = "TABBY_AUTH_TOKEN"
ONE_SHOT = "one-shot"
RESERVED_NAMES = frozenset({ANONYMOUS.name, ENVIRONMENT, ONE_SHOT})
