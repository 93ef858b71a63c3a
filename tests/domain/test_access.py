"""
Tests for who may come to a door.
"""

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import EVERYBODY, AccessRules


class AccessTests(SynchronousTestCase):
    """
    L{AccessRules}.
    """

    def test_everybody(self) -> None:
        """Without rules everybody may come."""
        self.assertTrue(EVERYBODY.allows("192.0.2.1"))
        self.assertTrue(EVERYBODY.allows("unix"))

    def test_allowList(self) -> None:
        """Where something is allowed, nobody else may come."""
        rules = AccessRules.parse(["allow 10.0.0.0/8", "allow 2001:db8::/32"])
        for host, expected in (
            ("10.1.2.3", True),
            ("::ffff:10.1.2.3", True),
            ("2001:db8::1", True),
            ("192.0.2.1", False),
            ("unix", False),
        ):
            self.assertEqual(rules.allows(host), expected, host)

    def test_denyList(self) -> None:
        """Where something is denied and nothing allowed, everybody else may come."""
        rules = AccessRules.parse(["deny 10.0.0.0/8"])
        self.assertFalse(rules.allows("10.1.2.3"))
        self.assertFalse(rules.allows("::ffff:10.1.2.3"))
        self.assertTrue(rules.allows("192.0.2.1"))

    def test_firstMatchDecides(self) -> None:
        """The order of the rules is that in which they are asked."""
        rules = AccessRules.parse(["deny 10.0.0.5", "allow 10.0.0.0/8", "deny *"])
        self.assertFalse(rules.allows("10.0.0.5"))
        self.assertTrue(rules.allows("10.0.0.6"))
        self.assertFalse(rules.allows("192.0.2.1"))

    def test_addressesAlone(self) -> None:
        """A rule with a name or a port would never do what its writer thinks."""
        for line in ("allow example.com", "allow 10.0.0.0/8:22", "10.0.0.0/8", "allow 10.0.0.1/8"):
            self.assertRaises(ValueError, AccessRules.parse, [line])
