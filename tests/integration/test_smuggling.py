"""
Request smuggling against a real gateway and agent, with origins of every kind behind: what an attacker sends is refused,
or is one request to everybody who reads it, and no visitor ever gets another's answer.

    attacker --\\
                gateway -- agent -- one connection -- origin
    victim ----/
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamEnded, StreamReset

from gateway.wire.http1 import parseResponseHead
from gateway.wire.http1body import BodyReader, responseLength
from tests.integration.recordingorigin import Read, RecordingOrigin, Seen, lenient, readAll, strict
from tests.integration.tunnels import Place, RunningGateway, agent, serving
from tests.processes import HERE, SECONDS, DeadlineTestCase
from tests.wire.test_http1 import STRICT
from tests.wire.test_http1smuggling import CHUNKS, SMUGGLED, VARIANTS, readRequest

NAME = "a.example.com"
"""By which an origin is reached in TLS; without, it is C{a.example}."""

REFUSALS = {400, 405, 414, 431, 501, 505}

READINGS: dict[str, Read] = {
    "strict": strict,
    "lenient, by length": lenient(prefersLength=True),
    "lenient, by chunks": lenient(prefersLength=False),
}

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"

ANSWERS: dict[bytes, tuple[bytes, ...]] = {
    b"/two": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + POISON,),
    b"/two-at-a-time": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", POISON, POISON),
    b"/noise-behind": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokPOISON",),
    b"/chunks-and-more": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + POISON,),
    b"/204": (b"HTTP/1.1 204 No Content\r\n\r\n" + POISON,),
    b"/204-with-length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nPOISON",),
    b"/304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n" + POISON,),
    b"/length-and-chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    ),
    b"/two-lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 48\r\n\r\nok" + POISON,),
    b"/two-equal-lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",),
    b"/negative-length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok" + POISON,),
    b"/xchunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + POISON,),
    b"/chunked-in-1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + POISON,),
    b"/bad-chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n" + POISON,),
    b"/bad-chunk-end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokPOISON\r\n0\r\n\r\n",),
    b"/bare-lf": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok" + POISON + b"\r\n\r\n",),
    b"/folded": (b"HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",),
    b"/nul": (b"HTTP/1.1 200 OK\r\nX: y\0\r\nContent-Length: 2\r\n\r\nok",),
    b"/space-before-colon": (b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok" + POISON,),
    b"/http2": (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",),
    b"/noise": (b"POISON\r\n\r\n",),
    b"/unasked-101": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + POISON,),
    b"/100": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + POISON,),
    b"/cut-off": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", b""),
    b"/close-and-more": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok" + POISON,),
}
"""What an origin says that is broken, or is an attacker's."""

BROKEN = {b"/bad-chunk", b"/bad-chunk-end", b"/cut-off"}
"""Those whose visitor has been told a 200 when it turns out that there is no end to it."""

GOOD = [(200, b"ok"), (200, b""), (204, b""), (304, b"")]

HEAD_ANSWERS = {
    b"/head": (POISON,),
    b"/head-chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + POISON,),
}


def responses(data: bytes, *methods: str) -> tuple[list[tuple[int, bytes]], bool]:
    """
    What a visitor's connection carried until it ended, read by the letter.

    @return: status and body of each response, and whether the last is complete.
    """
    found: list[tuple[int, bytes]] = []
    asked = [*methods]
    while data:
        head = parseResponseHead(data)
        assert head is not None, data
        data = data.partition(b"\r\n\r\n")[2]
        if head.status < 200:
            continue
        body = BodyReader(responseLength(head, asked.pop(0) if asked else "GET"))
        pieces, rest = body.receive(data)
        found.append((head.status, b"".join(pieces)))
        if not body.isDone:
            return found, False
        data = bytes(rest)
    return found, True


class SmugglingTestCase(DeadlineTestCase):
    """
    A victim, and an origin that attackers share with them.
    """

    deadline = 180

    def setUp(self) -> None:
        super().setUp()
        self.place = Place(Path(self.mktemp()).absolute())

    @contextmanager
    def behind(self, origin: RecordingOrigin) -> Iterator[RunningGateway]:
        """A gateway with an agent that serves C{a.example} and L{NAME} from an origin."""
        place = self.place
        service = {"key": "a", "kind": "http", "hostnames": ["a.example", NAME], "origin": f"{HERE}:{origin.port}"}
        with (
            serving(place, more="new-per-second-per-address = 0") as gateway,
            agent(gateway, place, [{**service, "proxy-protocol": "none"}]),
        ):
            yield gateway

    def said(self, gateway: RunningGateway, *pieces: bytes) -> bytes:
        """All that comes back for what a visitor sends before it ends."""
        data = b""
        with gateway.connect("http") as visitor, contextlib.suppress(ConnectionError):
            visitor.settimeout(SECONDS)
            visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                visitor.sendall(piece)
            visitor.shutdown(socket.SHUT_WR)
            while piece := visitor.recv(65536):
                data += piece
        return data

    def assertServed(self, gateway: RunningGateway, number: int) -> None:
        """Another visitor gets the answer to what they asked for, and nothing else."""
        request = b"GET /victim/%d HTTP/1.1\r\nHost: a.example\r\nX-Visitor: %d\r\n\r\n" % (number, number)
        self.assertEqual(
            responses(self.said(gateway, request)), ([(200, b"GET /victim/%d %d " % (number, number))], True)
        )

    def assertUnambiguous(self, origin: RecordingOrigin) -> None:
        """Whoever reads the bytes that an origin got sees the same requests."""
        for connection in origin.connections:
            requests = readAll(strict, connection.received)
            for name, read in READINGS.items():
                self.assertEqual(readAll(read, connection.received), requests, name)
            self.assertEqual([(each.method, each.target, each.body) for each in connection.seen], requests)


class AttackTests(SmugglingTestCase):
    """
    An attacker who speaks HTTP/1, or an origin that does not.
    """

    def test_attacks(self) -> None:
        """Whatever is sent, in one piece or two, each origin sees what all see, and each visitor is served."""
        for name, read in READINGS.items():
            with RecordingOrigin(read) as origin, self.behind(origin) as gateway:
                for number, variant in enumerate(VARIANTS):
                    with self.subTest(f"{name}: {variant.name}"):
                        before = len(origin.seen)
                        middle = len(variant.data) // 2
                        pieces = (variant.data,) if number % 2 else (variant.data[:middle], variant.data[middle:])
                        answers, isWhole = responses(self.said(gateway, *pieces))
                        self.assertTrue(isWhole)
                        if variant.code is None:
                            head, body, _, rest = readRequest(variant.data)
                            expected = [b"%b %b - %b" % (head.method.encode(), head.target.encode(), body)]
                            if rest == SMUGGLED:  # it is the attacker's own next request, and answered as that
                                expected.append(b"GET /smuggled - ")
                            self.assertEqual(answers, [(200, each) for each in expected])
                        else:
                            self.assertEqual([status in REFUSALS for status, _ in answers], [True])
                            self.assertEqual(len(origin.seen), before)
                        self.assertServed(gateway, number)
                self.assertUnambiguous(origin)
                # The victim came on connections that attackers had used; only those of broken bodies are given up.
                self.assertLess(len(origin.connections), len(CHUNKS) + 5)

    def test_answers(self) -> None:
        """Whatever an origin answers, the visitor gets one response by the letter, and the next visitor their own."""
        with RecordingOrigin(strict, {**ANSWERS, **HEAD_ANSWERS}) as origin, self.behind(origin) as gateway:
            number = 0
            for method, answers in (("GET", ANSWERS), ("HEAD", HEAD_ANSWERS)):
                for target in answers:
                    with self.subTest(target):
                        number += 1
                        self.assertServed(gateway, number)
                        request = b"%b %b HTTP/1.1\r\nHost: a.example\r\n\r\n" % (method.encode(), target)
                        data = self.said(gateway, request)
                        self.assertNotIn(b"POISON", data)
                        found, isWhole = responses(data, method)
                        if target in BROKEN:  # a reset, which may overtake what was sent before it
                            self.assertIn(
                                (found, isWhole), [([], True), ([(200, b"ok")], False), ([(200, b"")], False)]
                            )
                        else:
                            self.assertTrue(isWhole)
                            status, body = found.pop()
                            self.assertIn((status, body), [*GOOD, (502, body)])
                            self.assertEqual(found, [])
                        self.assertServed(gateway, -number)

    def test_upgrades(self) -> None:
        """What comes behind an upgrade is looked at where the origin wants none, which it is not asked for h2c."""
        with RecordingOrigin(strict) as origin, self.behind(origin) as gateway:
            for number, (protocol, passes) in enumerate(
                (
                    (b"websocket", True),
                    (b"x/1", True),
                    (b"h2c", False),
                    (b"websocket, h2c", False),
                    (b"HTTP/2.0", False),
                )
            ):
                with self.subTest(protocol):
                    request = b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: " + protocol
                    behind = b"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: nobody.example\r\n\r\n"
                    answers, isWhole = responses(self.said(gateway, request + behind))
                    self.assertEqual(([status for status, _ in answers], isWhole), ([200, 404], True))
                    self.assertEqual(b"upgrade" in origin.seen[-1].fields, passes)
                    self.assertServed(gateway, number)
            self.assertUnambiguous(origin)

    def test_early(self) -> None:
        """An origin that answers before the body came gets nothing of it as another's request."""
        with RecordingOrigin(_eager) as origin, self.behind(origin) as gateway:
            for number in range(20):
                head = b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
                with gateway.connect("http") as attacker:
                    attacker.settimeout(SECONDS)
                    attacker.sendall(head)
                    self.assertTrue(attacker.recv(65536).startswith(b"HTTP/1.1 200 "))
                    self.assertServed(gateway, number)
                    with contextlib.suppress(ConnectionError):
                        attacker.sendall(SMUGGLED)
                    self.assertServed(gateway, -number)
            self.assertNotIn(b"/smuggled", {each.target for each in origin.seen})


def _eager(data: bytes) -> tuple[Seen, bytes] | None:
    """Reads no bodies, and answers without them."""
    if not (match := STRICT.match(data)):
        return None
    names = [line.partition(b": ") for line in match[4].lower().split(b"\r\n")]
    return Seen(match[1], match[2], {name: value for name, _, value in names}, b""), data[match.end() :]


PLAIN = {b":method": b"GET", b":scheme": b"https", b":authority": NAME.encode(), b":path": b"/a"}


@dataclass(frozen=True, slots=True)
class Stream:
    """
    An attack in HTTP/2, whose fields may hold what would end a line or a head in HTTP/1.

    @ivar fields: of a request for C{/a}, as they are sent.
    @ivar mayPass: it means one thing only, so that it may be refused and may not.
    """

    name: str
    fields: Sequence[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: Sequence[tuple[bytes, bytes]] = ()
    mayPass: bool = False


def stream(name: str, *fields: tuple[bytes, bytes], body: bytes = b"", mayPass: bool = False) -> Stream:
    """Fields beside the usual, or in their place."""
    known = dict(fields)
    usual = [(key, known.pop(key, value)) for key, value in PLAIN.items()]
    return Stream(name, [*usual, *(each for each in fields if each[0] not in PLAIN)], body, mayPass=mayPass)


SMUGGLED_HERE = SMUGGLED.replace(b"a.example", NAME.encode())
LINE = b"\r\nGET /smuggled HTTP/1.1\r\nHost: " + NAME.encode() + b"\r\n\r\n"

STREAMS = [
    stream("a coding", (b"transfer-encoding", b"chunked"), body=b"0\r\n\r\n" + SMUGGLED_HERE),
    stream("a coding with strange case", (b"Transfer-Encoding", b"chunked"), body=b"0\r\n\r\n" + SMUGGLED_HERE),
    stream("length 0 and a body", (b"content-length", b"0"), body=SMUGGLED_HERE),
    stream("a length that is too small", (b"content-length", b"3"), body=b"abc" + SMUGGLED_HERE),
    stream("a length that is too large", (b"content-length", b"300"), body=b"abc"),
    stream("a length and no body", (b"content-length", b"300")),
    stream("two lengths", (b"content-length", b"3"), (b"content-length", b"0"), body=b"abc"),
    stream("two lengths in a line", (b"content-length", b"3, 3"), body=b"abc"),
    stream("length +3", (b"content-length", b"+3"), body=b"abc"),
    stream("a connection's field", (b"connection", b"keep-alive")),
    stream("an upgrade", (b"upgrade", b"websocket"), (b"connection", b"upgrade")),
    stream("proxy-connection", (b"proxy-connection", b"keep-alive")),
    stream("te, and not trailers", (b"te", b"gzip")),
    stream("a line in a value", (b"x", b"y\r\ntransfer-encoding: chunked"), body=b"0\r\n\r\n" + SMUGGLED_HERE),
    stream("a bare LF in a value", (b"x", b"y\ntransfer-encoding: chunked"), body=b"0\r\n\r\n" + SMUGGLED_HERE),
    stream("a bare CR in a value", (b"x", b"y\rtransfer-encoding: chunked"), body=b"0\r\n\r\n" + SMUGGLED_HERE),
    stream("a request in a value", (b"x", b"y\r\n" + LINE)),
    stream("a NUL in a value", (b"x", b"y\0z")),
    stream("a request in a cookie", (b"cookie", b"y" + LINE)),
    stream("a line in a name", (b"x: y\r\ntransfer-encoding", b"chunked"), body=b"0\r\n\r\n" + SMUGGLED_HERE),
    stream("a colon in a name", (b"transfer-encoding:chunked", b"")),
    stream("a space in a name", (b"transfer-encoding ", b"chunked"), body=b"0\r\n\r\n" + SMUGGLED_HERE),
    stream("a capital in a name", (b"X", b"y")),
    stream("an empty name", (b"", b"y")),
    stream("a name that is not ASCII", (b"x\xe9", b"y")),
    stream("a version in the path", (b":path", b"/ HTTP/1.1")),
    stream("a request in the path", (b":path", b"/ HTTP/1.1" + LINE)),
    stream("a tab in the path", (b":path", b"/a\tb")),
    stream("a path that is not ASCII", (b":path", b"/\xe9")),
    stream("an empty path", (b":path", b"")),
    stream("a path without a slash", (b":path", b"a")),
    stream("a path with a fragment", (b":path", b"/a#b")),
    stream("a path on another host", (b":path", b"http://b.example/")),
    stream("a request in the method", (b":method", b"GET /a HTTP/1.1" + LINE)),
    stream("a space in the method", (b":method", b"GET /a")),
    stream("an empty method", (b":method", b"")),
    stream("a line in the scheme", (b":scheme", b"https" + LINE)),
    stream("a line in the authority", (b":authority", NAME.encode() + LINE)),
    stream("a user in the authority", (b":authority", b"u@" + NAME.encode())),
    stream("a path in the authority", (b":authority", NAME.encode() + b"/b")),
    stream("an empty authority", (b":authority", b"")),
    stream("another host", (b"host", b"b.example")),
    stream("two hosts", (b"host", NAME.encode()), (b"host", b"b.example")),
    stream("two equal hosts", (b"host", NAME.encode()), (b"host", NAME.encode()), mayPass=True),
    stream("an unknown pseudo-header", (b":status", b"200")),
    stream("a field that is the length's with underscore", (b"content_length", b"0"), body=b"abc", mayPass=True),
    Stream("a pseudo-header behind fields", [*[*PLAIN.items()][:3], (b"x", b"y"), (b":path", b"/a")]),
    Stream("a pseudo-header twice", [*PLAIN.items(), (b":path", b"/smuggled")]),
    Stream("no path", [*PLAIN.items()][:3]),
    Stream("no method", [*PLAIN.items()][1:]),
    Stream("neither authority nor host", [each for each in PLAIN.items() if each[0] != b":authority"]),
    Stream("CONNECT", [(b":method", b"CONNECT"), (b":authority", NAME.encode())]),
    Stream("a pseudo-header in trailers", [*PLAIN.items()], b"abc", [(b":path", b"/smuggled")]),
    Stream("a line in a trailer", [*PLAIN.items()], b"abc", [(b"x", b"y" + LINE)]),
    Stream("a coding in trailers", [*PLAIN.items()], b"abc", [(b"transfer-encoding", b"chunked")]),
    Stream("a length in trailers", [*PLAIN.items()], b"abc", [(b"content-length", b"9")], mayPass=True),
]


class DowngradeTests(SmugglingTestCase):
    """
    An attacker who speaks HTTP/2, in which anything fits anywhere, to an origin that speaks HTTP/1.
    """

    def answered(self, gateway: RunningGateway, attack: Stream) -> int | None:
        """The status of the answer, if there is one that ends as it should."""
        settings = H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        peer, status = H2Connection(settings), None
        with gateway.connectTLS(self.place, NAME, "h2") as visitor, contextlib.suppress(ConnectionError):
            visitor.settimeout(SECONDS)
            peer.initiate_connection()
            peer.send_headers(1, attack.fields, end_stream=not attack.body)
            if attack.body:
                peer.send_data(1, attack.body, end_stream=not attack.trailers)
            if attack.trailers:
                peer.send_headers(1, attack.trailers, end_stream=True)
            visitor.sendall(peer.data_to_send())
            while data := visitor.recv(65536):
                for event in peer.receive_data(data):
                    match event:
                        case ResponseReceived(headers=fields):
                            status = int(dict(fields)[b":status"])
                        case StreamEnded():
                            return status
                        case StreamReset() | ConnectionTerminated():
                            return None
                visitor.sendall(peer.data_to_send())
        return None

    def test_attacks(self) -> None:
        """Whatever is in a stream, each origin sees one request in it or none, and each visitor is served."""
        for name, read in READINGS.items():
            with RecordingOrigin(read) as origin, self.behind(origin) as gateway:
                for number, attack in enumerate(STREAMS):
                    with self.subTest(f"{name}: {attack.name}"):
                        before = len(origin.seen)
                        status = self.answered(gateway, attack)
                        found = [(each.method, each.target, each.body) for each in origin.seen[before:]]
                        if status == 200 and attack.mayPass:
                            self.assertEqual(found, [(b"GET", b"/a", attack.body)])
                        else:
                            self.assertIn(status, {None, *REFUSALS})
                            self.assertEqual(found, [])
                        self.assertServed(gateway, number)
                self.assertUnambiguous(origin)
