"""Tests for L{gateway.wire.agentcontrol}."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.agentcontrol import (
    MAX_ACK,
    MAX_HOSTNAMES,
    MAX_MESSAGE,
    MAX_SERVICES,
    Ack,
    ControlReader,
    Drain,
    JwtCredential,
    Message,
    Ping,
    Pong,
    Refused,
    Register,
    SecretCredential,
    Service,
    ServiceError,
    ServiceStatus,
    SessionError,
    Update,
    decode,
    encode,
)
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.httpoptions import MAX_PREFIXES, HttpOptions

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

SERVICES = (
    Service("site", "http", ("app.example.com", "*.app.example.com")),
    Service("mail", "tls", ("mail.example.com",)),
    Service("shell", "tls", ("ssh.example.com",), tls="terminate", healthy=False),
    Service("git", "tcp", port=2222),
    Service("any", "tcp"),
    Service("node", "http", prefixes=("/node", "/team/node"), http=HttpOptions(inFlight=10)),
    Service("dns", "udp", port=2222),
)
REGISTER = Register(1, "home", "pod-1", "txgateway/0.1.0", SecretCredential("s3cret"), SERVICES, True, 7)
ACK = Ack(
    "s-1",
    15.0,
    (
        ServiceStatus("site", "https://app.example.com"),
        ServiceStatus("git", code=ServiceError.TAKEN, details="Another has it."),
    ),
    7,
)
FROM_AGENT: list[Message] = [
    REGISTER,
    Ping(1),
    Pong(2**53 - 1),
    Update(SERVICES[:1], request=8),
    Drain(30),
    Refused("a", "B."),
]
FROM_GATEWAY: list[Message] = [
    ACK,
    Ping(0),
    Pong(3),
    Drain(0.5, "An update."),
    ACK,
    Refused(SessionError.REPLACED, "Gone."),
]

letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
services = st.one_of(
    st.builds(
        Service,
        letters,
        st.sampled_from(["tls", "http"]),
        st.lists(letters.map(lambda name: f"{name}.example"), min_size=1, max_size=3, unique=True).map(tuple),
    ),
    st.builds(Service, letters, st.sampled_from(["tcp", "udp"]), port=st.just(0), healthy=st.booleans()),
)
differentServices = st.lists(
    services, max_size=4, unique_by=(lambda each: each.key, lambda each: each.hostnames or each.key)
).filter(lambda all: len({name for each in all for name in each.hostnames}) == sum(len(each.hostnames) for each in all))
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Register,
        st.just(1),
        letters,
        letters,
        texts,
        st.none() | st.builds(SecretCredential, letters) | st.builds(JwtCredential, letters),
        differentServices.map(tuple),
        st.booleans(),
        st.integers(0, 2**53 - 1),
    ),
    st.builds(Update, differentServices.map(tuple)),
    st.builds(
        Ack,
        texts,
        st.floats(1, 3600),
        st.lists(st.builds(ServiceStatus, letters, texts, letters, texts), max_size=3).map(tuple),
    ),
    st.builds(Refused, letters, texts),
    st.builds(Ping, st.integers(0, 2**53 - 1)),
    st.builds(Pong, st.integers(0, 2**53 - 1)),
    st.builds(Drain, st.floats(0, 86400), texts),
)


def register(**fields: object) -> bytes:
    """A registration that is right but for what is said here."""
    return json.dumps({"type": "register", "version": 1, "agent": "home", **fields}).encode()


def offering(*services: dict[str, Any]) -> bytes:
    """A registration with these services."""
    return register(services=services)


class DecodeTests(SynchronousTestCase):
    """L{decode} and L{encode} turn lines into messages and back."""

    def assertRefused(self, line: bytes, code: SessionError = SessionError.INVALID_MESSAGE) -> str:
        """Assert that this is refused with a line that can be logged, and return it."""
        error = self.assertRaises(RemoteProtocolError, decode, line)
        self.assertEqual(error.code, code, line)
        self.assertRegex(error.details, r"\A[A-Z][\x20-\x7e]{1,250}\.\Z")
        self.assertIsNone(error.__cause__)
        return str(error.details)

    def test_each(self) -> None:
        """Each message comes out as it went in, on one line."""
        for message in FROM_AGENT + FROM_GATEWAY:
            line = encode(message)
            self.assertEqual((line[-1:], line.count(b"\n")), (b"\n", 1))
            self.assertEqual(decode(line[:-1]), message)

    def test_least(self) -> None:
        """What need not be said has a default."""
        self.assertEqual(decode(register()), Register(1, "home"))
        self.assertEqual(encode(Register(1, "home")), b'{"type":"register","version":1,"agent":"home"}\n')
        self.assertEqual(
            decode(offering({"key": "a", "kind": "tcp"})), Register(1, "home", services=(Service("a", "tcp"),))
        )

    def test_unknownFields(self) -> None:
        """Fields of a newer version are skipped, at every level."""
        service = {"key": "a", "kind": "tcp", "new": {"x": [1, None]}}
        line = register(new=[[], {}], services=[service], credential={"kind": "jwt", "jwt": "a.b.c", "new": 1})
        self.assertEqual(
            decode(line), Register(1, "home", credential=JwtCredential("a.b.c"), services=(Service("a", "tcp"),))
        )

    def test_unknownMessage(self) -> None:
        """A message of a newer version is refused, with a code that says so."""
        for kind in ("notice", "", "Register", "x" * 5000, "a\nb"):
            self.assertRefused(json.dumps({"type": kind}).encode(), SessionError.UNKNOWN_MESSAGE)

    def test_version(self) -> None:
        """A registration of another version is told so, whatever else has changed in it."""
        for version in (0, 2, -1, 10**9):
            self.assertRefused(register(version=version, agent=["home"]), SessionError.UNSUPPORTED_VERSION)

    def test_goTunnel(self) -> None:
        """The registration of a go-tunnel agent, which comes on the same port, is never taken for one of ours."""
        self.assertRefused(b'{"type":"register","token":"a.b.c","routes":{"a.example":"127.0.0.1:80"},"modes":{}}')

    def test_hostile(self) -> None:
        """What is no message is refused."""
        for line in (
            b"",
            b"\r",
            b"GET / HTTP/1.1\r",
            b"null",
            b"[]",
            b"{}",
            b"{",
            b'"register"',
            b'{"type":1}',
            b'{"type":null}',
            b'{"type":"ping"}',
            b'{"type":"ping","id":-1}',
            b'{"type":"ping","id":9007199254740992}',
            b'{"type":"ping","id":1.5}',
            b'{"type":"ping","id":"1"}',
            b'{"type":"ping","id":true}',
            b'{"type":"ping","id":' + b"1" * 5000 + b"}",
            b'{"type":"ping","id":1}{"type":"ping","id":1}',
            b'{"type":"ping","id":1,"x":' + b"[" * 60_000,
            b'{"type":"ping","id":1,"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            b'{"type":"drain","seconds":NaN}',
            b'{"type":"drain","seconds":-1}',
            b'{"type":"drain","seconds":86401}',
            b'{"type":"refused","code":"a","details":"\\ud800"}',
            b'{"type":"refused","code":"a","details":"\xff"}',
            b'{"type":"refused","code":"A B","details":""}',
            b'{"type":"refused","code":"a","details":"one\\ntwo"}',
            b'{"type":"ack","session":"s","ping":0.5,"services":[]}',
            b'{"type":"ack","session":"s","ping":15}',
            register(version="1"),
            register(version=None),
            register(version=1.0),
        ):
            with self.subTest(line[:80]):
                self.assertRefused(line)

    def test_place(self) -> None:
        """Whoever writes an agent is told where the fault is, and what belongs there."""
        self.assertEqual(
            self.assertRefused(offering({"key": "a", "kind": "tcp"}, {"key": "A.b", "kind": "tcp"})),
            "The message cannot be read: Expected `str` of the right form - at `$.services[1].key`.",
        )
        self.assertEqual(
            self.assertRefused(offering({"key": "a", "kind": "http", "hostnames": ["Example.com"]})),
            "The message cannot be read: Example.com is not a host name in lower case - at `$.services[0]`.",
        )

    def test_names(self) -> None:
        """The names of agents, replicas and services have one form each."""
        for name in ("", "Home", "a.b", "a_b", "-a", "a-", "a b", "a\n", "\u00fc", "a" * 64, 7, None):
            self.assertRefused(register(agent=name))
            self.assertRefused(offering({"key": name, "kind": "tcp"}))
        for name in ("a", "7", "a-b", "a" * 63):
            self.assertEqual(decode(register(agent=name)), Register(1, name))
        for name in ("a b", "a\n", "a/b", "a" * 65, None):
            self.assertRefused(register(replica=name))
        for name in ("", "Pod-1.node_2", "a" * 64):
            self.assertEqual(decode(register(replica=name)), Register(1, "home", name))

    def test_hostnames(self) -> None:
        """A host name is in the form in which it is looked up; one label may be a wildcard, the first."""
        long = ".".join(["a" * 49] * 5)
        for name in (
            "a.example",
            "localhost",
            "*.example.com",
            "xn--bcher-kva.example",
            "_a.example",
            "1.example",
            long,
        ):
            self.assertEqual(
                decode(offering({"key": "a", "kind": "tls", "hostnames": [name]})),
                Register(1, "home", services=(Service("a", "tls", (name,)),)),
            )
        for wrong in (
            "", ".", "A.example", "a.example.", "a..example", ".example", "*", "*.", "*.*.example", "a.*.example", "*a.example",
            "*.192.0.2.1", "192.0.2.1", "::1", "a.example:80", "a.example/", "a b.example", "b\u00fccher.example", "a.example\n",
            "-a.example", "a-.example", "a" * 64 + ".example", f"{long}.aaaaa", 7, None,
        ):  # fmt: skip
            with self.subTest(wrong):
                self.assertRefused(offering({"key": "a", "kind": "tls", "hostnames": [wrong]}))

    def test_services(self) -> None:
        """What a kind of service has no use for is refused, as it was meant for something."""
        for service in (
            {"kind": "tcp"},
            {"key": "a"},
            {"key": "a", "kind": "sctp"},
            {"key": "a", "kind": "tls"},
            {"key": "a", "kind": "http", "hostnames": []},
            {"key": "a", "kind": "http", "hostnames": "a.example"},
            {"key": "a", "kind": "http", "hostnames": ["a.example"], "port": 80},
            {"key": "a", "kind": "http", "hostnames": ["a.example"], "tls": "terminate"},
            {"key": "a", "kind": "tls", "hostnames": ["a.example"], "tls": "none"},
            {"key": "a", "kind": "tcp", "hostnames": ["a.example"]},
            {"key": "a", "kind": "tcp", "tls": "terminate"},
            {"key": "a", "kind": "tcp", "port": -1},
            {"key": "a", "kind": "tcp", "port": 65536},
            {"key": "a", "kind": "tcp", "port": "22"},
            {"key": "a", "kind": "tcp", "healthy": 1},
            {"key": "a", "kind": "tls", "hostnames": ["a.example"], "http": {}},
            {"key": "a", "kind": "tls", "prefixes": ["/a"]},
            {"key": "a", "kind": "tls", "hostnames": ["a.example"], "prefixes": ["/a"]},
            {"key": "a", "kind": "tcp", "prefixes": ["/a"]},
            {"key": "a", "kind": "udp", "http": {}},
            {"key": "a", "kind": "http", "http": {}},
            {"key": "a", "kind": "http", "prefixes": ["/a/"]},
            {"key": "a", "kind": "http", "prefixes": [f"/{n}" for n in range(MAX_PREFIXES + 1)]},
            {"key": "a", "kind": "http", "prefixes": ["/a"], "http": {"removeResponseHeaders": ["content-length"]}},
        ):
            with self.subTest(service):
                self.assertRefused(offering(service))

    def test_different(self) -> None:
        """No two services have a key, a host name, a prefix or a port in common."""
        for one, other in (
            ({"key": "a", "kind": "tcp"}, {"key": "a", "kind": "udp"}),
            ({"key": "a", "kind": "tcp", "port": 22}, {"key": "b", "kind": "tcp", "port": 22}),
            (
                {"key": "a", "kind": "tls", "hostnames": ["a.b"]},
                {"key": "b", "kind": "http", "hostnames": ["c.d", "a.b"]},
            ),
            ({"key": "a", "kind": "http", "prefixes": ["/a"]}, {"key": "b", "kind": "http", "prefixes": ["/b", "/a"]}),
        ):
            self.assertIn(" is there twice", self.assertRefused(offering(one, other)))
        self.assertRefused(offering({"key": "a", "kind": "tls", "hostnames": ["a.b", "a.b"]}))
        decode(offering({"key": "a", "kind": "tcp", "port": 22}, {"key": "b", "kind": "udp", "port": 22}))
        decode(offering({"key": "a", "kind": "tcp"}, {"key": "b", "kind": "tcp"}))
        decode(offering({"key": "a", "kind": "tls", "hostnames": ["*.b", "a.b"]}))
        decode(offering({"key": "a", "kind": "http", "hostnames": ["a.b"], "prefixes": ["/a", "/a/b"]}))

    def test_ourOwnServices(self) -> None:
        """An agent that would offer such services is told so before it sends anything."""
        self.assertRaises(ValueError, Service, "a", "tls")
        self.assertRaises(ValueError, Update, (Service("a", "tcp"), Service("a", "tcp")))

    def test_counts(self) -> None:
        """As many services and host names as the limits say are taken, and not one more."""
        for services, names in ((MAX_SERVICES, 1), (1, MAX_HOSTNAMES)):
            for more in (0, 1):
                offer = [
                    {
                        "key": f"k{i}",
                        "kind": "tls",
                        "hostnames": [f"h{i}-{j}.b" for j in range(names + more * (names > 1))],
                    }
                    for i in range(services + more * (services > 1))
                ]
                if more:
                    self.assertRefused(offering(*offer))
                else:
                    decode(offering(*offer))

    def test_credentials(self) -> None:
        """A credential is of one kind and not empty; a client certificate needs none."""
        for credential in (
            "s3cret", {}, {"secret": "a"}, {"kind": "secret"}, {"kind": "secret", "jwt": "a"}, {"kind": "secret", "secret": ""},
            {"kind": "jwt", "jwt": "a" * 8193}, {"kind": "token", "token": "a"},
        ):  # fmt: skip
            with self.subTest(credential):
                self.assertRefused(register(credential=credential))
        self.assertEqual(decode(register(credential=None)), Register(1, "home"))

    def test_secretsStaySecret(self) -> None:
        """A credential does not show its secret when it is printed, and no error quotes it."""
        for credential in (SecretCredential("hunter2"), JwtCredential("hunter2")):
            self.assertNotIn("hunter2", repr(Register(1, "home", credential=credential)))
        self.assertNotIn("hunter2", self.assertRefused(register(credential={"kind": "secret", "secret": ["hunter2"]})))

    def test_ourLimit(self) -> None:
        """A message that the other end would not take is not sent."""
        text = "x" * 1000
        update = Update(tuple(Service(f"k{i}", "tls", (f"{'a.' * 120}{i}x",)) for i in range(MAX_SERVICES)))
        self.assertRaises(LocalProtocolError, encode, update)
        self.assertRaises(LocalProtocolError, encode, Ack("s", 15, (ServiceStatus("k", text, details=text),) * 200))

    def test_longestAck(self) -> None:
        """The gateway can answer the longest registration: with an address, or a sentence that has the name in it."""
        services = [Service(f"k{i}", "tls", (f"{'a.' * 92}{i}x",)) for i in range(MAX_SERVICES)]
        self.assertGreater(len(encode(Update(tuple(services)))), MAX_MESSAGE * 0.9)
        statuses = [
            ServiceStatus(
                each.key, code="too-many-services", details=f"Not served: {each.hostnames[0]}".ljust(300, ".")
            )
            for each in services
        ]
        self.assertLess(len(encode(Ack("s", 15, tuple(statuses)))), MAX_ACK / 2)

    @FUZZ
    @given(messages)
    def test_roundTrip(self, message: Message) -> None:
        """Every message comes out as it went in."""
        self.assertEqual(decode(encode(message).removesuffix(b"\n")), message)

    @FUZZ
    @given(st.data())
    def test_fuzz(self, data: st.DataObject) -> None:
        """Whatever a broken peer makes of a message, it is read or refused."""
        line = bytearray(encode(data.draw(messages))[:-1])
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(line)))
            line[at : at + data.draw(st.integers(0, 3))] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b"[", b'"', b"null"])
            )
        try:
            decode(line)
        except RemoteProtocolError as e:
            self.assertIn(e.code, list(SessionError))


class ControlReaderTests(SynchronousTestCase):
    """L{ControlReader} takes messages off a stream."""

    def wire(self, messages: list[Message]) -> bytes:
        """What is written for these."""
        return b"".join(map(encode, messages))

    def assertRefused(self, reader: ControlReader, data: bytes, code: SessionError) -> None:
        """Assert that the session is to be ended for this."""
        self.assertEqual(self.assertRaises(RemoteProtocolError, reader.receive, data).code, code)

    def test_everySplit(self) -> None:
        """Messages come out whole, wherever the stream is cut in two."""
        for client, messages in ((False, FROM_AGENT), (True, FROM_GATEWAY)):
            data = self.wire(messages)
            for cut in range(len(data) + 1):
                reader = ControlReader(client=client)
                self.assertEqual([*reader.receive(data[:cut]), *reader.receive(data[cut:])], messages)

    def test_byteByByte(self) -> None:
        """A message comes out with its line end."""
        reader = ControlReader(client=False)
        found: list[Message] = []
        for byte in self.wire(FROM_AGENT):
            came = reader.receive(bytes([byte]))
            self.assertEqual(len(came), byte == 0x0A)
            found += came
        self.assertEqual(found, FROM_AGENT)

    def test_registerFirst(self) -> None:
        """An agent registers first, and once."""
        for message in [*FROM_AGENT[1:], ACK]:
            self.assertRefused(ControlReader(client=False), encode(message), SessionError.UNEXPECTED_MESSAGE)
        reader = ControlReader(client=False)
        self.assertEqual(reader.receive(encode(REGISTER)), [REGISTER])
        self.assertRefused(reader, encode(REGISTER), SessionError.UNEXPECTED_MESSAGE)

    def test_ackFirst(self) -> None:
        """A gateway takes or refuses the registration first, and may say again what it serves."""
        refused = Refused(SessionError.UNAUTHORIZED, "No.")
        self.assertEqual(ControlReader(client=True).receive(encode(refused)), [refused])
        for message in (Ping(1), Drain(1), REGISTER, Update(())):
            self.assertRefused(ControlReader(client=True), encode(message), SessionError.UNEXPECTED_MESSAGE)

    def test_otherSide(self) -> None:
        """What only the other end says is refused."""
        gateway, agent = ControlReader(client=False), ControlReader(client=True)
        gateway.receive(encode(REGISTER))
        agent.receive(encode(ACK))
        self.assertRefused(gateway, encode(ACK), SessionError.UNEXPECTED_MESSAGE)
        self.assertRefused(agent, encode(Update(())), SessionError.UNEXPECTED_MESSAGE)

    def test_wrongMessage(self) -> None:
        """A message that cannot be read is refused with the code that says why."""
        self.assertRefused(ControlReader(client=False), b"\n", SessionError.INVALID_MESSAGE)
        self.assertRefused(ControlReader(client=False), b'{"type":"hello"}\n', SessionError.UNKNOWN_MESSAGE)

    def test_limit(self) -> None:
        """A message as long as the limit is read; of a longer one no more is waited for."""
        for client, first, limit in ((False, encode(REGISTER), MAX_MESSAGE), (True, encode(ACK), MAX_ACK)):
            longest = encode(Ping(1))[:-1].ljust(limit)
            for size in (1000, limit, limit + 1):
                reader = ControlReader(client=client)
                reader.receive(first)
                data = longest + b"\n" + longest + b"\n"
                found = [each for at in range(0, len(data), size) for each in reader.receive(data[at : at + size])]
                self.assertEqual(found, [Ping(1), Ping(1)])
            for tail in (b" ", b" \n"):
                reader = ControlReader(client=client)
                reader.receive(first)
                self.assertRefused(reader, longest + tail, SessionError.INVALID_MESSAGE)
            reader = ControlReader(client=client)
            reader.receive(first)
            reader.receive(longest)
            self.assertRefused(reader, b" ", SessionError.INVALID_MESSAGE)
