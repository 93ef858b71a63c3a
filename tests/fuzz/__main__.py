"""
Fuzz one target, for some time::

    python -m tests.fuzz yamux-server --seconds 60 --seed 7

Inputs that reach code in an order that no other did are built upon; with C{--keep} they go to the corpus. An input that
raises what is not documented, or whose pieces mean something else than the whole, is made smaller and printed with its
traceback, as a line for the corpus, once for each place. The exit status is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from types import FrameType
from typing import Any

import gateway.wire
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import MAX_INPUT, TARGETS, Target, corpus, keep

_WIRE = gateway.wire.__path__[0]


class Reached:
    """Pairs of lines of L{gateway.wire} that ran one after the other."""

    def __init__(self) -> None:
        self.known: set[tuple[str, int, int]] = set()
        self._new = False

    def reachesNew(self, target: Target, data: bytes) -> bool:
        """Run an input, and say whether it did what none did before. What is raised is for L{problem} to find."""
        self._new = False
        sys.settrace(self._called)
        try:
            target.outcome([data])
        except Exception:
            return False
        finally:
            sys.settrace(None)
        return self._new

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(_WIRE):
            return None
        last = frame.f_lineno

        def ran(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            step = (file, last, frame.f_lineno)
            last = frame.f_lineno
            if step not in self.known:
                self.known.add(step)
                self._new = True
            return ran

        return ran


def cut(random: Random, data: bytes) -> list[bytes]:
    """An input in pieces."""
    edges = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((1, 2, 10))))
    return [data[start:stop] for start, stop in pairwise([0, *edges, len(data)])]


def problem(random: Random, target: Target, data: bytes) -> tuple[str, str] | None:
    """
    @return: where an input does what it must not, and the traceback; C{None} for one that is well.
    """
    try:
        whole = target.outcome([data])
        if target.isStream:
            assert target.outcome(cut(random, data)) == whole, "the pieces mean something else than the whole"
    except Exception as e:
        frame = traceback.extract_tb(e.__traceback__)[-1]
        return f"{type(e).__name__} {frame.filename}:{frame.lineno}", traceback.format_exc()
    return None


def smaller(random: Random, target: Target, data: bytes, place: str) -> bytes:
    """Leave out of an input what it does not need for its problem."""
    units = target.units(data)
    for size in (len(units) // 2, len(units) // 8, 1):
        start = 0
        while size and start < len(units):
            shorter = units[:start] + units[start + size :]
            found = problem(random, target, b"".join(shorter))
            if found and found[0] == place:
                units = shorter
            else:
                start += size
    return b"".join(units)


def main(arguments: Sequence[str]) -> int:
    """
    @return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a decoder of gateway.wire.")
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="the same inputs come of the same seed (default: 0)")
    parser.add_argument("--keep", action="store_true", help="add inputs that reach new code to tests/corpus/")
    options = parser.parse_args(arguments)
    random, target, reached = Random(options.seed), TARGETS[options.target], Reached()
    known = corpus(options.target)
    for data in known:
        reached.reachesNew(target, data)
    places: set[str] = set()
    count, end = 0, time.monotonic() + options.seconds
    while time.monotonic() < end:
        data = known[count] if count < len(known) else mutated(random, known, target.units, MAX_INPUT)
        count += 1
        if (found := problem(random, target, data)) is not None:
            if found[0] not in places:
                places.add(found[0])
                print(f"{smaller(random, target, data, found[0]).hex()}  # {found[0]}\n{found[1]}", flush=True)
        elif reached.reachesNew(target, data):
            known.append(data)
            if options.keep:
                keep(options.target, data, f"seed {options.seed}")
    print(f"{options.target}: {count} inputs, {len(known)} of use, {len(reached.known)} steps, {len(places)} problems")
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
