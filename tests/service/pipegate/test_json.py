"""
Tests for PipeGate's own dialect at the server: L{gateway.service.pipegate.jsonsession},
L{gateway.service.pipegate.jsonrequest} and L{gateway.service.pipegate.dialect}.
"""

import json

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.limits import Bans
from gateway.domain.pipegate import PipeGateToken, PipeGateTokens
from gateway.domain.routes import prefixPlace
from gateway.domain.tokens import hashToken
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.httpinterfaces import OriginProblem
from gateway.net.websocketclient import WebSocketRefused
from gateway.service.pipegate.jsonrequest import JsonLimits
from gateway.service.server.destinations import RouteEndpoint
from gateway.wire.agentcontrol import SessionError
from gateway.wire.http1 import RequestHead
from tests.net.sides import Peer
from tests.service.pipegate.pipegatefixture import OTHER, TOKEN, VISITOR, Client, PipeGate, Visit

JSON = {"correlation_id": "x", "headers": "", "body": "", "status_code": 200}


class GateTests(SynchronousTestCase):
    """What the tests have in common."""

    def setUp(self) -> None:
        self.gate = PipeGate()

    def assertClean(self) -> None:
        """Nothing is held for anybody."""
        self.assertEqual((self.gate.dialect.held.requests, self.gate.dialect.held.size), (0, 0))
        self.assertEqual((self.gate.names(), self.gate.door.sessions), ([], set()))
        self.assertEqual((self.gate.admission.connections, self.gate.clock.getDelayedCalls()), (0, []))

    def assertRefused(self, client: Client, status: int) -> str:
        """The client was told this before there was a WebSocket."""
        self.assertIsNone(client.channel)
        assert client.reason is not None and isinstance(client.reason.value, WebSocketRefused)
        self.assertEqual(client.reason.value.status, status)
        return client.reason.value.details

    def assertPage(self, visit: Visit, status: int, text: str) -> None:
        """The visitor got a page of ours that says this."""
        self.assertEqual((visit.status, visit.isWhole, visit.lost), (status, True, None))
        self.assertEqual(visit.length, len(visit.body))
        self.assertIn(text, visit.text)


class OpeningTests(GateTests):
    """Who may open a WebSocket."""

    def test_opened(self) -> None:
        """A client with the token is connected at once, without a subprotocol, and serves what is below its id."""
        client = self.gate.client("node")
        assert client.channel is not None
        self.assertIsNone(client.channel.subprotocol)
        self.assertEqual(self.gate.names(), ["/node"])
        self.assertEqual(self.gate.admission.connections, 0)  # it is no visitor

    def test_refused(self) -> None:
        """A wrong token, none, or two are refused before there is a WebSocket."""
        for tokens in (["wrong"], [], [TOKEN, TOKEN], [TOKEN + "x"], [""]):
            self.assertRefused(self.gate.connect("node", tokens), 403)
        self.gate.wait(11)
        self.assertEqual(self.gate.names(), [])

    def test_ids(self) -> None:
        """A token that is for some ids is not good for others."""
        self.gate.client("articles", OTHER)
        self.assertRefused(self.gate.connect("node", [OTHER]), 403)

    def test_bans(self) -> None:
        """Who tries many tokens is shut out for a while, even with a good one; others are not."""
        self.gate.door.bans = Bans(threshold=3)
        for _ in range(3):
            self.gate.connect("node", ["wrong"])
        self.assertIn("Too many wrong tokens", self.assertRefused(self.gate.connect("node"), 403))
        self.gate.client("node", peer="192.0.2.10")

    def test_noToken(self) -> None:
        """Who comes without a token guesses nothing, and shuts nobody out: any page can do that to who looks at it."""
        self.gate.door.bans = Bans(threshold=3)
        for _ in range(5):
            self.assertIn("The token is wrong", self.assertRefused(self.gate.connect("node", []), 403))
        self.gate.client("node")

    def test_proxy(self) -> None:
        """Of those who come through a proxy it is the address that it tells that counts, and never its own."""
        self.gate = PipeGate(proxies=["192.0.2.0/24"])
        self.gate.door.bans = Bans(threshold=3)
        for _ in range(3):
            self.gate.connect("node", ["wrong"], forwarded="203.0.113.7")
            self.gate.connect("node", ["wrong"])
        self.assertIn("Too many", self.assertRefused(self.gate.connect("node", forwarded="203.0.113.7"), 403))
        self.gate.client("node")
        self.gate.client("other", forwarded="203.0.113.8")
        self.assertEqual(
            {session.facts().peer for session in self.gate.door.sessions}, {"proxy 192.0.2.9", "203.0.113.8"}
        )

    def test_draining(self) -> None:
        """A server that stops takes no clients."""
        self.gate.door.drain(10)
        self.assertRefused(self.gate.connect("node"), 503)

    def test_takes(self) -> None:
        """The id alone is for clients; paths below it are visitors', whose WebSockets these are."""
        for target, upgrade, takes in (
            ("/node", "websocket", True),
            ("/node?x=1", "websocket", True),
            ("/node", "h2c", False),
            ("/node/", "websocket", False),
            ("/node/ws", "websocket", False),
            ("/", "websocket", False),
            ("/a%20b", "websocket", False),
        ):
            head = RequestHead("GET", target, "1.1", [("upgrade", upgrade)])
            self.assertEqual(self.gate.dialect.takes(head), takes, target)


class RequestTests(GateTests):
    """A visitor's request and its response."""

    def test_transcript(self) -> None:
        """The client gets the message that PipeGate's server sends, and the visitor what it answers."""
        client = self.gate.client("node")
        visit = self.gate.ask("/node/articles/new?page=2", "POST", "ä=1".encode(), ("host", "gw.example"))
        (message,) = client.heard
        self.assertEqual(set(message), {"correlation_id", "url_path", "url_query", "method", "headers", "body"})
        self.assertEqual((message["url_path"], json.loads(message["url_query"])), ("articles/new", {"page": "2"}))
        self.assertEqual((message["method"], message["body"]), ("POST", "ä=1"))
        headers = json.loads(message["headers"])
        self.assertEqual(headers["x-pipegate-correlation-id"], message["correlation_id"].replace("-", ""))
        self.assertEqual(headers["host"], "gw.example")
        client.answer(message, "<h1>Grüße</h1>", 201, content_type="text/html", content_encoding="gzip")
        self.assertEqual((visit.status, visit.text, visit.length), (201, "<h1>Grüße</h1>", 16))
        assert visit.head is not None
        self.assertEqual(visit.head.headers, [("content-type", "text/html")])
        self.assertTrue(visit.isWhole)

    def test_interleaved(self) -> None:
        """Responses find their requests in whatever order they come."""
        client = self.gate.client("node")
        visits = [self.gate.ask(f"/node/{n}") for n in range(10)]
        for message in reversed(client.heard):
            client.answer(message, message["url_path"])
        self.assertEqual([visit.text for visit in visits], [str(n) for n in range(10)])

    def test_failure(self) -> None:
        """A client that could not reach its application answers with a status alone, and the visitor gets it."""
        client = self.gate.client("node")
        visit = self.gate.ask("/node/x")
        client.answer(client.heard[0], status=504)
        self.assertEqual((visit.status, visit.body, visit.isWhole), (504, b"", True))

    def test_pace(self) -> None:
        """A response is handed on no faster than the visitor takes it."""
        client = self.gate.client("node")
        visit = self.gate.begin("/node/x")
        visit.request.finish()
        visit.request.pauseProducing()
        self.gate.pump()
        client.answer(client.heard[0], "x" * 200_000)
        self.assertEqual((visit.status, visit.body), (200, b""))
        visit.isSlow = True
        visit.request.resumeProducing()
        self.assertEqual((len(visit.body), visit.isWhole), (64 * 1024, False))
        for _ in range(2):
            visit.request.resumeProducing()
        self.assertEqual((len(visit.body), visit.isWhole), (3 * 64 * 1024, False))
        visit.request.resumeProducing()
        self.assertEqual((len(visit.body), visit.isWhole), (200_000, True))
        client.leave()
        self.gate.wait(20)
        self.assertClean()

    def test_timeout(self) -> None:
        """Without an answer there is a 504 after the timeout, and an answer that comes later is nobody's."""
        client = self.gate.client("node")
        visit = self.gate.ask("/node/x")
        self.gate.wait(299.75)
        self.assertEqual(visit.status, 0)
        self.gate.wait(0.25)
        self.assertPage(visit, 504, "did not answer in time")
        client.answer(client.heard[0], "late")
        self.assertEqual(self.gate.dialect.held.requests, 0)
        self.assertIsNone(client.reason)

    def test_slowClient(self) -> None:
        """What a client does not take waits, and that of a visitor who has left does not: no more is kept than held."""
        client = self.gate.client("node")
        assert client.channel is not None
        client.channel.pauseProducing()
        pipe = self.gate.links[-1].bToA
        for _ in range(20):
            self.gate.ask("/node/x", "POST", b"a" * 500_000).request.abort()
        self.assertLess(pipe.highWater, 600_000)
        visits = [self.gate.ask(f"/node/{number}", "POST", b"a" * 100_000) for number in range(3)]
        visits[1].request.abort()
        client.channel.resumeProducing()
        self.gate.pump()
        self.assertEqual([each["url_path"] for each in client.heard], ["x", "0", "2"])
        for message in client.heard:
            client.answer(message)
        self.assertEqual([each.status for each in visits], [200, 0, 200])
        client.leave()
        self.gate.wait(10)
        self.assertClean()

    def test_visitorLeaves(self) -> None:
        """A visitor who leaves is forgotten, and the answer is nobody's."""
        client = self.gate.client("node")
        visit = self.gate.ask("/node/x")
        visit.request.abort()
        client.answer(client.heard[0], "late")
        self.assertEqual((visit.status, self.gate.dialect.held.requests), (0, 0))

    def test_clientLeaves(self) -> None:
        """The requests of a client that goes away fail at once."""
        client = self.gate.client("node")
        visits = [self.gate.ask("/node/x") for _ in range(3)]
        client.leave()
        for visit in visits:
            assert visit.lost is not None
            self.assertEqual(visit.lost.problem, OriginProblem.UNANSWERED)
            self.assertIn("went away", visit.lost.details)
        self.gate.wait(20)
        self.assertClean()

    def test_head(self) -> None:
        """The answer to HEAD has no body, and says how long that of GET is."""
        client = self.gate.client("node")
        visit = self.gate.ask("/node/x", "HEAD")
        client.answer(client.heard[0], content_length="1000")
        assert visit.head is not None
        self.assertEqual((visit.length, visit.head.get("content-length"), visit.body), (0, "1000", b""))


class LimitTests(GateTests):
    """What cannot be carried is said at once, with the status that fits."""

    def setUp(self) -> None:
        self.gate = PipeGate(limits=JsonLimits(message=2000, requests=5, requestsPerID=3, memory=10_000))
        self.client = self.gate.client("node")

    def test_tooLarge(self) -> None:
        """A body that no message has room for is refused: by its length, by what came, or by what its message is."""
        visit = self.gate.begin("/node/x", "POST", 2001)
        visit.request.write(b"x")
        self.assertPage(visit, 413, "at most 2000 bytes")
        visit = self.gate.begin("/node/x", "POST", None)
        for _ in range(3):
            visit.request.write(b"x" * 700)
        self.assertPage(visit, 413, "at most 2000 bytes")
        visit = self.gate.ask("/node/x", "POST", b'"' * 1500)
        self.assertPage(visit, 413, "at most 2000 bytes")
        self.assertEqual(self.client.heard, [])
        self.assertEqual(self.gate.dialect.held.size, 0)

    def test_notText(self) -> None:
        """A body that is not text is refused with a sentence that says what carries it."""
        self.assertPage(self.gate.ask("/node/x", "POST", b"\x89PNG\xff"), 502, "gateway pipegate-client")

    def test_parameters(self) -> None:
        """A query that has no end is the visitor's own fault."""
        self.assertPage(self.gate.ask("/node/x?" + "a&" * 1001), 414, "more than 1000 parameters")

    def test_responseNotText(self) -> None:
        """So is a response of which the client made text, and lost what it was."""
        visit = self.gate.ask("/node/x.png")
        self.client.answer(self.client.heard[0], "\ufffdPNG\ufffd", content_type="image/png")
        self.assertPage(visit, 502, "gateway pipegate-client")

    def test_webSocket(self) -> None:
        """And a WebSocket, which this dialect does not carry."""
        visit = self.gate.ask("/node/x", "GET", b"", ("upgrade", "websocket"))
        self.assertPage(visit, 502, "carry no WebSockets")

    def test_method(self) -> None:
        """And a method that PipeGate has not."""
        visit = self.gate.ask("/node/x", "PROPFIND")
        self.assertPage(visit, 405, "no PROPFIND")
        assert visit.head is not None
        self.assertIn("PATCH", visit.head.get("allow") or "")

    def test_perID(self) -> None:
        """One client has only so many requests at a time, and room for another when one is answered."""
        visits = [self.gate.ask("/node/x") for _ in range(3)]
        self.assertPage(self.gate.ask("/node/x"), 503, "too many requests")
        self.client.answer(self.client.heard[0])
        self.assertEqual([visit.status for visit in visits], [200, 0, 0])
        self.assertEqual(self.gate.ask("/node/x").status, 0)
        self.assertEqual(len(self.client.heard), 4)

    def test_slowVisitors(self) -> None:
        """Who is slow to send a request, or to take a response, takes nobody's place with the client."""
        self.gate = PipeGate(limits=JsonLimits(requestsPerID=3))
        self.client = self.gate.client("node")
        uploads = [self.gate.begin("/node/x", "POST", 10) for _ in range(5)]
        self.assertEqual(self.gate.ask("/node/x").status, 0)
        self.client.answer(self.client.heard[0])
        readers = [self.gate.begin("/node/x") for _ in range(3)]
        for reader in readers:
            reader.isSlow = True
            reader.request.finish()
            self.gate.pump()
            self.client.answer(self.client.heard[-1], "x" * 70_000)
        self.assertEqual([each.isWhole for each in readers], [False] * 3)
        visits = [self.gate.ask("/node/x") for _ in range(3)]
        self.assertEqual([visit.status for visit in visits], [0] * 3)
        for upload in uploads:
            upload.request.write(b"x" * 10)
            upload.request.finish()
            self.assertPage(upload, 503, "too many requests")

    def test_all(self) -> None:
        """All clients together have only so many."""
        self.gate.client("other")
        for name in ("node", "node", "node", "other", "other"):
            self.gate.ask(f"/{name}/x")
        visit = self.gate.ask("/other/x")
        self.assertPage(visit, 503, "too many requests")
        assert visit.head is not None
        self.assertEqual(visit.head.get("retry-after"), "5")

    def test_memory(self) -> None:
        """Bodies that are kept have a sum that they do not pass; it is free again when they are gone."""
        self.gate.dialect.held.size = 9500
        self.assertPage(self.gate.ask("/node/x", "POST", b"x" * 600), 503, "no room")
        visit = self.gate.ask("/node/x", "POST", b"x" * 400)
        self.client.answer(self.client.heard[0], "x" * 200)
        self.assertPage(visit, 503, "no room")
        self.assertEqual(self.gate.dialect.held.size, 9500)


class HostileTests(GateTests):
    """What a client says is looked at before it is believed."""

    def test_messages(self) -> None:
        """What is no message ends the session, with a reason, and its visitors are told."""
        for text in ("", "hello", "[]", "{}", '{"correlation_id":1}', json.dumps(JSON | {"status_code": "x"})):
            with self.subTest(text):
                client, other = self.gate.client("node"), self.gate.client("other")
                visit, unharmed = self.gate.ask("/node/x"), self.gate.ask("/other/x")
                client.say(text)
                assert client.reason is not None and visit.lost is not None
                other.answer(other.heard[0], "fine")
                self.assertEqual(unharmed.text, "fine")
                other.leave()
                self.gate.wait(20)
                self.assertClean()

    def test_binary(self) -> None:
        """A binary message is none either."""
        client = self.gate.client("node")
        assert client.channel is not None
        client.channel.write(b"{}")
        self.gate.pump()
        self.assertIsNotNone(client.reason)

    def test_badResponse(self) -> None:
        """A response that HTTP cannot carry is the trouble of its own visitor, and of no other."""
        client = self.gate.client("node")
        visit, other = self.gate.ask("/node/x"), self.gate.ask("/node/y")
        client.say(JSON | {"correlation_id": client.heard[0]["correlation_id"], "headers": '{"a":"b\\r\\nc: d"}'})
        self.assertPage(visit, 502, "none that HTTP can carry")
        client.answer(client.heard[1], "fine")
        self.assertEqual(other.text, "fine")

    def test_unknown(self) -> None:
        """A response to nothing, or a second one, is passed over."""
        client = self.gate.client("node")
        client.say(JSON)
        visit = self.gate.ask("/node/x")
        client.answer(client.heard[0], "one")
        client.answer(client.heard[0], "two")
        self.assertEqual((visit.text, client.reason), ("one", None))

    def test_otherClient(self) -> None:
        """Nobody answers the requests of another client."""
        client, other = self.gate.client("node"), self.gate.client("other")
        visit = self.gate.ask("/node/x")
        other.answer(client.heard[0], "forged")
        self.assertEqual(visit.status, 0)
        client.answer(client.heard[0], "true")
        self.assertEqual(visit.text, "true")


class ReplicaTests(GateTests):
    """Two clients of one id, and one that comes back."""

    def test_takesOver(self) -> None:
        """The newest gets the visitors, and the one before is told so."""
        old = self.gate.client("node")
        visit = self.gate.ask("/node/x")
        new = self.gate.client("node")
        assert old.reason is not None and visit.lost is not None
        self.assertTrue(old.reason.check(ConnectionDone))
        self.gate.ask("/node/y")
        self.assertEqual([message["url_path"] for message in new.heard], ["y"])
        self.assertEqual(len(self.gate.door.sessions), 1)

    def test_shares(self) -> None:
        """Where they are to share, each gets some of the visitors, and when one leaves the other gets all."""
        self.gate = PipeGate(shares=True)
        one, other = self.gate.client("node"), self.gate.client("node")
        for _ in range(20):
            self.gate.ask("/node/x")
        self.assertEqual(len(one.heard) + len(other.heard), 20)
        self.assertTrue(one.heard and other.heard)
        one.leave()
        count = len(other.heard)
        for _ in range(5):
            self.gate.ask("/node/x")
        self.assertEqual(len(other.heard), count + 5)

    def dial(self) -> list[DialFailed]:
        """A visitor comes while the client is away; return why nothing became of it, once that is so."""
        found = self.gate.registry.prefix("/node/x")
        assert found is not None
        failures: list[DialFailed] = []
        dialled: Deferred[IProtocol] = RouteEndpoint(found[0], VISITOR, self.gate.clock).connect(
            Factory.forProtocol(Peer)
        )

        def failed(failure: Failure) -> None:
            assert isinstance(failure.value, DialFailed)
            failures.append(failure.value)

        dialled.addErrback(failed)
        return failures

    def test_comesBack(self) -> None:
        """A visitor waits for a client that was here a moment ago, and is led to it when it is back."""
        self.gate.client("node").leave()
        self.assertEqual(self.gate.names(), ["/node"])
        failures = self.dial()
        self.gate.wait(4.75)
        self.assertEqual(failures, [])
        self.gate.client("node")
        self.gate.wait(0.25)
        # The dial went on to the client itself, which takes no streams.
        self.assertEqual([failure.kind for failure in failures], [DialFailure.DENIED])

    def test_staysAway(self) -> None:
        """When it is not back in time the visitor is told so, and its paths are nobody's."""
        self.gate.client("node").leave()
        failures = self.dial()
        self.gate.wait(4.75)
        self.assertEqual(failures, [])
        self.gate.wait(0.25)
        self.assertEqual([failure.kind for failure in failures], [DialFailure.UNREACHABLE])
        self.assertIn("not connected", failures[0].details)
        self.assertEqual(self.gate.names(), [])

    def test_stops(self) -> None:
        """A server that stops waits for nobody."""
        self.gate.client("node").leave()
        failures = self.dial()
        self.gate.dialect.stop()
        self.assertEqual(len(failures), 1)
        self.gate.wait(10)
        self.assertClean()


class LifeTests(GateTests):
    """Sessions end as they should."""

    def test_notServed(self) -> None:
        """A client whose path is somebody else's is told so, and nothing is held for it."""
        self.gate.doors.ours.add(prefixPlace("/node"))
        client = self.gate.client("node")
        self.assertIsNotNone(client.reason)
        self.gate.wait(20)
        self.assertClean()

    def test_revoked(self) -> None:
        """A client whose token is not good any more is sent away; others stay."""
        client, other = self.gate.client("node"), self.gate.client("articles", OTHER)
        self.gate.dialect.authority.tokens = PipeGateTokens([PipeGateToken(hashToken(OTHER))])
        self.gate.dialect.tokensChanged()
        self.gate.pump()
        self.assertIsNotNone(client.reason)
        self.assertIsNone(other.reason)
        self.assertEqual(self.gate.names(), ["/articles"])

    def test_shutdown(self) -> None:
        """A server that stops ends its sessions, and their visitors are told."""
        client = self.gate.client("node")
        visit = self.gate.ask("/node/x")
        closed = Deferred.fromCoroutine(self.gate.door.close())
        self.gate.wait(1)
        self.successResultOf(closed)
        assert client.reason is not None
        self.assertIsNotNone(visit.lost)
        self.gate.wait(20)
        self.assertClean()

    def test_silent(self) -> None:
        """A client whose network is gone is found out by pings."""
        self.gate.client("node")
        self.gate.links[-1].cut()
        self.gate.wait(11)
        self.assertEqual(self.gate.door.sessions, set())

    def test_facts(self) -> None:
        """Whoever looks at the sessions sees who is here."""
        self.gate.client("node")
        (session,) = self.gate.door.sessions
        facts = session.facts()
        self.assertEqual((facts.agent, facts.peer, facts.streams), ("pipegate/node", "192.0.2.9", 0))
        self.assertEqual([str(place) for place in facts.places], ["/node"])
        session.end(SessionError.REVOKED, "Enough.")
        session.end(SessionError.REVOKED, "Enough.")
        self.gate.wait(20)
        self.assertClean()
