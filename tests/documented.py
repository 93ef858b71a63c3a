"""
Read our own documentation: the examples, commands and tables that tests hold it to.

    for command in commands("gateway"):
        options.parseOptions(list(command.words[2:]))
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "ROOT", "Block", "Command", "blocks", "commands", "namedBlock", "pages", "tables"]

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_AFTER = frozenset({">", "|", "&"})
_ASSIGNMENT = re.compile(r"[A-Z][A-Z_]*=.*")


@dataclass(frozen=True, slots=True)
class Block:
    """
    A fenced block.

    @ivar page: where it is, relative to the project.
    @ivar language: of its first line, C{sh} for C{```sh} and for C{```{code-block} sh}.
    @ivar name: its C{:name:}, or empty.
    """

    page: str
    language: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """
    A command line that the documentation shows, without what sets variables before it, and what says where its output
    goes, or that it runs in the background, after it.
    """

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def pages() -> Iterator[tuple[str, str]]:
    """Every page that people read, with its text; what is built from them is none."""
    paths = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    for path in paths:
        if "_build" not in path.parts:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def blocks() -> Iterator[Block]:
    """Every fenced block of every page."""
    for page, text in pages():
        for match in _FENCE.finditer(text):
            body = "".join(line.removeprefix(match["indent"]) for line in match["body"].splitlines(keepends=True))
            name = ""
            while option := re.match(r":(\w+): (.*)\n", body):
                name = option[2] if option[1] == "name" else name
                body = body[option.end() :]
            yield Block(page, match["language"].removeprefix("{code-block}").strip(), name, body)


def namedBlock(name: str) -> Block:
    """
    @raise LookupError: no block has the name, or several have.
    """
    found = [block for block in blocks() if block.name == name]
    if len(found) != 1:
        raise LookupError(f"{len(found)} blocks are named {name}")
    return found[0]


def _lines(block: Block) -> Iterator[str]:
    text = block.text.replace("\\\n", " ")
    if block.language == "sh":
        yield from text.splitlines()
    elif block.language == "console":
        yield from (line[2:] for line in text.splitlines() if line.startswith("$ "))
    elif block.language == "ini":
        yield from (line.removeprefix("ExecStart=") for line in text.splitlines() if line.startswith("ExecStart="))


def commands(program: str) -> list[Command]:
    """Every command line of a program in the documentation and in the Makefile; its directory does not count."""
    shown = [(block.page, line) for block in blocks() for line in _lines(block)]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown += [("Makefile", line.strip().lstrip("@")) for line in makefile.splitlines() if line.startswith("\t")]
    found = []
    for page, line in shown:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a line of a longer construct, such as a quoted text
            continue
        while words and _ASSIGNMENT.fullmatch(words[0]):
            del words[0]
        words = words[: next((at for at, word in enumerate(words) if word in _AFTER), None)]
        if words and Path(words[0]).name == program:
            found.append(Command(page, tuple(words)))
    return found


def tables(page: str) -> dict[str, list[tuple[str, ...]]]:
    """
    The tables of a page.

    @param page: relative to C{docs/}.
    @return: by the paragraph or heading right before it, the rows of each table, its head left out; cells are as they
        were written, with C{\\|} read as C{|}.
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    title, rows = "", None
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            cells = tuple(cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            if rows is None:
                rows = found.setdefault(title, [])
            elif not set(cells[0]) <= set(":- ") or not cells[0]:
                rows.append(cells)
        else:
            rows = None
            title = line.strip("# ") or title
    return found
