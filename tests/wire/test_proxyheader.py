"""Tests for L{gateway.wire.proxyheader}."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import LocalProtocolError, RemoteProtocolError
from gateway.wire.proxyheader import (
    MAX_HEADER,
    MAX_V1,
    SIGNATURE,
    Address,
    Code,
    ProxyHeader,
    SslInfo,
    Tlv,
    encodeSsl,
    encodeV1,
    encodeV2,
    parse,
    parseSsl,
)

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

SIG = SIGNATURE.hex()
V4 = "c0000201 c6336407 9c40 01bb"  # 192.0.2.1:40000 to 198.51.100.7:443
V6 = "20010db8000000000000000000000001 20010db8000000000000000000000002 9c40 01bb"
MAPPED = "00000000000000000000ffffc0000201 00000000000000000000ffffc6336407 9c40 01bb"

SOURCE4, DESTINATION4 = Address(IPv4Address("192.0.2.1"), 40000), Address(IPv4Address("198.51.100.7"), 443)
SOURCE6, DESTINATION6 = Address(IPv6Address("2001:db8::1"), 40000), Address(IPv6Address("2001:db8::2"), 443)
MAPPED_SOURCE = Address(IPv6Address("::ffff:192.0.2.1"), 40000)
MAPPED_DESTINATION = Address(IPv6Address("::ffff:198.51.100.7"), 443)

VECTORS: list[tuple[str, str, ProxyHeader]] = [
    ("TCP over IPv4", f"21 11 000c {V4}", ProxyHeader(SOURCE4, DESTINATION4)),
    ("UDP over IPv4", f"21 12 000c {V4}", ProxyHeader(SOURCE4, DESTINATION4, datagram=True)),
    ("TCP over IPv6", f"21 21 0024 {V6}", ProxyHeader(SOURCE6, DESTINATION6)),
    ("UDP over IPv6", f"21 22 0024 {V6}", ProxyHeader(SOURCE6, DESTINATION6, datagram=True)),
    ("a UNIX path", f"21 31 00d8 2f61 {'00' * 106} {'00' * 108}", ProxyHeader(b"/a", b"")),
    ("an abstract UNIX name", f"21 32 00d8 0061 {'00' * 106} {'00' * 108}", ProxyHeader(b"\0a", b"", datagram=True)),
    ("nothing told", "21 00 0000", ProxyHeader()),
    ("no addresses but facts", "21 00 0005 01 0002 6832", ProxyHeader(tlvs=((Tlv.ALPN, b"h2"),))),
    ("LOCAL", "20 00 0000", ProxyHeader(local=True)),
    (
        "facts in order, an empty one, one twice, an unknown one",
        f"21 11 001c {V4} 01 0002 6832 04 0000 ea 0001 ff 01 0001 78",
        ProxyHeader(SOURCE4, DESTINATION4, tlvs=((1, b"h2"), (4, b""), (0xEA, b"\xff"), (1, b"x"))),
    ),
]
"""What both directions agree about: the bytes behind the signature, and what they mean."""

ONE_WAY: list[tuple[str, str, ProxyHeader]] = [
    ("IPv4-mapped addresses", f"21 21 0024 {MAPPED}", ProxyHeader(SOURCE4, DESTINATION4)),
    ("LOCAL with addresses", f"20 11 000c {V4}", ProxyHeader(local=True)),
    ("LOCAL with anything", "20 00 0003 ffffff", ProxyHeader(local=True)),
    ("a family of no transport", f"21 10 000f {V4} 04 0000", ProxyHeader(tlvs=((4, b""),))),
]
"""What is taken, but never sent like this."""

MAPPED_PREFIX = bytes(10) + b"\xff\xff"

ports = st.integers(0, 0xFFFF)
addresses4 = st.builds(Address, st.ip_addresses(v=4), ports)
addresses6 = st.builds(Address, st.ip_addresses(v=6), ports).filter(lambda each: each.host.packed[:12] != MAPPED_PREFIX)
paths = st.binary(max_size=108).map(lambda path: path.rstrip(b"\0"))
tlvs = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda each: each != Tlv.CRC32C), st.binary(max_size=300)), max_size=6
).map(tuple)
ends = st.one_of(
    st.tuples(addresses4 | addresses6, addresses4 | addresses6), st.tuples(paths, paths), st.just((None, None))
)
headers = st.builds(
    lambda both, datagram, tlvs: ProxyHeader(both[0], both[1], datagram, False, tlvs), ends, st.booleans(), tlvs
) | st.just(ProxyHeader(local=True))


def v2(rest: str) -> bytes:
    """A header of version 2 from what is behind its signature."""
    return bytes.fromhex(SIG + rest)


def crc(data: bytes) -> bytes:
    """CRC-32C bit by bit, as RFC 4960 defines it and nobody would use it."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
    return (value ^ 0xFFFFFFFF).to_bytes(4)


class ParseTests(SynchronousTestCase):
    """L{parse} reads what a proxy sent first."""

    def assertRefused(self, data: bytes, code: Code = Code.INVALID, limit: int = MAX_HEADER) -> None:
        """Assert that this is refused, and that it is so as soon as it can be: no byte more was waited for."""
        error = self.assertRaises(RemoteProtocolError, parse, data, limit)
        self.assertEqual(error.code, code, data)
        self.assertRegex(error.details, r"^[A-Z].*\.$")
        self.assertIsNone(error.__cause__)

    def assertEverySplit(self, data: bytes, header: ProxyHeader) -> None:
        """Assert that this is read when it is whole, not before, and whatever follows it."""
        for end in range(len(data)):
            self.assertIsNone(parse(data[:end]), data[:end])
        for rest in (b"", b"\0", b"GET / HTTP/1.1\r\n", data, b"x" * 5000):
            self.assertEqual(parse(data + rest), (header, len(data)))
            self.assertEqual(parse(bytearray(data + rest)), (header, len(data)))

    def test_version2(self) -> None:
        """Each kind of header, in pieces of any size."""
        for name, rest, header in VECTORS + ONE_WAY:
            with self.subTest(name):
                self.assertEverySplit(v2(rest), header)

    def test_version1(self) -> None:
        """Each kind of line, in pieces of any size."""
        for line, header in (
            ("PROXY TCP4 192.0.2.1 198.51.100.7 40000 443", ProxyHeader(SOURCE4, DESTINATION4)),
            ("PROXY TCP6 2001:db8::1 2001:DB8:0:0::2 40000 443", ProxyHeader(SOURCE6, DESTINATION6)),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6407 40000 443", ProxyHeader(SOURCE4, DESTINATION4)),
            (
                "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535",
                ProxyHeader(Address(IPv4Address(0), 0), Address(IPv4Address("255.255.255.255"), 65535)),
            ),
            ("PROXY UNKNOWN", ProxyHeader()),
            ("PROXY UNKNOWN ffff:f...f:ffff whatever \0 stands here", ProxyHeader()),
        ):
            with self.subTest(line):
                self.assertEverySplit(f"{line}\r\n".encode("latin-1"), header)

    def test_version1Limit(self) -> None:
        """A line of 107 bytes is read; of a longer one no more is waited for."""
        longest = b"PROXY UNKNOWN ".ljust(MAX_V1 - 2, b"f") + b"\r\n"
        self.assertEverySplit(longest, ProxyHeader())
        self.assertIsNone(parse(b"PROXY UNKNOWN ".ljust(MAX_V1 - 1, b"f")))
        self.assertRefused(b"PROXY UNKNOWN ".ljust(MAX_V1, b"f"), Code.TOO_LONG)
        self.assertRefused(b"PROXY UNKNOWN ".ljust(MAX_V1 - 1, b"f") + b"\r\n", Code.TOO_LONG)
        self.assertRefused(b"PROXY TCP4 " + b"1" * 10_000, Code.TOO_LONG)

    def test_version2Limit(self) -> None:
        """A header as long as the limit is read; of one a byte longer only the length is."""
        data = v2(f"21 11 00af {V4} 04 00a0") + bytes(160)
        self.assertEqual(parse(data, limit=len(data)), parse(data))
        self.assertRefused(data[:16], Code.TOO_LONG, len(data) - 1)
        self.assertRefused(v2("21 11 ffff"), Code.TOO_LONG)
        self.assertRefused(v2("20 00 ffff"), Code.TOO_LONG)
        self.assertIsNone(parse(v2("21 11 0ff0")))
        self.assertRefused(v2("21 11 0ff1"), Code.TOO_LONG)

    def test_noHeader(self) -> None:
        """What cannot become a header is not waited for."""
        for data in (
            b"G",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01",
            b"\n",
            b"\r\r",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"PROXI",
            b"PROXY\t",
            b"PROXY\r\n",
            b"proxy ",
            b" PROXY ",
            b"\0",
        ):
            self.assertRefused(data)

    def test_hostileVersion1(self) -> None:
        """Lines that another reader might take in another way are refused."""
        ends = "192.0.2.1 198.51.100.7"
        for line in (
            "PROXY ",
            "PROXY TCP4",
            "PROXY  TCP4 192.0.2.1 198.51.100.7 1 2",
            f"PROXY TCP4  {ends} 1 2",
            f"PROXY TCP4 {ends} 1 2 ",
            f"PROXY TCP4 {ends} 1",
            f"PROXY TCP4 {ends} 1 2 3",
            f"PROXY TCP4\t{ends} 1 2",
            f"PROXY tcp4 {ends} 1 2",
            f"PROXY TCP5 {ends} 1 2",
            f"PROXY UDP4 {ends} 1 2",
            f"PROXY TCP6 {ends} 1 2",
            "PROXY UNKNOWNX",
            "PROXY unknown",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2",
            "PROXY TCP4 192.0.2.01 198.51.100.7 1 2",
            "PROXY TCP4 192.0.2 198.51.100.7 1 2",
            "PROXY TCP4 192.0.2.256 198.51.100.7 1 2",
            "PROXY TCP4 0xc0.0.2.1 198.51.100.7 1 2",
            "PROXY TCP4 192.0.2.1/24 198.51.100.7 1 2",
            "PROXY TCP4 192.0.2.\xb2 198.51.100.7 1 2",
            "PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2",
            "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2",
            "PROXY TCP6 2001:db8::1::2 2001:db8::2 1 2",
            *(
                f"PROXY TCP4 {ends} {port} 2"
                for port in ("", "01", "00", "+1", "-1", "65536", "99999", "1e3", "1_0", "0x1", "\xb2", "1\0")
            ),
        ):
            with self.subTest(line):
                self.assertRefused(f"{line}\r\n".encode("latin-1"))

    def test_version1LineEnds(self) -> None:
        """CR LF ends a line, and nothing else does."""
        line = b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2"
        for end in (b"\n", b"\r\r\n", b"\0\r\n", b"\n\r\n"):
            self.assertRefused(line + end)
        self.assertIsNone(parse(line + b"\r"))

    def test_hostileVersion2(self) -> None:
        """Headers that break a rule are refused as soon as that can be seen."""
        for name, rest in (
            ("version 1", "11"),
            ("version 3", "31"),
            ("an unknown command", f"22 11 000c {V4}"),
            ("an unknown family", "21 41 0000"),
            ("an unknown transport", "21 13 0000"),
            ("too short for IPv4", "21 11 000b" + "00" * 11),
            ("too short for IPv6", f"21 21 000c {V4}"),
            ("too short for UNIX", f"21 31 000c {V4}"),
            ("no addresses at all", "21 11 0000"),
            ("half a TLV head", f"21 11 000e {V4} 0100"),
            ("a TLV longer than the header", f"21 11 0010 {V4} 01 0002 68"),
            ("a TLV as long as can be", f"21 11 000f {V4} 01 ffff"),
            ("facts that are none", "21 00 0001 00"),
        ):
            with self.subTest(name):
                self.assertRefused(v2(rest))

    def test_tlvStopsAtTheHeader(self) -> None:
        """What follows the header is never taken for the rest of a TLV."""
        self.assertRefused(v2(f"21 11 0010 {V4} 01 0002 68") + b"2")

    def test_checksum(self) -> None:
        """A right checksum is verified and left out of the facts; a wrong one is refused."""
        zeros = v2(f"21 11 0018 {V4} 01 0002 6832 03 0004 00000000")
        data = zeros[:-4] + crc(zeros)
        self.assertEverySplit(data, ProxyHeader(SOURCE4, DESTINATION4, tlvs=((Tlv.ALPN, b"h2"),)))
        for position in (*range(16, 28), 32, len(data) - 1):
            wrong = bytearray(data)
            wrong[position] ^= 1
            self.assertRefused(bytes(wrong))

    def test_checksumBetween(self) -> None:
        """The checksum may stand anywhere among the facts."""
        head = v2(f"21 11 001a {V4} 03 0004 00000000 05 0004")
        data = head + b"abcd"
        data = data[:31] + crc(data) + data[35:]
        self.assertEqual(parse(data), (ProxyHeader(SOURCE4, DESTINATION4, tlvs=((Tlv.UNIQUE_ID, b"abcd"),)), len(data)))

    def test_checksumForms(self) -> None:
        """A checksum of another length, and two of them, are refused."""
        for rest in ("21 00 0003 03 0000", "21 00 0006 03 0003 000000", "21 00 0008 03 0005 0000000000"):
            self.assertRefused(v2(rest))
        zeros = v2("21 00 000e 03 0004 00000000 03 0004 00000000")
        self.assertRefused(zeros[:19] + crc(zeros) + zeros[23:26] + crc(zeros))

    @FUZZ
    @given(
        st.binary(max_size=60),
        st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, v2("21 11"), v2("21 00 0010")]),
    )
    def test_fuzz(self, data: bytes, start: bytes) -> None:
        """Whatever comes is a header, not enough, or refused."""
        try:
            found = parse(start + data)
        except RemoteProtocolError as e:
            self.assertIn(e.code, list(Code))
            return
        if found is not None:
            self.assertLessEqual(found[1], len(start + data))


class EncodeTests(SynchronousTestCase):
    """L{encodeV1} and L{encodeV2} say who a connection is from."""

    def test_version2(self) -> None:
        """Each kind of header is sent as the specification has it."""
        for name, rest, header in VECTORS:
            with self.subTest(name):
                self.assertEqual(encodeV2(header).hex(), v2(rest).hex())

    def test_version1(self) -> None:
        """TCP over IP is told; of anything else only that it is unknown."""
        for header, line in (
            (ProxyHeader(SOURCE4, DESTINATION4), "TCP4 192.0.2.1 198.51.100.7 40000 443"),
            (ProxyHeader(SOURCE6, DESTINATION6), "TCP6 2001:db8::1 2001:db8::2 40000 443"),
            (ProxyHeader(MAPPED_SOURCE, MAPPED_DESTINATION), "TCP4 192.0.2.1 198.51.100.7 40000 443"),
            (ProxyHeader(SOURCE4, DESTINATION4, datagram=True), "UNKNOWN"),
            (ProxyHeader(b"/a", b"/b"), "UNKNOWN"),
            (ProxyHeader(), "UNKNOWN"),
            (ProxyHeader(local=True), "UNKNOWN"),
        ):
            self.assertEqual(encodeV1(header).decode(), f"PROXY {line}\r\n")

    def test_mapped(self) -> None:
        """IPv4-mapped addresses are sent as IPv4 addresses."""
        both = ProxyHeader(SOURCE4, DESTINATION4)
        self.assertEqual(encodeV2(ProxyHeader(MAPPED_SOURCE, MAPPED_DESTINATION)), encodeV2(both))
        self.assertEqual(encodeV2(ProxyHeader(SOURCE4, MAPPED_DESTINATION)), encodeV2(both))

    def test_mixed(self) -> None:
        """An IPv4 address beside an IPv6 address is sent as a mapped one, and comes out as it went in."""
        header = ProxyHeader(SOURCE4, DESTINATION6)
        self.assertEqual(encodeV2(header)[13], 0x21)
        for encode in (encodeV1, encodeV2):
            data = encode(header)
            self.assertEqual(parse(data), (header, len(data)))

    def test_zone(self) -> None:
        """The zone of a link-local address means nothing on another machine, and is not sent."""
        zoned = ProxyHeader(Address(IPv6Address("fe80::1%eth0"), 1), DESTINATION6)
        plain = ProxyHeader(Address(IPv6Address("fe80::1"), 1), DESTINATION6)
        for encode in (encodeV1, encodeV2):
            self.assertEqual(encode(zoned), encode(plain))

    def test_ourFaults(self) -> None:
        """What cannot be said raises."""
        host = IPv4Address(0)
        for header in (
            ProxyHeader(Address(host, 65536), DESTINATION4),
            ProxyHeader(SOURCE6, Address(host, -1)),
            ProxyHeader(SOURCE4, b"/a"),
            ProxyHeader(b"/a".ljust(109, b"a"), b""),
            ProxyHeader(tlvs=((256, b""),)),
            ProxyHeader(tlvs=((1, bytes(65536)),)),
            ProxyHeader(tlvs=((1, bytes(40000)), (2, bytes(40000)))),
        ):
            self.assertRaises(LocalProtocolError, encodeV2, header)
        self.assertRaises(LocalProtocolError, encodeV1, ProxyHeader(Address(host, 65536), DESTINATION4))

    @FUZZ
    @given(headers, st.binary(max_size=20))
    def test_roundTrip(self, header: ProxyHeader, rest: bytes) -> None:
        """Every header of version 2 comes out as it went in."""
        data = encodeV2(header)
        self.assertEqual(parse(data + rest), (header, len(data)))

    @FUZZ
    @given(addresses4 | addresses6, addresses4 | addresses6)
    def test_roundTripVersion1(self, source: Address, destination: Address) -> None:
        """Every line comes out as it went in, and is short enough."""
        header = ProxyHeader(source, destination)
        data = encodeV1(header)
        self.assertLessEqual(len(data), MAX_V1)
        self.assertEqual(parse(data), (header, len(data)))


class ProxyHeaderTests(SynchronousTestCase):
    """L{ProxyHeader} answers questions."""

    def test_get(self) -> None:
        """The first of several values is given, and C{None} if there is none."""
        header = ProxyHeader(tlvs=((1, b"h2"), (1, b"h3"), (4, b"")))
        self.assertEqual(header.get(Tlv.ALPN), b"h2")
        self.assertEqual(header.get(Tlv.NOOP), b"")
        self.assertIsNone(header.get(Tlv.NETNS))


class SslInfoTests(SynchronousTestCase):
    """What a header says about TLS."""

    def test_vectors(self) -> None:
        """Flags, verification and the facts within."""
        version = ((Tlv.SSL_VERSION, b"TLSv1.3"),)
        for data, info in (
            ("01 00000001 21 0007 544c5376312e33", SslInfo(True, tlvs=version)),
            ("03 00000000", SslInfo(True, certificateNow=True, verified=True)),
            ("05 00000000", SslInfo(True, certificateBefore=True, verified=True)),
            ("07 00000001", SslInfo(True, certificateNow=True, certificateBefore=True)),
            ("00 00000001", SslInfo(False)),
        ):
            self.assertEqual(parseSsl(bytes.fromhex(data)), info)
            self.assertEqual(encodeSsl(info).hex(), data.replace(" ", ""))

    def test_notVerified(self) -> None:
        """Without a certificate nothing was verified, whatever the field says; any number but 0 is a failure."""
        self.assertEqual(parseSsl(bytes.fromhex("0100000000")), SslInfo(True))
        self.assertEqual(parseSsl(bytes.fromhex("030000000a")), SslInfo(True, certificateNow=True))

    def test_hostile(self) -> None:
        """Short values, and facts that are longer than the value, are refused."""
        for data in ("", "01", "01000000", "0100000001 21", "0100000001 21 0002 54"):
            error = self.assertRaises(RemoteProtocolError, parseSsl, bytes.fromhex(data))
            self.assertEqual(error.code, Code.INVALID)
