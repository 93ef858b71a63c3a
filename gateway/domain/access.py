"""
Who may come to a door, by address::

    rules = AccessRules.parse(["deny 10.0.0.5", "allow 10.0.0.0/8"])
    rules.allows("10.1.2.3")       # True
    rules.allows("192.0.2.1")      # False: where something is allowed, the rest is not

The first rule that holds the address decides. They are written as the rules for targets are, without names and ports.
"""

__all__ = ["EVERYBODY", "AccessRules"]

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.domain.addresses import parseAddress
from gateway.domain.rules import Rule, parseRuleLine


@dataclass(frozen=True, slots=True)
class AccessRules:
    """
    A list of rules. The empty one lets everybody in.
    """

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, lines: Iterable[str]) -> "AccessRules":
        """
        @param lines: C{allow} or C{deny}, and an address, a network or C{*}.
        @raise ValueError: with a sentence that names the fault.
        """
        rules = tuple(map(parseRuleLine, lines))
        for rule in rules:
            if rule.ports is not None or (isinstance(rule.pattern, str) and rule.pattern != "*"):
                raise ValueError(f"The rule '{rule}' is not about addresses alone.")
        return cls(rules)

    def allows(self, host: str) -> bool:
        """
        @param host: an address; what is none, such as a UNIX socket's name, only C{*} holds.
        """
        address = parseAddress(host)
        for rule in self.rules:
            if rule.pattern == "*" or (address is not None and rule.matchesAddress(address)):
                return rule.action == "allow"
        return not any(rule.action == "allow" for rule in self.rules)


EVERYBODY = AccessRules()
