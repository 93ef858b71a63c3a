"""
Tests for the agent as one service, with a real gateway's door at the other end of a network in memory.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.agent.attachedclient import Phase
from gateway.service.agent.options import AgentOptions
from gateway.service.agent.service import AgentService
from gateway.service.agent_tap import Options, makeService
from gateway.testing import flowPair
from gateway.wire.proxyheader import Tlv, parse
from tests.net.sides import Peer
from tests.net.test_dial import DialReactor
from tests.service.tunnelfixture import SECRET, Tunnel

GATEWAY, WEB, SSH = 9000, 8080, 22

FILE = f"""
[gateway]
to = "tcp://127.0.0.1:{GATEWAY}"
name = "box"
secret-file = "SECRET"

[[service]]
key = "web"
kind = "tls"
hostnames = ["app.example.com"]
origin = "127.0.0.1:{WEB}"
"""

TCP = f"""
[[service]]
key = "ssh"
kind = "tcp"
port = 2222
origin = "127.0.0.1:{SSH}"
"""

HEALTH = """
[service.health]
interval = 5
rise = 1
fall = 1
"""


class Reactor(DialReactor):
    """What the service needs."""

    def callFromThread(self, function: Callable[[], object]) -> None:
        """Later, in this thread."""
        self.callLater(0, function)


class ServiceTests(SynchronousTestCase):
    """
    L{AgentService}.
    """

    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        self.tunnel = Tunnel(clock=self.reactor)
        self.secret = Path(self.mktemp()).absolute()
        self.secret.write_text(SECRET)
        self.file = Path(self.mktemp())
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def write(self, text: str) -> None:
        """The configuration says this from now on."""
        self.file.write_text(text.replace("SECRET", str(self.secret)))

    def start(self, text: str = FILE, *words: str) -> None:
        """Start a service."""
        self.write(text)
        options = AgentOptions()
        options.parseOptions(["--config", str(self.file), *words])
        self.service = AgentService(self.reactor, options.readPlan(), options.readPlan)
        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        self.service.startService()

    def dials(self, port: int) -> list[Any]:
        """The factories of all connections to a port, the oldest first."""
        return [each[2] for each in self.reactor.tcpClients if each[1] == port]

    def attach(self) -> None:
        """The agent's last carrier arrives."""
        self.tunnel.join(flowPair(self.dials(GATEWAY)[-1].buildProtocol(None), self.tunnel.arrival()))

    def origin(self, port: int) -> Peer:
        """The last dial to an origin succeeds."""
        peer = Peer()
        self.tunnel.join(flowPair(self.dials(port)[-1].buildProtocol(None), peer))
        return peer

    def hangUp(self) -> None:
        """Somebody wants the configuration to be read again."""
        handler = signal.getsignal(signal.SIGHUP)
        assert callable(handler)
        handler(signal.SIGHUP, None)
        self.tunnel.pump()

    def serving(self) -> set[object]:
        """The names and ports that are served."""
        return {place.name for place in self.tunnel.registry.routes}

    def logged(self, name: str) -> LogEvent:
        """The last event of a name."""
        return [event for event in self.events if event.get("event") == name][-1]

    def visit(self) -> tuple[Peer, Peer]:
        """A visitor who is at the origin."""
        self.start()
        self.attach()
        visitor, dialled = self.tunnel.visit("app.example.com")
        origin = self.origin(WEB)
        self.successResultOf(dialled)
        return visitor, origin

    def stop(self) -> Deferred[None]:
        """Somebody wants the service to end."""
        stopped = self.service.stopService()
        self.tunnel.pump()
        return stopped

    def test_visit(self) -> None:
        """A visitor is led to the origin, which is told who it is, and the log has a line about it."""
        visitor, origin = self.visit()
        header, size = parse(bytes(origin.received)) or (None, 0)
        assert header is not None
        self.assertEqual(header.get(Tlv.AUTHORITY), b"app.example.com")
        visitor.transport.write(b"hello")
        self.tunnel.pump()
        self.assertEqual(origin.received[size:], b"hello")
        for each in (visitor, origin):
            each.transport.loseConnection()
        self.tunnel.pump()
        event = self.logged("agent.visit-closed")
        self.assertEqual((event["to"], event["up"], event["down"]), ("web", 5, 0))
        self.assertEqual(event["visit"].encode(), header.get(Tlv.UNIQUE_ID))

    def test_deadOrigin(self) -> None:
        """A visitor who cannot be led there is told, and so is the log."""
        self.start()
        self.attach()
        _, dialled = self.tunnel.visit("app.example.com")
        self.dials(WEB)[0].clientConnectionFailed(self.reactor.connectors[-1], Failure(ConnectionRefusedError()))
        self.tunnel.pump()
        self.failureResultOf(dialled)
        self.assertEqual(self.logged("agent.visit-failed")["problem"], "The connection was refused.")

    def test_reload(self) -> None:
        """Services that come and go are told in the same session, and visits go on."""
        visitor, origin = self.visit()
        self.write(FILE.replace("app.example", "shop.example") + TCP)
        self.hangUp()
        self.assertEqual(self.serving(), {"shop.example.com", 2222})
        origin.transport.write(b"still here")
        self.tunnel.pump()
        self.assertEqual(visitor.received, b"still here")
        self.assertEqual(len(self.dials(GATEWAY)), 1)
        self.assertEqual(self.logged("agent.reloaded")["count"], 2)

    def test_reloadOrigin(self) -> None:
        """An origin that changed is for the next visitor."""
        self.visit()
        self.write(FILE.replace(f":{WEB}", f":{SSH}"))
        self.hangUp()
        self.tunnel.visit("app.example.com")
        self.assertEqual(len(self.dials(SSH)), 1)

    def test_reloadOriginIsTold(self) -> None:
        """The gateway learns that it changed, and only then: it keeps streams for the requests of others."""
        self.visit()

        def generation() -> int:
            route = self.tunnel.registry.host("app.example.com")
            assert route is not None
            return route.service.generation

        for text, expected in ((FILE + TCP, 0), (FILE.replace(f":{WEB}", f":{SSH}"), 1), (FILE, 2)):
            self.write(text)
            self.hangUp()
            self.tunnel.wait(2)  # there is not more than one update in so many seconds
            self.assertEqual(generation(), expected)

    def test_reloadBroken(self) -> None:
        """A configuration that cannot be used changes nothing."""
        self.visit()
        self.write(FILE + "nonsense = 1")
        self.hangUp()
        self.assertEqual(self.serving(), {"app.example.com"})
        self.assertIn("nonsense: there is no such key", self.logged("agent.reload-failed")["problem"])

    def test_reloadName(self) -> None:
        """Under another name there is another session, and those who came through the old one may finish."""
        visitor, origin = self.visit()
        self.write(FILE.replace('name = "box"', 'name = "other"'))
        self.hangUp()
        self.assertEqual(len(self.dials(GATEWAY)), 2)
        self.attach()
        self.assertEqual({each.agent for each in self.tunnel.door.sessions}, {"box", "other"})
        self.assertEqual(self.serving(), {"app.example.com"})
        visitor.transport.loseConnection()
        origin.transport.loseConnection()
        self.tunnel.wait(1)
        self.assertEqual({each.agent for each in self.tunnel.door.sessions}, {"other"})

    def test_reloadCredential(self) -> None:
        """With another credential there is a new session of the same name, and visits go on all the same."""
        visitor, origin = self.visit()
        self.secret = Path(self.mktemp()).absolute()
        self.secret.write_text(SECRET)
        self.write(FILE)
        self.hangUp()
        self.attach()
        self.assertEqual(len(self.tunnel.door.sessions), 2)
        origin.transport.write(b"still here")
        self.tunnel.pump()
        self.assertEqual(visitor.received, b"still here")

    def test_unverified(self) -> None:
        """An agent that believes whoever answers for an origin says so."""
        text = FILE + TCP.replace('"127', '"tls://127')
        self.start(text)
        self.assertNotIn("agent.origin-unverified", [event.get("event") for event in self.events])
        self.write(f"{text}origin-verify = false")
        self.hangUp()
        event = self.logged("agent.origin-unverified")
        self.assertEqual((event["service"], event["origin"]), ("ssh", f"127.0.0.1:{SSH}"))
        self.assertEqual(event["log_level"], LogLevel.warn)

    def test_nothingOffered(self) -> None:
        """An agent that leads nowhere says so, at the start and when its file is read again."""
        self.start(FILE.partition("[[service]]")[0])
        self.assertEqual(self.logged("agent.nothing-offered")["log_level"], LogLevel.warn)
        self.events.clear()
        self.hangUp()
        self.logged("agent.nothing-offered")
        self.events.clear()
        self.write(FILE)
        self.hangUp()
        self.assertEqual([each["event"] for each in self.events if "event" in each], ["agent.reloaded"])

    def test_reloadLimits(self) -> None:
        """Limits are not taken before a restart, which the log says, but the time to drain is."""
        visitor, _ = self.visit()
        self.write(FILE + "[limits]\nstreams = 7\ndrain = 3\n")
        self.hangUp()
        self.logged("agent.needs-restart")
        stopped = self.stop()
        self.tunnel.wait(3.5)
        self.successResultOf(stopped)
        self.assertIsNotNone(visitor.reason)

    def test_changedSecret(self) -> None:
        """A secret that is put right is used for the next attempt."""
        self.secret.write_text("wrong")
        self.start()
        self.attach()
        self.assertEqual(self.logged("agent.not-connected")["code"], "unauthorized")
        self.secret.write_text(SECRET)
        self.reactor.advance(60)
        self.attach()
        self.assertIs(self.service.client.phase, Phase.ATTACHED)

    def test_health(self) -> None:
        """An origin that is down takes no visitors, but keeps its names."""
        self.start(FILE + HEALTH)
        self.attach()
        self.dials(WEB)[0].clientConnectionFailed(self.reactor.connectors[-1], Failure(ConnectionRefusedError()))
        self.tunnel.pump()
        (route,) = self.tunnel.registry.routes.values()
        self.assertIsNone(route.choose(self.reactor.seconds()))
        self.tunnel.wait(5)
        self.origin(WEB)
        self.assertIsNotNone(route.choose(self.reactor.seconds()))
        self.successResultOf(self.stop())

    def test_stop(self) -> None:
        """At the end visitors have some time, and the names are given up at once."""
        visitor, origin = self.visit()
        stopped = self.stop()
        self.assertEqual(self.serving(), set())
        self.tunnel.wait(20)
        self.assertNoResult(stopped)
        self.assertEqual(self.logged("agent.stopping")["count"], 1)
        visitor.transport.loseConnection()
        origin.transport.loseConnection()
        self.tunnel.wait(1)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopInTime(self) -> None:
        """When their time is up it is over."""
        visitor, _ = self.visit()
        stopped = self.stop()
        self.tunnel.wait(31)
        self.successResultOf(stopped)
        self.assertIsNotNone(visitor.reason)

    def test_hurry(self) -> None:
        """Whoever sends a second signal does not want to wait."""
        self.visit()
        stopped = self.stop()
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)
        self.tunnel.pump()
        self.successResultOf(stopped)

    def test_stopUnattached(self) -> None:
        """Without a gateway there is nothing to wait for."""
        self.start()
        self.successResultOf(self.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class TapTests(SynchronousTestCase):
    """
    The twistd plugin.
    """

    def test_makes(self) -> None:
        """It makes the service that the options ask for."""
        self.patch(os, "environ", {"GATEWAY_SECRET": "correct-horse"})
        options = Options()
        options.parseOptions(["--to", "tls://gw.example", "--tcp", "2222=127.0.0.1:22"])
        self.assertIsInstance(makeService(options), AgentService)

    def refusal(self, *words: str) -> str:
        """What is on standard error when nothing is started, with exit status 2."""
        options = Options()
        options.parseOptions(words)
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        self.assertEqual(self.assertRaises(SystemExit, makeService, options).code, 2)
        return errors.getvalue()

    def test_noCredential(self) -> None:
        """Without anything that proves the name, or with a file that is not there, it is not started."""
        self.patch(os, "environ", {})
        self.assertEqual(
            self.refusal("--to", "tls://gw.example"),
            "gateway-agent: error: gateway: nothing proves the agent's name: "
            "set secret-file, jwt-file, certificate, GATEWAY_SECRET or GATEWAY_JWT\n",
        )
        self.assertEqual(
            self.refusal("--to", "tls://gw.example", "--secret-file", "/no/such"),
            "gateway-agent: error: gateway.secret-file: /no/such: No such file or directory\n",
        )

    def test_unusable(self) -> None:
        """What cannot be used is one line on standard error and exit status 2."""
        self.assertEqual(
            self.refusal("--config", "/no/such"), "gateway-agent: error: /no/such: No such file or directory\n"
        )
