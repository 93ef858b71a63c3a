"""
Web servers behind tunnels, side by side: ours, frp, and as yardsticks haproxy, nginx and no tunnel at all.

It exists to say how fast a web server is reached through an agent by name, relative to what people run for that
today, in the same minute, on the same machine. Each contestant is started anew for each measurement::

    python -m bench.http --rounds 5
    python -m bench.http --seconds 1 --rounds 1 --only keep --schemes http --contestants 'txgateway;frp'
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .harness import MIB, Goal, Results, Sample, allowDescriptors, quantile
from .httploads import SLOW, Closed, closedLoop, closedLoop2, openLoop, slowVisitors
from .httptunnels import FRP, HTTP_TUNNELS, NAME, TXGATEWAY, HttpTunnel, HttpWay, Origin, origin
from .tunnels import chosen, program

CONNECTIONS = 32

_SLOW = 1000
"""Visitors that are slow on purpose."""

_CALM = 500.0
"""Requests in each second of those beside them."""

_SPAN = 0.3
"""Seconds in which somebody who is calm uses less than a tenth of a processor."""

_PATIENCE = 5.0
"""Seconds until somebody who is not calm is measured all the same, as slow visitors are not there for long."""

_FILES = {"1024": 1024, "65536": 65536, "524288": MIB // 2, "10485760": 10 * MIB}
_AWAITED = "/524288"
"""What slow visitors ask for. 1,000 times more would be all that TCP of a usual machine may hold, of whomever."""

_SIZES = {"1 KiB": "/1024", "64 KiB": "/65536", "10 MiB": "/10485760"}


@dataclass(slots=True)
class Scale:
    """
    How much of everything.

    @ivar seconds: of each measurement.
    @ivar rates: requests in each second of an open loop, by scheme; once for all, so that all have the same to do.
    """

    seconds: int
    rates: dict[str, float] = field(default_factory=dict)


def _closed(
    way: HttpWay, what: str, url: str, scale: Scale, connections: int = CONNECTIONS, reuse: bool = True
) -> Sample:
    closedLoop(url, connections, 1, reuse=reuse)
    cpu = way.cpu()
    return _rated(what, way, cpu, closedLoop(url, connections, scale.seconds, reuse=reuse))


def _rated(what: str, way: HttpWay, cpu: float, got: Closed) -> Sample:
    cpu = way.cpu() - cpu
    if got.errors:
        raise RuntimeError(f"{got.errors} of {got.count} answers were wrong: {what}")
    sample = {f"{what}, requests/s": got.rate}
    if way.pids:
        sample[f"{what}, CPU s/1000"] = cpu * 1000 / got.count
    return sample


def measureKept(way: HttpWay, scheme: str, scale: Scale) -> Sample:
    """1 KiB, again and again on 32 connections."""
    return _closed(way, f"{scheme}, 1 KiB", way.url(scheme, _SIZES["1 KiB"]), scale)


def measureNew(way: HttpWay, scheme: str, scale: Scale) -> Sample:
    """1 KiB, each on a connection of its own, 32 at a time."""
    return _closed(way, f"{scheme}, new connections", way.url(scheme, _SIZES["1 KiB"]), scale, reuse=False)


def measureHttp2(way: HttpWay, scheme: str, scale: Scale) -> Sample:
    """1 KiB in HTTP/2, eight requests at a time on each of four connections."""
    url = way.url(scheme, _SIZES["1 KiB"])
    connections, streams = 4, CONNECTIONS // 4
    closedLoop2(url, connections, streams, 1)
    cpu = way.cpu()
    return _rated("HTTP/2, 1 KiB", way, cpu, closedLoop2(url, connections, streams, scale.seconds))


def measureSizes(way: HttpWay, scheme: str, scale: Scale) -> Sample:
    """64 KiB on 32 connections; 10 MiB on four, which is counted in bytes."""
    sample = dict(_closed(way, f"{scheme}, 64 KiB", way.url(scheme, _SIZES["64 KiB"]), scale))
    url = way.url(scheme, _SIZES["10 MiB"])
    closedLoop(url, 4, 1)
    cpu = way.cpu()
    got = closedLoop(url, 4, scale.seconds)
    sample[f"{scheme}, 10 MiB, GB/s"] = got.octets / got.seconds / 1e9
    if way.pids:
        sample[f"{scheme}, 10 MiB, CPU s/GB"] = (way.cpu() - cpu) * 1e9 / got.octets
    return sample


def measureOpen(way: HttpWay, scheme: str, scale: Scale) -> Sample:
    """1 KiB at half of the rate that the baseline reaches: how long visitors wait."""
    arguments = {"connections": CONNECTIONS, "secure": scheme == "https"}
    path, rate = _SIZES["1 KiB"], scale.rates[scheme]
    openLoop(way.doors[scheme], NAME, path, rate=rate, seconds=1.0, **arguments)  # type: ignore[arg-type]
    cpu = way.cpu()
    times = openLoop(way.doors[scheme], NAME, path, rate=rate, seconds=scale.seconds, **arguments)  # type: ignore[arg-type]
    sample = {f"{scheme}, open loop, p{part}, us": quantile(times, part / 100) for part in (50, 99)}
    if way.pids:
        sample[f"{scheme}, open loop, CPU s/1000"] = (way.cpu() - cpu) * 1000 / len(times)
    return sample


def _calm(way: HttpWay, scheme: str, scale: Scale) -> float:
    """Return the p99, in microseconds, of visitors who are no load."""
    for seconds in (1, scale.seconds):
        times = openLoop(way.doors[scheme], NAME, _SIZES["1 KiB"], rate=_CALM, connections=CONNECTIONS, seconds=seconds)
    return quantile(times, 0.99)


def _awaitCalm(way: HttpWay) -> None:
    """Wait until it has next to nothing to do: what slow visitors ask for goes as far as it can at first."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        cpu = way.cpu()
        time.sleep(_SPAN)
        if way.cpu() - cpu < _SPAN / 10:
            break


def measureSlow(way: HttpWay, scheme: str, scale: Scale) -> Sample:
    """How long visitors wait who come beside 1,000 that are slow on purpose, relative to when they are not there."""
    sample: dict[str, float] = {}
    if not way.pids:
        return sample
    for kind in SLOW:
        alone = _calm(way, scheme, scale)
        with slowVisitors(way.url(scheme, _AWAITED), kind, _SLOW, way.held):
            _awaitCalm(way)
            beside = _calm(way, scheme, scale)
        sample[f"beside {_SLOW} slow {kind}, p99, us"] = beside
        sample[f"the same to alone, {kind}"] = beside / alone
    return sample


MEASURES: dict[str, Callable[[HttpWay, str, Scale], Sample]] = {
    "keep": measureKept,
    "new": measureNew,
    "open": measureOpen,
    "h2": measureHttp2,
    "sizes": measureSizes,
    "slow": measureSlow,
}

SCHEMES = ("http", "https")

_ONLY = {"h2": ("https",), "slow": ("http",)}
"""What is measured with one of them alone."""

GOALS = (
    *(
        goal
        for scheme in SCHEMES
        for goal in (
            Goal(f"{scheme}, 1 KiB, requests/s", 1.5),
            Goal(f"{scheme}, new connections, requests/s", 1.5),
            Goal(f"{scheme}, 64 KiB, requests/s", 1.5),
            Goal(f"{scheme}, 10 MiB, GB/s", 1.0),
            Goal(f"{scheme}, open loop, p50, us", 1.0, least=False),
            Goal(f"{scheme}, open loop, p99, us", 1.0, least=False),
        )
    ),
    Goal("HTTP/2, 1 KiB, requests/s", 1.5),
    *(Goal(f"the same to alone, {kind}", 2.0, least=False, relative=False) for kind in SLOW),
)


def _halfOf(tunnel: HttpTunnel, served: Origin, schemes: list[str], scale: Scale) -> dict[str, float]:
    rates = {}
    with tunnel.open(served) as way:
        for scheme in schemes:
            url = way.url(scheme, _SIZES["1 KiB"])
            closedLoop(url, CONNECTIONS, 1)
            rates[scheme] = closedLoop(url, CONNECTIONS, scale.seconds).rate / 2
    return rates


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare ways to a web server, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (default: 3)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(MEASURES)}, with commas")
    parser.add_argument("--schemes", metavar="NAMES", default=",".join(SCHEMES), help="http, https or both (default)")
    parser.add_argument("--contestants", metavar="NAMES", help="some of the contestants, with semicolons")
    parser.add_argument("--rate", type=float, help="requests/s of the open loop (default: half of what frp reaches)")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    schemes = options.schemes.split(",")
    if unknown := set(schemes) - set(SCHEMES):
        parser.error(f"no such scheme: {', '.join(sorted(unknown))}")
    for name, package in (
        ("nginx", "nginx"),
        ("wrk", "wrk"),
        ("h2load", "nghttp2-client"),
        ("slowhttptest", "slowhttptest"),
    ):
        if program(name) is None:
            parser.error(f"{name} is missing: apt-get install {package}")
    scale = Scale(options.seconds)

    present = chosen(HTTP_TUNNELS, options.contestants, parser)
    allowDescriptors()
    results = Results("http", baseline=FRP.name)
    with results.reported(TXGATEWAY.name, GOALS), origin(_FILES) as served:
        if options.rate or "open" not in names:
            scale.rates = dict.fromkeys(schemes, options.rate or 0.0)
        else:
            scale.rates = _halfOf(FRP if FRP in present else present[0], served, schemes, scale)
            print("the open loop: " + ", ".join(f"{s} {rate:.0f} requests/s" for s, rate in scale.rates.items()))
        for number in range(options.rounds):
            for name in names:
                for scheme in (one for one in schemes if one in _ONLY.get(name, SCHEMES)):
                    for tunnel in present:
                        gc.collect()
                        print(f"round {number + 1}: {name}, {scheme}, {tunnel.name}", file=sys.stderr)
                        with results.failing(f"{name}, {scheme}, {tunnel.name}"), tunnel.open(served) as way:
                            results.add(tunnel.name, MEASURES[name](way, scheme, scale))
    return results.status


if __name__ == "__main__":
    sys.exit(main())
