"""Tests for L{gateway.service.tabby.visit}: a visitor's conversation and session, byte by byte."""

from twisted.internet.error import ConnectionRefusedError, DNSLookupError

from gateway.domain.identity import Identity, Limits
from gateway.domain.targets import Refusal, Target, parseTarget
from gateway.domain.tokens import hashToken
from gateway.domain.tokensfile import TokensFile
from gateway.net.budget import StallBudget
from gateway.net.relay import RelaySettings
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.tabby.door import TabbySettings
from gateway.service.tabby.session import LINGER, LINGER_LIMIT, SessionCause
from gateway.service.target import TargetRefused
from tests.service.tabby.tabbyfixture import TOKEN, GatewayTestCase, TabbyFixture
from tests.websocketclient import BINARY, CLOSE, CONTINUATION, PING, TEXT

ONE_SHOT = "VQKZJXWVKQZJWXVKQJZWXVKQ"
ALICES = "WZKXQVJZWKXQVJWZKXQVJWZK"


def fileWith(**facts: object) -> TokensFile:
    """A tokens file with the token of one alice."""
    return TokensFile(tokens={"alice": Identity("alice", revision=hashToken(ALICES), **facts)})  # type: ignore[arg-type]


class TabbyTestCase(GatewayTestCase):
    """With a gateway that takes L{TOKEN}."""

    secrets = (TOKEN, ONE_SHOT, ALICES)

    def setUp(self) -> None:
        super().setUp()
        self.gateway = TabbyFixture.make(environmentToken=TOKEN)


class ConversationTests(TabbyTestCase):
    """The protocol, up to the first byte of data."""

    def test_greetsAtOnce(self) -> None:
        """The gateway greets as soon as the WebSocket is open, before the client says anything."""
        visitor = self.gateway.visit()
        self.assertEqual(visitor.messages, [{"_": "hello", "version": 1, "auth_required": True}])

    def test_saysThatNoTokenIsNeeded(self) -> None:
        """A gateway that lets anyone in says so in its greeting."""
        visitor = TabbyFixture.make(anonymous=True).visit()
        self.assertIs(visitor.messages[0]["auth_required"], False)

    def test_wholeConversation(self) -> None:
        """hello, ready, connected, then bytes both ways, untouched and in order."""
        visitor, target = self.gateway.session()
        self.assertEqual(visitor.kinds, ["hello", "ready", "connected"])
        self.assertEqual(visitor.messages[1:], [{"_": "ready"}, {"_": "connected"}])
        visitor.send(b"up \x00\xff")
        self.gateway.targetSends(target, b"down \x00\xff")
        self.assertEqual((target.received, visitor.data), (b"up \x00\xff", b"down \x00\xff"))

    def test_anyPathAndQuery(self) -> None:
        """The path and query of the URL do not matter."""
        for path in ("/", "/a/b?c=d&e", "/gateway/", "//"):
            self.assertEqual(self.gateway.visit(path).kinds, ["hello"])

    def test_noSubprotocol(self) -> None:
        """No subprotocol is chosen, whatever the client offers: it asks for none."""
        self.assertNotIn("sec-websocket-protocol", self.gateway.visit().answer.headers)
        self.assertNotIn("sec-websocket-extensions", self.gateway.visit().answer.headers)

    def test_controlMessagesInBinaryFrames(self) -> None:
        """Control messages may come in binary frames."""
        visitor = self.gateway.visit()
        visitor.send(b'{"_":"hello","auth_token":"%s"}' % TOKEN.encode())
        visitor.send(b'{"_":"connect","host":"box.test","port":22}')
        self.gateway.acceptDial()
        self.assertEqual(visitor.kinds, ["hello", "ready", "connected"])

    def test_versionMayBeMissingOrAnyNumber(self) -> None:
        """The client's version is not looked at."""
        for version in ({}, {"version": 0}, {"version": 99}, {"version": 1.5}):
            visitor = self.gateway.visit()
            visitor.say(_="hello", auth_token=TOKEN, **version)
            self.assertEqual(visitor.kinds, ["hello", "ready"])

    def test_portMayBeText(self) -> None:
        """The port may be a numeric string."""
        visitor = self.gateway.greeted()
        visitor.say(_="connect", host="box.test", port="22")
        self.assertEqual(self.gateway.asked[-1][0], Target("box.test", 22))

    def test_extraKeysAreIgnored(self) -> None:
        """Keys that the protocol does not have change nothing."""
        visitor = self.gateway.visit()
        visitor.say(_="hello", auth_token=TOKEN, client="x", more=[1])
        self.assertEqual(visitor.kinds, ["hello", "ready"])

    def test_fragmentedControlMessage(self) -> None:
        """A control message in several fragments is one message."""
        visitor = self.gateway.visit()
        payload = b'{"_":"hello","auth_token":"%s"}' % TOKEN.encode()
        visitor.write(visitor.codec.frame(TEXT, payload[:9], final=False))
        visitor.write(visitor.codec.frame(CONTINUATION, payload[9:]))
        self.assertEqual(visitor.kinds, ["hello", "ready"])

    def test_everySplitOfTheInput(self) -> None:
        """A client whose bytes come one by one is served as any other."""
        visitor = self.gateway.arrive()
        visitor.link.aToB.chunkSize = 1
        visitor.upgrade()
        visitor.say(_="hello", auth_token=TOKEN)
        visitor.say(_="connect", host="box.test", port=22)
        target = self.gateway.acceptDial()
        visitor.send(b"typed")
        self.assertEqual(target.received, b"typed")


class ConversationErrorTests(TabbyTestCase):
    """What is wrong is said in a code and a sentence; then the WebSocket is closed with 1000."""

    def test_expectedHello(self) -> None:
        """The first message must be a hello."""
        visitor = self.gateway.visit()
        visitor.say(_="connect", host="box.test", port=22)
        self.assertError(visitor, "expected-hello")

    def test_expectedConnect(self) -> None:
        """The message after ready must be a connect."""
        visitor = self.gateway.greeted()
        visitor.say(_="hello", version=1)
        self.assertError(visitor, "expected-connect")

    def test_expectedAuthToken(self) -> None:
        """A token that is missing, null or empty is asked for."""
        for token in ({}, {"auth_token": None}, {"auth_token": ""}):
            visitor = self.gateway.visit()
            visitor.say(_="hello", version=1, **token)
            self.assertError(visitor, "expected-auth-token")

    def test_incorrectAuthToken(self) -> None:
        """A token that is not known is refused, and its text is not repeated."""
        visitor = self.gateway.greeted("QQQQWRONG")
        self.assertNotIn("QQQQ", self.assertError(visitor, "incorrect-auth-token"))

    def test_expiredToken(self) -> None:
        """An expired token is refused from its second on, and works just before."""
        gateway = TabbyFixture.make(file=fileWith(expires=1_800_000_010.0))
        gateway.advance(9.9)
        self.assertEqual(gateway.greeted(ALICES).kinds, ["hello", "ready"])
        gateway.advance(0.1)
        self.assertIn("expired", self.assertError(gateway.greeted(ALICES), "incorrect-auth-token"))

    def test_malformedPort(self) -> None:
        """A port that cannot be one is refused without a dial."""
        for port in (0, 65536, -1, "x", True, 1.5, [22], "٢٢"):
            visitor = self.gateway.greeted()
            visitor.say(_="connect", host="box.test", port=port)
            self.assertError(visitor, "invalid-message")
        self.assertEqual(self.gateway.asked, [])

    def test_malformedHost(self) -> None:
        """A host that cannot be one is refused without a dial."""
        for host in ("a b", "a/b", "x" * 300, "a..b", "\x00"):
            visitor = self.gateway.greeted()
            visitor.say(_="connect", host=host, port=22)
            self.assertError(visitor, "connection-failed")
        self.assertEqual(self.gateway.asked, [])

    def test_tooLongMessage(self) -> None:
        """A control message over 16 KiB ends the connection with 1009, and is not held in memory."""
        visitor = self.gateway.visit()
        visitor.sendText(b" " * (16 * 1024 + 1))
        self.assertEqual(visitor.closeCode, 1009)

    def test_messagesAfterAnErrorAreIgnored(self) -> None:
        """What the client says after the error changes nothing."""
        visitor = self.gateway.visit()
        visitor.answersClose = False
        visitor.say(_="nonsense")
        visitor.say(_="hello", auth_token=TOKEN)
        self.assertEqual(visitor.kinds, ["hello", "error"])

    def test_helloTooLate(self) -> None:
        """A client that does not greet within the handshake time is told so, not a moment earlier."""
        visitor = self.gateway.visit()
        self.gateway.advance(9.9)
        self.assertIsNone(visitor.error)
        self.gateway.advance(0.1)
        self.assertError(visitor, "handshake-timeout")

    def test_connectTooLate(self) -> None:
        """A client that names no target has the same time again, from ready on."""
        visitor = self.gateway.visit()
        self.gateway.advance(9)
        visitor.say(_="hello", auth_token=TOKEN)
        self.gateway.advance(9.9)
        self.assertIsNone(visitor.error)
        self.gateway.advance(0.1)
        self.assertError(visitor, "handshake-timeout")

    def test_errorsAreCounted(self) -> None:
        """Each error counts in the metrics under its code."""
        self.gateway.greeted("QQQQWRONG")
        self.assertEqual(self.gateway.metric('errors_total{code="incorrect-auth-token"}'), 1)


class DialTests(TabbyTestCase):
    """Between connect and connected."""

    def test_dialsWhatWasAskedFor(self) -> None:
        """The target goes to the policy's side with the identity that asks, its host in its one spelling."""
        visitor = self.gateway.greeted()
        visitor.say(_="connect", host="Box.TEST.", port=22)
        ((target, identity),) = self.gateway.asked
        self.assertEqual((str(target), identity.name), ("box.test:22", "TABBY_AUTH_TOKEN"))

    def test_refusedConnection(self) -> None:
        """A target that refuses is connection-failed."""
        visitor = self.gateway.dialling()
        self.gateway.dial.fail(ConnectionRefusedError())
        self.gateway.pump()
        self.assertIn("refused", self.assertError(visitor, "connection-failed"))

    def test_unknownName(self) -> None:
        """A name that does not resolve is connection-failed, and the text says that it is the name."""
        visitor = self.gateway.dialling()
        self.gateway.dial.fail(DNSLookupError())
        self.gateway.pump()
        self.assertIn("resolved", self.assertError(visitor, "connection-failed"))

    def test_deniedTarget(self) -> None:
        """A target that the policy refuses is target-denied; the person reads the rule, the log has it as a fact."""
        visitor = self.gateway.dialling()
        self.gateway.dial.fail(TargetRefused(Refusal("deny *:22", "Refused by the rule deny *:22.")))
        self.gateway.pump()
        self.assertIn("deny *:22", self.assertError(visitor, "target-denied"))
        (event,) = self.logged("tabby.dial-failed")
        self.assertEqual(
            (event["rule"], event["target"], event["visitor"]), ("deny *:22", "box.test:22", "198.51.100.7")
        )

    def test_silentTarget(self) -> None:
        """A target that does not answer within the dial time is connect-timeout, and the attempt is given up."""
        visitor = self.gateway.dialling()
        self.gateway.advance(19.9)
        self.assertIsNone(visitor.error)
        self.gateway.advance(0.1)
        self.assertError(visitor, "connect-timeout")
        self.assertTrue(self.gateway.dial.cancelled)

    def test_leavingCancelsTheDial(self) -> None:
        """A client that leaves, politely or not, ends the attempt to connect at once, and no session is logged."""
        for leave in ("close", "vanish"):
            visitor = self.gateway.dialling()
            getattr(visitor, leave)()
            self.assertTrue(self.gateway.dial.cancelled, leave)
        self.assertEqual(self.logged("tabby.opened") + self.logged("tabby.closed"), [])

    def test_defectIsToldWithoutDetails(self) -> None:
        """A dial that fails with what is our own mistake is still an error for the person, and none of its text."""
        visitor = self.gateway.dialling()
        self.gateway.dial.fail(KeyError("internal"))
        self.gateway.pump()
        self.assertNotIn("internal", self.assertError(visitor, "connection-failed"))

    def test_dataBeforeConnectedIsKept(self) -> None:
        """What the client sends before connected reaches the target first, in order."""
        visitor = self.gateway.dialling()
        visitor.send(b"early ")
        visitor.send(b"bird ")
        target = self.gateway.acceptDial()
        visitor.send(b"late")
        self.assertEqual(target.received, b"early bird late")

    def test_dataInTheSegmentOfTheConnectIsKept(self) -> None:
        """Data that arrives in one piece with the connect message is data."""
        visitor = self.gateway.greeted()
        connect = visitor.codec.frame(TEXT, b'{"_":"connect","host":"box.test","port":22}')
        visitor.write(connect + visitor.codec.frame(BINARY, b"early"))
        self.assertEqual(self.gateway.acceptDial().received, b"early")

    def test_dataBeforeConnectedIsBounded(self) -> None:
        """Of what is sent before connected only some is read; the rest waits with the client, and none is lost."""
        visitor = self.gateway.dialling()
        payload = bytes(range(256)) * 4096
        visitor.send(payload)
        self.assertGreater(visitor.link.aToB.bufferedBytes, len(payload) - 192 * 1024)
        target = self.gateway.acceptDial()
        self.assertEqual(target.received, payload)


class DefaultTargetTests(TabbyTestCase):
    """Telnet in Tabby Web sends a connect without host or port."""

    def test_ofTheToken(self) -> None:
        """The token's default target is used when the client names none."""
        gateway = TabbyFixture.make(file=fileWith(defaultTarget=parseTarget("telnet.test:23")))
        for nothing in ({}, {"host": None, "port": None}, {"host": ""}):
            gateway.greeted(ALICES).say(_="connect", **nothing)
            self.assertEqual(str(gateway.asked.pop()[0]), "telnet.test:23")

    def test_ofThePath(self) -> None:
        """The path may be /to/HOST:PORT, IPv6 in brackets."""
        for path, target in (
            ("/to/box.test:23", "box.test:23"),
            ("/to/box.test:23?x=y", "box.test:23"),
            ("/to/[2001:db8::1]:23", "[2001:db8::1]:23"),
        ):
            self.gateway.greeted(path=path).say(_="connect")
            self.assertEqual(str(self.gateway.asked.pop()[0]), target)

    def test_toWithinAPath(self) -> None:
        """/to/ after something else is part of a path like any other, and names no target."""
        for path in ("/how/to/connect", "/a/to/box.test:23", "//to/box.test:23", "/TO/box.test:23", "/to"):
            visitor = self.gateway.greeted(path=path)
            self.assertEqual(visitor.answer.status, 101)
            visitor.say(_="connect")
            self.assertError(visitor, "connection-failed")
        self.assertEqual(self.gateway.asked, [])

    def test_pathBeforeToken(self) -> None:
        """The path is nearer to the person than the token, so it wins."""
        gateway = TabbyFixture.make(file=fileWith(defaultTarget=parseTarget("telnet.test:23")))
        gateway.greeted(ALICES, path="/to/path.test:24").say(_="connect")
        self.assertEqual(str(gateway.asked.pop()[0]), "path.test:24")

    def test_namedTargetBeforeBoth(self) -> None:
        """A client that does name a target gets that."""
        gateway = TabbyFixture.make(file=fileWith(defaultTarget=parseTarget("telnet.test:23")))
        gateway.greeted(ALICES, path="/to/path.test:24").say(_="connect", host="named.test", port=25)
        self.assertEqual(str(gateway.asked.pop()[0]), "named.test:25")

    def test_badPathIsRefusedAtOnce(self) -> None:
        """A path with a target that cannot be one is answered 400 with the reason, before any upgrade."""
        for path in ("/to/", "/to/box", "/to/box:0", "/to/box:x", "/to/::1:22"):
            answer = self.gateway.visit(path).answer
            self.assertEqual(answer.status, 400)
            self.assertRegex(answer.body, rb"\w{4,}")

    def test_withoutAnyTarget(self) -> None:
        """Without a default the person is told what is missing, and nothing is dialled."""
        visitor = self.gateway.greeted()
        visitor.say(_="connect")
        self.assertIn("default target", self.assertError(visitor, "connection-failed"))
        self.assertEqual(self.gateway.asked, [])


class OneShotTests(TabbyTestCase):
    """Tokens of the management listener."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway.oneShot.authorize(ONE_SHOT)

    def test_worksOnce(self) -> None:
        """A one-shot token opens one session and then is not known any more."""
        self.assertEqual(self.gateway.greeted(ONE_SHOT).kinds, ["hello", "ready"])
        self.assertError(self.gateway.greeted(ONE_SHOT), "incorrect-auth-token")

    def test_oneOfTwoRacingWins(self) -> None:
        """Of two clients whose hellos cross, exactly one becomes ready."""
        one, two = self.gateway.visit(), self.gateway.visit()
        hello = one.codec.frame(TEXT, b'{"_":"hello","auth_token":"%s"}' % ONE_SHOT.encode())
        one.link.a.write(hello)
        two.link.a.write(hello)
        self.gateway.pump()
        self.assertEqual(sorted([one.kinds[1], two.kinds[1]]), ["error", "ready"])

    def test_isNotSpentBeforeReady(self) -> None:
        """A client that leaves before its hello has not used the token up."""
        self.gateway.visit().vanish()
        visitor = self.gateway.visit()
        visitor.say(_="connect", auth_token=ONE_SHOT)
        self.assertEqual(self.gateway.greeted(ONE_SHOT).kinds, ["hello", "ready"])

    def test_someoneElseWasFaster(self) -> None:
        """A token that was spent between being found and being used up is refused, and leaves no session counted."""
        self.gateway.oneShot.authorize(ONE_SHOT)
        self.patch(self.gateway.authority, "spend", lambda who: False)
        self.assertError(self.gateway.greeted(ONE_SHOT), "incorrect-auth-token")
        self.assertEqual(len(self.gateway.door.sessions), 0)

    def test_isSpentAtReady(self) -> None:
        """A session that fails after ready has used the token up."""
        visitor = self.gateway.dialling(ONE_SHOT)
        self.gateway.dial.fail(ConnectionRefusedError())
        self.gateway.pump()
        self.assertError(visitor, "connection-failed")
        self.assertError(self.gateway.greeted(ONE_SHOT), "incorrect-auth-token")

    def test_timeToLive(self) -> None:
        """It is good until just before its time is over."""
        self.gateway.advance(119.9)
        self.assertEqual(self.gateway.greeted(ONE_SHOT).kinds, ["hello", "ready"])
        self.gateway.oneShot.authorize(ONE_SHOT)
        self.gateway.advance(120)
        self.assertError(self.gateway.greeted(ONE_SHOT), "incorrect-auth-token")


class HazardTests(TabbyTestCase):
    """What the real client forces on a gateway."""

    def test_framesAreAtMost64KiB(self) -> None:
        """However much the target sends at once, no frame to the browser has more than 64 KiB."""
        visitor, target = self.gateway.session()
        visitor.link.bToA.chunkSize = target.link.bToA.chunkSize = 1 << 20
        payload = bytes(range(256)) * 2048
        self.gateway.targetSends(target, payload)
        self.assertEqual(visitor.data, payload)
        self.assertLessEqual(max(len(f.payload) for f in visitor.frames if f.opcode == BINARY), 64 * 1024)

    def test_partingAfterTheTargetsEnd(self) -> None:
        """
        After the target's end: all data, a ping, its pong, one second, then the error and only then the Close.
        """
        visitor, target = self.gateway.session()
        payload = bytes(200_000)
        target.link.b.write(payload)
        self.gateway.targetEnds(target)
        self.assertEqual(visitor.data, payload)
        self.assertEqual(visitor.frames[-1].opcode, PING)
        self.gateway.advance(LINGER - 0.01)
        self.assertIsNone(visitor.error)
        self.assertIsNone(visitor.closeCode)
        self.gateway.advance(0.01)
        self.assertEqual(self.assertError(visitor, "connection-closed"), "Connection closed by remote host")
        self.assertEqual([frame.opcode for frame in visitor.frames[-2:]], [TEXT, CLOSE])

    def test_lingerStartsWithThePong(self) -> None:
        """A browser that is slow to take its data has its second from the pong on, not from the end."""
        visitor, target = self.gateway.session()
        visitor.answersPings = False
        self.gateway.targetSends(target, b"bye")
        self.gateway.targetEnds(target)
        self.gateway.advance(4)
        visitor.pong()
        self.gateway.advance(LINGER - 0.01)
        self.assertIsNone(visitor.error)
        self.gateway.advance(0.01)
        self.assertError(visitor, "connection-closed")

    def test_noPong(self) -> None:
        """A browser that never answers the ping is told all the same once the limit is reached."""
        visitor, target = self.gateway.session()
        visitor.answersPings = False
        self.gateway.targetSends(target, b"bye")
        self.gateway.targetEnds(target)
        self.gateway.advance(LINGER_LIMIT - 0.01)
        self.assertIsNone(visitor.error)
        self.gateway.advance(0.01)
        self.assertError(visitor, "connection-closed")

    def test_nothingSentNothingToWaitFor(self) -> None:
        """A target that ends without a byte is reported at once: no data can be overtaken."""
        visitor, target = self.gateway.session()
        self.gateway.targetEnds(target)
        self.assertError(visitor, "connection-closed")

    def test_dataIsTakenWhileLingering(self) -> None:
        """What the client still types meanwhile is read and dropped; it does not hold the end up."""
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"bye")
        self.gateway.targetEnds(target)
        visitor.send(bytes(300_000))
        self.assertEqual(visitor.link.aToB.bufferedBytes, 0)
        self.gateway.advance(LINGER)
        self.assertError(visitor, "connection-closed")

    def test_leavingWhileLingering(self) -> None:
        """A client that closes while we linger is let go at once; nothing is left on the clock."""
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"bye")
        self.gateway.targetEnds(target)
        visitor.close()
        self.assertTrue(visitor.isGone)
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])
        self.assertEqual(self.logged("tabby.closed")[0]["cause"], "far-closed")

    def test_everythingArrivesAtASlowReader(self) -> None:
        """
        Data, then the target's end, with a client that does not read for as long as both limits together are:
        nothing is lost, and the error is after the last byte.
        """
        for payload in (bytes(60_000), bytes(800_000)):
            visitor, target = self.gateway.session()
            visitor.link.bToA.stalled = True
            target.link.b.write(payload)
            self.gateway.targetEnds(target)
            self.gateway.advance(LINGER_LIMIT + WebSocketSettings().closeTimeout - 0.1)
            self.assertEqual(visitor.data, b"")
            visitor.link.bToA.stalled = False
            self.gateway.pump()
            self.gateway.advance(LINGER)
            self.assertEqual(visitor.data, payload)
            self.assertError(visitor, "connection-closed")
            self.assertEqual([frame.opcode for frame in visitor.frames[-2:]], [TEXT, CLOSE])

    def test_gatewayPings(self) -> None:
        """A silent session is pinged, and lives as long as pongs come."""
        visitor, _ = self.gateway.session()
        self.gateway.advance(200)
        self.assertFalse(visitor.isGone)
        self.assertGreater([frame.opcode for frame in visitor.frames].count(PING), 5)

    def test_vanishedClientIsFound(self) -> None:
        """A client that is gone without a word costs its session within two intervals of the ping."""
        visitor, target = self.gateway.session()
        visitor.link.cut()
        self.gateway.advance(41)
        self.assertIsNotNone(target.reason)
        self.assertEqual(len(self.logged("tabby.closed")), 1)


class DefectTests(TabbyTestCase):
    """What the original does wrong, and we must not."""

    def test_bannerAtOnceDoesNotStall(self) -> None:
        """A banner that the target sends with the connection is there right after connected."""
        visitor = self.gateway.dialling()
        self.gateway.acceptDial(first=b"SSH-2.0-x\r\n")
        self.assertEqual(visitor.kinds[-1], "connected")
        self.assertEqual(visitor.data, b"SSH-2.0-x\r\n")
        self.assertEqual(visitor.frames[-1].opcode, BINARY)

    def test_dataAndEndTogether(self) -> None:
        """Data and the end of the target in one turn: the data comes, then the proper end, never a 1011."""
        visitor = self.gateway.dialling()
        target = self.gateway.acceptDial()
        target.link.b.write(b"Protocol mismatch.\n")
        target.link.b.loseConnection()
        self.gateway.pump()
        self.gateway.advance(LINGER)
        self.assertEqual(visitor.data, b"Protocol mismatch.\n")
        self.assertError(visitor, "connection-closed")

    def test_targetEndIsPropagated(self) -> None:
        """A target that ends a session ends it for the client."""
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"x")
        self.gateway.targetEnds(target)
        self.gateway.advance(LINGER)
        self.assertTrue(visitor.isGone)

    def test_targetHalfClose(self) -> None:
        """A target that only ends its sending ends the session too: a WebSocket cannot half-close."""
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"x")
        target.link.b.loseWriteConnection()
        self.gateway.pump()
        self.gateway.advance(LINGER)
        self.assertError(visitor, "connection-closed")
        self.assertTrue(target.ended)

    def test_closeEndsTheTargetsConnection(self) -> None:
        """A WebSocket that closes takes its TCP connection with it, after what was sent."""
        visitor, target = self.gateway.session()
        visitor.send(b"exit\n")
        visitor.close()
        self.assertEqual(target.received, b"exit\n")
        self.assertTrue(target.ended or target.reason is not None)
        self.gateway.targetEnds(target)
        self.assertEqual(self.logged("tabby.closed")[0]["cause"], "near-closed")

    def test_vanishedClientIsNoCleanEnd(self) -> None:
        """A client that breaks off resets the target's connection: half a paste must not look whole."""
        visitor, target = self.gateway.session()
        visitor.vanish()
        assert target.reason is not None
        self.assertNotIn("ConnectionDone", repr(target.reason))
        self.assertEqual(self.logged("tabby.closed")[0]["cause"], "near-reset")

    def test_backPressureFromTheTarget(self) -> None:
        """A target that does not read stops the client, whatever the flood; nothing is lost once it reads."""
        visitor, target = self.gateway.session()
        target.link.aToB.stalled = True
        flood = bytes(range(256)) * 8192
        visitor.send(flood)
        self.assertLess(target.link.aToB.highWater, 256 * 1024)
        target.link.aToB.stalled = False
        self.gateway.pump()
        self.assertEqual(target.received, flood)

    def test_backPressureFromTheClient(self) -> None:
        """A client that does not read stops the target, whatever the flood; nothing is lost once it reads."""
        visitor, target = self.gateway.session()
        visitor.link.bToA.stalled = True
        flood = bytes(range(256)) * 8192
        self.gateway.targetSends(target, flood)
        self.assertLess(visitor.link.bToA.highWater, 256 * 1024)
        visitor.link.bToA.stalled = False
        self.gateway.pump()
        self.assertEqual(visitor.data, flood)

    def test_textAfterConnectIsHarmless(self) -> None:
        """A text frame after connect, valid or not, neither ends the session nor reaches the target."""
        visitor = self.gateway.dialling()
        visitor.say(_="resize")
        target = self.gateway.acceptDial()
        visitor.say(_="connect", host="other.test", port=1)
        visitor.sendText(b"garbage")
        visitor.send(b"still here")
        self.assertEqual(target.received, b"still here")
        self.assertEqual(len(self.gateway.asked), 1)

    def test_malformedMessagesAreTold(self) -> None:
        """What is not JSON, not an object, or has a wrong type gets invalid-message and a Close 1000, never a 1011."""
        for payload in (b"x", b"", b"[]", b"null", b"7", b'"hello"', b"{", b"[" * 5000, b"\xc3\x28", b'{"_":"hello"'):
            visitor = self.gateway.visit()
            visitor.send(payload)
            self.assertError(visitor, "invalid-message")

    def test_oddTokensAreTold(self) -> None:
        """A token that is no text, or half a character, is malformed; one of any other text is just wrong."""
        malformed: tuple[object, ...] = (7, 1.5, True, [], {}, ["x"], "\ud800")
        for token in malformed:
            visitor = self.gateway.visit()
            visitor.say(_="hello", auth_token=token)
            self.assertError(visitor, "invalid-message")
        for text in ("pâté", "\U0001f600", "x" * 4000):
            self.assertError(self.gateway.greeted(text), "incorrect-auth-token")

    def test_targetResetIsTold(self) -> None:
        """A reset of the target is connection-reset with a Close 1000, after the data that came before it."""
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"last words")
        target.link.b.abortConnection()
        self.gateway.pump()
        self.gateway.advance(LINGER)
        self.assertEqual(visitor.data, b"last words")
        self.assertError(visitor, "connection-reset")

    def test_connectWithoutHostDialsNothing(self) -> None:
        """A connect without host does not dial the gateway's own loopback."""
        visitor = self.gateway.greeted()
        visitor.say(_="connect", port=22)
        self.assertError(visitor, "invalid-message")
        self.assertEqual(self.gateway.asked, [])

    def test_idleSessionEnds(self) -> None:
        """A session without a byte for the idle time is told so, though its pongs come; not much earlier."""
        self.gateway = TabbyFixture.make(
            environmentToken=TOKEN, settings=TabbySettings(relay=RelaySettings(idleTimeout=100))
        )
        visitor, target = self.gateway.session()
        self.gateway.targetSends(target, b"x")
        self.gateway.advance(99)
        self.assertIsNone(visitor.error)
        self.gateway.advance(30)
        self.assertError(visitor, "idle-timeout")
        self.assertIsNotNone(target.reason)

    def test_largeFramesAreTaken(self) -> None:
        """A paste of several MiB in one frame passes, piece by piece."""
        visitor, target = self.gateway.session()
        paste = bytes(range(256)) * 16384
        visitor.send(paste)
        self.assertEqual(target.received, paste)
        self.assertLess(target.link.aToB.highWater, 256 * 1024)

    def test_fragmentedPaste(self) -> None:
        """A paste in fragments, with a ping between them, passes."""
        visitor, target = self.gateway.session()
        visitor.write(visitor.codec.frame(BINARY, b"one ", final=False))
        visitor.write(visitor.codec.frame(PING, b"p"))
        visitor.write(visitor.codec.frame(CONTINUATION, b"two ", final=False))
        visitor.write(visitor.codec.frame(CONTINUATION, b"three"))
        self.assertEqual(target.received, b"one two three")

    def test_tokensExpireInLiveSessions(self) -> None:
        """A session ends when its token expires, and is told; not before."""
        gateway = TabbyFixture.make(file=fileWith(expires=1_800_000_030.0))
        visitor, target = gateway.session(ALICES)
        gateway.advance(29.9)
        self.assertIsNone(visitor.error)
        gateway.advance(0.1)
        self.assertError(visitor, "session-expired")
        self.assertIsNotNone(target.reason)


class LimitTests(TabbyTestCase):
    """What a token may use."""

    def test_sessionsPerToken(self) -> None:
        """One session more than the token may have is quota-exceeded; when one ends there is room again."""
        gateway = TabbyFixture.make(file=fileWith(limits=Limits(sessions=2)))
        one, two = gateway.greeted(ALICES), gateway.greeted(ALICES)
        self.assertEqual((one.kinds[-1], two.kinds[-1]), ("ready", "ready"))
        self.assertIn("2 sessions", self.assertError(gateway.greeted(ALICES), "quota-exceeded"))
        one.vanish()
        self.assertEqual(gateway.greeted(ALICES).kinds[-1], "ready")

    def test_sessionsAreCountedPerToken(self) -> None:
        """One token's full quota takes nothing from another."""
        gateway = TabbyFixture.make(environmentToken=TOKEN, file=fileWith(limits=Limits(sessions=1)))
        gateway.greeted(ALICES)
        self.assertError(gateway.greeted(ALICES), "quota-exceeded")
        self.assertEqual(gateway.greeted(TOKEN).kinds[-1], "ready")

    def test_fullQuotaDoesNotSpendOneShots(self) -> None:
        """A one-shot token has no quota of sessions, so any number of them may be open at once."""
        for each in range(5):
            self.gateway.oneShot.authorize(f"{ONE_SHOT}{each}")
            self.assertEqual(self.gateway.greeted(f"{ONE_SHOT}{each}").kinds[-1], "ready")

    def test_duration(self) -> None:
        """A session ends at the token's duration, counted from connected, and is told; not before."""
        gateway = TabbyFixture.make(file=fileWith(limits=Limits(seconds=60)))
        visitor = gateway.dialling(ALICES)
        gateway.advance(10)
        gateway.acceptDial()
        gateway.advance(59.9)
        self.assertIsNone(visitor.error)
        gateway.advance(0.1)
        self.assertIn("time limit", self.assertError(visitor, "session-expired"))

    def test_earlierEndCounts(self) -> None:
        """Of duration and expiry the earlier one ends the session."""
        gateway = TabbyFixture.make(file=fileWith(limits=Limits(seconds=60), expires=1_800_000_020.0))
        visitor, _ = gateway.session(ALICES)
        gateway.advance(20)
        self.assertError(visitor, "session-expired")

    def test_rate(self) -> None:
        """
        Each direction of a session moves at the token's rate after a burst of one second, and loses nothing.
        """
        gateway = TabbyFixture.make(file=fileWith(limits=Limits(bytesPerSecond=100_000)))
        visitor, target = gateway.session(ALICES)
        visitor.link.aToB.chunkSize = target.link.bToA.chunkSize = 10_000
        payload = bytes(range(256)) * 2000
        gateway.targetSends(target, payload)
        visitor.send(payload)
        for received in (lambda: visitor.data, lambda: target.received):
            self.assertTrue(100_000 <= len(received()) <= 120_000, len(received()))
        gateway.advance(2)
        for received in (lambda: visitor.data, lambda: target.received):
            self.assertTrue(290_000 <= len(received()) <= 320_000, len(received()))
        gateway.advance(4)
        self.assertEqual((visitor.data, target.received), (payload, payload))

    def test_memoryOfAClientThatDoesNotRead(self) -> None:
        """When stalled readers use the budget up, the client that stalled longest is cut off, and only that."""
        self.gateway = TabbyFixture.make(environmentToken=TOKEN, budget=StallBudget(StallBudget.PER_HALF))
        sessions = [self.gateway.session(), self.gateway.session()]
        for visitor, target in sessions:
            visitor.link.bToA.stalled = True
            self.gateway.targetSends(target, bytes(500_000))
        for visitor, _ in sessions:
            visitor.link.bToA.stalled = False
        self.gateway.pump()
        self.assertEqual([visitor.isGone for visitor, _ in sessions], [True, False])
        self.assertEqual([event["cause"] for event in self.logged("tabby.closed")], ["memory-budget"])

    def test_memoryOfATargetThatDoesNotRead(self) -> None:
        """When it is the target that does not read, its client is told."""
        self.gateway = TabbyFixture.make(environmentToken=TOKEN, budget=StallBudget(StallBudget.PER_HALF))
        sessions = [self.gateway.session(), self.gateway.session()]
        for visitor, target in sessions:
            target.link.aToB.stalled = True
            visitor.send(bytes(500_000))
        self.assertError(sessions[0][0], "quota-exceeded")
        self.assertFalse(sessions[1][0].isGone)


class LogTests(TabbyTestCase):
    """What is written down about a session."""

    def test_openedAndClosedOnce(self) -> None:
        """A session has one opened and one closed event with all facts, whatever ended it."""
        visitor, target = self.gateway.session()
        visitor.send(b"12345")
        self.gateway.targetSends(target, b"123")
        self.gateway.advance(7.5)
        self.gateway.targetEnds(target)
        self.gateway.advance(LINGER)
        (opened,) = self.logged("tabby.opened")
        (closed,) = self.logged("tabby.closed")
        for event in (opened, closed):
            self.assertEqual(
                (event["who"], event["target"], event["visitor"]), ("TABBY_AUTH_TOKEN", "box.test:22", "198.51.100.7")
            )
            self.assertEqual(event["address"], "127.0.0.1")
        self.assertEqual((closed["up"], closed["down"], closed["cause"]), (5, 3, "far-closed"))
        self.assertEqual(closed["seconds"], 8.5)

    def test_closedWhateverTheCause(self) -> None:
        """Each way to end a session gives exactly one closed event, and its cause counts in the metrics."""

        def expire(visitor: object) -> None:
            next(iter(self.gateway.door.visits)).end(SessionCause.EXPIRED)

        def revoke(visitor: object) -> None:
            next(iter(self.gateway.door.visits)).end(SessionCause.REVOKED)

        for cause, act in (
            ("near-closed", lambda visitor, target: visitor.close()),
            ("near-reset", lambda visitor, target: visitor.vanish()),
            ("far-closed", lambda visitor, target: self.gateway.targetEnds(target)),
            ("far-reset", lambda visitor, target: target.link.b.abortConnection()),
            ("session-expired", lambda visitor, target: expire(visitor)),
            ("revoked", lambda visitor, target: revoke(visitor)),
        ):
            self.events.clear()
            visitor, target = self.gateway.session()
            act(visitor, target)
            self.gateway.pump()
            self.gateway.advance(LINGER_LIMIT)
            self.gateway.targetEnds(target)
            self.gateway.advance(61)
            self.assertEqual([event["cause"] for event in self.logged("tabby.closed")], [cause])
            self.assertEqual(self.gateway.metric(f'sessions_closed_total{{cause="{cause}"}}'), 1)
        self.assertEqual(self.gateway.metric("sessions_opened_total"), 6)
        self.assertEqual(self.gateway.metric("visitors"), 0)
        self.assertEqual(self.gateway.metric("connections_open"), 0)

    def test_nothingIsLeftBehind(self) -> None:
        """When everybody is gone there is no timer, no visit, no count and no held memory left."""
        for _ in range(3):
            visitor, target = self.gateway.session()
            self.gateway.targetSends(target, b"x")
            visitor.vanish()
            self.gateway.dialling().vanish()
            self.gateway.greeted().vanish()
            self.gateway.visit().vanish()
            self.gateway.arrive().vanish()
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])
        self.assertEqual(self.gateway.door.visits, set())
        self.assertEqual((len(self.gateway.door.sessions), self.gateway.door.budget.used), (0, 0))
        self.assertEqual(self.gateway.door.admission.connections, 0)

    def test_turnedAwayIsOneLine(self) -> None:
        """A visitor who is turned away gives one line with the reason and the address."""
        self.gateway.greeted("QQQQWRONG", host="203.0.113.9")
        (event,) = self.logged("tabby.turned-away")
        self.assertEqual((event["code"], event["visitor"]), ("incorrect-auth-token", "203.0.113.9"))

    def test_visitsShowNoToken(self) -> None:
        """The repr of a visit and of what hangs on it shows neither a token nor its digest."""
        self.gateway.session()
        (visit,) = self.gateway.door.visits
        seen = f"{visit!r} {visit.identity!r} {self.gateway.door.authority!r}"
        for secret in (TOKEN, hashToken(TOKEN)):
            self.assertNotIn(secret[-8:], seen)
