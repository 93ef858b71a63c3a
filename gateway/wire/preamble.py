"""
The beginning of every stream of the agent protocol but the control stream: where it leads, and what became of that.

The one who opens a stream sends a PROXY header, version 2, that says where the stream leads besides where it comes
from; and then, at once, whatever there is to send. The one who takes it answers with one line, before anything else::

    stream.write(encodePreamble(Preamble("web", header)))                           # and the visitor's first bytes
    preamble, size = parsePreamble(received) or (None, 0)                           # at the other end
    stream.write(encodeAnswer(Answer(ok=True)))                                     # the origin is connected
    answer = decodeAnswer(line)                                                     # the first that comes back

Who answers that it is not C{ok} has given nothing of the stream to anybody, so the opener may try elsewhere.
C{docs/reference/protocols/agent.md} is the specification.
"""

__all__ = [
    "MAX_ANSWER",
    "MAX_PREAMBLE",
    "SERVICE",
    "TARGET",
    "Answer",
    "Preamble",
    "StreamError",
    "Target",
    "decodeAnswer",
    "encodeAnswer",
    "encodePreamble",
    "parsePreamble",
]

import re
from enum import StrEnum
from typing import NamedTuple

import msgspec

from gateway.wire.agentcontrol import Text, Word
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.proxyheader import ProxyHeader, encodeV2, parse

SERVICE = 0xE0
"""The type of the TLV that names a service by its key."""

TARGET = 0xE1
"""The type of the TLV that names a target, as C{host:port}."""

MAX_PREAMBLE = 4096
"""Bytes."""

MAX_ANSWER = 4096
"""Bytes, with the line end."""

_OURS = (SERVICE, TARGET)
_KEY = re.compile(rb"[a-z0-9-]{1,63}")
_TARGET = re.compile(rb"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|([A-Za-z0-9_.-]{1,253})):(0|[1-9][0-9]{0,4})")


class StreamError(StrEnum):
    """Why a stream leads nowhere: the codes of answers. C{invalid-preamble} and C{invalid-answer} are raised here."""

    INVALID_PREAMBLE = "invalid-preamble"
    INVALID_ANSWER = "invalid-answer"

    UNKNOWN_SERVICE = "unknown-service"
    UNKNOWN_AGENT = "unknown-agent"
    DENIED = "target-denied"
    NAME = "name-not-found"
    CONNECTION_REFUSED = "connection-refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "connect-timeout"
    FAILED = "connection-failed"
    TOO_MANY_STREAMS = "too-many-streams"
    SHUTTING_DOWN = "shutting-down"


class Target(NamedTuple):
    """
    A place by its name.

    @ivar host: a name or an address, not yet normalised.
    @ivar port: 0 to 65535; 0 when the name says it all, as that of a service does.
    """

    host: str
    port: int


class Preamble(msgspec.Struct, frozen=True):
    """
    Where a stream leads, and where it comes from.

    @ivar to: the key of a service, or a target.
    @ivar header: what is known of the visitor, as the origin may be told: without the TLVs of ours.
    """

    to: str | Target
    header: ProxyHeader


def encodePreamble(preamble: Preamble) -> bytes:
    """
    @raise LocalProtocolError: the preamble is longer than the other end takes, or is for a header that cannot be sent.
    """
    header, to = preamble.header, preamble.to
    if isinstance(to, str):
        ours = (SERVICE, to.encode("ascii"))
    else:
        host = f"[{to.host}]" if ":" in to.host else to.host
        ours = (TARGET, f"{host}:{to.port}".encode("ascii"))
    if header.local:
        raise LocalProtocolError("a header of the command LOCAL says nothing, and so not where the stream leads")
    data = encodeV2(ProxyHeader(header.source, header.destination, header.datagram, False, (ours, *header.tlvs)))
    if len(data) > MAX_PREAMBLE:
        raise LocalProtocolError("the preamble is too long")
    return data


def _invalid(details: str) -> RemoteProtocolError:
    return RemoteProtocolError(StreamError.INVALID_PREAMBLE, details)


def parsePreamble(buffer: bytes | bytearray) -> tuple[Preamble, int] | None:
    """
    Read a preamble from the beginning of what came on a stream.

    @return: the preamble and its length in bytes, or C{None} when more are needed.
    @raise RemoteProtocolError: C{invalid-preamble}.
    """
    try:
        found = parse(buffer, MAX_PREAMBLE)
    except RemoteProtocolError as e:
        raise _invalid(e.details) from None
    if found is None:
        return None
    header, size = found
    ours = [each for each in header.tlvs if each[0] in _OURS]
    if len(ours) != 1:
        raise _invalid(f"The header must have one TLV that says where the stream leads, and has {len(ours)}.")
    ((kind, value),) = ours
    rest = tuple(each for each in header.tlvs if each[0] not in _OURS)
    to = _service(value) if kind == SERVICE else _target(value)
    return Preamble(to, ProxyHeader(header.source, header.destination, header.datagram, False, rest)), size


def _service(value: bytes) -> str:
    if not _KEY.fullmatch(value):
        raise _invalid("The key of the service is not one label.")
    return value.decode("ascii")


def _target(value: bytes) -> Target:
    found = _TARGET.fullmatch(value)
    if found is None or int(found[3]) > 0xFFFF:
        raise _invalid("The target is not of the form HOST:PORT.")
    return Target((found[1] or found[2]).decode("ascii"), int(found[3]))


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What became of a stream.

    @ivar ok: it is connected, and what follows comes from there. Otherwise nothing follows.
    @ivar code: when it is not: a L{StreamError}, or one of a newer peer's.
    @ivar details: a sentence for a person.
    """

    ok: bool
    code: Word = ""
    details: Text = ""


_DECODER = msgspec.json.Decoder(Answer)
_ENCODER = msgspec.json.Encoder()
_CONNECTED = Answer(ok=True)
_OK = _ENCODER.encode(_CONNECTED)


def encodeAnswer(answer: Answer) -> bytes:
    """
    @raise LocalProtocolError: the answer is longer than the other end takes.
    """
    line = _ENCODER.encode(answer) + b"\n"
    if len(line) > MAX_ANSWER:
        raise LocalProtocolError("the answer is too long")
    return line


def decodeAnswer(line: bytes) -> Answer:
    """
    @param line: the first line that came back, without its line end.
    @raise RemoteProtocolError: C{invalid-answer}.
    """
    if line == _OK:  # nearly always
        return _CONNECTED
    try:
        answer = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RemoteProtocolError(StreamError.INVALID_ANSWER, "The answer cannot be read.") from None
    if not answer.ok and not answer.code:
        raise RemoteProtocolError(StreamError.INVALID_ANSWER, "The answer does not say what is wrong.")
    return answer
