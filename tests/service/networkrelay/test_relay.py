"""Tests for a network relay as a service: its command line, its settings, its start and its stop."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.application.service import IServiceMaker
from twisted.internet.address import IPv4Address
from twisted.logger import capturedLogs
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.addresses import parseAddress
from gateway.domain.grant import Grant
from gateway.domain.routes import Place
from gateway.domain.rules import parseRuleLine
from gateway.domain.targets import Target
from gateway.service import network_relay_tap
from gateway.service.configuration import ConfigurationError
from gateway.service.networkrelay.relay import LOOK_INTERVAL
from gateway.service.networkrelay.relayoptions import NetworkRelayOptions
from gateway.service.server.service import GatewayService, IReactor, checkFiles
from gateway.service.server.settings import GatewaySettings, readGatewaySettings
from gateway.testing import flowPair
from gateway.wire.networkrelay import AGENT_PATH, CLIENT_PATH
from tests.net.sides import Peer
from tests.service.networkrelay.relayfixture import CREDENTIALS
from tests.service.server.test_service import Reactor


class NetworkRelayTestCase(SynchronousTestCase):
    """What the tests have in common."""

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.reactor = Reactor()
        self.path = Path(self.mktemp()).absolute()
        self.path.write_text(json.dumps(CREDENTIALS))
        self.environ: dict[str, str] = {}
        self.patch(os, "environ", self.environ)

    def options(self, *words: str) -> NetworkRelayOptions:
        """What a command line says."""
        options = NetworkRelayOptions()
        options.parseOptions(["--credentials-file", str(self.path), *words])
        return options

    def start(self, read: Callable[[], GatewaySettings]) -> GatewayService:
        """A service, started as twistd does."""
        service = GatewayService(cast(IReactor, self.reactor), read(), read)
        service.privilegedStartService()
        service.startService()
        return service

    def ask(self, request: bytes) -> bytes:
        """What is answered to a request on the last port that was opened."""
        peer = Peer()
        protocol = self.reactor.tcpServers[-1][1].buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert protocol is not None
        link = flowPair(peer, protocol)
        peer.transport.write(request + b"\r\nHost: relay\r\n\r\n")
        link.pump()
        return bytes(peer.received)


class OptionTests(NetworkRelayTestCase):
    """L{NetworkRelayOptions} are those of http-network-relay's relay."""

    def place(self, options: NetworkRelayOptions) -> tuple[str | None, int]:
        """Where it would listen."""
        (listen,) = options.readSettings().networkRelayListen
        return listen.host, listen.port

    def test_defaults(self) -> None:
        """Without any, it is where the original is."""
        options = NetworkRelayOptions()
        options.parseOptions([])
        self.assertEqual(self.place(options), ("127.0.0.1", 8000))
        self.assertEqual(options["credentials-file"], os.path.abspath("credentials.json"))

    def test_options(self) -> None:
        """Host and port are taken, of IPv6 too."""
        for host, expected in (("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("::", "::"), ("localhost", "localhost")):
            self.assertEqual(self.place(self.options("--host", host, "--port", "9000")), (expected, 9000))
        (listen,) = self.options("--host", "relay.lan").readSettings().networkRelayListen
        self.assertEqual(listen.text, "tcp:8000:interface=relay.lan")

    def test_variables(self) -> None:
        """Variables say what the command line does not."""
        self.environ |= {
            "HTTP_NETWORK_RELAY_SERVER_HOST": "192.0.2.1",
            "HTTP_NETWORK_RELAY_SERVER_PORT": "8001",
            "HTTP_NETWORK_RELAY_CREDENTIALS_FILE": "/etc/other.json",
        }
        options = NetworkRelayOptions()
        options.parseOptions([])
        self.assertEqual(self.place(options), ("192.0.2.1", 8001))
        self.assertEqual(options["credentials-file"], "/etc/other.json")
        self.assertEqual(self.place(self.options("--port", "8002")), ("192.0.2.1", 8002))

    def test_wrong(self) -> None:
        """What cannot be is said with the option."""
        for words in (["--port", "x"], ["--port", "65536"], ["--log-format", "x"], ["--nonsense"], ["word"]):
            self.assertRaises(usage.UsageError, self.options, *words)
        self.environ["HTTP_NETWORK_RELAY_SERVER_PORT"] = "http"
        self.assertRaises(usage.UsageError, self.options)

    def test_gatewaysVariables(self) -> None:
        """Variables of gateway.toml count."""
        self.environ["GATEWAY_LIMITS_CONNECT_TIMEOUT"] = "7"
        self.assertEqual(self.options().readSettings().config.limits.connectTimeout, 7.0)


class ServiceTests(NetworkRelayTestCase):
    """A gateway with a network relay."""

    def test_starts(self) -> None:
        """It listens where it is told, and nowhere else, answers, and stops."""
        service = self.start(self.options().readSettings)
        self.assertEqual([(port, host) for port, _, _, host in self.reactor.tcpServers], [(8000, "127.0.0.1")])
        self.assertIn(b"200 OK", self.ask(b"GET /healthz HTTP/1.1"))
        stopped = service.stopService()
        self.reactor.pump([1.0] * 20)
        self.successResultOf(stopped)
        self.assertFalse(any(port.isOpen for port in self.reactor.ports))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_plugin(self) -> None:
        """twistd knows the command, and what is wrong is one line and status 2."""
        self.assertIn("network-relay", [each.tapname for each in getPlugins(IServiceMaker)])
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        self.path.write_text("{")
        options = network_relay_tap.Options()
        options.parseOptions(["--credentials-file", str(self.path)])
        error = self.assertRaises(SystemExit, network_relay_tap.makeService, options)
        self.assertEqual(error.code, 2)
        self.assertRegex(errors.getvalue(), r"\Anetwork-relay: error: --credentials-file: .*not JSON.*\n\Z")

    def write(self, credentials: str, *, agents: str = "") -> Callable[[], GatewaySettings]:
        """A gateway.toml with a relay beside other doors, and what reads it."""
        toml = Path(self.mktemp())
        toml.write_text(
            f"""
            [agents]
            plain-listen = ["127.0.0.1:9000"]
            [networkrelay]
            listen = ["127.0.0.1:8000"]
            credentials-file = "{credentials}"
            {agents}
            """
        )
        return lambda: readGatewaySettings(str(toml), {})

    def test_withinAGateway(self) -> None:
        """The relay is one door of several, and its agents are known at the others, too."""
        agents = f'[[agent]]\nname = "box"\nsecret-hash = "sha256:{"0" * 64}"'
        service = self.start(self.write(str(self.path), agents=agents))
        self.assertEqual({port for port, *_ in self.reactor.tcpServers}, {9000, 8000, 9080})
        for path in (AGENT_PATH, CLIENT_PATH):
            self.assertTrue(service.isOurs(Place("prefix", path)))
        entries = service._authority._entries
        self.assertEqual(set(entries), {"box", "my-box-3485ebdc"})
        self.assertEqual(entries["box"].secrets, (f"sha256:{'0' * 64}",))

    def test_reload(self) -> None:
        """SIGHUP reads the credentials, too; so does a change of theirs, and nothing else is read then."""
        service = self.start(self.write(str(self.path)))
        self.path.write_text('{"edge-agents": {"new": "s"}}')
        with capturedLogs() as events:
            self.reactor.advance(LOOK_INTERVAL)
        self.assertEqual([each["event"] for each in events], ["networkrelay.credentials"])
        self.assertEqual(set(service._authority._entries), {"new"})
        self.path.write_text('{"edge-agents": {"newer": "s"}}')
        service.reload()
        self.assertEqual(set(service._authority._entries), {"newer"})

    def test_unusable(self) -> None:
        """Credentials that cannot be used end the start, and check-config says so."""
        for text, problem in (("{", "not JSON"), (None, "No such file")):
            if text is None:
                self.path.unlink()
            else:
                self.path.write_text(text)
            read = self.options().readSettings
            for error in (
                self.assertRaises(ConfigurationError, checkFiles, read()),
                self.assertRaises(ConfigurationError, GatewayService, self.reactor, read(), read),
            ):
                self.assertRegex(str(error), f"^--credentials-file: .*{self.path}: {problem}")

    def test_halfConfigured(self) -> None:
        """Nobody may come to a relay without credentials, or to one that is nowhere; and networks have to be some."""
        for keys, problem in (
            ({"LISTEN": "127.0.0.1:1"}, "networkrelay.credentials-file: it is not said"),
            ({"CREDENTIALS_FILE": "x"}, "no agent can attach"),
            ({"LISTEN": "x"}, r"networkrelay.listen\[0\]"),
            ({"LISTEN": "127.0.0.1:1", "CREDENTIALS_FILE": "x", "TRUSTED_PROXIES": "x"}, "trusted-proxies"),
        ):
            environ = {f"GATEWAY_NETWORKRELAY_{key}": value for key, value in keys.items()}
            error = self.assertRaises(ConfigurationError, readGatewaySettings, None, environ)
            self.assertRegex(str(error), problem)


class BehindTests(SynchronousTestCase):
    """L{Grant} says what may be reached behind an agent."""

    def test_behind(self) -> None:
        """Without rules everything, with rules what they allow."""
        target = Target("10.0.0.1", 22)
        assert parseAddress(target.host) is not None
        self.assertIsNone(Grant().refusalBehind(target))
        self.assertIsNone(Grant(behind=(parseRuleLine("allow 10.0.0.0/8"),)).refusalBehind(target))
        for rules in ((), (parseRuleLine("allow db.lan"),), (parseRuleLine("deny 10.0.0.0/8"),)):
            self.assertIsNotNone(Grant(behind=rules).refusalBehind(target))
