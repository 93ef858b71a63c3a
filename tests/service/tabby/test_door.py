"""Tests for L{gateway.service.tabby.door}: who may come in, and what is done to all visitors at once."""

from ipaddress import ip_network

from twisted.internet.defer import Deferred

from gateway.domain.identity import Identity, Limits
from gateway.domain.limits import Bans
from gateway.domain.targets import parseRule
from gateway.domain.tokens import hashToken
from gateway.domain.tokensfile import TokensFile
from gateway.service.tabby.door import TabbySettings
from gateway.service.tabby.session import LINGER, LINGER_LIMIT
from tests.service.tabby.tabbyfixture import TOKEN, GatewayTestCase, TabbyFixture

WRONG = "QWRONGQ"
ALICES = "WZKXQVJZWKXQVJWZKXQVJWZK"
BOBS = "VQKZJXWVKQZJWXVKQJZWXVKQ"

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48"))


def fileOf(**tokens: str) -> TokensFile:
    """A tokens file of names and tokens."""
    return TokensFile(tokens={name: Identity(name, revision=hashToken(token)) for name, token in tokens.items()})


class DoorTestCase(GatewayTestCase):
    """With a helper for gateways that take L{TOKEN}."""

    secrets = (TOKEN, WRONG, ALICES, BOBS)

    def gatewayWith(self, **settings: object) -> TabbyFixture:
        """A gateway with these L{TabbySettings}."""
        return TabbyFixture.make(environmentToken=TOKEN, settings=TabbySettings(**settings))  # type: ignore[arg-type]


class BanTests(DoorTestCase):
    """Addresses that show wrong tokens too often."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway = TabbyFixture.make(environmentToken=TOKEN, bans=Bans(3, window=60, duration=600))

    def fail(self, times: int, host: str = "198.51.100.7", **headers: str) -> None:  # type: ignore[override]
        """Show a wrong token so many times."""
        for _ in range(times):
            self.assertError(self.gateway.greeted(WRONG, host=host, **headers), "incorrect-auth-token")

    def test_oneBeforeTheThreshold(self) -> None:
        """One failure less than the threshold bans nobody."""
        self.fail(2)
        self.assertFalse(self.gateway.isDropped())
        self.assertEqual(self.logged("tabby.banned"), [])

    def test_atTheThreshold(self) -> None:
        """At the threshold the address is banned, which one line says; its connections are dropped unread."""
        self.fail(3)
        self.assertTrue(self.gateway.isDropped())
        (event,) = self.logged("tabby.banned")
        self.assertEqual(event["visitor"], "198.51.100.7")

    def test_banEnds(self) -> None:
        """A ban lasts exactly its time."""
        self.fail(3)
        self.gateway.advance(599.9)
        self.assertTrue(self.gateway.isDropped())
        self.gateway.advance(0.1)
        self.assertFalse(self.gateway.isDropped())

    def test_onlyThatAddress(self) -> None:
        """Another IPv4 address is not banned with it."""
        self.fail(3)
        self.assertFalse(self.gateway.isDropped("198.51.100.8"))

    def test_IPv6By64(self) -> None:
        """IPv6 is banned by its /64: the neighbour in it is, the next network is not."""
        for last in range(3):
            self.fail(1, f"2001:db8::{last + 1}")
        self.assertTrue(self.gateway.isDropped("2001:db8::abcd:1"))
        self.assertFalse(self.gateway.isDropped("2001:db8:0:1::1"))

    def test_mappedAddressIsTheSame(self) -> None:
        """An IPv4 address that is seen through a dual-stack socket is banned as itself."""
        self.fail(2, "::ffff:198.51.100.7")
        self.fail(1, "198.51.100.7")
        self.assertTrue(self.gateway.isDropped("::ffff:198.51.100.7"))

    def test_successForgives(self) -> None:
        """The right token makes the failures before it forgotten."""
        self.fail(2)
        self.gateway.greeted(TOKEN)
        self.fail(2)
        self.assertFalse(self.gateway.isDropped())

    def test_noTokenIsNoFailure(self) -> None:
        """A client without a token is not guessing one: it is not counted."""
        for _ in range(5):
            self.gateway.greeted(None)
        self.assertFalse(self.gateway.isDropped())

    def test_liveSessionsStay(self) -> None:
        """A ban does not end the sessions that the address has."""
        visitor, _ = self.gateway.session()
        self.fail(3)
        visitor.send(b"x")
        self.assertFalse(visitor.isGone)

    def test_noGuessesBeyondTheBan(self) -> None:
        """Connections opened before the ban bring no further guess, right or wrong: the answer is rate-limited."""
        waiting = [self.gateway.visit() for _ in range(2)]
        self.fail(3)
        waiting[0].say(_="hello", auth_token=TOKEN)
        waiting[1].say(_="hello", auth_token=WRONG)
        for visitor in waiting:
            self.assertError(visitor, "rate-limited")

    def test_proxiesAreNeverBanned(self) -> None:
        """Wrong tokens through a trusted proxy ban whom it names; the proxy itself stays, named or not."""
        self.gateway = TabbyFixture.make(
            environmentToken=TOKEN, bans=Bans(3), settings=TabbySettings(trustedProxies=PROXIES)
        )
        self.fail(3, "10.0.0.1", X_Forwarded_For="198.51.100.7")
        self.fail(5, "10.0.0.1")
        self.assertEqual(self.gateway.visit(host="10.0.0.1", X_Forwarded_For="198.51.100.7").answer.status, 429)
        self.assertEqual(self.gateway.greeted(host="10.0.0.1", X_Forwarded_For="198.51.100.8").kinds[-1], "ready")
        self.assertEqual(self.gateway.greeted(host="10.0.0.1").kinds[-1], "ready")

    def test_visitorsOfAUNIXSocketAreNeverBanned(self) -> None:
        """Over a UNIX socket all visitors look alike, so that one of them cannot shut the others out."""
        self.fail(5, "")
        self.assertFalse(self.gateway.isDropped(""))


class AdmissionTests(DoorTestCase):
    """Connections beyond a limit are dropped before a byte is read."""

    def test_capOnUnauthenticated(self) -> None:
        """Connections without a token yet have a cap; those with one do not count."""
        gateway = TabbyFixture.make(environmentToken=TOKEN, limits={"unauthenticated": 2})
        gateway.greeted(TOKEN)
        gateway.arrive("192.0.2.1")
        gateway.visit(host="192.0.2.2")
        self.assertTrue(gateway.isDropped("192.0.2.3"))
        self.assertEqual(gateway.metric('refused_total{reason="too-many-unauthenticated"}'), 1)

    def test_capPerAddress(self) -> None:
        """One address has a cap of its own, sessions included; when one leaves there is room."""
        gateway = TabbyFixture.make(environmentToken=TOKEN, limits={"perAddress": 2})
        visitor, _ = gateway.session()
        gateway.visit()
        self.assertTrue(gateway.isDropped())
        self.assertFalse(gateway.isDropped("192.0.2.1"))
        visitor.vanish()
        self.assertFalse(gateway.isDropped())

    def test_newPerSecond(self) -> None:
        """New connections have a rate; a second later there is room again."""
        gateway = TabbyFixture.make(environmentToken=TOKEN, limits={"newPerSecond": 3})
        self.assertEqual([gateway.isDropped(f"192.0.2.{n}") for n in range(4)], [False, False, False, True])
        gateway.advance(1)
        self.assertFalse(gateway.isDropped())

    def test_refusalsAreNotALineEach(self) -> None:
        """A thousand refused connections are a line for the first and one sum."""
        gateway = TabbyFixture.make(environmentToken=TOKEN, limits={"perAddress": 1})
        gateway.visit()
        for _ in range(1000):
            gateway.isDropped()
        gateway.advance(10)
        self.assertEqual(len(self.logged("gateway.refused")), 1)
        self.assertEqual([event["count"] for event in self.logged("gateway.refused-more")], [999])

    def test_limitsBehindAProxy(self) -> None:
        """Behind a trusted proxy each visitor has the limits of the address that it really comes from: 429."""
        gateway = TabbyFixture.make(
            environmentToken=TOKEN, limits={"perAddress": 1}, settings=TabbySettings(trustedProxies=PROXIES)
        )
        statuses = [
            gateway.visit(host="10.0.0.1", X_Forwarded_For=client).answer.status
            for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        ]
        self.assertEqual(statuses, [101, 101, 429])


class ForwardedTests(DoorTestCase):
    """Whose address a connection through a proxy counts as."""

    def visitorSeen(self, peer: str, *lines: str) -> str:
        """The address in the log, of a connection from a peer with these X-Forwarded-For lines."""
        gateway = self.gatewayWith(trustedProxies=PROXIES)
        visitor = gateway.arrive(peer)
        forwarded = "".join(f"X-Forwarded-For: {line}\r\n" for line in lines).encode("latin-1")
        head, end, _ = visitor.codec.request().rpartition(b"\r\n")
        visitor.write(head + forwarded + end)
        self.assertEqual(visitor.answer.status, 101)
        visitor.say(_="nonsense")
        return str(self.logged("tabby.turned-away")[-1]["visitor"])

    def test_strangersAreNotBelieved(self) -> None:
        """The header of somebody who is not a trusted proxy is ignored."""
        self.assertEqual(self.visitorSeen("198.51.100.7", "192.0.2.1"), "198.51.100.7")

    def test_lastStranger(self) -> None:
        """Of a chain, the last address that is not a trusted proxy's is the visitor; what is before may be invented."""
        for chain, visitor in (
            ("192.0.2.1", "192.0.2.1"),
            ("1.1.1.1, 192.0.2.1", "192.0.2.1"),
            ("127.0.0.1, 192.0.2.1, 10.2.3.4", "192.0.2.1"),
            ("10.9.9.9, 192.0.2.1,10.0.0.2 , 10.0.0.3", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:db8::1, 2001:db8:ffff::2", "2001:db8::1"),
        ):
            self.assertEqual(self.visitorSeen("10.0.0.1", chain), visitor)

    def test_severalLines(self) -> None:
        """Several lines are one list, in order (RFC 9110, section 5.3)."""
        self.assertEqual(self.visitorSeen("10.0.0.1", "1.1.1.1", "192.0.2.1, 10.0.0.2", "10.0.0.3"), "192.0.2.1")

    def test_nothingForwarded(self) -> None:
        """A proxy that names nobody, or only proxies, is the visitor itself: the one farthest away."""
        self.assertEqual(self.visitorSeen("10.0.0.1"), "10.0.0.1")
        self.assertEqual(self.visitorSeen("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3")

    def test_garbageEndsTheChain(self) -> None:
        """What is no address cannot be skipped over to one that the visitor made up."""
        for garbage in ("unknown", "_hidden", "", "<b>", "999.1.1.1", "fe80::1%<b>", "[fe80::1%x]:1"):
            self.assertEqual(self.visitorSeen("10.0.0.1", f"192.0.2.1, {garbage}"), "10.0.0.1")

    def test_proxyInIPv6AndMapped(self) -> None:
        """A proxy may have an IPv6 address, or be seen through a dual-stack socket."""
        self.assertEqual(self.visitorSeen("2001:db8:ffff::1", "192.0.2.1"), "192.0.2.1")
        self.assertEqual(self.visitorSeen("::ffff:10.0.0.1", "192.0.2.1"), "192.0.2.1")


class OriginTests(DoorTestCase):
    """Which pages may connect, and under which names."""

    def status(self, gateway: TabbyFixture, **headers: str) -> int:
        """The answer to an upgrade request with these headers."""
        answer = gateway.visit(**headers).answer
        if answer.status == 403:
            self.assertRegex(answer.body, rb"\w{4,}")
        return answer.status

    def test_anyOriginByDefault(self) -> None:
        """With tokens any page may connect: the token is what counts."""
        self.assertEqual(self.status(self.gatewayWith(), Origin="https://any.test"), 101)

    def test_allowedOrigins(self) -> None:
        """With a list only its origins may connect, whatever their case; a client that is no browser has none."""
        gateway = self.gatewayWith(origins=frozenset({"https://app.test"}))
        self.assertEqual(self.status(gateway, Origin="https://APP.test"), 101)
        for origin in (
            "https://other.test",
            "http://app.test",
            "https://app.test:8443",
            "https://app.test.evil.test",
            "null",
        ):
            self.assertEqual(self.status(gateway, Origin=origin), 403, origin)
        self.assertEqual(self.status(gateway), 101)
        self.assertEqual(len(self.logged("tabby.refused")), 5)

    def test_sameHostWithoutAuthentication(self) -> None:
        """With no list, only pages of the host that was asked may connect, port included."""
        gateway = self.gatewayWith(origins=frozenset(), hosts=frozenset({"localhost"}))
        for host, origin, status in (
            ("localhost:9000", "http://localhost:9000", 101),
            ("127.0.0.1:9000", "http://127.0.0.1:9000", 101),
            ("[::1]:9000", "http://[::1]:9000", 101),
            ("localhost:9000", "http://localhost:8000", 403),
            ("localhost:9000", "http://evil.test", 403),
            ("localhost:9000", "null", 403),
            ("localhost:9000", "http://localhost:9000.evil.test", 403),
        ):
            self.assertEqual(self.status(gateway, Host=host, Origin=origin), status, (host, origin))

    def test_rebinding(self) -> None:
        """
        A page whose own name was made to mean this gateway is of the same host, and refused by that name.
        """
        gateway = self.gatewayWith(origins=frozenset(), hosts=frozenset({"localhost"}))
        self.assertEqual(self.status(gateway, Host="evil.test:9000", Origin="http://evil.test:9000"), 403)

    def test_hostileHosts(self) -> None:
        """Whatever a Host header holds, the answer is a page or an upgrade, and never a traceback."""
        for host in (
            "[::1",
            "[x]",
            "[v1.x]",
            "a b",
            "user@localhost",
            "localhost/x",
            "a" * 300,
            "\xbd",
            "x:y",
            ":",
            "[]",
        ):
            gateway = self.gatewayWith(origins=frozenset(), hosts=frozenset({"localhost"}))
            self.assertEqual(self.status(gateway, Host=host), 403, host)
            self.assertIn(self.status(self.gatewayWith(), Host=host), (101, 400))

    def test_missingHost(self) -> None:
        """A request with an empty Host is not one under an allowed name, and one without a Host is none at all."""
        gateway = self.gatewayWith(origins=frozenset(), hosts=frozenset({"localhost"}))
        self.assertIn(self.status(gateway, Host=""), (400, 403))

    def test_refusedPageIsShownSafely(self) -> None:
        """A hostile name in the refusal is plain ASCII text, and short."""
        gateway = self.gatewayWith(origins=frozenset({"https://app.test"}))
        answer = gateway.visit(Origin="https://\xe9<script>" + "x" * 500).answer
        self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertTrue(answer.body.isascii() and len(answer.body) < 250)


class PageTests(DoorTestCase):
    """What people see who come with a browser or curl."""

    def test_statusPage(self) -> None:
        """A plain GET, on any path, says what this is and which URL to paste."""
        for path in ("/", "/index.html", "/any?x=y"):
            answer = self.gatewayWith().get(path)
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/html; charset=utf-8"))
            self.assertIn(b"connection gateway for Tabby Web", answer.body)
            self.assertIn(b"<code>ws://gateway.test</code>", answer.body)

    def test_URLofATLSPort(self) -> None:
        """On a TLS port the URL is wss."""
        self.assertIn(
            b"<code>wss://gateway.test</code>", TabbyFixture.make(environmentToken=TOKEN, secure=True).get().body
        )

    def test_URLbehindAProxy(self) -> None:
        """A trusted proxy says whether the outside is TLS; anybody else may not."""
        gateway = self.gatewayWith(trustedProxies=PROXIES)
        self.assertIn(b">wss://", gateway.get(host="10.0.0.1", X_Forwarded_Proto="https").body)
        self.assertIn(b">ws://", gateway.get(host="10.0.0.1", X_Forwarded_Proto="http").body)
        self.assertIn(b">ws://", gateway.get(host="192.0.2.1", X_Forwarded_Proto="https").body)

    def test_publicURL(self) -> None:
        """The public URL is shown when there is one, whatever the request says."""
        body = self.gatewayWith(publicURL="wss://gw.example.com").get(Host="other.test").body
        self.assertIn(b"<code>wss://gw.example.com</code>", body)
        self.assertNotIn(b"other.test", body)

    def test_hostileHostIsEscaped(self) -> None:
        """A Host header cannot put markup into the page."""
        body = self.gatewayWith().get(Host="<script>alert(1)</script>\"'&").body
        self.assertNotIn(b"<script>", body)
        self.assertIn(b"&lt;script&gt;", body)

    def test_head(self) -> None:
        """HEAD gets the same head and no body."""
        gateway = self.gatewayWith()
        head, get = gateway.get(method="HEAD"), gateway.get()
        self.assertEqual((head.status, head.headers, head.body), (get.status, get.headers, b""))

    def test_health(self) -> None:
        """/healthz is 200 ok, and 503 draining once the gateway is to stop."""
        gateway = self.gatewayWith()
        gateway.session()
        answer = gateway.get("/healthz")
        self.assertEqual((answer.status, answer.body), (200, b"ok\n"))
        Deferred.fromCoroutine(gateway.door.drain(10, gateway.draining))
        answer = gateway.get("/healthz")
        self.assertEqual((answer.status, answer.body), (503, b"draining\n"))

    def test_noMetricsHere(self) -> None:
        """Metrics are for the management side only; here is no such page."""
        for path in ("/metrics", "/metrics?x", "/favicon.ico", "/robots.txt"):
            answer = self.gatewayWith().get(path)
            self.assertEqual(answer.status, 404)
            self.assertNotIn(b"txgateway_", answer.body)

    def test_otherMethods(self) -> None:
        """Other methods get 405 with the allowed ones."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = self.gatewayWith().get(method=method)
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))

    def test_lostUpgrade(self) -> None:
        """A WebSocket request whose Upgrade header a proxy removed gets 426 with what to do, and one log line."""
        answer = self.gatewayWith().visit(Upgrade="", Connection="close").answer
        self.assertEqual((answer.status, answer.headers["upgrade"]), (426, "websocket"))
        self.assertIn(b"proxy in front", answer.body)
        self.assertEqual(len(self.logged("tabby.upgrade-lost")), 1)

    def test_badRequest(self) -> None:
        """What is not HTTP gets a 400, too long a head a 431; neither a traceback."""
        gateway = self.gatewayWith()
        for garbage, status in ((b"SSH-2.0-OpenSSH\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000, 431)):
            visitor = gateway.arrive()
            visitor.write(garbage)
            visitor.write(b"\r\n\r\n")
            self.assertEqual(visitor.answer.status, status)
            self.assertTrue(visitor.isGone)

    def test_pagesShowNoToken(self) -> None:
        """No page repeats what stands in the URL, which people put tokens into."""
        for path in (f"/?token={TOKEN}", f"/{TOKEN}", f"/metrics?{TOKEN}"):
            self.assertNotIn(TOKEN[:4].encode(), self.gatewayWith().get(path).body)
        self.gatewayWith().visit(f"/?token={TOKEN}")


class RevocationTests(DoorTestCase):
    """Tokens that are not good any more."""

    def test_endsThoseSessionsAndOnlyThose(self) -> None:
        """A token that is gone from the file ends its sessions, which are told; all others go on."""
        gateway = TabbyFixture.make(environmentToken=TOKEN, file=fileOf(alice=ALICES, bob=BOBS))
        alice, alicesTarget = gateway.session(ALICES)
        bob, _ = gateway.session(BOBS)
        env, _ = gateway.session(TOKEN)
        nobody = gateway.visit()
        gateway.oneShot.authorize(WRONG)
        once, _ = gateway.session(WRONG)
        gateway.authority.replaceFile(fileOf(bob=BOBS))
        gateway.door.tokensChanged()
        gateway.pump()
        self.assertIn("no longer valid", self.assertError(alice, "session-expired"))
        self.assertIsNotNone(alicesTarget.reason)
        for other in (bob, env, once, nobody):
            self.assertIsNone(other.error)
            self.assertFalse(other.isGone)
        self.assertError(gateway.greeted(ALICES), "incorrect-auth-token")
        self.assertEqual([event["cause"] for event in self.logged("tabby.closed")], ["revoked"])

    def test_newTokenUnderTheOldName(self) -> None:
        """A name that has another token now ends the sessions of the old one."""
        gateway = TabbyFixture.make(file=fileOf(alice=ALICES))
        visitor, _ = gateway.session(ALICES)
        gateway.authority.replaceFile(fileOf(alice=BOBS))
        gateway.door.tokensChanged()
        gateway.pump()
        self.assertError(visitor, "session-expired")

    def test_beforeTheSession(self) -> None:
        """It ends too what is not a session yet: between ready and connect, and while dialling."""
        gateway = TabbyFixture.make(file=fileOf(alice=ALICES))
        ready, dialling = gateway.greeted(ALICES), gateway.dialling(ALICES)
        gateway.authority.replaceFile(TokensFile())
        gateway.door.tokensChanged()
        gateway.pump()
        self.assertError(ready, "session-expired")
        self.assertError(dialling, "session-expired")
        self.assertTrue(gateway.dial.cancelled)


class ChangedTokenTests(DoorTestCase):
    """Tokens that are still good, and say something else than before."""

    def reload(self, gateway: TabbyFixture, **changes: object) -> None:
        """Read the file again, in which alice's token has other values now."""
        alice = Identity("alice", revision=hashToken(ALICES), **changes)  # type: ignore[arg-type]
        gateway.authority.replaceFile(TokensFile(tokens={"alice": alice}))
        gateway.door.tokensChanged()
        gateway.pump()

    def test_timeLimit(self) -> None:
        """A new limit of time holds for a session that is open, from its beginning; so does the end of one."""
        for before, after, ends in ((None, 60.0, 60), (50.0, 60.0, 60), (60.0, None, None), (60.0, 20.0, 40)):
            gateway = TabbyFixture.make(file=fileOf(alice=ALICES))
            self.reload(gateway, limits=Limits(seconds=before))
            visitor, _ = gateway.session(ALICES)
            gateway.advance(40)
            self.reload(gateway, limits=Limits(seconds=after))
            if ends is None:
                gateway.advance(1000)
                self.assertFalse(visitor.isGone)
                continue
            gateway.advance(max(0, ends - 40 - 0.1))
            self.assertEqual(visitor.error is None, ends > 40)
            gateway.advance(0.1)
            self.assertIn("time limit", self.assertError(visitor, "session-expired"))

    def test_expiry(self) -> None:
        """A new expiry is when an open session ends."""
        gateway = TabbyFixture.make(file=fileOf(alice=ALICES))
        visitor, _ = gateway.session(ALICES)
        self.reload(gateway, expires=gateway.wallClock.seconds() + 30)
        gateway.advance(29.9)
        self.assertIsNone(visitor.error)
        gateway.advance(0.1)
        self.assertError(visitor, "session-expired")

    def test_duringTheDial(self) -> None:
        """A session that is not open yet begins under the new limits."""
        gateway = TabbyFixture.make(file=fileOf(alice=ALICES))
        visitor = gateway.dialling(ALICES)
        self.reload(gateway, limits=Limits(seconds=5))
        gateway.acceptDial()
        gateway.advance(5)
        self.assertError(visitor, "session-expired")

    def test_targets(self) -> None:
        """A visitor that has shown its token, and not yet said where to, is held to the new targets."""
        gateway = TabbyFixture.make(file=fileOf(alice=ALICES))
        visitor = gateway.greeted(ALICES)
        rules = (parseRule("allow", "only.test"),)
        self.reload(gateway, targets=rules)
        visitor.say(_="connect", host="box.test", port=22)
        self.assertEqual(gateway.asked[-1][1].targets, rules)

    def test_afterTheEnd(self) -> None:
        """A session whose good-bye is under way is not given any more time."""
        gateway = TabbyFixture.make(file=fileOf(alice=ALICES))
        visitor, target = gateway.session(ALICES)
        gateway.targetSends(target, b"x")
        gateway.targetEnds(target)
        self.reload(gateway, limits=Limits(seconds=1000))
        gateway.advance(LINGER)
        self.assertError(visitor, "connection-closed")


class DrainTests(DoorTestCase):
    """Sending everybody home."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway = TabbyFixture.make(environmentToken=TOKEN)

    def drain(self, seconds: float = 10) -> Deferred[None]:
        """Begin to."""
        drained = Deferred.fromCoroutine(self.gateway.door.drain(seconds, self.gateway.draining))
        self.gateway.pump()
        return drained

    def test_nobodyIn(self) -> None:
        """With nobody in it is over at once."""
        self.successResultOf(self.drain())
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])

    def test_whoHasNoSessionLeavesAtOnce(self) -> None:
        """Visitors without a session are told shutting-down at once, wherever they are; a dial is given up."""
        visitors = [self.gateway.visit(), self.gateway.greeted(), self.gateway.dialling()]
        drained = self.drain()
        for visitor in visitors:
            self.assertError(visitor, "shutting-down")
        self.assertTrue(self.gateway.dial.cancelled)
        self.gateway.advance(0)
        self.successResultOf(drained)

    def test_sessionsAreToldAndGoOn(self) -> None:
        """A session gets a notice with the seconds that are left, and works until the deadline."""
        visitor, target = self.gateway.session()
        self.drain(10)
        notice = visitor.messages[-1]
        self.assertEqual(notice["_"], "shutting-down")
        self.assertIn("10 seconds", notice["details"])
        self.gateway.advance(9.9)
        visitor.send(b"save\n")
        self.gateway.targetSends(target, b"saved\n")
        self.assertEqual((target.received, visitor.data, visitor.error), (b"save\n", b"saved\n", None))

    def test_hurry(self) -> None:
        """Whoever loses patience ends the wait for sessions, and then the wait for their good-byes."""
        visitor, _ = self.gateway.session()
        drained = self.drain(1000)
        self.gateway.draining.hurry()
        self.gateway.pump()
        self.assertError(visitor, "shutting-down")
        self.gateway.draining.hurry()
        self.gateway.pump()
        self.successResultOf(drained)

    def test_deadline(self) -> None:
        """At the deadline, not before, the target is let go and the person is told with an error."""
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"x")
        drained = self.drain(10)
        self.gateway.advance(9.9)
        self.assertIsNone(target.reason)
        self.gateway.advance(0.1)
        self.assertIsNotNone(target.reason)
        self.assertNoResult(drained)
        self.gateway.advance(LINGER)
        self.assertError(visitor, "shutting-down")
        self.successResultOf(drained)
        self.assertEqual(self.logged("tabby.closed")[0]["cause"], "shutting-down")

    def test_lastSessionEndsTheDrain(self) -> None:
        """When the last session ends by itself the drain does not wait any longer."""
        visitor, _ = self.gateway.session()
        drained = self.drain(1000)
        visitor.close()
        self.gateway.advance(0)
        self.successResultOf(drained)
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])

    def test_targetsGetWhatWasSent(self) -> None:
        """What a visitor sent before it left still reaches its target: the drain waits for that, and no longer."""
        visitor, target = self.gateway.session()
        target.link.aToB.stalled = True
        visitor.send(b"last words")
        visitor.close()
        self.assertTrue(visitor.isGone)
        drained = self.drain(10)
        self.gateway.advance(9.9)
        self.assertNoResult(drained)
        target.link.aToB.stalled = False
        self.gateway.pump()
        self.assertEqual(target.received, b"last words")
        self.gateway.targetEnds(target)
        self.gateway.advance(0)
        self.successResultOf(drained)
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])

    def test_targetsThatTakeNothing(self) -> None:
        """A target that does not read is cut off when the good-byes are over, so that the gateway does stop."""
        visitor, target = self.gateway.session()
        target.link.aToB.stalled = True
        visitor.send(b"last words")
        visitor.close()
        drained = self.drain(10)
        self.gateway.advance(16.9)
        self.assertNoResult(drained)
        self.gateway.advance(0.1)
        self.successResultOf(drained)
        self.assertEqual(len(self.logged("tabby.closed")), 1)
        target.link.aToB.stalled = False
        self.gateway.pump()
        self.assertIsNotNone(target.reason)
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])

    def test_overIsOver(self) -> None:
        """When the drain is over the last session is in the log and in no count any more."""
        visitor, _ = self.gateway.session()
        drained = self.drain(1000)
        seen: list[tuple[int, int]] = []
        drained.addCallback(
            lambda none: seen.append((len(self.gateway.door.sessions), len(self.logged("tabby.closed"))))
        )
        visitor.close()
        self.gateway.advance(0)
        self.assertEqual(seen, [(0, 1)])

    def test_noTimeAtAll(self) -> None:
        """Zero seconds end the sessions at once."""
        visitor, _ = self.gateway.session()
        drained = self.drain(0)
        self.assertError(visitor, "shutting-down")
        self.gateway.advance(0)
        self.successResultOf(drained)

    def test_whoDoesNotGoIsCutOff(self) -> None:
        """A client that takes no part in the good-byes is cut off, so that the gateway does stop."""
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"x")
        visitor.answersPings = visitor.answersClose = False
        drained = self.drain(10)
        self.gateway.advance(10 + LINGER_LIMIT)
        self.assertNoResult(drained)
        self.gateway.advance(2)
        self.successResultOf(drained)
        self.assertTrue(visitor.isGone)

    def test_noNewVisitorsWhileDraining(self) -> None:
        """A connection that was accepted before, and asks for its WebSocket only now, is sent away with a 503."""
        waiting = self.gateway.arrive()
        self.gateway.session()
        self.drain()
        waiting.upgrade()
        self.assertEqual(waiting.answer.status, 503)

    def test_refusalsAreSummedUp(self) -> None:
        """Refusals that were not in the log yet are when the drain is over."""
        self.gateway = TabbyFixture.make(environmentToken=TOKEN, limits={"perAddress": 1})
        visitor = self.gateway.visit()
        for _ in range(3):
            self.gateway.isDropped()
        self.drain()
        self.assertTrue(visitor.isGone)
        self.gateway.advance(0)
        self.assertEqual([event["count"] for event in self.logged("gateway.refused-more")], [2])
