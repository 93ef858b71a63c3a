"""
A web server behind a path, side by side: our PipeGate server with our client, with a program of the tests that is made
as PipeGate's own client is, and with our client in PipeGate's own dialect; and two such programs without ours.

It exists to say what a user of PipeGate gains by having both ends from us, in the same minute, on the same machine::

    python -m bench.pipegate --rounds 5
    python -m bench.pipegate --seconds 1 --rounds 1 --only keep
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError

from .harness import HERE, MIB, Goal, Results, Sample, allowDescriptors, cpuSeconds, quantile
from .httploads import closedLoop, openLoop
from .httptunnels import nginx
from .tunnels import OURS, Line, Setup, program, programPath

CONNECTIONS = 32

SIZES = {"1 KiB": 1024, "64 KiB": 65536, "1 MiB": MIB}
_GIB = 1024

_ID = "node"
_TOKEN = "a-token-of-the-benchmark"
_THEIRS = Path(__file__).resolve().parents[1]
_PYTHON = _THEIRS / ".peers/pipegate/bin/python"
_ENDS = _THEIRS / "tests/interop/pipegate"


@dataclass(frozen=True, slots=True)
class Way:
    """
    A way that is open.

    @ivar port: of the server.
    @ivar pids: by what the process is: C{server}, C{client}.
    """

    port: int
    pids: Mapping[str, int]

    def url(self, path: str) -> str:
        """Where something is for visitors."""
        return f"http://{HERE}:{self.port}/{_ID}{path}"

    def cpu(self) -> float:
        """Return the CPU seconds so far, of both ends."""
        return sum(map(cpuSeconds, self.pids.values()))

    def highest(self) -> float:
        """Return the most memory that either end ever had, in MiB."""
        return max(map(_highWater, self.pids.values()))


def _highWater(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@dataclass(frozen=True, slots=True)
class Contestant:
    """
    Two ends.

    @ivar start: starts them in a setup, whose C{line} leads to the origin.
    @ivar carriesAll: not text alone.
    """

    name: str
    start: Callable[[Setup], None]
    carriesAll: bool = False

    @contextmanager
    def open(self, origin: int) -> Iterator[Way]:
        """Start them, for one C{with} block, and wait until the server leads to the origin."""
        with ExitStack() as stack:
            setup = Setup(stack, Line(origin))
            self.start(setup)
            way = Way(setup.server, dict(setup.pids))
            setup.awaitThat(f"{self.name} serves", partial(_answers, way.url("/1024")))
            yield way


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (OSError, URLError):
        return False


def _start(setup: Setup, *, ourServer: bool, ourClient: bool, path: str = "") -> None:
    token, port = ("--client-token", _TOKEN), str(setup.server)
    if ourServer:
        setup.run("server", OURS, "pipegate-server", "--interface", HERE, "--port", port, *token)
    else:
        setup.run("server", str(_PYTHON), str(_ENDS / "theirserver.py"), _TOKEN, port)
    setup.awaitPort()
    local, server = f"http://{HERE}:{setup.line.target}{path}", f"ws://{HERE}:{port}/{_ID}"
    if ourClient:
        setup.run("client", OURS, "pipegate-client", "--local-url", local, "--server-url", server, *token)
    else:
        setup.run("client", str(_PYTHON), str(_ENDS / "theirclient.py"), _TOKEN, server, local)


OWN = Contestant("txgateway", partial(_start, ourServer=True, ourClient=True), carriesAll=True)
MIXED = Contestant("txgateway, client as PipeGate's", partial(_start, ourServer=True, ourClient=False))
# A path before all others is what makes our client speak PipeGate's own dialect to our server.
JSON = Contestant("txgateway, JSON at both ends", partial(_start, ourServer=True, ourClient=True, path="/."))
THEIRS = Contestant("as PipeGate", partial(_start, ourServer=False, ourClient=False))


@contextmanager
def origin() -> Iterator[int]:
    """
    Serve files of text, named after their sizes, from nginx, for one C{with} block; yield its port.
    """
    with ExitStack() as stack:
        setup = Setup(stack, Line(0))
        (setup.folder / "files").mkdir()
        for size in SIZES.values():
            setup.write(f"files/{size}", ("A line of text, as there are many.\n" * (size // 35 + 1))[:size])
        with (setup.folder / "files/large").open("wb") as file:
            file.truncate(_GIB * MIB)
        root = f"root {setup.folder}/files; default_type text/plain;"
        nginx(setup, "nginx", f"server {{ listen {HERE}:{setup.door} backlog=4096; {root} }}")
        setup.awaitThat("the origin answers", lambda: _answers(f"http://{HERE}:{setup.door}/1024"))
        yield setup.door


def _connections(size: int) -> int:
    return 4 if size >= MIB else CONNECTIONS


def measureKept(way: Way, contestant: Contestant, seconds: int, rates: Mapping[str, float]) -> Sample:
    """Each size, again and again on 32 connections; the largest on four."""
    sample: dict[str, float] = {}
    for what, size in SIZES.items():
        url = way.url(f"/{size}")
        connections = _connections(size)
        closedLoop(url, connections, 1)
        cpu = way.cpu()
        got = closedLoop(url, connections, seconds)
        if got.errors:
            raise RuntimeError(f"{got.errors} of {got.count} answers were wrong: {url}")
        sample[f"{what}, requests/s"] = got.rate
        sample[f"{what}, CPU s/1000"] = (way.cpu() - cpu) * 1000 / got.count
    sample["most memory of an end, MiB"] = way.highest()
    return sample


def measureOpen(way: Way, contestant: Contestant, seconds: int, rates: Mapping[str, float]) -> Sample:
    """Each size, at half of the rate that the baseline reaches: how long visitors wait."""
    sample: dict[str, float] = {}
    for what, size in SIZES.items():
        for each in (1.0, float(seconds)):
            path = f"/{_ID}/{size}"
            times = openLoop(way.port, HERE, path, rate=rates[what], connections=CONNECTIONS, seconds=each)
        for part in (50, 99):
            sample[f"{what}, open loop, p{part}, us"] = quantile(times, part / 100)
    return sample


def measureLarge(way: Way, contestant: Contestant, seconds: int, rates: Mapping[str, float]) -> Sample:
    """1 GiB down, and up: what the ends hold of it."""
    if not contestant.carriesAll:
        return {}
    curl = [programPath("curl"), "--silent", "--show-error", "--fail", "--output", "/dev/null"]
    subprocess.run([*curl, way.url("/large")], check=True, timeout=120)
    return {"most memory of an end after 1 GiB, MiB": way.highest()}


MEASURES: dict[str, Callable[[Way, Contestant, int, Mapping[str, float]], Sample]] = {
    "keep": measureKept,
    "open": measureOpen,
    "large": measureLarge,
}

GOALS = (
    *(Goal(f"{what}, requests/s", 5.0) for what in SIZES),
    *(Goal(f"{what}, open loop, p99, us", 1.0, least=False) for what in SIZES),
    Goal("most memory of an end after 1 GiB, MiB", 128.0, least=False, relative=False),
)


def _halves(port: int, seconds: int) -> dict[str, float]:
    with MIXED.open(port) as way:
        closedLoop(way.url("/1024"), CONNECTIONS, 1)
        urls = {what: (way.url(f"/{size}"), _connections(size)) for what, size in SIZES.items()}
        return {what: closedLoop(url, count, seconds).rate / 2 for what, (url, count) in urls.items()}


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare dialects of PipeGate, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (default: 3)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(MEASURES)}, with commas")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    for name in ("nginx", "wrk", "curl"):
        if program(name) is None:
            parser.error(f"{name} is missing: apt-get install {name}")
    if not _PYTHON.exists():
        parser.error("what PipeGate is made with is missing: run scripts/peers")
    allowDescriptors()
    results = Results("pipegate", baseline=MIXED.name)
    with results.reported(OWN.name, GOALS), origin() as port:
        rates = _halves(port, options.seconds) if "open" in names else {}
        for number in range(options.rounds):
            for name in names:
                for contestant in (OWN, MIXED, JSON, THEIRS):
                    print(f"round {number + 1}: {name}, {contestant.name}", file=sys.stderr)
                    with results.failing(f"{name}, {contestant.name}"), contestant.open(port) as way:
                        sample = MEASURES[name](way, contestant, options.seconds, rates)
                        results.add(contestant.name, sample)
    return results.status


if __name__ == "__main__":
    sys.exit(main())
