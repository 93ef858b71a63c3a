"""Tests for L{gateway.wire.tabby}."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as runStateMachine
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.tabby import (
    MAX_MESSAGE,
    VERSION,
    AuthorizeClient,
    ClientConversation,
    Code,
    Connect,
    Hello,
    ManagementConversation,
    Message,
    State,
    Unknown,
    decode,
    encodeError,
    encodeNotice,
)

SECRET = "s3cr3t-0123456789abcdef"

HELLO = b'{"_":"hello","version":1,"auth_token":"t"}'
CONNECT = b'{"_":"connect","host":"h","port":22}'

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
"""Anything that JSON can say, and NaN and infinities, which it cannot but Python's encoder writes."""

ALMOST_MESSAGES = st.fixed_dictionaries(
    {"_": st.sampled_from(["hello", "connect", "authorize-client", "ready", ""]) | JSON_VALUES},
    optional={
        "version": JSON_VALUES,
        "auth_token": st.just(SECRET) | JSON_VALUES,
        "token": st.just(SECRET) | JSON_VALUES,
        "host": st.text(max_size=20) | JSON_VALUES,
        "port": st.integers(-1, 65537) | st.integers(-1, 65537).map(str) | JSON_VALUES,
    },
)

PAYLOADS = (
    st.binary(max_size=200)
    | st.text(st.characters(), max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | ALMOST_MESSAGES.map(lambda value: json.dumps(value).encode())
)
"""What a client may send, from noise to messages that are only just wrong."""


def encoded(**fields: object) -> bytes:
    """A message; the field C{kind} is called C{_} on the wire."""
    return json.dumps({"_" if key == "kind" else key: value for key, value in fields.items()}).encode()


class Refusals(SynchronousTestCase):
    """What the tests of refused messages have in common."""

    def assertRefused(self, code: Code, receive: Any, payload: bytes) -> RemoteProtocolError:
        """Assert that a message is refused with this code and a sentence for a person; return the error."""
        error: RemoteProtocolError = self.assertRaises(RemoteProtocolError, receive, payload)
        self.assertIs(error.code, code, payload)
        self.assertRegex(error.details, r"^[A-Z].*\.$")
        return error


class DecodeTests(Refusals):
    """L{decode} reads one control message."""

    def test_hello(self) -> None:
        """A hello is read for its token; that is C{None} when it is missing, null or empty."""
        vectors: list[tuple[bytes, str | None]] = [
            (b'{"_":"hello","version":1,"auth_token":"abc"}', "abc"),
            (b'{"auth_token":"abc","_":"hello"}', "abc"),
            (b'{"_":"hello","version":1}', None),
            (b'{"_":"hello","version":1,"auth_token":null}', None),
            (b'{"_":"hello","version":1,"auth_token":""}', None),
            ('{"_":"hello","auth_token":"ключ"}'.encode(), "ключ"),
            (b' {"_": "hello", "auth_token": "\\u00e9"}\n', "é"),
        ]
        for payload, token in vectors:
            self.assertEqual(decode(payload), Hello(token), payload)

    def test_anyVersion(self) -> None:
        """The version of a hello may be anything, or missing: real clients differ, and there is only one."""
        versions: list[object] = [0, 1, 2, 1.5, "1", None, [], {}]
        for version in versions:
            self.assertEqual(decode(encoded(kind="hello", version=version)), Hello(None))

    def test_connect(self) -> None:
        """A connect is read for its host and port; the port may be a numeric string."""
        for port in (22, "22", "00022"):
            self.assertEqual(decode(encoded(kind="connect", host="a.example", port=port)), Connect("a.example", 22))

    def test_connectWithoutTarget(self) -> None:
        """A connect without host and port, as Tabby Web's telnet sends it, leaves the choice to the gateway."""
        for payload in (b'{"_":"connect"}', b'{"_":"connect","host":null,"port":null}', b'{"_":"connect","host":""}'):
            self.assertEqual(decode(payload), Connect(None, None), payload)

    def test_halfATarget(self) -> None:
        """A host without a port, or a port without a host, is refused."""
        for payload in (
            b'{"_":"connect","host":"h"}',
            b'{"_":"connect","port":22}',
            b'{"_":"connect","host":"","port":22}',
        ):
            self.assertRefused(Code.INVALID_MESSAGE, decode, payload)

    def test_portRange(self) -> None:
        """Ports are 1 to 65535, as number and as string; 0 and 65536 are refused."""
        for port in (1, 65535):
            for spelling in (port, str(port)):
                self.assertEqual(decode(encoded(kind="connect", host="h", port=spelling)), Connect("h", port))
        for port in (0, 65536, -1):
            for spelling in (port, str(port)):
                self.assertRefused(Code.INVALID_MESSAGE, decode, encoded(kind="connect", host="h", port=spelling))

    def test_portTypes(self) -> None:
        """Nothing but a whole number is a port, not even what Python would take for one."""
        ports: list[object] = [True, 22.0, "", " 22", "+22", "2_2", "22.0", "٢٢", "²", "0" * 6, [22], {}, 1 << 70]
        for port in ports:
            self.assertRefused(Code.INVALID_MESSAGE, decode, encoded(kind="connect", host="h", port=port))

    def test_authorizeClient(self) -> None:
        """The management command is read for its token; that is C{None} when it is missing, null or empty."""
        self.assertEqual(decode(encoded(kind="authorize-client", token="ab")), AuthorizeClient("ab"))
        for fields in ({}, {"token": None}, {"token": ""}):
            self.assertEqual(decode(encoded(kind="authorize-client", **fields)), AuthorizeClient(None))

    def test_unknown(self) -> None:
        """A message of another kind is told as such, with no more than 32 characters of its kind."""
        self.assertEqual(decode(b'{"_":"resize","columns":80}'), Unknown("resize"))
        self.assertEqual(decode(encoded(kind="Hello")), Unknown("Hello"))
        self.assertEqual(decode(encoded(kind="x" * 33)), Unknown("x" * 32))
        for payload in (b"{}", b'{"_":null}', b'{"_":1}', b'{"_":["hello"]}', b'{"kind":"hello"}'):
            self.assertEqual(decode(payload), Unknown(""), payload)

    def test_fieldTypes(self) -> None:
        """A token or host that is not a string is refused, and the error names the field."""
        for kind, field in (("hello", "auth_token"), ("connect", "host"), ("authorize-client", "token")):
            for value in (0, 1, 1.5, True, False, [], ["t"], {}, {"t": 1}):
                error = self.assertRefused(
                    Code.INVALID_MESSAGE, decode, encoded(**{"kind": kind, field: value, "port": 1})
                )
                self.assertIn(field, error.details)

    def test_notAnObject(self) -> None:
        """JSON that is not an object is refused."""
        for payload in (b"[]", b"null", b"1", b'"hello"', b"true", b'[{"_":"hello"}]'):
            self.assertIn("object", self.assertRefused(Code.INVALID_MESSAGE, decode, payload).details)

    def test_notJSON(self) -> None:
        """What is not JSON in UTF-8 is refused: noise, half a message, two, lone surrogates, numbers without end, depths."""
        for payload in (
            b"",
            b"\x00",
            b"\xff\xfe",
            b'{"_":"hello"',
            b'{"_":"hello"}{"_":"hello"}',
            b"{'_':'hello'}",
            b'{"_":"hello","auth_token":"\xff"}',
            b'{"_":"hello","auth_token":"\xed\xa0\x80"}',
            b'{"_":"hello","auth_token":"\\ud800"}',
            b'{"_":"hello","version":NaN}',
            b'{"_":"hello","version":' + b"9" * 5000 + b"}",
            b'{"_":"hello","version":1e999}',
            b"[" * MAX_MESSAGE,
            b'{"a":' * (MAX_MESSAGE // 5),
            b"\xef\xbb\xbf" + HELLO,
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ):
            self.assertIn("JSON", self.assertRefused(Code.INVALID_MESSAGE, decode, payload).details)

    def test_lengthLimit(self) -> None:
        """A message of the longest length is read; one byte more is refused, before it is parsed."""
        longest = HELLO.ljust(MAX_MESSAGE)
        self.assertEqual(decode(longest), Hello("t"))
        self.assertIn(str(MAX_MESSAGE), self.assertRefused(Code.INVALID_MESSAGE, decode, longest + b" ").details)
        self.assertRefused(Code.INVALID_MESSAGE, decode, b"\xff" * (MAX_MESSAGE + 1))

    def test_lengthIsBytes(self) -> None:
        """The limit counts bytes, not characters."""
        payload = ('{"_":"hello","auth_token":"' + "é" * (MAX_MESSAGE // 2) + '"}').encode()
        self.assertIn(str(MAX_MESSAGE), self.assertRefused(Code.INVALID_MESSAGE, decode, payload).details)

    @FUZZ
    @given(PAYLOADS)
    def test_fuzz(self, payload: bytes) -> None:
        """Whatever comes, the outcome is a message of the documented form or C{invalid-message}."""
        try:
            message = decode(payload)
        except RemoteProtocolError as e:
            self.assertIs(e.code, Code.INVALID_MESSAGE)
            self.assertNotIn(SECRET, str(e))
            return
        self.assertIsInstance(message, Message)
        match message:
            case Hello(token) | AuthorizeClient(token):
                self.assertTrue(token is None or token)
                self.assertNotIn(SECRET, repr(message))
            case Connect(host, port):
                self.assertEqual(host is None, port is None)
                self.assertTrue(port is None or 1 <= port <= 65535)
            case Unknown(kind):
                self.assertLessEqual(len(kind), 32)

    @FUZZ
    @given(st.text(min_size=1, max_size=50), st.integers(1, 65535), st.booleans())
    def test_roundTrip(self, text: str, port: int, portIsText: bool) -> None:
        """What a client says is what is understood."""
        self.assertEqual(decode(encoded(kind="hello", version=1, auth_token=text)), Hello(text))
        self.assertEqual(decode(encoded(kind="authorize-client", token=text)), AuthorizeClient(text))
        wish = encoded(kind="connect", host=text, port=str(port) if portIsText else port)
        self.assertEqual(decode(wish), Connect(text, port))

    @FUZZ
    @given(st.sampled_from([HELLO, CONNECT, encoded(kind="authorize-client", token=SECRET)]), st.data())
    def test_everyCutIsRefused(self, payload: bytes, data: st.DataObject) -> None:
        """A message that was cut short is never taken for another."""
        cut = data.draw(st.integers(0, len(payload) - 1))
        self.assertRefused(Code.INVALID_MESSAGE, decode, payload[:cut])


class SecretTests(SynchronousTestCase):
    """Tokens are not told to logs."""

    def test_repr(self) -> None:
        """The C{repr()} of a message shows whether there is a token, but nothing of it."""
        self.assertEqual(repr(Hello(SECRET)), "Hello(authToken=...)")
        self.assertEqual(repr(Hello(None)), "Hello(authToken=None)")
        self.assertEqual(repr(AuthorizeClient(SECRET)), "AuthorizeClient(token=...)")
        self.assertEqual(repr(AuthorizeClient(None)), "AuthorizeClient(token=None)")
        for text in (str(Hello(SECRET)), f"{AuthorizeClient(SECRET)}", repr([Hello(SECRET)])):
            self.assertNotIn(SECRET[:3], text)

    def test_errors(self) -> None:
        """No error holds anything of a token, nor does what it was raised from."""
        for receive, payload in (
            (decode, encoded(kind="hello", auth_token=[SECRET])),
            (decode, encoded(kind="authorize-client", token={SECRET: SECRET})),
            (decode, encoded(kind="hello", auth_token=SECRET)[:-1]),
            (decode, encoded(kind="hello", auth_token=SECRET) + b"\xff"),
            (decode, json.dumps([SECRET]).encode()),
            (decode, encoded(kind="connect", host=SECRET)),
            (ManagementConversation.receive, encoded(kind="hello", auth_token=SECRET)),
            (ManagementConversation.receive, encoded(kind=SECRET)),
            (conversationIn(State.HELLO).receive, encoded(kind="authorize-client", token=SECRET)),
            (conversationIn(State.CONNECT).receive, encoded(kind="hello", auth_token=SECRET)),
        ):
            error = self.assertRaises(RemoteProtocolError, receive, payload)
            self.assertNotIn(SECRET, f"{error} {error!r} {error.args}")
            self.assertTrue(error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None))


class EncodeTests(SynchronousTestCase):
    """What the gateway says."""

    def test_error(self) -> None:
        """An error is the object that the original sends, for every code that there is."""
        for code in Code:
            self.assertEqual(
                encodeError(code, "Why it is so."), f'{{"_":"error","code":"{code.value}","details":"Why it is so."}}'
            )

    def test_originalCodes(self) -> None:
        """The codes of the original are spelt as it spells them."""
        self.assertLessEqual(
            {
                "expected-hello",
                "expected-auth-token",
                "incorrect-auth-token",
                "expected-connect",
                "connection-failed",
                "expected-token",
                "unexpected-command",
            },
            {code.value for code in Code},
        )

    def test_notice(self) -> None:
        """A notice has its own kind, and details."""
        self.assertEqual(encodeNotice("shutting-down", "Soon."), '{"_":"shutting-down","details":"Soon."}')

    @FUZZ
    @given(st.text(max_size=50))
    def test_anyDetails(self, details: str) -> None:
        """Whatever a person is to be told, it stays one JSON object and arrives unchanged."""
        self.assertEqual(
            json.loads(encodeError(Code.TARGET_DENIED, details)),
            {"_": "error", "code": "target-denied", "details": details},
        )
        self.assertEqual(json.loads(encodeNotice("n", details)), {"_": "n", "details": details})


def conversationIn(state: State) -> ClientConversation:
    """A conversation that has come so far by its own steps."""
    conversation = ClientConversation(authRequired=True)
    steps = [
        (State.HELLO, conversation.greet),
        (State.AUTHENTICATING, lambda: conversation.receive(HELLO)),
        (State.CONNECT, conversation.ready),
        (State.DIALING, lambda: conversation.receive(CONNECT)),
        (State.OPEN, conversation.connected),
        (State.CLOSED, lambda: conversation.fail("c", "d")),
    ]
    for reached, step in steps:
        if conversation.state is state:
            break
        step()
        assert conversation.state is reached
    return conversation


class ClientConversationTests(Refusals):
    """L{ClientConversation} keeps a client's conversation in order."""

    def test_wholeConversation(self) -> None:
        """The five messages of a conversation that goes well, byte for byte as the original's."""
        conversation = ClientConversation(authRequired=True)
        self.assertEqual(conversation.greet(), '{"_":"hello","version":1,"auth_required":true}')
        self.assertEqual(conversation.receive(b'{"_":"hello","version":1,"auth_token":"t"}'), Hello("t"))
        self.assertEqual(conversation.ready(), '{"_":"ready"}')
        self.assertEqual(conversation.receive(b'{"_":"connect","host":"h","port":22}'), Connect("h", 22))
        self.assertEqual(conversation.connected(), '{"_":"connected"}')
        self.assertIs(conversation.state, State.OPEN)
        self.assertEqual(VERSION, 1)

    def test_authNotRequired(self) -> None:
        """The greeting says so when no token is needed."""
        greeting = ClientConversation(authRequired=False).greet()
        self.assertEqual(greeting, '{"_":"hello","version":1,"auth_required":false}')

    def test_verbsOutOfTurn(self) -> None:
        """Each verb works in its own state only; in every other it raises, and changes nothing."""
        for verb, turn in (("greet", State.GREETING), ("ready", State.AUTHENTICATING), ("connected", State.DIALING)):
            for state in State:
                conversation = conversationIn(state)
                if state is turn:
                    self.assertIsInstance(getattr(conversation, verb)(), str)
                else:
                    self.assertRaises(LocalProtocolError, getattr(conversation, verb))
                    self.assertIs(conversation.state, state)

    def test_fail(self) -> None:
        """A conversation may fail in every state, once."""
        for state in set(State) - {State.CLOSED}:
            conversation = conversationIn(state)
            self.assertEqual(conversation.fail("c", "Why."), '{"_":"error","code":"c","details":"Why."}')
            self.assertIs(conversation.state, State.CLOSED)
            self.assertRaises(LocalProtocolError, conversation.fail, "c", "Why.")

    def test_expectedHello(self) -> None:
        """Any other message instead of the hello is refused; the conversation can still say so."""
        for payload in (CONNECT, b"{}", b'{"_":"ready"}', encoded(kind="authorize-client", token="t")):
            conversation = conversationIn(State.HELLO)
            self.assertRefused(Code.EXPECTED_HELLO, conversation.receive, payload)
            self.assertIs(conversation.state, State.HELLO)
            conversation.fail("c", "d")

    def test_expectedConnect(self) -> None:
        """Any other message instead of the connect is refused; the conversation can still say so."""
        for payload in (HELLO, b"{}", b'{"_":"connected"}', encoded(kind="authorize-client", token="t")):
            conversation = conversationIn(State.CONNECT)
            self.assertRefused(Code.EXPECTED_CONNECT, conversation.receive, payload)
            self.assertIs(conversation.state, State.CONNECT)
            conversation.fail("c", "d")

    def test_invalidMessage(self) -> None:
        """A malformed message is refused where one is expected, and changes nothing."""
        for state in (State.HELLO, State.CONNECT):
            for payload in (b"", b"null", b"[]", b"\xff", HELLO + b"x", b" " * (MAX_MESSAGE + 1)):
                conversation = conversationIn(state)
                self.assertRefused(Code.INVALID_MESSAGE, conversation.receive, payload)
                self.assertIs(conversation.state, state)

    def test_ignoredOnceConnecting(self) -> None:
        """Control messages after the connect, well-formed or not, change nothing."""
        for state in (State.DIALING, State.OPEN, State.CLOSED):
            for payload in (HELLO, CONNECT, b"{}", b"\xff", b"x" * (MAX_MESSAGE + 1)):
                conversation = conversationIn(state)
                self.assertIsNone(conversation.receive(payload))
                self.assertIs(conversation.state, state)

    def test_readOutOfTurn(self) -> None:
        """To read while it is the gateway's turn is our own fault, whatever was read."""
        for state in (State.GREETING, State.AUTHENTICATING):
            for payload in (HELLO, CONNECT, b"{}", b"\xff", b"x" * (MAX_MESSAGE + 1)):
                conversation = conversationIn(state)
                self.assertRaises(LocalProtocolError, conversation.receive, payload)
                self.assertIs(conversation.state, state)

    def test_carriesData(self) -> None:
        """Binary frames are payload from the connect on, which may be before C{connected}, to the end."""
        carrying = {state for state in State if conversationIn(state).carriesData}
        self.assertEqual(carrying, {State.DIALING, State.OPEN})

    @FUZZ
    @given(st.sampled_from(State), PAYLOADS)
    def test_fuzz(self, state: State, payload: bytes) -> None:
        """In every state in which a client may speak, what it says gives a message, nothing or a documented error."""
        conversation = conversationIn(state)
        if state in (State.GREETING, State.AUTHENTICATING):
            self.assertRaises(LocalProtocolError, conversation.receive, payload)
            return
        try:
            message = conversation.receive(payload)
        except RemoteProtocolError as e:
            expected = Code.EXPECTED_HELLO if state is State.HELLO else Code.EXPECTED_CONNECT
            self.assertIn(e.code, (Code.INVALID_MESSAGE, expected))
            self.assertIs(conversation.state, state)
            self.assertNotIn(SECRET, str(e))
            return
        match state:
            case State.HELLO:
                self.assertIsInstance(message, Hello)
                self.assertIs(conversation.state, State.AUTHENTICATING)
            case State.CONNECT:
                self.assertIsInstance(message, Connect)
                self.assertIs(conversation.state, State.DIALING)
            case _:
                self.assertIsNone(message)
                self.assertIs(conversation.state, state)


class ConversationMachine(RuleBasedStateMachine):
    """
    A gateway that keeps its side of the protocol, and a client that sends what it likes.

    @ivar said: the kinds of the messages that the client was sent.
    @ivar asked: what the conversation asked the gateway to act on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.asked: list[type[object]] = []
        self.conversation = ClientConversation(authRequired=True)

    def say(self, text: str) -> None:
        """Send a message to the client."""
        self.said.append(json.loads(text)["_"])

    @initialize()
    def greet(self) -> None:
        """The connection is open."""
        self.say(self.conversation.greet())

    @precondition(lambda self: self.conversation.state is not State.AUTHENTICATING)
    @rule(payload=PAYLOADS | st.sampled_from([HELLO, CONNECT]))
    def receive(self, payload: bytes) -> None:
        """The client says something; what is wrong may be answered or overlooked."""
        try:
            message = self.conversation.receive(payload)
        except RemoteProtocolError as e:
            assert isinstance(e.code, Code)
            assert self.conversation.state in (State.HELLO, State.CONNECT)
        else:
            if message is not None:
                self.asked.append(type(message))

    @precondition(lambda self: self.conversation.state is State.AUTHENTICATING)
    @rule()
    def admit(self) -> None:
        """The token is good."""
        self.say(self.conversation.ready())

    @precondition(lambda self: self.conversation.state is State.DIALING)
    @rule()
    def reach(self) -> None:
        """The target is there."""
        self.say(self.conversation.connected())

    @precondition(lambda self: self.conversation.state is not State.CLOSED)
    @rule(code=st.sampled_from(Code))
    def fail(self, code: Code) -> None:
        """Something ends the conversation."""
        self.say(self.conversation.fail(code, "Why."))

    @invariant()
    def inOrder(self) -> None:
        """What was said and what was asked are beginnings of the one right order, and go together."""
        said = self.said[:-1] if self.conversation.state is State.CLOSED else self.said
        assert said == ["hello", "ready", "connected"][: len(said)]
        assert self.asked == [Hello, Connect][: len(self.asked)]
        assert len(self.asked) <= len(said) <= len(self.asked) + 1
        if self.conversation.state is State.CLOSED:
            assert self.said[-1] == "error"
        assert self.conversation.carriesData == (len(self.asked) == 2 and self.conversation.state is not State.CLOSED)


class ConversationMachineTests(SynchronousTestCase):
    """L{ClientConversation} under any sequence of events."""

    def test_anySequence(self) -> None:
        """Whatever the order of events, the client is told things in the one right order."""
        runStateMachine(
            ConversationMachine,
            settings=settings(deadline=None, max_examples=100, stateful_step_count=20, database=None, derandomize=True),
        )


class ManagementConversationTests(Refusals):
    """L{ManagementConversation} takes one command."""

    def test_messages(self) -> None:
        """The greeting is the original's, and the acknowledgement a kind that nobody has to know."""
        self.assertEqual(ManagementConversation.GREETING, '{"_":"hello","version":1}')
        self.assertEqual(ManagementConversation.ACKNOWLEDGEMENT, '{"_":"ok"}')

    def test_token(self) -> None:
        """The command gives the token."""
        self.assertEqual(ManagementConversation.receive(encoded(kind="authorize-client", token=SECRET)), SECRET)

    def test_expectedToken(self) -> None:
        """The command without a token is refused."""
        for fields in ({}, {"token": None}, {"token": ""}):
            payload = encoded(kind="authorize-client", **fields)
            self.assertRefused(Code.EXPECTED_TOKEN, ManagementConversation.receive, payload)

    def test_unexpectedCommand(self) -> None:
        """Every other message is refused."""
        for payload in (HELLO, CONNECT, b"{}", encoded(kind="revoke")):
            self.assertRefused(Code.UNEXPECTED_COMMAND, ManagementConversation.receive, payload)

    def test_invalidMessage(self) -> None:
        """What is no message is refused."""
        for payload in (b"", b"[]", b"\xff", encoded(kind="authorize-client", token=1)):
            self.assertRefused(Code.INVALID_MESSAGE, ManagementConversation.receive, payload)

    @FUZZ
    @given(PAYLOADS)
    def test_fuzz(self, payload: bytes) -> None:
        """Whatever comes, the outcome is a token or a documented error that does not hold it."""
        try:
            token = ManagementConversation.receive(payload)
        except RemoteProtocolError as e:
            self.assertIn(e.code, (Code.INVALID_MESSAGE, Code.EXPECTED_TOKEN, Code.UNEXPECTED_COMMAND))
            self.assertNotIn(SECRET, str(e))
        else:
            self.assertTrue(token and isinstance(token, str))
