"""Tests for L{gateway.domain.targets}."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.domain.addresses import IPAddress
from gateway.domain.rules import Rule, parseRuleLine
from gateway.domain.targets import AllOf, ITargetPolicy, Refusal, Target, TargetPolicy, parseTarget
from tests.domain.test_addresses import RANGES, WRAPPED
from tests.domain.test_rules import patterns, portRanges

_settings = settings(deadline=None, max_examples=200, database=None, derandomize=True)

PUBLIC = ip_address("198.51.100.7")
OTHER = ip_address("203.0.113.1")


def policy(*lines: str, strict: bool = False, builtIns: bool = True) -> TargetPolicy:
    """Make a policy of rules as they are written."""
    return TargetPolicy([parseRuleLine(line) for line in lines], strict=strict, builtIns=builtIns)


def ruleOf(refusal: Refusal | None) -> str | None:
    """Reduce a decision to the rule that refused, C{None} if allowed."""
    return refusal.rule if refusal else None


@st.composite
def spellings(draw: st.DrawFn, first: int = 0, last: int = 2**32 - 1) -> IPAddress:
    """An IPv4 address of a range, or an IPv6 address that leads to it."""
    value = draw(st.integers(first, last))
    any64 = draw(st.integers(0, 2**64 - 1))
    localNAT64 = 0x64FF9B0001 << 80
    addresses: list[IPAddress] = [
        IPv4Address(value),
        IPv6Address(0xFFFF << 32 | value),
        IPv6Address(0xFFFF << 48 | value),
        IPv6Address(max(value, 2)),
        IPv6Address(0x64FF9B << 96 | value),
        IPv6Address(localNAT64 | value >> 16 << 64 | (value & 0xFFFF) << 40 | any64 & 0xFFFFFFFFFF),
        IPv6Address(localNAT64 | any64 >> 16 << 32 | max(value, 1)),
        IPv6Address(0x2002 << 112 | value << 80 | any64),
        IPv6Address(0x20010000 << 96 | any64 << 32 | value ^ 0xFFFFFFFF),
        IPv6Address(any64 << 64 | 0x00005EFE << 32 | value),
        IPv6Address(any64 << 64 | 0x02005EFE << 32 | value),
    ]
    return draw(st.sampled_from(addresses))


class TargetTests(SynchronousTestCase):
    """L{parseTarget} reads what a visitor asks for."""

    def test_parse(self) -> None:
        """A target is a host and a port, which are normalised and can be written down again."""
        for text, host, port, written in [
            ("Example.COM.:22", "example.com", 22, "example.com:22"),
            ("bücher.example:1", "xn--bcher-kva.example", 1, "xn--bcher-kva.example:1"),
            ("127.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535"),
            ("[::1]:22", "::1", 22, "[::1]:22"),
            ("[::ffff:127.0.0.1]:22", "127.0.0.1", 22, "127.0.0.1:22"),
        ]:
            target = parseTarget(text)
            self.assertEqual((target, str(target)), (Target(host, port), written))
            self.assertEqual(parseTarget(written), target)

    def test_defaultPort(self) -> None:
        """A text without a port takes the default."""
        for text, host in [("box", "box"), ("::1", "::1"), ("[::1]", "::1"), ("2130706433", "127.0.0.1")]:
            self.assertEqual(parseTarget(text, 22), Target(host, 22))
        self.assertEqual(parseTarget("box:23", 22), Target("box", 23))

    def test_refused(self) -> None:
        """What is no target is refused with a sentence that names the fault."""
        for text, fault in [
            ("", "lacks a port"),
            ("box", "lacks a port"),
            ("::1", "lacks a port, or the brackets"),
            ("[::1]", "lacks a port"),
            (":22", "empty"),
            ("box:", "A port is a number"),
            ("box:0", "A port is a number"),
            ("box:65536", "A port is a number"),
            ("[::1]:", "A port is a number"),
            ("[::1]22", "in brackets and a port"),
            ("[::1", "in brackets and a port"),
            ("[127.0.0.1]:22", "in brackets and a port"),
            ("[fe80::1%eth0]:22", "zone id"),
            ("user@box:22", "holds '@'"),
        ]:
            with self.assertRaises(ValueError, msg=text) as caught:
                parseTarget(text)
            self.assertIn(fault, str(caught.exception))

    def test_port(self) -> None:
        """No target has a port that does not exist."""
        for port in (0, -1, 65536):
            self.assertRaisesRegex(ValueError, "A port is a number from 1 to 65535", Target, "box", port)


class RuleOrderTests(SynchronousTestCase):
    """The first rule that matches decides."""

    def test_noRules(self) -> None:
        """Without rules an ordinary address is allowed."""
        self.assertIsNone(policy().check("box", PUBLIC, 22))

    def test_denyList(self) -> None:
        """A list that only denies allows the rest."""
        denying = policy("deny 198.51.100.0/24:22")
        self.assertEqual(ruleOf(denying.check("box", PUBLIC, 22)), "deny 198.51.100.0/24:22")
        self.assertIsNone(denying.check("box", PUBLIC, 23))
        self.assertIsNone(denying.check("box", OTHER, 22))

    def test_allowList(self) -> None:
        """A list that allows anything refuses the rest."""
        allowing = policy("allow 198.51.100.0/24:22")
        self.assertIsNone(allowing.check("box", PUBLIC, 22))
        self.assertEqual(ruleOf(allowing.check("box", PUBLIC, 23)), "no rule allows it")
        self.assertEqual(ruleOf(allowing.check("box", OTHER, 22)), "no rule allows it")

    def test_firstMatch(self) -> None:
        """An earlier rule wins, whether it allows or denies, by name or by address."""
        self.assertIsNone(policy("allow box", "deny 198.51.100.0/24").check("box", PUBLIC, 22))
        self.assertEqual(
            ruleOf(policy("deny 198.51.100.0/24", "allow box").check("box", PUBLIC, 22)), "deny 198.51.100.0/24"
        )
        self.assertEqual(ruleOf(policy("deny box", "allow *").check("box", PUBLIC, 22)), "deny box")
        self.assertIsNone(policy("deny box:23", "allow *").check("box", PUBLIC, 22))

    def test_literal(self) -> None:
        """A target asked for by address is judged by it, with or without its text."""
        denying = policy("deny 198.51.100.7")
        for host in (None, "198.51.100.7"):
            self.assertEqual(
                denying.check(host, PUBLIC, 22),
                Refusal(
                    "deny 198.51.100.7",
                    "Connections to 198.51.100.7:22 are not allowed (deny 198.51.100.7).",
                ),
            )

    def test_detailsKeepTheNetworkToThemselves(self) -> None:
        """The sentence names what was asked, not the address that it resolved to."""
        refusal = policy("deny 10.0.0.0/8").check("db.example", ip_address("10.9.8.7"), 22)
        self.assertEqual(refusal and refusal.details, "Connections to db.example:22 are not allowed (deny 10.0.0.0/8).")

    def test_wrapped(self) -> None:
        """A wrapped address meets the rules for the address in it."""
        for text, inner in WRAPPED:
            denying = policy(f"deny {inner}")
            self.assertEqual(ruleOf(denying.check("box", ip_address(text), 22)), f"deny {inner}", text)

    @_settings
    @given(spellings(10 << 24, (11 << 24) - 1))
    def test_noSpellingEscapes(self, address: IPAddress) -> None:
        """An address of a denied network is denied in each of its spellings."""
        denying = policy("deny 10.0.0.0/8", "allow *")
        self.assertEqual(ruleOf(denying.check("box", address, 22)), "deny 10.0.0.0/8")

    @_settings
    @given(spellings(127 << 24, (128 << 24) - 1))
    def test_noSpellingEscapesTheBuiltIns(self, address: IPAddress) -> None:
        """An address that is refused unasked is refused in each of its spellings."""
        self.assertIsNotNone(policy("allow *", strict=True).check("box", address, 22))

    @_settings
    @given(
        st.lists(st.builds(Rule, st.sampled_from(["allow", "deny"]), patterns(), portRanges()), max_size=4),
        st.booleans(),
        st.none() | st.sampled_from(["box", "a.example.com", "10.0.0.1", "::1"]),
        spellings() | st.ip_addresses(),
        st.integers(1, 65535),
    )
    def test_total(self, lines: list[Rule], strict: bool, host: str | None, address: IPAddress, port: int) -> None:
        """Every target gets an answer, and what is refused by name is refused at each address."""
        deciding = TargetPolicy(lines, strict=strict)
        refusal = deciding.check(host, address, port)
        if host is not None and deciding.checkName(host, port) and host in ("box", "a.example.com"):
            self.assertIsNotNone(refusal)


class CheckNameTests(SynchronousTestCase):
    """L{TargetPolicy.checkName} refuses early, and only what would be refused anyway."""

    def test_decisions(self) -> None:
        """A name is refused before it is resolved unless some address could still be allowed."""
        for lines, expected in [
            ([], None),
            (["deny box"], "deny box"),
            (["deny *.example"], None),
            (["deny *"], "deny *"),
            (["deny box:23"], None),
            (["allow box", "deny box"], None),
            (["allow 10.0.0.0/8", "deny box"], None),
            (["deny 10.0.0.0/8", "deny box"], None),
            (["allow 10.0.0.0/8:23", "deny box"], "deny box"),
            (["allow other"], "no rule allows it"),
            (["allow other", "allow 10.0.0.0/8"], None),
            (["allow other", "allow 10.0.0.0/8:23"], "no rule allows it"),
        ]:
            self.assertEqual(ruleOf(policy(*lines).checkName("box", 22)), expected, lines)

    def test_literal(self) -> None:
        """An address is decided at once."""
        deciding = policy("deny 10.0.0.0/8", strict=True)
        self.assertEqual(ruleOf(deciding.checkName("10.0.0.1", 22)), "deny 10.0.0.0/8")
        self.assertEqual(ruleOf(deciding.checkName("::1", 22)), "built-in: loopback addresses")
        self.assertIsNone(deciding.checkName("198.51.100.7", 22))


class BuiltInTests(SynchronousTestCase):
    """Some addresses are refused unless a rule shows that it means them."""

    def test_classes(self) -> None:
        """Each class is refused from its first to its last address, the local ones to strangers only."""
        local = {"loopback addresses", "private addresses", "shared addresses", "benchmark addresses"}
        for first, last, name, *_ in RANGES:
            for address in map(ip_address, (first, last)):
                self.assertEqual(ruleOf(policy(strict=True).check("box", address, 22)), f"built-in: {name}")
                expected = None if name in local else f"built-in: {name}"
                self.assertEqual(ruleOf(policy().check("box", address, 22)), expected)

    def test_wrapped(self) -> None:
        """Wrapping hides nothing, on either side: the inner and the outer address are both looked at."""
        for text in ("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"):
            self.assertEqual(ruleOf(policy().check("box", ip_address(text), 80)), "built-in: cloud metadata")
        outer = ip_address("fe80::5efe:8.8.8.8")
        self.assertEqual(ruleOf(policy().check("box", outer, 80)), "built-in: link-local addresses")

    def test_details(self) -> None:
        """The sentence says that nobody wrote this rule."""
        refusal = policy().check("169.254.0.1", ip_address("169.254.0.1"), 80)
        self.assertEqual(
            refusal and refusal.details,
            "Connections to 169.254.0.1:80 are not allowed (built-in: link-local addresses).",
        )

    def test_liftAlways(self) -> None:
        """A metadata service is lifted by a rule that names the address, by no other."""
        for line, lifted in [
            ("allow 169.254.169.254", True),
            ("allow 169.254.169.254:80", True),
            ("allow 169.254.169.254/31", False),
            ("allow 169.254.0.0/16", False),
            ("allow 128.0.0.0/1", False),
            ("allow box.lan", False),
            ("allow *.lan", False),
            ("allow *", False),
            ("allow 0.0.0.0/0", False),
            ("deny other", False),
        ]:
            refusal = policy(line).check("box.lan", ip_address("169.254.169.254"), 80)
            self.assertEqual(ruleOf(refusal), None if lifted else "built-in: cloud metadata", line)

    def test_liftLocal(self) -> None:
        """One's own network is lifted for strangers by a rule for the address or the name, not for everything."""
        for line, host, address, lifted in [
            ("allow 127.0.0.1", "box.lan", "127.0.0.1", True),
            ("allow 127.0.0.0/8:22", "box.lan", "127.0.0.1", True),
            ("allow box.lan", "box.lan", "127.0.0.1", True),
            ("allow *.lan", "box.lan", "127.0.0.1", False),
            ("allow fc00::/7", None, "fd00::1", True),
            ("allow fc00::/6", None, "fd00::1", False),
            ("allow 10.0.0.0/8", None, "10.0.0.1", True),
            ("allow 10.0.0.0/7", None, "10.0.0.1", False),
            ("allow 0.0.0.0/1", "box.lan", "127.0.0.1", False),
            ("allow 8000::/1", "box.lan", "fd00::1", False),
            ("allow *", "box.lan", "127.0.0.1", False),
            ("allow 0.0.0.0/0", "box.lan", "127.0.0.1", False),
            ("allow ::/0", "box.lan", "::1", False),
            ("deny other", "box.lan", "127.0.0.1", False),
        ]:
            refusal = policy(line, strict=True).check(host, ip_address(address), 22)
            self.assertEqual(refusal is None, lifted, line)

    def test_liftWithinTheClass(self) -> None:
        """A network lifts the class in which it lies whole, and no other that lies in it."""
        for line, address, expected in [
            ("allow 169.254.0.0/16", "169.254.1.1", None),
            ("allow 169.254.0.0/15", "169.254.1.1", "built-in: link-local addresses"),
            ("allow fc00::/7", "fd00:ec2::254", "built-in: cloud metadata"),
            ("allow fd00:ec2::254", "fd00:ec2::254", None),
            ("allow 224.0.0.0/3", "224.0.0.1", "built-in: multicast addresses"),
        ]:
            self.assertEqual(ruleOf(policy(line).check(None, ip_address(address), 80)), expected, line)

    def test_halvesOfTheInternet(self) -> None:
        """Two rules that together hold every address lift no more than one that does."""
        halves = policy("allow 0.0.0.0/1", "allow 128.0.0.0/1", "allow ::/1", "allow 8000::/1", strict=True)
        for first, _, name, *_ in RANGES:
            self.assertEqual(ruleOf(halves.check(None, ip_address(first), 22)), f"built-in: {name}")

    def test_liftByTheDecidingRule(self) -> None:
        """A rule that was not reached lifts nothing."""
        refusal = policy("allow box", "allow 169.254.169.254").check("box", ip_address("169.254.169.254"), 80)
        self.assertEqual(ruleOf(refusal), "built-in: cloud metadata")

    def test_ownListeners(self) -> None:
        """The gateway's own listeners are lifted by their very address and port only, wrapped or not."""
        for line, lifted in [
            ("allow 127.0.0.1:9000", True),
            ("allow 127.0.0.1/32:22,9000", True),
            ("allow 127.0.0.1", False),
            ("allow 127.0.0.1:1-65535", False),
            ("allow 127.0.0.0/8:9000", False),
            ("allow localhost:9000", False),
            ("allow *", False),
            ("deny other", False),
        ]:
            deciding = TargetPolicy(
                [parseRuleLine(line)],
                ownListener=lambda address, port: (str(address), port) == ("127.0.0.1", 9000),
            )
            for text in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"):
                refusal = deciding.check("localhost", ip_address(text), 9000)
                expected = None if lifted else "built-in: the gateway's own listeners"
                self.assertEqual(ruleOf(refusal), expected, line)
            other = deciding.check("localhost", ip_address("127.0.0.1"), 22)
            self.assertNotEqual(ruleOf(other), "built-in: the gateway's own listeners")

    def test_withoutBuiltIns(self) -> None:
        """A narrowing policy has its rules only."""
        narrowing = TargetPolicy(strict=True, ownListener=lambda address, port: True, builtIns=False)
        self.assertIsNone(narrowing.check("box", ip_address("169.254.169.254"), 80))


class FilterTests(SynchronousTestCase):
    """C{filter} keeps the addresses that may be dialled."""

    def test_some(self) -> None:
        """The addresses that pass stay in order, and one that is refused is no failure."""
        deciding = policy("deny 10.0.0.0/8")
        private = ip_address("10.0.0.1")
        self.assertEqual(deciding.filter("box", [OTHER, private, PUBLIC], 22), ([OTHER, PUBLIC], None))

    def test_none(self) -> None:
        """When none passes, the first refusal is told."""
        deciding = policy("deny 10.0.0.0/8", "deny 198.51.100.0/24")
        allowed, refusal = deciding.filter("box", [PUBLIC, ip_address("10.0.0.1")], 22)
        self.assertEqual((allowed, ruleOf(refusal)), ([], "deny 198.51.100.0/24"))

    def test_empty(self) -> None:
        """Where there is nothing to decide nothing is refused."""
        self.assertEqual(policy().filter("box", [], 22), ([], None))
        self.assertEqual(AllOf(policy(), policy()).filter("box", [], 22), ([], None))


class AllOfTests(SynchronousTestCase):
    """L{AllOf} allows what all of its policies allow."""

    def test_interface(self) -> None:
        """One policy and several are used alike."""
        verifyObject(ITargetPolicy, policy())
        verifyObject(ITargetPolicy, AllOf())

    def test_bothMustAllow(self) -> None:
        """Either policy refuses for both, and the first that does gives the reason."""
        both = AllOf(policy("deny one"), policy("allow two", "deny one", "allow 203.0.113.1", builtIns=False))
        for host, address, expected in [
            ("one", PUBLIC, "deny one"),
            ("two", PUBLIC, None),
            ("three", PUBLIC, "no rule allows it"),
            ("three", OTHER, None),
        ]:
            self.assertEqual(ruleOf(both.check(host, address, 22)), expected)
        self.assertEqual(ruleOf(both.checkName("one", 22)), "deny one")
        self.assertIsNone(both.checkName("two", 22))
        self.assertEqual(both.filter("three", [PUBLIC, OTHER], 22), ([OTHER], None))
        self.assertEqual(ruleOf(both.filter("three", [PUBLIC], 22)[1]), "no rule allows it")
        self.assertEqual(ruleOf(both.filter("one", [PUBLIC, OTHER], 22)[1]), "deny one")

    def test_disjoint(self) -> None:
        """An address must pass every policy; it is not enough that each policy passes some address."""
        both = AllOf(policy(f"allow {PUBLIC}"), policy(f"allow {OTHER}", builtIns=False))
        allowed, refusal = both.filter("box", [PUBLIC, OTHER], 22)
        self.assertEqual((allowed, ruleOf(refusal)), ([], "no rule allows it"))

    def test_narrowingLiftsNothing(self) -> None:
        """A token's rule does not lift what the gateway refuses by itself."""
        both = AllOf(policy(strict=True), policy("allow 169.254.169.254", "allow 127.0.0.1:22", builtIns=False))
        self.assertEqual(ruleOf(both.check("box", ip_address("169.254.169.254"), 80)), "built-in: cloud metadata")
        self.assertEqual(ruleOf(both.check("box", ip_address("127.0.0.1"), 22)), "built-in: loopback addresses")
