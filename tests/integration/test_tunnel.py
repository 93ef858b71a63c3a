"""
Tests for C{gateway serve} and C{gateway agent}: real processes, real sockets, and programs that know nothing of them.

    visitor -- gateway -- carrier -- agent -- origin
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from queue import SimpleQueue
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.proxyheader import Address, ProxyHeader, encodeV2
from tests.integration.relays import digest, exactly, origin, toTheEnd
from tests.integration.tunnels import OWN, Place, RunningGateway, agent, serving
from tests.processes import HERE, SECONDS, freePort, reset

MIB = 1024 * 1024
UP = os.urandom(4 * MIB)
DOWN = os.urandom(4 * MIB)

REQUEST = b"GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n"


def echo(connection: socket.socket) -> None:
    """An origin that says what it hears."""
    while data := connection.recv(65536):
        connection.sendall(data)


def exchange(connection: socket.socket) -> str:
    """An origin that takes all that is sent, and then sends something else."""
    taken = digest(exactly(connection, len(UP)))
    connection.sendall(DOWN)
    return taken


def ended(connection: socket.socket) -> bytes:
    """What comes before the connection ends in one way or the other."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            data += piece
    return data


class TunnelTestCase(SynchronousTestCase):
    """
    A gateway's files.
    """

    def setUp(self) -> None:
        self.place = Place(Path(self.mktemp()).absolute())

    @contextmanager
    def tunnel(
        self, *services: Mapping[str, object], carrier: str = "tcp"
    ) -> Iterator[tuple[RunningGateway, RunningGateway]]:
        """A gateway, and an agent that serves."""
        with serving(self.place) as gateway, agent(gateway, self.place, services, carrier=carrier) as box:
            yield gateway, box

    def publicPort(self, process: RunningGateway) -> int:
        """The port that the gateway chose."""
        return int(process.awaitEvent("agent.serving")["address"].rpartition(":")[2])

    def assertEcho(self, connection: socket.socket, text: bytes = b"hello") -> None:
        """What is sent comes back."""
        connection.sendall(text)
        self.assertEqual(exactly(connection, len(text)), text)

    def assertExchanged(self, visitor: socket.socket, results: SimpleQueue[object]) -> None:
        """4 MiB go each way unchanged."""
        visitor.sendall(UP)
        self.assertEqual(digest(exactly(visitor, len(DOWN))), digest(DOWN))
        self.assertEqual(results.get(timeout=SECONDS), digest(UP))


class DoorTests(TunnelTestCase):
    """
    Each kind of service.
    """

    def test_passthrough(self) -> None:
        """TLS goes through untouched: the visitor sees the origin's own certificate, and every byte."""
        certificate, key = self.place.authority.issue("shop.example.com").write(self.mktemp())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        def serve(connection: socket.socket) -> str:
            with context.wrap_socket(connection, server_side=True) as secure:
                return exchange(secure)

        with origin(serve) as (port, results):
            service = {"key": "shop", "kind": "tls", "hostnames": ["shop.example.com"], "origin": f"{HERE}:{port}"}
            with (
                self.tunnel({**service, "proxy-protocol": "none"}) as (gateway, _),
                gateway.connectTLS(self.place, "shop.example.com") as visitor,
            ):
                subject = dict(each[0] for each in visitor.getpeercert()["subject"])  # type: ignore[index, misc]
                self.assertEqual(subject["commonName"], "shop.example.com")
                self.assertExchanged(visitor, results)

    def test_terminate(self) -> None:
        """TLS ends at the gateway, and the origin may be the one who speaks first."""

        def serve(connection: socket.socket) -> str:
            connection.sendall(b"SSH-2.0-x\r\n")
            return exchange(connection)

        with origin(serve) as (port, results):
            service = {"key": "ssh", "kind": "tls", "hostnames": ["ssh.example.com"], "tls": "terminate"}
            with (
                self.tunnel({**service, "origin": f"{HERE}:{port}"}) as (gateway, _),
                gateway.connectTLS(self.place, "ssh.example.com") as visitor,
            ):
                self.assertEqual(exactly(visitor, 11), b"SSH-2.0-x\r\n")
                self.assertExchanged(visitor, results)

    def test_http(self) -> None:
        """A host is reached with TLS and without; what is not served, and what cannot be reached, is told apart."""

        def serve(connection: socket.socket) -> bytes:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += exactly(connection, 1)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
            return request

        dead = freePort()
        with origin(serve) as (port, results):
            live = {"key": "app", "kind": "http", "hostnames": ["app.example.com"], "origin": f"{HERE}:{port}"}
            gone = {"key": "gone", "kind": "http", "hostnames": ["gone.example.com"], "origin": f"{HERE}:{dead}"}
            with self.tunnel(live, gone) as (gateway, _):
                for connection in (gateway.connect("http"), gateway.connectTLS(self.place, "app.example.com")):
                    with connection:
                        connection.sendall(REQUEST)
                        self.assertTrue(ended(connection).endswith(b"\r\n\r\nhi"))
                    head = cast(bytes, results.get(timeout=SECONDS))
                    self.assertTrue(head.startswith(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n"))
                for host, status in ((b"gone", b"502 Bad Gateway"), (b"none", b"404 Not Found")):
                    with gateway.connect("http") as connection:
                        connection.sendall(REQUEST.replace(b"app", host))
                        self.assertIn(status, ended(connection))

    def test_port(self) -> None:
        """A port leads to the origin; an end of one direction leaves the other, and a reset is passed on."""

        def serve(connection: socket.socket) -> str:
            taken = digest(toTheEnd(connection))
            connection.sendall(DOWN)
            return taken

        with origin(serve) as (port, results):
            service = {"key": "any", "kind": "tcp", "origin": f"{HERE}:{port}"}
            with self.tunnel(service) as (_, box):
                with socket.create_connection((HERE, self.publicPort(box)), SECONDS) as visitor:
                    visitor.sendall(UP)
                    visitor.shutdown(socket.SHUT_WR)
                    self.assertEqual(digest(toTheEnd(visitor)), digest(DOWN))
                self.assertEqual(results.get(timeout=SECONDS), digest(UP))
                visitor = socket.create_connection((HERE, self.publicPort(box)), SECONDS)
                visitor.sendall(b"x")
                time.sleep(0.2)
                reset(visitor)
                self.assertIsInstance(results.get(timeout=SECONDS), ConnectionResetError)

    def test_originRefuses(self) -> None:
        """A visitor of a port whose origin is not there is reset."""
        with (
            self.tunnel({"key": "any", "kind": "tcp", "origin": f"{HERE}:{freePort()}"}) as (_, box),
            socket.create_connection((HERE, self.publicPort(box)), SECONDS) as visitor,
        ):
            self.assertRaises(ConnectionResetError, visitor.recv, 1)

    def test_proxy(self) -> None:
        """Behind a listed proxy the origin hears the visitor's address, and nobody else can say one."""
        header = ProxyHeader(Address(IPv4Address("192.0.2.1"), 40000), Address(IPv4Address("198.51.100.7"), 80))

        def serve(connection: socket.socket) -> bytes:
            with connection.makefile("rb") as file:
                return file.readline()

        with origin(serve) as (port, results):
            service = {"key": "app", "kind": "http", "hostnames": ["app.example.com"], "origin": f"{HERE}:{port}"}
            with self.tunnel({**service, "proxy-protocol": "v1"}) as (gateway, _):
                with gateway.connect("http", "127.0.0.2") as visitor:
                    visitor.sendall(encodeV2(header) + REQUEST)
                    expected = b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 80\r\n"
                    self.assertEqual(results.get(timeout=SECONDS), expected)
                with gateway.connect("http") as visitor:
                    visitor.sendall(encodeV2(header) + REQUEST)
                    self.assertIn(b"400 Bad Request", ended(visitor))

    def test_carriers(self) -> None:
        """An agent may come by WebSocket, by TLS, and on this machine without."""
        with origin(echo) as (port, _), serving(self.place) as gateway:
            service = {"key": "any", "kind": "tcp", "origin": f"{HERE}:{port}"}
            for carrier in ("wss", "tls", "tcp"):
                with (
                    agent(gateway, self.place, [service], carrier=carrier) as box,
                    socket.create_connection((HERE, self.publicPort(box)), SECONDS) as visitor,
                ):
                    self.assertEcho(visitor, UP[:MIB])


class LifeTests(TunnelTestCase):
    """
    Comings and goings.
    """

    def test_agentKilled(self) -> None:
        """An agent that was killed is back with its name and port within two seconds of its return."""
        public = freePort()
        with origin(echo) as (port, _), serving(self.place) as gateway:
            service = {"key": "any", "kind": "tcp", "port": public, "origin": f"{HERE}:{port}"}
            with agent(gateway, self.place, [service]) as box:
                visitor = socket.create_connection((HERE, public), SECONDS)
                self.assertEcho(visitor)
                box.stop(signal.SIGKILL)
                self.assertEqual(ended(visitor), b"")
            started = time.monotonic()
            with (
                agent(gateway, self.place, [service]),
                socket.create_connection((HERE, public), SECONDS) as visitor,
            ):
                self.assertEcho(visitor)
                self.assertLess(time.monotonic() - started, 2 + 2, "two seconds, and a Python that starts")

    def test_portFreed(self) -> None:
        """The port of an agent that leaves is free at once."""
        public = freePort()
        with origin(echo) as (port, _), serving(self.place) as gateway:
            service = {"key": "any", "kind": "tcp", "port": public, "origin": f"{HERE}:{port}"}
            with agent(gateway, self.place, [service]) as box:
                box.stop()
            gateway.awaitEvent("agent.detached")
            with socket.socket() as mine:
                mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                mine.bind((HERE, public))

    def test_gatewayRestarted(self) -> None:
        """An agent comes back by itself when its gateway does."""
        ports = {name: freePort() for name in ("tls", "http", "agents", "plain")}
        public = freePort()
        with origin(echo) as (port, _):
            service = {"key": "any", "kind": "tcp", "port": public, "origin": f"{HERE}:{port}"}
            with serving(self.place, ports=ports) as gateway, agent(gateway, self.place, [service]):
                gateway.stop(signal.SIGKILL)
                with serving(self.place, ports=ports) as gateway:
                    gateway.awaitEvent("agent.service")
                    with socket.create_connection((HERE, public), SECONDS) as visitor:
                        self.assertEcho(visitor)

    def test_drain(self) -> None:
        """At SIGTERM a visitor who is in goes on to the end, nobody comes in, and then the gateway ends well."""
        with origin(echo) as (port, _):
            service = {"key": "any", "kind": "tcp", "origin": f"{HERE}:{port}"}
            with self.tunnel(service) as (gateway, box):
                public = self.publicPort(box)
                with socket.create_connection((HERE, public), SECONDS) as visitor:
                    self.assertEcho(visitor)
                    gateway.process.send_signal(signal.SIGTERM)
                    gateway.awaitEvent("gateway.stopping")
                    box.awaitEvent("agent.gateway-draining")
                    self.assertRaises(ConnectionRefusedError, socket.create_connection, (HERE, public), SECONDS)
                    self.assertEcho(visitor, b"still here")
                self.assertEqual(gateway.process.wait(SECONDS), 0)
                self.assertEqual(gateway.events()[-1]["level"], "info")

    def test_impatience(self) -> None:
        """A second SIGTERM does not wait for visitors; they are reset."""
        with origin(echo) as (port, _):
            service = {"key": "any", "kind": "tcp", "origin": f"{HERE}:{port}"}
            with (
                self.tunnel(service) as (gateway, box),
                socket.create_connection((HERE, self.publicPort(box)), SECONDS) as visitor,
            ):
                self.assertEcho(visitor)
                gateway.process.send_signal(signal.SIGTERM)
                gateway.awaitEvent("gateway.stopping")
                started = time.monotonic()
                self.assertEqual(gateway.stop(), 0)
                self.assertLess(time.monotonic() - started, 5)
                self.assertRaises(ConnectionResetError, visitor.recv, 1)

    def test_reload(self) -> None:
        """At SIGHUP a new certificate is used, who may not be here any more is sent away, and others go on."""
        with origin(echo) as (port, _):
            service = {"key": "any", "kind": "tcp", "origin": f"{HERE}:{port}"}
            with (
                serving(self.place, agents=("alice", "bob")) as gateway,
                agent(gateway, self.place, [service], name="alice") as alice,
                agent(gateway, self.place, [service], name="bob") as bob,
                socket.create_connection((HERE, self.publicPort(alice)), SECONDS) as visitor,
            ):
                self.assertEcho(visitor)
                with gateway.connectTLS(self.place, OWN) as connection:
                    before = connection.getpeercert(binary_form=True)
                self.place.write(agents=("alice",))
                self.place.issue(OWN, "*.example.com")
                gateway.process.send_signal(signal.SIGHUP)
                gateway.awaitEvent("gateway.reloaded")
                self.assertEqual(bob.awaitEvent("agent.disconnected")["event"], "agent.disconnected")
                with gateway.connectTLS(self.place, OWN) as connection:
                    self.assertNotEqual(connection.getpeercert(binary_form=True), before)
                self.assertEcho(visitor, b"still here")
                (self.place.directory / "gateway.toml").write_text("nonsense")
                gateway.process.send_signal(signal.SIGHUP)
                gateway.awaitEvent("gateway.reload-failed")
                self.assertEcho(visitor, b"and still")

    def test_management(self) -> None:
        """The page shows who is here and when they last answered; other names than this machine's are refused."""
        with origin(echo) as (port, _):
            service = {"key": "any", "kind": "tcp", "origin": f"{HERE}:{port}"}
            with self.tunnel(service) as (gateway, box):
                with socket.create_connection((HERE, self.publicPort(box)), SECONDS) as visitor:
                    self.assertEcho(visitor)
                    metrics = gateway.get("/metrics")
                    self.assertIn('txgateway_agent_streams{agent="box",replica=""} 1.0', metrics)
                    self.assertIn("<td>box</td>", gateway.get("/"))
                gateway.awaitEvent("visit.closed")
                self.assertIn('txgateway_bytes_total{direction="up"} 5.0', gateway.get("/metrics"))
                self.assertIn("200 OK", gateway.get("/readyz"))
                self.assertIn("403 Forbidden", gateway.get("/metrics", "evil.example"))
