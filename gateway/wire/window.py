"""
How much a peer may send on a stream before it must wait: flow control as accounting, without frames.

A window of 256 KiB, which is all that yamux promises, caps a stream at 50 Mbit/s when the round trip takes 40 ms. So
a L{ReceiveWindow} grows while it is what holds its stream up, out of one L{WindowBudget} for the whole process::

    budget = WindowBudget(512 * 1024 * 1024)
    window = ReceiveWindow(budget, maximum=16 * 1024 * 1024, now=0.0)
    assert window.receive(200_000)                               # False: more than the peer may send
    assert window.consume(200_000, now=0.04, rtt=0.04) > 0       # credit to announce to the peer

Three numbers describe a window. C{credit} is what the peer may still send, C{unconsumed} is what it sent and the
application did not take yet, and C{size} is what the two add up to right after credit was announced. The peer can make
us hold C{credit + unconsumed} at any time: that, beyond the first 256 KiB, is what the budget counts, whether or not
it is sent, so that the budget is a promise and not a hope. Yamux has no way to take credit back. A window that shrinks
does it by announcing nothing until the peer has used up the excess, and only then does the budget get it back.

When to announce. Credit goes back in batches of an eighth of a window, and L{MAX_BATCH} at most, so that updates stay
few. The credit that a batch keeps back is missing from what can be under way: hashicorp's library keeps back half.

When to grow. Whenever a batch is due, and at least a round trip has passed since the last decision, and no less than
L{SPAN}, the window asks for twice the bandwidth-delay product, C{2 * rtt * rate}, where the rate is what the
application consumed, and gets at most twice what it has. A stream that its window holds up gets at least seven eighths
of it through in a round trip, and so asks for more than it has. A stream that is slow for another reason asks for less.
Not more than twice, as the rest is a queue, in which all other streams wait. A window more than twice as large as it
asks for is halved. One of which less than a batch was used in L{IDLE} seconds is measured, too.
C{docs/explanation/yamux-windows.md} has what was rejected.
"""

__all__ = ["IDLE", "INITIAL_WINDOW", "MAX_BATCH", "MAX_WINDOW", "SPAN", "ReceiveWindow", "WindowBudget"]

from gateway.wire.errors import LocalProtocolError

INITIAL_WINDOW = 256 * 1024
"""Bytes that either side may send on a new stream (yamux's spec, "Flow Control")."""

MAX_WINDOW = 2**32 - 1
"""Bytes: what the field of a frame can hold."""

_BATCHES = 8
"""In how many batches the credit of a window goes back."""

MAX_BATCH = 1024 * 1024
"""Bytes: credit that is due is announced at this at the latest."""

SPAN = 0.01
"""
Seconds over which a rate is measured at least. Near by, a process may be held up for longer than a few round trips, and
the burst that follows would pass for the rate.
"""

IDLE = 10.0
"""Seconds after which a window of which less than a batch was used is measured all the same."""


class WindowBudget:
    """
    The bytes by which all windows of the process together may exceed L{INITIAL_WINDOW} each.

    @param limit: bytes; 0 keeps every window at its initial size.
    @ivar used: bytes at present.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = 512 * 1024 * 1024) -> None:
        self.limit = limit
        self.used = 0

    def reserve(self, wanted: int) -> int:
        """
        @return: the bytes reserved: as many as wanted, or what is left, which may be none.
        """
        granted = max(0, min(wanted, self.limit - self.used))
        self.used += granted
        return granted

    def release(self, count: int) -> None:
        """Give back bytes that were reserved."""
        self.used -= count


class ReceiveWindow:
    """
    One stream's receiving direction.

    @param maximum: bytes, L{INITIAL_WINDOW} to L{MAX_WINDOW}.
    @param now: seconds, on the same monotonic clock as every later C{now}.
    @ivar credit: bytes that the peer may still send.
    @ivar unconsumed: bytes that it sent and the application did not consume yet.
    @ivar size: the sum of both that the window aims at.
    """

    __slots__ = ("_batch", "_budget", "_maximum", "_measured", "_reserved", "_since", "credit", "size", "unconsumed")

    def __init__(self, budget: WindowBudget, maximum: int, now: float) -> None:
        self.credit = self.size = INITIAL_WINDOW
        self.unconsumed = 0
        self._batch = INITIAL_WINDOW // _BATCHES
        self._budget = budget
        self._maximum = maximum
        self._reserved = 0
        self._since = now
        self._measured = 0

    def receive(self, count: int) -> bool:
        """
        The peer sends payload.

        @return: whether it may; if not, nothing has changed.
        """
        if count > self.credit:
            return False
        self.credit -= count
        self.unconsumed += count
        return True

    def consume(self, count: int, now: float, rtt: float | None) -> int:
        """
        The application took payload.

        @param rtt: the round trip in seconds; C{None} while unknown, which keeps the window as it is.
        @return: credit to announce now, in bytes; 0 until a batch is due.
        @raise LocalProtocolError: when more is consumed than was received.
        """
        if count > self.unconsumed:
            raise LocalProtocolError(f"{count} bytes consumed of {self.unconsumed}")
        self.unconsumed -= count
        self._measured += count
        held = self.credit + self.unconsumed
        due = self.size - held
        if due <= 0:
            self._settle()
            return 0
        if due < self._batch and now - self._since < IDLE:
            if self._reserved > self.size - INITIAL_WINDOW:  # the last of an excess was used up
                self._settle()
            return 0
        self._resize(now - self._since, now, rtt)
        due = self.size - held
        if due < self._batch:
            self._settle()
            return 0
        self.credit += due
        self._settle()
        return due

    def _resize(self, elapsed: float, now: float, rtt: float | None) -> None:
        """Decide on the size, if there was time enough to measure."""
        if rtt is None or elapsed < max(rtt, SPAN):
            return
        target = min(self._maximum, int(2 * rtt * self._measured / elapsed))
        if target > self.size:
            granted = self._budget.reserve(min(target, 2 * self.size) - self.size)
            self._reserved += granted
            self.size += granted
        elif 2 * target < self.size:
            self.size = max(INITIAL_WINDOW, self.size // 2)
        self._batch = min(self.size // _BATCHES, MAX_BATCH)
        self._since = now
        self._measured = 0

    def _settle(self) -> None:
        """Give back to the budget what the peer can no longer make us hold."""
        excess = self._reserved - max(0, max(self.size, self.credit + self.unconsumed) - INITIAL_WINDOW)
        if excess > 0:
            self._reserved -= excess
            self._budget.release(excess)

    def end(self) -> None:
        """The peer sends no more: only what is not consumed yet still counts."""
        self.credit = self.size = 0
        self._settle()

    def release(self) -> None:
        """Nothing will be held any more: give everything back to the budget. There is nothing to consume after this."""
        self.unconsumed = 0
        self.size = self.credit
        self._budget.release(self._reserved)
        self._reserved = 0

    @property
    def isSpent(self) -> bool:
        """Half of what the peer might still send at L{release} has come since then; or it might send nothing."""
        return 2 * self.credit <= self.size
