"""
The tunnels that C{bench.tunnel} compares: how each is started, with what it is like.

A tunnel is a server and an agent, each a process with its defaults, on loopback ports that are free at the time. It
leads from one TCP door to the target's port, and from one UDP door to the same number, if it can::

    with TXGATEWAY.open(Line(target=40123)) as way:
        socket.create_connection(way.door)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12
from cryptography.x509 import load_pem_x509_certificate

from tests.certificates import Authority, Credential, makeAuthority
from tests.processes import freePort

from .delayline import delayLine
from .harness import HERE, child, cpuSeconds, residentKiB
from .tunnelloads import datagramWorks, works

_PEERS = Path(__file__).resolve().parents[1] / ".peers/bench"
OURS = str(Path(sysconfig.get_path("scripts"), "gateway"))
SECRET = "a-secret-of-the-benchmark-that-is-long-enough"
_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Line:
    """
    What a tunnel is opened for.

    @ivar target: the port where it leads.
    @ivar delay: seconds in each direction between agent and server.
    @ivar datagrams: whether UDP is needed.
    """

    target: int
    delay: float = 0.0
    datagrams: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """
    A tunnel that is open.

    @ivar door: where visitors connect.
    @ivar datagramDoor: the same for UDP.
    @ivar pids: by what the process is: C{server}, C{agent}.
    """

    door: tuple[str, int]
    datagramDoor: tuple[str, int]
    pids: Mapping[str, int]

    def cpu(self) -> float:
        """Return the CPU seconds so far, of all its processes."""
        return sum(map(cpuSeconds, self.pids.values()))

    def resident(self) -> dict[str, float]:
        """Return the resident KiB of each."""
        return {name: residentKiB(pid) for name, pid in self.pids.items()}


class Setup:
    """
    What a tunnel is started in: a folder, ports, processes.

    @ivar door: the port for visitors' streams.
    @ivar datagramDoor: the port for visitors' datagrams.
    @ivar server: where the server listens for the agent.
    @ivar via: where the agent connects: the server, or a line that takes its time.
    """

    def __init__(self, stack: ExitStack, line: Line) -> None:
        self._stack = stack
        self.line = line
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.door, self.datagramDoor = freePort(), freePort()
        self.server = self.via = freePort()
        self.pids: dict[str, int] = {}
        if line.delay:
            self.via = self.delayed(self.server)

    def delayed(self, port: int) -> int:
        """Return a port that leads to another, slowly."""
        if not self.line.delay:
            return port
        slow, _ = self._stack.enter_context(child(delayLine((HERE, port), self.line.delay)))
        return slow

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file that only we may read; return its path."""
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def log(self) -> str:
        """Return the end of what the processes wrote."""
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.glob("*.log")))

    def run(self, name: str, *command: str) -> None:
        """Start a process that is to be measured."""
        log = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.folder,
        )
        self._stack.callback(_end, process)
        self.pids[name] = process.pid

    def awaitPort(self) -> None:
        """Wait until the server listens: some agents give up when it does not."""
        self.awaitThat("the server listens", lambda: self.server in _listening())

    def awaitThat(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for something."""
        deadline = time.monotonic() + _TIMEOUT
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not yet after {_TIMEOUT:.0f} s: {what}\n{self.log()}")
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listening() -> set[int]:
    """The TCP ports that somebody listens on."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


@dataclass(frozen=True, slots=True)
class Contestant:
    """
    What takes part in a benchmark.

    @ivar features: what it does on the way.
    @ivar start: starts it.
    @ivar needs: programs without which it is left out, and where they come from.
    """

    name: str
    features: str
    start: Callable[..., None]
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Programs that are not on this machine."""
        return tuple(name for name in self.needs if program(name) is None)


T = TypeVar("T", bound=Contestant)


def chosen(tunnels: Sequence[T], names: str | None, parser: ArgumentParser) -> list[T]:
    """
    Say who takes part, and who cannot.

    @param names: of those who are to, with semicolons; C{None}: everybody.
    @param parser: of the command line, which ends the process if there is no such name.
    """
    wanted = names.split(";") if names else [one.name for one in tunnels]
    if unknown := set(wanted) - {one.name for one in tunnels}:
        parser.error(f"no such contestant: {', '.join(sorted(unknown))}")
    present = []
    for one in tunnels:
        if one.name not in wanted:
            continue
        if one.missing:
            print(f"{one.name}: skipped, {' and '.join(one.missing)} is missing (run make bench-peers)")
            continue
        print(f"{one.name}: {one.features}")
        present.append(one)
    return present


@dataclass(frozen=True, slots=True)
class Tunnel(Contestant):
    """
    Carries connections.

    @ivar datagrams: whether it carries UDP.
    @ivar share: of the visitors that others get, what it gets when there are many.
    """

    datagrams: bool = True
    share: float = 1.0

    @contextmanager
    def open(self, line: Line) -> Iterator[Way]:
        """Start it, for one C{with} block, and wait until it works."""
        with ExitStack() as stack:
            setup = Setup(stack, line)
            self.start(setup)
            way = Way((HERE, setup.door), (HERE, setup.datagramDoor), dict(setup.pids))
            setup.awaitThat(f"{self.name} works", lambda: works(way.door))
            if line.datagrams:
                setup.awaitThat(f"{self.name} carries UDP", lambda: datagramWorks(way.datagramDoor))
            yield way


def program(name: str) -> str | None:
    """Return where a program is."""
    own = _PEERS / name
    if os.access(own, os.X_OK):
        return str(own)
    return shutil.which(name) or shutil.which(f"/usr/sbin/{name}")


def programPath(name: str) -> str:
    """The same of a program that is there."""
    found = program(name)
    assert found is not None
    return found


_AUTHORITY: list[Authority] = []


def issue() -> tuple[Authority, Credential]:
    """Return the benchmark's authority, and a certificate of its for this machine."""
    if not _AUTHORITY:
        _AUTHORITY.append(makeAuthority("Benchmark"))
    return _AUTHORITY[0], _AUTHORITY[0].issue("localhost", HERE)


def _txgateway(tls: bool) -> Callable[[Setup], None]:
    def start(setup: Setup) -> None:
        authority, credential = issue()
        certificate, key = credential.write(str(setup.folder))
        secret = setup.write("secret", SECRET)
        listen = f'["{HERE}:{setup.server}"]'
        config = f"""
            [gateway]
            public-host = "localhost"
            drain-seconds = 0
            [agents]
            {"listen" if tls else "plain-listen"} = {listen}
            [[agent]]
            name = "bench"
            secret-file = "{secret}"
            ports = ["1024-65535"]
            [[certificate]]
            hostnames = ["localhost"]
            certificate = "{certificate}"
            key = "{key}"
            [ports]
            interfaces = ["{HERE}"]
            [limits]  # others have none
            per-address = 0
            new-per-second = 0
            new-per-second-per-address = 0
            [management]
            listen = ["{HERE}:{freePort()}"]
            """
        setup.run("server", OURS, "serve", "--config", setup.write("gateway.toml", config))
        setup.awaitPort()
        to = f"tls://localhost:{setup.via}" if tls else f"tcp://{HERE}:{setup.via}"
        origin = f"{HERE}:{setup.line.target}"
        command = [OURS, "agent", "--to", to, "--name", "bench", "--secret-file", secret, "--drain", "0"]
        if tls:
            command += ["--ca", authority.write(str(setup.folder / "ca.pem"))]
        command += ["--tcp", f"{setup.door}={origin}"]
        if setup.line.datagrams:
            command += ["--udp", f"{setup.datagramDoor}={origin}"]
        setup.run("agent", *command)

    return start


def _frp(tls: bool, mux: bool) -> Callable[[Setup], None]:
    def start(setup: Setup) -> None:
        server = {
            "auth": {"token": SECRET},
            "transport": {"tcpMux": mux},
            "bindAddr": HERE,
            "proxyBindAddr": HERE,
            "bindPort": setup.server,
        }
        proxies = [("tcp", setup.door)] + [("udp", setup.datagramDoor)] * setup.line.datagrams
        agent = {
            "auth": {"token": SECRET},
            "serverAddr": HERE,
            "serverPort": setup.via,
            "transport": {"tcpMux": mux, "tls": {"enable": tls}},
            "proxies": [
                {"name": kind, "type": kind, "localIP": HERE, "localPort": setup.line.target, "remotePort": port}
                for kind, port in proxies
            ],
        }
        setup.run("server", programPath("frps"), "-c", setup.write("frps.json", json.dumps(server)))
        setup.awaitPort()
        setup.run("agent", programPath("frpc"), "-c", setup.write("frpc.json", json.dumps(agent)))

    return start


def _chisel(setup: Setup) -> None:
    server = ["server", "--reverse", "--host", HERE, "--port", str(setup.server)]
    setup.run("server", programPath("chisel"), *server)
    setup.awaitPort()
    remotes = [f"R:{HERE}:{setup.door}:{HERE}:{setup.line.target}"]
    if setup.line.datagrams:
        remotes.append(f"R:{HERE}:{setup.datagramDoor}:{HERE}:{setup.line.target}/udp")
    setup.run("agent", programPath("chisel"), "client", f"http://{HERE}:{setup.via}", *remotes)


def _rathole(tls: bool) -> Callable[[Setup], None]:
    def start(setup: Setup) -> None:
        authority, credential = issue()
        bundle = pkcs12.serialize_key_and_certificates(
            b"rathole",
            load_pem_private_key(credential.keyPEM, None),  # type: ignore[arg-type]
            load_pem_x509_certificate(credential.certificatePEM),
            [load_pem_x509_certificate(authority.certificatePEM)],
            BestAvailableEncryption(b"bench"),
        )
        setup.write("identity.pfx", bundle)
        authority.write(str(setup.folder / "ca.pem"))
        doors = [("tcp", setup.door)] + [("udp", setup.datagramDoor)] * setup.line.datagrams
        server = f'[server]\nbind_addr = "{HERE}:{setup.server}"\ndefault_token = "{SECRET}"\n'
        agent = f'[client]\nremote_addr = "localhost:{setup.via}"\ndefault_token = "{SECRET}"\n'
        if tls:
            server += '[server.transport]\ntype = "tls"\n[server.transport.tls]\n'
            server += 'pkcs12 = "identity.pfx"\npkcs12_password = "bench"\n'
            agent += '[client.transport]\ntype = "tls"\n[client.transport.tls]\ntrusted_root = "ca.pem"\n'
        for kind, port in doors:
            server += f'[server.services.{kind}]\ntype = "{kind}"\nbind_addr = "{HERE}:{port}"\n'
            agent += f'[client.services.{kind}]\ntype = "{kind}"\nlocal_addr = "{HERE}:{setup.line.target}"\n'
        setup.run("server", programPath("rathole"), "--server", setup.write("server.toml", server))
        setup.awaitPort()
        setup.run("agent", programPath("rathole"), "--client", setup.write("agent.toml", agent))

    return start


def _wstunnel(setup: Setup) -> None:
    setup.run("server", programPath("wstunnel"), "server", f"wss://{HERE}:{setup.server}")
    setup.awaitPort()
    remotes = ["-R", f"tcp://{HERE}:{setup.door}:{HERE}:{setup.line.target}"]
    if setup.line.datagrams:
        remotes += ["-R", f"udp://{HERE}:{setup.datagramDoor}:{HERE}:{setup.line.target}"]
    setup.run("agent", programPath("wstunnel"), "client", *remotes, f"wss://{HERE}:{setup.via}")


def _openssh(setup: Setup) -> None:
    for name in ("host", "user"):
        command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(setup.folder / name))
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    config = f"""
        ListenAddress {HERE}:{setup.server}
        HostKey {setup.folder}/host
        AuthorizedKeysFile {setup.folder}/user.pub
        StrictModes no
        UsePAM no
        PidFile none
        """
    os.makedirs("/run/sshd", exist_ok=True)  # as its init script does
    setup.run("server", programPath("sshd"), "-D", "-e", "-f", setup.write("sshd_config", config))
    setup.awaitPort()
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ExitOnForwardFailure=yes", "LogLevel=ERROR"]
    words = [word for option in options for word in ("-o", option)]
    forward = f"{HERE}:{setup.door}:{HERE}:{setup.line.target}"
    agent = ["-F", "none", "-N", "-i", str(setup.folder / "user"), "-p", str(setup.via), *words, "-R", forward, HERE]
    setup.run("agent", programPath("ssh"), *agent)


def _haproxy(setup: Setup) -> None:
    config = f"""
global
    maxconn 5000
defaults
    mode tcp
    timeout connect 10s
    timeout client 300s
    timeout server 300s
listen tunnel
    bind {HERE}:{setup.door}
    server target {HERE}:{setup.delayed(setup.line.target)}
"""
    setup.run("server", programPath("haproxy"), "-db", "-f", setup.write("haproxy.cfg", config))


def _direct(setup: Setup) -> None:
    setup.door = setup.delayed(setup.line.target)
    setup.datagramDoor = setup.line.target


TXGATEWAY = Tunnel("txgateway", "TLS, one connection", _txgateway(tls=True))
FRP = Tunnel("frp", "TLS, one connection", _frp(tls=True, mux=True), ("frps", "frpc"))

TUNNELS = (
    TXGATEWAY,
    FRP,
    Tunnel("txgateway, plain", "no TLS, one connection", _txgateway(tls=False)),
    Tunnel("frp, plain", "no TLS, one connection", _frp(tls=False, mux=True), ("frps", "frpc")),
    Tunnel("frp, plain, no mux", "no TLS, a connection each", _frp(tls=False, mux=False), ("frps", "frpc")),
    Tunnel("rathole, TLS", "TLS, a connection each", _rathole(tls=True), ("rathole",)),
    Tunnel("rathole, plain", "no TLS, a connection each", _rathole(tls=False), ("rathole",)),
    Tunnel("chisel", "SSH in a WebSocket, one connection", _chisel, ("chisel",)),
    Tunnel("wstunnel", "TLS, WebSockets", _wstunnel, ("wstunnel",)),
    Tunnel("OpenSSH -R", "SSH, one connection", _openssh, ("ssh", "sshd", "ssh-keygen"), datagrams=False),
    Tunnel("haproxy", "one TCP hop, no TLS", _haproxy, ("haproxy",), datagrams=False),
    Tunnel("direct", "no tunnel", _direct),
)
