"""
How much, how often and how many: what keeps one visitor from taking the place of all others.

The parts are small and know no clock; L{Admission} puts together those that a listener asks for each new
connection, before a byte of it is read::

    ticket = admission.admit(peer.host, monotonic())
    if isinstance(ticket, AdmissionRefusal):
        transport.abortConnection()    # else ticket.authenticated() in time, and ticket.release() at the end

Every C{now} is in monotonic seconds; a step back counts as no time. Every limit may be C{None}: no limit.
Addresses must be the visitors' own: behind a reverse proxy, take the one that the proxy reports or switch the
limits per address off, or all visitors are counted, and banned, as one.
"""

__all__ = [
    "ADDRESS_CAPACITY",
    "BAN_SECONDS",
    "BAN_THRESHOLD",
    "BAN_WINDOW",
    "MAX_PER_ADDRESS",
    "MAX_UNAUTHENTICATED",
    "MAX_UNAUTHENTICATED_PER_ADDRESS",
    "NEW_PER_SECOND",
    "NEW_PER_SECOND_PER_ADDRESS",
    "Admission",
    "AdmissionRefusal",
    "Bans",
    "Counts",
    "Ticket",
    "TokenBucket",
    "addressKey",
]

from collections import OrderedDict
from enum import Enum
from ipaddress import IPv6Address

from gateway.domain.addresses import parseAddress

MAX_UNAUTHENTICATED = 2000  # connections
MAX_UNAUTHENTICATED_PER_ADDRESS = 100  # connections
MAX_PER_ADDRESS = 1000  # connections; each may become a session
NEW_PER_SECOND = 2000.0  # connections per second, and as many at once
NEW_PER_SECOND_PER_ADDRESS = 200.0  # connections per second, and as many at once
# Tabby tries a failed connection a second time, so ten failures are five clicks of a person.
BAN_THRESHOLD = 10  # failures
BAN_WINDOW = 60.0  # seconds
BAN_SECONDS = 600.0
ADDRESS_CAPACITY = 100_000  # addresses remembered, about 250 bytes each

_UNLIMITED = 2**53


def addressKey(host: str) -> str:
    """
    Whom to count an address as: IPv6 by its /64, the least that one subscriber gets (RFC 6177), in which a
    visitor changes addresses at will; IPv4, mapped into IPv6 or not, by itself; the rest, such as the path of
    a UNIX socket, as it is.
    """
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


class TokenBucket:
    """
    A rate with a burst: the bucket gains C{rate} a second up to C{burst}, and starts full.
    """

    __slots__ = ("_burst", "_level", "_rate", "_then")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """
        @param rate: units per second, more than 0.
        @param burst: units that may go at once, more than 0.
        @raise ValueError: one of them is not.
        """
        if not (rate > 0 and burst > 0):
            raise ValueError("rate and burst must be more than 0")
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._then = now

    def _fill(self, now: float) -> None:
        if now > self._then:
            self._level = min(self._burst, self._level + (now - self._then) * self._rate)
            self._then = now

    def isFull(self, now: float) -> bool:
        """Whether nothing remains of what was taken."""
        self._fill(now)
        return self._level >= self._burst

    def take(self, n: float, now: float) -> float:
        """
        Take what has happened already, such as bytes that were read, if need be on credit.

        @return: seconds to wait before the next, until the debt is paid; 0 is none.
        """
        self._fill(now)
        self._level -= n
        return max(0.0, -self._level / self._rate)

    def tryTake(self, n: float, now: float) -> bool:
        """
        Take all of C{n}, or nothing.

        @return: whether it was taken; never, for more than the burst.
        """
        self._fill(now)
        if self._level < n:
            return False
        self._level -= n
        return True


class _AddressBuckets:
    """
    One L{TokenBucket} per address key. A bucket that would be full by now is as good as none, and forgotten.
    """

    def __init__(self, rate: float, capacity: int) -> None:
        self._rate = rate
        self._capacity = capacity
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()  # least recently used first

    def tryTake(self, key: str, now: float) -> bool:
        buckets = self._buckets
        bucket = buckets.get(key)
        if bucket is None:
            self._forget(now)
            bucket = buckets[key] = TokenBucket(self._rate, max(1.0, self._rate), now)
        else:
            buckets.move_to_end(key)
        return bucket.tryTake(1.0, now)

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget(self, now: float) -> None:
        buckets = self._buckets
        while buckets and (len(buckets) >= self._capacity or next(iter(buckets.values())).isFull(now)):
            buckets.popitem(last=False)


class Bans:
    """
    Addresses that failed to authenticate too often, shut out for a while.

    Failures count in a window that starts with the first of them. Both tables are bounded, the oldest going
    first, and both are in the order in which their entries end, so that dropping those costs each entry once.
    """

    def __init__(
        self,
        threshold: int = BAN_THRESHOLD,
        window: float = BAN_WINDOW,
        duration: float = BAN_SECONDS,
        capacity: int = ADDRESS_CAPACITY,
    ) -> None:
        """
        @param threshold: the failure, counted from 1, that starts a ban.
        @param window: seconds in which they must fall.
        @param duration: seconds that a ban lasts.
        @param capacity: addresses to remember, in each table.
        """
        self._threshold = threshold
        self._window = window
        self._duration = duration
        self._capacity = capacity
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, since when
        self._ends: OrderedDict[str, float] = OrderedDict()  # of bans

    def __len__(self) -> int:
        """How many bans there are, those included that ended and nobody asked about since."""
        return len(self._ends)

    def failed(self, host: str, now: float) -> bool:
        """
        Count a failed authentication; while the address is banned, it does not count. Nor does it for what is no
        address, such as a socket's path or a proxy's name, as others come by the same way.

        @return: whether this one starts a ban.
        """
        key = addressKey(host)
        if parseAddress(host) is None or self._remainingOf(key, now):
            return False
        failures, ends, capacity = self._failures, self._ends, self._capacity
        while failures and next(iter(failures.values()))[1] + self._window <= now:
            failures.popitem(last=False)
        count, since = failures.get(key, (0, now))
        if count + 1 < self._threshold:
            if count == 0 and len(failures) >= capacity:
                failures.popitem(last=False)
            failures[key] = (count + 1, since)  # stays in its place when it has one
            return False
        failures.pop(key, None)
        while ends and (len(ends) >= capacity or next(iter(ends.values())) <= now):
            ends.popitem(last=False)
        ends[key] = now + self._duration
        return True

    def succeeded(self, host: str) -> None:
        """Forget the failures of an address; the person behind it has found the right token."""
        self._failures.pop(addressKey(host), None)

    def remaining(self, host: str, now: float) -> float:
        """
        @return: seconds that a ban on the address still lasts; 0 is not banned.
        """
        return self._remainingOf(addressKey(host), now)

    def _remainingOf(self, key: str, now: float) -> float:
        end = self._ends.get(key)
        if end is None:
            return 0.0
        if end <= now:
            del self._ends[key]
            return 0.0
        return end - now


class Counts:
    """
    How many of something each key holds, e.g. sessions per identity. A key that holds none takes no memory.
    """

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int | None = None) -> None:
        """
        @param limit: the most that one key may hold.
        """
        self._limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many keys hold something."""
        return len(self._counts)

    def count(self, key: str) -> int:
        """How many the key holds."""
        return self._counts.get(key, 0)

    def isFull(self, key: str) -> bool:
        """Whether C{acquire(key)} would be refused."""
        return self._limit is not None and self._counts.get(key, 0) >= self._limit

    def acquire(self, key: str, limit: int | None = None) -> bool:
        """
        @param limit: the most that this key may hold, in place of the limit for all.
        @return: whether the key holds one more now.
        """
        held = self._counts.get(key, 0)
        if limit is None:
            limit = self._limit
        if limit is not None and held >= limit:
            return False
        self._counts[key] = held + 1
        return True

    def release(self, key: str) -> None:
        """
        @raise KeyError: the key holds none.
        """
        held = self._counts[key]
        if held == 1:
            del self._counts[key]
        else:
            self._counts[key] = held - 1


class AdmissionRefusal(Enum):
    """Why a connection is not admitted. The values are stable: logs and metrics show them."""

    BANNED = "banned"
    TOO_MANY_UNAUTHENTICATED = "too-many-unauthenticated"
    TOO_MANY_FROM_ADDRESS = "too-many-from-address"
    TOO_MANY_NEW = "too-many-new"


class Ticket:
    """An admitted connection's place in the counts, until L{release}."""

    __slots__ = ("_admission", "_key", "_unauthenticated")

    def __init__(self, admission: "Admission", key: str) -> None:
        self._admission: Admission | None = admission
        self._key = key
        self._unauthenticated = True

    def authenticated(self) -> None:
        """The visitor is known now. Does nothing a second time, or after L{release}."""
        if self._unauthenticated and self._admission is not None:
            self._unauthenticated = False
            self._admission._authenticated(self._key)

    def release(self) -> None:
        """The connection is gone. Does nothing a second time."""
        if self._admission is not None:
            self.authenticated()  # or it would be counted as not yet known for ever
            self._admission._gone(self._key)
            self._admission = None


class Admission:
    """
    Whether a listener takes on one more connection.

    A connection counts towards its address's limit from the start, since it may become a session: asked only
    when it does, a limit could still refuse, but too late to spare the work of the handshake.

    @ivar connections: those admitted and not released.
    @ivar unauthenticated: those of them whose visitor is not known yet.
    """

    def __init__(
        self,
        now: float,
        *,
        unauthenticated: int | None = MAX_UNAUTHENTICATED,
        unauthenticatedPerAddress: int | None = MAX_UNAUTHENTICATED_PER_ADDRESS,
        perAddress: int | None = MAX_PER_ADDRESS,
        newPerSecond: float | None = NEW_PER_SECOND,
        newPerSecondPerAddress: float | None = NEW_PER_SECOND_PER_ADDRESS,
        addressCapacity: int = ADDRESS_CAPACITY,
        bans: Bans | None = None,
    ) -> None:
        """
        @param now: monotonic seconds.
        @param unauthenticated: connections at once whose visitor is not known yet.
        @param unauthenticatedPerAddress: the same, of one address.
        @param perAddress: connections at once of one address, sessions and not yet sessions.
        @param newPerSecond: connections per second, and at once (but at least one).
        @param newPerSecondPerAddress: the same, of one address.
        @param addressCapacity: addresses whose rate to remember.
        @param bans: whom not to admit at all.
        """
        self.unauthenticated = 0
        self.connections = 0
        self._limit = unauthenticated
        self._waiting = Counts(unauthenticatedPerAddress)
        self._all = Counts(perAddress)
        self._bans = bans
        self._new: TokenBucket | None = None
        if newPerSecond is not None:
            self._new = TokenBucket(newPerSecond, max(1.0, newPerSecond), now)
        self._newFrom: _AddressBuckets | None = None
        if newPerSecondPerAddress is not None:
            self._newFrom = _AddressBuckets(newPerSecondPerAddress, addressCapacity)

    def admit(self, host: str, now: float, *, isFront: bool = False) -> Ticket | AdmissionRefusal:
        """
        @param host: the visitor's address, or the path of a UNIX socket.
        @param now: monotonic seconds.
        @param isFront: others come by way of this address, so that no limit of one address holds.
        """
        # What the address did comes before what all did: a flood from one is refused for its own sake, and
        # takes nothing from the rate that the others share.
        key = addressKey(host)
        if self._bans is not None and self._bans._remainingOf(key, now):
            return AdmissionRefusal.BANNED
        if not isFront:
            if self._waiting.isFull(key) or self._all.isFull(key):
                return AdmissionRefusal.TOO_MANY_FROM_ADDRESS
            if self._newFrom is not None and not self._newFrom.tryTake(key, now):
                return AdmissionRefusal.TOO_MANY_NEW
        if self._limit is not None and self.unauthenticated >= self._limit:
            return AdmissionRefusal.TOO_MANY_UNAUTHENTICATED
        if self._new is not None and not self._new.tryTake(1.0, now):
            return AdmissionRefusal.TOO_MANY_NEW
        self.connections += 1
        self.unauthenticated += 1
        for counts in (self._all, self._waiting):
            counts.acquire(key, _UNLIMITED)  # that there is room was asked before
        return Ticket(self, key)

    def _authenticated(self, key: str) -> None:
        self.unauthenticated -= 1
        self._waiting.release(key)

    def _gone(self, key: str) -> None:
        self.connections -= 1
        self._all.release(key)
