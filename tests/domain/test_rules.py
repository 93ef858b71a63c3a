"""Tests for L{gateway.domain.rules}."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.addresses import IPAddress, IPNetwork
from gateway.domain.rules import Rule, parseRule, parseRuleLine

_settings = settings(deadline=None, max_examples=200, database=None, derandomize=True)

# what is written, and its canonical spelling
SPELLINGS = [
    ("*", "*"),
    ("*:22", "*:22"),
    ("Example.COM.", "example.com"),
    ("bücher.example:22", "xn--bcher-kva.example:22"),
    ("*.Example.com:22,80,8000-8100", "*.example.com:22,80,8000-8100"),
    ("box:22-22", "box:22"),
    ("box:1-65535", "box:1-65535"),
    ("10.0.0.5", "10.0.0.5"),
    ("10.0.0.5/32", "10.0.0.5"),
    ("10.0.0.0/8:22", "10.0.0.0/8:22"),
    ("0.0.0.0/0", "0.0.0.0/0"),
    ("::1", "::1"),
    ("[::1]", "::1"),
    ("[::1]:22", "[::1]:22"),
    ("FD00:0::/8", "fd00::/8"),
    ("[fd00::]/8", "fd00::/8"),
    ("[fd00::]/8:22", "[fd00::]/8:22"),
    ("[fd00::/8]:22", "[fd00::]/8:22"),
    ("::/0", "::/0"),
    ("::ffff:10.0.0.5", "10.0.0.5"),
    ("[::ffff:10.0.0.5]:22", "10.0.0.5:22"),
    ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ("2002::/16", "2002::/16"),
]

BAD_RULES = [
    ("", "empty"),
    (":22", "empty"),
    ("*.", "empty"),
    ("box:", "A port is a number"),
    ("box:0", "A port is a number"),
    ("box:65536", "A port is a number"),
    ("box:22,", "A port is a number"),
    ("box:22-", "A port is a number"),
    ("box:-22", "A port is a number"),
    ("box:ssh", "A port is a number"),
    ("box:80-22", "ends before it begins"),
    ("10.0.0.5/8", "host bits set; the network is 10.0.0.0/8"),
    ("[fd00::1]/8:22", "host bits set; the network is fd00::/8"),
    ("::ffff:10.0.0.5/104", "host bits set"),
    ("10.0.0.0/33", "not a valid CIDR"),
    ("10.0.0.0/", "not a valid CIDR"),
    ("10.0.0.0/255.0.0.0", "not a valid CIDR"),
    ("10/8", "not a valid CIDR"),
    ("010.0.0.0/8", "not a valid CIDR"),
    ("fe80::%eth0/64", "not a valid CIDR"),
    ("[fd00::/8]/8", "not a valid CIDR"),
    ("box/8", "not a valid CIDR"),
    ("fd00::/8:22", "stands in brackets"),
    ("*/8", "not a valid CIDR"),
    ("127.1", "odd spelling of the address 127.0.0.1"),
    ("10.0.0", "odd spelling of the address 10.0.0.0"),
    ("fe80::1%eth0", "zone id"),
    ("*.10.0.0.1", "wildcard before an address"),
    ("*.*.example", "not a label"),
    ("a.*.example", "not a label"),
    ("*example", "not a label"),
    ("box:22:23", "not a valid IPv6 address"),
    ("[::1]x", "not a valid IPv6 address"),
    ("[box]:22", "not a label"),
]


def patterns() -> st.SearchStrategy[IPNetwork | str]:
    """Any pattern, save IPv4 networks that are spelled as IPv6, which L{parseRule} never makes."""
    networks = st.builds(
        lambda address, length: ip_network((address, min(length, address.max_prefixlen)), strict=False),
        st.ip_addresses(),
        st.integers(0, 128),
    )
    mapped = ip_network("::ffff:0:0/96")
    names = st.sampled_from(["*", "*.example.com", "box", "xn--bcher-kva.example"])
    return names | networks.filter(lambda network: network.network_address not in mapped)


def portRanges() -> st.SearchStrategy[tuple[tuple[int, int], ...] | None]:
    """Any ports."""
    port = st.integers(1, 65535)
    span = st.tuples(port, port).map(lambda ends: (min(ends), max(ends)))
    return st.none() | st.lists(span, min_size=1, max_size=4).map(tuple)


class ParseRuleTests(SynchronousTestCase):
    """L{parseRule} reads what people write, and C{str} gives it back in one spelling."""

    def test_spellings(self) -> None:
        """Each way to write a rule has one canonical spelling, which reads as the same rule."""
        for text, canonical in SPELLINGS:
            rule = parseRule("deny", text)
            self.assertEqual(str(rule), f"deny {canonical}")
            self.assertEqual(parseRule("deny", canonical), rule)

    def test_refused(self) -> None:
        """What is no rule is refused with a sentence that names the fault."""
        for text, fault in BAD_RULES:
            with self.assertRaises(ValueError, msg=text) as caught:
                parseRule("deny", text)
            self.assertIn(fault, str(caught.exception))
            self.assertEqual(str(caught.exception)[-1], ".")

    def test_action(self) -> None:
        """A rule allows or denies."""
        self.assertRaisesRegex(ValueError, "'allow' or 'deny', not 'Allow'", parseRule, "Allow", "*")

    def test_neverMatches(self) -> None:
        """An allow rule for addresses that are judged by the IPv4 address in them is refused with that one."""
        for text, inner in [
            ("64:ff9b::10.0.0.5", "10.0.0.5"),
            ("64:ff9b::/96", "0.0.0.0"),
            ("64:ff9b:1::/48", "0.0.0.0"),
            ("2002:a00::/24", "10.0.0.0"),
            ("2001::/32", "255.255.255.255"),
            ("::10.0.0.0/104", "10.0.0.0"),
        ]:
            self.assertRaisesRegex(ValueError, f"can never match.*here {inner}\\.$", parseRule, "allow", text)
            parseRule("deny", text)

    def test_aroundTransitionPrefixes(self) -> None:
        """An allow rule for a network that merely contains such a prefix is fine."""
        for text in ("2000::/3", "2001::/16", "64:ff9b::/32", "::/0", "::/96"):
            parseRule("allow", text)

    def test_line(self) -> None:
        """A line of a file holds the action and the pattern."""
        self.assertEqual(parseRuleLine("  allow\t10.0.0.0/8:22 "), parseRule("allow", "10.0.0.0/8:22"))
        for line in ("", "allow", "10.0.0.0/8", "allow box 22"):
            self.assertRaisesRegex(ValueError, "A rule is 'allow' or 'deny', a space", parseRuleLine, line)

    @_settings
    @given(st.builds(Rule, st.just("deny"), patterns(), portRanges()))
    def test_roundTrip(self, rule: Rule) -> None:
        """Every rule can be written down and read again."""
        self.assertEqual(parseRuleLine(str(rule)), rule)

    @_settings
    @given(st.text(max_size=40) | st.text("0123456789af.:/[]*-,x", max_size=20))
    def test_anyText(self, text: str) -> None:
        """Any text is read as a rule that reads the same again, or refused with ValueError."""
        try:
            rule = parseRule("allow", text)
        except ValueError:
            return
        self.assertEqual(parseRuleLine(str(rule)), rule)


class MatchTests(SynchronousTestCase):
    """A rule matches by port, by name and by address."""

    def test_wildcard(self) -> None:
        """C{*.example.com} holds every name below example.com, and the dot counts."""
        rule = parseRule("deny", "*.example.com")
        for host in ("a.example.com", "a.b.c.example.com"):
            self.assertTrue(rule.matchesName(host), host)
        for other in ("example.com", "evilexample.com", "example.com.evil", "a.example.co", "com", None):
            self.assertFalse(rule.matchesName(other), other)

    def test_name(self) -> None:
        """A host name holds itself only."""
        rule = parseRule("deny", "example.com")
        self.assertTrue(rule.matchesName("example.com"))
        for host in ("a.example.com", "evilexample.com", "*", None):
            self.assertFalse(rule.matchesName(host), host)

    def test_everything(self) -> None:
        """C{*} holds every name, and a target without one."""
        rule = parseRule("deny", "*")
        self.assertTrue(rule.matchesName("example.com"))
        self.assertTrue(rule.matchesName(None))

    def test_ports(self) -> None:
        """Ranges of ports include both ends."""
        rule = parseRule("deny", "*:22,8000-8100")
        ports = [port for port in range(1, 65536) if rule.matchesPort(port)]
        self.assertEqual(ports, [22, *range(8000, 8101)])
        self.assertTrue(parseRule("deny", "*").matchesPort(1))

    def test_network(self) -> None:
        """A network holds its first and its last address and none beside them."""
        rule = parseRule("deny", "172.16.0.0/12")
        held = ["172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"]
        self.assertEqual([rule.matchesAddress(ip_address(a)) for a in held], [False, True, True, False])

    def test_families(self) -> None:
        """An IPv6 network holds no IPv4 address, nor one that is wrapped, and the reverse."""
        six, four = parseRule("allow", "::/0"), parseRule("allow", "0.0.0.0/0")
        native: list[IPAddress] = [IPv6Address("2001:db8::1"), IPv4Address("192.0.2.1")]
        wrapped = IPv6Address("64:ff9b::192.0.2.1")
        self.assertEqual([six.matchesAddress(a) for a in (*native, wrapped)], [True, False, False])
        self.assertEqual([four.matchesAddress(a) for a in (*native, wrapped)], [False, True, True])

    def test_denyAsWritten(self) -> None:
        """A deny rule also holds a wrapped address as it is written, so that 6to4 can be denied as such."""
        self.assertTrue(parseRule("deny", "2002::/16").matchesAddress(IPv6Address("2002:808:808::1")))

    def test_isatap(self) -> None:
        """Of an address with two readings, one is enough to deny, and it takes both to allow."""
        address = IPv6Address("2001:db8::5efe:10.0.0.5")
        for network in ("10.0.0.0/8", "2001:db8::/32"):
            self.assertTrue(parseRule("deny", network).matchesAddress(address))
            self.assertFalse(parseRule("allow", network).matchesAddress(address))
