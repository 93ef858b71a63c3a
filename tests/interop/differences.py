"""
Write C{docs/reference/tabby-differences.md} from the transcripts, so that the document says nothing untested::

    python -m tests.interop.differences
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.interop.tabbytranscripts import COMMAND_LINES, TRANSCRIPTS
from tests.interop.transcripts import Transcript

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/reference/tabby-differences.md"

_INTRODUCTION = """\
# Differences from tabby-connection-gateway 0.3.0

Every row is a conversation that the interop tests play against this gateway and against the original
(`tabby-connection-gateway==0.3.0` with `websockets<14`). The left column is what this gateway does. The right
column is what the original was seen to do: *the same*, or else.

This page is generated: change `tests/interop/tabbytranscripts.py` and run `python -m tests.interop.differences`.
"""


def generate() -> str:
    """Return the whole document."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION.rstrip("\n")
    for heading, transcripts in TRANSCRIPTS.items():
        yield from ("", f"## {heading}", "", "| this gateway | the original |", "|---|---|")
        yield from map(_row, transcripts)
    yield from ("", "## Command line", "", "Refused is: exit status 2, and a message that names the options.")
    yield from ("", "| this gateway | the original |", "|---|---|")
    for line in COMMAND_LINES:
        yield f"| {line.promise} | the same |"


def _row(transcript: Transcript) -> str:
    return f"| {transcript.promise} | {transcript.original.text if transcript.original else 'the same'} |"


if __name__ == "__main__":
    DOCUMENT.write_text(generate(), encoding="utf-8")
