"""Tests for L{gateway.service.tabby.tokencommand}: the command that makes, lists and revokes tokens."""

import io
import os
import stat
from contextlib import redirect_stdout
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.identity import Identity
from gateway.domain.tokens import hashToken
from gateway.domain.tokensfile import parseTokensFile
from gateway.service.tabby.tokencommand import TokenOptions


class TokenCommandTests(SynchronousTestCase):
    """C{gateway tabby-token}."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.path /= "tokens.toml"

    def run_(self, *words: str) -> str:
        """Run a command on the file; return what it printed."""
        options = TokenOptions()
        output = io.StringIO()
        with redirect_stdout(output):
            options.parseOptions([*words, "--file", str(self.path)])
            self.assertEqual(options.run(), 0)
        return output.getvalue()

    def assertWrong(self, *words: str) -> str:
        """A command is refused and changes nothing; return the one line that says why."""
        before = self.path.read_bytes() if self.path.exists() else None
        with self.assertRaises(usage.UsageError) as caught:
            self.run_(*words)
        self.assertEqual(self.path.read_bytes() if self.path.exists() else None, before)
        self.assertEqual(os.listdir(self.path.parent), [] if before is None else [self.path.name])
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)

    def identity(self, name: str = "alice") -> Identity:
        """What the file says of a token."""
        return parseTokensFile(self.path.read_bytes(), "x").tokens[name]

    def test_new(self) -> None:
        """new prints a token of 64 hexadecimal digits, once; the file has only its hash."""
        token = self.run_("new", "alice").strip()
        self.assertRegex(token, r"\A[0-9a-f]{64}\Z")
        self.assertEqual(self.identity().revision, hashToken(token))
        self.assertNotIn(token, self.path.read_text())
        self.assertNotIn(token, self.run_("list"))

    def test_allOptions(self) -> None:
        """Every option of new ends up in the file, rules in their order."""
        self.run_(
            *("new", "alice", "--expires", "2027-01-31", "--default-target", "box.test:23", "--sessions", "2"),
            *(
                "--bytes-per-second",
                "1000",
                "--seconds",
                "60",
                "--target",
                "deny 10.0.0.1",
                "--target",
                "allow 10.0.0.0/8",
            ),
        )
        alice = self.identity()
        assert alice.targets is not None
        self.assertEqual([str(rule) for rule in alice.targets], ["deny 10.0.0.1", "allow 10.0.0.0/8"])
        self.assertEqual((str(alice.defaultTarget), alice.expires), ("box.test:23", 1801353600.0))
        self.assertEqual((alice.limits.sessions, alice.limits.bytesPerSecond, alice.limits.seconds), (2, 1000, 60))

    def test_nameFirstOrLast(self) -> None:
        """The name may stand before the options or after them."""
        self.run_("new", "alice", "--sessions", "1")
        options = TokenOptions()
        options.parseOptions(["new", "--sessions", "1", "--file", str(self.path), "bob"])
        with redirect_stdout(io.StringIO()):
            options.run()
        self.assertEqual((self.identity("alice").limits.sessions, self.identity("bob").limits.sessions), (1, 1))

    def test_timeZones(self) -> None:
        """A time without a zone is UTC; one with a zone is that."""
        for text, seconds in (("2027-01-31T12:00:00", 1801396800.0), ("2027-01-31T12:00:00+02:00", 1801389600.0)):
            self.run_("new", "alice", "--expires", text)
            self.assertEqual(self.identity().expires, seconds)
            self.run_("revoke", "alice")

    def test_list(self) -> None:
        """list has a line for each token with its expiry; none for an empty file."""
        self.path.write_text("")
        self.assertEqual(self.run_("list"), "")
        self.run_("new", "alice")
        self.run_("new", "bob", "--expires", "2027-01-31")
        self.assertEqual(self.run_("list"), "alice\texpires never\nbob\texpires 2027-01-31T00:00Z\n")

    def test_missingFile(self) -> None:
        """Only a new token makes a file; whoever lists or revokes has named the wrong one."""
        for words in (("list",), ("revoke", "alice")):
            self.assertIn("No such file", self.assertWrong(*words))

    def test_revoke(self) -> None:
        """revoke takes a token out, and nothing else that a person wrote."""
        self.path.write_text('# ours\nrules = ["deny *"]  # all\n')
        before = self.path.read_text()
        self.run_("new", "alice")
        self.run_("revoke", "alice")
        self.assertEqual(self.path.read_text(), before)

    def test_newFileIsForItsOwner(self) -> None:
        """A file that new makes is readable by its owner alone, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        self.run_("new", "alice")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_modeStays(self) -> None:
        """A file that a person opened to a group keeps its mode."""
        self.run_("new", "alice")
        self.path.chmod(0o640)
        self.run_("new", "bob")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)

    def test_ownerStays(self) -> None:
        """A file of another owner is still theirs when it is replaced, before a byte of it is written."""
        self.run_("new", "alice")
        owners: list[tuple[int, int]] = []

        def chown(descriptor: int, user: int, group: int) -> None:
            self.assertEqual(os.fstat(descriptor).st_size, 0)
            owners.append((user, group))

        self.patch(os, "fchown", chown)
        self.run_("new", "bob")
        status = self.path.stat()
        self.assertEqual(owners, [(status.st_uid, status.st_gid)])

    def test_ownerCannotStay(self) -> None:
        """Where the owner cannot be kept the file is not touched: the gateway could not read it any more."""
        self.run_("new", "alice")

        def fail(*args: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(os, "fchown", fail)
        self.assertIn("owner", self.assertWrong("new", "bob"))

    def test_lineEndsStay(self) -> None:
        """A file with the line ends of another system keeps them, in the lines that are new too."""
        for end in (b"\r\n", b"\n"):
            self.path.write_bytes(b"# ours" + end)
            self.run_("new", "alice")
            text = self.path.read_bytes()
            self.assertTrue(text.startswith(b"# ours" + end))
            self.assertEqual(text.count(b"\n"), text.count(end))
            self.run_("revoke", "alice")
            self.assertEqual(self.path.read_bytes(), b"# ours" + end)

    def test_replacedInOneStep(self) -> None:
        """The file is replaced, never rewritten: who has the old one open still reads all of it."""
        self.run_("new", "alice")
        with self.path.open() as old:
            inode = self.path.stat().st_ino
            self.run_("new", "bob")
            self.assertNotIn("bob", old.read())
        self.assertNotEqual(self.path.stat().st_ino, inode)
        self.assertEqual(os.listdir(self.path.parent), [self.path.name])

    def test_symbolicLink(self) -> None:
        """Of a symbolic link the file that it leads to is replaced; the link stays."""
        self.run_("new", "alice")
        link = self.path.with_name("link")
        link.symlink_to(self.path.name)
        self.path, real = link, self.path
        self.run_("new", "bob")
        self.assertTrue(link.is_symlink())
        self.assertIn("bob", real.read_text())

    def test_failedWriteLeavesNothing(self) -> None:
        """When the new file cannot be put in place the old one stays, and no other file is left."""
        self.run_("new", "alice")

        def fail(*args: object) -> None:
            raise OSError(28, "No space left on device", str(self.path))

        self.patch(os, "fsync", fail)
        self.assertIn("No space left", self.assertWrong("new", "bob"))

    def test_unusableFiles(self) -> None:
        """A file that cannot be read or written is refused by the option's name."""
        self.path = self.path.parent / "missing" / "tokens.toml"
        with self.assertRaises(usage.UsageError) as caught:
            self.run_("new", "alice")
        self.assertTrue(str(caught.exception).startswith("--file: "))
        self.path = Path(self.mktemp())
        self.path.write_bytes(b"\xff")
        with self.assertRaises(usage.UsageError) as caught:
            self.run_("list")
        self.assertTrue(str(caught.exception).startswith("--file: "))

    def test_wrongValues(self) -> None:
        """Each value that is not allowed is refused by its name."""
        for option, values in (
            ("expires", ("soon", "2027-13-01", "")),
            ("sessions", ("x", "1.5", "0", "-1")),
            ("bytes-per-second", ("x", "0")),
            ("seconds", ("x", "0")),
            ("default-target", ("box", "box:0")),
            ("target", ("10.0.0.0/8", "allow", "permit x")),
        ):
            for value in values:
                problem = self.assertWrong("new", "alice", f"--{option}={value}")
                self.assertIn(option.replace("-", "_"), problem.replace("-", "_"))

    def test_wrongNames(self) -> None:
        """A name that exists, is none, or is reserved is refused; so is a missing or a second one."""
        self.run_("new", "alice")
        for words in (
            ("new", "alice"),
            ("new", "a b"),
            ("new", "anonymous"),
            ("new",),
            ("new", "bob", "carol"),
            ("revoke", "bob"),
            ("revoke",),
            ("list", "alice"),
        ):
            self.assertWrong(*words)

    def test_wordsAreNeeded(self) -> None:
        """Without a subcommand it says which there are."""
        with self.assertRaises(usage.UsageError) as caught:
            TokenOptions().parseOptions([])
        self.assertIn("new, list or revoke", str(caught.exception))

    def test_tokenComesLast(self) -> None:
        """A token is printed only once the file has it."""
        output = io.StringIO()
        replace = os.replace

        def replaced(source: str, target: str) -> None:
            self.assertEqual(output.getvalue(), "")
            replace(source, target)

        self.patch(os, "replace", replaced)
        options = TokenOptions()
        options.parseOptions(["new", "alice", "--file", str(self.path)])
        with redirect_stdout(output):
            options.run()
        self.assertEqual(hashToken(output.getvalue().strip()), self.identity().revision)
