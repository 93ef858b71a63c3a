"""Tests for L{gateway.wire.gotunnel}."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.gotunnel import (
    AUTH_FAILED,
    HOST_TAKEN,
    MAX_MESSAGE,
    MAX_ROUTES,
    Ack,
    ControlReader,
    Message,
    Mode,
    Ping,
    Pong,
    Register,
    Route,
    encode,
    encodePreamble,
    parsePreamble,
)

thorough = settings(deadline=None, max_examples=200, database=None, derandomize=True)

FROM_GO = (
    b'{"type":"register","token":"a\\u003cb\\u003e\\u0026c","routes":{"app.example.com":"127.0.0.1:8080",'
    b'"ssh.example.com":"127.0.0.1:22"},"modes":{"app.example.com":"http","ssh.example.com":"tcp"}}\n'
)
"""As Go's json.Encoder writes it."""

REGISTER = Register(
    "a<b>&c",
    (
        Route("app.example.com", "app.example.com", "127.0.0.1:8080"),
        Route("ssh.example.com", "ssh.example.com", "127.0.0.1:22", Mode.TCP),
    ),
)

labels = st.from_regex(r"\A[a-z]([a-z0-9-]{0,8}[a-z0-9])?\Z")
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
texts = st.text(st.characters(exclude_categories=("C", "Z")), max_size=30)
routes = st.lists(st.tuples(hosts, texts, st.sampled_from(Mode)), unique_by=lambda each: each[0], max_size=5).map(
    lambda each: tuple(Route(host, host, target, mode) for host, target, mode in each)
)
registers = st.builds(Register, st.text(st.characters(codec="utf-8"), max_size=50), routes)
times = st.integers(-(2**63), 2**63 - 1)
acks = st.builds(Ack, st.booleans(), texts)

Outcome = list[Message] | tuple[str, str]


def registering(**fields: object) -> bytes:
    """A register with these fields."""
    return msgspec.json.encode({"type": "register", "token": "t", **fields})


def outcome(data: bytes, *, client: bool, cuts: Sequence[int] = ()) -> Outcome:
    """What comes of bytes that arrive in pieces: the messages, or what is wrong."""
    reader = ControlReader(client=client)
    messages: list[Message] = []
    try:
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            messages += reader.receive(data[start:end])
    except RemoteProtocolError as e:
        return e.code, e.details
    return messages


class Readers(SynchronousTestCase):
    """What the tests have in common."""

    def assertInvalid(self, data: bytes, details: str, *, client: bool = False) -> None:
        """Assert that this is refused, in one piece or byte by byte."""
        for cuts in ((), range(1, len(data), max(1, len(data) // 300))):
            found = outcome(data, client=client, cuts=cuts)
            assert isinstance(found, tuple), found
            self.assertEqual(found[0], "invalid-message")
            self.assertRegex(found[1], details)

    def assertUnexpected(self, data: bytes, kind: str, *, client: bool = False) -> None:
        """Assert that there is a message of this kind out of turn."""
        self.assertEqual(
            outcome(data, client=client),
            ("unexpected-message", f"A message of type {kind!r} is out of turn here."),
        )


class MessageTests(Readers):
    """Messages become bytes and values."""

    def test_register(self) -> None:
        """What go-tunnel's agent registers with."""
        self.assertEqual(outcome(FROM_GO, client=False), [REGISTER])
        self.assertEqual(outcome(encode(REGISTER), client=False), [REGISTER])

    def test_registerWithNothing(self) -> None:
        """An agent without tunnels says null, and an old one knows no modes."""
        self.assertEqual(outcome(b'{"type":"register","token":"t","routes":null}', client=False), [Register("t", ())])
        self.assertEqual(outcome(b'{"type":"register"}', client=False), [Register("", ())])

    def test_written(self) -> None:
        """Each message is written as go-tunnel writes it, with a line end."""
        for message, written in (
            (Ack(True), b'{"type":"ack","ok":true}\n'),
            (Ack(False, AUTH_FAILED), b'{"type":"ack","ok":false,"error":"auth failed"}\n'),
            (Ping(1700000000000), b'{"type":"ping","ts":1700000000000}\n'),
            (Pong(1700000000000), b'{"type":"pong","ts":1700000000000}\n'),
            (
                Register("t", (Route("a.example", "A.example", "x:1"),)),
                b'{"type":"register","token":"t","routes":{"A.example":"x:1"},"modes":{"A.example":"http"}}\n',
            ),
        ):
            self.assertEqual(encode(message), written)

    def test_taken(self) -> None:
        """The text about a host that somebody else has is go-tunnel's."""
        self.assertEqual(HOST_TAKEN.format(host="a.example"), "host already registered: a.example")

    @thorough
    @given(registers, st.lists(times))
    def test_toServer(self, register: Register, pongs: list[int]) -> None:
        """Whatever an agent says arrives."""
        said: list[Message] = [register, *map(Pong, pongs)]
        self.assertEqual(outcome(b"".join(map(encode, said)), client=False), said)

    @thorough
    @given(acks, st.lists(st.builds(Ping, times) | acks))
    def test_toAgent(self, ack: Ack, rest: list[Message]) -> None:
        """Whatever a server says arrives."""
        said: list[Message] = [ack, *rest]
        self.assertEqual(outcome(b"".join(map(encode, said)), client=True), said)

    def test_secret(self) -> None:
        """A token is not shown."""
        self.assertNotIn("a<b>", repr(REGISTER))

    def test_tooLong(self) -> None:
        """No message is made that the other end would refuse."""
        room = MAX_MESSAGE - len(encode(Register("", ()))) + 1
        self.assertEqual(len(encode(Register("t" * room, ()))), MAX_MESSAGE + 1)
        self.assertRaises(LocalProtocolError, encode, Register("t" * (room + 1), ()))


class RouteTests(Readers):
    """What an agent registers."""

    def routes(self, targets: object, modes: object = None) -> Sequence[Route]:
        """The routes of a register."""
        found = outcome(registering(routes=targets, modes=modes), client=False)
        assert isinstance(found, list), found
        [message] = found
        assert isinstance(message, Register)
        return message.routes

    def test_spelling(self) -> None:
        """Names are compared in lower case and without port, but an agent knows them in its own spelling only."""
        for key, name in (
            ("App.Example.COM", "app.example.com"),
            ("app.example.com:8443", "app.example.com"),
            ("*.Apps.example.com", "*.apps.example.com"),
        ):
            self.assertEqual(self.routes({key: "x:1"}), (Route(name, key, "x:1"),))

    def test_modes(self) -> None:
        """What is not tcp is http, as go-tunnel sees it; modes of hosts without route are of no interest."""
        for mode, expected in (("tcp", Mode.TCP), ("TCP", Mode.TCP), ("", Mode.HTTP), ("h2c", Mode.HTTP)):
            [route] = self.routes({"a.example": "x"}, {"a.example": mode, "b.example": "tcp"})
            self.assertIs(route.mode, expected)

    def test_notNames(self) -> None:
        """What is not a host name is refused."""
        for key in (
            "",
            "a b",
            "192.0.2.1",
            "a.example:",
            "a.example:x",
            "a:1:2",
            "a.*.example",
            "*.",
            "\u212a.example",
        ):
            self.assertInvalid(registering(routes={key: "x"}), r"is not a host name\.")

    def test_twice(self) -> None:
        """The same name in two spellings is refused."""
        self.assertInvalid(
            registering(routes={"a.example": "x", "A.example": "y"}), r"The host a\.example is there twice"
        )

    def test_targets(self) -> None:
        """A target is a line of at most 256 characters."""
        self.assertEqual(self.routes({"a.example": "x" * 256})[0].target, "x" * 256)
        for target in ("x" * 257, "a\nb", "\x1b[2J"):
            self.assertInvalid(registering(routes={"a.example": target}), "is not a line of at most 256 characters")

    def test_many(self) -> None:
        """There are at most 256 routes."""
        names = {f"a{number}.example": "x" for number in range(MAX_ROUTES)}
        self.assertEqual(len(self.routes(names)), MAX_ROUTES)
        self.assertInvalid(registering(routes={**names, "b.example": "x"}), "more than 256 routes")


class OrderTests(Readers):
    """What belongs where in the conversation."""

    def test_first(self) -> None:
        """The first message is the one that belongs there, even a newer peer's."""
        for message in (Pong(), Ping(), Ack(True)):
            self.assertUnexpected(encode(message), type(message).__name__.lower())
        for other in (Pong(), Ping(), REGISTER):
            self.assertUnexpected(encode(other), type(other).__name__.lower(), client=True)
        self.assertUnexpected(b'{"type":"hello"}', "hello")
        self.assertUnexpected(b'{"type":"hello"}', "hello", client=True)

    def test_unknown(self) -> None:
        """Later, messages of unknown types are skipped, whatever is in them."""
        unknown = b'{"type":"stats","token":5,"routes":[]}'
        self.assertEqual(outcome(FROM_GO + unknown + encode(Pong(1)), client=False), [REGISTER, Pong(1)])
        self.assertEqual(outcome(encode(Ack(True)) + unknown + encode(Ping(1)), client=True), [Ack(True), Ping(1)])

    def test_wrongEnd(self) -> None:
        """Messages that the other end does not send, or not again, are refused."""
        for message in (Ping(), Ack(True), REGISTER):
            self.assertUnexpected(FROM_GO + encode(message), type(message).__name__.lower())
        for other in (Pong(), REGISTER):
            self.assertUnexpected(encode(Ack(True)) + encode(other), type(other).__name__.lower(), client=True)

    def test_endedByServer(self) -> None:
        """A server may take its word back, and say why."""
        said = [Ack(True), Ack(False, "token revoked")]
        self.assertEqual(outcome(b"".join(map(encode, said)), client=True), said)


class ReadingTests(Readers):
    """Bytes become messages, however they arrive."""

    STREAM = FROM_GO + b'{"type":"pong"}\r\n\t {"type":"\\"}{\\\\"}{"x":{"y":["}{"]},"type":"pong","ts":7}'
    MESSAGES = [REGISTER, Pong(), Pong(7)]

    def test_separators(self) -> None:
        """Messages need no line between them, and braces in strings do not count."""
        self.assertEqual(outcome(self.STREAM, client=False), self.MESSAGES)

    def test_everySplit(self) -> None:
        """It does not matter how the bytes are cut, in two or each from the next."""
        for cut in range(len(self.STREAM)):
            self.assertEqual(outcome(self.STREAM, client=False, cuts=[cut]), self.MESSAGES)
        self.assertEqual(outcome(self.STREAM, client=False, cuts=range(len(self.STREAM))), self.MESSAGES)

    @thorough
    @given(st.binary(max_size=8), st.integers(0, len(STREAM)), st.integers(0, 8), st.lists(st.integers(0, 300)))
    def test_mutated(self, inserted: bytes, position: int, removed: int, cuts: list[int]) -> None:
        """Whatever is changed, the result is the same for all cuts, and nothing but L{RemoteProtocolError} is raised."""
        data = self.STREAM[:position] + inserted + self.STREAM[position + removed :]
        inside = sorted(min(cut, len(data)) for cut in cuts)
        self.assertEqual(outcome(data, client=False), outcome(data, client=False, cuts=inside))

    def test_atOnce(self) -> None:
        """A message is there with its last brace, and one that can be none is refused with its first byte."""
        reader = ControlReader(client=False)
        self.assertEqual(reader.receive(FROM_GO[:-2]), [])
        self.assertEqual(reader.receive(b"}"), [REGISTER])
        for byte in (b"x", b"5", b'"', b"[", b"}", b"\0", b"\xef"):
            self.assertInvalid(byte, "it is not a JSON object")

    def test_broken(self) -> None:
        """What is no message is refused, with the field that is wrong."""
        for data, details in (
            (b"{}", "missing required field `type`"),
            (b'{"type":5}', r"Expected `str`.*\$\.type"),
            (b'{"type":"register","token":5}', r"Expected `str`.*\$\.token"),
            (b'{"type":"register","routes":{"a":1}}', r"Expected `str`.*\$\.routes"),
            (b'{"type":"register","routes":[]}', r"\$\.routes"),
            (b'{"type":"pong","ts":9223372036854775808}', r"\$\.ts"),
            (b'{"type":"register",}', "it is not JSON"),
            (b'{"type":"\xff"}', "it is not JSON"),
            (b'{"a":' * 5000 + b"1" + b"}" * 5000, "cannot be read"),  # too deep, or the fields are missing
        ):
            self.assertInvalid(data, details)

    def test_limit(self) -> None:
        """A message has at most 64 KiB; space between messages does not count."""
        room = MAX_MESSAGE - len(registering()) + 1
        self.assertIsInstance(outcome(b" " * 100 + registering(token="t" * room), client=False), list)
        longer = registering(token="t" * (room + 1))
        self.assertInvalid(longer, "longer than 65536 bytes")
        self.assertEqual(outcome(longer[:-1], client=False), [])
        self.assertInvalid(longer[:-1] + b"t", "longer than 65536 bytes")
        self.assertEqual(outcome(b" \n" * MAX_MESSAGE + FROM_GO, client=False), [REGISTER])

    def test_errorText(self) -> None:
        """An error is a line that can be shown."""
        for sent, shown in (("no\nroutes\x1b", "no\ufffdroutes\ufffd"), ("x" * 300, "x" * 256)):
            data = msgspec.json.encode({"type": "ack", "ok": False, "error": sent})
            self.assertEqual(outcome(data, client=True), [Ack(False, shown)])
        self.assertEqual(outcome(b'{"type":"ack","error":null}', client=True), [Ack(False)])


class PreambleTests(SynchronousTestCase):
    """The beginning of a visitor's stream."""

    def assertBad(self, data: bytes, details: str) -> None:
        error = self.assertRaises(RemoteProtocolError, parsePreamble, data)
        self.assertEqual(error.code, "bad-preamble")
        self.assertIn(details, error.details)

    def test_bytes(self) -> None:
        """A version, a length in network order, and the name."""
        self.assertEqual(encodePreamble("App.example.com"), b"\x01\x00\x0fApp.example.com")

    @thorough
    @given(hosts, st.binary(max_size=10))
    def test_everySplit(self, host: str, rest: bytes) -> None:
        """Nothing is said before it is whole, and what follows is not touched."""
        preamble = encodePreamble(host)
        for end in range(len(preamble)):
            self.assertIsNone(parsePreamble(preamble[:end]))
        self.assertEqual(parsePreamble(preamble + rest), (host, len(preamble)))
        self.assertEqual(parsePreamble(bytearray(preamble + rest)), (host, len(preamble)))

    def test_spelling(self) -> None:
        """The name may come with a port and in any case, as the visitor's Host has it."""
        self.assertEqual(parsePreamble(encodePreamble("App.Example.com:8443")), ("app.example.com", 23))

    def test_longest(self) -> None:
        """The longest name with a port."""
        name = ".".join(["a" * 63] * 3 + ["a" * 61])
        self.assertEqual(parsePreamble(encodePreamble(f"{name}:65535")), (name, 262))

    def test_bad(self) -> None:
        """What cannot become one is refused at once."""
        self.assertBad(b"\x02", "version 2 instead of 1")
        self.assertBad(b"GET / HTTP/1.1\r\n", "version 71 instead of 1")
        self.assertBad(b"\x01\x00\x00", "has 0 bytes")
        self.assertBad(b"\x01\x01\x06", "has 262 bytes")
        self.assertBad(b"\x01\xff\xff", "has 65535 bytes")
        for name in (b"a b", b"192.0.2.1", b"a\0", b"\xe1.example", b"a.example:", b"a.example:port"):
            self.assertBad(b"\x01\0" + bytes((len(name),)) + name, "is none")

    @thorough
    @given(st.binary(max_size=300))
    def test_garbage(self, data: bytes) -> None:
        """Bytes of any kind raise nothing else."""
        for each in (data, b"\x01\x00" + data):
            try:
                found = parsePreamble(each)
            except RemoteProtocolError:
                continue
            self.assertTrue(found is None or found[1] <= len(each))
