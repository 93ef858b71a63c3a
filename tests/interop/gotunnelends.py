"""
Programs at both ends of go-tunnel's protocol, started for real: ours, and the one in C{tests/interop/go} that speaks it on
hashicorp's yamux.

Each says what happens to it in lines of JSON with a key C{event}, and tests wait for those::

    server = tests.ourServer()
    agent = tests.goAgent("app.example.com=127.0.0.1:8080=http")
    agent.wait("registered")
    tests.request(tests.visit("app.example.com"), "app.example.com")
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import makeAuthority
from tests.integration.relays import GATEWAY, toTheEnd
from tests.interop.running import Running, start
from tests.peers import require
from tests.processes import HERE, SECONDS, eventually, freePort

SECRET = "a-secret-of-more-than-thirty-two-characters"
APP, SSH = "app.example.com", "ssh.example.com"

GO = str(Path(__file__).resolve().parents[2] / ".peers/go/interop")


@dataclass(slots=True)
class Speaking(Running):
    """A program that is listened to, event by event."""

    _seen: int = 0

    def wait(self, name: str, **facts: object) -> dict[str, Any]:
        """
        Wait for an event, after the one that was waited for before.

        @param facts: each is looked for in that of the event.
        """

        def isThere() -> bool:
            events = self.events()
            for index in range(self._seen, len(events)):
                each = events[index]
                if each["event"] == name and all(str(fact) in str(each[key]) for key, fact in facts.items()):
                    self._seen = index + 1
                    return True
            return False

        if not eventually(isThere):
            raise AssertionError(f"no event {name} {facts}:\n{self.log()[-4000:]}")
        return self.events()[self._seen - 1]


class GoTunnelTestCase(SynchronousTestCase):
    """
    A test with such programs, all of which are ended with it.

    @ivar tunnelPort: of the server for agents.
    @ivar publicPort: of the server for visitors.
    """

    def setUp(self) -> None:
        require(os.access(GO, os.X_OK), "the Go program is missing: apt-get install golang-go, then scripts/gopeers")
        self.directory = Path(self.mktemp()).absolute()
        authority = makeAuthority("Test Authority")
        self.certificate, self.key = authority.issue(APP, SSH, "gw.example.com").write(str(self.directory))
        self.authority = authority.write(str(self.directory / "authority"))
        self.tunnelPort, self.publicPort, self.dashboardPort = freePort(), freePort(), freePort()

    def start(self, *command: str) -> Speaking:
        """Start a program."""
        running = start(self, *command, ending=signal.SIGKILL)
        return Speaking(running.process, running._log)

    # -- Programs

    def ourServer(self, **variables: str) -> Speaking:
        """Our server, on the ports of this test."""
        path = self.directory / ".env"
        lines = {
            "GATEWAY_HOST": "gw.example.com",
            "GATEWAY_PORT": self.publicPort,
            "TUNNEL_PORT": self.tunnelPort,
            "DASHBOARD_PORT": self.dashboardPort,
            "JWT_SECRET": SECRET,
            "CERT_FILE": self.certificate,
            "KEY_FILE": self.key,
            **variables,
        }
        path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        server = self.start(GATEWAY, "gotunnel-server", "--env-file", str(path), "--interface", HERE)
        for _ in range(3):
            server.wait("gateway.listening")
        return server

    def goServer(self, *flags: str) -> Speaking:
        """The Go server, on the ports of this test."""
        ports = ("-tunnel", f"{HERE}:{self.tunnelPort}", "-public", f"{HERE}:{self.publicPort}")
        files = ("-cert", self.certificate, "-key", self.key)
        server = self.start(GO, "gotunnel-server", *ports, *files, "-secret", SECRET, *flags)
        server.wait("public")
        return server

    def goAgent(self, *tunnels: str, secret: str = SECRET, flags: tuple[str, ...] = ()) -> Speaking:
        """A Go agent, with tunnels C{HOST=TARGET=MODE}."""
        words = [word for tunnel in tunnels for word in ("-tunnel", tunnel)]
        address = f"{HERE}:{self.tunnelPort}"
        return self.start(
            GO, "gotunnel-agent", "-server", address, "-ca", self.authority, "-secret", secret, *words, *flags
        )

    def ourAgent(self, *tunnels: tuple[str, int, str], secret: str = SECRET, drain: float = 10) -> Speaking:
        """Our agent, with tunnels of a name, a port and a mode."""
        path = self.directory / "config.yaml"
        listed = [{"hostname": name, "target": f"{HERE}:{port}", "mode": mode} for name, port, mode in tunnels]
        # JSON is YAML.
        path.write_text(
            json.dumps({"tunnel_addr": f"{HERE}:{self.tunnelPort}", "jwt_secret": secret, "tunnels": listed})
        )
        words = ("--config", str(path), "--ca", self.authority, "--drain", str(drain))
        return self.start(GATEWAY, "gotunnel-agent", *words)

    # -- Visitors

    def visit(self, name: str) -> ssl.SSLSocket:
        """A visitor of our server's, by TLS."""
        context = ssl.create_default_context(cafile=self.authority)
        raw = socket.create_connection((HERE, self.publicPort), SECONDS)
        connection = context.wrap_socket(raw, server_hostname=name)
        self.addCleanup(connection.close)
        return connection

    def call(self, name: str) -> socket.socket:
        """A visitor of the Go server's, whose bytes are the stream's."""
        connection = socket.create_connection((HERE, self.publicPort), SECONDS)
        connection.sendall(name.encode() + b"\n")
        self.addCleanup(connection.close)
        return connection

    def request(self, connection: socket.socket, name: str, body: bytes = b"") -> bytes:
        """Make one HTTP request. Return all that comes back."""
        method = "POST" if body else "GET"
        head = f"{method} / HTTP/1.1\r\nHost: {name}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
        return toTheEnd(connection)


def echo(connection: socket.socket) -> None:
    """An origin that sends back what comes, to the end, and then some."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.sendall(b"that was all")


def serveHTTP(connection: socket.socket) -> None:
    """An origin that answers one request with its body's size, and the Host that it was for."""
    stream = connection.makefile("rb")
    stream.readline()
    headers = {}
    while line := stream.readline().strip():
        key, _, value = line.decode().partition(": ")
        headers[key] = value
    body = stream.read(int(headers["Content-Length"]))
    answer = f"{len(body)} bytes for {headers['Host']}".encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
