"""Tests for L{gateway.service.tabby.service}: options to a running gateway, signals, reload and stop."""

import io
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IReactorFromThreads
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import usage
from zope.interface import implementer

from gateway.domain.tokens import hashToken
from gateway.domain.tokensfile import addToken, removeToken
from gateway.service.tabby.service import IReactor, TabbyService
from gateway.service.tabby.session import LINGER
from gateway.service.tabby_tap import Options
from gateway.testing import flowPair
from tests.certificates import makeAuthority
from tests.service.tabby.tabbyfixture import TOKEN, GatewayTestCase, TargetSide, TLSClient, Visitor
from tests.websocketclient import PING

ALICES = "WZKXQVJZWKXQVJWZKXQVJWZK"
BOBS = "VQKZJXWVKQZJWXVKQJZWXVKQ"
GREET = {"_": "hello", "version": 1}


class Port:
    """
    A port that listens nowhere.

    @ivar stopped: how often it was told to stop.
    """

    def __init__(self, address: IAddress) -> None:
        self._address = address
        self.stopped = 0

    def getHost(self) -> IAddress:
        """Where it would."""
        return self._address

    def stopListening(self) -> None:
        """Count."""
        self.stopped += 1


@implementer(IReactorFromThreads)
class Reactor(MemoryReactorClock):
    """
    A reactor in memory whose ports say where they are, and which signal handlers can reach.

    @ivar ports: those that listen, or did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Port:
        """Listen, and say so."""
        super().listenTCP(port, factory, backlog, interface)
        address = IPv6Address if ":" in interface else IPv4Address
        self.ports.append(Port(address("TCP", interface or "0.0.0.0", port)))
        return self.ports[-1]

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call it now."""
        callable(*args, **kwargs)

    def callInThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Not used."""

    def getThreadPool(self) -> None:
        """Not used."""

    def suggestThreadPoolSize(self, size: int) -> None:
        """Not used."""


class ServiceTestCase(GatewayTestCase):
    """With a reactor in memory, and SIGHUP as it was when the test is over."""

    secrets: tuple[str, ...] = (TOKEN, ALICES, BOBS)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.patch(os, "environ", {**os.environ, "TABBY_AUTH_TOKEN": TOKEN})
        self.reactor = Reactor()
        self.links: list[Callable[[], bool]] = []

    def make(self, *words: str) -> TabbyService:
        """The service of a command line."""
        options = Options()
        options.parseOptions(list(words))
        return TabbyService(cast(IReactor, self.reactor), options)

    def start(self, *words: str) -> TabbyService:
        """The service of a command line, started as twistd does."""
        service = self.make(*words)
        service.privilegedStartService()
        service.startService()
        return service

    def assertWrong(self, *words: str) -> str:
        """The service cannot be made; return the one line that says why."""
        with self.assertRaises(usage.UsageError) as caught:
            self.make(*words)
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)

    @property
    def ports(self) -> list[tuple[str, int]]:
        """Where the reactor listens."""
        return [(interface, port) for port, _, _, interface in self.reactor.tcpServers]

    def pump(self) -> None:
        """Let all networks carry all that they have."""
        busy = True
        while busy:
            busy = False
            for step in self.links:
                busy = step() or busy

    def visit(self, path: str = "/", server: int = 0, **headers: str) -> Visitor:
        """A visitor of one of the reactor's servers, with a WebSocket."""
        protocol = self.reactor.tcpServers[server][1].buildProtocol(IPv4Address("TCP", "198.51.100.7", 5))
        assert protocol is not None
        visitor = Visitor(self.pump, self.reactor.seconds)
        visitor.link = flowPair(visitor, protocol)
        self.links.append(visitor.link.step)
        visitor.upgrade(path, **headers)
        return visitor

    def dialling(self, token: str | None = None, host: str = "203.0.113.1", port: int = 22) -> Visitor:
        """A visitor that has asked for a target."""
        visitor = self.visit(Host="localhost")
        visitor.say(**GREET if token is None else {**GREET, "auth_token": token})
        visitor.say(_="connect", host=host, port=port)
        return visitor

    def session(self, token: str) -> tuple[Visitor, TargetSide]:
        """A visitor that is connected to a target."""
        visitor = self.dialling(token)
        _, _, factory, _, _ = self.reactor.tcpClients[-1]
        protocol = factory.buildProtocol(IPv4Address("TCP", "203.0.113.1", 22))
        assert protocol is not None
        target = TargetSide()
        target.link = flowPair(protocol, target)
        self.links.append(target.link.step)
        self.pump()
        return visitor, target

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.reactor.advance(seconds)
        self.pump()

    def tokensFile(self, **tokens: str) -> Path:
        """A tokens file of names and tokens."""
        path = Path(self.mktemp())
        text = ""
        for name, token in tokens.items():
            text = addToken(text, name, hashToken(token))
        path.write_text(text)
        return path


class ListeningTests(ServiceTestCase):
    """Where it listens, and what it says about that."""

    def test_default(self) -> None:
        """By default it listens on 127.0.0.1:9000 and nowhere else."""
        self.start("--no-auth")
        self.assertEqual(self.ports, [("127.0.0.1", 9000)])

    def test_nothingBeforeStart(self) -> None:
        """Making the service opens no port and takes no signal."""
        before = signal.getsignal(signal.SIGHUP)
        self.make("--no-auth")
        self.assertEqual((self.ports, signal.getsignal(signal.SIGHUP)), ([], before))

    def test_endpoints(self) -> None:
        """--listen, once or more, takes the place of --host and --port."""
        self.start("--no-auth", "--listen", "tcp:1:interface=127.0.0.1", "--listen", "tcp:2:interface=127.0.0.2")
        self.assertEqual(self.ports, [("127.0.0.1", 1), ("127.0.0.2", 2)])

    def test_badEndpoints(self) -> None:
        """An endpoint that cannot be used is refused by the name of its option."""
        for option in ("--listen", "--metrics-listen"):
            self.assertTrue(self.assertWrong("--no-auth", option, "nonsense:1").startswith(f"{option}: "))

    def test_badFiles(self) -> None:
        """A file that cannot be used is refused by the name of its option, and the file's."""
        broken = Path(self.mktemp())
        broken.write_text("x")
        for path in ("/nonexistent", str(broken)):
            for words in (
                ("--no-auth", "--certificate", path, "--private-key", path),
                ("--admin-port", "1", "--admin-certificate", path, "--admin-private-key", path, "--admin-ca", path),
                ("--tokens", path),
            ):
                problem = self.assertWrong(*words)
                option = next(word for word in words if word.endswith(("certificate", "tokens")))
                self.assertTrue(problem.startswith(f"{option}: ") and path in problem, problem)

    def test_saysTheURL(self) -> None:
        """At the start it says which URL to paste, as the options make it."""
        certificate, key = makeAuthority("x").issue("gateway.test").write(self.mktemp())
        tls = ("--certificate", certificate, "--private-key", key)
        for words, url in (
            ((), "ws://127.0.0.1:9000"),
            (("--port", "80"), "ws://127.0.0.1"),
            (("--host", "::1"), "ws://[::1]:9000"),
            (tls, "wss://127.0.0.1:9000"),
            ((*tls, "--port", "443"), "wss://127.0.0.1"),
            (("--public-url", "wss://gw.example.com/x"), "wss://gw.example.com/x"),
        ):
            self.reactor = Reactor()
            self.start("--no-auth", *words)
            self.assertEqual(self.logged("tabby.url")[-1]["url"], url)

    def test_URLOfAWildcard(self) -> None:
        """Who listens everywhere is told the machine's name, not 0.0.0.0."""
        self.start("--token-auth", "--host", "0.0.0.0")
        self.assertNotIn("0.0.0.0", self.logged("tabby.url")[0]["url"])

    def test_noURLOfAUNIXSocket(self) -> None:
        """Of a UNIX socket it says no URL, rather than a wrong one; the public URL is still said."""
        self.start("--no-auth", "--listen", "unix:/run/gw.sock")
        self.assertEqual(self.logged("tabby.url"), [])
        self.start("--no-auth", "--listen", "unix:/run/gw.sock", "--public-url", "wss://gw.example.com")
        self.assertEqual(self.logged("tabby.url")[0]["url"], "wss://gw.example.com")

    def test_warnsOfAnOpenDoor(self) -> None:
        """--no-auth on an address that others can reach gives a warning; on loopback, or with tokens, none."""
        self.start("--no-auth")
        self.start("--token-auth", "--host", "0.0.0.0")
        self.assertEqual(self.logged("tabby.unprotected"), [])
        self.start("--no-auth", "--host", "0.0.0.0")
        self.assertEqual(len(self.logged("tabby.unprotected")), 1)

    def test_managementIsOffUnlessAskedFor(self) -> None:
        """The management listener is there only with --admin-port, and speaks TLS only."""
        self.start("--token-auth")
        self.assertEqual(len(self.ports), 1)
        self.reactor = Reactor()
        authority = makeAuthority("x")
        certificate, key = authority.issue("gateway.test").write(self.mktemp())
        files = ("--admin-certificate", certificate, "--admin-private-key", key)
        self.start("--admin-port", "9001", *files, "--admin-ca", authority.write(self.mktemp()))
        self.assertEqual(self.ports, [("127.0.0.1", 9000), ("127.0.0.1", 9001)])
        self.assertEqual(self.visit(server=1).answer.status, 400)

    def test_metricsListener(self) -> None:
        """--metrics-listen shows the metrics of the client listener, which does not show them itself."""
        self.start("--token-auth", "--metrics-listen", "tcp:9100:interface=127.0.0.1")
        self.visit()
        for server, status in ((0, 404), (1, 200)):
            visitor = self.visit("/metrics", server, Upgrade="", Connection="", Sec_WebSocket_Key="")
            self.assertEqual(visitor.answer.status, status)
        self.assertIn(b'txgateway_connections_total{listener="client"} 2.0', visitor.answer.body)


class AuthenticationTests(ServiceTestCase):
    """Which tokens are good."""

    def test_environmentTokenWithTokenAuth(self) -> None:
        """The environment's token is good with --token-auth."""
        self.start("--token-auth")
        self.assertEqual(self.dialling(TOKEN).error, None)

    def test_environmentTokenWithoutTokenAuth(self) -> None:
        """Without --token-auth it is not, though it is there."""
        self.start("--tokens", str(self.tokensFile(alice=ALICES)))
        self.assertError(self.dialling(TOKEN), "incorrect-auth-token")
        self.assertIsNone(self.dialling(ALICES).error)

    def test_bothKinds(self) -> None:
        """The environment's token and those of the file are good together."""
        self.start("--token-auth", "--tokens", str(self.tokensFile(alice=ALICES)))
        self.assertEqual([self.dialling(token).error for token in (TOKEN, ALICES)], [None, None])

    def test_bansCanBeSwitchedOff(self) -> None:
        """--ban-after 0 bans nobody."""
        self.start("--token-auth", "--ban-after", "0")
        for _ in range(20):
            self.assertError(self.dialling("QQQQWRONG"), "incorrect-auth-token")
        self.assertIsNone(self.dialling(TOKEN).error)


class ManagementTests(ServiceTestCase):
    """One-shot tokens, from the management listener to the client listener."""

    def setUp(self) -> None:
        super().setUp()
        authority = makeAuthority("x")
        paths = authority.issue("gateway.test").write(self.mktemp())
        files = ("--admin-certificate", paths[0], "--admin-private-key", paths[1])
        more = ("--one-shot-ttl", "30", "--one-shot-limit", "2")
        self.start("--admin-port", "9001", *files, "--admin-ca", authority.write(self.mktemp()), *more)
        self.credential = authority.issue("back end").write(self.mktemp())

    def authorize(self, token: str) -> Visitor:
        """Hand a token over."""

        def pump() -> None:
            for _ in range(8):
                self.pump()
                self.reactor.advance(0)  # small TLS writes wait for the next turn of the reactor

        client = Visitor(pump, self.reactor.seconds)
        wrap = TLSMemoryBIOFactory(TLSClient(self.credential), True, Factory.forProtocol(lambda: client), self.reactor)
        address = IPv4Address("TCP", "192.0.2.1", 5)
        near, far = wrap.buildProtocol(address), self.reactor.tcpServers[1][1].buildProtocol(address)
        assert near is not None and far is not None
        client.link = flowPair(near, far)
        self.links.append(client.link.step)
        pump()
        client.upgrade()
        client.say(_="authorize-client", token=token)
        return client

    def test_token(self) -> None:
        """A token that is handed over is good for one session."""
        self.assertEqual(self.authorize(ALICES).kinds, ["hello", "ok"])
        self.assertIsNone(self.dialling(ALICES).error)
        self.assertError(self.dialling(ALICES), "incorrect-auth-token")

    def test_timeToLive(self) -> None:
        """--one-shot-ttl is how long it is good."""
        self.authorize(ALICES)
        self.authorize(BOBS)
        self.advance(29.9)
        self.assertIsNone(self.dialling(ALICES).error)
        self.advance(0.1)
        self.assertError(self.dialling(BOBS), "incorrect-auth-token")

    def test_limit(self) -> None:
        """--one-shot-limit is how many may wait."""
        self.authorize(ALICES)
        self.authorize(BOBS)
        self.assertError(self.authorize("QQQQMORE"), "quota-exceeded")


class LimitTests(ServiceTestCase):
    """Options that are numbers do what they say, and zero switches off what it may switch off."""

    def test_connectTimeout(self) -> None:
        """--connect-timeout ends an attempt, not before."""
        self.start("--token-auth", "--connect-timeout", "3")
        visitor = self.dialling(TOKEN)
        self.advance(2.9)
        self.assertIsNone(visitor.error)
        self.advance(0.1)
        self.assertError(visitor, "connect-timeout")

    def test_handshakeTimeout(self) -> None:
        """--handshake-timeout ends a visitor that says nothing."""
        self.start("--token-auth", "--handshake-timeout", "3")
        visitor = self.visit()
        self.advance(3)
        self.assertError(visitor, "handshake-timeout")

    def test_idleTimeout(self) -> None:
        """--idle-timeout ends a silent session; 0 never does."""
        for seconds, cause in (("40", ["idle-timeout"]), ("0", [])):
            self.reactor = Reactor()
            self.start("--token-auth", "--idle-timeout", seconds)
            self.session(TOKEN)
            for _ in range(60):
                self.advance(1)
            self.assertEqual([event["cause"] for event in self.logged("tabby.closed")], cause)
            self.events.clear()

    def test_pingInterval(self) -> None:
        """--ping-interval is how often a client is pinged; 0 is never."""
        for interval, pings in (("5", 2), ("0", 0)):
            self.reactor = Reactor()
            self.start("--no-auth", "--handshake-timeout", "100", "--ping-interval", interval)
            visitor = self.visit(Host="localhost")
            for _ in range(12):
                self.advance(1)
            self.assertEqual([frame.opcode for frame in visitor.frames].count(PING), pings)

    def test_connections(self) -> None:
        """The limits on connections hold at their number; 0 is no limit."""
        for option in (
            "max-unauthenticated",
            "max-unauthenticated-per-address",
            "max-per-address",
            "new-per-second",
            "new-per-second-per-address",
        ):
            for number, admitted in (("2", 2), ("0", 4)):
                self.reactor = Reactor()
                self.start("--token-auth", f"--{option}", number)
                build = self.reactor.tcpServers[0][1].buildProtocol
                address = IPv4Address("TCP", "198.51.100.7", 5)
                self.assertEqual([build(address) is not None for _ in range(4)].count(True), admitted, option)

    def test_unauthenticatedPerAddress(self) -> None:
        """By default one address may hold 100 connections that are not authenticated, however many it may hold."""
        self.start("--token-auth")
        build = self.reactor.tcpServers[0][1].buildProtocol
        address = IPv4Address("TCP", "198.51.100.7", 5)
        self.assertEqual([build(address) is not None for _ in range(101)].count(True), 100)

    def test_descriptors(self) -> None:
        """The start takes all descriptors that the system allows, and warns when --max-unauthenticated needs more."""
        taken: list[tuple[int, int]] = []
        self.patch(resource, "setrlimit", lambda kind, limits: taken.append(limits))
        for hard, words, warnings in ((4064, (), 0), (4063, (), 1), (4063, ("--max-unauthenticated", "1999"), 0)):
            self.patch(resource, "getrlimit", lambda kind, hard=hard: (1024, hard))
            self.events.clear()
            self.start("--token-auth", *words)
            self.assertEqual(taken.pop(), (hard, hard))
            self.assertEqual(len(self.logged("gateway.few-descriptors")), warnings)

    def test_stallMemory(self) -> None:
        """--stall-memory is in MiB."""
        self.assertEqual(self.make("--no-auth", "--stall-memory", "3").door.budget.limit, 3 * 1024 * 1024)

    def test_trustedProxy(self) -> None:
        """--trusted-proxy is believed."""
        self.start("--token-auth", "--trusted-proxy", "198.51.100.0/24")
        self.visit(X_Forwarded_For="192.0.2.77").say(_="nonsense")
        self.assertEqual(self.logged("tabby.turned-away")[0]["visitor"], "192.0.2.77")

    def test_secure(self) -> None:
        """Of several ports each knows whether it speaks TLS: its page shows the URL that leads there."""
        certificate, key = makeAuthority("x").issue("gateway.test").write(self.mktemp())
        self.start("--token-auth", "--listen", "tcp:80", "--listen", f"ssl:443:privateKey={key}:certKey={certificate}")
        self.assertEqual(self.logged("tabby.url")[0]["url"].partition(":")[0], "ws")
        self.reactor.tcpServers += self.reactor.sslServers
        for server, scheme in ((0, b"<code>ws://"), (1, b"<code>wss://")):
            visitor = self.visit("/", server, Upgrade="", Connection="", Sec_WebSocket_Key="")
            self.assertIn(scheme, visitor.answer.body)


class PolicyTests(ServiceTestCase):
    """Which targets may be reached."""

    def dialled(self, host: str, port: int = 22, token: str | None = None) -> list[tuple[str, int]]:
        """What is dialled for a target; a denied one is told as such."""
        self.reactor.tcpClients.clear()
        visitor = self.dialling(token, host, port)
        dialled = [(client[0], client[1]) for client in self.reactor.tcpClients]
        if not dialled:
            self.assertError(visitor, "target-denied")
        return dialled

    def test_withoutAuthenticationNothingLocal(self) -> None:
        """With --no-auth loopback and private ranges are refused, however they are spelled; others are dialled."""
        self.start("--no-auth")
        for host in ("127.0.0.1", "localhost", "127.1", "::1", "10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "0"):
            self.assertEqual(self.dialled(host), [], host)
        self.assertEqual(self.dialled("203.0.113.1"), [("203.0.113.1", 22)])

    def test_withTokensLocalTargets(self) -> None:
        """With tokens loopback and private ranges are proper targets; metadata and link-local never are."""
        self.start("--token-auth")
        for host in ("127.0.0.1", "10.0.0.1"):
            self.assertEqual(self.dialled(host, token=TOKEN), [(host, 22)])
        for host in ("169.254.169.254", "224.0.0.1", "0.0.0.0"):
            self.assertEqual(self.dialled(host, token=TOKEN), [], host)

    def test_rulesOfTheCommandLine(self) -> None:
        """--allow lifts what --no-auth refuses; the first rule that matches decides."""
        self.start("--no-auth", "--deny", "10.0.0.9", "--allow", "10.0.0.0/8:22")
        self.assertEqual(self.dialled("10.0.0.1"), [("10.0.0.1", 22)])
        for host, port in (("10.0.0.9", 22), ("10.0.0.1", 23), ("203.0.113.1", 22)):
            self.assertEqual(self.dialled(host, port), [])

    def test_rulesOfTheFileComeFirst(self) -> None:
        """The rules of the tokens file are asked before those of the command line."""
        path = self.tokensFile(alice=ALICES)
        path.write_text('rules = ["deny 203.0.113.1"]\n' + path.read_text())
        self.start("--tokens", str(path), "--allow", "*")
        self.assertEqual(self.dialled("203.0.113.1", token=ALICES), [])
        self.assertEqual(self.dialled("203.0.113.2", token=ALICES), [("203.0.113.2", 22)])

    def test_ownListenersAreRefused(self) -> None:
        """Nobody reaches the gateway's own ports through it, the management's and metrics' least of all."""
        self.start("--token-auth", "--metrics-listen", "tcp:9100:interface=127.0.0.1")
        for port in (9000, 9100):
            self.assertEqual(self.dialled("127.0.0.1", port, TOKEN), [])
        self.assertEqual(self.dialled("127.0.0.1", 9101, TOKEN), [("127.0.0.1", 9101)])


class BrowserTests(ServiceTestCase):
    """The defaults for pages and names."""

    def status(self, host: str, origin: str) -> int:
        """The answer to an upgrade request."""
        return self.visit(Host=host, Origin=origin).answer.status

    def test_withTokens(self) -> None:
        """With tokens any origin and any name are good."""
        self.start("--token-auth")
        self.assertEqual(self.status("any.test", "https://other.test"), 101)

    def test_withoutAuthentication(self) -> None:
        """With --no-auth only the gateway's own names, and only pages of the same host."""
        self.start("--no-auth", "--public-url", "wss://gw.example.com")
        for host, origin, status in (
            ("localhost:9000", "", 101),
            ("127.0.0.1:9000", "http://127.0.0.1:9000", 101),
            ("gw.example.com", "https://gw.example.com", 101),
            ("gw.example.com", "https://other.test", 403),
            ("rebound.test:9000", "http://rebound.test:9000", 403),
            ("rebound.test:9000", "", 403),
        ):
            self.assertEqual(self.status(host, origin), status, (host, origin))

    def test_options(self) -> None:
        """--origin and --allowed-host narrow what tokens leave open, and widen what --no-auth closes."""
        for way in ("--token-auth", "--no-auth"):
            self.reactor = Reactor()
            self.start(way, "--origin", "https://app.test", "--allowed-host", "gw.test")
            self.assertEqual(self.status("gw.test", "https://app.test"), 101)
            self.assertEqual(self.status("gw.test", "https://other.test"), 403)
            self.assertEqual(self.status("other.test", "https://app.test"), 403)


class ReloadTests(ServiceTestCase):
    """SIGHUP."""

    def hup(self) -> None:
        """Get the signal, for real."""
        os.kill(os.getpid(), signal.SIGHUP)
        self.pump()

    def test_newToken(self) -> None:
        """A token that is new in the file is good after the signal, and not before."""
        path = self.tokensFile(alice=ALICES)
        self.start("--tokens", str(path))
        path.write_text(addToken(path.read_text(), "bob", hashToken(BOBS)))
        self.assertError(self.dialling(BOBS), "incorrect-auth-token")
        self.hup()
        self.assertIsNone(self.dialling(BOBS).error)
        (event,) = self.logged("tabby.reloaded")
        self.assertEqual((event["tokens"], event["rules"]), (2, 0))

    def test_revocationEndsSessions(self) -> None:
        """A token that is gone ends its live sessions, and no others."""
        path = self.tokensFile(alice=ALICES, bob=BOBS)
        self.start("--tokens", str(path))
        alice, target = self.session(ALICES)
        bob, _ = self.session(BOBS)
        path.write_text(removeToken(path.read_text(), "alice"))
        self.hup()
        self.assertError(alice, "session-expired")
        self.assertIsNotNone(target.reason)
        self.assertFalse(bob.isGone)

    def test_brokenFileKeepsTheOld(self) -> None:
        """A file that is broken or gone leaves tokens, rules and sessions as they were, and one error in the log."""
        path = self.tokensFile(alice=ALICES)
        self.start("--tokens", str(path))
        visitor, _ = self.session(ALICES)
        path.write_text("[tokens.alice]\nhash = 7\n")
        self.hup()
        path.unlink()
        self.hup()
        self.assertFalse(visitor.isGone)
        self.assertIsNone(self.dialling(ALICES).error)
        problems = [event["problem"] for event in self.logged("tabby.reload-failed")]
        self.assertEqual(len(problems), 2)
        self.assertIn("tokens.alice.hash", problems[0])

    def test_rules(self) -> None:
        """Rules of the file hold for the next target; a session that stands stays."""
        path = self.tokensFile(alice=ALICES)
        self.start("--tokens", str(path))
        visitor, _ = self.session(ALICES)
        path.write_text('rules = ["deny *"]\n' + path.read_text())
        self.hup()
        self.assertFalse(visitor.isGone)
        self.assertError(self.dialling(ALICES), "target-denied")

    def test_certificates(self) -> None:
        """A changed certificate that cannot be used is said at the signal, and the old one stays."""
        certificate, key = makeAuthority("x").issue("gateway.test").write(self.mktemp())
        self.start("--token-auth", "--certificate", certificate, "--private-key", key)
        Path(certificate).write_text("broken")
        self.hup()
        self.assertEqual(len([event for event in self.events if "certificate is not used" in formatEvent(event)]), 1)


class StopTests(ServiceTestCase):
    """SIGTERM, as twistd turns it into C{stopService}."""

    def test_stopsAcceptingThenDrains(self) -> None:
        """The port closes first; sessions have --drain seconds; then it is over, which the log says."""
        service = self.start("--token-auth", "--drain", "10")
        visitor, target = self.session(TOKEN)
        stopped = service.stopService()
        self.pump()
        self.assertEqual(self.reactor.ports[0].stopped, 1)
        self.assertEqual(self.logged("tabby.stopping")[0]["count"], 1)
        self.assertEqual(visitor.kinds[-1], "shutting-down")
        self.advance(9.9)
        self.assertNoResult(stopped)
        self.assertIsNone(target.reason)
        self.advance(0.1)
        self.advance(LINGER)
        self.assertError(visitor, "shutting-down")
        self.successResultOf(stopped)
        self.assertEqual(len(self.logged("tabby.stopped")), 1)

    def test_nobodyIn(self) -> None:
        """With nobody in it stops at once."""
        self.successResultOf(self.start("--no-auth").stopService())

    def test_impatience(self) -> None:
        """A second Ctrl-C ends the wait for sessions."""
        service = self.start("--token-auth", "--drain", "1000")
        visitor, _ = self.session(TOKEN)
        stopped = service.stopService()
        self.pump()
        self.assertNoResult(stopped)
        signal.raise_signal(signal.SIGINT)
        self.pump()
        self.assertError(visitor, "shutting-down")
        self.reactor.advance(0)
        self.successResultOf(stopped)

    def test_portThatCannotBeStopped(self) -> None:
        """A port that cannot be stopped keeps no other from being stopped, nor the visitors from being sent home."""
        service = self.start("--token-auth", "--drain", "0", "--listen", "tcp:1", "--listen", "tcp:2")
        visitor, _ = self.session(TOKEN)

        def fail() -> None:
            raise OSError("no")

        self.patch(self.reactor.ports[0], "stopListening", fail)
        stopped = service.stopService()
        self.pump()
        self.assertError(visitor, "shutting-down")
        self.reactor.advance(0)
        self.failureResultOf(stopped)
        self.assertEqual(self.reactor.ports[1].stopped, 1)
        self.assertEqual(len(self.logged("tabby.stopped")), 1)

    def test_startsAgain(self) -> None:
        """A gateway that was stopped takes visitors again when it is started again."""
        service = self.start("--token-auth")
        self.successResultOf(service.stopService())
        self.reactor.tcpServers.clear()
        service.privilegedStartService()
        service.startService()
        self.assertEqual(self.dialling(TOKEN).kinds, ["hello", "ready"])

    def test_signalHandlerOfAnotherLanguage(self) -> None:
        """A handler for SIGHUP that Python does not know of cannot be put back, and the system's own takes its place."""
        installed = signal.signal
        self.patch(signal, "signal", lambda number, handler: (installed(number, handler), None)[1])
        self.successResultOf(self.start("--no-auth").stopService())
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_DFL)

    def test_portsAreStopped(self) -> None:
        """Every port is stopped in the end."""
        service = self.start("--token-auth", "--metrics-listen", "tcp:9100:interface=127.0.0.1")
        self.successResultOf(service.stopService())
        self.assertEqual([port.stopped for port in self.reactor.ports], [1, 1])


class StateTests(ServiceTestCase):
    """--state, for a first try."""

    def start(self, *words: str) -> TabbyService:
        """Start, and keep what was printed."""
        self.printed = io.StringIO()
        self.patch(sys, "__stdout__", self.printed)
        return super().start(*words)

    def test_generatesAndKeeps(self) -> None:
        """It makes a token once, keeps it for its owner alone, prints it with the URL, and uses it again."""
        directory = Path(self.mktemp()) / "a" / "state"
        self.start("--state", str(directory))
        token = (directory / "token").read_text().strip()
        self.assertRegex(token, r"\A[0-9a-f]{64}\Z")
        self.assertNotIn(token[:16], repr(self.events))  # four hexadecimal digits may stand there by chance
        self.assertEqual(stat.S_IMODE((directory / "token").stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700)
        self.assertIn(token, self.printed.getvalue())
        self.assertIn("ws://127.0.0.1:9000", self.printed.getvalue())
        self.assertIsNone(self.dialling(token).error)
        self.start("--state", str(directory))
        self.assertIn(token, self.printed.getvalue())

    def test_unusableDirectory(self) -> None:
        """A directory or file that cannot be used is refused by the option's name."""
        file = Path(self.mktemp())
        file.write_text("x")
        self.assertTrue(self.assertWrong("--state", str(file)).startswith("--state: "))
        empty = Path(self.mktemp())
        empty.mkdir()
        (empty / "token").write_text("\n")
        self.assertIn("is empty", self.assertWrong("--state", str(empty)))

    def test_nothingIsPrintedOtherwise(self) -> None:
        """The environment's token is nowhere printed."""
        self.start("--token-auth")
        self.assertEqual(self.printed.getvalue(), "")
