"""
Tests for the gateway as a service: from settings to ports, reload and stop.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.application.service import IService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorFDSet, IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.routes import Place
from gateway.domain.tokens import hashToken
from gateway.service.configuration import ConfigurationError
from gateway.service.gateway_tap import Options, makeService
from gateway.service.server.service import GatewayService, IReactor
from gateway.service.server.settings import readGatewaySettings
from gateway.service.tabby.visit import TabbyVisit
from gateway.testing import flowPair
from tests.certificates import makeAuthority
from tests.net.sides import Peer

HASH = hashToken("hush")


class Port:
    """A port that listens nowhere."""

    def __init__(self, address: IAddress) -> None:
        self._address = address
        self.isOpen = True

    def getHost(self) -> IAddress:
        """Where it would."""
        return self._address

    def stopListening(self) -> None:
        """It does not any more."""
        self.isOpen = False


class Visit:
    """A Tabby visitor who stays."""

    def announceShutdown(self, seconds: float) -> None:
        """Notice nothing."""

    def end(self, cause: object) -> None:
        """Stay."""

    def abort(self) -> None:
        """Stay."""


@implementer(IReactorFromThreads, IReactorFDSet)
class Reactor(MemoryReactorClock):
    """A reactor in memory whose ports say where they are, and which signal handlers can reach."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Port:
        """Listen, and say so."""
        super().listenTCP(port, factory, backlog, interface)
        self.ports.append(Port(IPv4Address("TCP", interface, port)))
        return self.ports[-1]

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call it now."""
        callable(*args, **kwargs)


class GatewayServiceTests(SynchronousTestCase):
    """
    L{GatewayService}.
    """

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.reactor = Reactor()
        self.path = Path(self.mktemp())
        self.certificate = makeAuthority("A").issue("gw.example").write(self.mktemp())

    def write(self, *, tls: str = "", more: str = "", agents: str = "box") -> None:
        """Write the configuration."""
        certificate, key = self.certificate
        self.path.write_text(
            f"""
            [gateway]
            public-host = "gw.example"
            [tls]
            listen = ["127.0.0.1:443"]
            {tls}
            [http]
            listen = ["127.0.0.1:80"]
            [agents]
            listen = ["127.0.0.1:8443"]
            plain-listen = ["127.0.0.1:9000"]
            [[certificate]]
            hostnames = ["gw.example"]
            certificate = "{certificate}"
            key = "{key}"
            [[agent]]
            name = "{agents}"
            secret-hash = "{HASH}"
            {more}
            """
        )

    def make(self, **parts: str) -> GatewayService:
        """The service of a configuration."""
        self.write(**parts)

        def read() -> object:
            return readGatewaySettings(str(self.path), {})

        return GatewayService(cast(IReactor, self.reactor), read(), read)  # type: ignore[arg-type]

    def start(self, **parts: str) -> GatewayService:
        """The service of a configuration, started as twistd does."""
        service = self.make(**parts)
        service.privilegedStartService()
        service.startService()
        return service

    def come(self, port: int) -> Peer:
        """Somebody connects to a port."""
        (factory,) = [each[1] for each in self.reactor.tcpServers if each[0] == port]
        peer, protocol = Peer(), factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert protocol is not None
        flowPair(peer, protocol).pump()
        return peer

    def events(self, call: Callable[[], object]) -> list[str]:
        """What is logged meanwhile."""
        with capturedLogs() as events:
            call()
        return [str(event["event"]) for event in events if "event" in event]

    def test_listens(self) -> None:
        """It listens where the configuration says, and nowhere else."""
        self.start()
        self.assertEqual(
            [(port, interface) for port, _, _, interface in self.reactor.tcpServers],
            [(port, "127.0.0.1") for port in (443, 80, 8443, 9000, 9080)],
        )

    def test_badFiles(self) -> None:
        """Files and endpoints that cannot be used are found before anything listens."""
        self.certificate = ("/nonexistent", "/nonexistent")
        error = self.assertRaises(ConfigurationError, self.make)
        self.assertIn("certificate: /nonexistent", str(error))
        self.assertEqual(self.reactor.tcpServers, [])

    def test_badEndpoint(self) -> None:
        """An endpoint string that is none is told with its key."""
        self.write()
        self.path.write_text('[agents]\nplain-listen = ["127.0.0.1:1"]\n[tls]\nlisten = ["nonsense:x=y"]')

        def read() -> object:
            return readGatewaySettings(str(self.path), {})

        error = self.assertRaises(ConfigurationError, GatewayService, self.reactor, read(), read)
        self.assertIn("tls.listen", str(error))

    def test_ours(self) -> None:
        """The gateway's own ports and name are not for agents."""
        service = self.start()
        for place, expected in (
            (Place("tcp", 443), True),
            (Place("tcp", 9080), True),
            (Place("udp", 443), False),
            (Place("tcp", 2222), False),
            (Place("host", "gw.example"), True),
            (Place("host", "app.example.com"), False),
            (Place("prefix", "/healthz"), True),
            (Place("prefix", "/agent"), True),
            (Place("prefix", "/agents"), False),
        ):
            self.assertEqual(service.isOurs(place), expected, place)

    def test_reload(self) -> None:
        """SIGHUP reads the file again: agents and rules are taken at once."""
        service = self.start()
        self.assertIsNone(self.come(443).reason)
        self.write(tls='access = ["deny 127.0.0.0/8"]', agents="other")
        self.assertEqual(self.events(lambda: os.kill(os.getpid(), signal.SIGHUP)), ["gateway.reloaded"])
        self.assertIsNotNone(self.come(443).reason)
        self.assertEqual([entry.name for entry in service._settings.agents], ["other"])

    def test_goTunnel(self) -> None:
        """Agents of go-tunnel's come to the agents' port where there is a secret, which may change."""
        self.assertIsNone(self.start().agentPort.otherDialect)
        secret = Path(self.mktemp()).absolute()
        secret.write_text("short")
        more = f'[gotunnel]\njwt-secret-file = "{secret}"'
        service = self.make(more=more)
        with capturedLogs() as events:
            service.startService()
        self.assertIn("gotunnel.short-secret", [each.get("event") for each in events])
        dialect = service.goTunnel
        assert dialect is not None
        self.assertEqual(service.agentPort.otherDialect, dialect.arrive)
        secret.write_text("another")
        self.write(more=more + '\nhostnames = ["a.example"]')
        self.assertEqual(self.events(service.reload), ["gateway.reloaded"])
        GoTunnelTokens("another").verify(dialect.tokens.make("a", 60, now=0), 0)
        self.assertEqual(dialect.grant.hostnames, ("a.example",))

    def test_needsRestart(self) -> None:
        """What is not taken is said."""
        service = self.start()
        self.write(more="[limits]\nundecided = 1\n[ports]\nprivileged = true")
        with capturedLogs() as events:
            service.reload()
        (event,) = [each for each in events if each.get("event") == "gateway.needs-restart"]
        self.assertEqual(event["keys"], "ports.privileged, limits.undecided")

    def test_reloadsLimits(self) -> None:
        """Limits of visits are taken for those who come from now on."""
        service = self.start()
        self.write(more="[limits]\nidle-timeout = 7\nroute-connections = 3\nstall-memory = 1")
        self.assertEqual(self.events(service.reload), ["gateway.reloaded"])
        self.assertEqual(service.visitors.settings.idleTimeout, 7)
        self.assertEqual(service.visitors.limits.connections, 3)
        self.assertEqual(service.visitors.budget.limit, 1024 * 1024)

    def test_reloadFails(self) -> None:
        """A file that cannot be used changes nothing."""
        service = self.start()
        before = service._settings
        for text in ("nonsense", self.path.read_text().replace("certificate =", 'key = "x"\ncertificate =')):
            self.path.write_text(text)
            self.assertEqual(self.events(service.reload), ["gateway.reload-failed"])
        self.write(agents="other")
        Path(self.certificate[0]).write_text("nonsense")
        self.assertEqual(self.events(service.reload), ["gateway.reload-failed"])
        self.assertIs(service._settings, before)

    def test_stops(self) -> None:
        """It stops listening, and ends when there is nothing to wait for; SIGHUP is as it was."""
        before = signal.getsignal(signal.SIGHUP)
        service = self.start()
        stopped: list[Deferred[None]] = []
        self.assertEqual(
            self.events(lambda: stopped.append(service.stopService())), ["gateway.stopping", "gateway.stopped"]
        )
        self.successResultOf(stopped[0])
        self.assertFalse(any(port.isOpen for port in self.reactor.ports))
        self.assertEqual(signal.getsignal(signal.SIGHUP), before)
        self.assertTrue(service.agents.draining)

    def test_tabby(self) -> None:
        """There may be a gateway for Tabby Web in it, whose ports are the gateway's own; SIGHUP is for both."""
        tokens = Path(self.mktemp())
        tokens.write_text("")
        before = signal.getsignal(signal.SIGHUP)
        service = self.start(more=f'[tabby]\noptions = ["--port", "9001", "--tokens", "{tokens}"]')
        self.assertIn(9001, [each[0] for each in self.reactor.tcpServers])
        self.assertTrue(service.isOurs(Place("tcp", 9001)))
        logged = self.events(lambda: os.kill(os.getpid(), signal.SIGHUP))
        self.assertEqual(logged, ["tabby.reloaded", "gateway.reloaded"])
        self.successResultOf(service.stopService())
        self.assertEqual(signal.getsignal(signal.SIGHUP), before)

    def test_tabbyDrains(self) -> None:
        """Its visitors have their time, and agents are there meanwhile; a second signal is for both."""
        tokens = Path(self.mktemp())
        tokens.write_text("")
        words = f'["--port", "9001", "--tokens", "{tokens}", "--drain", "60"]'
        service = self.start(more=f"[tabby]\noptions = {words}")
        assert service._tabby is not None
        visits = service._tabby.door.visits
        visits.add(cast(TabbyVisit, Visit()))
        stopped: list[Deferred[None]] = []
        logged = self.events(lambda: stopped.append(service.stopService()))
        self.assertEqual(logged, ["gateway.stopping", "tabby.stopping"])
        self.reactor.advance(9.0)
        self.assertNoResult(stopped[0])
        os.kill(os.getpid(), signal.SIGINT)
        visits.clear()
        self.reactor.pump([0.0, 10.0, 10.0])
        self.successResultOf(stopped[0])

    def test_tabbyMistake(self) -> None:
        """A wrong option of it is told with the key."""
        error = self.assertRaises(ConfigurationError, self.make, more='[tabby]\noptions = ["--port", "x"]')
        self.assertIn("tabby.options: --port", str(error))

    def test_unusualPing(self) -> None:
        """Pings may be as frequent as one in a second."""
        self.start(more="[limits]\nping-interval = 1")


class TapTests(SynchronousTestCase):
    """
    C{twistd gateway}.
    """

    def make(self, text: str) -> IService:
        """The service of a file."""
        self.path = Path(self.mktemp())
        self.path.write_text(text)
        options = Options()
        options.parseOptions(["--config", str(self.path)])
        return makeService(options)

    def test_makes(self) -> None:
        """A file makes a service."""
        self.assertIsInstance(self.make('[agents]\nplain-listen = ["127.0.0.1:0"]'), GatewayService)

    def test_mistake(self) -> None:
        """A mistake, and a file that cannot be used, is one line on standard error with the file, and the status is 2."""
        for text, problem in (
            ("x = 1", "x: there is no such key"),
            ('agents.plain-listen = ["127.0.0.1:0"]\nhttp.access-log = "/no/log"', "http.access-log: /no/log: No such"),
        ):
            err = io.StringIO()
            self.patch(sys, "stderr", err)
            error = self.assertRaises(SystemExit, self.make, text)
            self.assertEqual(error.code, 2)
            self.assertTrue(
                err.getvalue().startswith(f"gateway: error: {self.path.absolute()}: {problem}"), err.getvalue()
            )
            self.assertEqual(err.getvalue().count("\n"), 1)
