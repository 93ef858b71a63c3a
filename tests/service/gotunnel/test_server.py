"""Tests for go-tunnel's server and agent as services: L{gateway.service.gotunnel.server} and its port, and the agent."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService, IServiceMaker
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import ILogObserver, LogEvent, capturedLogs, globalLogPublisher
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.service import gotunnel_agent_tap, gotunnel_server_tap
from gateway.service.configuration import ConfigurationError
from gateway.service.gotunnel.agent import GoTunnelAgent
from gateway.service.gotunnel.config import readAgentPlan
from gateway.service.gotunnel.door import GoTunnelDialect
from gateway.service.gotunnel.port import GoTunnelPort
from gateway.service.gotunnel.server import GoTunnelServer
from gateway.service.gotunnel.settings import GoTunnelServerSettings, readServerSettings
from gateway.service.server.service import IReactor
from tests.certificates import makeAuthority
from tests.service.agent.test_service import Reactor as DialReactor
from tests.service.gotunnel.gotunnelfixture import SECRET
from tests.service.server.doorsfixture import OWN, Doors, TLSPeer
from tests.service.server.test_service import Reactor


class ServerTests(SynchronousTestCase):
    """L{GoTunnelServer}."""

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.reactor = Reactor()
        certificate, key = makeAuthority("A").issue("gw.example").write(self.mktemp())
        self.variables = {"JWT_SECRET": "s" * 32, "CERT_FILE": certificate, "KEY_FILE": key}

    def read(self) -> GoTunnelServerSettings:
        """The settings as they are now."""
        return readServerSettings(self.variables, "127.0.0.1")

    def start(self) -> tuple[GoTunnelServer, list[str]]:
        """A server, started as twistd does, and the events that were logged."""
        service = GoTunnelServer(cast(IReactor, self.reactor), self.read(), self.read)
        with capturedLogs() as events:
            service.privilegedStartService()
            service.startService()
        return service, [str(event["event"]) for event in events if "event" in event]

    def test_listens(self) -> None:
        """It listens for visitors, for people who look at it, and for agents."""
        service, _ = self.start()
        self.assertEqual([port for port, *_ in self.reactor.tcpServers], [443, 8080, 9443])
        stopped = service.stopService()
        self.reactor.pump([1.0] * 20)
        self.successResultOf(stopped)
        self.assertFalse(any(port.isOpen for port in self.reactor.ports))

    def test_secret(self) -> None:
        """A secret that may be guessed is warned of at the start."""
        self.assertNotIn("gotunnel.short-secret", self.start()[1])
        self.variables["JWT_SECRET"] = SECRET
        self.assertIn("gotunnel.short-secret", self.start()[1])

    def test_times(self) -> None:
        """Times are the original's unless the interval of pings is set."""
        service, _ = self.start()
        settings = service.dialect.settings
        self.assertEqual((settings.pingInterval, settings.pongTimeout), (15, 20))
        self.variables["GATEWAY_LIMITS_PING_INTERVAL"] = "2"
        settings = self.start()[0].dialect.settings
        self.assertEqual((settings.pingInterval, settings.pongTimeout), (2, 7))

    def test_reload(self) -> None:
        """SIGHUP reads the variables again: a new secret, and new names, are for agents that come from now on."""
        service, _ = self.start()
        self.variables |= {"JWT_SECRET": "another" * 5, "ALLOWED_HOSTS": "a.example"}
        os.kill(os.getpid(), signal.SIGHUP)
        GoTunnelTokens("another" * 5).verify(service.dialect.tokens.make("a", 60, now=0), 0)
        self.assertEqual(service.dialect.grant.hostnames, ("a.example",))

    def test_reloadFails(self) -> None:
        """With variables that cannot be used everything stays as it was."""
        service, _ = self.start()
        tokens = service.dialect.tokens
        for name, value in (("JWT_SECRET", ""), ("CERT_FILE", "/nowhere"), ("TUNNEL_PORT", "x")):
            before = self.variables.get(name)
            self.variables[name] = value
            with capturedLogs() as events:
                service.reload()
            self.assertEqual([each["event"] for each in events], ["gateway.reload-failed"])
            self.assertIn(name if name != "CERT_FILE" else "/nowhere", events[0]["problem"])
            self.assertIs(service.dialect.tokens, tokens)
            if before is not None:
                self.variables[name] = before


class PortTests(SynchronousTestCase):
    """L{GoTunnelPort}."""

    def setUp(self) -> None:
        self.doors = Doors()
        self.dialect = GoTunnelDialect(self.doors.door, GoTunnelTokens(SECRET))
        self.port = self.portFor(OWN)

    def portFor(self, otherwise: str) -> GoTunnelPort:
        """A port that shows a certificate otherwise."""
        doors = self.doors
        return GoTunnelPort(doors.clock, doors.door, doors.certificates, self.dialect, otherwise=otherwise)

    def come(self, name: str | None, *protocols: bytes) -> TLSPeer:
        """A carrier comes."""
        return self.doors.comeTLS(name, *protocols, arrive=self.port.arrive)

    def test_certificate(self) -> None:
        """An agent sees a certificate for the name that it asks for, and otherwise the server's own, or any."""
        for otherwise, name, shown in (
            (OWN, "app.example.com", "app.example.com"),
            (OWN, "ssh.example.com", "*.example.com"),
            (OWN, "app.example.org", OWN),
            ("app.example.com", None, "app.example.com"),
            ("", None, OWN),
            ("nobody.example.org", "app.example.org", OWN),
        ):
            self.port = self.portFor(otherwise)
            agent = self.come(name)
            self.assertEqual((agent.serverName, agent.isShaken), (shown, True))
            self.assertIsNone(agent.reason)

    def test_noCertificate(self) -> None:
        """Without any certificate there is no TLS."""
        self.doors.certificates.replace([])
        self.assertIsNotNone(self.come("app.example.com").reason)

    def test_dialects(self) -> None:
        """Who agrees on our protocol is one of ours, who agrees on nothing one of go-tunnel's, and nobody else is taken."""
        arrived: list[str] = []
        arrive, other = self.doors.door.arrive, self.dialect.arrive

        def ours(*arguments: Any, **more: Any) -> Any:
            arrived.append("ours")
            return arrive(*arguments, **more)

        def theirs(*arguments: Any) -> Any:
            arrived.append("theirs")
            return other(*arguments)

        self.patch(self.doors.door, "arrive", ours)
        self.patch(self.dialect, "arrive", theirs)
        self.come(OWN, b"gateway/1")
        self.come(OWN)
        self.assertIsNotNone(self.come(OWN, b"h2").reason)
        self.assertEqual(arrived, ["ours", "theirs"])

    def test_notTLS(self) -> None:
        """Who does not speak TLS is let go."""
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01\xff\xff" + bytes(9000)):
            visitor = self.doors.come(self.port.arrive)
            visitor.transport.write(words)
            self.doors.pump()
            self.assertTrue(visitor.ended)

    def test_slow(self) -> None:
        """Who says nothing is let go in time, and so is one that does not finish the handshake."""
        visitor = self.doors.come(self.port.arrive)
        self.doors.wait(4.75)
        self.assertIsNone(visitor.reason)
        self.doors.wait(0.5)
        self.assertIsNotNone(visitor.reason)

    def test_full(self) -> None:
        """A server that takes no more agents does not even listen to them; who has left is not counted."""
        for _ in range(3):
            self.come(OWN).transport.abortConnection()
            self.doors.pump()
        self.doors.door.draining = True
        self.assertIsNotNone(self.doors.come(self.port.arrive).reason)


class AgentTests(SynchronousTestCase):
    """L{GoTunnelAgent}."""

    def setUp(self) -> None:
        self.reactor: Any = DialReactor()
        self.path = Path(self.mktemp())

    def start(self, more: str = "") -> tuple[GoTunnelAgent, list[LogEvent]]:
        """An agent, started as twistd does, and the events that it logs."""
        self.path.write_text(
            f"tunnel_addr: 127.0.0.1:9443\njwt_secret: {SECRET}\n"
            f"tunnels: [{{hostname: app.example.com, target: 127.0.0.1:80}}]\n{more}"
        )
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        agent = GoTunnelAgent(self.reactor, readAgentPlan(str(self.path)), drain=10)
        agent.privilegedStartService()
        agent.startService()
        return agent, events

    def test_dials(self) -> None:
        """It dials the server, and again when that fails; when it is stopped it does not."""
        agent, events = self.start()
        self.assertEqual([each[:2] for each in self.reactor.tcpClients], [("127.0.0.1", 9443)])
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.reactor.advance(2.25)
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.reactor.tcpClients[1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.successResultOf(agent.stopService())
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.assertEqual(
            [each["event"] for each in events if "event" in each],
            ["agent.not-connected", "agent.not-connected", "agent.stopping", "agent.stopped"],
        )

    def test_unverified(self) -> None:
        """That nothing is verified is said at the start."""
        _, events = self.start("skip_tls_verify: true\n")
        self.assertIn("gotunnel.unverified", [each.get("event") for each in events])

    def test_authorities(self) -> None:
        """A file of authorities is read for each attempt; without it there is none, and then another."""
        self.path.write_text(
            f"tunnel_addr: 127.0.0.1\njwt_secret: {SECRET}\ntunnels: [{{hostname: a.example, target: b:80}}]\n"
        )
        ca = Path(self.mktemp())
        agent = GoTunnelAgent(self.reactor, readAgentPlan(str(self.path), str(ca)), drain=10)
        agent.startService()
        self.assertEqual(self.reactor.tcpClients, [])
        ca.write_bytes(makeAuthority("A").certificatePEM)
        self.reactor.advance(2.25)
        self.assertEqual(len(self.reactor.tcpClients), 1)


class PluginTests(SynchronousTestCase):
    """C{twistd gotunnel-server} and C{twistd gotunnel-agent}."""

    def test_plugins(self) -> None:
        """twistd finds both by their names."""
        names = {plugin.tapname for plugin in getPlugins(IServiceMaker)}
        self.assertTrue({"gotunnel-server", "gotunnel-agent"} <= names)

    def test_makes(self) -> None:
        """Each is made from its options."""
        directory = self.mktemp()
        certificate, key = makeAuthority("A").issue("gw.example").write(directory)
        environment, config = Path(directory, ".env"), Path(directory, "config.yaml")
        environment.write_text("JWT_SECRET=x\n")
        config.write_text("tunnel_addr: a\njwt_secret: x\ntunnels: [{hostname: a.example, target: b:80}]\n")
        server = gotunnel_server_tap.Options()
        words = ("--env-file", str(environment), "--certificate", certificate, "--private-key", key)
        server.parseOptions([*words, "--interface", "127.0.0.1"])
        agent = gotunnel_agent_tap.Options()
        agent.parseOptions(["--config", str(config)])
        self.assertTrue(IService.providedBy(gotunnel_server_tap.makeService(server)))
        self.assertTrue(IService.providedBy(gotunnel_agent_tap.makeService(agent)))

    def test_problems(self) -> None:
        """What cannot be used is one line on standard error, and exit status 2."""
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        taps: list[tuple[Any, list[str], str]] = [
            (gotunnel_server_tap, [], "gotunnel-server: error: JWT_SECRET: "),
            (gotunnel_agent_tap, ["--config", "/nowhere"], "gotunnel-agent: error: /nowhere: "),
        ]
        for tap, words, beginning in taps:
            options = tap.Options()
            options.parseOptions(words)
            errors = io.StringIO()
            self.patch(sys, "stderr", errors)
            with self.assertRaises(SystemExit) as caught:
                tap.makeService(options)
            self.assertEqual(caught.exception.code, 2)
            self.assertRegex(errors.getvalue(), rf"\A{beginning}[^\n]*\n\Z")

    def test_files(self) -> None:
        """Files are found wherever the process has gone meanwhile."""
        options = gotunnel_server_tap.Options()
        options.parseOptions(["--env-file", ".env"])
        self.assertEqual(options["env-file"], os.path.abspath(".env"))
        self.assertRaises(ConfigurationError, options.readSettings)
