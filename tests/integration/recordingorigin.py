"""
An HTTP origin that writes down every byte that it is sent, and reads it in a way that it is given::

    with RecordingOrigin(lenient(prefersLength=True)) as origin:
        ...                                         # requests to HERE, origin.port
    assert readings(origin.connections[0].received)

It answers each request that it sees with the request's method, target, C{X-Visitor} and body, or with what L{ANSWERS}
has for the target. There are the strict way to read, which takes nothing that the RFC does not demand, and the lenient
ones, which take nearly everything, as servers that were kind to everybody did.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from tests.processes import HERE
from tests.wire.test_http1 import STRICT
from tests.wire.test_http1body import otherDecoder

__all__ = ["Read", "RecordingOrigin", "Seen", "lenient", "readAll", "strict"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as an origin understood it."""

    method: bytes
    target: bytes
    fields: Mapping[bytes, bytes]
    body: bytes


Read = Callable[[bytes], "tuple[Seen, bytes] | None"]
"""Reads one request, and says what is left; C{None} when there is none, or not all of one."""


def strict(data: bytes) -> tuple[Seen, bytes] | None:
    """By the letter, with one length or none."""
    if not (match := STRICT.match(data)):
        return None
    lines = [line.partition(b":") for line in match[4].split(b"\r\n")[:-1]]
    names = [name.lower() for name, _, _ in lines]
    assert names.count(b"host") == 1, data
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, data
    fields = {name.lower(): value.strip(b" \t") for name, _, value in lines}
    position = match.end()
    if b"transfer-encoding" in fields:
        assert fields[b"transfer-encoding"] == b"chunked"
        if (decoded := otherDecoder(data[position:])) is None:
            return None
        body, _, end = decoded
        return Seen(match[1], match[2], fields, body), data[position + end :]
    end = position + int(fields.get(b"content-length", b"0"))
    return None if end > len(data) else (Seen(match[1], match[2], fields, data[position:end]), data[end:])


def lenient(*, prefersLength: bool) -> Read:
    """Take whatever may be a request."""

    def read(data: bytes) -> tuple[Seen, bytes] | None:
        data = data.lstrip(b"\r\n\0 ")
        if not (head := re.match(rb"(.*?)(?:\r?\n\r?\n|\r\r)", data, re.DOTALL)):
            return None
        first, *others = re.split(rb"\r\n|\n|\r", head[1])
        fields: dict[bytes, bytes] = {}
        name = b""
        for line in others:
            if line[:1] in (b" ", b"\t"):
                fields[name] = fields.get(name, b"") + b" " + line.strip()
                continue
            name, _, value = line.partition(b":")
            name = name.strip(b" \t\0\x0b").lower().replace(b"_", b"-")
            fields[name] = value.strip(b" \t\0\x0b\xa0")
        method, target = [*first.split(), b"", b""][:2]
        rest = data[head.end() :]
        length = re.search(rb"[0-9]+", fields.get(b"content-length", b""))
        if b"chunked" in fields.get(b"transfer-encoding", b"").lower() and not (length and prefersLength):
            if (taken := _lenientChunks(rest)) is None:
                return None
            body, rest = taken
        else:
            size = int(length[0]) if length else 0
            if size > len(rest):
                return None
            body, rest = rest[:size], rest[size:]
        return Seen(method, target, fields, body), rest

    return read


def _lenientChunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while match := re.match(rb"[\s+]*(?:0x)?([0-9a-fA-F_]+)[^\n]*\n", data):
        size = int(match[1].replace(b"_", b"") or b"0", 16)
        data = data[match.end() :]
        if size == 0:
            trailers = re.match(rb"(?:[^\r\n]+\r?\n)*\r?\n", data)
            return None if trailers is None else (body, data[trailers.end() :])
        if size > len(data):
            return None
        body, data = body + data[:size], data[size:].lstrip(b"\r\n")
    return None


def readAll(read: Read, data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The method, target and body of each request in these bytes, as one of the ways to read has it."""
    found = []
    while (taken := read(data)) is not None:
        seen, data = taken
        found.append((seen.method, seen.target, seen.body))
    return found


@dataclass(slots=True)
class Connection:
    """What came on one connection, and what was made of it."""

    received: bytes = b""
    seen: list[Seen] = field(default_factory=list)


class RecordingOrigin:
    """
    Listens for one C{with} block.

    @ivar port: of the loopback address.
    @ivar connections: in the order in which they came.
    """

    def __init__(self, read: Read, answers: Mapping[bytes, tuple[bytes, ...]] | None = None) -> None:
        """
        @param answers: by target: what to send, in pieces, instead of an echo; an empty piece ends the connection.
        """
        self._read = read
        self._answers = answers or {}
        self._listener = socket.create_server((HERE, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[Connection] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> RecordingOrigin:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    @property
    def seen(self) -> list[Seen]:
        """Every request."""
        return [each for connection in self.connections for each in connection.seen]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self._sockets.append(taken)
                connection = Connection()
                self.connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(taken, connection))
                self._threads.append(thread)
                thread.start()

    def _serve(self, taken: socket.socket, connection: Connection) -> None:
        with taken, contextlib.suppress(OSError):
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = b""
            while piece := taken.recv(65536):
                connection.received += piece
                data += piece
                while (one := self._read(data)) is not None:
                    seen, data = one
                    connection.seen.append(seen)
                    for answer in self._answers.get(seen.target) or (_echo(seen),):
                        if not answer:
                            return
                        taken.sendall(answer)


def _echo(seen: Seen) -> bytes:
    body = b" ".join((seen.method, seen.target, seen.fields.get(b"x-visitor", b"-"), seen.body))
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), b"" if seen.method == b"HEAD" else body)
