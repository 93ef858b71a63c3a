"""
Tests for C{gateway relay}: real processes and real sockets, one pair of them for each way to connect two relays.

    visitor -- relay that listens on TCP -- the carrier under test -- relay that dials TCP -- origin
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import makeAuthority
from tests.integration.relays import LOCAL, digest, exactly, origin, relaying, toTheEnd
from tests.processes import HERE, SECONDS, reset

MIB = 1024 * 1024
UP = os.urandom(MIB)
DOWN = os.urandom(MIB)


def ended(connection: socket.socket) -> bytes:
    """What comes before the connection ends in one way or the other."""
    try:
        return toTheEnd(connection)
    except ConnectionResetError:
        return b""


if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object


class CarrierPromises(_Base):
    """
    What holds whatever is between two relays.

    @cvar server: the endpoint that the second relay listens on.
    @cvar client: the one that the first relay dials, with the port to fill in.
    @cvar halfCloses: whether one direction can end alone.
    @cvar resets: whether the carrier can break off.
    """

    server: str
    client: str
    halfCloses = True
    resets = True

    def setUp(self) -> None:
        directory = Path(self.mktemp()).absolute()
        authority = makeAuthority("Relays")
        certificate, key = authority.issue(HERE).write(str(directory))
        trusted = directory / "trusted"
        trusted.mkdir()
        (trusted / "authority.pem").write_bytes(authority.certificatePEM)
        self.files = {
            "certificate": certificate,
            "key": key,
            "authorities": str(trusted),
            "authority": str(trusted / "authority.pem"),
            # A path of a UNIX socket has at most 107 characters.
            "socket": os.path.relpath(directory / "relay.sock"),
        }

    @contextmanager
    def carried(self, originPort: int) -> Iterator[socket.socket]:
        """A visitor's connection to an origin, through two relays."""
        with (
            relaying(self.server.format(**self.files), f"tcp:{HERE}:{originPort}") as second,
            relaying(LOCAL, self.client.format(port=second.port, **self.files)) as first,
            socket.create_connection((HERE, first.port), SECONDS) as visitor,
        ):
            yield visitor

    def outcome(self, results: SimpleQueue[object]) -> object:
        """What the origin came to."""
        return results.get(timeout=SECONDS)

    def test_everyByte(self) -> None:
        """A MiB goes each way unchanged, and the end comes after the last byte; where it can, after a half-close."""

        def serve(connection: socket.socket) -> str:
            up = toTheEnd(connection) if self.halfCloses else exactly(connection, MIB)
            connection.sendall(DOWN)
            return digest(up)

        with origin(serve) as (port, results), self.carried(port) as visitor:
            visitor.sendall(UP)
            if self.halfCloses:
                visitor.shutdown(socket.SHUT_WR)
            self.assertEqual(digest(toTheEnd(visitor)), digest(DOWN))
            self.assertEqual(self.outcome(results), digest(UP))

    def test_resetByTheOrigin(self) -> None:
        """An origin that breaks off breaks off the visitor: a part does not look like the whole."""

        def serve(connection: socket.socket) -> None:
            connection.sendall(DOWN[:1000])
            exactly(connection, 1)
            reset(connection)

        with origin(serve) as (port, _), self.carried(port) as visitor:
            self.assertEqual(exactly(visitor, 1000), DOWN[:1000])
            visitor.sendall(b".")
            if self.resets:
                with self.assertRaises(ConnectionResetError):
                    toTheEnd(visitor)
            else:
                self.assertEqual(toTheEnd(visitor), b"")

    def test_resetByTheVisitor(self) -> None:
        """A visitor who breaks off breaks off the origin."""

        def serve(connection: socket.socket) -> bytes:
            connection.sendall(exactly(connection, 1000))
            return toTheEnd(connection)

        with origin(serve) as (port, results), self.carried(port) as visitor:
            visitor.sendall(UP[:1000])
            exactly(visitor, 1000)
            reset(visitor)
            if self.resets:
                self.assertIsInstance(self.outcome(results), ConnectionResetError)
            else:
                self.assertEqual(self.outcome(results), b"")


class TCPTests(CarrierPromises, SynchronousTestCase):
    """Plain TCP."""

    server = LOCAL
    client = f"tcp:{HERE}:{{port}}"


class TLSTests(CarrierPromises, SynchronousTestCase):
    """TLS, with a certificate of an authority that the client trusts."""

    server = f"ssl:0:interface={HERE}:privateKey={{key}}:certKey={{certificate}}"
    client = f"tls:{HERE}:{{port}}:trustRoots={{authorities}}"
    halfCloses = False


class UNIXTests(CarrierPromises, SynchronousTestCase):
    """A UNIX socket. The kernel has no way to break one off, so what was broken off looks like an end."""

    server = "unix:{socket}"
    client = "unix:{socket}"
    resets = False


class WebSocketTests(CarrierPromises, SynchronousTestCase):
    """A WebSocket."""

    server = f"ws:{LOCAL}:path=/relay"
    client = f"ws://{HERE}:{{port}}/relay"
    halfCloses = False


class SecureWebSocketTests(CarrierPromises, SynchronousTestCase):
    """A WebSocket by TLS."""

    server = f"ws:ssl:0:interface={HERE}:privateKey={{key}}:certKey={{certificate}}"
    client = f"wss://{HERE}:{{port}}/:ca={{authority}}"
    halfCloses = False


class YamuxTests(CarrierPromises, SynchronousTestCase):
    """A stream of yamux on TCP."""

    server = f"yamux:{LOCAL}"
    client = f"yamux:tcp:{HERE}:{{port}}"


class YamuxOnWebSocketTests(CarrierPromises, SynchronousTestCase):
    """A stream of yamux on a WebSocket, which gives back the half-close that a WebSocket lacks."""

    server = f"yamux:ws:{LOCAL}:path=/relay"
    client = f"yamux:ws://{HERE}:{{port}}/relay"


class YamuxOnSecureWebSocketTests(CarrierPromises, SynchronousTestCase):
    """A stream of yamux on a WebSocket by TLS."""

    server = f"yamux:ws:ssl:0:interface={HERE}:privateKey={{key}}:certKey={{certificate}}:path=/relay"
    client = f"yamux:wss://{HERE}:{{port}}/relay:ca={{authority}}"


class LimitTests(SynchronousTestCase):
    """What one relay does for and against many visitors."""

    def test_maxConnections(self) -> None:
        """A visitor too many is closed at once, which the log says, and those who are there go on."""
        with (
            origin(toTheEnd) as (port, results),
            relaying(LOCAL, f"tcp:{HERE}:{port}", "--max-connections", "1") as relay,
            socket.create_connection((HERE, relay.port), SECONDS) as visitor,
        ):
            visitor.sendall(b"first")
            with socket.create_connection((HERE, relay.port), SECONDS) as other:
                self.assertEqual(ended(other), b"")
            visitor.shutdown(socket.SHUT_WR)
            self.assertEqual(results.get(timeout=SECONDS), b"first")
            self.assertEqual(relay.awaitEvent("gateway.refused")["reason"], "max-connections")

    def test_nobodyThere(self) -> None:
        """A visitor whom nobody can be found for is broken off, and one line says why."""
        with relaying(LOCAL, f"tcp:{HERE}:1") as relay:
            with (
                socket.create_connection((HERE, relay.port), SECONDS) as visitor,
                self.assertRaises(ConnectionResetError),
            ):
                toTheEnd(visitor)
            event = relay.awaitEvent("relay.dial-failed")
            self.assertIn("refused", event["problem"])
            self.assertEqual(event["visitor"], HERE)

    def test_logLine(self) -> None:
        """The end of a relay is one line with how much there was, how long, for whom and why."""
        with origin(toTheEnd) as (port, _), relaying(LOCAL, f"tcp:{HERE}:{port}") as relay:
            with socket.create_connection((HERE, relay.port), SECONDS) as visitor:
                visitor.sendall(b"hello")
                visitor.shutdown(socket.SHUT_WR)
                toTheEnd(visitor)
            event = relay.awaitEvent("relay.closed")
            self.assertEqual(
                (event["visitor"], event["to"], event["cause"], event["up"], event["down"]),
                (HERE, f"tcp:{HERE}:{port}", "far-closed", 5, 0),
            )

    def test_drain(self) -> None:
        """At SIGTERM nobody else comes in, those who are there may finish, and then the process ends."""
        with (
            origin(toTheEnd) as (port, results),
            relaying(LOCAL, f"tcp:{HERE}:{port}", "--drain", "60") as relay,
            socket.create_connection((HERE, relay.port), SECONDS) as visitor,
        ):
            visitor.sendall(b"before")
            relay.process.send_signal(signal.SIGTERM)
            relay.awaitEvent("relay.stopping")
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection((HERE, relay.port), SECONDS)
            visitor.sendall(b" and after")
            visitor.shutdown(socket.SHUT_WR)
            self.assertEqual(results.get(timeout=SECONDS), b"before and after")
            self.assertEqual(toTheEnd(visitor), b"")
            self.assertEqual(relay.process.wait(SECONDS), 0)
            relay.awaitEvent("relay.stopped")

    def test_hurry(self) -> None:
        """A second Ctrl-C ends the relays that are left at once."""
        with (
            origin(toTheEnd) as (port, _),
            relaying(LOCAL, f"tcp:{HERE}:{port}", "--drain", "1000") as relay,
            socket.create_connection((HERE, relay.port), SECONDS) as visitor,
        ):
            visitor.sendall(b"hello")
            relay.process.send_signal(signal.SIGINT)
            relay.awaitEvent("relay.stopping")
            relay.process.send_signal(signal.SIGINT)
            self.assertEqual(toTheEnd(visitor), b"")
            self.assertEqual(relay.awaitEvent("relay.closed")["cause"], "shutting-down")
            relay.process.wait(SECONDS)
