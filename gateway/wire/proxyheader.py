"""
The PROXY protocol, versions 1 and 2, both ways: who a connection is from, said in its first bytes.

A proxy says it to the server behind it, which would otherwise see the proxy's address only. Twisted's parser cannot
take a header that comes in pieces and has no encoder, no TLVs and no checksum; this follows haproxy's
C{proxy-protocol.txt} throughout::

    header = ProxyHeader(Address(IPv4Address("192.0.2.1"), 40000), Address(IPv4Address("198.51.100.7"), 443))
    origin.write(encodeV2(header))
    header, size = parse(received) or (None, 0)     # None: not all of it is here yet

Nothing in a header is proved: take one only from senders that are listed, and only where one is expected.

IPv4-mapped IPv6 addresses are IPv4 addresses here, in both directions, as a socket for both families gives them for
visitors whom every rule knows by their IPv4 address. Only beside a true IPv6 address are they sent as mapped ones.
"""

__all__ = [
    "MAX_HEADER",
    "MAX_V1",
    "SIGNATURE",
    "Address",
    "Code",
    "ProxyHeader",
    "SslInfo",
    "Tlv",
    "encodeSsl",
    "encodeV1",
    "encodeV2",
    "parse",
    "parseSsl",
]

import re
import struct
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address

import msgspec

from gateway.wire.crc32c import crc32c
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""What version 2 begins with."""

MAX_V1 = 107
"""Bytes: the longest header of version 1, with its line end."""

MAX_HEADER = 4096
"""Bytes: the longest header of version 2 that is taken by default. Real ones stay under 600."""

_LENGTH_LIMIT = 0xFFFF
_FIXED = struct.Struct("!12sBBH")
_INET = struct.Struct("!4s4sHH")
_INET6 = struct.Struct("!16s16sHH")
_UNIX = struct.Struct("!108s108s")
_TLV = struct.Struct("!BH")
_SSL = struct.Struct("!BI")
_MAPPED = b"\0" * 10 + b"\xff\xff"

_VERSION = 0x20
_LOCAL, _PROXY = 0, 1
_UNSPEC, _AF_INET, _AF_INET6, _AF_UNIX = 0x00, 0x10, 0x20, 0x30
_STREAM, _DGRAM = 1, 2
_BLOCKS = {_AF_INET: _INET, _AF_INET6: _INET6, _AF_UNIX: _UNIX}

_BEFORE_V1 = b"PROXY "
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")


class Code(StrEnum):
    """What can be wrong with a header."""

    INVALID = "invalid-proxy-header"
    TOO_LONG = "proxy-header-too-long"


class Tlv(IntEnum):
    """The types of the additional facts in a header; others pass unread. From C{SSL_VERSION} on, within C{SSL}."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    NETNS = 0x30
    SSL_VERSION = 0x21
    SSL_CN = 0x22
    SSL_CIPHER = 0x23
    SSL_SIG_ALG = 0x24
    SSL_KEY_ALG = 0x25


Tlvs = tuple[tuple[int, bytes], ...]


class Address(msgspec.Struct, frozen=True):
    """
    One end of a connection.

    @ivar port: 0 to 65535.
    """

    host: IPv4Address | IPv6Address
    port: int


class ProxyHeader(msgspec.Struct, frozen=True):
    """
    What a header says.

    @ivar source: who connects: an address, a UNIX socket's path, or C{None} if that is not told.
    @ivar destination: the address that they connected to, of the same kind.
    @ivar datagram: the connection is UDP, not TCP.
    @ivar local: the proxy connects for itself, e.g. to see whether the server is up. Nothing else is told then.
    @ivar tlvs: types and values, in order. There is no L{CRC32C<Tlv>} among them: it was right for the bytes read, and
        is for no others.
    """

    source: Address | bytes | None = None
    destination: Address | bytes | None = None
    datagram: bool = False
    local: bool = False
    tlvs: Tlvs = ()

    def get(self, kind: int) -> bytes | None:
        """The first value of a type, or C{None}."""
        for each, value in self.tlvs:
            if each == kind:
                return value
        return None


class SslInfo(msgspec.Struct, frozen=True):
    """
    The value of L{Tlv.SSL}.

    @ivar tls: the visitor came over TLS.
    @ivar certificateNow: and showed a certificate in this connection;
    @ivar certificateBefore: or in this TLS session, at least.
    @ivar verified: the certificate was verified.
    @ivar tlvs: e.g. L{Tlv.SSL_VERSION}.
    """

    tls: bool
    certificateNow: bool = False
    certificateBefore: bool = False
    verified: bool = False
    tlvs: Tlvs = ()


def _invalid(details: str) -> RemoteProtocolError:
    return RemoteProtocolError(Code.INVALID, details)


def parse(buffer: bytes | bytearray, limit: int = MAX_HEADER) -> tuple[ProxyHeader, int] | None:
    """
    Read a header of either version from the beginning of what a peer sent.

    @param buffer: from the first byte on; may hold more than the header.
    @param limit: bytes, of the longest header of version 2.
    @return: the header and its length in bytes, or C{None} when more are needed. What cannot become a header is not
        waited for.
    @raise RemoteProtocolError: with a L{Code}.
    """
    if buffer.startswith(SIGNATURE):
        return _parseV2(bytes(buffer[:limit]), len(buffer), limit)
    if buffer.startswith(_BEFORE_V1):
        return _parseV1(bytes(buffer[:MAX_V1]))
    if SIGNATURE.startswith(buffer) or _BEFORE_V1.startswith(buffer):
        return None
    raise _invalid("This is not a PROXY header.")


def _parseV1(start: bytes) -> tuple[ProxyHeader, int] | None:
    end = start.find(b"\n")
    if end < 0:
        if len(start) == MAX_V1:
            raise RemoteProtocolError(Code.TOO_LONG, f"The PROXY header is longer than {MAX_V1} bytes.")
        return None
    if start[end - 1] != 0x0D:
        raise _invalid("The PROXY header does not end with CR LF.")
    words = start[: end - 1].decode("latin-1").split(" ")
    match words[1:]:
        case ["UNKNOWN", *_]:
            return ProxyHeader(), end + 1
        case ["TCP4", source, destination, sourcePort, destinationPort]:
            hosts = _textHost(source, 4), _textHost(destination, 4)
        case ["TCP6", source, destination, sourcePort, destinationPort]:
            hosts = _textHost(source, 6), _textHost(destination, 6)
        case _:
            raise _invalid("The PROXY header is not of the form PROXY TCP4 SOURCE DESTINATION PORT PORT.")
    return (
        ProxyHeader(Address(hosts[0], _textPort(sourcePort)), Address(hosts[1], _textPort(destinationPort))),
        end + 1,
    )


def _textHost(text: str, version: int) -> IPv4Address | IPv6Address:
    try:
        if version == 4:
            return IPv4Address(text)
        if "%" not in text:
            return _unmapped(IPv6Address(text))
    except ValueError:
        pass
    raise _invalid(f"The PROXY header has something that is not an IPv{version} address where there must be one.")


def _textPort(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise _invalid("A port in the PROXY header is not a plain number from 0 to 65535.")
    return int(text)


def _unmapped(host: IPv6Address) -> IPv4Address | IPv6Address:
    return host.ipv4_mapped or host


def _parseV2(start: bytes, available: int, limit: int) -> tuple[ProxyHeader, int] | None:
    # What is wrong already is said at once: the rest of it may never come.
    if available > 12 and start[12] & 0xF0 != _VERSION:
        raise _invalid("The version of the PROXY header is neither 1 nor 2.")
    if available < _FIXED.size:
        return None
    _, command, kind, length = _FIXED.unpack_from(start)
    command &= 0x0F
    family, transport = kind & 0xF0, kind & 0x0F
    if command not in (_LOCAL, _PROXY):
        raise _invalid("The command of the PROXY header is neither LOCAL nor PROXY.")
    if family > _AF_UNIX or transport > _DGRAM:
        raise _invalid("The PROXY header has an unknown family or transport.")
    size = _FIXED.size + length
    if size > limit:
        raise RemoteProtocolError(Code.TOO_LONG, f"The PROXY header is longer than {limit} bytes.")
    if available < size:
        return None
    if command == _LOCAL:
        return ProxyHeader(local=True), size
    # Of an unspecified kind nothing is known but its family, which says how long the addresses are.
    block = _BLOCKS.get(family)
    position = _FIXED.size + (block.size if block else 0)
    if position > size:
        raise _invalid("The PROXY header is too short for its addresses.")
    tlvs = _parseTlvs(start[:size], position)
    if any(each == Tlv.CRC32C for each, _ in tlvs):
        tlvs = _verified(start[:size], position, tlvs)
    source, destination = (None, None) if not family or not transport else _parseAddresses(family, start)
    return ProxyHeader(source, destination, transport == _DGRAM, False, tlvs), size


def _parseAddresses(family: int, data: bytes) -> tuple[Address, Address] | tuple[bytes, bytes]:
    if family == _AF_UNIX:
        one, other = _UNIX.unpack_from(data, _FIXED.size)
        return one.rstrip(b"\0"), other.rstrip(b"\0")  # an abstract one begins with NUL
    if family == _AF_INET:
        source, destination, sourcePort, destinationPort = _INET.unpack_from(data, _FIXED.size)
        return Address(IPv4Address(source), sourcePort), Address(IPv4Address(destination), destinationPort)
    source, destination, sourcePort, destinationPort = _INET6.unpack_from(data, _FIXED.size)
    return (
        Address(_unmapped(IPv6Address(source)), sourcePort),
        Address(_unmapped(IPv6Address(destination)), destinationPort),
    )


def _parseTlvs(data: bytes, position: int) -> Tlvs:
    found, end = [], len(data)
    while position < end:
        if end - position < _TLV.size:
            raise _invalid("The PROXY header ends within a TLV.")
        kind, length = _TLV.unpack_from(data, position)
        position += _TLV.size
        if length > end - position:
            raise _invalid("A TLV is longer than what is left of the PROXY header.")
        found.append((kind, data[position : position + length]))
        position += length
    return tuple(found)


def _verified(data: bytes, position: int, tlvs: Tlvs) -> Tlvs:
    """Verify the checksum, which is over the header with zeros in the checksum's place, and leave it out."""
    cleared = bytearray(data)
    sums = []
    for kind, value in tlvs:
        position += _TLV.size
        if kind == Tlv.CRC32C:
            sums.append(value)
            cleared[position : position + len(value)] = bytes(len(value))
        position += len(value)
    if len(sums) != 1 or len(sums[0]) != 4 or int.from_bytes(sums[0]) != crc32c(cleared):
        raise _invalid("The checksum of the PROXY header is wrong.")
    return tuple(each for each in tlvs if each[0] != Tlv.CRC32C)


def parseSsl(value: bytes) -> SslInfo:
    """
    @param value: of L{Tlv.SSL}.
    @raise RemoteProtocolError: with L{Code.INVALID}.
    """
    if len(value) < _SSL.size:
        raise _invalid("The TLV about TLS is too short.")
    client, verify = _SSL.unpack_from(value)
    now, before = bool(client & 2), bool(client & 4)
    # Without a certificate the field says nothing, though many senders leave it 0.
    return SslInfo(bool(client & 1), now, before, (now or before) and verify == 0, _parseTlvs(value, _SSL.size))


def encodeSsl(info: SslInfo) -> bytes:
    """The value for L{Tlv.SSL}."""
    client = info.tls | info.certificateNow << 1 | info.certificateBefore << 2
    return _SSL.pack(client, not info.verified) + _encodeTlvs(info.tlvs)


def _encodeTlvs(tlvs: Tlvs) -> bytes:
    try:
        return b"".join([_TLV.pack(kind, len(value)) + value for kind, value in tlvs])
    except struct.error:
        raise LocalProtocolError("a TLV is too long, or its type is no byte") from None


def _packed(host: IPv4Address | IPv6Address) -> bytes:
    """4 bytes, or 16 for a true IPv6 address."""
    packed = host.packed
    return packed[12:] if packed.startswith(_MAPPED) and len(packed) == 16 else packed


def _widened(packed: bytes) -> bytes:
    return _MAPPED + packed if len(packed) == 4 else packed


def encodeV2(header: ProxyHeader) -> bytes:
    """
    @raise LocalProtocolError: something does not fit in, or the two ends are not of one kind.
    """
    if header.local:
        return _FIXED.pack(SIGNATURE, _VERSION | _LOCAL, _UNSPEC, 0)
    family, block = _addressBlock(header.source, header.destination)
    if header.datagram:
        family |= _DGRAM
    elif family:
        family |= _STREAM
    rest = block + _encodeTlvs(header.tlvs) if header.tlvs else block
    if len(rest) > _LENGTH_LIMIT:
        raise LocalProtocolError("the header is too long")
    return _FIXED.pack(SIGNATURE, _VERSION | _PROXY, family, len(rest)) + rest


def _addressBlock(source: Address | bytes | None, destination: Address | bytes | None) -> tuple[int, bytes]:
    """The family, and the addresses as it has them."""
    if isinstance(source, Address) and isinstance(destination, Address):
        one, other = _packed(source.host), _packed(destination.host)
        try:
            if len(one) == len(other) == 4:
                return _AF_INET, _INET.pack(one, other, source.port, destination.port)
            return _AF_INET6, _INET6.pack(_widened(one), _widened(other), source.port, destination.port)
        except struct.error:
            raise LocalProtocolError("a port is not from 0 to 65535") from None
    if source is None or destination is None:
        return _UNSPEC, b""
    if isinstance(source, bytes) and isinstance(destination, bytes):
        if len(source) > 108 or len(destination) > 108:
            raise LocalProtocolError("a UNIX path is longer than 108 bytes")
        return _AF_UNIX, _UNIX.pack(source, destination)
    raise LocalProtocolError("the two ends of a connection are of different kinds")


def encodeV1(header: ProxyHeader) -> bytes:
    """
    TCP over IP is all that this version can tell; whatever else there is becomes C{UNKNOWN}.

    @raise LocalProtocolError: a port is out of range.
    """
    source, destination = header.source, header.destination
    if not isinstance(source, Address) or not isinstance(destination, Address) or header.datagram or header.local:
        return b"PROXY UNKNOWN\r\n"
    if not (0 <= source.port <= 0xFFFF and 0 <= destination.port <= 0xFFFF):
        raise LocalProtocolError("a port is not from 0 to 65535")
    one, other = _packed(source.host), _packed(destination.host)
    if len(one) == len(other) == 4:
        hosts = f"TCP4 {IPv4Address(one)} {IPv4Address(other)}"
    else:
        hosts = f"TCP6 {IPv6Address(_widened(one))} {IPv6Address(_widened(other))}"
    return f"PROXY {hosts} {source.port} {destination.port}\r\n".encode("ascii")
