"""
Tests for UDP through both ends of a tunnel, each run as people run it.

    visitor -- C{gateway serve} -- C{gateway agent} -- origin
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.tokens import hashToken
from gateway.wire.datagrams import MAX_DATAGRAM
from gateway.wire.proxyheader import Address, Tlv, parse
from tests.integration.relays import GATEWAY
from tests.integration.test_udp import OTHER, client, datagramSocket, isSilent
from tests.peers import require
from tests.processes import HERE, SECONDS, eventually, freePort

SECRET = secrets.token_hex(32)


class Running:
    """
    A process of ours, and its log.
    """

    def __init__(self, log: Path, *command: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen([GATEWAY, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def events(self, name: str) -> list[dict[str, Any]]:
        """All of one name that it has logged."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in events if event["event"] == name]

    def wait(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """The events of one name, when there are so many."""
        assert eventually(lambda: len(self.events(name)) >= count or self.process.poll() is not None)
        found = self.events(name)
        if len(found) < count:
            raise AssertionError(f"no {name}:\n{self._log.read_text(encoding='utf-8')}")
        return found

    def end(self, number: int = signal.SIGTERM) -> None:
        """Stop it."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


@contextmanager
def echo(address: str = HERE, port: int = 0) -> Iterator[int]:
    """An origin that sends everything back, for one C{with} block; its port."""
    with datagramSocket(address, port) as origin:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, peer = origin.recvfrom(70_000)
                    if data == b"stop":
                        return
                    origin.sendto(data, peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(origin.getsockname()[1])
        finally:
            with datagramSocket(address) as stopper:
                stopper.sendto(b"stop", origin.getsockname()[:2])
            thread.join(SECONDS)


class TunnelTests(SynchronousTestCase):
    """Visitors by UDP reach origins."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.number = 0

    def gateway(self, *interfaces: str) -> Running:
        """A gateway that takes agents on loopback."""
        self.carrier, management = freePort(), freePort()
        config = self.directory / "gateway.toml"
        config.write_text(
            f"""
            [agents]
            plain-listen = ["{HERE}:{self.carrier}"]
            [management]
            listen = ["{HERE}:{management}"]
            [ports]
            interfaces = {json.dumps(interfaces or [HERE])}
            [[agent]]
            name = "*"
            secret-hash = "{hashToken(SECRET)}"
            ports = ["1024-65535"]
            """,
            encoding="utf-8",
        )
        running = Running(self.directory / "gateway.log", "serve", "--config", str(config), "--log-format", "json")
        self.addCleanup(running.end, signal.SIGKILL)
        running.wait("gateway.listening", 2)
        return running

    def agent(self, name: str = "home", **services: str) -> Running:
        """An agent, when its services are served. Each is C{PORT=ORIGIN}, and may be followed by more of its section."""
        lines = [
            "[gateway]",
            f'to = "tcp://{HERE}:{self.carrier}"',
            f'name = "{name}"',
            f'secret-file = "{self.directory / "secret"}"',
        ]
        (self.directory / "secret").write_text(SECRET, encoding="utf-8")
        for key, service in services.items():
            place, _, more = service.partition(" ")
            port, _, origin = place.partition("=")
            lines += ["[[service]]", f'key = "{key}"', 'kind = "udp"', f"port = {port}", f'origin = "{origin}"', more]
        self.number += 1
        config = self.directory / f"agent{self.number}.toml"
        config.write_text("\n".join(lines), encoding="utf-8")
        running = Running(config.with_suffix(".log"), "agent", "--config", str(config), "--log-format", "json")
        self.addCleanup(running.end, signal.SIGKILL)
        running.wait("agent.serving", len(services))
        return running

    def echoed(self, visitor: socket.socket, *datagrams: bytes) -> None:
        """Each of these comes back."""
        for datagram in datagrams:
            visitor.send(datagram)
            self.assertEqual(visitor.recv(70_000), datagram)

    def test_echo(self) -> None:
        """Datagrams of every length go there and back whole, from whichever address was asked."""
        self.gateway("0.0.0.0")
        port = freePort(socket.SOCK_DGRAM)
        with echo() as origin:
            self.agent(echo=f"{port}={HERE}:{origin}")
            for address in (HERE, OTHER):
                with client(address, port) as visitor:
                    self.echoed(visitor, b"hi", b"", bytes(1200), os.urandom(MAX_DATAGRAM))

    def test_ipv6(self) -> None:
        """Visitors and origins may be reached by IPv6; one port serves both families."""
        self.gateway("::")
        port = freePort(socket.SOCK_DGRAM)
        with echo("::1") as origin:
            self.agent(echo=f"{port}=[::1]:{origin}")
            for address in ("::1", HERE, OTHER):
                with client(address, port) as visitor:
                    self.echoed(visitor, b"hi", os.urandom(MAX_DATAGRAM))

    def test_flood(self) -> None:
        """Several visitors who send much at once get much of it back, and nothing of each other's."""
        self.gateway()
        port = freePort(socket.SOCK_DGRAM)
        with echo() as origin:
            self.agent(echo=f"{port}={HERE}:{origin}")
            visitors = [client(HERE, port) for _ in range(8)]
            for number in range(2000):
                for each, visitor in enumerate(visitors):
                    visitor.send(b"%d %d" % (each, number))
                if number % 50 == 0:
                    time.sleep(0.01)
            for each, visitor in enumerate(visitors):
                with visitor:
                    numbers = []
                    while not isSilent(visitor):
                        who, what = map(int, visitor.recv(100).split())
                        self.assertEqual(who, each)
                        numbers.append(what)
                    self.assertEqual(numbers, sorted(set(numbers)))
                    self.assertGreater(len(numbers), 1000)

    def test_agentLeavesAndComesBack(self) -> None:
        """
        The port is free when the agent is gone, and another may have it at once; visitors go on where they were.
        """
        gateway = self.gateway()
        port = freePort(socket.SOCK_DGRAM)
        with echo() as origin, client(HERE, port) as visitor:
            service = f"{port}={HERE}:{origin}"
            first = self.agent(echo=service)
            self.echoed(visitor, b"1")
            first.end(signal.SIGKILL)
            gateway.wait("visit.closed")
            assert eventually(lambda: not isTaken(port))
            second = self.agent(echo=service)
            self.echoed(visitor, b"2")
            # While it drains its visitors stay, and its port is the next one's already.
            second.process.send_signal(signal.SIGTERM)
            gateway.wait("agent.draining")
            third = self.agent("other", echo=service)
            self.echoed(visitor, b"3")
            with client(HERE, port) as late:
                self.echoed(late, b"4")
            second.end()
            gateway.wait("visit.closed", 2)
            self.echoed(visitor, b"5")
            third.end(signal.SIGKILL)
            assert eventually(lambda: not isTaken(port))

    def test_silentVisits(self) -> None:
        """A visit that nobody says the end of keeps neither side from stopping: it is over when it is silent."""
        gateway = self.gateway()
        port = freePort(socket.SOCK_DGRAM)
        with echo() as origin, client(HERE, port) as visitor:
            service = f"{port}={HERE}:{origin}"
            agent = self.agent(echo=service)
            self.echoed(visitor, b"1")
            agent.end()
            self.assertEqual([each["cause"] for each in agent.events("agent.visit-closed")], ["idle-timeout"])
            gateway.wait("visit.closed")
            self.agent(echo=service)
            self.echoed(visitor, b"2")
            gateway.end()
            self.assertEqual(gateway.events("visit.closed")[1]["cause"], "idle-timeout")

    def test_nobodyListens(self) -> None:
        """An origin that is not there yet costs no line in a log for each datagram, and is found when it is there."""
        gateway = self.gateway()
        port, origin = freePort(socket.SOCK_DGRAM), freePort(socket.SOCK_DGRAM)
        agent = self.agent(echo=f"{port}={HERE}:{origin}")
        with client(HERE, port) as visitor:
            for _ in range(50):
                visitor.send(b"anybody?")
                time.sleep(0.005)
            gateway.wait("gateway.refused")
            self.assertTrue(isSilent(visitor))
            with echo(HERE, origin):
                self.echoed(visitor, b"1", b"2")
        for each in (gateway, agent):
            self.assertEqual(len(each.events("gateway.refused")), 1)
        self.assertEqual((gateway.events("visit.closed"), agent.events("agent.visit-closed")), ([], []))

    def test_proxyHeader(self) -> None:
        """An origin that wants to know who comes is told in each datagram."""
        self.gateway("0.0.0.0")
        port = freePort(socket.SOCK_DGRAM)
        with datagramSocket() as origin, client(OTHER, port) as visitor:
            self.agent(log=f'{port}={HERE}:{origin.getsockname()[1]} proxy-protocol = "v2"')
            visitor.send(b"one")
            visitor.send(b"two")
            for text in (b"one", b"two"):
                found = parse(data := origin.recv(1000))
                assert found is not None
                header, size = found
                self.assertEqual(data[size:], text)
                self.assertTrue(header.datagram)
                self.assertEqual(header.source, Address(IPv4Address(HERE), visitor.getsockname()[1]))
                self.assertEqual(header.destination, Address(IPv4Address(OTHER), port))
                self.assertIsNotNone(header.get(Tlv.UNIQUE_ID))

    def test_dig(self) -> None:
        """A resolver asks a name server, and takes its answer."""
        dig = shutil.which("dig")
        dnsmasq = shutil.which("dnsmasq", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        require(dig is not None, "dig is missing: apt-get install bind9-dnsutils")
        require(dnsmasq is not None, "dnsmasq is missing: apt-get install dnsmasq-base")
        assert dig is not None and dnsmasq is not None
        self.gateway("0.0.0.0")
        port, origin = freePort(socket.SOCK_DGRAM), freePort(socket.SOCK_DGRAM)
        server = subprocess.Popen(
            [
                *(dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user="),
                *(f"--port={origin}", f"--listen-address={HERE}", "--bind-interfaces", "--pid-file="),
                "--address=/app.example.com/192.0.2.7",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.agent(dns=f"{port}={HERE}:{origin}")
        for address in (HERE, OTHER):
            command = [
                dig,
                f"@{address}",
                "-p",
                str(port),
                "app.example.com",
                "+short",
                "+notcp",
                "+time=2",
                "+tries=5",
            ]
            answer = subprocess.run(command, stdout=subprocess.PIPE, timeout=SECONDS, check=True).stdout
            self.assertEqual(answer.split(), [b"192.0.2.7"])


def isTaken(port: int) -> bool:
    """Whether somebody has it."""
    try:
        datagramSocket(HERE, port).close()
    except OSError:
        return True
    return False
