"""
curl and Node: what lasts, waits, comes in pieces or turns into something else.
"""

from __future__ import annotations

import hashlib
import json

from tests.interop.http.website import NAME, WAYS, WebTestCase
from tests.interop.rawwebsocket import BINARY, CLOSE, TEXT, HandshakeRefused, RawWebSocket
from tests.interop.running import Running, program, start
from tests.interop.tunnels import MIB, checksum, randomFile
from tests.processes import HERE, SECONDS, eventually

VERSIONS = [way for way in WAYS if way[1] != "--http1.0"]


class StreamTests(WebTestCase):
    """Nothing is held back on the way, and nothing is lost."""

    def setUp(self) -> None:
        super().setUp()
        self.publish(self.node())

    def assertWrites(self, running: Running, text: str) -> None:
        """This is what a program comes to have written, while it goes on."""
        if not eventually(lambda: running.log() == text):
            self.fail(f"{text!r} did not come, but {running.log()!r}")

    def test_events(self) -> None:
        """Events of a server (SSE) arrive one by one, while the answer goes on."""
        for scheme, version, _ in WAYS:
            with self.subTest(scheme=scheme, version=version):
                listening = start(self, program("curl"), *self.command(scheme, "/events", version, "--no-buffer"))
                self.assertWrites(listening, "data: hello\n\n")
                self.curl(scheme, "/poke", version)
                self.assertWrites(listening, "data: hello\n\ndata: poked\n\n")
                listening.stop()
        # The origin learns that they have gone.
        self.assertTrue(eventually(lambda: self.curl("http", "/poke") == "0 0"))

    def test_poll(self) -> None:
        """An answer may take its time."""
        for scheme, version, _ in VERSIONS:
            with self.subTest(scheme=scheme, version=version):
                waiting = start(self, program("curl"), *self.command(scheme, "/poll", version))
                self.assertTrue(eventually(lambda: self.curl("http", "/poke") == "0 1"))
                waiting.process.wait(SECONDS)
                self.assertEqual(waiting.log(), "poked")

    def test_bothWaysAtOnce(self) -> None:
        """64 MiB come back while they are being sent, of a length that is not known."""
        sent, back = self.folder / "sent", self.folder / "back"
        expected = randomFile(sent, 64 * MIB)
        for scheme, version, _ in VERSIONS:
            with self.subTest(scheme=scheme, version=version):
                self.curl(scheme, "/echo", version, "--fail", "--output", str(back), "--upload-file", str(sent))
                self.assertEqual(checksum(back), expected)

    def test_trailers(self) -> None:
        """An upload in pieces arrives whole, and what the origin says behind its answer reaches the visitor."""
        body = "abc" * 100_000
        expected = hashlib.sha256(body.encode()).hexdigest()
        for scheme, version, _ in VERSIONS:
            with self.subTest(scheme=scheme, version=version):
                answer = self.curl(scheme, "/sum", version, "--dump-header", "-", "--upload-file", "-", text=body)
                self.assertIn("see below", answer)
                self.assertIn(f"x-sum: {expected}", answer.lower())

    def test_early(self) -> None:
        """100 and 103 come before the answer, to who knows them; nothing is sent to an origin that says no at once."""
        body = self.folder / "body"
        body.write_bytes(bytes(2 * MIB))
        expecting = (
            "--header",
            "Expect: 100-continue",
            "--expect100-timeout",
            str(SECONDS),
            "--data-binary",
            f"@{body}",
        )
        for scheme, version, _ in VERSIONS:
            with self.subTest(scheme=scheme, version=version):
                heads = self.curl(scheme, "/echo", version, *expecting, "--dump-header", "-", "--output", "/dev/null")
                self.assertRegex(heads, r"^HTTP/\S+ 100[^\n]*\r\n\r\nHTTP/\S+ 200")
                heads = self.curl(scheme, "/hints", version, "--dump-header", "-")
                self.assertRegex(
                    heads, r"(?is)^HTTP/\S+ 103[^\n]*\r\nlink: </style.css>.*\r\n\r\nHTTP/\S+ 200.*hinted$"
                )
        refused = self.curl("https", "/refused", "--http1.1", *expecting, "--write-out", "|%{http_code} %{size_upload}")
        self.assertEqual(refused, "not here|403 0")
        hinted = self.curl("http", "/hints", "--http1.0", "--dump-header", "-")
        self.assertRegex(hinted, r"^HTTP/1\S+ 200")

    def test_cutOff(self) -> None:
        """An answer that the origin does not finish does not look whole."""
        for scheme, version, _ in WAYS:
            with self.subTest(scheme=scheme, version=version):
                cut = start(self, program("curl"), *self.command(scheme, "/breaks", version))
                # What curl calls that: bytes are missing, or all of them; the connection was reset, or the stream was.
                self.assertIn(cut.process.wait(SECONDS), (18, 52, 56, 92), cut.log())

    def test_fields(self) -> None:
        """An origin is told who asks and for what, in the usual words, whatever the visitor claims."""
        claims = ("X-Forwarded-For: 203.0.113.1", "X_Forwarded_For: 203.0.113.1", "Forwarded: for=203.0.113.1")
        arguments = [word for claim in claims for word in ("--header", claim)]
        for scheme, version, _ in WAYS:
            with self.subTest(scheme=scheme, version=version):
                seen = json.loads(self.curl(scheme, "/seen?q=%41", version, *arguments, "--interface", "127.0.0.9"))
                self.assertEqual(seen["url"], "/seen?q=%41")
                names = [name.lower() for name in seen["fields"][::2]]
                fields = dict(zip(names, seen["fields"][1::2], strict=True))
                self.assertEqual(len(names), len(fields), names)
                port = self.running.tls if scheme == "https" else self.running.http
                self.assertEqual(fields["host"], f"{NAME}:{port}")
                self.assertEqual(fields["x-forwarded-for"], "127.0.0.9")
                self.assertEqual(fields["x-forwarded-proto"], scheme)
                self.assertEqual(fields["x-forwarded-port"], str(port))
                self.assertIn("for=127.0.0.9", fields["forwarded"])
                self.assertNotIn("203.0.113.1", json.dumps(fields))

    def test_webSocket(self) -> None:
        """What becomes a WebSocket carries messages both ways; what the origin refuses is answered as it says."""
        address, headers = (HERE, self.running.http), {"Host": NAME}
        client = RawWebSocket.connect(address, "/ws", headers=headers)
        self.addCleanup(client.drop)
        client.sendText("hello")
        frame = client.receive(SECONDS)
        self.assertEqual((frame.opcode, frame.payload), (TEXT, b"hello"))
        for number in range(100):
            client.sendBinary(bytes([number]) * 50_000)
        for number in range(100):
            frame = client.receive(SECONDS)
            self.assertEqual((frame.opcode, frame.payload), (BINARY, bytes([number]) * 50_000))
        client.sendClose()
        self.assertEqual(client.receive(SECONDS).opcode, CLOSE)
        refused = self.assertRaises(HandshakeRefused, RawWebSocket.connect, address, "/elsewhere", headers=headers)
        self.assertEqual(refused.status, 403)
