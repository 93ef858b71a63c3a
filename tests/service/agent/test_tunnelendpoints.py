"""
Tests for C{tunnel:} endpoints: what is written, what is published, and what is connected to, with a gateway in memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from traceback import extract_stack
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import IListeningPort, IProtocol, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.grant import EVERYTHING
from gateway.domain.targets import parseRuleLine
from gateway.net.dial import DialFailed, DialFailure
from gateway.service.agent.tunnelclient import IDLE, ClientTunnel
from gateway.service.agent.tunnelendpoints import TunnelClientEndpoint, TunnelServerEndpoint
from gateway.service.agent.tunnelserver import DRAIN, ServerTunnel, TunnelAddress
from gateway.service.server.attached import Visitor
from gateway.service.server.clientstreams import ClientStreams
from gateway.service.server.destinations import Destinations, RouteEndpoint
from gateway.wire.agentcontrol import Register, SecretCredential, Service
from gateway.wire.httpoptions import HttpOptions
from gateway.wire.preamble import Target
from gateway.wire.proxyheader import Address
from tests.documented import tables
from tests.net.sides import Peer
from tests.service.server.doorsfixture import SSH, WEB, Doors
from tests.service.tabby.test_service import Reactor
from tests.service.test_endpoints import PIN
from tests.service.tunnelfixture import SECRET

VIA = "via=ws\\://127.0.0.1\\:9/agent"
APP = Service(key="app", kind="http", hostnames=("app.example.com",))
RULES = ("deny ssh.secret.agent", "allow *.box.agent", "allow box.agent:22", "allow app.example.com")


def introduction(name: str, secret: str = SECRET) -> Register:
    """What an agent says first."""
    return Register(version=1, agent=name, credential=SecretCredential(secret=secret))


class TunnelTestCase(SynchronousTestCase):
    """A gateway, and whoever attaches to it."""

    def setUp(self) -> None:
        self.doors = Doors(grant=replace(EVERYTHING, targets=tuple(map(parseRuleLine, RULES))))
        self.streams = ClientStreams(self.doors.visitors, Destinations(self.doors.registry, self.doors.clock))
        self.doors.door.clientStreams = self.streams.factoryFor


class PublishTests(TunnelTestCase):
    """
    L{ServerTunnel}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.ended: list[None] = []
        self.tunnel = ServerTunnel(
            self.doors.clock, self.doors.network, lambda: introduction("box"), ended=lambda: self.ended.append(None)
        )
        self.factory = Factory.forProtocol(Peer)
        self.made: list[Peer] = []
        self.factory.buildProtocol = self.build  # type: ignore[method-assign, assignment]
        self.port = self.tunnel.publish(APP, self.factory)
        self.addresses: list[Any] = []

    def build(self, address: Any) -> Peer:
        """A connection to the service."""
        self.addresses.append(address)
        self.made.append(Peer())
        return self.made[-1]

    def visit(self, name: str = "app.example.com") -> tuple[Peer, Deferred[IProtocol]]:
        """A visitor of a name."""
        route = self.doors.registry.host(name)
        assert route is not None
        peer = Peer()
        visitor = Visitor(Address(ip_address("192.0.2.1"), 40000), Address(ip_address("192.0.2.9"), 443), name)
        dialled = RouteEndpoint(route, visitor, self.doors.clock).connect(Factory.forProtocol(lambda: peer))
        self.doors.pump()
        return peer, dialled

    def test_published(self) -> None:
        """Visitors come as to a port of the program's own, with their own addresses."""
        self.doors.accept()
        peer, dialled = self.visit()
        self.successResultOf(dialled)
        self.assertEqual(self.addresses, [IPv4Address("TCP", "192.0.2.1", 40000)])
        peer.transport.write(b"hello")
        self.doors.pump()
        self.assertEqual(self.made[0].received, b"hello")
        self.made[0].transport.write(b"world")
        self.doors.pump()
        self.assertEqual(peer.received, b"world")

    def test_address(self) -> None:
        """The port says where it is published, once the gateway has said so."""
        self.assertEqual(self.port.getHost(), TunnelAddress("app", ""))
        self.doors.accept()
        self.assertEqual(self.port.getHost(), TunnelAddress("app", "https://app.example.com"))

    def test_gatewayComesLater(self) -> None:
        """A gateway that is not there is tried again; so is one that goes away."""
        self.doors.network.attempts[-1].fail(ConnectionRefusedError())
        self.doors.wait(2.0)
        self.doors.accept()
        self.doors.links[-1].a.abortConnection()
        self.doors.pump()
        self.doors.wait(2.0)
        self.doors.accept()
        self.successResultOf(self.visit()[1])

    def test_several(self) -> None:
        """Several services share one session; the same one twice is refused."""
        self.doors.accept()
        self.tunnel.publish(SSH, self.factory)
        self.doors.wait(1.25)
        self.assertEqual(len(self.doors.network.attempts), 1)
        self.assertEqual(len(self.doors.registry.routes), 2)
        self.assertRaises(CannotListenError, self.tunnel.publish, SSH, self.factory)

    def test_stopOne(self) -> None:
        """A service that is stopped takes nobody any more, and others go on; it is over when its visitors have left."""
        self.doors.accept()
        self.tunnel.publish(SSH, self.factory)
        self.doors.wait(1.25)
        peer, _ = self.visit()
        stopped = self.port.stopListening()
        self.doors.wait(1.25)
        self.assertIsNone(self.doors.registry.host("app.example.com"))
        self.assertEqual(len(self.doors.registry.routes), 1)
        self.assertNoResult(stopped)
        peer.transport.abortConnection()
        self.doors.pump()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.ended, [])

    def test_stopLast(self) -> None:
        """With the last one the session ends, after its visitors; and somebody else may have the name at once."""
        self.doors.accept()
        peer, _ = self.visit()
        stopped = self.port.stopListening()
        self.doors.pump()
        self.assertEqual(self.ended, [None])
        self.assertIsNone(self.doors.registry.host("app.example.com"))
        peer.transport.write(b"still here")
        self.doors.wait(1.0)
        self.assertEqual(self.made[0].received, b"still here")
        self.assertNoResult(stopped)
        peer.transport.abortConnection()
        self.doors.wait(1.0)
        self.successResultOf(stopped)
        self.assertEqual(self.doors.door.sessions, set())
        self.doors.wait(DRAIN)
        again = self.port.stopListening()  # which changes nothing
        self.doors.pump()
        self.successResultOf(again)

    def test_stoppedOutside(self) -> None:
        """
        It is over in a turn of its own: whoever waits for it may stop the reactor, which closes the connection, and that
        cannot be in the middle of what is received on it.
        """
        self.doors.accept()
        inside: list[list[str]] = []
        stopped = self.port.stopListening()
        stopped.addCallback(lambda _: inside.append([each.name for each in extract_stack()]))
        self.doors.wait(1.0)
        (names,) = inside
        below = names[names.index("test_stoppedOutside") :]  # a worker's test is in something received itself
        self.assertEqual({"dataReceived", "connectionLost"} & set(below), set())

    def test_stopDespiteVisitors(self) -> None:
        """Who does not leave is cut off."""
        self.doors.accept()
        peer, _ = self.visit()
        stopped = self.port.stopListening()
        self.doors.wait(DRAIN - 1.0)
        self.assertNoResult(stopped)
        self.doors.wait(2.0)
        self.successResultOf(stopped)
        self.assertIsNotNone(peer.reason)

    def test_stopBeforeTheGatewayCame(self) -> None:
        """What was never served is stopped at once."""
        stopped = self.port.stopListening()
        self.doors.pump()
        self.successResultOf(stopped)
        self.assertTrue(self.doors.network.attempts[-1].cancelled)

    def test_notAgain(self) -> None:
        """A stopped port is not opened again."""
        self.assertRaises(CannotListenError, self.port.startListening)


class ConnectTests(TunnelTestCase):
    """
    L{ClientTunnel}, and L{ClientStreams} at the other end.
    """

    def setUp(self) -> None:
        super().setUp()
        self.doors.attached("box", SSH, WEB)
        self.secret = SECRET
        self.tunnel = ClientTunnel(self.doors.clock, self.doors.network, lambda: introduction("laptop", self.secret))

    def open(self, host: str, port: int = 0) -> tuple[Peer, Deferred[IProtocol]]:
        """Open a stream."""
        peer = Peer()
        opened = self.tunnel.connect(Target(host, port), Factory.forProtocol(lambda: peer))
        self.doors.pump()
        return peer, opened

    def attach(self) -> None:
        """The session comes about, if it does not stand."""
        self.doors.accept()

    def assertFails(self, opened: Deferred[IProtocol], kind: DialFailure) -> str:
        """What the stream failed with."""
        error = self.failureResultOf(opened, DialFailed).value
        self.assertIs(error.kind, kind, error.details)
        return str(error.details)

    def test_service(self) -> None:
        """A stream leads to an agent's service, once the agent has reached its origin."""
        peer, opened = self.open("ssh.box.agent")
        self.attach()
        self.assertNoResult(opened)
        self.assertEqual(self.doors.preambles[-1].to, "ssh")
        origin = self.doors.originAccepts()
        self.assertIs(self.successResultOf(opened), peer)
        peer.transport.write(b"hello")
        origin.transport.write(b"SSH-2.0")
        self.doors.pump()
        self.assertEqual((peer.received, origin.received), (b"SSH-2.0", b"hello"))

    def test_publicName(self) -> None:
        """A stream leads to whoever serves a public name."""
        _, opened = self.open("app.example.com")
        self.attach()
        self.doors.originAccepts()
        self.successResultOf(opened)
        self.assertEqual(self.doors.preambles[-1].to, "web")

    def test_shared(self) -> None:
        """All streams share a session, which takes over from nobody."""
        self.open("ssh.box.agent")
        self.open("web.box.agent")
        self.attach()
        self.open("ssh.box.agent")
        self.assertEqual(len(self.doors.network.attempts), 2)  # the other is the agent's
        self.assertEqual([each.to for each in self.doors.preambles], ["ssh", "web", "ssh"])
        other = ClientTunnel(self.doors.clock, self.doors.network, lambda: introduction("laptop"))
        other.connect(Target("ssh.box.agent", 0), Factory.forProtocol(Peer))
        self.attach()
        self.assertEqual(len(list(self.doors.registry.replicas("laptop"))), 2)

    def test_denied(self) -> None:
        """Each stream is checked by the rules of the client's grant."""
        self.open("ssh.box.agent")
        self.attach()
        for host, port in (("ssh.secret.agent", 0), ("box.agent", 23), ("other.example.com", 0), ("192.0.2.1", 22)):
            self.assertFails(self.open(host, port)[1], DialFailure.DENIED)

    def test_nothingWithoutRules(self) -> None:
        """A client whose entry has no rules reaches nothing."""
        self.doors.authority.replaceEntries([replace(self.doors.entry, grant=EVERYTHING)])
        _, opened = self.open("ssh.box.agent")
        self.attach()
        self.assertFails(opened, DialFailure.DENIED)

    def test_rulesChange(self) -> None:
        """What the rules are now is what counts."""
        self.open("ssh.box.agent")
        self.attach()
        self.doors.authority.replaceEntries([replace(self.doors.entry, grant=EVERYTHING)])
        self.doors.door.authorityChanged()
        self.doors.pump()
        self.assertFails(self.open("ssh.box.agent")[1], DialFailure.DENIED)

    def test_nobody(self) -> None:
        """A name that nobody serves is told apart from one that is forbidden."""
        _, opened = self.open("db.box.agent")
        self.attach()
        self.assertFails(opened, DialFailure.NAME)
        self.doors.links[0].a.abortConnection()
        self.doors.pump()
        self.assertFails(self.open("app.example.com")[1], DialFailure.NAME)

    def test_unreached(self) -> None:
        """What the agent says of its origin is what the client hears."""
        _, opened = self.open("ssh.box.agent")
        self.attach()
        self.doors.origins.attempts[-1].fail(ConnectionRefusedError())
        self.doors.pump()
        self.assertFails(opened, DialFailure.REFUSED)

    def test_tooMany(self) -> None:
        """A grant's limit of streams holds for a client's own, too."""
        grant = replace(self.doors.entry.grant, streams=1)
        self.doors.authority.replaceEntries([replace(self.doors.entry, grant=grant)])
        _, first = self.open("ssh.box.agent")
        self.attach()
        self.doors.originAccepts()
        self.successResultOf(first)
        self.assertFails(self.open("ssh.box.agent")[1], DialFailure.UNAVAILABLE)

    def test_rate(self) -> None:
        """So does its limit of bytes per second, in each direction."""
        grant = replace(self.doors.entry.grant, bytesPerSecond=1000)
        self.doors.authority.replaceEntries([replace(self.doors.entry, grant=grant)])
        peer, _ = self.open("ssh.box.agent")
        self.attach()
        origin = self.doors.originAccepts()
        for one, other in ((peer, origin), (origin, peer)):
            one.transport.write(bytes(1000))
            self.doors.pump()
            one.transport.write(bytes(2000))
            self.doors.wait(0.25)
            one.transport.write(b"!")
            self.doors.wait(1.0)
            self.assertEqual(len(other.received), 3000)
            self.doors.wait(2.0)
            self.assertEqual(len(other.received), 3001)

    def test_unauthorized(self) -> None:
        """A credential that is not good is told, and tried again for the next stream."""
        self.secret = "wrong"
        _, opened = self.open("ssh.box.agent")
        self.attach()
        self.assertFails(opened, DialFailure.DENIED)
        self.secret = SECRET
        self.open("ssh.box.agent")
        self.attach()
        self.assertEqual(self.doors.preambles[-1].to, "ssh")

    def test_noGateway(self) -> None:
        """A gateway that cannot be reached fails every stream that waits for it."""
        waiting = [self.open("ssh.box.agent")[1] for _ in range(2)]
        self.doors.network.attempts[-1].fail(ConnectionRefusedError())
        for opened in waiting:
            self.assertFails(opened, DialFailure.UNREACHABLE)

    def test_cancel(self) -> None:
        """The last one to lose interest ends the attempt."""
        one, other = (self.open("ssh.box.agent")[1] for _ in range(2))
        one.cancel()
        self.failureResultOf(one)
        self.assertFalse(self.doors.network.attempts[-1].cancelled)
        other.cancel()
        self.failureResultOf(other)
        self.assertTrue(self.doors.network.attempts[-1].cancelled)

    def test_idle(self) -> None:
        """A session without streams is ended after a while, and made again for the next one."""
        peer, _ = self.open("ssh.box.agent")
        self.attach()
        self.doors.originAccepts()
        self.doors.wait(3 * IDLE)
        self.assertEqual(len(self.doors.door.sessions), 2)
        peer.transport.abortConnection()
        self.doors.wait(2 * IDLE + 1)
        self.assertEqual(len(self.doors.door.sessions), 1)
        _, opened = self.open("ssh.box.agent")
        self.attach()
        self.doors.originAccepts()
        self.successResultOf(opened)

    def test_gatewayDrains(self) -> None:
        """When the gateway goes away, streams go on, and the next one is opened in another session."""
        peer, _ = self.open("ssh.box.agent")
        self.attach()
        origin = self.doors.originAccepts()
        (session,) = (each for each in self.doors.door.sessions if each.agent == "laptop")
        session.drain(30.0, "A test.")
        self.doors.pump()
        self.open("ssh.box.agent")
        self.attach()
        peer.transport.write(b"still here")
        self.doors.pump()
        self.assertEqual(origin.received, b"still here")
        self.assertEqual(len(self.doors.door.sessions), 3)

    def test_vacancy(self) -> None:
        """The gateway knows when the last of these streams is over."""
        peer, _ = self.open("ssh.box.agent")
        self.attach()
        self.doors.originAccepts()
        over = self.streams.vacancy.awaited()
        self.assertNoResult(over)
        peer.transport.abortConnection()
        self.doors.pump()
        self.successResultOf(over)


class StringTests(SynchronousTestCase):
    """What is written, and what is made of it."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.secret = Path(self.mktemp())
        self.secret.write_text(SECRET)
        self.credentials = f"credentials={self.secret}"

    def client(self, description: str) -> IStreamClientEndpoint:
        """As a program does that knows nothing of ours."""
        return cast(IStreamClientEndpoint, clientFromString(self.reactor, description))

    def server(self, description: str) -> IStreamServerEndpoint:
        """As a program does that knows nothing of ours."""
        return cast(IStreamServerEndpoint, serverFromString(self.reactor, description))

    def listen(self, description: str) -> IListeningPort:
        """Listen there."""
        listening: Deferred[IListeningPort] = self.server(description).listen(Factory.forProtocol(Peer))
        return self.successResultOf(listening)

    def test_client(self) -> None:
        """A name, and a port where there has to be one."""
        for text in ("ssh.box.agent", "app.example.com", "box.agent:port=22:timeout=5:agent=laptop"):
            self.assertIsInstance(self.client(f"tunnel:{text}:{VIA}:{self.credentials}"), TunnelClientEndpoint)

    def test_clientShares(self) -> None:
        """What is connected to with the same options shares a session."""
        for text in ("ssh.box.agent", "web.box.agent", "ssh.box.agent"):
            self.client(f"tunnel:{text}:{VIA}:{self.credentials}").connect(Factory.forProtocol(Peer))
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.client(f"tunnel:ssh.box.agent:{VIA}:{self.credentials}:agent=other").connect(Factory.forProtocol(Peer))
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_clientTimeout(self) -> None:
        """A stream that does not come about in time fails."""
        endpoint = self.client(f"tunnel:ssh.box.agent:{VIA}:{self.credentials}:agent=slow:timeout=5")
        connecting = endpoint.connect(Factory.forProtocol(Peer))
        self.reactor.advance(5)
        self.assertIs(self.failureResultOf(connecting, DialFailed).value.kind, DialFailure.TIMEOUT)

    def test_server(self) -> None:
        """Names and ports, and how they are served. A connection is one visitor's, whom its peer is."""
        options = HttpOptions(proxyPerVisitor=True)
        for text, expected in (
            (
                "app.example.com",
                Service(key="app-example-com", kind="http", hostnames=("app.example.com",), http=options),
            ),
            (
                "a.example.com,*.b.example.com:kind=tls:tls=terminate",
                Service(
                    key="a-example-com-b-example-com",
                    kind="tls",
                    hostnames=("a.example.com", "*.b.example.com"),
                    tls="terminate",
                ),
            ),
            ("tcp:2222", Service(key="tcp-2222", kind="tcp", port=2222)),
            ("tcp:0", Service(key="tcp-0", kind="tcp", port=0)),
            ("tcp:2223:service=ssh", Service(key="ssh", kind="tcp", port=2223)),
            (
                "app.example.com:service=web",
                Service(key="web", kind="http", hostnames=("app.example.com",), http=options),
            ),
        ):
            port = self.listen(f"tunnel:{text}:{VIA}:{self.credentials}:replica=a:drain=5")
            self.assertEqual(port.service, expected)  # type: ignore[attr-defined]
        self.assertIsInstance(self.server(f"tunnel:x.example.com:{VIA}"), TunnelServerEndpoint)

    def test_serverShares(self) -> None:
        """What is published with the same options shares a session, and what is published twice is refused."""
        ports = [self.listen(f"tunnel:{name}.example.com:{VIA}:agent=shares") for name in "ab"]
        self.assertEqual(len(self.reactor.tcpClients), 1)
        again = self.server(f"tunnel:a.example.com:{VIA}:agent=shares").listen(Factory())
        self.failureResultOf(again, CannotListenError)
        for port in ports:
            port.stopListening()
        self.listen(f"tunnel:a.example.com:{VIA}:agent=shares")
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_mistakes(self) -> None:
        """A mistake is told in a line that names the option."""
        client, server = self.client, self.server
        for make, text, expected in (
            (client, "tunnel:ssh.box.agent", "via: "),
            (client, "tunnel:ssh.box.agent:via=http\\://gw.example", "via: "),
            (client, "tunnel:ssh.box.agent:via=ws\\://gw.example/agent", "via: ws:// is not encrypted"),
            (client, f"tunnel:ssh.box.agent:{VIA}:secret=x", "no option 'secret'"),
            (client, f"tunnel:ssh.box.agent:{VIA}:replica=x", "no option 'replica'"),
            (client, f"tunnel:ssh.box.agent:{VIA}:agent=NO", "agent: "),
            (client, f"tunnel:ssh.box.agent:{VIA}:port=x", "port"),
            (client, f"tunnel:ssh.box.agent:{VIA}:timeout=x", "timeout: "),
            (client, f"tunnel:box.agent:22:{VIA}", "port=22"),
            (client, f"tunnel:ssh.box.agent:{VIA}:credentials=x:jwt=y", "credentials"),
            (server, f"tunnel:app.example.com:{VIA}:kind=udp", "kind: "),
            (server, f"tunnel:app.example.com:{VIA}:tls=terminate", "tls: "),
            (server, f"tunnel:tcp:2222:{VIA}:kind=tls", "kind"),
            (server, f"tunnel:tcp:x:{VIA}", "port"),
            (server, f"tunnel:app example:{VIA}", "not a host name"),
            (server, f"tunnel:tcp:22:{VIA}:service=A", "key"),
            (server, f"tunnel:udp:53:{VIA}", "tunnel:tcp:PORT"),
            (server, "tunnel:app.example.com", "via: "),
        ):
            with self.subTest(text):
                error = self.assertRaises(ValueError, make, text)
                self.assertIn(expected, str(error))
                self.assertNotIn("\n", str(error))

    def test_documented(self) -> None:
        """Each option on the page can be used, where it says so."""
        files = {
            "credentials": str(self.secret),
            "jwt": str(self.secret),
            "kind": "tls",
            "tls": "terminate:kind=tls",
            "key": "7:certificate=7",
        }
        page = tables("reference/endpoints.md")
        title = "Options of `tunnel:`, to "
        for rows, read in (
            (page[f"{title}listen on and to connect to:"], (self.client, self.server)),
            (page[f"{title}listen on:"], (self.server,)),
            (page[f"{title}connect to:"], (self.client,)),
        ):
            for name in (row[0].strip("`") for row in rows):
                value = files.get(name, {"pin": PIN, "proxy": "http\\://192.0.2.1\\:3128"}.get(name, "7"))
                via = "via=wss\\://gw.example/agent" if name != "via" else f"{VIA}:agent=a"
                option = "" if name == "via" else f":{name}={value}"
                for each in read:
                    with self.subTest(name):
                        each(f"tunnel:app.example.com:{via}{option}")

    def test_secretFromTheEnvironment(self) -> None:
        """Without C{credentials} there is C{GATEWAY_SECRET}; a file that cannot be read is told to who connects."""
        environment: Mapping[str, str] = {**os.environ, "GATEWAY_SECRET": SECRET}
        self.patch(os, "environ", environment)
        self.client(f"tunnel:ssh.box.agent:{VIA}:agent=env").connect(Factory.forProtocol(Peer))
        self.assertEqual(len(self.reactor.tcpClients), 1)
        connecting = self.client(f"tunnel:ssh.box.agent:{VIA}:credentials=missing").connect(Factory.forProtocol(Peer))
        self.assertIn("missing", self.failureResultOf(connecting, DialFailed).value.details)
