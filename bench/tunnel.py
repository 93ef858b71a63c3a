"""
Tunnels side by side: ours, frp, rathole, chisel, OpenSSH, and as yardsticks haproxy and no tunnel at all.

It exists to say how fast a visitor is served through an agent, relative to what people run for that today, in the same
minute, on the same machine. Each contestant is a server and an agent, started anew for each measurement::

    python -m bench.tunnel --rounds 5
    python -m bench.tunnel --seconds 0.5 --rounds 1 --only bulk,echo --contestants txgateway,frp
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from .harness import Goal, Results, Sample, allowDescriptors, child, quantile
from .loads import Counter, visits
from .tunnelloads import (
    ECHO,
    MESSAGE,
    bulk,
    datagramEchoes,
    datagramsOneWay,
    datagramTarget,
    drain,
    echoTimes,
    pacedEchoTimes,
    target,
)
from .tunnels import FRP, TUNNELS, TXGATEWAY, Line, Tunnel, chosen

_WARM = 0.3
_GAP = 0.001
"""Seconds between messages beside bulk."""

_DELAY = 0.020
"""Seconds, each way, of the long line."""

_LONG_WARM = 2.0
"""Seconds in which windows, ours and TCP's, may grow to what the long line needs."""

_UNDER = 32
"""Datagrams under way at once."""

_RATE = 5_000
"""Datagrams each second, when all go one way."""

_VISIT = ECHO.ljust(MESSAGE, b"\0")


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much of everything.

    @ivar seconds: of each measurement.
    @ivar visits: short connections.
    @ivar idle: visitors that stay.
    """

    seconds: float
    visits: int
    idle: int


def _counter() -> Counter:
    counter: Counter = multiprocessing.Value("Q", 0, lock=False)
    return counter


def measureBulk(tunnel: Tunnel, scale: Scale) -> Sample:
    """All the bytes that one visitor's stream carries, and eight: down, from the origin, then up."""
    sample: dict[str, float] = {}
    received = _counter()
    with child(target(received)) as (port, _), tunnel.open(Line(port)) as way:
        for streams in (1, 8):
            for direction in ("download", "upload"):
                cpu = 0.0

                def begun() -> None:
                    nonlocal cpu
                    cpu = way.cpu()

                got = bulk(
                    way.door, direction, streams, warm=_WARM, seconds=scale.seconds, received=received, begun=begun
                )
                name = f"{direction}, {streams} stream{'s' * (streams > 1)}"
                sample[f"{name}, GB/s"] = got.rate / 1e9
                if way.pids:
                    sample[f"{name}, CPU s/GB"] = (way.cpu() - cpu) * 1e9 / max(got.count, 1)
    return sample


def measureEcho(tunnel: Tunnel, scale: Scale) -> Sample:
    """64 bytes there and back on one stream, one at a time."""
    with child(target(_counter())) as (port, _), tunnel.open(Line(port)) as way:
        cpu = way.cpu()
        times = echoTimes(way.door, scale.seconds)
        sample = {"echo p50, us": quantile(times, 0.5), "echo p99, us": quantile(times, 0.99)}
        if way.pids:
            sample["echo, CPU s/1000"] = (way.cpu() - cpu) * 1000 / (len(times) / 0.9)
        return sample


def measureBeside(tunnel: Tunnel, scale: Scale) -> Sample:
    """The same, one each millisecond, beside a stream that downloads all it can."""
    received = _counter()
    with (
        child(target(_counter())) as (port, _),
        tunnel.open(Line(port)) as way,
        drain(way.door, 1, received),
    ):
        time.sleep(_WARM)
        first, begun = received.value, time.perf_counter()
        times = pacedEchoTimes(way.door, scale.seconds, _GAP)
        carried, took = received.value - first, time.perf_counter() - begun
    return {
        "echo beside bulk p50, us": quantile(times, 0.5),
        "echo beside bulk p99, us": quantile(times, 0.99),
        "bulk beside echo, GB/s": carried / took / 1e9,
    }


def measureVisits(tunnel: Tunnel, scale: Scale) -> Sample:
    """Visitors that connect, send 64 bytes, get them back and leave, 16 at a time."""
    with child(target(_counter())) as (port, _), tunnel.open(Line(port)) as way:
        script = ((_VISIT, _VISIT),)
        visits(way.door, script, scale.visits // 5, 16)
        cpu = way.cpu()
        seconds, _ = visits(way.door, script, scale.visits, 16)
        sample = {"new visitors/s": scale.visits / seconds}
        if way.pids:
            sample["new visitors, CPU s/1000"] = (way.cpu() - cpu) * 1000 / scale.visits
        return sample


def measureDatagrams(tunnel: Tunnel, scale: Scale) -> Sample:
    """Datagrams there and back, 32 under way; then 5,000 a second, one way."""
    if not tunnel.datagrams:
        return {}
    sample: dict[str, float] = {}
    received = _counter()
    with (
        child(target(_counter())) as (port, _),
        child(datagramTarget(port, received)),
        tunnel.open(Line(port, datagrams=True)) as way,
    ):
        for size in (64, 1200):
            datagramEchoes(way.datagramDoor, size, _UNDER, _WARM)
            cpu = way.cpu()
            got = datagramEchoes(way.datagramDoor, size, _UNDER, scale.seconds)
            sample[f"datagrams of {size} B there and back /s"] = got.back / got.seconds
            sample[f"the same, lost %, {size} B"] = got.lost
            if way.pids and got.back:
                sample[f"the same, CPU s/1000, {size} B"] = (way.cpu() - cpu) * 1000 / got.back
            got = datagramsOneWay(way.datagramDoor, size, _RATE, scale.seconds, received)
            sample[f"{_RATE} datagrams/s one way, {size} B, lost %"] = got.lost
    return sample


def measureIdle(tunnel: Tunnel, scale: Scale) -> Sample:
    """Visitors that have sent 64 bytes, got them back, and stay."""
    count = round(scale.idle * tunnel.share)
    with child(target(_counter())) as (port, _), tunnel.open(Line(port)) as way:
        if not way.pids:
            return {}
        script = ((_VISIT, _VISIT),)
        visits(way.door, script, 50, 4)
        before = way.resident()
        _, streams = visits(way.door, script, count, 16, keep=True)
        time.sleep(0.2)
        grown = {name: (kib - before[name]) / count for name, kib in way.resident().items()}
        for stream in streams:
            stream.close()
    return {"RSS per idle visitor, KiB": sum(grown.values())} | {
        f"the same, {name} alone, KiB": kib for name, kib in grown.items() if len(grown) > 1
    }


def measureLong(tunnel: Tunnel, scale: Scale) -> Sample:
    """One stream each way with 40 ms there and back between server and agent, once windows have grown."""
    sample: dict[str, float] = {}
    received = _counter()
    with child(target(received)) as (port, _), tunnel.open(Line(port, delay=_DELAY)) as way:
        for direction in ("download", "upload"):
            got = bulk(way.door, direction, 1, warm=_LONG_WARM, seconds=scale.seconds, received=received)
            sample[f"40 ms line, {direction}, Gbit/s"] = got.rate * 8 / 1e9
    return sample


MEASURES: dict[str, Callable[[Tunnel, Scale], Sample]] = {
    "bulk": measureBulk,
    "echo": measureEcho,
    "beside": measureBeside,
    "visits": measureVisits,
    "datagrams": measureDatagrams,
    "idle": measureIdle,
    "long": measureLong,
}

GOALS = (
    *(
        Goal(f"{direction}, {streams}, GB/s", 1.0)
        for streams in ("1 stream", "8 streams")
        for direction in ("download", "upload")
    ),
    Goal("echo p50, us", 1.0, least=False),
    Goal("echo p99, us", 1.0, least=False),
    Goal("echo beside bulk p50, us", 1.0, least=False),
    Goal("echo beside bulk p99, us", 1.0, least=False),
    Goal("new visitors/s", 1.0),
    *(Goal(f"datagrams of {size} B there and back /s", 1.0) for size in (64, 1200)),
    Goal("RSS per idle visitor, KiB", 1.0, least=False),
    *(Goal(f"40 ms line, {direction}, Gbit/s", 1.0) for direction in ("download", "upload")),
)


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare tunnels, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: 1)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(MEASURES)}, with commas")
    parser.add_argument("--contestants", metavar="NAMES", help="some of the contestants, with semicolons")
    parser.add_argument("--visits", type=int, default=2000, help="short connections (default: 2000)")
    parser.add_argument("--idle", type=int, default=1000, help="visitors that stay (default: 1000)")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    scale = Scale(options.seconds, options.visits, options.idle)

    present = chosen(TUNNELS, options.contestants, parser)
    allowDescriptors()
    results = Results("tunnel", baseline=FRP.name)
    with results.reported(TXGATEWAY.name, GOALS):
        for number in range(options.rounds):
            for name in names:
                for tunnel in present:
                    gc.collect()
                    print(f"round {number + 1}: {name}, {tunnel.name}", file=sys.stderr)
                    with results.failing(f"{name}, {tunnel.name}"):
                        results.add(tunnel.name, MEASURES[name](tunnel, scale))
    return results.status


if __name__ == "__main__":
    sys.exit(main())
