"""Tests for L{gateway.wire.clienthello}."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.clienthello import (
    Alert,
    ClientHello,
    ClientHelloReader,
    Code,
    HelloRefused,
    alert,
    parseClientHello,
)
from tests.wire import clienthellos

HTTP = (b"h2", b"http/1.1")
MODERN = (0x0304, 0x0303)
ALL = (0x0304, 0x0303, 0x0302, 0x0301)

RECORDED = {
    clienthellos.OPENSSL: ClientHello("openssl.example.com", HTTP, ALL, False),
    clienthellos.FRAGMENTED: ClientHello(
        "fragmented.example.com", tuple(b"protocol-%03d" % i for i in range(60)), ALL, False
    ),
    clienthellos.WITHOUT_NAME: ClientHello(None, (), (0x0303,), False),
    clienthellos.OLD: ClientHello("old.example.com", (), (0x0302,), False),
    clienthellos.PYTHON: ClientHello("python.example.com", (), MODERN, False),
    clienthellos.PYOPENSSL: ClientHello("pyopenssl.example.com", (), MODERN, False),
    clienthellos.GO: ClientHello("go.example.com", HTTP, MODERN, False),
    clienthellos.CHROMIUM: ClientHello("chromium.example.com", HTTP, MODERN, True),
}

recorded = st.sampled_from(list(RECORDED))
thorough = settings(deadline=None, max_examples=200, database=None, derandomize=True)


def vector(size: int, data: bytes) -> bytes:
    """Bytes after their length."""
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, data)


def names(*sent: tuple[int, bytes]) -> bytes:
    """An extension server_name."""
    return extension(0, vector(2, b"".join(bytes((kind,)) + vector(2, name) for kind, name in sent)))


def named(name: bytes) -> bytes:
    return names((0, name))


def body(
    *extensions: bytes,
    version: bytes = b"\x03\x03",
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01",
    compressions: bytes = b"\0",
) -> bytes:
    """A ClientHello without its header."""
    start = version + bytes(32) + vector(1, session) + vector(2, ciphers) + vector(1, compressions)
    return start + vector(2, b"".join(extensions))


def message(content: bytes, kind: int = 1) -> bytes:
    """A handshake message."""
    return bytes((kind,)) + vector(3, content)


def records(content: bytes, sizes: Iterable[int] = (), kind: int = 22) -> bytes:
    """Records of these sizes, and one of what is left."""
    out = b""
    for size in sizes:
        piece, content = content[:size], content[size:]
        if piece:
            out += bytes((kind, 3, 1)) + vector(2, piece)
    return out + (bytes((kind, 3, 1)) + vector(2, content) if content else b"")


def hello(*extensions: bytes) -> bytes:
    """What a client sends, with these extensions."""
    return records(message(body(*extensions)))


def content(data: bytes) -> bytes:
    """What is inside of records."""
    out = b""
    while data:
        end = 5 + int.from_bytes(data[3:5], "big")
        out, data = out + data[5:end], data[end:]
    return out


Outcome = ClientHello | tuple[str, str, bytes] | None


def outcome(data: bytes, cuts: Sequence[int] = (), limit: int = 16 * 1024) -> Outcome:
    """What comes of bytes that arrive in pieces: what they say, what is wrong, or C{None}."""
    reader = ClientHelloReader(limit)
    try:
        for cut in (*cuts, len(data)):
            if (found := reader.read(data[:cut])) is not None:
                return found
    except HelloRefused as e:
        return e.code, e.details, e.alert
    return None


class Refusals(SynchronousTestCase):
    """What tests of refusals have in common."""

    def assertRefused(self, data: bytes, code: Code, details: str, description: Alert | None) -> None:
        """Assert that this is refused, and also when it arrives byte by byte, or something follows."""
        expected = str(code), details, b"" if description is None else alert(description)
        self.assertEqual(outcome(data), expected)
        self.assertEqual(outcome(data, range(len(data))), expected)
        self.assertEqual(outcome(data + b"\x16\x03\x01\0\1\1"), expected)

    def assertBroken(self, data: bytes, details: str, description: Alert = Alert.DECODE_ERROR) -> None:
        self.assertRefused(data, Code.BAD_CLIENT_HELLO, f"The ClientHello is broken: {details}.", description)


class RecordedTests(SynchronousTestCase):
    """What real clients send is understood."""

    def test_recorded(self) -> None:
        """Those of OpenSSL, Python, pyOpenSSL, Go and Chromium."""
        for data, expected in RECORDED.items():
            self.assertEqual(parseClientHello(data), expected)

    def test_present(self) -> None:
        """What this machine's OpenSSL sends today."""
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        connection.set_tlsext_host_name(b"Today.Example")
        connection.set_alpn_protos([b"gateway/1"])
        connection.set_connect_state()
        self.assertRaises(SSL.WantReadError, connection.do_handshake)
        found = parseClientHello(connection.bio_read(65536))
        assert found is not None
        self.assertEqual((found.serverName, found.protocols), ("today.example", (b"gateway/1",)))
        self.assertIn(0x0304, found.versions)

    def test_everySplit(self) -> None:
        """Nothing is said until the last byte is there, and what follows makes no difference."""
        for data, expected in RECORDED.items():
            reader = ClientHelloReader()
            for end in range(len(data)):
                self.assertIsNone(reader.read(data[:end]))
                self.assertIsNone(parseClientHello(data[:end]))
            self.assertEqual(reader.read(data), expected)
            self.assertEqual(parseClientHello(data + b"\x14\x03\x03\0\1\1more"), expected)

    @thorough
    @given(recorded, st.lists(st.integers(1, 700)), st.lists(st.integers(0, 2500)))
    def test_everyFragmentation(self, data: bytes, sizes: list[int], cuts: list[int]) -> None:
        """It does not matter how the message is spread over records, and these over reads."""
        fragmented = records(content(data), sizes)
        self.assertEqual(outcome(fragmented, sorted(cuts)), RECORDED[data])

    def test_smallestFragments(self) -> None:
        """Not even when each byte is a record of its own, and comes byte by byte."""
        data = records(content(clienthellos.CHROMIUM), [1] * 2000)
        self.assertEqual(outcome(data, range(len(data))), RECORDED[clienthellos.CHROMIUM])

    @thorough
    @given(recorded, st.data())
    def test_mutated(self, data: bytes, draw: st.DataObject) -> None:
        """Whatever is changed, the result is the same for all splits, and nothing but L{HelloRefused} is raised."""
        changed = bytearray(data)
        for _ in range(draw.draw(st.integers(1, 4))):
            position = draw.draw(st.integers(0, len(changed) - 1))
            match draw.draw(st.sampled_from(("flip", "cut", "insert", "truncate"))):
                case "flip":
                    changed[position] = draw.draw(st.integers(0, 255))
                case "cut":
                    del changed[position : position + draw.draw(st.integers(1, 8))]
                case "insert":
                    changed[position:position] = draw.draw(st.binary(min_size=1, max_size=8))
                case "truncate":
                    del changed[position + 1 :]
            if not changed:
                return
        cuts = sorted(draw.draw(st.lists(st.integers(0, len(changed)))))
        self.assertEqual(outcome(bytes(changed)), outcome(bytes(changed), cuts))

    @thorough
    @given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
    def test_garbage(self, data: bytes, cuts: list[int]) -> None:
        """Bytes of any kind raise nothing else, bare or as the body of a ClientHello."""
        for each in (data, records(message(data))):
            self.assertEqual(outcome(each), outcome(each, sorted(cuts)))


class FieldTests(SynchronousTestCase):
    """The fields say what they say."""

    def test_nothing(self) -> None:
        """Nothing at all is the beginning of everything."""
        self.assertIsNone(parseClientHello(b""))

    def test_withoutExtensions(self) -> None:
        """A client of TLS 1.2 may send none, not even an empty list of them."""
        expected = ClientHello(None, (), (0x0303,), False)
        self.assertEqual(parseClientHello(records(message(body()))), expected)
        self.assertEqual(parseClientHello(records(message(body()[:-2]))), expected)

    def test_nameInLowerCase(self) -> None:
        """Names are compared without regard to case."""
        found = parseClientHello(hello(named(b"GW.Example")))
        assert found is not None
        self.assertEqual(found.serverName, "gw.example")

    def test_longestName(self) -> None:
        """A name has at most 253 characters."""
        name = b".".join([b"a" * 63] * 3 + [b"b" * 61])
        found = parseClientHello(hello(named(name)))
        assert found is not None
        self.assertEqual(found.serverName, name.decode())

    def test_reservedVersions(self) -> None:
        """Reserved values are no versions."""
        versions = extension(43, vector(1, bytes.fromhex("0a0a 0304 fafa 7f1c")))
        found = parseClientHello(hello(versions))
        assert found is not None
        self.assertEqual(found.versions, (0x0304, 0x7F1C))

    def test_unknownExtensions(self) -> None:
        """Extensions of no interest are skipped, whatever is in them."""
        data = hello(extension(0x0A0A, b""), extension(0xFFFF, bytes(500)), named(b"gw.example"), extension(41, b"x"))
        found = parseClientHello(data)
        assert found is not None
        self.assertEqual(found.serverName, "gw.example")


class BrokenTests(Refusals):
    """What is broken is refused with a sentence and an alert."""

    def test_lengths(self) -> None:
        """Every length has to fit what it counts."""
        for fields in (
            body()[:1],
            body()[:20],
            body(session=bytes(32))[:40],
            body()[:38],
            body()[:-3],
            body()[:-1],
            body() + b"x",
            body(b"\0"),
            body(b"\0\0\0\1"),
        ):
            data = records(message(fields))
            with self.subTest(fields.hex()):
                refusal = outcome(data)
                assert isinstance(refusal, tuple)
                code, details, answer = refusal
                self.assertEqual((code, answer), (Code.BAD_CLIENT_HELLO, alert(Alert.DECODE_ERROR)))
                self.assertRegex(details, "ends too early|longer than it says|is empty")

    def test_oldFields(self) -> None:
        """Session, ciphers and compressions have their limits."""
        self.assertIsNotNone(parseClientHello(records(message(body(session=bytes(32))))))
        for fields, details in (
            (body(session=bytes(33)), "the session is longer than 32 bytes"),
            (body(ciphers=b""), "the list of ciphers is empty or odd"),
            (body(ciphers=b"\x13\x01\x13"), "the list of ciphers is empty or odd"),
            (body(compressions=b""), "the list of compressions is empty"),
        ):
            self.assertBroken(records(message(fields)), details)

    def test_twice(self) -> None:
        """No extension comes twice, known or not."""
        for kind, data in ((0, named(b"a.example")[4:]), (0x1234, b"")):
            twice = hello(extension(kind, data), extension(kind, data))
            self.assertBroken(twice, f"the extension {kind} comes twice", Alert.ILLEGAL_PARAMETER)

    def test_names(self) -> None:
        """There is one name, and it is a host name's kind."""
        for sent in (names((0, b"a.example"), (0, b"b.example")), names((1, b"a.example"))):
            self.assertBroken(hello(sent), "it has not exactly one server name", Alert.ILLEGAL_PARAMETER)
        self.assertBroken(hello(names()), "the server name is empty")
        self.assertBroken(hello(extension(0, b"")), "the server name ends too early")
        self.assertBroken(hello(extension(0, named(b"a.example")[4:] + b"x")), "the server name is longer than it says")

    def test_namesThatAreNone(self) -> None:
        """What is not a host name is refused as one that nobody has."""
        for name in (
            b"",
            b".",
            b"gw.example.",
            b"a b",
            b"*.example",
            b"192.0.2.1",
            b"::1",
            b"gw\0.example",
            b"a" * 254,
        ):
            shown = f"{name.decode()!a:.60}"
            self.assertRefused(
                hello(named(name)),
                Code.BAD_SERVER_NAME,
                f"The server name {shown} is not a host name.",
                Alert.UNRECOGNIZED_NAME,
            )

    def test_notASCII(self) -> None:
        """A letter that only becomes ASCII in lower case is none."""
        for name in ("b\u00fccher.example".encode(), "\u212a.example".encode(), b"\xe1.example"):
            refusal = outcome(hello(named(name)))
            assert isinstance(refusal, tuple)
            self.assertEqual(refusal[0], Code.BAD_SERVER_NAME)

    def test_protocols(self) -> None:
        """Protocols are not empty, nor is their list."""
        self.assertBroken(hello(extension(16, vector(2, b""))), "the list of protocols is empty")
        self.assertBroken(hello(extension(16, vector(2, b"\2h2\0"))), "a protocol is empty")
        self.assertBroken(hello(extension(16, vector(2, b"\3h2"))), "the list of protocols ends too early")

    def test_versions(self) -> None:
        """Versions are pairs of bytes."""
        self.assertBroken(hello(extension(43, vector(1, b""))), "the list of versions is empty")
        self.assertBroken(hello(extension(43, vector(1, b"\3\4\3"))), "the list of versions ends too early")
        self.assertBroken(
            hello(extension(43, vector(1, b"\3\4") + b"x")), "the list of versions is longer than it says"
        )

    def test_otherMessages(self) -> None:
        """Another message is no ClientHello, and nothing follows one in its record."""
        self.assertBroken(records(message(body(), kind=2)), "it is another message")
        self.assertBroken(records(message(body()) + b"\x14"), "something follows it in its record")

    def test_otherRecords(self) -> None:
        """Records of another kind or of no TLS do not belong there, nor do empty ones."""
        start = records(message(body())[:10])
        for rest in (b"\x15", b"\x16\x02", b"G"):
            self.assertBroken(start + rest, "a record in it is no handshake of TLS")
        self.assertBroken(start + b"\x16\x03\x03\0\0", "a record of 0 bytes", Alert.ILLEGAL_PARAMETER)


class LimitTests(Refusals):
    """A ClientHello has a limit."""

    def test_record(self) -> None:
        """A record has at most 16 KiB."""
        data = hello(extension(21, bytes(2**14 - 51)))
        self.assertEqual(len(data), 5 + 2**14)
        self.assertIsNotNone(parseClientHello(data, limit=20_000))
        self.assertBroken(b"\x16\x03\x01\x40\x01", "a record of 16385 bytes", Alert.ILLEGAL_PARAMETER)

    def test_atTheLimit(self) -> None:
        """It ends within the limit or is refused, with the headers of the records counted."""
        data = records(content(hello(extension(21, bytes(500)))), [100, 100])
        self.assertIsInstance(outcome(data, limit=len(data)), ClientHello)
        refusal = outcome(data, limit=len(data) - 1)
        self.assertEqual(
            refusal,
            (
                Code.CLIENT_HELLO_TOO_LONG,
                f"The ClientHello is longer than {len(data) - 1} bytes.",
                alert(Alert.HANDSHAKE_FAILURE),
            ),
        )
        for cuts in (range(len(data)), [len(data) - 1], [len(data) - 2]):
            self.assertEqual(outcome(data, cuts, limit=len(data) - 1), refusal)

    def test_saysSoItself(self) -> None:
        """One that announces too much is refused at once."""
        self.assertIsNone(parseClientHello(b"\x16\x03\x01\0\x04\x01\x00\x3f\xfc"))
        self.assertRefused(
            b"\x16\x03\x01\0\x04\x01\x00\x3f\xfd",
            Code.CLIENT_HELLO_TOO_LONG,
            "The ClientHello is longer than 16384 bytes.",
            Alert.HANDSHAKE_FAILURE,
        )

    def test_default(self) -> None:
        """The default is 16 KiB."""
        data = records(message(bytes(16_000)), [1] * 4000)
        self.assertIsNone(parseClientHello(data[: 16 * 1024 - 1]))
        self.assertRaises(HelloRefused, parseClientHello, data[: 16 * 1024])


class OtherProtocolTests(Refusals):
    """What is not TLS is recognised."""

    def test_http(self) -> None:
        """Plain HTTP is told apart, since it can be answered."""
        for method in (b"GET", b"PUT", b"OPTIONS", b"CONNECT", b"PRI"):
            data = method + b" / HTTP/1.1\r\n"
            self.assertIsNone(parseClientHello(method))
            self.assertRefused(
                data, Code.PLAIN_HTTP, "This is plain HTTP on a port for TLS; the address begins with https.", None
            )

    def test_ssl2(self) -> None:
        """The greeting of SSL 2 is refused with an alert, even when it offers TLS."""
        data = bytes.fromhex("802e 01 0303 0015 0000 0010")
        self.assertRefused(data, Code.SSL2, "SSL 2 is not spoken here, nor are its greetings.", Alert.PROTOCOL_VERSION)

    def test_others(self) -> None:
        """Anything else is not answered."""
        for data in (
            b"SSH-2.0-x\r\n",
            b"get / HTTP/1.1",
            b"\0",
            b"\x17\x03\x03",
            b"A" * 17,
            b"GO ",
            b"\x80\0\2",
            b"\n",
        ):
            self.assertRefused(data, Code.NOT_TLS, "This is not TLS.", None)


class AlertTests(SynchronousTestCase):
    """An L{alert} tells a client why it is turned away."""

    def test_understood(self) -> None:
        """OpenSSL takes each for the fatal alert that it is."""
        for description in Alert:
            connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            connection.set_connect_state()
            self.assertRaises(SSL.WantReadError, connection.do_handshake)
            connection.bio_write(alert(description))
            error = self.assertRaises(SSL.Error, connection.do_handshake)
            said = str(error.args[0][-1][-1])
            self.assertIn(description.name.lower().replace("_", " "), said)
