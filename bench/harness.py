"""
What the benchmarks share: interleaved rounds, honest accounting of a process, tables and result files.

A rate alone says little on a machine that other work shares, so that everything here is relative: contestants take
turns within each round, a ratio is the median of the rounds' own ratios, and CPU seconds of the gateway stand beside
every rate::

    results = Results("tabby", baseline="original")
    with results.reported():
        for _ in rounds(5):
            for contestant in contestants:
                with results.failing(contestant.name):
                    results.add(contestant.name, measure(contestant))
    sys.exit(results.status)
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

HERE = "127.0.0.1"
MIB = 1024 * 1024

_FOLDER = Path(__file__).resolve().parent / "results"
_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return C{pid} and all its descendants; some peers fork for each connection."""
    members = [pid]
    for member in members:
        try:
            children = Path(f"/proc/{member}/task/{member}/children").read_text()
        except OSError:
            continue
        members += map(int, children.split())
    return members


def cpuSeconds(pid: int) -> float:
    """Return the CPU seconds, user and system, that C{pid} and its family have used, the ended ones included."""
    ticks = 0
    for member in family(pid):
        try:
            stat = Path(f"/proc/{member}/stat").read_text()
        except OSError:
            continue
        # The name, in parentheses, may hold spaces: count from behind it. utime stime cutime cstime, proc(5).
        ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return ticks / _TICKS


def residentKiB(pid: int) -> float:
    """
    Return the resident memory of C{pid} and its family in KiB.

    For one process that is its RSS. For several it is the sum of their proportional set sizes, so that the pages that
    forks share are counted once.
    """
    members = family(pid)
    kind = "Rss:" if len(members) == 1 else "Pss:"
    total = 0
    for member in members:
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(kind))
    return total


def allowDescriptors() -> None:
    """Raise the soft limit of open descriptors to the hard one, for this process and what it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def child(work: Callable[[socket.socket], None], seconds: int = 300) -> Iterator[tuple[int, int]]:
    """
    Run C{work} with a listening socket in a process of its own, for one C{with} block.

    @param seconds: when the process ends even if nobody is left to end it.

    @return: the port and the process id.
    """
    with socket.create_server((HERE, 0), backlog=1024) as listener:
        process = multiprocessing.get_context("fork").Process(target=_run, args=(work, listener, seconds))
        process.daemon = True
        process.start()
        port: int = listener.getsockname()[1]
    assert process.pid is not None
    try:
        yield port, process.pid
    finally:
        process.kill()
        process.join()


def _run(work: Callable[[socket.socket], None], listener: socket.socket, seconds: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(seconds)
    work(listener)


def _endOnTerm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: through every C{finally}."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


Sample = Mapping[str, float]
"""What one contestant measured in one round: by metric, whose name holds its unit."""


@dataclass(frozen=True, slots=True)
class Goal:
    """
    What we want to reach.

    @ivar bound: of the ratio to the baseline, or of the figure itself.
    @ivar least: whether more is better.
    @ivar relative: whether it is of the ratio.
    """

    metric: str
    bound: float
    least: bool = True
    relative: bool = True


@dataclass(slots=True)
class Results:
    """
    The samples of one run.

    @ivar name: of the benchmark, and so of its result file.
    @ivar baseline: the contestant that ratios are against.
    @ivar status: what the process is to end with.
    """

    name: str
    baseline: str
    started: float = field(default_factory=time.time)
    load: tuple[float, float, float] = field(default_factory=os.getloadavg)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    status: int = 0

    @contextmanager
    def reported(self, ours: str = "", goals: Iterable[Goal] = ()) -> Iterator[None]:
        """
        Measure in a C{with} block. Whatever ends it, what was measured is written and saved; Ctrl-C ends it in silence.

        @param ours: the contestant that has goals.
        """
        _endOnTerm()
        try:
            yield
        except KeyboardInterrupt:
            self.status = 130
        finally:
            self.write(sys.stdout)
            if goals:
                _writeGoals(self, ours, goals, sys.stdout)
            print(f"\n{self.save()}")

    @contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Measure once. Some fail at what others do: that is a result, too, and no reason to lose the others'."""
        try:
            yield
        except (OSError, RuntimeError) as e:
            print(f"{what}: failed: {e}")
            self.status = 1

    def add(self, contestant: str, sample: Sample) -> None:
        """Add what C{contestant} measured in the present round."""
        for metric, value in sample.items():
            self.samples.setdefault(metric, {}).setdefault(contestant, []).append(value)

    def ratio(self, metric: str, contestant: str) -> float | None:
        """Return the median of the rounds' ratios to the baseline, if both were measured."""
        ours, theirs = self.samples[metric].get(contestant), self.samples[metric].get(self.baseline)
        if not ours or not theirs:
            return None
        ratios = [our / their for our, their in zip(ours, theirs, strict=False) if their]
        return statistics.median(ratios) if ratios else None

    def write(self, to: TextIO) -> None:
        """Write a table for people."""
        to.write(f"{platform.machine()}, {os.cpu_count()} CPUs, load {self.load[0]:.2f} at the start\n")
        for metric, by in self.samples.items():
            to.write(f"\n{metric:<38}{'median':>10}{'min':>10}{'max':>10}{'ratio':>8}\n")
            for contestant, values in by.items():
                figures = (statistics.median(values), min(values), max(values))
                ratio = self.ratio(metric, contestant)
                to.write(f"  {contestant:<36}" + "".join(f"{figure(value):>10}" for value in figures))
                to.write(f"{'' if ratio is None else f'{ratio:.2f}':>8}\n")

    def save(self) -> Path:
        """Write everything as JSON and return where."""
        _FOLDER.mkdir(exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self.started))
        path = _FOLDER / f"{self.name}-{stamp}.json"
        whole = {
            "benchmark": self.name,
            "baseline": self.baseline,
            "started": stamp,
            "python": sys.version.split()[0],
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "load": self.load,
            "samples": self.samples,
        }
        path.write_text(json.dumps(whole, indent=1) + "\n")
        return path


def _writeGoals(results: Results, ours: str, goals: Iterable[Goal], to: TextIO) -> None:
    """Write which goals the contestant C{ours} meets, of those that were measured."""
    to.write(f"\n{ours:<38}{'reached':>12}{'goal':>10}\n")
    for goal in goals:
        values = results.samples.get(goal.metric, {}).get(ours)
        if not values:
            continue
        reached = results.ratio(goal.metric, ours) if goal.relative else statistics.median(values)
        if reached is None:
            continue
        met = reached >= goal.bound if goal.least else reached <= goal.bound
        to.write(f"  {goal.metric:<36}{'ratio ' * goal.relative + figure(reached):>12}")
        to.write(f"{('>= ' if goal.least else '<= ') + figure(goal.bound):>10}  {'met' if met else 'missed'}\n")


def figure(value: float) -> str:
    """Return C{value} with about three digits."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def quantile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which C{part} of C{ordered} lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
