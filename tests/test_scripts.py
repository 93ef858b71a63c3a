"""Tests of the scripts that set a checkout up."""

import os
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

PYTHON = """\
#!/bin/sh
echo "$2" >> log
[ "$2" != venv ] || { rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python"; }
"""
"""Stands in for Python: writes down which module it is to run, and makes environments with itself in them."""


class VenvTests(SynchronousTestCase):
    """C{scripts/venv}."""

    def setUp(self) -> None:
        self.tree = Path(self.mktemp()).resolve()
        scripts = self.tree / "scripts"
        scripts.mkdir(parents=True)
        shutil.copy(ROOT / "scripts/venv", scripts)
        for name in ("setup.cfg", "pyproject.toml"):
            (self.tree / name).touch()
            os.utime(self.tree / name, (0, 0))
        for name, text in (("fakepython", PYTHON), ("python", f"#!/bin/sh\necho '{scripts}/fakepython'\n")):
            (scripts / name).write_text(text)
            (scripts / name).chmod(0o755)
        self.interpreter = self.tree / "environment/bin/python"

    def made(self) -> list[str]:
        """Run it, and return the modules that Python was to run."""
        log = self.tree / "log"
        log.write_text("")
        subprocess.run([self.tree / "scripts/venv", "environment"], check=True, capture_output=True, timeout=60)
        return [line for line in log.read_text().split() if line in ("venv", "pip")]

    def test_onlyWhenNeeded(self) -> None:
        """It makes an environment once, and installs again when the metadata is newer."""
        self.assertEqual(self.made(), ["venv", "pip"])
        self.assertEqual(self.made(), [])
        os.utime(self.tree / "setup.cfg", (2**32, 2**32))
        self.assertEqual(self.made(), ["pip"])

    def test_pythonIsGone(self) -> None:
        """An environment whose Python does not run any more, as after an upgrade of the system, is made anew."""
        self.made()
        self.interpreter.unlink()
        self.interpreter.symlink_to("/nonexistent/python")
        self.assertEqual(self.made(), ["venv", "pip"])
