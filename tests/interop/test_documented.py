"""
Tests that do what the how-to says, with the real programs: nginx and Caddy in front, systemd's sockets, signals.

The configurations are taken from the page; only addresses, ports and file names are replaced.
"""

from __future__ import annotations

import contextlib  # not suppress by its name, which trial takes for its own setting
import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import makeAuthority
from tests.documented import blocks, commands, namedBlock
from tests.interop.gateways import OURS, Gateway, Program, environment, startCommand, started
from tests.interop.rawwebsocket import ConnectionLost, HandshakeRefused, RawWebSocket
from tests.processes import HERE, freePort

TOKEN = "0" * 64
ENVIRONMENT = {"TABBY_AUTH_TOKEN": TOKEN}
SECONDS = 10.0
"""For anything that must happen; it fails only when that does not."""

SBIN = "/usr/sbin:/sbin"


def programPath(name: str) -> str:
    """
    @raise SkipTest: the program is not on this machine.
    """
    path = shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}")
    if path is None:
        raise SkipTest(f"{name} is missing: apt-get install {name}")
    return path


def awaitPort(port: int) -> None:
    """Return when somebody listens on a port of the loopback address."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection((HERE, port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def running(
    command: Sequence[str], port: int, env: Mapping[str, str] = {}, *, probe: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """
    A program, for one C{with} block, once it listens.

    @param probe: connect to see whether it listens. Not for a program that does something at the first connection.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(env))
        try:
            if probe:
                awaitPort(port)
            yield process
        except BaseException:
            sys.stderr.write(os.pread(log.fileno(), 4000, 0).decode("utf-8", "replace"))
            raise
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def visiting(client: RawWebSocket) -> Iterator[RawWebSocket]:
    """A client for one C{with} block: a gateway that stops would wait for one that stays."""
    try:
        yield client
    finally:
        client.drop()


@contextmanager
def greeter() -> Iterator[int]:
    """A target that greets each client and then says what it hears; the port that it listens on."""
    with socket.create_server((HERE, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, contextlib.suppress(ConnectionError):
                    client.sendall(b"hello\r\n")
                    while data := client.recv(65536):
                        client.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def answer(client: RawWebSocket, token: str, **wish: object) -> object:
    """Say hello with the token, then connect with the wish; return the gateway's answer to that."""
    client.receive(SECONDS)
    client.sendText(json.dumps({"_": "hello", "version": 1, "auth_token": token}))
    client.receive(SECONDS)
    client.sendText(json.dumps({"_": "connect", **wish}))
    return json.loads(client.receive(SECONDS).payload)


def awaitLog(gateway: Gateway, text: str) -> str:
    """Return the log once it holds a text: a gateway may write a line after its client has seen the effect."""
    deadline = time.monotonic() + SECONDS
    while text not in (log := gateway.log()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{text!r} is not in the log:\n{log}")
        time.sleep(0.02)
    return log


def newToken(file: Path, *options: str) -> str:
    """Make a token with the name alice in a tokens file, as a person would."""
    command = [OURS.command[0], "tabby-token", "new", "alice", "--file", str(file), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def untrusting() -> ssl.SSLContext:
    """For a proxy that makes its own certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class FrontProxyTests(SynchronousTestCase):
    """The gateway works behind the proxies as the page configures them."""

    OPTIONS = ("--token-auth", "--trusted-proxy", HERE, "--public-url", "wss://gw.example.org", "--log-format", "json")

    def converse(self, proxyPort: int) -> None:
        """Open a session through the proxy from an address of its own; it works, and the address is known."""
        with greeter() as target:
            door = RawWebSocket.connect((HERE, proxyPort), source="127.0.0.9", tls=untrusting(), timeout=SECONDS)
            with visiting(door) as client:
                self.assertEqual(answer(client, TOKEN, host=HERE, port=target), {"_": "connected"})
                self.assertEqual(client.receive(SECONDS).payload, b"hello\r\n")
                client.sendBinary(b"and back")
                self.assertEqual(client.receive(SECONDS).payload, b"and back")
        with urllib.request.urlopen(f"https://{HERE}:{proxyPort}/", context=untrusting(), timeout=SECONDS) as page:
            self.assertIn("wss://gw.example.org", page.read().decode())

    def opened(self, log: str) -> list[str]:
        """Whose sessions the log has."""
        events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        return [event["visitor"] for event in events if event["event"] == "tabby.opened"]

    def test_nginx(self) -> None:
        """nginx with the page's server block carries a session and says who the client is."""
        nginx = programPath("nginx")
        (block,) = [each.text for each in blocks() if each.language == "nginx" and each.page.endswith("tabby-web.md")]
        directory = Path(self.mktemp()).absolute()
        certificate, key = makeAuthority("Docs").issue(HERE).write(str(directory))
        port = freePort()
        with started(OURS, self.OPTIONS, env=ENVIRONMENT) as gateway:
            for ours, theirs in (
                ("listen 443 ssl", f"listen {HERE}:{port} ssl"),
                ("/etc/letsencrypt/live/gw.example.org/fullchain.pem", certificate),
                ("/etc/letsencrypt/live/gw.example.org/privkey.pem", key),
                ("http://127.0.0.1:9000", f"http://{HERE}:{gateway.address[1]}"),
            ):
                self.assertIn(ours, block)
                block = block.replace(ours, theirs)
            paths = "".join(
                f"{name}_temp_path {directory}/{name};\n"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            configuration = directory / "nginx.conf"
            configuration.write_text(
                f"daemon off;\npid {directory}/pid;\nerror_log stderr;\nevents {{}}\n"
                f"http {{\naccess_log off;\n{paths}{block}}}\n"
            )
            with running((nginx, "-c", str(configuration), "-p", str(directory)), port):
                self.converse(port)
            self.assertEqual(self.opened(gateway.log()), ["127.0.0.9"])

    def test_caddy(self) -> None:
        """Caddy with the page's Caddyfile carries a session and says who the client is."""
        caddy = programPath("caddy")
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        port = freePort()
        with started(OURS, self.OPTIONS, env=ENVIRONMENT) as gateway:
            block = namedBlock("Caddyfile").text
            block = block.replace("gw.example.org {", f"https://{HERE}:{port} {{\n    tls internal")
            block = block.replace("127.0.0.1:9000", f"{HERE}:{gateway.address[1]}")
            configuration = directory / "Caddyfile"
            configuration.write_text(
                f"{{\n    admin off\n    skip_install_trust\n    auto_https disable_redirects\n"
                f"    default_bind {HERE}\n}}\n{block}"
            )
            home = {"XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
            command = (caddy, "run", "--config", str(configuration), "--adapter", "caddyfile")
            with running(command, port, home):
                self.converse(port)
            self.assertEqual(self.opened(gateway.log()), ["127.0.0.9"])

    def test_forgottenUpgrade(self) -> None:
        """A proxy that does not upgrade makes the gateway answer 426 and log why."""
        with started(OURS, self.OPTIONS, env=ENVIRONMENT) as gateway:
            with self.assertRaises(HandshakeRefused) as caught:
                RawWebSocket.connect(gateway.address, headers={"Upgrade": "", "Connection": "close"})
            self.assertEqual(caught.exception.status, 426)
            awaitLog(gateway, "tabby.upgrade-lost")


class SystemdTests(SynchronousTestCase):
    """The gateway runs as the units say."""

    def test_socketActivation(self) -> None:
        """The port comes from systemd, TLS and tokens from the unit's options."""
        activate = programPath("systemd-socket-activate")
        line = next(
            command.words
            for command in commands("gateway")
            if any(word.startswith("systemd:") for word in command.words)
        )
        directory = Path(self.mktemp()).absolute()
        authority = makeAuthority("Docs")
        certificate, key = authority.issue(HERE).write(str(directory))
        tokens = directory / "tokens.toml"
        token = newToken(tokens)
        files = {
            "/etc/txgateway/tls/fullchain.pem": certificate,
            "/etc/txgateway/tls/privkey.pem": key,
            "/etc/txgateway/tokens.toml": str(tokens),
        }
        words = [files.get(word, word) for word in line]
        self.assertEqual(len(set(files.values()) & set(words)), 3, shlex.join(line))
        port = freePort()
        command = (activate, "--fdname=txgateway", f"--listen={HERE}:{port}", OURS.command[0], *words[1:])
        with running(command, port, probe=False), greeter() as target:
            trusting = ssl.create_default_context(cadata=authority.certificatePEM.decode())
            with visiting(self.connect(port, trusting)) as client:
                self.assertEqual(answer(client, token, host=HERE, port=target), {"_": "connected"})

    def connect(self, port: int, tls: ssl.SSLContext) -> RawWebSocket:
        """systemd's port may not be open yet, as nothing else tells."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return RawWebSocket.connect((HERE, port), tls=tls, timeout=SECONDS)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def test_portTaken(self) -> None:
        """A port that somebody else has ends the program with status 1, and the log says why."""
        with socket.create_server((HERE, 0)) as other:
            port = other.getsockname()[1]
            command = [*OURS.command, "--port", str(port), "--token-auth"]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(ENVIRONMENT), text=True
            )
            try:
                output, _ = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                self.fail(f"it goes on without a port:\n{output}")
            self.assertEqual(process.returncode, 1)
            self.assertIn("gateway.not-listening", output)
            self.assertIn(f"{HERE}:{port}", output)

    def test_wrongCommandLine(self) -> None:
        """A wrong command line or file ends the program with status 2, at which systemd does not try again."""
        for options in (["--no-auth", "--port", "x"], ["--tokens", "/nonexistent/tokens.toml"]):
            with self.subTest(options):
                done = subprocess.run([*OURS.command, *options], capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 2)
                self.assertIn("error: --", done.stderr)


class TutorialTests(SynchronousTestCase):
    """The tutorial's commands do what it says."""

    def test_firstGateway(self) -> None:
        """Each curl command, against a gateway that was started as C{make run} starts it."""
        programPath("curl")
        port = freePort()
        shown = [command.words for command in commands("curl") if command.page.endswith("first-gateway.md")]
        state = str(Path(self.mktemp()).absolute())
        gateway = startCommand(OURS, ["--state", state, "--port", str(port)], (HERE, port))
        try:
            outputs = []
            for words in shown:
                done = subprocess.run(
                    [word.replace(":9000", f":{port}") for word in words], capture_output=True, timeout=SECONDS
                )
                outputs.append(done.stdout.decode("utf-8", "replace"))
            health, page, handshake, wrong = outputs
            self.assertEqual(health, "ok\n")
            self.assertIn(f"ws://{HERE}:{port}", page)
            self.assertTrue(handshake.startswith("HTTP/1.1 101 Switching Protocols\r\n"), handshake)
            self.assertTrue(handshake.endswith('{"_":"hello","version":1,"auth_required":true}'), handshake)
            self.assertEqual(wrong, "")
            log = awaitLog(gateway, "TLS on a port without: the client should use http:// or ws://")
        finally:
            gateway.stop()
        self.assertIn(f"  Connection gateway URL:  ws://{HERE}:{port}\n  Token:  ", log)


class LimitTests(SynchronousTestCase):
    """Limits that the page of the protocol states."""

    def test_longControlMessage(self) -> None:
        """A control message of more than 16 KiB ends the WebSocket with 1009, and the log says so in one line."""
        with started(OURS, ["--token-auth", "--log-format", "text"], env=ENVIRONMENT) as gateway:
            with visiting(RawWebSocket.connect(gateway.address)) as client:
                client.receive(SECONDS)
                client.sendText(json.dumps({"_": "hello", "auth_token": "x" * 16 * 1024}))
                self.assertEqual(client.receive(SECONDS).payload[:2], (1009).to_bytes(2))
                client.sendClose()
                with self.assertRaises(ConnectionLost):
                    client.receive(SECONDS)
            self.assertNotIn("Traceback", awaitLog(gateway, "visitor left before connecting: "))


class TokenTests(SynchronousTestCase):
    """Tokens and targets behave as the page says."""

    def test_revoke(self) -> None:
        """After a reload a revoked token's session ends, with a sentence, and the token is not known any more."""
        path = Path(self.mktemp())
        token = newToken(path)
        with started(OURS, ["--tokens", str(path)]) as gateway, greeter() as target:
            with visiting(RawWebSocket.connect(gateway.address)) as client:
                self.assertEqual(answer(client, token, host=HERE, port=target), {"_": "connected"})
                self.assertEqual(client.receive(SECONDS).payload, b"hello\r\n")
                subprocess.run([OURS.command[0], "tabby-token", "revoke", "alice", "--file", str(path)], check=True)
                gateway.process.send_signal(signal.SIGHUP)
                error = json.loads(client.receive(SECONDS).payload)
                self.assertEqual(error["code"], "session-expired")
            awaitLog(gateway, "tabby.reloaded")

    def test_telnet(self) -> None:
        """A client that names no target goes where the URL says, and else where its token says."""
        with greeter() as target:
            path = Path(self.mktemp())
            token = newToken(path, "--default-target", f"{HERE}:{target}")
            with started(OURS, ["--tokens", str(path), "--token-auth"], env=ENVIRONMENT) as gateway:
                for url, credential in (("/", token), (f"/to/{HERE}:{target}", TOKEN)):
                    with self.subTest(url), visiting(RawWebSocket.connect(gateway.address, url)) as client:
                        self.assertEqual(answer(client, credential), {"_": "connected"})

    def test_telnetWithoutTarget(self) -> None:
        """A client that names no target, where nothing else does, is told so, and the log says so too."""
        options = ["--token-auth", "--log-format", "text"]
        with started(OURS, options, env=ENVIRONMENT) as gateway:
            with visiting(RawWebSocket.connect(gateway.address)) as client:
                self.assertIn("default target", str(answer(client, TOKEN)))
            awaitLog(gateway, "default target")

    def test_metricsListener(self) -> None:
        """C{/metrics} and C{/healthz} are on the metrics listener, and on the client listener only the latter."""
        port = freePort()
        options = ["--token-auth", "--metrics-listen", f"tcp:{port}:interface={HERE}"]
        with started(OURS, options, env=ENVIRONMENT) as gateway:
            awaitPort(port)
            self.assertIn("txgateway_visitors", fetch(port, "/metrics"))
            self.assertEqual(fetch(port, "/healthz"), "ok\n")
            self.assertEqual(fetch(gateway.address[1], "/healthz"), "ok\n")
            with self.assertRaises(urllib.error.HTTPError):
                fetch(gateway.address[1], "/metrics")

    def test_twistd(self) -> None:
        """C{twistd -n tabby-gateway} takes the same options."""
        port = freePort()
        twistd = str(Path(OURS.command[0]).with_name("twistd"))
        program = Program("twistd", (twistd, "--nodaemon", "--pidfile=", "tabby-gateway"))
        gateway = startCommand(program, ["--token-auth", "--port", str(port)], (HERE, port), env=ENVIRONMENT)
        try:
            self.assertEqual(fetch(port, "/healthz"), "ok\n")
        finally:
            gateway.stop()


def fetch(port: int, path: str) -> str:
    """The body that a port of the loopback address answers."""
    with urllib.request.urlopen(f"http://{HERE}:{port}{path}", timeout=SECONDS) as response:
        return str(response.read().decode())
