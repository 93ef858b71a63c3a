"""
Network relays side by side: ours in both dialects, and http-network-relay where it is installed.

It exists to say what a user of http-network-relay wins by using ours: how fast an ssh session's bytes go through relay,
edge agent and access client. Each contestant is those three processes, started anew for each measurement, and the
access client is used as ssh uses it, by its standard input and output::

    python -m bench.network_relay --rounds 5
    python -m bench.network_relay --seconds 0.5 --rounds 1 --only bulk,echo --contestants 'txgateway;json'
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import select
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import eventually, freePort

from .harness import HERE, MIB, Goal, Results, Sample, child, cpuSeconds, quantile, residentKiB
from .loads import Counter
from .tunnelloads import ECHO, MESSAGE, SINK, SOURCE, target

_ROOT = Path(__file__).resolve().parents[1]
_SCRIPTS = Path(sysconfig.get_path("scripts"))
_ORIGINAL = _ROOT / ".peers/http-network-relay/bin"
_PEERS = _ROOT / ".peers/networkrelay/bin/python"
_PARTS = _ROOT / "tests/interop/networkrelay/jsonparts.py"

_NAME = "box"
_SECRET = "a-secret-of-the-benchmark-that-is-long-enough"
_WARM = 0.5
_TIMEOUT = 20.0
_STALL = 3.0
"""Seconds for which nobody reads."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """
    A relay and its ends.

    @ivar relay: a command line, in which words are replaced: C{PORT}, C{CREDENTIALS}, C{AGENTS} and C{CLIENTS}, which
        are URLs, C{NAME}, C{SECRET}, C{HOST} and C{TARGET}.
    @ivar needs: what has to be installed.
    """

    name: str
    relay: Sequence[str]
    agent: Sequence[str]
    client: Sequence[str]
    needs: Sequence[Path] = ()

    @property
    def missing(self) -> Sequence[Path]:
        """What is not installed of that."""
        return [path for path in self.needs if not path.exists()]


def _command(program: Path, *words: str) -> Sequence[str]:
    return (str(program), *words)


_OUR_RELAY = _command(_SCRIPTS / "gateway", "network-relay", "--port", "PORT", "--credentials-file", "CREDENTIALS")
_AGENT_WORDS = ("--relay-url", "AGENTS", "--name", "NAME", "--secret", "SECRET")
_CLIENT_WORDS = ("NAME", "HOST", "TARGET", "tcp", "--relay-url", "CLIENTS", "--secret", "SECRET")
_JSON_AGENT = _command(_PEERS, str(_PARTS), "agent", "AGENTS", "NAME", "SECRET")
_JSON_CLIENT = _command(_PEERS, str(_PARTS), "client", "CLIENTS", "NAME", "HOST", "TARGET", "SECRET")

OURS = Contestant(
    "txgateway",
    _OUR_RELAY,
    _command(_SCRIPTS / "gateway", "edge-agent", *_AGENT_WORDS),
    _command(_SCRIPTS / "gateway", "access-client", *_CLIENT_WORDS),
)
JSON = Contestant("json", _OUR_RELAY, _JSON_AGENT, _JSON_CLIENT, (_PEERS,))
CONTESTANTS = (
    OURS,
    JSON,
    Contestant("json, our agent", _OUR_RELAY, OURS.agent, _JSON_CLIENT, (_PEERS,)),
    Contestant("json, our client", _OUR_RELAY, _JSON_AGENT, OURS.client, (_PEERS,)),
    Contestant(
        "http-network-relay",
        _command(_ORIGINAL / "network-relay", "--port", "PORT", "--credentials-file", "CREDENTIALS"),
        _command(_ORIGINAL / "edge-agent", *_AGENT_WORDS),
        _command(_ORIGINAL / "access-client", *_CLIENT_WORDS),
        (_ORIGINAL / "network-relay",),
    ),
)


def _listens(port: int) -> bool:
    """Whether somebody does, without a connection, which would go all the way."""
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(f":{port:04X} " in line and " 0A " in line for line in lines)


@dataclass(slots=True)
class Way:
    """
    A relay and its agent, which run, and access clients through them.

    @ivar pids: by what the processes are.
    """

    contestant: Contestant
    words: Mapping[str, str]
    stack: ExitStack
    folder: Path
    pids: dict[str, int] = field(default_factory=dict)

    def run(self, name: str, command: Sequence[str], *, isPiped: bool = False) -> subprocess.Popen[bytes]:
        """Start a process that is to be measured."""
        log = self.stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [self.words.get(word, word) for word in command],
            stdin=subprocess.PIPE if isPiped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if isPiped else log,
            stderr=log,
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        self.pids[name] = process.pid
        return process

    def enter(self, kind: bytes) -> subprocess.Popen[bytes]:
        """Start an access client, and ask the target for something."""
        client = self.run("client", self.contestant.client, isPiped=True)
        assert client.stdin is not None
        os.write(client.stdin.fileno(), kind)
        return client

    def works(self) -> bool:
        """Whether an echo comes back."""
        client = self.enter(ECHO)
        assert client.stdin is not None and client.stdout is not None
        try:
            return bool(select.select([client.stdout], [], [], _TIMEOUT)[0]) and client.stdout.read(1) == ECHO
        finally:
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()

    def log(self) -> str:
        """The end of what the processes wrote."""
        return "\n".join(path.read_text(errors="replace")[-1000:] for path in sorted(self.folder.glob("*.log")))

    def cpu(self) -> float:
        """CPU seconds so far, of all."""
        return sum(map(cpuSeconds, self.pids.values()))


@contextmanager
def opened(contestant: Contestant, port: int) -> Iterator[Way]:
    """Start relay and agent for one measurement, and wait until a connection to the target's port goes through."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        credentials, relay = folder / "credentials.json", freePort()
        credentials.write_text(json.dumps({"edge-agents": {_NAME: _SECRET}, "access-client-secrets": [_SECRET]}))
        words = {
            "PORT": str(relay),
            "CREDENTIALS": str(credentials),
            "AGENTS": f"ws://{HERE}:{relay}/ws_for_edge_agents",
            "CLIENTS": f"ws://{HERE}:{relay}/ws_for_access_clients",
            "NAME": _NAME,
            "SECRET": _SECRET,
            "HOST": HERE,
            "TARGET": str(port),
        }
        way = Way(contestant, words, stack, folder)
        way.run("relay", contestant.relay)
        if not eventually(lambda: _listens(relay)):
            raise RuntimeError(f"no relay:\n{way.log()}")
        way.run("agent", contestant.agent)
        if not any(way.works() for _ in range(10)):
            raise RuntimeError(f"nothing goes through:\n{way.log()}")
        yield way


def _counter() -> Counter:
    counter: Counter = multiprocessing.Value("Q", 0, lock=False)
    return counter


def measureBulk(contestant: Contestant, seconds: float) -> Sample:
    """All the bytes that one connection carries: down, from the target, then up."""
    sample: dict[str, float] = {}
    received = _counter()
    with child(target(received)) as (port, _), opened(contestant, port) as way:
        for direction in ("download", "upload"):
            client = way.enter(SOURCE if direction == "download" else SINK)
            assert client.stdin is not None and client.stdout is not None
            source, sink = client.stdout.fileno(), client.stdin.fileno()
            count, first, began, cpu = 0, 0, 0.0, 0.0
            block = bytes(64 * 1024)
            start = time.perf_counter()
            while (now := time.perf_counter()) < start + _TIMEOUT:
                if direction == "download":
                    count += len(os.read(source, 256 * 1024))
                else:
                    os.write(sink, block)
                    count = received.value
                if not began and now > start + _WARM and count:
                    began, first, cpu = now, count, way.cpu()
                elif began and now > began + seconds:
                    break
            carried, took = count - first, now - began
            sample[f"{direction}, MB/s"] = carried / took / 1e6
            sample[f"{direction}, CPU s/GB"] = (way.cpu() - cpu) * 1e9 / max(carried, 1)
            client.kill()
    return sample


def measureEcho(contestant: Contestant, seconds: float) -> Sample:
    """64 bytes there and back on one connection, one at a time."""
    with child(target(_counter())) as (port, _), opened(contestant, port) as way:
        client = way.enter(ECHO)
        assert client.stdin is not None and client.stdout is not None
        sink, source = client.stdin.fileno(), client.stdout.fileno()
        os.read(source, 1)
        message = bytes(MESSAGE)
        times = []
        cpu = way.cpu()
        end = time.perf_counter() + _WARM + seconds
        while (began := time.perf_counter()) < end:
            os.write(sink, message)
            missing = MESSAGE
            while missing:
                missing -= len(os.read(source, missing))
            times.append(time.perf_counter() - began)
        cpu = way.cpu() - cpu
    steady = sorted(each * 1e6 for each in times[len(times) // 10 :])
    return {
        "echo p50, us": quantile(steady, 0.5),
        "echo p99, us": quantile(steady, 0.99),
        "echo, CPU s/1000": cpu * 1000 / len(times),
    }


def measureStall(contestant: Contestant, seconds: float) -> Sample:
    """What it costs that nobody reads: a target that sends all it can and reads nothing, and a client likewise."""
    with child(target(_counter())) as (port, _), opened(contestant, port) as way:
        client = way.enter(SOURCE)
        assert client.stdin is not None and client.stdout is not None
        os.read(client.stdout.fileno(), 1)
        before = {name: residentKiB(pid) for name, pid in way.pids.items()}
        os.set_blocking(client.stdin.fileno(), False)
        end = time.perf_counter() + _STALL
        taken = 0
        while time.perf_counter() < end:
            with suppress(BlockingIOError):
                taken += os.write(client.stdin.fileno(), bytes(64 * 1024))
                continue
            time.sleep(0.01)
        grown = {name: residentKiB(pid) - before[name] for name, pid in way.pids.items()}
    return {
        "nobody reads, RSS grown by, MiB": sum(grown.values()) * 1024 / MIB,
        "the same, taken from the client, MiB": taken / MIB,
    }


def measureStart(contestant: Contestant, seconds: float) -> Sample:
    """How long it takes an access client from its start to the first byte back."""
    with child(target(_counter())) as (port, _), opened(contestant, port) as way:
        times = []
        end = time.perf_counter() + max(seconds, 2.0)
        while (began := time.perf_counter()) < end:
            if way.works():
                times.append(time.perf_counter() - began)
    return {"start to first byte, ms": quantile(sorted(times), 0.5) * 1000}


MEASURES: dict[str, Callable[[Contestant, float], Sample]] = {
    "bulk": measureBulk,
    "echo": measureEcho,
    "stall": measureStall,
    "start": measureStart,
}

GOALS = (
    Goal("download, MB/s", 10.0),
    Goal("upload, MB/s", 10.0),
    Goal("echo p50, us", 0.5, least=False),
    Goal("nobody reads, RSS grown by, MiB", 16.0, least=False, relative=False),
)


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare network relays, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: 1)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(MEASURES)}, with commas")
    parser.add_argument("--contestants", metavar="NAMES", help="some of the contestants, with semicolons")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    wanted = options.contestants.split(";") if options.contestants else [one.name for one in CONTESTANTS]
    if unknown := set(wanted) - {one.name for one in CONTESTANTS}:
        parser.error(f"no such contestant: {', '.join(sorted(unknown))}")
    present = []
    for contestant in CONTESTANTS:
        if contestant.name in wanted and contestant.missing:
            print(f"{contestant.name}: skipped, {contestant.missing[0]} is missing (run scripts/peers)")
        elif contestant.name in wanted:
            present.append(contestant)
    results = Results("network-relay", baseline=JSON.name)
    with results.reported(OURS.name, GOALS):
        for number in range(options.rounds):
            for name in names:
                for contestant in present:
                    print(f"round {number + 1}: {name}, {contestant.name}", file=sys.stderr)
                    with results.failing(f"{name}, {contestant.name}"):
                        results.add(contestant.name, MEASURES[name](contestant, options.seconds))
    return results.status


if __name__ == "__main__":
    sys.exit(main())
