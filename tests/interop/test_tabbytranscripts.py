"""
The transcripts of L{tests.interop.tabbytranscripts}, played against ours and against the original.

Ours must do all that is written. The original must do it too, except where a divergence is recorded: there it must
fail in just the way that the document of differences says it does::

    python -m twisted.trial tests.interop.test_tabbytranscripts
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import makeAuthority
from tests.interop.gateways import ORIGINAL, OURS, Gateway, Program, environment, start
from tests.interop.tabbytranscripts import COMMAND_LINES, TRANSCRIPTS, CommandLine
from tests.interop.transcripts import Setup, Transcript, play
from tests.peers import require
from tests.processes import HERE

_HOW = "the original is missing: run scripts/peers"

_ALL = tuple(transcript for group in TRANSCRIPTS.values() for transcript in group)

_running: dict[tuple[str, str], Gateway] = {}


@cache
def certificates() -> Path:
    """Make an authority, and certificates of a server, a client and a stranger, once; return their folder."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    authority = makeAuthority("authority of the tests")
    authority.write(str(folder / "ca.pem"))
    for who, issuer in (("server", authority), ("client", authority), ("stranger", makeAuthority("another"))):
        issuer.issue(HERE).write(str(folder / who))
    return folder


def running(program: Program, setup: Setup) -> Gateway:
    """Return the gateway for C{setup}, started when it is not there: some of them serve dozens of transcripts."""
    key = (program.name, setup.name)
    gateway = _running.get(key)
    if gateway is not None and gateway.process.poll() is None:
        return gateway
    extra = setup.oursToo if program is OURS else ()
    options = [option.format(files=certificates()) for option in (*setup.options, *extra)]
    gateway = _running[key] = start(program, options, env=setup.env, admin=setup.admin)
    atexit.register(gateway.stop)
    return gateway


def perform(program: Program, transcript: Transcript, patience: float) -> str | None:
    """
    Play C{transcript} against C{program}.

    @return: as L{play}.
    """
    number = _ALL.index(transcript) + 1
    return play(
        transcript,
        running(program, transcript.setup),
        patience=patience,
        source=f"127.0.{number}.1",
        files=certificates(),
    )


def refuse(case: SynchronousTestCase, program: Program, line: CommandLine) -> None:
    """Check that C{program} refuses C{line} as it should."""
    command = [*program.command, *line.options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment({}), timeout=30)
    case.assertEqual(done.returncode, line.status, done.stderr)
    case.assertEqual([name for name in line.names if name not in done.stderr], [], done.stderr)
    case.assertNotIn("Traceback", done.stderr)


class OursTests(SynchronousTestCase):
    """Ours does all that is written."""

    def checkTranscript(self, transcript: Transcript) -> None:
        """Play C{transcript} as written, without a traceback in the log."""
        self.assertIsNone(perform(OURS, transcript, patience=5.0))
        self.assertNotIn("Traceback", running(OURS, transcript.setup).log())

    def checkCommandLine(self, line: CommandLine) -> None:
        """Refuse C{line} as the original does."""
        refuse(self, OURS, line)


class OriginalTests(SynchronousTestCase):
    """The original does what the transcripts, or their divergences, say of it."""

    def setUp(self) -> None:
        """The original is there."""
        require(ORIGINAL.installed, _HOW)

    def checkTranscript(self, transcript: Transcript) -> None:
        """
        Play C{transcript} as written, or with the outcome that is recorded. How a defect of the original shows is
        sometimes a race, so it has a few tries to show it as recorded.
        """
        if transcript.original is None:
            self.assertIsNone(perform(ORIGINAL, transcript, patience=5.0))
            return
        seen: list[str | None] = []
        while len(seen) < 4:
            seen.append(perform(ORIGINAL, transcript, patience=1.5))
            if seen[-1] in transcript.original.saw:
                return
        self.fail(f"{seen} instead of {transcript.original.saw}")

    def checkCommandLine(self, line: CommandLine) -> None:
        """Refuse C{line}."""
        refuse(self, ORIGINAL, line)


def _transcriptTest(transcript: Transcript) -> Callable[[OursTests | OriginalTests], None]:
    def test(self: OursTests | OriginalTests) -> None:
        self.checkTranscript(transcript)

    test.__doc__ = transcript.promise
    return test


def _commandLineTest(line: CommandLine) -> Callable[[OursTests | OriginalTests], None]:
    def test(self: OursTests | OriginalTests) -> None:
        self.checkCommandLine(line)

    test.__doc__ = line.promise
    return test


def _addTests(case: type[OursTests] | type[OriginalTests]) -> None:
    for transcript in _ALL:
        setattr(case, f"test_{transcript.name}", _transcriptTest(transcript))
    for line in COMMAND_LINES:
        setattr(case, f"test_commandLine_{line.name}", _commandLineTest(line))


_addTests(OursTests)
_addTests(OriginalTests)
