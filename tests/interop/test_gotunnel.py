"""
go-tunnel's users: our server with an agent of theirs, and our agent with a server of theirs.

Theirs is a Go program of the tests that speaks the protocol, as C{docs/reference/protocols/gotunnel.md} describes it, on
hashicorp's yamux.
"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from pathlib import Path
from random import Random

from tests.integration.relays import GATEWAY, exactly, origin, toTheEnd
from tests.interop.gotunnelends import APP, SSH, GoTunnelTestCase, Speaking, echo, serveHTTP
from tests.interop.openssh import startSSHD
from tests.interop.running import program
from tests.processes import HERE

MIB = 1024 * 1024
_NOISE = Random(3).randbytes(4 * MIB)


def exchange(connection: socket.socket, payload: bytes) -> bytes:
    """Send in pieces, and read back as much."""
    found = b""
    for start in range(0, len(payload), 256 * 1024):
        piece = payload[start : start + 256 * 1024]
        connection.sendall(piece)
        found += exactly(connection, len(piece))
    return found


class OurServerTests(GoTunnelTestCase):
    """C{gateway gotunnel-server} and a Go agent."""

    def agent(self, port: int, name: str = APP, mode: str = "http", flags: tuple[str, ...] = ()) -> Speaking:
        """An agent that has registered."""
        agent = self.goAgent(f"{name}={HERE}:{port}={mode}", flags=flags)
        agent.wait("registered")
        return agent

    def test_http(self) -> None:
        """Requests reach the origin, and their answers the visitor; the Host is the visitor's, whatever its case."""
        with origin(serveHTTP) as (port, _):
            self.ourServer()
            agent = self.agent(port)
            for name, body in ((APP, b""), (APP.upper(), b"x"), (f"{APP}:{self.publicPort}", _NOISE)):
                answer = self.request(self.visit(APP), name, body)
                self.assertTrue(answer.endswith(b"\r\n\r\n%d bytes for %s" % (len(body), name.encode())), answer)
                agent.wait("stream", detail=APP)

    def test_tcp(self) -> None:
        """Inside of TLS anything goes, both ways, from the first byte."""
        with origin(echo) as (port, _):
            self.ourServer()
            self.agent(port, SSH, "tcp")
            connection = self.visit(SSH)
            self.assertEqual(exchange(connection, _NOISE), _NOISE)

    def test_refused(self) -> None:
        """An agent is told in go-tunnel's words why it is not taken."""
        self.ourServer()
        tunnel = f"{APP}={HERE}:1=http"
        self.goAgent(tunnel, secret="another").wait("ended", detail="refused: auth failed")
        self.goAgent(flags=("-skip-tls-verify",)).wait("ended", detail="refused: no routes")
        first = self.goAgent(tunnel)
        first.wait("registered")
        self.goAgent(tunnel).wait("ended", detail=f"refused: host already registered: {APP}")
        first.wait("ping")  # by which it showed that it lives

    def test_heartbeat(self) -> None:
        """An agent that answers pings stays, and one that does not is cut off."""
        server = self.ourServer(GATEWAY_LIMITS_PING_INTERVAL="1")
        living = self.agent(1)
        mute = self.agent(1, SSH, flags=("-mute", "-pause", "0"))
        server.wait("agent.ended", code="ping-timeout")
        mute.wait("ended")
        for _ in range(3):
            living.wait("ping")
        self.assertEqual(living.events("ended"), [])

    def test_ghost(self) -> None:
        """An agent whose network is gone, so that nobody knows of its end, holds its names for two seconds at most."""
        with origin(serveHTTP) as (port, _):
            self.ourServer()
            self.agent(port).send(signal.SIGSTOP)
            before = time.monotonic()
            self.agent(port)
            self.assertIn(b"0 bytes", self.request(self.visit(APP), APP))
            self.assertLess(time.monotonic() - before, 2.5)

    def test_agentKilled(self) -> None:
        """An agent that is killed holds nothing, and its visitors know; once it is back it serves."""
        with origin(echo) as (port, _):
            server = self.ourServer()
            agent = self.agent(port, SSH, "tcp")
            connection = self.visit(SSH)
            self.assertEqual(exchange(connection, b"hello"), b"hello")
            agent.stop(signal.SIGKILL)
            server.wait("agent.detached")
            with self.assertRaises(OSError):
                if not connection.recv(1):
                    raise ConnectionError("the end")
            self.agent(port, SSH, "tcp")
            self.assertEqual(exchange(self.visit(SSH), b"hello"), b"hello")

    def test_serverKilled(self) -> None:
        """When a server is killed and started again its agents are back by themselves."""
        with origin(serveHTTP) as (port, _):
            server = self.ourServer()
            agent = self.agent(port)
            server.stop(signal.SIGKILL)
            agent.wait("ended")
            self.ourServer()
            agent.wait("registered")
            self.assertIn(b"0 bytes", self.request(self.visit(APP), APP))

    def test_stopped(self) -> None:
        """A server that is asked to stop says good-bye."""
        server = self.ourServer()
        agent = self.agent(1)
        server.send(signal.SIGTERM)
        agent.wait("ack", detail="shutting down")
        server.wait("gateway.stopped")
        server.stop()

    def test_dashboard(self) -> None:
        """The dashboard shows who is here, under the gateway's own name alone."""
        self.ourServer()
        self.agent(1)
        for host, status in (("gw.example.com", 200), ("evil.example.com", 403)):
            connection = http.client.HTTPConnection(HERE, self.dashboardPort, timeout=10)
            self.addCleanup(connection.close)
            connection.request("GET", "/", headers={"Host": host})
            answer = connection.getresponse()
            self.assertEqual((answer.status, APP in answer.read().decode()), (status, status == 200))

    def test_ssh(self) -> None:
        """ssh through C{openssl s_client} reaches an sshd behind an agent: a MiB comes out whole."""
        sshd = startSSHD(self, Path(self.mktemp()).absolute())
        self.ourServer()
        self.agent(sshd.port, SSH, "tcp")
        proxy = (
            f"{program('openssl')} s_client -quiet -verify_quiet -verify_return_error -CAfile {self.authority}"
            f" -servername {SSH} -connect {HERE}:{self.publicPort}"
        )
        done = subprocess.run(
            ["ssh", *sshd.options, "-o", f"ProxyCommand={proxy}", sshd.login(SSH), "head -c 1048576 /dev/zero; exit 7"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        )  # fmt: skip
        self.assertEqual((done.stderr, done.returncode, len(done.stdout)), (b"", 7, MIB))


class OurAgentTests(GoTunnelTestCase):
    """C{gateway gotunnel-agent} and a Go server."""

    def test_http(self) -> None:
        """The agent asks for its first tunnel's name, agrees on nothing, and leads requests to the target."""
        with origin(serveHTTP) as (port, _):
            server = self.goServer()
            self.ourAgent((APP, port, "http"), (SSH, 1, "http"))
            server.wait("hello", detail=f"{APP}[]")
            server.wait("registered", detail=f"{APP}:http")
            for body in (b"", _NOISE):
                answer = self.request(self.call(APP), APP, body)
                self.assertTrue(answer.endswith(b"%d bytes for %s" % (len(body), APP.encode())), answer)
            self.assertTrue(self.request(self.call(SSH), SSH).startswith(b"HTTP/1.1 502 Bad Gateway\r\n"))

    def test_tcp(self) -> None:
        """Bytes of any kind go both ways, and each direction ends alone."""
        with origin(echo) as (port, _):
            server = self.goServer()
            self.ourAgent((SSH, port, "tcp"))
            server.wait("registered", detail=f"{SSH}:tcp")
            connection = self.call(SSH)
            self.assertEqual(exchange(connection, _NOISE), _NOISE)
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(toTheEnd(connection), b"that was all")

    def test_refused(self) -> None:
        """What the server refuses an agent for is in the agent's log, with what to do, and tried again."""
        server = self.goServer()
        wrong = self.ourAgent((APP, 1, "http"), secret="another")
        for _ in range(2):
            wrong.wait("agent.not-connected", problem="The server says: auth failed. It does not take our token")
        wrong.stop()
        self.goAgent(f"{APP}={HERE}:1=http").wait("registered")
        second = self.ourAgent((APP, 1, "http"))
        server.wait("ended", detail="host already registered")
        second.wait("agent.not-connected", problem=f"host already registered: {APP}. Another agent has this name")

    def test_heartbeat(self) -> None:
        """Pings are answered, so that the server keeps the session."""
        server = self.goServer("-ping-interval", "200ms", "-pong-timeout", "1s")
        self.ourAgent((APP, 1, "http"))
        for _ in range(10):
            server.wait("pong")
        self.assertEqual(server.events("ended"), [])

    def test_serverKilled(self) -> None:
        """When the server is killed and started again the agent is back by itself."""
        with origin(serveHTTP) as (port, _):
            server = self.goServer()
            agent = self.ourAgent((APP, port, "http"))
            agent.wait("agent.connected")
            server.stop(signal.SIGKILL)
            agent.wait("agent.disconnected")
            self.goServer()
            agent.wait("agent.connected")
            self.assertIn(b"0 bytes", self.request(self.call(APP), APP))

    def test_agentKilled(self) -> None:
        """When the agent is killed and started again it serves."""
        with origin(serveHTTP) as (port, _):
            server = self.goServer()
            self.ourAgent((APP, port, "http")).wait("agent.connected")
            self.addCleanup(server.stop)
            for _ in range(2):
                agent = self.ourAgent((SSH, port, "http"))
                agent.wait("agent.connected")
                self.assertIn(b"0 bytes", self.request(self.call(SSH), SSH))
                agent.stop(signal.SIGKILL)
                server.wait("ended")

    def test_stopped(self) -> None:
        """An agent that is asked to stop lets its visitor end first."""
        with origin(echo) as (port, _):
            server = self.goServer()
            agent = self.ourAgent((SSH, port, "tcp"))
            agent.wait("agent.connected")
            connection = self.call(SSH)
            self.assertEqual(exchange(connection, b"hello"), b"hello")
            agent.send(signal.SIGTERM)
            agent.wait("agent.stopping", count=1)
            self.assertEqual(exchange(connection, b"still here"), b"still here")
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(toTheEnd(connection), b"that was all")
            agent.wait("agent.stopped")
            server.wait("ended")

    def test_untrusted(self) -> None:
        """A server with a certificate for other names is not believed, and the log says why."""
        self.goServer()
        agent = self.ourAgent(("other.example.org", 1, "http"))
        agent.wait("agent.not-connected", problem="certificate is for another name: wanted other.example.org")


class BothOursTests(GoTunnelTestCase):
    """Our agent and our server."""

    def test_both(self) -> None:
        """They understand one another."""
        with origin(serveHTTP) as (web, _), origin(echo) as (port, _):
            self.ourServer()
            self.ourAgent((APP, web, "http"), (SSH, port, "tcp")).wait("agent.connected")
            self.assertIn(b"5 bytes", self.request(self.visit(APP), APP, b"hello"))
            self.assertEqual(exchange(self.visit(SSH), _NOISE), _NOISE)


class CommandTests(GoTunnelTestCase):
    """What is wrong is one line, and exit status 2."""

    def test_wrong(self) -> None:
        """Of both commands."""
        for command, options, part in (
            ("gotunnel-server", (), "JWT_SECRET: there is none"),
            ("gotunnel-server", ("--env-file", "/nowhere"), "/nowhere: No such file"),
            ("gotunnel-server", ("--interface", "here"), "--interface"),
            ("gotunnel-agent", ("--config", "/nowhere"), "/nowhere: No such file"),
        ):
            done = subprocess.run([GATEWAY, command, *options], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, f"\\A(gateway )?{command}: error: ")
            self.assertIn(part, done.stderr)
