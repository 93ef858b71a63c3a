"""Tests for L{gateway.service.completion}: the shells themselves run what is printed."""

import shlex
import shutil
import subprocess

from gateway.service.main import COMMANDS
from tests.peers import require
from tests.service.test_checkconfig import CommandTestCase

SECONDS = 30

ASK_BASH = """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_gateway
printf '%s\\n' "${COMPREPLY[@]}"
"""

# What zsh's own functions are told; they need a terminal to do more.
ASK_ZSH = """
compdef() { : }
_describe() { print -l -- $commands }
_arguments() { print -l -- "$@" }
words=("$@"); CURRENT=$#
"""


class CompletionTests(CommandTestCase):
    """
    C{gateway completion}.
    """

    def script(self, shell: str) -> str:
        """What is printed for a shell."""
        status, out, err = self.run_("completion", shell)
        self.assertEqual((status, err), (0, ""))
        return out

    def complete(self, *words: str) -> list[str]:
        """What bash offers for the last of the words."""
        require(shutil.which("bash") is not None, "bash is missing: apt-get install bash")
        text = self.script("bash") + ASK_BASH
        done = subprocess.run(["bash", "-c", text, "bash", *words], capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_commands(self) -> None:
        """The first word is a command."""
        self.assertEqual(self.complete("gateway", ""), list(COMMANDS))
        self.assertEqual(self.complete("gateway", "tabby"), ["tabby", "tabby-token"])

    def test_options(self) -> None:
        """What begins with a hyphen is an option of the command, or of the word after it; anything else is a file."""
        self.assertEqual(self.complete("gateway", "agent", "--to", "wss://x", "--se"), ["--secret-file"])
        self.assertEqual(self.complete("gateway", "tabby-token", "new", "--exp"), ["--expires"])
        self.assertEqual(self.complete("gateway", "serve", "--config", ""), [])

    def test_words(self) -> None:
        """A command that has words of its own offers them."""
        self.assertEqual(self.complete("gateway", "tabby-token", ""), ["new", "list", "revoke"])
        self.assertEqual(self.complete("gateway", "completion", "z"), ["zsh"])

    def test_zsh(self) -> None:
        """zsh is told the same, with the help of each, whether the file is sourced or in the fpath."""
        require(shutil.which("zsh") is not None, "zsh is missing: apt-get install zsh")
        script = self.script("zsh")
        self.assertTrue(script.startswith("#compdef gateway\n"))
        for call in (f"{script}_gateway", f"_gateway() {{ {script} }}; _gateway; unfunction _gateway"):
            for words, expected in (
                (("gateway", ""), [f"{name}:{command.help}" for name, command in COMMANDS.items()]),
                (("gateway", "secret", "-"), ["*--help[Display this help and exit.]", "*:file:_files"]),
                (("gateway", "completion", ""), ["1:word:(bash zsh)"]),
            ):
                with self.subTest(shlex.join(words)):
                    done = subprocess.run(
                        ["zsh", "-f", "-c", f"{ASK_ZSH}{call}", "zsh", *words],
                        capture_output=True,
                        text=True,
                        timeout=SECONDS,
                    )
                    self.assertEqual(done.stderr, "")
                    self.assertLessEqual(set(expected), set(done.stdout.splitlines()))

    def test_unknownShell(self) -> None:
        """Another shell, or none, is status 2."""
        for words in ((), ("fish",), ("bash", "zsh")):
            self.assertEqual(self.run_("completion", *words)[0], 2)
