"""
A real gateway and real agents, each a process on loopback, for tests of what goes through them.

C{gw.test} is the gateway, and the agent C{alice} may serve every name one label below it::

    class ShopTests(TunnelTestCase):
        def test_shop(self) -> None:
            gateway = self.gateway()
            self.agent(gateway, "--http", f"shop.gw.test=127.0.0.1:{port}")
            self.call("curl", gateway.url("https", "shop.gw.test"))
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import makeAuthority
from tests.interop.running import GATEWAY, Running, program, start
from tests.processes import HERE, SECONDS, DeadlineTestCase, freePort

__all__ = [
    "AGENT",
    "GATEWAY",
    "HOST",
    "MIB",
    "RunningAgent",
    "RunningGateway",
    "TunnelTestCase",
    "checksum",
    "randomFile",
]

HOST = "gw.test"
AGENT = "alice"
MIB = 1024 * 1024

_SECRET = "a secret of the tests, which is long enough"


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def randomFile(path: Path, size: int) -> str:
    """Fill a file with noise, of which no MiB is like another, and return its checksum."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(0, size, MIB):
            file.write((number.to_bytes(8, "big") + block[8:])[: size - number])
    return checksum(path)


@dataclass(slots=True)
class RunningGateway(Running):
    """
    A C{gateway serve}.

    @ivar authority: PEM file of the authority behind its certificate.
    @ivar configuration: its C{gateway.toml}.
    @ivar tls: the port for TLS; likewise the others.
    """

    authority: str
    configuration: Path
    tls: int
    http: int
    agents: int
    management: int

    def url(self, scheme: str, name: str, path: str = "/") -> str:
        """Where something is for those who take every name for this machine."""
        return f"{scheme}://{name}:{self.tls if scheme == 'https' else self.http}{path}"

    def metric(self, name: str, **labels: str) -> float:
        """A figure, C{name} being without our prefix, of the row with these labels."""
        with urllib.request.urlopen(f"http://{HERE}:{self.management}/metrics", timeout=SECONDS) as answer:
            for line in answer.read().decode().splitlines():
                found = re.fullmatch(rf"txgateway_{name}(?:{{(.*)}})? (\S+)", line)
                if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                    return float(found[2])
        raise AssertionError(f"no metric {name} {labels}")


@dataclass(slots=True)
class RunningAgent(Running):
    """
    A C{gateway agent}.

    @ivar configuration: its C{agent.toml}, if it has one.
    """

    configuration: Path

    def port(self, service: str) -> int:
        """The public port of a service, as soon as it is served."""
        return int(self.awaitEvent("agent.serving", service=service)["address"].rpartition(":")[2])

    def visits(self) -> list[dict[str, object]]:
        """Those that are over."""
        return self.events("agent.visit-closed")


class TunnelTestCase(DeadlineTestCase):
    """
    A test with a folder and processes.

    @ivar folder: what is written goes here; everybody may read it.
    """

    def setUp(self) -> None:
        super().setUp()
        temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.folder.chmod(0o755)

    def call(self, name: str, *arguments: str, status: int = 0, text: str = "") -> str:
        """
        Run a program of somebody else's to its end.

        @param status: with which it must end.
        @param text: its standard input.
        @return: what it wrote to standard output.
        """
        done = subprocess.run(
            [program(name), *arguments], input=text.encode(), capture_output=True, timeout=self.deadline
        )
        self.assertEqual(done.returncode, status, (name, arguments, done.stdout[-2000:], done.stderr[-2000:]))
        return done.stdout.decode("utf-8", "replace")

    def credential(self, *names: str) -> tuple[str, str, str]:
        """Return three PEM files: of a new authority, of a certificate of its for some names, and of the key."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        folder.chmod(0o755)
        authority = makeAuthority(f"The authority of {names[0]}")
        return authority.write(str(folder / "authority.pem")), *authority.issue(*names).write(str(folder))

    # -- Our own programs

    def gateway(self, *, drain: float = 1.0, **sections: str) -> RunningGateway:
        """
        Start a gateway, and wait until it listens.

        @param drain: seconds that visitors have when it is ended.
        @param sections: more lines for sections of its configuration.
        """
        tls, http, agents, management = (freePort() for _ in range(4))
        authority, certificate, key = self.credential(HOST, f"*.{HOST}", HERE)
        lines = {
            "gateway": f'public-host = "{HOST}"\ndrain-seconds = {drain}',
            "tls": f'listen = ["{HERE}:{tls}"]',
            "http": f'listen = ["{HERE}:{http}"]',
            "agents": f'listen = ["{HERE}:{agents}"]',
            "ports": f'interfaces = ["{HERE}"]',
            "management": f'listen = ["{HERE}:{management}"]',
        }
        text = "".join(f"[{name}]\n{lines.get(name, '')}\n{sections.get(name, '')}\n" for name in lines | sections)
        text += (
            f'[[certificate]]\nhostnames = ["{HOST}", "*.{HOST}"]\ncertificate = "{certificate}"\nkey = "{key}"\n'
            f'[[agent]]\nname = "{AGENT}"\nhostnames = ["*.{HOST}"]\nports = ["20000-29999"]\n'
            f'secret-hash = "sha256:{hashlib.sha256(_SECRET.encode()).hexdigest()}"\n'
        )
        configuration = self.folder / "gateway.toml"
        configuration.write_text(text)
        running = start(
            self, GATEWAY, "serve", "--config", str(configuration), "--log-format", "json", ended=self._inspect
        )
        gateway = RunningGateway(running.process, running._log, authority, configuration, tls, http, agents, management)
        gateway.awaitEvent("gateway.started")
        return gateway

    def agent(
        self,
        gateway: RunningGateway,
        *options: str,
        to: str = "",
        replica: str = "",
        config: str = "",
        drain: float = 1.0,
        env: Mapping[str, str] | None = None,
    ) -> RunningAgent:
        """Start an agent as in L{startAgent}, and wait until it is connected."""
        agent = self.startAgent(gateway, *options, to=to, replica=replica, config=config, drain=drain, env=env)
        agent.awaitEvent("agent.connected")
        return agent

    def startAgent(
        self,
        gateway: RunningGateway,
        *options: str,
        to: str = "",
        replica: str = "",
        config: str = "",
        drain: float = 1.0,
        env: Mapping[str, str] | None = None,
    ) -> RunningAgent:
        """
        Start an agent.

        @param options: C{--http} and so on.
        @param to: where it connects, if not by TLS to the port for agents.
        @param config: services as in C{agent.toml}.
        @param drain: seconds that visitors have when it is ended.
        """
        configuration = self.folder / f"agent{replica}.toml"
        command = ["--to", to or f"tls://{HERE}:{gateway.agents}", "--name", AGENT, "--ca", gateway.authority]
        command += ["--drain", str(drain)]
        if replica:
            command += ["--replica", replica]
        if config:
            configuration.write_text(config)
            command += ["--config", str(configuration)]
        running = start(
            self, GATEWAY, "agent", *command, *options, "--log-format", "json",
            env={"GATEWAY_SECRET": _SECRET, **(env or {})}, ended=self._inspect,
        )  # fmt: skip
        return RunningAgent(running.process, running._log, configuration)

    def _inspect(self, ours: Running) -> None:
        """Whatever happened, our programs have no traceback in their logs."""
        defects = [line for line in ours.log().splitlines() if "Traceback" in line or "Unhandled" in line]
        self.assertEqual(defects[:3], [])

    def service(self, **keys: object) -> str:
        """A service, as in C{agent.toml}."""
        names = {key.replace("_", "-"): json.dumps(value) for key, value in keys.items()}
        return "[[service]]\n" + "".join(f"{key} = {value}\n" for key, value in names.items())
