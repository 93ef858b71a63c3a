"""
The Tabby gateway beside the original, websockify and no gateway at all.

It exists to say how fast the gateway is in the only way that lasts: relative to what people ran before, in the same
minute, on the same machine. Each contestant's gateway is started anew for each measurement::

    python -m bench.tabby --rounds 5
    python -m bench.tabby --quick --only bulk,echo
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.interop.gateways import ORIGINAL, OURS, WEBSOCKIFY, Program, startCommand
from tests.processes import freePort

from .harness import HERE, MIB, Results, Sample, allowDescriptors, child, cpuSeconds, quantile, residentKiB
from .loads import TOKEN, Door, download, echo, echoTimes, sink, source, stone, upload, visits


@dataclass(frozen=True, slots=True)
class Contestant:
    """
    A way from a client to a target.

    @ivar program: the gateway; L{None} for none.
    @ivar share: of the connections that others get, what it gets when many are made.
    """

    name: str
    program: Program | None
    door: Door
    share: float = 1.0

    @contextmanager
    def to(self, port: int) -> Iterator[Way]:
        """Start the gateway, for one C{with} block, and put the target at C{port} behind it."""
        if self.program is None:
            yield Way(self.door, (HERE, port), port, 0)
            return
        address = (HERE, freePort())
        if self.program is WEBSOCKIFY:
            options = [f"{HERE}:{address[1]}", f"{HERE}:{port}"]
        else:
            options = ["--host", HERE, "--port", str(address[1]), "--token-auth"]
        gateway = startCommand(self.program, options, address, env={"TABBY_AUTH_TOKEN": TOKEN})
        try:
            yield Way(self.door, address, port, gateway.process.pid)
        finally:
            gateway.stop(5.0)


@dataclass(frozen=True, slots=True)
class Way:
    """
    A running contestant.

    @ivar address: where clients connect.
    @ivar port: the target's.
    @ivar pid: the gateway's process; 0 for none.
    """

    door: Door
    address: tuple[str, int]
    port: int
    pid: int

    def enter(self, *, receiveBuffer: int | None = None) -> socket.socket:
        """Return a connection to the target."""
        return self.door.enter(self.address, self.port, receiveBuffer=receiveBuffer)

    def cpu(self) -> float:
        """Return the gateway's CPU seconds so far."""
        return cpuSeconds(self.pid) if self.pid else 0.0


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much of everything.

    @ivar bulk: bytes each way.
    @ivar frame: bytes of the client's frames.
    @ivar echoes: round trips.
    @ivar visits: short connections.
    @ivar idle: connections that stay.
    @ivar push: bytes for a reader that does not read.
    """

    bulk: int
    frame: int
    echoes: int
    visits: int
    idle: int
    push: int


FULL = Scale(bulk=512 * MIB, frame=65536, echoes=10_000, visits=3_000, idle=2_000, push=256 * MIB)
QUICK = Scale(bulk=64 * MIB, frame=65536, echoes=1_000, visits=300, idle=200, push=64 * MIB)


def measureBulk(contestant: Contestant, scale: Scale) -> Sample:
    """One connection, all the bytes it can carry: first down, then up, each with a gateway of its own."""
    sample: dict[str, float] = {}
    sent = multiprocessing.Value("Q", 0, lock=False)
    for direction, work in (("download", source(scale.bulk, sent)), ("upload", sink(scale.bulk))):
        with child(work) as (port, target), contestant.to(port) as way, way.enter() as stream:
            gatewayCpu, loadCpu = way.cpu(), _ownCpu() + cpuSeconds(target)
            if direction == "download":
                seconds = download(stream, way.door, scale.bulk)
            else:
                seconds = upload(stream, way.door, scale.bulk, scale.frame)
            gigabytes = scale.bulk / 1e9
            sample[f"{direction}, MB/s"] = gigabytes * 1000 / seconds
            if way.pid:
                sample[f"{direction}, gateway CPU s/GB"] = (way.cpu() - gatewayCpu) / gigabytes
            sample[f"{direction}, load CPU s/GB"] = (_ownCpu() + cpuSeconds(target) - loadCpu) / gigabytes
    return sample


def measureEcho(contestant: Contestant, scale: Scale) -> Sample:
    """64 bytes there and back, one at a time."""
    with child(echo) as (port, _), contestant.to(port) as way, way.enter() as stream:
        echoTimes(stream, way.door, scale.echoes // 10)
        cpu = way.cpu()
        times = echoTimes(stream, way.door, scale.echoes)
        sample = {"echo p50, us": quantile(times, 0.5), "echo p99, us": quantile(times, 0.99)}
        if way.pid:
            sample["echo, gateway CPU s/1000"] = (way.cpu() - cpu) * 1000 / scale.echoes
        return sample


def measureConnect(contestant: Contestant, scale: Scale) -> Sample:
    """Short visits, 16 at a time: handshakes, one byte there and back, Close."""
    with child(echo) as (port, target), contestant.to(port) as way:
        script = way.door.visit(port)
        count = round(scale.visits * contestant.share)
        visits(way.address, script, count // 10, 16)
        gatewayCpu, loadCpu = way.cpu(), _ownCpu() + cpuSeconds(target)
        seconds, _ = visits(way.address, script, count, 16)
        thousands = count / 1000
        sample = {"new connections/s": count / seconds}
        if way.pid:
            sample["connect, gateway CPU s/1000"] = (way.cpu() - gatewayCpu) / thousands
        sample["connect, load CPU s/1000"] = (_ownCpu() + cpuSeconds(target) - loadCpu) / thousands
        return sample


def measureIdle(contestant: Contestant, scale: Scale) -> Sample:
    """Connections that have carried one byte and then stay."""
    if contestant.program is None:
        return {}
    count = round(scale.idle * contestant.share)
    with child(echo) as (port, _), contestant.to(port) as way:
        script = way.door.visit(port)
        visits(way.address, script, 20, 4)
        before = residentKiB(way.pid)
        _, streams = visits(way.address, script[:-1], count, 16, keep=True)
        after = residentKiB(way.pid)
        for stream in streams:
            stream.close()
        return {"RSS per idle connection, KiB": (after - before) / count}


def measureStall(contestant: Contestant, scale: Scale) -> Sample:
    """The target pushes at a client that never reads."""
    if contestant.program is None:
        return {}
    sent = multiprocessing.Value("Q", 0, lock=False)
    with (
        child(source(scale.push, sent)) as (port, _),
        contestant.to(port) as way,
        way.enter(receiveBuffer=65536) as stream,
    ):
        before = residentKiB(way.pid)
        stream.sendall(way.door.wrap(b"x"))
        growth = _growth(way.pid, before, lambda: sent.value, scale.push)
        return {"stalled client, RSS growth MiB": growth, "stalled client, MiB taken": sent.value / MIB}


def measureFlood(contestant: Contestant, scale: Scale) -> Sample:
    """The client pushes at a target that never reads."""
    if contestant.program is None:
        return {}
    with child(stone) as (port, _), contestant.to(port) as way, way.enter() as stream:
        before = residentKiB(way.pid)
        block = way.door.wrap(bytes(scale.frame))
        stream.setblocking(False)
        sent = 0

        def send() -> int:
            nonlocal sent
            while sent < scale.push and select.select([], [stream], [], 0)[1]:
                sent += stream.send(memoryview(block)[sent % len(block) :])
            return sent

        growth = _growth(way.pid, before, send, scale.push)
        return {"stalled target, RSS growth MiB": growth, "stalled target, MiB taken": sent / MIB}


def _growth(pid: int, before: float, taken: Callable[[], int], whole: int) -> float:
    """
    Watch C{pid} until C{taken} says C{whole}, or the same for two seconds.

    @return: by how many MiB its memory grew at most.
    """
    most = before
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 2.0:
        now = taken()
        most = max(most, residentKiB(pid))
        if now != last and last < whole:
            last, since = now, time.monotonic()
        time.sleep(0.01)
    return (most - before) / 1024


def _ownCpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


MEASURES: dict[str, Callable[[Contestant, Scale], Sample]] = {
    "bulk": measureBulk,
    "echo": measureEcho,
    "connect": measureConnect,
    "idle": measureIdle,
    "stall": measureStall,
    "flood": measureFlood,
}

CONTESTANTS = (
    Contestant("txgateway", OURS, Door(framed=True, controlled=True)),
    Contestant("original", ORIGINAL, Door(framed=True, controlled=True)),
    # It forks for each connection: 2,000 processes would measure the machine.
    Contestant("websockify", WEBSOCKIFY, Door(framed=True, controlled=False), share=0.1),
    Contestant("direct", None, Door(framed=False, controlled=False)),
)


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare Tabby gateways, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(MEASURES)}, with commas")
    parser.add_argument("--contestants", metavar="NAMES", help="some of the contestants, with commas")
    parser.add_argument("--frame", type=int, default=FULL.frame, help="bytes in a client's frame (default: 65536)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: shows that it works, no more")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    wanted = options.contestants.split(",") if options.contestants else [one.name for one in CONTESTANTS]
    scale = QUICK if options.quick else FULL
    scale = Scale(scale.bulk, options.frame, scale.echoes, scale.visits, scale.idle, scale.push)

    present = []
    for contestant in CONTESTANTS:
        if contestant.name not in wanted:
            continue
        if contestant.program is not None and not contestant.program.installed:
            print(f"{contestant.name}: skipped, {contestant.program.command[0]} is missing (run scripts/peers)")
            continue
        present.append(contestant)

    allowDescriptors()
    results = Results("tabby", baseline="original")
    with results.reported():
        for number in range(options.rounds):
            for name in names:
                for contestant in present:
                    gc.collect()
                    print(f"round {number + 1}: {name}, {contestant.name}", file=sys.stderr)
                    results.add(contestant.name, MEASURES[name](contestant, scale))
    return results.status


if __name__ == "__main__":
    sys.exit(main())
