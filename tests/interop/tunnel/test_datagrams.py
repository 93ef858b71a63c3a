"""
UDP through a gateway: dig asks dnsmasq, and a flood comes back as it went.
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import os
import socket
import threading

from tests.interop.running import program, start
from tests.interop.tunnels import TunnelTestCase
from tests.processes import HERE, freePort

LARGEST = 65_507
"""Bytes that fit into a datagram of IPv4."""

VISITORS, EACH, AT_ONCE = 20, 250, 5


class DigTests(TunnelTestCase):
    """Questions to a name server, by UDP and by TCP."""

    def test_dig(self) -> None:
        """Answers are right, large ones too, and a truncated one can be had by TCP."""
        program("dig")
        port, words = freePort(), ["x" * 200 + str(number) for number in range(12)]
        command = [program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
        command += [f"--port={port}", f"--listen-address={HERE}", "--bind-interfaces", "--pid-file=", "--user="]
        command += [
            "--address=/a.test/192.0.2.7",
            "--edns-packet-max=4096",
            *(f"--txt-record=t.test,{w}" for w in words),
        ]
        start(self, *command).awaitPort(port)
        origin = f"0={HERE}:{port}"
        agent = self.agent(self.gateway(), "--udp", f"dns:{origin}", "--tcp", f"dns-tcp:{origin}")
        dig = ["-r", f"@{HERE}", "+short", "+tries=1", "+time=5"]
        at = ["-p", str(agent.port("dns"))]
        for _ in range(20):
            self.assertEqual(self.call("dig", *dig, *at, "a.test"), "192.0.2.7\n")
        self.assertEqual(len(self.call("dig", *dig, *at, "+bufsize=4096", "t.test", "TXT").splitlines()), 12)
        self.assertIn(" tc", self.call("dig", *dig[:2], *at, "+noedns", "+ignore", "t.test", "TXT"))
        byTCP = ["+tcp", "-p", str(agent.port("dns-tcp"))]
        self.assertEqual(len(self.call("dig", *dig, *byTCP, "t.test", "TXT").splitlines()), 12)


class FloodTests(TunnelTestCase):
    """An origin that sends back what it gets."""

    def setUp(self) -> None:
        super().setUp()
        self.origin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.origin.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.origin.bind((HERE, 0))
        self.addCleanup(self.origin.close)
        echo = threading.Thread(target=self._echo)
        echo.start()
        self.addCleanup(echo.join)
        self.addCleanup(self._wake)
        self.running = self.gateway()
        agent = self.agent(self.running, "--udp", f"echo:0={HERE}:{self.origin.getsockname()[1]}")
        self.door = (HERE, agent.port("echo"))

    def _echo(self) -> None:
        while True:
            data, sender = self.origin.recvfrom(65_535)
            if sender is None:
                return
            self.origin.sendto(data, sender)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it wakes who reads, and complains that it is not connected
            self.origin.shutdown(socket.SHUT_RDWR)

    def visitor(self) -> socket.socket:
        """Somebody who comes by UDP."""
        visitor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(visitor.close)
        visitor.settimeout(5.0)
        visitor.connect(self.door)
        return visitor

    def test_sizes(self) -> None:
        """Datagrams are whole, from none to the most bytes that there can be."""
        visitor = self.visitor()
        for size in (1, 0, 511, 1472, 1473, 16_384, LARGEST):
            data = os.urandom(size)
            visitor.send(data)
            self.assertEqual(visitor.recv(65_535), data)

    def test_flood(self) -> None:
        """Of 5,000 datagrams of 20 visitors, a few on the way at once, each comes back once, to who sent it."""
        results: list[object] = []

        def send(number: int, visitor: socket.socket) -> None:
            sent = [b"%d %d " % (number, count) + bytes(count) for count in range(EACH)]
            received = []
            try:
                for start in range(0, EACH, AT_ONCE):
                    for data in sent[start : start + AT_ONCE]:
                        visitor.send(data)
                    received += [visitor.recv(65_535) for _ in range(AT_ONCE)]
            except OSError as e:
                results.append(e)
            else:
                results.append(received == sent)

        threads = [threading.Thread(target=send, args=(number, self.visitor())) for number in range(VISITORS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.deadline)
        self.assertEqual(results, [True] * VISITORS)

    def test_tooMany(self) -> None:
        """Of a flood without pauses what comes back is what was sent, once, and the door works afterwards."""
        visitor = self.visitor()
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sent = [b"%d " % count + bytes(1000) for count in range(10_000)]
        for data in sent:
            visitor.send(data)
        received: list[bytes] = []
        visitor.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while True:
                received.append(visitor.recv(65_535))
        self.assertEqual(len(set(received)), len(received))
        self.assertLessEqual(set(received), set(sent))
        self.assertGreater(len(received), 0)
        visitor.settimeout(5.0)
        visitor.send(b"after")
        self.assertEqual(visitor.recv(100), b"after")
        taken, returned = (self.running.metric("datagrams_total", what=what) for what in ("received", "sent"))
        self.assertTrue(len(received) < returned <= taken <= len(sent) + 1, (len(received), returned, taken))
