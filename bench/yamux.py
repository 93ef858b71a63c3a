"""
Our yamux on Twisted beside hashicorp's in Go: both ends ours, or both ends theirs, on loopback TCP.

It exists to say whether the tunnel's multiplexer, in Python, is as fast as the one that everybody uses. Each
contestant is two processes, which make the load themselves; each measurement starts them anew::

    python -m bench.yamux --rounds 5
    python -m bench.yamux --seconds 0.3 --rounds 1 --only bulk,pingpong
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from .delayline import delayLine
from .harness import (
    HERE,
    MIB,
    Goal,
    Results,
    Sample,
    child,
    cpuSeconds,
    quantile,
    residentKiB,
)
from .yamuxends import MESSAGE, STAMP

_ROOT = Path(__file__).resolve().parents[1]
_GO = _ROOT / ".peers/go/interop"
_TIMEOUT = 60.0
_WARM = 0.3

_GAP = 0.001
"""Seconds between messages beside a bulk stream."""

_DELAY = 0.020
"""Seconds, each way, of the long line."""

_LONG_WARM = 1.5
"""Seconds in which windows, ours and TCP's, may grow to what the long line needs."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """
    A program that can be both ends of a session.

    @ivar command: the words before the flags.
    @ivar flags: what both ends get besides, or instead of, what the measurement asks for.
    @ivar only: the measurements that it is for; all, if there are none.
    """

    name: str
    command: tuple[str, ...]
    flags: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    @contextmanager
    def ends(self, load: str, *, delay: float = 0.0, **flags: float) -> Iterator[Ends]:
        """
        Start both ends, for one C{with} block.

        @param load: what the connecting end does.
        @param delay: seconds that the line between them takes in each direction.
        @param flags: for both ends.
        """
        # Of a flag that comes twice the last one counts, so that a contestant's own do.
        words = [*(f"--{name}={value}" for name, value in flags.items()), *self.flags]
        with ExitStack() as stack:
            accepting = stack.enter_context(self._started("--listen", f"{HERE}:0", *words))
            address = accepting.line()
            if delay:
                target = (HERE, int(address.rpartition(":")[2]))
                port, _ = stack.enter_context(child(delayLine(target, delay)))
                address = f"{HERE}:{port}"
            connecting = stack.enter_context(self._started("--dial", address, "--load", load, *words))
            yield Ends(accepting, connecting)

    @contextmanager
    def _started(self, *words: str) -> Iterator[End]:
        process = subprocess.Popen(
            [*self.command, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            start_new_session=True,
        )
        limit = Timer(_TIMEOUT, process.kill)
        limit.start()
        try:
            yield End(process)
        finally:
            limit.cancel()
            process.kill()
            process.communicate()


@dataclass(frozen=True, slots=True)
class End:
    """A process that is one end of a session."""

    process: subprocess.Popen[bytes]

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended, or took more than {_TIMEOUT:.0f} s")
        return line.decode().strip()

    def write(self, data: bytes) -> None:
        """Send it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What a load came to.

    @ivar count: bytes, visits or messages.
    @ivar times: nanoseconds of each message, in order of size.
    @ivar cpu: seconds that both ends used.
    """

    count: int
    seconds: float
    times: list[int]
    cpu: float

    @property
    def gigabytes(self) -> float:
        """The count, of bytes."""
        return self.count / 1e9

    @property
    def rate(self) -> float:
        """The count in each second."""
        return self.count / self.seconds

    def microseconds(self, part: float) -> float:
        """Return the time below which C{part} of the times lie."""
        return quantile(self.times, part) / 1000


@dataclass(frozen=True, slots=True)
class Ends:
    """A running contestant."""

    accepting: End
    connecting: End

    def begun(self) -> float:
        """Wait until the measurement begins. Return the CPU seconds that both ends have used."""
        return self._cpuAt("begin")

    def figures(self, cpu: float) -> Figures:
        """
        Wait until it is over.

        @param cpu: of L{begun}.
        """
        used = self._cpuAt("end") - cpu
        told = json.loads(self.connecting.line())
        return Figures(told["count"], told["nanoseconds"] / 1e9, sorted(told.get("times", ())), used)

    def _cpuAt(self, mark: str) -> float:
        if (line := self.connecting.line()) != mark:
            raise RuntimeError(f"{line!r} instead of {mark!r}")
        return cpuSeconds(self.accepting.process.pid) + cpuSeconds(self.connecting.process.pid)

    def resident(self) -> tuple[float, float]:
        """Return the resident KiB of the connecting and of the accepting end."""
        return residentKiB(self.connecting.process.pid), residentKiB(self.accepting.process.pid)


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much of everything.

    @ivar seconds: of each measurement.
    @ivar block: bytes of a write, in bulk.
    @ivar idle: streams that stay.
    """

    seconds: float
    block: int
    idle: int


def measureBulk(contestant: Contestant, scale: Scale) -> Sample:
    """All the bytes that one stream carries, and eight: first up, from the connecting end, then down."""
    sample: dict[str, float] = {}
    for streams in (1, 8):
        for load in ("upload", "download"):
            with contestant.ends(load, warm=_WARM, span=scale.seconds, streams=streams, block=scale.block) as ends:
                got = ends.figures(ends.begun())
            name = f"{load}, {streams} stream{'s' * (streams > 1)}"
            sample[f"{name}, GB/s"] = got.gigabytes / got.seconds
            sample[f"{name}, CPU s/GB"] = got.cpu / got.gigabytes
    return sample


def measureVisits(contestant: Contestant, scale: Scale) -> Sample:
    """Streams that carry 64 bytes there and back, 32 at a time."""
    with contestant.ends("visits", warm=_WARM, span=scale.seconds, streams=32) as ends:
        got = ends.figures(ends.begun())
    return {"open, echo, close /s": got.rate, "open, echo, close, CPU s/1000": got.cpu * 1000 / got.count}


def measurePingpong(contestant: Contestant, scale: Scale) -> Sample:
    """64 bytes there and back on one stream, one at a time."""
    with contestant.ends("pingpong", warm=_WARM, span=scale.seconds) as ends:
        got = ends.figures(ends.begun())
    return {
        "ping-pong /s": got.rate,
        "ping-pong, CPU s/1000": got.cpu * 1000 / got.count,
        "ping-pong p50, us": got.microseconds(0.5),
        "ping-pong p99, us": got.microseconds(0.99),
    }


def measureBeside(contestant: Contestant, scale: Scale) -> Sample:
    """
    64 bytes there and back, one each millisecond, beside a stream that sends all it can the same way.

    The messages come from here, whether or not earlier ones are back, and hold when they were sent, so that what waits
    is counted with its waiting.
    """
    with contestant.ends("beside", warm=_WARM, span=scale.seconds, block=scale.block) as ends:
        cpu = ends.begun()
        begun = time.monotonic()
        for number in range(round(scale.seconds / _GAP)):
            if (wait := begun + number * _GAP - time.monotonic()) > 0:
                time.sleep(wait)
            ends.connecting.write(STAMP.pack(time.time_ns()).ljust(MESSAGE, b"\0"))
        ends.connecting.write(bytes(MESSAGE))
        got = ends.figures(cpu)
    return {
        "echo beside bulk p50, us": got.microseconds(0.5),
        "echo beside bulk p99, us": got.microseconds(0.99),
        "bulk beside echo, GB/s": got.gigabytes / got.seconds,
    }


def measureIdle(contestant: Contestant, scale: Scale) -> Sample:
    """Streams that have carried one byte each way and then stay, once both ends have collected garbage."""
    with contestant.ends("idle", streams=scale.idle) as ends:
        cpu = ends.begun()
        before = ends.resident()
        ends.connecting.write(b"!")
        ends.figures(cpu)
        opening, accepting = (after - was for after, was in zip(ends.resident(), before, strict=True))
    return {
        "idle stream, opening end, KiB": opening / scale.idle,
        "idle stream, accepting end, KiB": accepting / scale.idle,
    }


def measureLong(contestant: Contestant, scale: Scale) -> Sample:
    """One stream down a line of 40 ms there and back, once the windows have grown."""
    with contestant.ends("download", delay=_DELAY, warm=_LONG_WARM, span=scale.seconds, block=scale.block) as ends:
        got = ends.figures(ends.begun())
    return {"40 ms line, 1 stream, Gbit/s": got.gigabytes * 8 / got.seconds}


MEASURES: dict[str, Callable[[Contestant, Scale], Sample]] = {
    "bulk": measureBulk,
    "visits": measureVisits,
    "pingpong": measurePingpong,
    "beside": measureBeside,
    "idle": measureIdle,
    "long": measureLong,
}

OURS = Contestant("txgateway", (sys.executable, "-m", "bench.yamuxends"))
THEIRS = Contestant("hashicorp", (str(_GO), "bench"))
CONTESTANTS = (
    OURS,
    THEIRS,
    # What suits it best in bulk: a whole window at once.
    Contestant("hashicorp, writes of 256 KiB", THEIRS.command, (f"--block={256 * 1024}",), only=("bulk", "beside")),
    Contestant("hashicorp, windows of 16 MiB", THEIRS.command, (f"--window={16 * MIB}",), only=("long",)),
)


GOALS = (
    *(
        Goal(f"{load}, {streams}, GB/s", 1.1)
        for streams in ("1 stream", "8 streams")
        for load in ("upload", "download")
    ),
    Goal("open, echo, close /s", 3.0),
    Goal("ping-pong /s", 1.2),
    Goal("echo beside bulk p99, us", 1 / 3, least=False),
    Goal("idle stream, opening end, KiB", 1.0, least=False),
    Goal("idle stream, accepting end, KiB", 1.0, least=False),
    Goal("40 ms line, 1 stream, Gbit/s", 0.65, relative=False),
)


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare yamux sessions, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: 1)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(MEASURES)}, with commas")
    parser.add_argument("--block", type=int, default=65536, help="bytes of a write, in bulk (default: 65536)")
    parser.add_argument("--idle", type=int, default=10_000, help="streams that stay (default: 10000)")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    scale = Scale(options.seconds, options.block, options.idle)

    present = list(CONTESTANTS)
    if not _GO.exists():
        print(f"hashicorp: skipped, {_GO} is missing (run scripts/gopeers)")
        present = [OURS]

    results = Results("yamux", baseline=THEIRS.name)
    with results.reported(OURS.name, GOALS):
        for number in range(options.rounds):
            for name in names:
                for contestant in present:
                    if contestant.only and name not in contestant.only:
                        continue
                    print(f"round {number + 1}: {name}, {contestant.name}", file=sys.stderr)
                    results.add(contestant.name, MEASURES[name](contestant, scale))
    return results.status


if __name__ == "__main__":
    sys.exit(main())
