"""
The rules of a target policy: what one says, how it is written, and what it matches.

Both the command line and the tokens file have them as text::

    rule = parseRuleLine("deny 10.0.0.0/8:22,8000-8100")
    rule.matchesPort(8080) and rule.matchesAddress(IPv6Address("::ffff:10.0.0.5"))  # True
    str(rule)                                                                       # as it was

What follows from a match is decided in L{gateway.domain.targets}, which also tells why.
"""

__all__ = ["Action", "Rule", "parseRule", "parseRuleLine"]

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_network
from typing import Literal, cast

from gateway.domain.addresses import (
    IPAddress,
    IPNetwork,
    normaliseHost,
    parseAddress,
    parsePort,
    readings,
    unwrap,
)

Action = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One line of a policy, as L{parseRule} makes it. C{str(rule)} is its canonical spelling.

    @ivar pattern: a network (a single address is one of full length), a host name, C{*.} and a host name, or
        C{*}.
    @ivar ports: inclusive ranges, or C{None} for every port.
    """

    action: Action
    pattern: IPNetwork | str
    ports: tuple[tuple[int, int], ...] | None = None

    def __str__(self) -> str:
        pattern = str(self.pattern)
        if not isinstance(self.pattern, str):
            address, _, length = pattern.partition("/")
            suffix = "" if self.isSingleAddress else f"/{length}"
            bracketed = isinstance(self.pattern, IPv6Network) and self.ports is not None
            pattern = f"[{address}]{suffix}" if bracketed else address + suffix
        if self.ports is None:
            return f"{self.action} {pattern}"
        ports = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ports)
        return f"{self.action} {pattern}:{ports}"

    @property
    def isSingleAddress(self) -> bool:
        """Whether the pattern is one address."""
        return not isinstance(self.pattern, str) and self.pattern.prefixlen == self.pattern.max_prefixlen

    def matchesPort(self, port: int) -> bool:
        """Whether the rule speaks of this port."""
        return self.ports is None or any(low <= port <= high for low, high in self.ports)

    def matchesName(self, host: str | None) -> bool:
        """Whether the pattern holds a name, whatever it resolves to. C{*} holds everything."""
        if not isinstance(self.pattern, str):
            return False
        if self.pattern.startswith("*."):
            return host is not None and host.endswith(self.pattern[1:])
        return self.pattern in ("*", host)

    def matchesAddress(self, address: IPAddress) -> bool:
        """Whether the pattern is a network that holds an address: all that it leads to, or, to deny, any."""
        if isinstance(self.pattern, str):
            return False
        if self.action == "deny":
            return any(each in self.pattern for each in (address, *readings(address)))
        return all(each in self.pattern for each in readings(address))


def parseRule(action: str, text: str) -> Rule:
    """
    Read a rule: a CIDR, an address, a host name, C{*.example.com} or C{*}, followed or not by C{:PORT},
    C{:LOW-HIGH} or a list of these, C{:22,80,8000-8100}. With ports, IPv6 stands in brackets:
    C{[fd00::]/8:22}.

    @raise ValueError: with a sentence that names the fault.
    """
    if action not in ("allow", "deny"):
        raise ValueError(f"A rule begins with 'allow' or 'deny', not {action!a:.20}.")
    if match := re.fullmatch(r"\[([^\]]*:[^\]]*)\](/[^:]*)?(?:(:)(.*))?", text):
        address, length, colon, ports = match.groups("")
        pattern = address + length
    elif text.count(":") > 1:
        pattern, colon, ports = text, "", ""
    else:
        pattern, colon, ports = text.partition(":")
    parsed = _parsePattern(pattern)
    rule = Rule(cast(Action, action), parsed, tuple(map(_parseRange, ports.split(","))) if colon else None)
    if not isinstance(parsed, str) and not any(map(rule.matchesAddress, (parsed[0], parsed[-1]))):
        # Only an allow rule can get here, and it would stand in the list without ever doing anything.
        raise ValueError(
            f"'{rule}' can never match: such addresses lead to the IPv4 address that is in them;"
            f" allow that one, here {unwrap(parsed[0])}."
        )
    return rule


def parseRuleLine(line: str) -> Rule:
    """
    Read a rule with its action before it: C{allow 10.0.0.0/8:22}.

    @raise ValueError: with a sentence that names the fault.
    """
    words = line.split()
    if len(words) != 2:
        raise ValueError(f"A rule is 'allow' or 'deny', a space and a pattern, not {line!a:.60}.")
    return parseRule(words[0], words[1])


def _parseRange(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    ports = parsePort(low), parsePort(high if dash else low)
    if ports[0] > ports[1]:
        raise ValueError(f"The range of ports {text!a} ends before it begins.")
    return ports


def _parsePattern(text: str) -> IPNetwork | str:
    if text == "*":
        return text
    if "/" in text:
        return _parseNetwork(text)
    host = normaliseHost(text.removeprefix("*."))
    address = parseAddress(host)
    if text.startswith("*."):
        if address is not None:
            raise ValueError(f"The pattern {text!a:.60} puts a wildcard before an address.")
        return f"*.{host}"
    if address is None:
        return host
    if ":" not in text and text != host:
        # Taken from a visitor, "10.0.0" is 10.0.0.0. From an operator it is more likely a slip for a network.
        raise ValueError(f"The pattern {text!a:.60} is an odd spelling of the address {host}; write that.")
    return ip_network(address)


def _parseNetwork(text: str) -> IPNetwork:
    address, _, length = text.partition("/")
    try:
        if not re.fullmatch(r"[0-9]{1,3}", length) or "%" in address:
            raise ValueError
        network = ip_network(text, strict=False)
    except ValueError:
        hint = "; with ports, IPv6 stands in brackets: [fd00::]/8:22" if ":" in length else ""
        raise ValueError(f"The pattern {text!a:.60} is not a valid CIDR{hint}.") from None
    if network.network_address != type(network.network_address)(address):
        raise ValueError(f"The pattern {text!a:.60} has host bits set; the network is {network}.")
    start = network.network_address
    if isinstance(start, IPv6Address) and start.ipv4_mapped is not None:
        # A mapped address is an IPv4 address in another spelling, and so is a network of them.
        return ip_network((start.ipv4_mapped, network.prefixlen - 96))
    return network
