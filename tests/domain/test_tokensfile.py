"""Tests for L{gateway.domain.tokensfile}."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.identity import RESERVED_NAMES, UNLIMITED, Limits
from gateway.domain.targets import parseRuleLine, parseTarget
from gateway.domain.tokens import hashToken
from gateway.domain.tokensfile import TokensFile, TokensFileError, addToken, parseTokensFile, removeToken

HASH = "sha256:" + "0123456789abcdef" * 4
OTHER_HASH = "sha256:" + "f" * 64

WHOLE = f"""\
# what this gateway reaches
rules = ["allow 10.0.0.0/8:22", "deny *"]

# Alice, from the office
[tokens.alice]
hash = "{HASH}"
expires = 2027-01-01T00:00:00Z          # a Friday
targets = [
    "allow *.example.com:22",           # her boxes
]
default_target = "box.example.com:22"
sessions = 10
bytes_per_second = 1048576
seconds = 28800

# the build server

[tokens."build.server"]
hash = "{OTHER_HASH}"
"""


def parse(text: str) -> TokensFile:
    return parseTokensFile(text.encode(), "tokens.toml")


def token(line: str = "", name: str = "alice", digest: str = HASH) -> str:
    return f'[tokens.{name}]\nhash = "{digest}"\n{line}\n'


class ParseTests(SynchronousTestCase):
    """L{parseTokensFile} reads a good file."""

    def test_whole(self) -> None:
        """Every key arrives where it belongs."""
        file = parse(WHOLE)
        self.assertEqual(file.rules, (parseRuleLine("allow 10.0.0.0/8:22"), parseRuleLine("deny *")))
        self.assertEqual(list(file.tokens), ["alice", "build.server"])
        alice = file.tokens["alice"]
        self.assertEqual(alice.name, "alice")
        self.assertEqual(alice.targets, (parseRuleLine("allow *.example.com:22"),))
        self.assertEqual(alice.defaultTarget, parseTarget("box.example.com:22"))
        self.assertEqual(alice.limits, Limits(10, 1048576, 28800.0))
        self.assertEqual(alice.expires, datetime(2027, 1, 1, tzinfo=UTC).timestamp())
        self.assertEqual(alice.revision, HASH)

    def test_hashIsTheOnlyKeyNeeded(self) -> None:
        """A token with a hash alone narrows nothing, is not limited and never expires."""
        server = parse(WHOLE).tokens["build.server"]
        self.assertIsNone(server.targets)
        self.assertIsNone(server.defaultTarget)
        self.assertIsNone(server.expires)
        self.assertEqual(server.limits, UNLIMITED)

    def test_empty(self) -> None:
        """An empty file has no rules and no tokens."""
        self.assertEqual(parse(""), TokensFile())

    def test_emptyTargetsReachNothing(self) -> None:
        """An empty list of targets is not the same as none: it leaves nothing."""
        self.assertEqual(parse(token("targets = []")).tokens["alice"].targets, ())

    def test_offset(self) -> None:
        """A time with an offset is the moment it says."""
        expires = parse(token("expires = 2027-01-01T02:00:00+02:00")).tokens["alice"].expires
        self.assertEqual(expires, datetime(2027, 1, 1, tzinfo=UTC).timestamp())

    def test_atTheLimits(self) -> None:
        """The least values, and the longest name, are taken."""
        file = parse(token("sessions = 1\nbytes_per_second = 1\nseconds = 0.5", name="x" * 64))
        self.assertEqual(file.tokens["x" * 64].limits, Limits(1, 1, 0.5))


class ErrorTests(SynchronousTestCase):
    """L{parseTokensFile} says on one line what is wrong, and where."""

    def assertProblem(self, data: str | bytes, key: str, *words: str) -> None:
        data = data.encode() if isinstance(data, str) else data
        error = self.assertRaises(TokensFileError, parseTokensFile, data, "tokens.toml")
        self.assertEqual((error.path, error.key), ("tokens.toml", key))
        for word in words:
            self.assertIn(word, error.problem)
        line = str(error)
        self.assertTrue(line.startswith("tokens.toml: "), line)
        self.assertEqual(len(line.splitlines()), 1)
        self.assertNotIn("null", line)

    def test_unknownKey(self) -> None:
        """A key that does not exist is named, at the top and in a token."""
        self.assertProblem("rule = []", "rule", "unknown key")
        self.assertProblem(token("expire = 1"), "tokens.alice.expire", "unknown key")

    def test_wrongType(self) -> None:
        """A value of the wrong type is named with the type that it should have."""
        self.assertProblem("rules = 'allow *'", "rules", "array")
        self.assertProblem("rules = ['allow *', 1]", "rules[1]", "`str`")
        self.assertProblem("tokens = 1", "tokens", "`table`")
        self.assertProblem("tokens = {alice = 1}", "tokens.alice", "`table`")
        self.assertProblem("[tokens.alice]\nhash = 1", "tokens.alice.hash", "`str`")
        self.assertProblem(token("sessions = true"), "tokens.alice.sessions", "`int`")
        self.assertProblem(token("sessions = '1'"), "tokens.alice.sessions", "`int`")
        self.assertProblem(token("targets = ['allow *', 2]"), "tokens.alice.targets[1]", "`str`")
        self.assertProblem(token("expires = '2027-01-01T00:00:00Z'"), "tokens.alice.expires", "`datetime`")
        self.assertProblem(token("expires = 2027-01-01"), "tokens.alice.expires", "`datetime`", "`date`")

    def test_missingHash(self) -> None:
        """A token without a hash is named."""
        self.assertProblem("[tokens.alice]", "tokens.alice.hash", "missing")

    def test_badHash(self) -> None:
        """What is not a hash is refused, and not shown: it may be the token itself."""
        for digest in ("", "c0ffee" * 10, "sha256:" + "0" * 63, HASH + "0", HASH.upper(), HASH + "\\n"):
            self.assertProblem(token(digest=digest), "tokens.alice.hash", "sha256:")
        error = self.assertRaises(TokensFileError, parse, token(digest="c0ffee" * 10))
        self.assertNotIn("c0ffee", f"{error} {error!r}")

    def test_badRule(self) -> None:
        """A rule that is none is named by its place in its list."""
        self.assertProblem("rules = ['deny *', 'permit *']", "rules[1]", "permit")
        self.assertProblem(token("targets = ['allow 10.0.0.0/99']"), "tokens.alice.targets[0]", "10.0.0.0/99")

    def test_badDefaultTarget(self) -> None:
        """A default target that cannot be dialled is named."""
        self.assertProblem(token("default_target = 'box'"), "tokens.alice.default_target", "box")

    def test_naiveTime(self) -> None:
        """A time without a zone is refused with what to write."""
        self.assertProblem(token("expires = 2027-01-01T00:00:00"), "tokens.alice.expires", "add Z")

    def test_belowTheLimits(self) -> None:
        """No sessions, no bytes and no seconds are not limits but mistakes; so are infinite ones."""
        self.assertProblem(token("sessions = 0"), "tokens.alice.sessions", ">= 1")
        self.assertProblem(token("bytes_per_second = 0"), "tokens.alice.bytes_per_second", ">= 1")
        self.assertProblem(token("seconds = 0"), "tokens.alice.seconds", "> 0")
        self.assertProblem(token("seconds = inf"), "tokens.alice.seconds")
        self.assertProblem(token("seconds = nan"), "tokens.alice.seconds")
        self.assertProblem(token(f"sessions = {2**64}"), "tokens.alice.sessions")

    def test_sameToken(self) -> None:
        """Two names for one token are refused, since a session could not tell whose it is."""
        self.assertProblem(token() + token(name="bob"), "tokens.bob.hash", "tokens.alice")

    def test_badName(self) -> None:
        """A name with other characters, none, or one too many is refused, on one line whatever it holds."""
        for name in ("", "a b", "é", "a/b", "a\\nb", "a\\u2028b", "x" * 65):
            key = "tokens." + name.replace("\\n", "\n").replace("\\u2028", "\u2028")
            self.assertProblem(token(name=f'"{name}"'), key, "64 letters")

    def test_reservedName(self) -> None:
        """A token cannot pass in the logs for one of another source."""
        for name in RESERVED_NAMES:
            self.assertProblem(token(name=name), f"tokens.{name}", "taken")

    def test_notTOML(self) -> None:
        """What is not TOML is told with its line, at the end of the file too."""
        self.assertProblem("rules = []\nx = = 1\n", "", "line 2")
        self.assertProblem("rules = []\n\nx = [", "", "line 3")
        self.assertProblem(token() + token(), "", "line 4")

    def test_notUTF8(self) -> None:
        """What is not UTF-8 is told with its line."""
        self.assertProblem(b"rules = []\n# \xff\n", "", "UTF-8", "line 2")

    def test_pathological(self) -> None:
        """A number of 10,000 digits and 100,000 brackets are one line as well."""
        self.assertProblem("x = " + "9" * 10_000, "")
        self.assertProblem("x = " + "[" * 100_000, "")

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(st.binary(max_size=200))
    @example(b"\xef\xbb\xbf")
    @example(b"a = 0001-01-01")
    def test_arbitraryBytes(self, data: bytes) -> None:
        """Whatever the bytes, nothing but a L{TokensFileError} comes out."""
        self.parses(data)

    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    @given(st.data())
    def test_mutatedFile(self, data: st.DataObject) -> None:
        """A good file with a part replaced by another part, or by anything, raises nothing else either."""
        whole = WHOLE.encode()
        position = st.integers(0, len(whole))
        start, end = sorted((data.draw(position), data.draw(position)))
        end = data.draw(st.sampled_from((start, start + 1, start + 8, end)))
        pieces = st.sampled_from((b"", b"[", b'"', b"\n", b"=", b"-1", b"1979-05-27", b"{}", b"true", b"\\ud800"))
        piece = data.draw(st.one_of(pieces, st.binary(max_size=8), st.text(max_size=8).map(str.encode)))
        self.parses(whole[:start] + piece + whole[end:])

    def parses(self, data: bytes) -> None:
        try:
            file = parseTokensFile(data, "tokens.toml")
        except TokensFileError as e:
            self.assertLessEqual(len(str(e).splitlines()), 1)
        else:
            self.assertIsInstance(file, TokensFile)


class AddTests(SynchronousTestCase):
    """L{addToken} appends a token."""

    def test_toAnEmptyFile(self) -> None:
        """The first token's table is the whole file."""
        self.assertEqual(addToken("", "alice", HASH), f'[tokens.alice]\nhash = "{HASH}"\n')

    def test_whatWasThereStays(self) -> None:
        """The old text is the beginning of the new one, with its last line ended if it was not."""
        self.assertTrue(addToken(WHOLE, "bob", hashToken("bob")).startswith(WHOLE + "\n[tokens.bob]\n"))
        self.assertTrue(addToken("# mine", "bob", HASH).startswith("# mine\n\n[tokens.bob]\n"))

    def test_everyKey(self) -> None:
        """What is given is what the file then says."""
        text = addToken(
            WHOLE,
            "b.ob",
            hashToken("bob"),
            expires=datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=-5))),
            targets=["allow *.example.com:22", "deny *"],
            defaultTarget="box.example.com:22",
            limits=Limits(1, 2, 3.5),
        )
        bob = parse(text).tokens["b.ob"]
        self.assertEqual(bob.expires, datetime(2027, 1, 1, 5, tzinfo=UTC).timestamp())
        self.assertEqual(bob.targets, (parseRuleLine("allow *.example.com:22"), parseRuleLine("deny *")))
        self.assertEqual(bob.defaultTarget, parseTarget("box.example.com:22"))
        self.assertEqual(bob.limits, Limits(1, 2, 3.5))
        self.assertEqual(bob.revision, hashToken("bob"))

    def assertRefused(self, key: str, text: str, name: str, digest: str = HASH, **more: object) -> None:
        error = self.assertRaises(TokensFileError, addToken, text, name, digest, path="t.toml", **more)
        self.assertEqual((error.path, error.key), ("t.toml", key))

    def test_existingName(self) -> None:
        """A name that exists is refused."""
        self.assertRefused("tokens.alice", WHOLE, "alice", hashToken("new"))

    def test_badValues(self) -> None:
        """Nothing is added that could not be read again, or that would be read as something else."""
        for name in ("", "a b", 'a"]\n[x', "anonymous"):
            self.assertRefused(f"tokens.{name}", "", name)
        self.assertRefused("tokens.bob.hash", "", "bob", "the token itself")
        self.assertRefused("tokens.bob.hash", WHOLE, "bob", HASH)
        self.assertRefused("tokens.bob.expires", "", "bob", expires=datetime(2027, 1, 1))  # noqa: DTZ001
        self.assertRefused("tokens.bob.targets[0]", "", "bob", targets=['"]\nsessions = 1\x7f'])
        self.assertRefused("tokens.bob.default_target", "", "bob", defaultTarget="box")
        self.assertRefused("tokens.bob.sessions", "", "bob", limits=Limits(sessions=0))
        self.assertRefused("tokens.bob.seconds", "", "bob", limits=Limits(seconds=float("inf")))

    def test_badFile(self) -> None:
        """A file that does not parse is not added to."""
        self.assertRefused("", "[", "bob")
        self.assertRefused("", "# \udcff", "bob")


class RemoveTests(SynchronousTestCase):
    """L{removeToken} takes a token out."""

    def test_undoesAdding(self) -> None:
        """To remove what was added last gives the text as it was."""
        for text in ("", "# mine\n", WHOLE):
            self.assertEqual(removeToken(addToken(text, "bob", hashToken("bob")), "bob"), text)

    def test_leavesTheRest(self) -> None:
        """The other tokens, the rules, and the comments around the table stay."""
        text = removeToken(WHOLE, "alice")
        self.assertEqual(
            text,
            '# what this gateway reaches\nrules = ["allow 10.0.0.0/8:22", "deny *"]\n\n# Alice, from the office\n'
            f'\n# the build server\n\n[tokens."build.server"]\nhash = "{OTHER_HASH}"\n',
        )

    def test_spellings(self) -> None:
        """A table is found however TOML lets its header be written."""
        for header in ("[tokens.alice]", " [ tokens . 'alice' ] # her", '["tokens"."alice"]', "[tokens.alice]\r"):
            self.assertEqual(removeToken(f'{header}\nhash = "{HASH}"\n', "alice"), "")

    def test_nameIsNoPattern(self) -> None:
        """A dot in the name is a dot."""
        text = token(name="axb") + token(name='"a.b"', digest=OTHER_HASH)
        self.assertEqual(list(parse(removeToken(text, "a.b")).tokens), ["axb"])

    def test_unknown(self) -> None:
        """A name that is not there is told."""
        error = self.assertRaises(TokensFileError, removeToken, WHOLE, "bob", "t.toml")
        self.assertEqual(str(error), "t.toml: tokens.bob: no such token")

    def test_notATable(self) -> None:
        """Spelt in a way that is not found line by line, a token is left to a person, and nothing is broken."""
        for text in (
            f'tokens = {{alice = {{hash = "{HASH}"}}}}\n',
            f'[tokens]\nalice.hash = "{HASH}"\n',
            f'[tokens."\\u0061lice"]\nhash = "{HASH}"\n',
            f'[tokens]\n# \u2028[tokens.alice]\nalice.hash = "{HASH}"\n',
        ):
            self.assertIn("alice", parse(text).tokens)
            error = self.assertRaises(TokensFileError, removeToken, text, "alice")
            self.assertIn("by hand", error.problem)
