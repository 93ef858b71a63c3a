"""
Target policy: whether a visitor may be connected to the host and port they ask for.

A gateway that dials what it is told to is a way into every network it stands in. The policy decides without
I/O, on the name that was asked and on each address that it resolved to::

    policy = TargetPolicy([parseRule("deny", "10.0.0.0/8:22")])
    target = parseTarget("box.example:22")
    addresses, refusal = policy.filter(target.host, resolved, target.port)
"""

# How a decision is made, and why so
# ==================================
#
# The rules are read in order and the first one that matches decides. A rule matches the name that was asked
# or the address that is about to be dialled. Where none matches, a list that holds an allow rule is an
# allow-list and refuses; any other list allows.
#
# *Name and address.* A check of the name alone is worth nothing: whoever owns a name owns its addresses, and
# may answer 203.0.113.1 to the check and 127.0.0.1 to the dial a moment later (DNS rebinding). So a name is
# resolved once, every address is checked, and the caller dials the very address that `filter` returned, never
# the name. A check of the address alone would leave people unable to write the rule they have in mind.
#
# *One spelling.* Both sides of every comparison went through `normaliseHost`, and an address through
# `readings`. A deny rule holds if any reading of the address, or the address as it is written, is in its
# network; an allow rule only if all readings are. An address with two faces thus gets the worse treatment.
#
# *The dot.* `*.example.eu` is compared as the suffix `.example.eu`, dot included, or its owner would also
# have got `evilexample.eu`. It does not hold `example.eu` itself, which is as a rule another machine.
#
# *Built-in refusals* come after the rules and are lifted only by an allow rule that decided, and only by one
# that shows it was meant. Link-local, metadata, multicast, unspecified and reserved addresses want a rule
# that names the address: were a name enough, the owner of an allowed name could point it at 169.254.169.254.
# Loopback and private addresses, refused where no credential is asked for (`strict`), may also be allowed by
# their very name, since "allow nas.lan" can mean nothing else; `*.example.edu` can, and any of the many who may
# make a name there could point it at the machine next door. A network lifts a class only if it lies inside it,
# whole: 0.0.0.0/0 says "the Internet", and so do 0.0.0.0/1 and 128.0.0.0/1 together. No prefix length would tell
# the two kinds apart as well. The gateway's own listeners want the very address and port, for a gateway that
# dials itself can be made to do so in a circle and to see itself as a local visitor.
#
# *Two policies.* A token may narrow what the gateway allows. Each policy decides for itself and both must
# allow (`AllOf`). One merged list would let a token's "allow" stand before the gateway's "deny", or lift its
# built-in refusals; and so a narrowing policy has none of its own (`builtIns=False`).
#
# *Names alone.* The name of an agent stands for no address, and nobody but the gateway says what it means. So rules
# for networks do not speak of it, and its name decides. Where no credential is asked for, a rule must allow it that
# shows that it was meant, which `*` does not.
#
# *Behind an agent.* There it is the agent who looks names up, so nobody here learns where one leads. A rule that allows
# a network allows no name, and one that denies a network denies all names that come to it: they might lead there.

__all__ = [
    "AllOf",
    "ITargetPolicy",
    "Refusal",
    "Rule",
    "Target",
    "TargetPolicy",
    "normaliseHost",
    "onlyThese",
    "parseRule",
    "parseRuleLine",
    "parseTarget",
    "refusalBehind",
    "unwrap",
]

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from zope.interface import Interface, implementer

from gateway.domain.addresses import (
    IPAddress,
    classify,
    joinPort,
    normaliseHost,
    parseAddress,
    parsePort,
    readings,
    unwrap,
)
from gateway.domain.rules import Rule, parseRule, parseRuleLine


@dataclass(frozen=True, slots=True)
class Target:
    """
    What a visitor asks for.

    @ivar host: as L{normaliseHost} returns it.
    @ivar port: from 1 to 65535.
    @raise ValueError: the port is not in that range.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        parsePort(str(self.port))

    def __str__(self) -> str:
        return joinPort(self.host, self.port)


def parseTarget(text: str, defaultPort: int | None = None) -> Target:
    """
    Read C{host:port}; an IPv6 address with a port stands in brackets.

    @param defaultPort: the port of a text that names none.
    @raise ValueError: with a sentence that names the fault.
    """
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if not bracket or rest[:1] not in ("", ":") or ":" not in host:
            raise ValueError(f"The target {text!a:.60} is not an IPv6 address in brackets and a port.")
        host, colon, port = host[1:], rest[:1], rest[1:]
    elif text.count(":") > 1:
        if defaultPort is None:
            raise ValueError(f"The target {text!a:.60} lacks a port, or the brackets around an IPv6 address.")
        host, colon, port = text, "", ""
    else:
        host, colon, port = text.partition(":")
    if colon:
        return Target(normaliseHost(host), parsePort(port))
    if defaultPort is None:
        raise ValueError(f"The target {text!a:.60} lacks a port.")
    return Target(normaliseHost(host), defaultPort)


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Why a target is refused.

    @ivar rule: the rule that decided, in canonical spelling; or C{built-in: } and the class of address; or
        C{no rule allows it}.
    @ivar details: one sentence for a person. It names what was asked, never what that resolved to: a refused
        visitor is not told the addresses of a network that they may not reach.
    """

    rule: str
    details: str


class ITargetPolicy(Interface):
    """Decides what a visitor may be connected to. No method raises for a L{Target}, or does I/O."""

    def checkName(host: str, port: int) -> Refusal | None:
        """
        Say what can be said before the host is resolved.

        @return: the refusal that each address of the host would meet, or C{None}: not known yet.
        """

    def checkNameAlone(host: str, port: int) -> Refusal | None:
        """
        Decide about a name that stands for no address: that of an agent, or of what is behind one.

        @param port: 0 where the name says it all.
        """

    def check(host: str | None, address: IPAddress, port: int) -> Refusal | None:
        """
        Decide about one address.

        @param host: what was asked, as L{normaliseHost} returns it, or C{None} if only the address is known.
        @param address: what would be dialled.
        @return: C{None} if it may be.
        """

    def filter(host: str | None, addresses: Iterable[IPAddress], port: int) -> tuple[list[IPAddress], Refusal | None]:
        """
        Keep the addresses that may be dialled, in order.

        @return: those, and the first refusal if there are none because they were refused.
        """


_NO_RULE = "no rule allows it"


def _refuse(rule: Rule | str, host: str, port: int) -> Refusal:
    target = Target(host, port) if port else host
    return Refusal(str(rule), f"Connections to {target} are not allowed ({rule}).")


@implementer(ITargetPolicy)
class TargetPolicy:
    """
    An ordered list of rules, and the built-in refusals.

    @param strict: also refuse loopback, private, shared and benchmark addresses, unless a rule that names them
        allows it; for a gateway that asks for no credential.
    @param ownListener: tells whether a connection to an address and port would reach a listener of this very
        process. Is asked about unwrapped addresses only. An answer for a wildcard listener holds for all
        addresses of this machine.
    @param builtIns: False for a policy that only narrows another one, in L{AllOf}.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        strict: bool = False,
        ownListener: Callable[[IPAddress, int], bool] = lambda address, port: False,
        builtIns: bool = True,
    ) -> None:
        self._rules = tuple(rules)
        self._isAllowList = any(rule.action == "allow" for rule in self._rules)
        self._strict = strict
        self._ownListener = ownListener
        self._builtIns = builtIns

    def checkName(self, host: str, port: int) -> Refusal | None:
        """See L{ITargetPolicy.checkName}."""
        address = parseAddress(host)
        if address is not None:
            return self.check(host, address, port)
        for rule in self._rules:
            if not rule.matchesPort(port):
                continue
            if not isinstance(rule.pattern, str):
                return None  # it may be the first to match some address of this host
            if rule.matchesName(host):
                return _refuse(rule, host, port) if rule.action == "deny" else None
        return _refuse(_NO_RULE, host, port) if self._isAllowList else None

    def checkNameAlone(self, host: str, port: int) -> Refusal | None:
        """See L{ITargetPolicy.checkNameAlone}."""
        for rule in self._rules:
            if not (rule.matchesPort(port) and rule.matchesName(host)):
                continue
            if rule.action == "deny":
                return _refuse(rule, host, port)
            return _refuse("built-in: agents", host, port) if self._strict and rule.pattern == "*" else None
        if self._isAllowList:
            return _refuse(_NO_RULE, host, port)
        return _refuse("built-in: agents", host, port) if self._strict else None

    def check(self, host: str | None, address: IPAddress, port: int) -> Refusal | None:
        """See L{ITargetPolicy.check}."""
        asked = str(unwrap(address)) if host is None else host
        decisive = self._firstMatch(host, address, port)
        if decisive is None and self._isAllowList:
            return _refuse(_NO_RULE, asked, port)
        if decisive is not None and decisive.action == "deny":
            return _refuse(decisive, asked, port)
        builtIn = self._builtInRefusal(decisive, address, port) if self._builtIns else None
        return None if builtIn is None else _refuse(f"built-in: {builtIn}", asked, port)

    def _firstMatch(self, host: str | None, address: IPAddress, port: int) -> Rule | None:
        for rule in self._rules:
            if rule.matchesPort(port) and (rule.matchesName(host) or rule.matchesAddress(address)):
                return rule
        return None

    def _builtInRefusal(self, rule: Rule | None, address: IPAddress, port: int) -> str | None:
        """
        @param rule: the allow rule that decided, if any did.
        @return: the name of what is refused.
        """
        namesHost = rule is not None and isinstance(rule.pattern, str) and not rule.pattern.startswith("*")
        namesListener = rule is not None and rule.isSingleAddress and (port, port) in (rule.ports or ())
        for reading in readings(address):
            if self._ownListener(reading, port) and not namesListener:
                return "the gateway's own listeners"
            kind = classify(reading)
            if kind is None or (kind.local and (namesHost or not self._strict)):
                continue
            if rule is not None and not isinstance(rule.pattern, str) and kind.holds(rule.pattern):
                continue
            return kind.name
        return None

    def filter(
        self, host: str | None, addresses: Iterable[IPAddress], port: int
    ) -> tuple[list[IPAddress], Refusal | None]:
        """See L{ITargetPolicy.filter}."""
        allowed: list[IPAddress] = []
        first: Refusal | None = None
        for address in addresses:
            refusal = self.check(host, address, port)
            if refusal is None:
                allowed.append(address)
            else:
                first = first or refusal
        return allowed, None if allowed else first


def onlyThese(rules: Sequence[Rule]) -> TargetPolicy:
    """
    @param rules: of somebody who was given these and no others. So none allow nothing.
    @return: a policy that narrows another one.
    """
    return TargetPolicy(rules or [parseRule("deny", "*")], builtIns=False)


def refusalBehind(rules: Sequence[Rule] | None, target: Target) -> Refusal | None:
    """
    Whether a target behind an agent may be reached.

    @param rules: C{None}: there are none, and every target may.
    """
    if rules is None:
        return None
    policy, address = onlyThese(rules), parseAddress(target.host)
    if address is not None:
        return policy.check(target.host, address, target.port)
    for rule in rules:
        if not rule.matchesPort(target.port):
            continue
        if rule.matchesName(target.host):
            break
        if rule.action == "deny" and not isinstance(rule.pattern, str):
            details = f"Connections to {target} are not allowed: such a name may lead to what is denied ({rule})."
            return Refusal(str(rule), details)
    return policy.checkNameAlone(target.host, target.port)


@implementer(ITargetPolicy)
class AllOf:
    """
    Several policies that must all allow: the gateway's own and then those that narrow it, e.g. a token's.

    @param policies: the first that refuses gives the reason.
    """

    def __init__(self, *policies: ITargetPolicy) -> None:
        self._policies = policies

    def checkName(self, host: str, port: int) -> Refusal | None:
        """See L{ITargetPolicy.checkName}."""
        for policy in self._policies:
            refusal = policy.checkName(host, port)
            if refusal is not None:
                return refusal
        return None

    def checkNameAlone(self, host: str, port: int) -> Refusal | None:
        """See L{ITargetPolicy.checkNameAlone}."""
        refusals = (policy.checkNameAlone(host, port) for policy in self._policies)
        return next((refusal for refusal in refusals if refusal is not None), None)

    def check(self, host: str | None, address: IPAddress, port: int) -> Refusal | None:
        """See L{ITargetPolicy.check}."""
        for policy in self._policies:
            refusal = policy.check(host, address, port)
            if refusal is not None:
                return refusal
        return None

    def filter(
        self, host: str | None, addresses: Iterable[IPAddress], port: int
    ) -> tuple[list[IPAddress], Refusal | None]:
        """See L{ITargetPolicy.filter}."""
        allowed = list(addresses)
        for policy in self._policies:
            allowed, refusal = policy.filter(host, allowed, port)
            if refusal is not None:
                return [], refusal
        return allowed, None
