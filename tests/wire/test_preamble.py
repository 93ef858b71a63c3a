"""Tests for L{gateway.wire.preamble}."""

from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.preamble import (
    MAX_ANSWER,
    MAX_PREAMBLE,
    SERVICE,
    TARGET,
    Answer,
    Preamble,
    StreamError,
    Target,
    decodeAnswer,
    encodeAnswer,
    encodePreamble,
    parsePreamble,
)
from gateway.wire.proxyheader import Address, ProxyHeader, Tlv, encodeV1, encodeV2

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

VISITOR = ProxyHeader(
    Address(IPv4Address("192.0.2.1"), 40000),
    Address(IPv4Address("198.51.100.7"), 443),
    tlvs=((Tlv.ALPN, b"h2"), (Tlv.AUTHORITY, b"app.example.com")),
)


def withTlvs(*tlvs: tuple[int, bytes]) -> bytes:
    """A header with these facts only."""
    return encodeV2(ProxyHeader(tlvs=tlvs))


class PreambleTests(SynchronousTestCase):
    """A preamble says where a stream leads."""

    PREAMBLES = (
        Preamble("web", VISITOR),
        Preamble("a" * 63, ProxyHeader(VISITOR.source, VISITOR.destination, datagram=True)),
        Preamble("7", ProxyHeader()),
        Preamble(Target("db.lan", 5432), VISITOR),
        Preamble(Target("Box_1.agent", 0), ProxyHeader()),
        Preamble(Target("192.0.2.9", 65535), ProxyHeader()),
        Preamble(Target("2001:db8::9", 22), ProxyHeader(datagram=True)),
        Preamble(Target("a" * 253, 1), ProxyHeader()),
    )

    def assertRefused(self, data: bytes) -> None:
        """Assert that this is refused with a sentence."""
        error = self.assertRaises(RemoteProtocolError, parsePreamble, data)
        self.assertEqual(error.code, StreamError.INVALID_PREAMBLE)
        self.assertRegex(error.details, r"^[A-Z].*\.$")

    def test_everySplit(self) -> None:
        """It comes out as it went in, when it is whole and not before, and whatever follows it."""
        for preamble in self.PREAMBLES:
            data = encodePreamble(preamble)
            for end in range(len(data)):
                self.assertIsNone(parsePreamble(data[:end]))
            for rest in (b"", b"\x16\x03\x01", data):
                self.assertEqual(parsePreamble(data + rest), (preamble, len(data)))

    def test_originIsNotTold(self) -> None:
        """The header that is left is the visitor's, for the origin: nothing of ours is in it."""
        found = parsePreamble(encodePreamble(Preamble("web", VISITOR)))
        assert found is not None
        self.assertEqual(encodeV2(found[0].header), encodeV2(VISITOR))

    def test_anyPlace(self) -> None:
        """Other programs may put the TLV of ours anywhere, among others of theirs."""
        found = parsePreamble(withTlvs((1, b"h2"), (SERVICE, b"web"), (0xE5, b"x")))
        assert found is not None
        self.assertEqual(found[0], Preamble("web", ProxyHeader(tlvs=((1, b"h2"), (0xE5, b"x")))))

    def test_oneDestination(self) -> None:
        """A preamble that leads nowhere, or to two places, is refused."""
        service, target = (SERVICE, b"web"), (TARGET, b"db.lan:5432")
        for tlvs in ((), (service, service), (service, target), (target, target)):
            self.assertRefused(withTlvs(*tlvs))

    def test_noDestination(self) -> None:
        """Headers that say nothing, and other bytes, are refused."""
        for data in (
            encodeV2(ProxyHeader(local=True)),
            encodeV1(VISITOR),
            encodeV1(ProxyHeader()),
            b"\1\0\7a.b.example",
            b"GET / HTTP/1.1\r\n",
        ):
            self.assertRefused(data)

    def test_keys(self) -> None:
        """What cannot be a service's key is refused."""
        for key in (b"", b"Web", b"a.b", b"a b", b"a\n", b"\xff", b"a" * 64):
            self.assertRefused(withTlvs((SERVICE, key)))

    def test_targets(self) -> None:
        """What is not one host and one port is refused."""
        for target in (
            b"",
            b"db.lan",
            b"db.lan:",
            b":22",
            b"db.lan:022",
            b"db.lan:65536",
            b"db.lan:-1",
            b"db.lan:22\n",
            b"db.lan:22 ",
            b"db lan:22",
            b"a@db.lan:22",
            b"2001:db8::9:22",
            b"[2001:db8::9]22",
            b"[2001:db8::9:22",
            b"[db.lan]:22",
            b"[192.0.2.9]:22",
            b"b\xc3\xbccher.example:22",
            b"a" * 254 + b":22",
        ):
            self.assertRefused(withTlvs((TARGET, target)))

    def test_limit(self) -> None:
        """A preamble as long as the limit is taken; one a byte longer is neither sent nor taken."""
        room = MAX_PREAMBLE - len(encodePreamble(Preamble("web", ProxyHeader(tlvs=((4, b""),)))))
        longest = encodePreamble(Preamble("web", ProxyHeader(tlvs=((4, bytes(room)),))))
        self.assertEqual(len(longest), MAX_PREAMBLE)
        self.assertIsNotNone(parsePreamble(longest))
        self.assertRaises(
            LocalProtocolError, encodePreamble, Preamble("web", ProxyHeader(tlvs=((4, bytes(room + 1)),)))
        )
        self.assertRefused(withTlvs((SERVICE, b"web"), (4, bytes(room + 1)))[:16])

    def test_local(self) -> None:
        """A header that can carry nothing is our own mistake."""
        self.assertRaises(LocalProtocolError, encodePreamble, Preamble("web", ProxyHeader(local=True)))

    @FUZZ
    @given(st.binary(max_size=40), st.sampled_from([SERVICE, TARGET]))
    def test_fuzz(self, value: bytes, kind: int) -> None:
        """Whatever a TLV of ours holds, it is read or refused; what is read is sent as it came."""
        data = withTlvs((kind, value))
        try:
            found = parsePreamble(data)
        except RemoteProtocolError as e:
            self.assertEqual(e.code, StreamError.INVALID_PREAMBLE)
            return
        assert found is not None
        self.assertEqual(encodePreamble(found[0]), data)


class AnswerTests(SynchronousTestCase):
    """The answer says what became of a stream."""

    def test_ok(self) -> None:
        """The usual answer is always the same few bytes; others may write them in another way."""
        self.assertEqual(encodeAnswer(Answer(ok=True)), b'{"ok":true}\n')
        for line in (b'{"ok":true}', b' { "ok" : true }\r', b'{"new":[1],"ok":true}'):
            self.assertTrue(decodeAnswer(line).ok)

    def test_refusal(self) -> None:
        """A refusal comes out as it went in, with a code that is not known, too."""
        for code in (*StreamError, "of-a-newer-version"):
            answer = Answer(ok=False, code=code, details="No such \u00fcber service.")
            line = encodeAnswer(answer)
            self.assertEqual(line.count(b"\n"), 1)
            self.assertEqual(decodeAnswer(line.removesuffix(b"\n")), answer)

    def test_hostile(self) -> None:
        """Anything else is refused: what is no answer, what does not say why, what no log should hold."""
        for line in (
            b"",
            b"HTTP/1.1 200 OK",
            b"[]",
            b"{}",
            b'{"ok":1}',
            b'{"ok":"true"}',
            b'{"ok":null}',
            b'{"ok":false}',
            b'{"ok":false,"details":"No."}',
            b'{"ok":false,"code":"Bad Code","details":"No."}',
            b'{"ok":false,"code":"a","details":"No.\\nroot logged in"}',
            b'{"ok":false,"code":"a","details":7}',
            b'{"ok":false,"code":"a","details":"\xff"}',
            b'{"ok":true} {"ok":true}',
            b"[" * 4000,
        ):
            with self.subTest(line):
                error = self.assertRaises(RemoteProtocolError, decodeAnswer, line)
                self.assertEqual(error.code, StreamError.INVALID_ANSWER)
                self.assertIsNone(error.__cause__)

    def test_limit(self) -> None:
        """An answer that the opener would not take is not sent."""
        room = MAX_ANSWER - len(encodeAnswer(Answer(ok=False, code="a", details="-"))) + 1
        self.assertEqual(len(encodeAnswer(Answer(ok=False, code="a", details="d" * room))), MAX_ANSWER)
        self.assertRaises(LocalProtocolError, encodeAnswer, Answer(ok=False, code="a", details="d" * (room + 1)))
