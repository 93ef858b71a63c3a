"""
Run C{gateway serve} and C{gateway agent} as people do, on ports that the system chooses::

    with serving(directory) as gateway, agent(gateway, directory, services) as box:
        visitor = socket.create_connection((HERE, gateway.ports["http"]))
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.domain.tokens import hashToken
from tests.certificates import Authority, makeAuthority
from tests.integration.relays import GATEWAY, RunningRelay
from tests.processes import HERE, SECONDS

__all__ = ["OWN", "SECRET", "Place", "RunningGateway", "agent", "serving"]

OWN = "localhost"
SECRET = "correct-horse-battery-staple"


@dataclass
class Place:
    """
    The files of one gateway and its agents.

    @ivar authority: that everybody believes.
    """

    directory: Path
    authority: Authority = field(default_factory=lambda: makeAuthority("Tunnel"))

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        self.ca = self.authority.write(str(self.directory / "ca.pem"))
        self.issue(OWN, "*.example.com", HERE)
        (self.directory / "secret").write_text(SECRET)

    def issue(self, *names: str) -> None:
        """Issue the gateway's certificate, instead of the one before."""
        self.authority.issue(*names).write(str(self.directory))

    def write(self, *, ports: Mapping[str, int] | None = None, agents: Sequence[str] = ("*",), more: str = "") -> Path:
        """Write gateway.toml."""
        number = {"tls": 0, "http": 0, "agents": 0, "plain": 0, **(ports or {})}
        entries = "".join(
            f'[[agent]]\nname = "{name}"\nsecret-hash = "{hashToken(SECRET)}"\nhostnames = ["*"]\nports = ["1024-65535"]\n'
            for name in agents
        )
        path = self.directory / "gateway.toml"
        path.write_text(
            f"""
            [gateway]
            public-host = "{OWN}"
            drain-seconds = 10
            [tls]
            listen = ["{HERE}:{number["tls"]}"]
            [http]
            listen = ["{HERE}:{number["http"]}"]
            proxy-protocol-from = ["127.0.0.2/32"]
            [agents]
            listen = ["{HERE}:{number["agents"]}"]
            plain-listen = ["{HERE}:{number["plain"]}"]
            [ports]
            interfaces = ["{HERE}"]
            [management]
            listen = ["{HERE}:0"]
            [[certificate]]
            hostnames = ["{OWN}", "*.example.com"]
            certificate = "{self.directory / "certificate.pem"}"
            key = "{self.directory / "key.pem"}"
            [limits]
            ping-interval = 1
            {more}
            {entries}
            """
        )
        return path


@dataclass(slots=True)
class RunningGateway(RunningRelay):
    """
    A gateway that listens.

    @ivar ports: by the section of C{gateway.toml}; C{plain} for agents without TLS.
    """

    ports: dict[str, int] = field(default_factory=dict)

    def connect(self, name: str, source: str = HERE) -> socket.socket:
        """A connection to one of the ports."""
        return socket.create_connection((HERE, self.ports[name]), SECONDS, (source, 0))

    def connectTLS(self, place: Place, host: str, *protocols: str) -> ssl.SSLSocket:
        """A connection to the TLS port, for a name; the certificate has to be good for it."""
        context = ssl.create_default_context(cafile=place.ca)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context.wrap_socket(self.connect("tls"), server_hostname=host)

    def get(self, path: str, host: str = "localhost") -> str:
        """A page of the management listener."""
        with self.connect("management") as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            with connection.makefile("rb") as file:
                return file.read().decode()


@contextmanager
def _running(*arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[RunningGateway]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [GATEWAY, *arguments, "--log-format", "json"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environ or {})},
        )
        try:
            yield RunningGateway(process, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def serving(place: Place, **options: Any) -> Iterator[RunningGateway]:
    """A gateway for one C{with} block, once it listens; the options are those of L{Place.write}."""
    with _running("serve", "--config", str(place.write(**options))) as gateway:
        gateway.awaitEvent("gateway.started")
        ports = [
            (event["label"], int(event["where"].rpartition(":")[2]))
            for event in gateway.events()
            if event["event"] == "gateway.listening"
        ]
        for label, port in ports:
            gateway.ports["plain" if label in gateway.ports else label] = port
        yield gateway


def carriers(gateway: RunningGateway) -> dict[str, str]:
    """Where an agent can attach to, by kind."""
    return {
        "wss": f"wss://{OWN}:{gateway.ports['tls']}/agent",
        "tls": f"tls://{OWN}:{gateway.ports['agents']}",
        "tcp": f"tcp://{HERE}:{gateway.ports['plain']}",
    }


@contextmanager
def agent(
    gateway: RunningGateway,
    place: Place,
    services: Sequence[Mapping[str, object]],
    *,
    carrier: str = "tcp",
    name: str = "box",
) -> Iterator[RunningGateway]:
    """
    An agent for one C{with} block, once it serves.

    @param services: the sections of its configuration.
    """
    to = carriers(gateway)[carrier]
    lines = ["[gateway]", f'to = "{to}"', f'name = "{name}"', f'secret-file = "{place.directory / "secret"}"']
    if carrier != "tcp":
        lines.append(f'ca = "{place.ca}"')
    for service in services:
        lines += ["[[service]]", *(f"{key} = {json.dumps(value)}" for key, value in service.items())]
    path = place.directory / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    with _running("agent", "--config", str(path)) as process:
        process.awaitEvent("agent.serving")
        yield process
