"""Tests for L{gateway.domain.addresses}."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.addresses import classify, joinPort, normaliseHost, parseAddress, parsePort, readings, unwrap

_settings = settings(deadline=None, max_examples=200, database=None, derandomize=True)

LINK_LOCAL = "link-local addresses"
METADATA = "cloud metadata"
MULTICAST = "multicast addresses"
UNSPECIFIED = "unspecified addresses"
RESERVED = "broadcast and reserved addresses"
LOOPBACK = "loopback addresses"
PRIVATE = "private addresses"
SHARED = "shared addresses"
BENCHMARK = "benchmark addresses"

# first, last and class; then the classes of the addresses one before and one past
RANGES = [
    ("0.0.0.0", "0.255.255.255", UNSPECIFIED, None, None),
    ("10.0.0.0", "10.255.255.255", PRIVATE, None, None),
    ("100.64.0.0", "100.127.255.255", SHARED, None, None),
    ("100.100.100.200", "100.100.100.200", METADATA, SHARED, SHARED),
    ("127.0.0.0", "127.255.255.255", LOOPBACK, None, None),
    ("168.63.129.16", "168.63.129.16", METADATA, None, None),
    ("169.254.0.0", "169.254.255.255", LINK_LOCAL, None, None),
    ("169.254.169.254", "169.254.169.254", METADATA, LINK_LOCAL, LINK_LOCAL),
    ("172.16.0.0", "172.31.255.255", PRIVATE, None, None),
    ("192.0.0.192", "192.0.0.192", METADATA, None, None),
    ("192.168.0.0", "192.168.255.255", PRIVATE, None, None),
    ("198.18.0.0", "198.19.255.255", BENCHMARK, None, None),
    ("224.0.0.0", "239.255.255.255", MULTICAST, None, RESERVED),
    ("240.0.0.0", "255.255.255.255", RESERVED, MULTICAST, None),
    ("::", "::", UNSPECIFIED, None, LOOPBACK),
    ("::1", "::1", LOOPBACK, UNSPECIFIED, None),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PRIVATE, None, None),
    ("fd00:42::42", "fd00:42::42", METADATA, PRIVATE, PRIVATE),
    ("fd00:c1::a9fe:a9fe", "fd00:c1::a9fe:a9fe", METADATA, PRIVATE, PRIVATE),
    ("fd00:ec2::23", "fd00:ec2::23", METADATA, PRIVATE, PRIVATE),
    ("fd00:ec2::254", "fd00:ec2::254", METADATA, PRIVATE, PRIVATE),
    ("fd20:ce::254", "fd20:ce::254", METADATA, PRIVATE, PRIVATE),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LINK_LOCAL, None, PRIVATE),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PRIVATE, LINK_LOCAL, MULTICAST),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MULTICAST, PRIVATE, None),
]

# Spellings of 10.1.2.3, which is 0a01:0203, and one for which the inversion is 192.0.2.1 (c000:0201).
WRAPPED = [
    ("::ffff:10.1.2.3", "10.1.2.3"),
    ("::ffff:a01:203", "10.1.2.3"),
    ("::ffff:0:10.1.2.3", "10.1.2.3"),
    ("::10.1.2.3", "10.1.2.3"),
    ("::2", "0.0.0.2"),
    ("64:ff9b::10.1.2.3", "10.1.2.3"),
    ("64:ff9b:1:a01:2:300::", "10.1.2.3"),
    ("2002:a01:203::", "10.1.2.3"),
    ("2002:a01:203:ffff:1:2:3:4", "10.1.2.3"),
    ("2001:0:1:2:3:4:3fff:fdfe", "192.0.2.1"),
    ("2001:db8::5efe:10.1.2.3", "10.1.2.3"),
    ("2001:db8::200:5efe:10.1.2.3", "10.1.2.3"),
    ("fe80::5efe:10.1.2.3", "10.1.2.3"),
]

PLAIN = [
    "10.1.2.3",
    "::",
    "::1",
    "2001:1::1",
    "2001:db8::1",
    "2003::1",
    "64:ff9b::1:0:0",
    "64:ff9b:2::a01:203",
    "::fffe:a01:203",
    "::fffe:0:a01:203",
    "2001:db8::5eff:a01:203",
    "2001:db8::100:5efe:a01:203",
]

ODD_IPV4 = [
    ("127.1", "127.0.0.1"),
    ("127.0.1", "127.0.0.1"),
    ("0x7f.1", "127.0.0.1"),
    ("0X7F.0.0.0x1", "127.0.0.1"),
    ("0177.0.0.1", "127.0.0.1"),
    ("000000177.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("017700000001", "127.0.0.1"),
    ("0", "0.0.0.0"),
    ("1.2.3", "1.2.0.3"),
    ("1.2.65535", "1.2.255.255"),
    ("1.16777215", "1.255.255.255"),
    ("4294967295", "255.255.255.255"),
    ("127.0.0.1.", "127.0.0.1"),
    ("\uff11\uff12\uff17.\uff11", "127.0.0.1"),
    ("127\u30020\u30020\u30021", "127.0.0.1"),
    ("\u2460.1.1.1", "1.1.1.1"),
]

BAD_HOSTS = [
    ("", "empty"),
    (".", "not a label"),
    ("a..b", "not a label"),
    ("a.b..", "not a label"),
    (".a", "not a label"),
    ("-a.example", "not a label"),
    ("a-.example", "not a label"),
    ("a" * 64, "not a label"),
    ("*.example", "not a label"),
    ("a!b", "not a label"),
    ("a.b." * 64, "longer than 253"),
    ("a b", "holds ' '"),
    ("a\0b", "holds '\\x00'"),
    ("a\nb", "holds '\\n'"),
    ("a\x7fb", "holds '\\x7f'"),
    ("a/b", "holds '/'"),
    ("a\\b", "holds '\\\\'"),
    ("user@a", "holds '@'"),
    ("a%00b", "holds '%'"),
    ("a\u2028b", "not a valid international name"),
    ("a\u00a0b", "not a valid international name"),
    ("a\u2100b", "not a valid international name"),
    ("\ud800", "not a valid international name"),
    ("ü" * 64, "not a valid international name"),
    ("256.1.1.1", "looks like an IPv4 address"),
    ("1.2.3.4.5", "looks like an IPv4 address"),
    ("1.2.3.256", "looks like an IPv4 address"),
    ("1.2.65536", "looks like an IPv4 address"),
    ("1.16777216", "looks like an IPv4 address"),
    ("4294967296", "looks like an IPv4 address"),
    ("08.1.1.1", "looks like an IPv4 address"),
    ("1..2", "looks like an IPv4 address"),
    ("0x", "looks like an IPv4 address"),
    ("box.0x1", "looks like an IPv4 address"),
    ("box.7", "looks like an IPv4 address"),
    ("fe80::1%eth0", "zone id"),
    ("[fe80::1%25eth0]", "zone id"),
    ("[::1", "not a valid IPv6 address"),
    ("::1]", "not a valid IPv6 address"),
    ("[[::1]]", "not a valid IPv6 address"),
    ("1:2:3", "not a valid IPv6 address"),
    ("::ffff:127.1", "not a valid IPv6 address"),
    ("::1\n", "not a valid IPv6 address"),
    ("[127.0.0.1]", "not a label"),
]


class ClassifyTests(SynchronousTestCase):
    """L{classify} names what no visitor should reach by accident."""

    def nameOf(self, value: int, like: IPv4Address | IPv6Address) -> str | None:
        """Name the class of the address with this value, C{None} past either end of the address space."""
        if not 0 <= value < 1 << like.max_prefixlen:
            return None
        kind = classify(type(like)(value))
        return kind.name if kind else None

    def test_edges(self) -> None:
        """Each range begins and ends exactly where its registry says."""
        for first, last, name, before, after in RANGES:
            low, high = ip_address(first), ip_address(last)
            found = [self.nameOf(value, low) for value in (int(low) - 1, int(low), int(high), int(high) + 1)]
            self.assertEqual(found, [before, name, name, after], f"{first} to {last}")

    def test_local(self) -> None:
        """The addresses of one's own network are told from those that are nobody's target."""
        local = {name: kind.local for first, _, name, *_ in RANGES if (kind := classify(ip_address(first)))}
        self.assertEqual({name for name, isLocal in local.items() if isLocal}, {LOOPBACK, PRIVATE, SHARED, BENCHMARK})

    def test_zone(self) -> None:
        """A zone id does not hide a link-local address."""
        kind = classify(IPv6Address("fe80::1%eth0"))
        self.assertEqual(kind and kind.name, LINK_LOCAL)


class UnwrapTests(SynchronousTestCase):
    """L{unwrap} and L{readings} find the IPv4 address that an IPv6 address carries."""

    def test_wrapped(self) -> None:
        """Every known encoding is unwrapped."""
        for text, inner in WRAPPED:
            self.assertEqual(unwrap(ip_address(text)), ip_address(inner), text)

    def test_plain(self) -> None:
        """An address that carries none is left alone, and so are C{::} and C{::1}."""
        for text in PLAIN:
            self.assertEqual(readings(ip_address(text)), (ip_address(text),), text)

    def test_zone(self) -> None:
        """The zone id is dropped."""
        self.assertEqual(str(unwrap(IPv6Address("fe80::1%eth0"))), "fe80::1")

    def test_isatapIsTwoAddresses(self) -> None:
        """Any prefix may stand before an ISATAP identifier, so the address itself stays a reading."""
        address = IPv6Address("fd00::5efe:8.8.8.8")
        self.assertEqual(readings(address), (IPv4Address("8.8.8.8"), address))

    def test_isatapUnderATransitionPrefix(self) -> None:
        """An ISATAP identifier under a 6to4 prefix leads to either IPv4 address."""
        address = IPv6Address("2002:808:808::5efe:10.0.0.1")
        self.assertEqual(readings(address), (IPv4Address("8.8.8.8"), IPv4Address("10.0.0.1")))

    def test_localNAT64(self) -> None:
        """The local NAT64 prefix may be laid out for 48 bits or be divided into /96."""
        address = IPv6Address("64:ff9b:1:808:8:800:10.0.0.1")
        self.assertEqual(readings(address), (IPv4Address("8.8.8.8"), IPv4Address("10.0.0.1")))


class NormaliseHostTests(SynchronousTestCase):
    """L{normaliseHost} brings a host into its one form or says what is wrong with it."""

    def test_names(self) -> None:
        """Names come out in lower-case ASCII without a trailing dot."""
        for text, expected in [
            ("Example.COM.", "example.com"),
            ("localhost", "localhost"),
            ("my_service", "my_service"),
            ("_ssh._tcp.example", "_ssh._tcp.example"),
            ("1.2.3.example", "1.2.3.example"),
            ("Bücher.Example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("straße.example", "xn--strae-oqa.example"),
            ("\uff45xample\u3002com\u3002", "example.com"),
            ("exam\u00adple.com", "example.com"),
            ("a" * 63, "a" * 63),
            (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
        ]:
            self.assertEqual(normaliseHost(text), expected, text)

    def test_length(self) -> None:
        """A name has at most 253 characters."""
        longest = "a." * 126 + "a"
        self.assertEqual(normaliseHost(longest), longest)
        self.assertRaisesRegex(ValueError, "longer than 253", normaliseHost, "a" + longest)

    def test_lengthAfterConversion(self) -> None:
        """The length counts once more when the name is in ASCII."""
        self.assertRaises(ValueError, normaliseHost, "ü." * 60 + "example")

    def test_oddIPv4(self) -> None:
        """Every spelling that inet_aton(3) takes becomes a dotted quad."""
        for text, expected in ODD_IPV4:
            self.assertEqual(normaliseHost(text), expected, text)

    def test_ipv6(self) -> None:
        """IPv6 addresses come out in the form of RFC 5952, and mapped ones as IPv4."""
        for text, expected in [
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("2001:DB8:0:0::0001", "2001:db8::1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("[::FFFF:7f00:1]", "127.0.0.1"),
            ("64:ff9b::7f00:1", "64:ff9b::7f00:1"),
        ]:
            self.assertEqual(normaliseHost(text), expected, text)

    def test_refused(self) -> None:
        """Whatever is no host is refused with a sentence that names the fault."""
        for text, fault in BAD_HOSTS:
            with self.assertRaises(ValueError, msg=repr(text)) as caught:
                normaliseHost(text)
            self.assertRegex(str(caught.exception), rf"^The host .*{re.escape(fault)}.*\.$")
            self.assertTrue(str(caught.exception).isascii())

    @_settings
    @given(st.text(max_size=40) | st.text("0123456789abcdefxX.:[]%*-_ ", max_size=20))
    def test_anyText(self, text: str) -> None:
        """Any text is either refused with ValueError or normalised, and that once and for all."""
        try:
            host = normaliseHost(text)
        except ValueError:
            return
        self.assertEqual(normaliseHost(host), host)
        self.assertRegex(host, r"\A[0-9a-z_.:-]{1,253}\Z")

    @_settings
    @given(st.lists(st.from_regex(r"\A(0x[0-9a-f]{1,8}|0[0-7]{0,11}|[1-9][0-9]{0,9})\Z"), min_size=1, max_size=5))
    def test_asTheLibrary(self, parts: list[str]) -> None:
        """IPv4 addresses are read exactly as inet_aton(3) reads them."""
        text = ".".join(parts)
        try:
            expected = socket.inet_ntoa(socket.inet_aton(text))
        except OSError:
            self.assertRaises(ValueError, normaliseHost, text)
        else:
            self.assertEqual(normaliseHost(text), expected)


class ParseTests(SynchronousTestCase):
    """L{parseAddress} and L{parsePort} read the parts of a target; L{joinPort} joins them."""

    def test_joined(self) -> None:
        """The port is told from an IPv6 address by brackets, and no host is one that is left out."""
        self.assertEqual(joinPort("a.example", 80), "a.example:80")
        self.assertEqual(joinPort("::1", 80), "[::1]:80")
        self.assertEqual(joinPort("", 80), ":80")

    def test_address(self) -> None:
        """An address is told from a name."""
        self.assertEqual(parseAddress("10.0.0.1"), IPv4Address("10.0.0.1"))
        self.assertEqual(parseAddress("::1"), IPv6Address("::1"))
        self.assertIsNone(parseAddress("box.example"))

    def test_port(self) -> None:
        """A port is a plain number from 1 to 65535."""
        self.assertEqual([parsePort("1"), parsePort("65535")], [1, 65535])
        for text in ("", "0", "65536", "022", "-1", "+1", " 22", "22\n", "2_2", "٢٢", "0x16", "ssh", "9" * 9999):
            self.assertRaisesRegex(ValueError, "A port is a number from 1 to 65535, not", parsePort, text)
