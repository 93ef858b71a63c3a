"""
Tests for what an agent may ask for.
"""

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.grant import EVERYTHING, Grant
from gateway.domain.targets import parseRuleLine


class GrantTests(SynchronousTestCase):
    """
    A L{Grant} holds names, paths and ports.
    """

    def test_names(self) -> None:
        """A name is held by itself, by a wildcard one label up, or by the pattern for all; the dot is part of it."""
        grant = Grant(hostnames=("app.example.com", "*.alice.example.eu"))
        for name, expected in (
            ("app.example.com", True),
            ("shop.alice.example.eu", True),
            ("*.alice.example.eu", True),
            ("alice.example.eu", False),
            ("a.b.alice.example.eu", False),
            ("evilalice.example.eu", False),
            ("*.example.com", False),
            ("com", False),
            ("*.com", False),
        ):
            self.assertEqual(grant.allowsName(name), expected, name)

    def test_prefixes(self) -> None:
        """A prefix is held by itself, and by a pattern for all below another one, as whole segments."""
        grant = Grant(prefixes=("/node", "/team/*"))
        for prefix, expected in (
            ("/node", True),
            ("/node/a", False),
            ("/nod", False),
            ("/nodes", False),
            ("/team", False),
            ("/team/a", True),
            ("/team/a/b", True),
            ("/teams/a", False),
            ("/a/team/b", False),
        ):
            self.assertEqual(grant.allowsPrefix(prefix), expected, prefix)

    def test_wellKnown(self) -> None:
        """Who may have any prefix cannot speak for the gateway's name, as to those who issue certificates."""
        for prefix in ("/.well-known", "/.well-known/acme-challenge"):
            self.assertFalse(EVERYTHING.allowsPrefix(prefix))
            self.assertTrue(Grant(prefixes=("/.well-known", "/.well-known/*")).allowsPrefix(prefix))
        self.assertTrue(EVERYTHING.allowsPrefix("/a/.well-known"))

    def test_targets(self) -> None:
        """A target is refused unless a rule about its name allows it; the first that fits decides."""
        grant = Grant(
            targets=tuple(map(parseRuleLine, ("deny web.box.agent", "allow *.box.agent", "allow box.agent:22")))
        )
        for host, port, expected in (
            ("ssh.box.agent", 0, True),
            ("ssh.box.agent", 22, True),
            ("web.box.agent", 0, False),
            ("box.agent", 22, True),
            ("box.agent", 23, False),
            ("box.agent", 0, False),
            ("ssh.other.agent", 0, False),
        ):
            self.assertEqual(grant.refusalOf(host, port) is None, expected, (host, port))
        refusal = Grant().refusalOf("ssh.box.agent", 0)
        assert refusal is not None
        self.assertIn("ssh.box.agent", refusal.details)

    def test_nothing(self) -> None:
        """Who was given nothing has nothing."""
        self.assertFalse(Grant().allowsName("example.com"))
        self.assertFalse(Grant().allowsPort(80))
        self.assertFalse(Grant().allowsPrefix("/node"))

    def test_everything(self) -> None:
        """The operator's own agents may have everything, wildcards too."""
        for name in ("a.example", "*.example", "localhost"):
            self.assertTrue(EVERYTHING.allowsName(name))

    def test_ports(self) -> None:
        """Ranges include both of their ends."""
        grant = Grant(ports=((2222, 2222), (20000, 20001)))
        ports = (2221, 2222, 2223, 19999, 20000, 20001, 20002)
        self.assertEqual([each for each in ports if grant.allowsPort(each)], [2222, 20000, 20001])
