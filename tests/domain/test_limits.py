"""Tests for L{gateway.domain.limits}."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.limits import (
    BAN_SECONDS,
    BAN_THRESHOLD,
    BAN_WINDOW,
    Admission,
    AdmissionRefusal,
    Bans,
    Counts,
    Ticket,
    TokenBucket,
    addressKey,
)


class AddressKeyTests(SynchronousTestCase):
    """L{addressKey} says whom an address counts as."""

    def test_ipv4(self) -> None:
        """An IPv4 address counts by itself."""
        self.assertEqual(addressKey("192.0.2.1"), "192.0.2.1")

    def test_mapped(self) -> None:
        """An IPv4 address mapped into IPv6 is the IPv4 address."""
        self.assertEqual(addressKey("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(addressKey("::FFFF:c000:201"), "192.0.2.1")

    def test_ipv6(self) -> None:
        """IPv6 addresses count by their first 64 bits, however they are written, and no more."""
        self.assertEqual(addressKey("2001:db8:1:2::1"), "2001:db8:1:2::/64")
        self.assertEqual(addressKey("2001:0DB8:1:2:ffff:ffff:ffff:ffff"), "2001:db8:1:2::/64")
        self.assertEqual(addressKey("2001:db8:1:3::1"), "2001:db8:1:3::/64")
        self.assertEqual(addressKey("fe80::1%eth0"), "fe80::/64")

    def test_anythingElse(self) -> None:
        """What is no address, with colons or without, is its own key."""
        for host in ("", "/run/gateway.sock", "/run/a:b.sock", "1:2:3", "unix"):
            self.assertEqual(addressKey(host), host)


class TokenBucketTests(SynchronousTestCase):
    """L{TokenBucket} lets a rate and a burst through."""

    def test_burstThenRate(self) -> None:
        """The whole burst is free; what exceeds it must wait as long as the rate needs."""
        bucket = TokenBucket(rate=4.0, burst=8.0, now=100.0)
        self.assertEqual(bucket.take(8, 100.0), 0.0)
        self.assertEqual(bucket.take(1, 100.0), 0.25)
        self.assertEqual(bucket.take(1, 100.0), 0.5)

    def test_debtIsPaid(self) -> None:
        """After the wait, nothing is owed, and nothing was saved."""
        bucket = TokenBucket(rate=4.0, burst=8.0, now=0.0)
        wait = bucket.take(16, 0.0)
        self.assertEqual(wait, 2.0)
        self.assertEqual(bucket.take(0, wait), 0.0)
        self.assertEqual(bucket.take(1, wait), 0.25)

    def test_fillsToTheBurst(self) -> None:
        """However long nothing is taken, no more than the burst is there."""
        bucket = TokenBucket(rate=4.0, burst=8.0, now=0.0)
        bucket.take(8, 0.0)
        self.assertFalse(bucket.isFull(1.75))
        self.assertTrue(bucket.isFull(2.0))
        self.assertFalse(bucket.tryTake(8.5, 1e6))
        self.assertTrue(bucket.tryTake(8, 1e6))

    def test_tryTakesAllOrNothing(self) -> None:
        """What is not there in full is not taken in part."""
        bucket = TokenBucket(rate=1.0, burst=2.0, now=0.0)
        self.assertFalse(bucket.tryTake(3, 0.0))
        self.assertTrue(bucket.tryTake(2, 0.0))
        self.assertFalse(bucket.tryTake(1, 0.5))
        self.assertTrue(bucket.tryTake(1, 1.0))

    def test_aStepBackIsNoTime(self) -> None:
        """A clock that goes back neither fills the bucket nor empties it, nor counts twice afterwards."""
        bucket = TokenBucket(rate=1.0, burst=2.0, now=10.0)
        bucket.take(2, 10.0)
        self.assertFalse(bucket.tryTake(1, 5.0))
        self.assertFalse(bucket.tryTake(1, 10.5))
        self.assertTrue(bucket.tryTake(1, 11.0))

    def test_needsARateAndABurst(self) -> None:
        """A rate or burst that would never let anything through is refused."""
        for rate, burst in ((0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0)):
            self.assertRaises(ValueError, TokenBucket, rate, burst, 0.0)


class BansTests(SynchronousTestCase):
    """L{Bans} shut out who fails too often."""

    HOST = "192.0.2.1"

    def failed(self, bans: Bans, times: int, now: float, host: str = HOST) -> list[bool]:
        return [bans.failed(host, now) for _ in range(times)]

    def test_threshold(self) -> None:
        """One failure less than the threshold does nothing; the next starts the ban, and says so."""
        bans = Bans()
        self.assertEqual(self.failed(bans, BAN_THRESHOLD - 1, 0.0), [False] * (BAN_THRESHOLD - 1))
        self.assertEqual(bans.remaining(self.HOST, 0.0), 0.0)
        self.assertTrue(bans.failed(self.HOST, 1.0))
        self.assertEqual(bans.remaining(self.HOST, 1.0), BAN_SECONDS)

    def test_ends(self) -> None:
        """A ban lasts until just before its time is over, and then the count starts anew."""
        bans = Bans(threshold=2, duration=10.0)
        self.failed(bans, 2, 0.0)
        self.assertEqual(bans.remaining(self.HOST, 9.5), 0.5)
        self.assertEqual(bans.remaining(self.HOST, 10.0), 0.0)
        self.assertEqual(self.failed(bans, 2, 10.0), [False, True])

    def test_failuresDuringABan(self) -> None:
        """Failures of connections that were open already neither prolong a ban nor count after it."""
        bans = Bans(threshold=2, duration=10.0)
        self.failed(bans, 2, 0.0)
        self.assertEqual(self.failed(bans, 5, 9.0), [False] * 5)
        self.assertEqual(bans.remaining(self.HOST, 9.0), 1.0)
        self.assertFalse(bans.failed(self.HOST, 10.0))

    def test_window(self) -> None:
        """Failures count together until just before the window after the first is over."""
        bans = Bans(threshold=3)
        self.failed(bans, 1, 0.0)
        self.assertEqual(self.failed(bans, 2, BAN_WINDOW - 0.5), [False, True])
        bans = Bans(threshold=3)
        self.failed(bans, 1, 0.0)
        self.failed(bans, 1, BAN_WINDOW - 0.5)
        self.assertEqual(self.failed(bans, 3, BAN_WINDOW), [False, False, True])

    def test_windowsAreEachAddresssOwn(self) -> None:
        """One address's failures do not keep another's window open."""
        bans = Bans(threshold=3, window=60.0)
        bans.failed("192.0.2.1", 0.0)
        bans.failed("192.0.2.2", 50.0)
        bans.failed("192.0.2.1", 55.0)
        self.assertFalse(bans.failed("192.0.2.1", 61.0))

    def test_success(self) -> None:
        """Who finds the right token starts from nothing."""
        bans = Bans(threshold=2)
        bans.failed(self.HOST, 0.0)
        bans.succeeded(self.HOST)
        bans.succeeded("192.0.2.2")
        self.assertFalse(bans.failed(self.HOST, 0.0))

    def test_countsByAddressKey(self) -> None:
        """A visitor who moves within a /64 stays the same visitor, and the neighbours are others."""
        bans = Bans(threshold=2)
        bans.failed("2001:db8::1", 0.0)
        self.assertTrue(bans.failed("2001:db8::2", 0.0))
        self.assertTrue(bans.remaining("2001:db8::3", 0.0))
        self.assertFalse(bans.remaining("2001:db8:0:1::1", 0.0))

    def test_capacity(self) -> None:
        """Of failures and of bans, the oldest are forgotten when there are too many, and no other."""
        bans = Bans(threshold=2, capacity=2)
        a, b, c, d = (f"192.0.2.{number}" for number in range(1, 5))
        for host in (a, b, c):
            bans.failed(host, 0.0)
        self.assertFalse(bans.failed(a, 0.0))  # a was forgotten; it takes the place of b
        self.assertTrue(bans.failed(c, 0.0))
        self.assertTrue(bans.failed(a, 0.0))
        self.failed(bans, 2, 1.0, d)
        self.assertEqual([bool(bans.remaining(host, 1.0)) for host in (a, c, d)], [True, False, True])
        self.assertEqual(len(bans), 2)

    def test_endedBansAreForgotten(self) -> None:
        """Bans that ended take no memory beyond the next ban, even if nobody asks about them."""
        bans = Bans(threshold=1, duration=10.0)
        for number in range(100):
            bans.failed(f"192.0.2.{number}", 0.0)
        bans.failed("198.51.100.1", 10.0)
        self.assertEqual(len(bans), 1)

    def test_noAddress(self) -> None:
        """What is no address is the way by which many come, and is never shut out."""
        bans = Bans(threshold=1)
        for host in ("/run/gateway.socket", "unix", "proxy 127.0.0.1"):
            self.assertFalse(bans.failed(host, 0.0))
            self.assertFalse(bans.remaining(host, 0.0))


class CountsTests(SynchronousTestCase):
    """L{Counts} count what each key holds."""

    def test_limit(self) -> None:
        """A key holds as many as the limit and not one more, until one is released."""
        counts = Counts(2)
        self.assertEqual([counts.acquire("a") for _ in range(3)], [True, True, False])
        self.assertEqual(counts.count("a"), 2)
        self.assertTrue(counts.isFull("a"))
        self.assertTrue(counts.acquire("b"))
        counts.release("a")
        self.assertFalse(counts.isFull("a"))
        self.assertTrue(counts.acquire("a"))

    def test_limitOfAKey(self) -> None:
        """A key's own limit stands in place of the limit for all."""
        counts = Counts(2)
        self.assertEqual([counts.acquire("a", 1) for _ in range(2)], [True, False])
        self.assertEqual([counts.acquire("b", 3) for _ in range(4)], [True, True, True, False])

    def test_noLimit(self) -> None:
        """Without a limit, nothing is refused."""
        counts = Counts()
        self.assertTrue(all(counts.acquire("a") for _ in range(1000)))
        self.assertFalse(counts.isFull("a"))

    def test_keysVanish(self) -> None:
        """A key that holds nothing is not there; to release what it does not hold is a mistake."""
        counts = Counts()
        counts.acquire("a")
        counts.release("a")
        self.assertEqual((len(counts), counts.count("a")), (0, 0))
        self.assertRaises(KeyError, counts.release, "a")


class AdmissionTests(SynchronousTestCase):
    """L{Admission} decides about each new connection."""

    def admission(
        self,
        *,
        unauthenticated: int | None = None,
        unauthenticatedPerAddress: int | None = None,
        perAddress: int | None = None,
        newPerSecond: float | None = None,
        newPerSecondPerAddress: float | None = None,
        addressCapacity: int = 10,
        bans: Bans | None = None,
    ) -> Admission:
        return Admission(
            0.0,
            unauthenticated=unauthenticated,
            unauthenticatedPerAddress=unauthenticatedPerAddress,
            perAddress=perAddress,
            newPerSecond=newPerSecond,
            newPerSecondPerAddress=newPerSecondPerAddress,
            addressCapacity=addressCapacity,
            bans=bans,
        )

    def ticket(self, admission: Admission, host: str = "192.0.2.1", now: float = 0.0) -> Ticket:
        ticket = admission.admit(host, now)
        assert isinstance(ticket, Ticket), ticket
        return ticket

    def test_fronts(self) -> None:
        """No limit of one address holds for a front, but those of all do, and it is counted as others are."""
        admission = self.admission(
            unauthenticated=4, unauthenticatedPerAddress=1, perAddress=1, newPerSecond=5, newPerSecondPerAddress=1
        )
        tickets = [admission.admit("192.0.2.1", 0.0, isFront=True) for _ in range(5)]
        self.assertIs(tickets.pop(), AdmissionRefusal.TOO_MANY_UNAUTHENTICATED)
        self.assertIs(admission.admit("192.0.2.1", 1.0), AdmissionRefusal.TOO_MANY_FROM_ADDRESS)
        for ticket in tickets:
            assert isinstance(ticket, Ticket)
            ticket.release()
        self.assertEqual((admission.connections, admission.unauthenticated), (0, 0))
        self.ticket(admission, now=2.0)

    def test_wordsAreStable(self) -> None:
        """The words of the reasons are those that logs and metrics promise."""
        self.assertEqual(
            {refusal.value for refusal in AdmissionRefusal},
            {"banned", "too-many-unauthenticated", "too-many-from-address", "too-many-new"},
        )

    def test_noLimits(self) -> None:
        """Without limits, everyone is admitted."""
        admission = self.admission()
        for _ in range(5000):
            self.ticket(admission)

    def test_unauthenticated(self) -> None:
        """As many unknown visitors as the limit are admitted, and one more once one is known or gone."""
        admission = self.admission(unauthenticated=2)
        first, second = self.ticket(admission, "a"), self.ticket(admission, "b")
        self.assertIs(admission.admit("c", 0.0), AdmissionRefusal.TOO_MANY_UNAUTHENTICATED)
        first.authenticated()
        self.ticket(admission, "c")
        self.assertIs(admission.admit("d", 0.0), AdmissionRefusal.TOO_MANY_UNAUTHENTICATED)
        second.release()
        self.ticket(admission, "d")

    def test_unauthenticatedPerAddress(self) -> None:
        """As many unknown visitors as the limit are admitted from one address, and others from elsewhere."""
        admission = self.admission(unauthenticatedPerAddress=2)
        first, _ = self.ticket(admission, "2001:db8::1"), self.ticket(admission, "2001:db8::2")
        self.assertIs(admission.admit("2001:db8::3", 0.0), AdmissionRefusal.TOO_MANY_FROM_ADDRESS)
        self.ticket(admission, "2001:db8:0:1::1")
        first.authenticated()
        self.ticket(admission, "2001:db8::3")

    def test_perAddress(self) -> None:
        """As many connections as the limit are admitted from one address, known or not, and one more after one."""
        admission = self.admission(perAddress=2)
        first, second = self.ticket(admission, "a"), self.ticket(admission, "a")
        first.authenticated()
        self.assertIs(admission.admit("a", 0.0), AdmissionRefusal.TOO_MANY_FROM_ADDRESS)
        second.authenticated()
        self.assertIs(admission.admit("a", 0.0), AdmissionRefusal.TOO_MANY_FROM_ADDRESS)
        self.ticket(admission, "b")
        first.release()
        self.ticket(admission, "a")

    def test_newPerSecond(self) -> None:
        """As many as the rate at once, then as many as time brings."""
        admission = self.admission(newPerSecond=4.0)
        for host in "abcd":
            self.ticket(admission, host).release()
        self.assertIs(admission.admit("e", 0.0), AdmissionRefusal.TOO_MANY_NEW)
        self.ticket(admission, "e", 0.25)
        self.assertIs(admission.admit("f", 0.25), AdmissionRefusal.TOO_MANY_NEW)

    def test_newPerSecondPerAddress(self) -> None:
        """One address's rate is its own, and its flood takes nothing from what all share."""
        admission = self.admission(newPerSecond=4.0, newPerSecondPerAddress=2.0)
        self.ticket(admission, "a")
        self.ticket(admission, "a")
        for _ in range(100):
            self.assertIs(admission.admit("a", 0.0), AdmissionRefusal.TOO_MANY_NEW)
        self.ticket(admission, "b")
        self.ticket(admission, "c")
        self.ticket(admission, "a", 0.5)

    def test_slowRatesLetOneIn(self) -> None:
        """A rate of less than one a second still lets the first in."""
        admission = self.admission(newPerSecond=0.5, newPerSecondPerAddress=0.5)
        self.ticket(admission)
        self.assertIs(admission.admit("192.0.2.1", 1.5), AdmissionRefusal.TOO_MANY_NEW)
        self.ticket(admission, now=2.0)

    def test_ratesAreForgotten(self) -> None:
        """Addresses are remembered until their rate has recovered, and never more than the capacity."""
        admission = self.admission(newPerSecondPerAddress=2.0, addressCapacity=3)
        rates = admission._newFrom
        assert rates is not None
        for number in range(10):
            self.ticket(admission, str(number)).release()
        self.assertEqual(len(rates), 3)
        self.ticket(admission, "last", 1.0)
        self.assertEqual(len(rates), 1)

    def test_rateOfZero(self) -> None:
        """A rate of zero is a mistake, not the absence of a limit."""
        self.assertRaises(ValueError, self.admission, newPerSecond=0.0)

    def test_bans(self) -> None:
        """A banned address is not admitted for as long as the ban lasts."""
        bans = Bans(threshold=1, duration=10.0)
        admission = self.admission(bans=bans)
        self.ticket(admission, "192.0.2.1")
        bans.failed("192.0.2.1", 0.0)
        self.assertIs(admission.admit("192.0.2.1", 9.5), AdmissionRefusal.BANNED)
        self.ticket(admission, "192.0.2.2", 9.5)
        self.ticket(admission, "192.0.2.1", 10.0)

    def test_ticketsCountOnce(self) -> None:
        """To authenticate or release twice, or to authenticate after the release, changes nothing."""
        admission = self.admission()
        ticket, other = self.ticket(admission), self.ticket(admission)
        for _ in range(2):
            ticket.authenticated()
            self.assertEqual((admission.connections, admission.unauthenticated), (2, 1))
        for _ in range(2):
            ticket.release()
            ticket.authenticated()
            self.assertEqual((admission.connections, admission.unauthenticated), (1, 1))
        other.release()
        other.authenticated()
        self.assertEqual((admission.connections, admission.unauthenticated), (0, 0))

    def test_countersReturnToZero(self) -> None:
        """Whatever the order of events, the counts are right at each step and nothing remains at the end."""
        random = Random(2)
        bans = Bans(threshold=50, duration=1.0)
        admission = self.admission(
            unauthenticated=20,
            unauthenticatedPerAddress=5,
            perAddress=8,
            newPerSecond=500.0,
            newPerSecondPerAddress=200.0,
            bans=bans,
        )
        hosts = ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "/run/a.sock", *map(str, range(20))]
        waiting: list[Ticket] = []
        known: list[Ticket] = []
        seen: set[object] = set()
        now = 0.0
        for _ in range(20_000):
            now += random.random() / 200
            match random.randrange(7):
                case 0 | 1 | 2:
                    host = random.choice(hosts)
                    answer = admission.admit(host, now)
                    if isinstance(answer, Ticket):
                        waiting.append(answer)
                        seen.add(Ticket)
                    else:
                        seen.add(answer)
                        bans.failed(host, now)
                case 3 if waiting:
                    known.append(waiting.pop(random.randrange(len(waiting))))
                    known[-1].authenticated()
                case 4 | 5 if known:
                    known.pop(random.randrange(len(known))).release()
                case 6 if waiting:
                    waiting.pop(random.randrange(len(waiting))).release()
            self.assertEqual(admission.unauthenticated, len(waiting))
            self.assertEqual(admission.connections, len(waiting) + len(known))
        self.assertLessEqual(
            {
                Ticket,
                AdmissionRefusal.BANNED,
                AdmissionRefusal.TOO_MANY_FROM_ADDRESS,
                AdmissionRefusal.TOO_MANY_UNAUTHENTICATED,
            },
            seen,
        )
        for ticket in waiting + known:
            ticket.release()
        self.assertEqual((admission.connections, admission.unauthenticated), (0, 0))
        self.assertEqual((len(admission._all), len(admission._waiting)), (0, 0))
