"""
What can go wrong with a target, a client or the machine goes wrong here, for real, and the gateway carries on.

Every promise is made to a gateway in a process of its own, over loopback. What holds after each test is in
L{FaultTestCase}. The last test opens and drops 100,000 connections; C{FAULTS_CHURN=2000} makes it
short enough to wait for::

    FAULTS_CHURN=2000 python -m twisted.trial tests.integration.test_faults
"""

from __future__ import annotations

import contextlib  # trial takes a name "suppress" in a module for its own
import itertools
import json
import os
import resource
import select
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable

from tests.certificates import makeAuthority
from tests.integration.faultfixture import FLOOD, MIB, MOST, PATIENCE, FaultTestCase, Watched, control
from tests.interop.rawwebsocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    ConnectionLost,
    NothingCame,
    RawWebSocket,
    encodeFrame,
    handshakeRequest,
)
from tests.processes import HERE, eventually, reset

SLACK = 3.0
"""Seconds more than a deadline of the gateway that a busy machine may take."""

CLOSE_TIMEOUT = 10.0
"""Seconds that the gateway gives a client to close its connection."""

CHURN = int(os.environ.get("FAULTS_CHURN", "100000"))

MASKED = 0x80
KEY = bytes(4)

IP_BIND_ADDRESS_NO_PORT = 24
"""C{ip(7)}: choose the local port when connecting, so that a port may serve several destinations."""

UPGRADE = handshakeRequest("127.0.0.1", "/", {}, "AAAAAAAAAAAAAAAAAAAAAA==")

CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(range(32))
"""The first 43 bytes of a ClientHello that says it has 517."""

BROKEN_FRAMES = {
    "unmasked": encodeFrame(TEXT, b"{}", masked=False),
    "unmasked binary": encodeFrame(BINARY, b"payload", masked=False),
    "reserved opcode": encodeFrame(0x3, b"{}"),
    "reserved control opcode": encodeFrame(0xB, b""),
    "reserved bit": bytes([0xC0 | BINARY, MASKED]) + KEY,
    "huge length of text": bytes([0x80 | TEXT, MASKED | 127]) + struct.pack("!Q", 1 << 62) + KEY,
    "impossible length": bytes([0x80 | BINARY, MASKED | 127]) + struct.pack("!Q", 1 << 63) + KEY,
    "length in too many bytes": bytes([0x80 | BINARY, MASKED | 126, 0, 5]) + KEY + b"12345",
    "invalid UTF-8": encodeFrame(TEXT, b'{"_":"\xff\xfe"}'),
    "truncated UTF-8": encodeFrame(TEXT, b"\xe2\x82"),
    "continuation of nothing": encodeFrame(CONTINUATION, b"rest"),
    "fragmented ping": encodeFrame(PING, b"", final=False),
    "long ping": encodeFrame(PING, bytes(126)),
    "close code out of range": encodeFrame(CLOSE, struct.pack("!H", 999)),
    "close of one byte": encodeFrame(CLOSE, b"\x03"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": CLIENT_HELLO,
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
}
"""Frames that a WebSocket must not take from a client, whatever it says with them (RFC 6455, sections 5 and 8.1)."""

TRUNCATED_FRAMES = {
    "half a header": bytes([0x80 | TEXT]),
    "half a length": bytes([0x80 | TEXT, MASKED | 126, 0]),
    "half a mask": bytes([0x80 | TEXT, MASKED | 5, 0, 0]),
    "half a payload": encodeFrame(TEXT, control("hello", version=1).encode())[:12],
    "half a message": encodeFrame(TEXT, b'{"_":', final=False),
}
"""Frames that go on later, or never."""

WRONG_MESSAGES = {
    "not JSON": encodeFrame(TEXT, b"hello"),
    "not an object": encodeFrame(TEXT, b"[]"),
    "null": encodeFrame(TEXT, b"null"),
    "deep": encodeFrame(TEXT, b"[" * 10000),
    "nothing": encodeFrame(TEXT, b""),
    "long": encodeFrame(TEXT, b'{"_":"' + b"x" * 15000 + b'"}'),
    "unknown": encodeFrame(TEXT, b'{"_":"goodbye"}'),
    "binary": encodeFrame(BINARY, bytes(range(256))),
}
"""Frames that are a WebSocket's and no message of ours."""

BROKEN_REQUESTS = {
    "noise": bytes(range(128, 256)) * 4 + b"\r\n\r\n",
    "zeros": bytes(1000) + b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "no key": UPGRADE.replace(b"Sec-WebSocket-Key", b"X-Key"),
    "bad key": UPGRADE.replace(b"AAAA==", b"!!"),
    "old version": UPGRADE.replace(b"Version: 13", b"Version: 7"),
    "two lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "not ASCII": UPGRADE.replace(b"Host: 127.0.0.1", b"Host: \xff\xfe"),
}
"""Requests that are answered by no 101."""


def fillBacklog(test: FaultTestCase) -> socket.socket:
    """A listener that never accepts and whose backlog is full, so the kernel drops every SYN."""
    listener = test.listener(backlog=0)
    for _ in range(4):
        filler = test.keep(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    return listener


class TargetFaultTests(FaultTestCase):
    """Targets that do not do what a target should."""

    def test_neverAccepts(self) -> None:
        """A target that takes no connection is given up after C{--connect-timeout}, and the client told."""
        gateway = self.start("--connect-timeout", "1")
        client = self.asking(gateway, fillBacklog(self).getsockname()[1])
        began = time.monotonic()
        self.assertEqual(self.farewell(client), ("connect-timeout", b""))
        self.assertTrue(0.5 < time.monotonic() - began < 1 + SLACK)

    def test_clientLeavesWhileDialling(self) -> None:
        """A client that leaves while its target is dialled takes the attempt with it."""
        gateway = self.start("--connect-timeout", "60")
        client = self.asking(gateway, fillBacklog(self).getsockname()[1])
        self.assertTrue(eventually(lambda: gateway.openDescriptors() == gateway.descriptors + 2))
        reset(client.socket)
        self.assertSettles(gateway)

    def test_refuses(self) -> None:
        """A target that refuses is a C{connection-failed} that says so."""
        gateway = self.start()
        listener = self.listener()
        port = listener.getsockname()[1]
        listener.close()
        client = self.asking(gateway, port)
        error = self.message(client)
        self.assertEqual(error["code"], "connection-failed")
        self.assertIn("refused", str(error["details"]))

    def test_resetsAtOnce(self) -> None:
        """A target that accepts and resets is told to the client, whether or not it was C{connected} by then."""
        gateway = self.start()
        listener = self.listener()
        client = self.asking(gateway, listener.getsockname()[1])
        reset(self.accept(listener))
        first, *_ = frames = self.lastFrames(client)
        self.assertIn(b'"connected"' if len(frames) > 2 else b'"connection-failed"', first.payload)
        self.assertIn(b'"error"', frames[-2].payload)

    def test_resetsDuringBulk(self) -> None:
        """When a target resets in the middle of bulk the client gets a prefix, and is told that it is one."""
        gateway = self.start()
        client, target = self.session(gateway)
        pattern = bytes(range(256)) * (4 * MIB // 256)

        def push() -> None:
            target.sendall(pattern)
            reset(target)

        self.inBackground(push)
        code, data = self.farewell(client)
        self.assertEqual(code, "connection-reset")
        self.assertTrue(pattern.startswith(data))

    def test_resetsWhileClientSends(self) -> None:
        """When a target resets while the client sends, the client is told, and what it goes on sending is dropped."""
        gateway = self.start()
        client, target = self.session(gateway)
        frame = encodeFrame(BINARY, bytes(MIB))
        sender = self.flood(client.socket, frame)
        target.recv(100)
        reset(target)
        self.assertEqual(self.farewell(client), ("connection-reset", b""))
        client.drop()
        sender.join(PATIENCE)

    def test_halfClosesAndReads(self) -> None:
        """
        A target that half-closes has ended the session, since a WebSocket cannot: all it sent comes, then the reason;
        all that the client had sent arrives, and then the end.
        """
        gateway = self.start()
        client, target = self.session(gateway)
        client.sendBinary(b"from the client")
        self.assertEqual(target.recv(100), b"from the client")
        target.sendall(b"last words")
        target.shutdown(socket.SHUT_WR)
        self.assertEqual(self.farewell(client), ("connection-closed", b"last words"))
        self.assertEqual(self.assertEnds(target), b"")

    def test_writesWithoutReading(self) -> None:
        """A target that will read no more may go on writing."""
        gateway = self.start()
        client, target = self.session(gateway)
        target.shutdown(socket.SHUT_RD)
        for word in (b"one", b"two"):
            target.sendall(word)
            self.assertEqual(client.receive(PATIENCE).payload, word)

    def test_floodsClientThatDoesNotRead(self) -> None:
        """64 MiB for a client that does not read cost the gateway less than 16 MiB, and all come once it reads."""
        self.assertFloodIsHeldBack(self.start())

    def test_floodedTargetDoesNotRead(self) -> None:
        """64 MiB for a target that does not read cost the gateway less than 16 MiB, and all come once it reads."""
        gateway = self.start()
        client, target = self.session(gateway)
        before = gateway.residentBytes()
        frame = encodeFrame(BINARY, bytes(MIB))
        sender = self.flood(client.socket, frame)
        self.assertBounded(gateway, before)
        self.assertTrue(sender.is_alive(), "nothing held the client back")
        received = 0
        while received < FLOOD:
            received += len(target.recv(MIB))
        self.assertEqual(received, FLOOD)
        self.assertLess(gateway.residentBytes() - before, MOST)

    def test_floodBeforeConnected(self) -> None:
        """A client that floods while its target is still dialled is held back, and not for ever."""
        gateway = self.start("--connect-timeout", "2")
        client = self.asking(gateway, fillBacklog(self).getsockname()[1])
        before = gateway.residentBytes()
        frame = encodeFrame(BINARY, bytes(MIB))
        sender = self.flood(client.socket, frame)
        self.assertBounded(gateway, before)
        self.assertTrue(sender.is_alive(), "nothing held the client back")
        self.assertEqual(self.farewell(client), ("connect-timeout", b""))


class ClientFaultTests(FaultTestCase):
    """Clients that vanish. One that has lost its network answers no ping, and that is all that the gateway sees."""

    def test_vanishes(self) -> None:
        """A client that does not answer is cut off within two intervals, and its target connection closed."""
        gateway = self.start("--ping-interval", "1")
        _, target = self.session(gateway)
        self.assertEqual(self.assertEnds(target, 2 + SLACK), b"")
        self.assertTrue(eventually(lambda: bool(gateway.events("tabby.closed")[-1]["cause"] == "near-reset")))

    def test_vanishesDuringBulk(self) -> None:
        """So is one for which there is more than its connection takes, an interval after it took the last of it."""
        gateway = self.start("--ping-interval", "1")
        _, target = self.session(gateway)
        flood = self.flood(target, bytes(MIB))
        flood.join(3 + SLACK)
        self.assertFalse(flood.is_alive())

    def test_dropsWhileTargetStalls(self) -> None:
        """A client that is gone while its target does not read, so that nothing is read of it, is found by pings."""
        for drop in (socket.socket.close, reset):
            gateway = self.start("--ping-interval", "1")
            client, _ = self.session(gateway)
            self.flood(client.socket, encodeFrame(BINARY, bytes(MIB)))
            self.assertBounded(gateway, gateway.residentBytes())
            client.socket.shutdown(socket.SHUT_RDWR)
            drop(client.socket)
            self.assertTrue(eventually(gateway.isIdle, 2 + SLACK))

    def test_vanishesBeforeHello(self) -> None:
        """A client that opens a WebSocket and says nothing is told, and let go, after C{--handshake-timeout}."""
        gateway = self.start("--handshake-timeout", "1")
        client = self.client(gateway)
        self.assertEqual(self.farewell(client, 1 + SLACK)[0], "handshake-timeout")

    def test_vanishesBeforeConnect(self) -> None:
        """So is one that was let in and does not say where to."""
        gateway = self.start("--handshake-timeout", "1")
        client = self.greeted(gateway)
        self.assertEqual(self.farewell(client, 1 + SLACK)[0], "handshake-timeout")

    def test_dropsInEachState(self) -> None:
        """A client may close or reset its TCP connection at any point, and nothing of it stays."""
        gateway = self.start()
        blackHole = fillBacklog(self).getsockname()[1]
        for drop in (socket.socket.close, reset):
            drop(self.plain(gateway))
            drop(self.client(gateway).socket)
            drop(self.greeted(gateway).socket)
            drop(self.asking(gateway, blackHole).socket)
            client, target = self.session(gateway)
            drop(client.socket)
            self.assertEnds(target)

    def test_answersPings(self) -> None:
        """A client that says nothing but answers pings is not cut off."""
        gateway = self.start("--ping-interval", "1")
        client, _ = self.session(gateway)
        self.assertRaises(NothingCame, client.receive, 3.5)
        client.sendBinary(b"still here")


class GarbageTests(FaultTestCase):
    """Clients that say what no client says, at each step."""

    # What a broken frame leaves behind may swallow the client's own Close, so the gateway waits in vain for that, for
    # its ten seconds. All wait together here.

    def _assertTurnedAway(self, make: Callable[[], RawWebSocket], *kinds: dict[str, bytes]) -> None:
        clients: list[tuple[str, RawWebSocket]] = []
        for name, frame in itertools.chain.from_iterable(kind.items() for kind in kinds):
            client = make()
            client.sendRaw(frame)
            clients.append((name, client))
        for name, client in clients:
            frames = self.lastFrames(client)
            self.assertEqual(frames[-1].opcode if frames else None, CLOSE, name)
        for name, client in clients:
            self.assertEnds(client.socket, CLOSE_TIMEOUT + SLACK, name)

    def test_insteadOfRequest(self) -> None:
        """What is no WebSocket request is answered in HTTP, or by closing; never by 101, and never not at all."""
        gateway = self.start("--handshake-timeout", "1")
        for name, request in BROKEN_REQUESTS.items():
            client = self.plain(gateway)
            client.sendall(request)
            answer = self.assertEnds(client, 1 + SLACK)
            self.assertNotIn(b" 101 ", answer[:20], name)
            self.assertTrue(not answer or answer.startswith(b"HTTP/1.1 4"), (name, answer))

    def test_insteadOfHello(self) -> None:
        """Garbage as the first frame ends in a Close, and in the end of the connection."""
        gateway = self.start("--handshake-timeout", "1")
        self._assertTurnedAway(lambda: self.client(gateway), BROKEN_FRAMES, WRONG_MESSAGES, TRUNCATED_FRAMES)

    def test_insteadOfConnect(self) -> None:
        """So does garbage after the hello."""
        gateway = self.start("--handshake-timeout", "1")
        self._assertTurnedAway(lambda: self.greeted(gateway), BROKEN_FRAMES, WRONG_MESSAGES, TRUNCATED_FRAMES)

    def test_whileDialling(self) -> None:
        """Garbage while the target is dialled ends the attempt."""
        gateway = self.start("--connect-timeout", "60")
        port = fillBacklog(self).getsockname()[1]
        self._assertTurnedAway(lambda: self.asking(gateway, port), BROKEN_FRAMES)

    def test_inSession(self) -> None:
        """Broken frames in a session end it on both sides, and nothing of them reaches the target."""
        gateway = self.start()
        targets: list[socket.socket] = []

        def connected() -> RawWebSocket:
            client, target = self.session(gateway)
            client.sendBinary(b"before")
            targets.append(target)
            return client

        self._assertTurnedAway(connected, BROKEN_FRAMES)
        for name, target in zip(BROKEN_FRAMES, targets, strict=True):
            self.assertEqual(self.assertEnds(target), b"before", name)

    def test_messagesInSession(self) -> None:
        """Text in a session, message or not, changes nothing, and does not reach the target."""
        gateway = self.start()
        client, target = self.session(gateway)
        for name, frame in WRONG_MESSAGES.items():
            if name != "binary":
                client.sendRaw(frame)
        client.sendBinary(b"goes on")
        self.assertEqual(target.recv(100), b"goes on")

    def test_truncatedInSession(self) -> None:
        """What is there of a truncated frame goes on at once, and dropping the rest ends the session."""
        gateway = self.start()
        client, target = self.session(gateway)
        header = bytes([0x80 | BINARY, MASKED | 127]) + struct.pack("!Q", 1 << 40) + KEY
        client.sendRaw(header + b"the beginning of a terabyte")
        self.assertEqual(target.recv(100), b"the beginning of a terabyte")
        client.drop()
        self.assertEnds(target)

    def test_endlessHead(self) -> None:
        """A request whose head does not end is refused long before it fills the memory."""
        gateway = self.start()
        before = gateway.residentBytes()
        client = self.plain(gateway)
        client.sendall(b"GET / HTTP/1.1\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < FLOOD:
                sent += client.send(b"X-Padding: " + b"x" * 1000 + b"\r\n")
        self.assertLess(sent, FLOOD)
        self.assertLess(gateway.residentBytes() - before, 4 * MIB)

    def test_endlessHeadIsTold(self) -> None:
        """Whoever sends a head that is too long, and listens, is told so."""
        gateway = self.start()
        client = self.plain(gateway)
        client.sendall(b"GET / HTTP/1.1\r\nX-Padding: " + b"x" * 17 * 1024)
        self.assertIn(b" 431 ", self.assertEnds(client)[:20])

    def _assertTooSlow(self, gateway: Watched, data: bytes) -> None:
        client = self.plain(gateway)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in data:
                client.sendall(bytes([byte]))
                if select.select([client], [], [], 0.1)[0]:
                    break
        self.assertEnds(client, SLACK)
        self.assertTrue(0.5 < time.monotonic() - began < 1 + SLACK)

    def test_slowHead(self) -> None:
        """A byte now and then does not extend the time that a request has."""
        self._assertTooSlow(self.start("--handshake-timeout", "1"), UPGRADE)

    def test_slowHello(self) -> None:
        """Nor that which a hello has."""
        gateway = self.start("--handshake-timeout", "1")
        client = self.client(gateway)
        began = time.monotonic()
        with contextlib.suppress(ConnectionLost):
            for byte in encodeFrame(TEXT, control("hello", version=1).encode()):
                client.sendRaw(bytes([byte]))
                if select.select([client.socket], [], [], 0.1)[0]:
                    break
        self.assertEqual(self.farewell(client, SLACK)[0], "handshake-timeout")
        self.assertLess(time.monotonic() - began, 1 + SLACK)

    def test_silence(self) -> None:
        """A connection on which nothing is said is closed."""
        gateway = self.start("--handshake-timeout", "1")
        self.assertEqual(self.assertEnds(self.plain(gateway), 1 + SLACK), b"")

    def test_tlsOnPlainPort(self) -> None:
        """Half a ClientHello on a port without TLS is closed at once, with one line in the log that says why."""
        gateway = self.start()
        client = self.plain(gateway)
        client.sendall(CLIENT_HELLO)
        self.assertEqual(self.assertEnds(client), b"")
        self.assertTrue(eventually(lambda: len(gateway.events("tabby.failed")) == 1))
        self.assertIn("TLS on a port without", str(gateway.events("tabby.failed")[0]["problem"]))

    def test_ignoredCloseFrame(self) -> None:
        """A client that never answers a Close frame is cut off."""
        gateway = self.start()
        client, target = self.session(gateway)
        target.close()
        while client.receive(PATIENCE).opcode != CLOSE:
            pass
        self.assertEnds(client.socket, CLOSE_TIMEOUT + SLACK)


class TLSFaultTests(FaultTestCase):
    """The same with TLS between."""

    def startTLS(self, *options: str) -> Watched:
        """Start a gateway with a certificate."""
        authority = makeAuthority("Faults")
        directory = self.mktemp()
        certificate, key = authority.issue("localhost", HERE).write(directory)
        context = ssl.create_default_context(cadata=authority.certificatePEM.decode())
        return self.start("--certificate", certificate, "--private-key", key, *options, tls=context)

    def test_vanishesDuringHandshake(self) -> None:
        """Half a ClientHello, or a whole one and then nothing, is closed after C{--handshake-timeout}."""
        gateway = self.startTLS("--handshake-timeout", "1")
        assert gateway.tls is not None
        half = self.plain(gateway)
        half.sendall(CLIENT_HELLO)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            gateway.tls.wrap_bio(incoming, outgoing, server_hostname=HERE).do_handshake()
        whole = self.plain(gateway)
        whole.sendall(outgoing.read())
        self.assertEqual(self.assertEnds(half, 1 + SLACK), b"")
        self.assertNotEqual(self.assertEnds(whole, 1 + SLACK), b"", "no ServerHello")

    def test_dropsDuringHandshake(self) -> None:
        """A client may close or reset its connection in the middle of the handshake."""
        gateway = self.startTLS()
        for drop in (socket.socket.close, reset):
            client = self.plain(gateway)
            client.sendall(CLIENT_HELLO)
            drop(client)

    def test_garbageInHandshake(self) -> None:
        """A handshake that is none ends at once, with one line in the log."""
        gateway = self.startTLS()
        client = self.plain(gateway)
        client.sendall(b"\x16\x03\x01" + b"\xff" * 1000)
        self.assertEnds(client)
        self.assertTrue(eventually(lambda: len(gateway.events("tabby.failed")) == 1))

    def test_garbageInSession(self) -> None:
        """Bytes in a session that are not TLS end it on both sides."""
        gateway = self.startTLS()
        client, target = self.session(gateway)
        raw = self.keep(socket.socket(fileno=client.socket.detach()))
        raw.sendall(b"not a record of TLS" * 100)
        self.assertEnds(raw)
        self.assertEqual(self.assertEnds(target), b"")

    def test_plainOnTLSPort(self) -> None:
        """Plain HTTP on a TLS port is answered by a page that names the right URL, and by one line in the log."""
        gateway = self.startTLS()
        client = self.plain(gateway)
        client.sendall(UPGRADE)
        answer = self.assertEnds(client)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400"))
        self.assertIn(b"wss://127.0.0.1", answer)
        self.assertTrue(eventually(lambda: len(gateway.events("tabby.failed")) == 1))

    def test_closesWithoutNotify(self) -> None:
        """A connection that ends below TLS, without close_notify, closes the target's."""
        gateway = self.startTLS()
        for drop in (socket.socket.close, reset):
            client, target = self.session(gateway)
            drop(socket.socket(fileno=client.socket.detach()))
            self.assertEqual(self.assertEnds(target), b"")

    def test_vanishes(self) -> None:
        """A client that does not answer is cut off within two intervals."""
        gateway = self.startTLS("--ping-interval", "1")
        _, target = self.session(gateway)
        self.assertEnds(target, 2 + SLACK)

    def test_vanishesDuringBulk(self) -> None:
        """So is one for which there is more than its connection takes, an interval after it took the last of it."""
        gateway = self.startTLS("--ping-interval", "1")
        _, target = self.session(gateway)
        before = gateway.residentBytes()
        flood = self.flood(target, bytes(MIB))
        flood.join(3 + SLACK)
        self.assertFalse(flood.is_alive())
        self.assertLess(gateway.residentBytes() - before, MOST)

    def test_floodsClientThatDoesNotRead(self) -> None:
        """A client that does not read costs less than 16 MiB with TLS too, and then gets everything."""
        self.assertFloodIsHeldBack(self.startTLS())

    def test_resetsDuringBulk(self) -> None:
        """A target's reset is told through TLS too."""
        gateway = self.startTLS()
        client, target = self.session(gateway)
        target.sendall(bytes(MIB))
        reset(target)
        self.assertEqual(self.farewell(client)[0], "connection-reset")


class SignalTests(FaultTestCase):
    """Signals that come when it does not suit."""

    def _assertStops(self, gateway: Watched, seconds: float) -> None:
        self.assertEqual(gateway.gateway.process.wait(seconds), 0)
        self.assertEqual(len(gateway.events("tabby.stopped")), 1)

    def test_terminatedDuringBulk(self) -> None:
        """At SIGTERM a session in the middle of bulk is told, goes on for C{--drain}, and is told why it ends."""
        gateway = self.start("--drain", "1")
        client, target = self.session(gateway)
        self.flood(target, bytes(65536), None)
        client.receive(PATIENCE)
        began = time.monotonic()
        gateway.gateway.process.terminate()
        texts = [frame.payload for frame in self.lastFrames(client) if frame.opcode == TEXT]
        self.assertGreater(time.monotonic() - began, 1)
        self.assertEqual([json.loads(text)["_"] for text in texts], ["shutting-down", "error"])
        self._assertStops(gateway, 1 + SLACK)

    def test_terminatedInEachState(self) -> None:
        """Whoever has no session at SIGTERM is told and sent away at once."""
        gateway = self.start("--drain", "30", "--connect-timeout", "60")
        blackHole = fillBacklog(self).getsockname()[1]
        clients = [self.client(gateway), self.greeted(gateway), self.asking(gateway, blackHole)]
        silent = self.plain(gateway)
        # All of it has come, for the answer to the last has.
        self.client(gateway).drop()
        began = time.monotonic()
        gateway.gateway.process.terminate()
        for client in clients:
            self.assertEqual(self.farewell(client)[0], "shutting-down")
            client.drop()
        self._assertStops(gateway, 1 + SLACK)
        self.assertLess(time.monotonic() - began, 1 + SLACK)
        self.assertEnds(silent)

    def test_terminatedWhileStalled(self) -> None:
        """A session that neither reads nor closes does not keep the gateway longer than it has said."""
        gateway = self.start("--drain", "1")
        stalled, target = self.session(gateway)
        self.flood(target, bytes(65536), None)
        # Told beside it: one that is idle.
        idle, _ = self.session(gateway)
        gateway.gateway.process.terminate()
        self.assertEqual(self.message(idle)["_"], "shutting-down")
        self.assertEqual(self.farewell(idle)[0], "shutting-down")
        idle.drop()
        self._assertStops(gateway, 1 + 7 + SLACK)
        stalled.drop()

    def test_hangupStorm(self) -> None:
        """Fifty quick SIGHUPs disturb no session, and the last of them counts."""
        gateway = self.start()
        sessions = [self.session(gateway) for _ in range(5)]
        for number in range(50):
            os.kill(gateway.pid, signal.SIGHUP)
            client, target = sessions[number % 5]
            client.sendBinary(b"%d" % number)
            self.assertEqual(target.recv(10), b"%d" % number)
            target.sendall(b"-%d" % number)
            self.assertEqual(client.receive(PATIENCE).payload, b"-%d" % number)
        self.assertTrue(eventually(lambda: bool(gateway.events("tabby.reloaded"))))


class DescriptorTests(FaultTestCase):
    """A machine that has no descriptors left."""

    def _limit(self, gateway: Watched, more: int) -> None:
        limit = gateway.descriptors + more
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (limit, limit))

    def test_noneForClients(self) -> None:
        """
        Without descriptors the gateway says so, in few lines, waits without computing, keeps its sessions, and serves
        again as soon as there are some.
        """
        gateway = self.start("--handshake-timeout", "30")
        client, target = self.session(gateway)
        self._limit(gateway, 20)
        crowd = [self.plain(gateway) for _ in range(200)]
        for each in crowd:
            with contextlib.suppress(OSError):
                each.sendall(UPGRADE)
        client.sendBinary(b"up")
        self.assertEqual(target.recv(2), b"up")
        target.sendall(b"down")
        self.assertEqual(client.receive(PATIENCE).payload, b"down")
        computed = gateway.cpuSeconds()
        time.sleep(1)
        self.assertLess(gateway.cpuSeconds() - computed, 0.3)
        self.assertEqual(len(gateway.events("gateway.out-of-descriptors")), 1)
        self.assertNotIn("EMFILE", gateway.gateway.log())

    def test_noneForTargets(self) -> None:
        """A client whose target connection has no descriptor is told C{connection-failed}."""
        gateway = self.start()
        clients = [self.greeted(gateway) for _ in range(5)]
        self._limit(gateway, 5)
        port = self.listener().getsockname()[1]
        for client in clients:
            client.sendText(control("connect", host=HERE, port=port))
            self.assertEqual(self.message(client)["code"], "connection-failed")


class ChurnTests(FaultTestCase):
    """Very many connections."""

    deadline = 150

    OPENED, HALF_HEAD, UPGRADED, GREETED, CONNECTED = range(5)
    STAGES = (OPENED,) * 7 + (HALF_HEAD,) * 6 + (UPGRADED,) * 3 + (GREETED,) * 2 + (CONNECTED,) * 2
    """How far connections come before they are dropped: most of them not far, or it would take too long."""

    BATCH = 100
    WARM_UP = 0.2

    def _batch(self, gateway: Watched, listener: socket.socket, stages: list[int], source: str) -> None:
        """Bring connections as far as each is meant to come, all abreast, and drop them, every other one with an RST."""
        opened: list[tuple[int, socket.socket]] = []
        targets: list[socket.socket] = []
        hello = encodeFrame(TEXT, control("hello", version=1).encode())
        connect = encodeFrame(TEXT, control("connect", host=HERE, port=listener.getsockname()[1]).encode())
        try:
            for stage in stages:
                opened.append((stage, connection := socket.socket()))
                connection.settimeout(PATIENCE)
                connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                connection.bind((source, 0))
                connection.connect(gateway.address)
                if stage:
                    connection.sendall(UPGRADE[:60] if stage == self.HALF_HEAD else UPGRADE)
            for reached, question, answer in (
                (self.UPGRADED, b"", b'"hello"'),
                (self.GREETED, hello, b'"ready"'),
                (self.CONNECTED, connect, b'"connected"'),
            ):
                asking = [connection for stage, connection in opened if stage >= reached]
                for connection in asking:
                    connection.sendall(question)
                if reached == self.CONNECTED:
                    targets += [listener.accept()[0] for _ in asking]
                for connection in asking:
                    received = b""
                    while answer not in received:
                        received += (data := connection.recv(4096))
                        self.assertTrue(data, received)
        finally:
            for number, (_, connection) in enumerate(opened):
                (reset if number % 2 else socket.socket.close)(connection)
            for number, target in enumerate(targets):
                (reset if number % 3 else socket.socket.close)(target)

    def test_churn(self) -> None:
        """
        After 100,000 connections, dropped at any stage, the gateway has no descriptor more than before, no memory
        more than after the first 20,000, and nobody in its books.
        """
        unlimited = [
            "--max-unauthenticated",
            "--max-unauthenticated-per-address",
            "--max-per-address",
            "--new-per-second",
            "--new-per-second-per-address",
        ]
        gateway = self.start(*itertools.chain.from_iterable((option, "0") for option in unlimited))
        listener = self.listener(self.BATCH)
        stages = itertools.cycle(self.STAGES)
        warm = 0
        for number in range(0, CHURN, self.BATCH):
            self._batch(
                gateway, listener, list(itertools.islice(stages, self.BATCH)), f"127.0.{number // 1000 % 250}.1"
            )
            if number < CHURN * self.WARM_UP <= number + self.BATCH:
                self.assertSettles(gateway)
                warm = gateway.residentBytes()
        self.assertSettles(gateway)
        self.assertLess(gateway.residentBytes() - warm, 8 * MIB)
        self.assertGreaterEqual(gateway.metric('connections_total{listener="client"}'), CHURN)
