"""Tests for L{gateway.wire.networkrelay}."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.networkrelay import (
    INVALID_MESSAGE,
    MAX_DATA,
    MAX_MESSAGE,
    AgentData,
    AgentStart,
    ClientData,
    ClientStart,
    ConnectionClose,
    ConnectionFailed,
    ConnectionOpened,
    ConnectionReset,
    Error,
    InitiateConnection,
    KeepAlive,
    Message,
    StartOk,
    agentLabel,
    decodeAgentStart,
    decodeClientStart,
    decodeFromAgent,
    decodeFromClient,
    decodeToAgent,
    decodeToClient,
    encode,
)

thorough = settings(deadline=None, max_examples=200, database=None, derandomize=True)

UUID = "0b6f9c1e-4c62-4d52-9a3c-6a3f5f0d1a55"

Decoder = Callable[[bytes], Any]

DECODERS: tuple[Decoder, ...] = (
    decodeAgentStart,
    decodeFromAgent,
    decodeToAgent,
    decodeClientStart,
    decodeFromClient,
    decodeToClient,
)

WRITTEN: tuple[tuple[Decoder, Message, dict[str, object]], ...] = (
    (
        decodeAgentStart,
        AgentStart("box", "s", None),
        {"kind": "start", "name": "box", "secret": "s", "last_error": None},
    ),
    (
        decodeToAgent,
        InitiateConnection("10.0.0.1", 22, "tcp", UUID),
        {
            "kind": "initiate_connection",
            "target_ip": "10.0.0.1",
            "target_port": 22,
            "protocol": "tcp",
            "connection_id": UUID,
        },
    ),
    (decodeFromAgent, ConnectionOpened(UUID), {"kind": "initiate_connection_ok", "connection_id": UUID}),
    (
        decodeFromAgent,
        ConnectionFailed("no route", UUID),
        {"kind": "initiate_connection_error", "message": "no route", "connection_id": UUID},
    ),
    (decodeFromAgent, AgentData(b"abc", UUID), {"kind": "tcp_data", "data_base64": "YWJj", "connection_id": UUID}),
    (decodeToAgent, AgentData(b"abc", UUID), {"kind": "tcp_data", "data_base64": "YWJj", "connection_id": UUID}),
    (
        decodeFromAgent,
        ConnectionReset("gone", UUID),
        {"kind": "connection_reset", "message": "gone", "connection_id": UUID},
    ),
    (
        decodeToAgent,
        ConnectionClose("gone", UUID),
        {"kind": "connection_close", "message": "gone", "connection_id": UUID},
    ),
    (decodeFromAgent, KeepAlive(), {"kind": "keep_alive"}),
    (decodeToAgent, KeepAlive(), {"kind": "keep_alive"}),
    (
        decodeClientStart,
        ClientStart("box", "10.0.0.1", 22, "tcp", "s"),
        {
            "kind": "start",
            "connection_target": "box",
            "target_ip": "10.0.0.1",
            "target_port": 22,
            "protocol": "tcp",
            "secret": "s",
        },
    ),
    (decodeToClient, StartOk(), {"kind": "start_ok"}),
    (decodeToClient, StartOk(UUID), {"kind": "start_ok", "connection_id": UUID}),
    (decodeToClient, Error("no"), {"kind": "error", "message": "no"}),
    (decodeFromClient, ClientData(b""), {"kind": "tcp_data", "data_base64": ""}),
    (decodeToClient, ClientData(b"abc", UUID), {"kind": "tcp_data", "data_base64": "YWJj", "connection_id": UUID}),
)
"""Each message, by who reads it, as it is in http-network-relay."""


def text(inner: object) -> bytes:
    """A message."""
    return json.dumps({"inner": inner}).encode()


class MessageTests(SynchronousTestCase):
    """Messages become texts and values."""

    def refused(self, decode: Decoder, data: bytes, details: str = ".") -> None:
        """Assert that a message is not taken, and why."""
        error = self.assertRaises(RemoteProtocolError, decode, data)
        self.assertEqual(error.code, INVALID_MESSAGE)
        self.assertRegex(error.details, details)
        self.assertTrue(error.details.isascii() and error.details.isprintable())

    def test_written(self) -> None:
        """Each is written and read as http-network-relay does."""
        for decode, message, inner in WRITTEN:
            self.assertEqual(json.loads(encode(message)), {"inner": inner})
            self.assertEqual(decode(text(inner)), message)
            self.assertEqual(decode(encode(message).encode()), message)

    def test_moreKeys(self) -> None:
        """Keys that are not known are skipped, inside and outside."""
        for decode, message, inner in WRITTEN:
            data = json.dumps({"more": [], "inner": {"supports_binary": True, **inner, "x": {"y": 1}}}).encode()
            self.assertEqual(decode(data), message)

    def test_startOfAnOldAgent(self) -> None:
        """An agent need not say what its last error was."""
        self.assertEqual(decodeAgentStart(text({"kind": "start", "name": "a", "secret": "s"})), AgentStart("a", "s"))

    def test_missingKeys(self) -> None:
        """Each key that a message needs is asked for, and of the right type."""
        optional = {"last_error", "connection_id"}
        for decode, _, inner in WRITTEN:
            for key in inner:
                rest = {name: value for name, value in inner.items() if name != key}
                # Where there is one kind of message only, nobody has to say which it is.
                isOnly = decode in (decodeAgentStart, decodeClientStart, decodeFromClient)
                if key not in optional and not (key == "kind" and isOnly):
                    self.refused(decode, text(rest), key)
                self.refused(decode, text({**inner, key: [1]}), rf"\$\.inner\.{key}")
        self.refused(decodeFromAgent, text({"kind": "tcp_data", "data_base64": ""}), "connection_id")
        self.refused(decodeFromAgent, text({"kind": "initiate_connection_ok", "connection_id": ""}), "connection_id")

    def test_nonsense(self) -> None:
        """What is no message is refused wherever one is read."""
        for decode in DECODERS:
            for data in (b"", b"\xff", b"{", b"[]", b"null", b'"start"', b"{}", b'{"inner": []}', b'{"inner": {}}'):
                self.refused(decode, data)
            self.refused(decode, text({"kind": "ping"}), "kind")
            self.refused(decode, b"[" * 100_000)

    def test_place(self) -> None:
        """A message of one place in a conversation is refused in the others."""
        for decode, _, inner in WRITTEN:
            takers = {each for each, _, other in WRITTEN if other["kind"] == inner["kind"]}
            self.assertIn(decode, takers)
            for other in DECODERS:
                if other not in takers:
                    self.refused(other, text(inner), r"\$\.inner\.kind")

    def test_base64(self) -> None:
        """Payload is in base64 with padding, and with nothing else in it."""
        for wrong in ("YQ", "YQ=", "Y Q==", "YQ==\n", "YQ==YQ==", "-_==", "=", "\u00e9==="):
            self.refused(decodeFromClient, text({"kind": "tcp_data", "data_base64": wrong}), "data_base64")

    def test_port(self) -> None:
        """A port is one."""
        for decode, _, inner in WRITTEN:
            if "target_port" in inner:
                for port in (0, -1, 65536, 22.5, "22", True, None):
                    self.refused(decode, text({**inner, "target_port": port}), "target_port")
                decode(text({**inner, "target_port": 65535}))

    def test_limits(self) -> None:
        """A message has at most MAX_MESSAGE bytes, and texts in it are short."""
        frame = len(encode(ClientData(b"")))
        room = (MAX_MESSAGE - frame) // 4 * 3
        self.assertEqual(len(decodeFromClient(encode(ClientData(bytes(room))).encode()).data), room)
        long = text({"kind": "tcp_data", "data_base64": b64encode(bytes(room + 3)).decode()})
        self.refused(decodeFromClient, long, f"longer than {MAX_MESSAGE}")
        self.assertRaises(LocalProtocolError, encode, ClientData(bytes(room + 3)))
        self.assertLess(len(encode(AgentData(bytes(MAX_DATA), "c" * 128))), MAX_MESSAGE)
        start = {"kind": "start", "secret": "s"}
        self.assertEqual(len(decodeAgentStart(text({**start, "name": "n" * 255})).name), 255)
        self.refused(decodeAgentStart, text({**start, "name": "n" * 256}), "name")
        self.refused(decodeFromAgent, text({"kind": "initiate_connection_ok", "connection_id": "c" * 129}))

    def test_peersWords(self) -> None:
        """What a peer says of an error is one line that can be shown, and not a long one."""
        said = "one\ntwo\x1b[31m" + "x" * 1000
        for message in (
            decodeFromAgent(text({"kind": "connection_reset", "message": said, "connection_id": "c"})),
            decodeFromAgent(text({"kind": "initiate_connection_error", "message": said, "connection_id": "c"})),
            decodeToAgent(text({"kind": "connection_close", "message": said, "connection_id": "c"})),
            decodeToClient(text({"kind": "error", "message": said})),
        ):
            assert not isinstance(message, KeepAlive | StartOk | AgentData | ClientData | InitiateConnection)
            assert not isinstance(message, ConnectionOpened)
            self.assertTrue(message.message.startswith("one\ufffdtwo\ufffd[31mxxx"))
            self.assertTrue(message.message.isprintable())
            self.assertEqual(len(message.message), 256)

    def test_secretsAreNotShown(self) -> None:
        """What is said to be logged holds no secret."""
        for start in (AgentStart("box", "hidden", "e" * 1000), ClientStart("box", "h", 1, "tcp", "hidden")):
            self.assertNotIn("hidden", repr(start))
            self.assertLess(len(repr(start)), 200)

    def test_keepAlive(self) -> None:
        """An agent that says that it did not know keep_alive is old; one that has another problem is not."""
        said = (
            "1 validation error for RelayToEdgeAgentMessage\ninner\n  Input tag 'keep_alive' found using 'kind' does not"
            " match any of the expected tags: 'initiate_connection', 'tcp_data'"
        )
        self.assertFalse(AgentStart("box", "s", said).takesKeepAlive)
        for other in (None, "", "[Errno 111] Connection refused", "no keep_alive came in time"):
            self.assertTrue(AgentStart("box", "s", other).takesKeepAlive)

    @thorough
    @given(st.binary(max_size=300), st.text(min_size=1, max_size=20))
    def test_payload(self, data: bytes, connection: str) -> None:
        """Any bytes get through, whatever the connection is called."""
        message = AgentData(data, connection)
        self.assertEqual(decodeFromAgent(encode(message).encode()), message)
        self.assertEqual(decodeToAgent(encode(message).encode()), message)

    @thorough
    @given(st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda each: st.lists(each, max_size=3)))
    def test_anyJSON(self, value: object) -> None:
        """Any JSON in the place of any key is a message or an error that is documented."""
        for decode, _, inner in WRITTEN:
            for key in (*inner, "inner"):
                data = msgspec.json.encode({"inner": value if key == "inner" else {**inner, key: value}})
                try:
                    decode(data)
                except RemoteProtocolError as e:
                    self.assertEqual(e.code, INVALID_MESSAGE)


class LabelTests(SynchronousTestCase):
    """L{agentLabel} makes names that can be parts of host names."""

    def test_label(self) -> None:
        """A name that is a label stays as it is."""
        for name in ("box", "b", "a-1", "x" * 63, "0"):
            self.assertEqual(agentLabel(name), name)

    def test_others(self) -> None:
        """Any other gets one of its own, always the same, in which it can be recognised."""
        self.assertEqual(agentLabel("My_Box"), "my-box-3485ebdc")
        names = [
            "my-box.example",
            "My_Box",
            "my_box",
            "BOX",
            "Box",
            "",
            "-",
            "-box",
            "x" * 64,
            "\u00fc",
            "\ud800",
            "a b",
        ]
        labels = [agentLabel(name) for name in names]
        self.assertEqual(len(set(labels)), len(names))
        for label in labels:
            self.assertRegex(label, r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
