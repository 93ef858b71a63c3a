"""
C{gateway completion}: what makes a shell complete the words of our commands, written from the classes that read them::

    source <(gateway completion bash)       # or zsh
"""

__all__ = ["SHELLS", "CompletionOptions"]

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from twisted.python import usage

from gateway.service.main import COMMANDS
from gateway.service.options import CommandOptions

SHELLS = ("bash", "zsh")


class CompletionOptions(CommandOptions):
    """What C{gateway completion} can be told."""

    command = "gateway completion"
    synopsis = "bash|zsh"
    longdesc = """
    Prints what the shell has to read to complete commands, options and files: source <(gateway completion bash). To
    have it always, bash keeps it as ~/.local/share/bash-completion/completions/gateway, and zsh as the file _gateway in
    a directory of its fpath."""

    def parseArgs(self, *shells: str) -> None:
        """
        @raise usage.UsageError: it is not one of the two.
        """
        if len(shells) != 1 or shells[0] not in SHELLS:
            raise usage.UsageError("say bash or zsh")
        (self["shell"],) = shells

    def run(self) -> int:
        """
        @return: the exit status.
        """
        for line in _bash() if self["shell"] == "bash" else _zsh():
            print(line)
        return 0


@dataclass(frozen=True, slots=True)
class _Word:
    """
    A command, as a shell needs it.

    @ivar texts: by each option, which ends in C{=} if it takes a value, what it says.
    @ivar next: the words that may follow it.
    """

    name: str
    help: str
    texts: Mapping[str, str]
    next: Sequence[str]


def _words() -> Iterator[_Word]:
    for name, command in COMMANDS.items():
        options = command.makeOptions()
        below = {row[0]: row[2]() for row in getattr(options, "subCommands", ())}
        readers = [options, *below.values()]
        texts = {f"--{each}": reader.docs[each.rstrip("=")] for reader in readers for each in sorted(reader.longOpt)}
        yield _Word(name, command.help, texts, SHELLS if name == "completion" else list(below))


def _bash() -> Iterator[str]:
    yield "_gateway() {"
    yield "    local words= word=${COMP_WORDS[COMP_CWORD]}"
    yield '    case "$COMP_CWORD ${COMP_WORDS[1]} $word" in'
    yield f'        "1 "*) words="{" ".join(COMMANDS)}" ;;'
    for each in _words():
        yield f'        *" {each.name} -"*) words="{" ".join(text.rstrip("=") for text in each.texts)}" ;;'
        if each.next:
            yield f'        "2 {each.name} "*) words="{" ".join(each.next)}" ;;'
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o default -F _gateway gateway"


def _zsh() -> Iterator[str]:
    yield "#compdef gateway"
    yield "_gateway() {"
    commands = [_quoted(f"{each.name}:{each.help}") for each in _words()]
    yield f"    local -a commands=({' '.join(commands)})"
    yield "    (( CURRENT > 2 )) || { _describe command commands; return }"
    yield "    shift words; (( CURRENT-- ))"
    yield "    case $words[1] in"
    for each in _words():
        specs = [f"*{name}[{_plain(text)}]{':value:_files' * name.endswith('=')}" for name, text in each.texts.items()]
        specs.append(f"1:word:({' '.join(each.next)})" if each.next else "*:file:_files")
        yield f"        {each.name}) _arguments {' '.join(map(_quoted, specs))} ;;"
    yield "    esac"
    yield "}"
    yield '[[ $funcstack[1] != _gateway ]] || _gateway "$@"'  # a file of the fpath is the function's body, at first
    yield "compdef _gateway gateway"


def _plain(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"
