"""
What people install is what we mean to ship, and C{twistd} finds it there.

A flat layout that adds to Twisted's own C{plugins} directory is easily packaged wrongly, in ways that no test run
from the source tree can see. Everything here works on a copy of the tree, and without a network.
"""

import ast
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import twisted
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ("gateway", "twisted")
"""The directories that the distribution is made of."""

OFFLINE = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")


def run(*command: str | Path, cwd: Path) -> str:
    """
    Run a command to its end, away from the source tree.

    @return: what it printed.
    @raise AssertionError: with what it printed, if it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, f"{command}: {process.stdout}{process.stderr}"
    return process.stdout


def pluginNames() -> set[str]:
    """The names under which our plugins are to appear, read from the source without importing it."""
    names = set()
    for path in (ROOT / "twisted" / "plugins").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ServiceMaker":
                arguments = {keyword.arg: keyword.value for keyword in node.keywords}
                tapname = arguments["tapname"] if "tapname" in arguments else node.args[3]
                names.add(ast.literal_eval(tapname))
    return names


class PackagingTests(SynchronousTestCase):
    """The distribution, built and installed."""

    def setUp(self) -> None:
        """Copy the tree, so that building leaves nothing behind in it."""
        self.work = Path(self.mktemp()).resolve()
        self.tree = self.work / "tree"
        self.tree.mkdir(parents=True)
        for name in SHIPPED:
            ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
            shutil.copytree(ROOT / name, self.tree / name, ignore=ignored)
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.tree)

    def makeEnvironment(self) -> Path:
        """
        Make a virtual environment that has our dependencies and not us.

        @return: the path of its Python.
        """
        directory = self.work / "venv"
        venv.create(directory, symlinks=True)
        (purelib,) = (directory / "lib").glob("python*/site-packages")
        # Twisted's directory is where everything else is installed too. A .pth file in there, such as an
        # editable install of ourselves, is not followed.
        (purelib / "dependencies.pth").write_text(str(Path(twisted.__file__).parent.parent))
        return directory / "bin" / "python"

    def twistdCommands(self, python: Path) -> set[str]:
        """The commands that C{twistd --help} lists."""
        output = run(python, "-c", "from twisted.scripts.twistd import run; run()", "--help", cwd=self.work)
        _, _, commands = output.partition("Commands:")
        return {line.split()[0] for line in commands.splitlines() if line.strip()}

    def checkInstall(self, *arguments: str | Path) -> None:
        """Check that an install with C{pip} adds our plugins to a Twisted that did not have them."""
        python = self.makeEnvironment()
        self.assertEqual(self.twistdCommands(python) & pluginNames(), set())
        run(sys.executable, "-m", "pip", "--python", python, "install", *OFFLINE, *arguments, cwd=self.work)
        self.assertEqual(pluginNames() - self.twistdCommands(python), set())
        self.assertIn("web", self.twistdCommands(python))
        self.assertTrue((python.parent / "gateway").exists(), "there is no gateway command")

    def test_wheel(self) -> None:
        """The wheel holds every module of the package and of the plugins, and nothing else."""
        run(sys.executable, "-m", "pip", "wheel", *OFFLINE, "--wheel-dir", self.work, self.tree, cwd=self.work)
        (wheel,) = self.work.glob("*.whl")
        with ZipFile(wheel) as archive:
            held = {name for name in archive.namelist() if ".dist-info/" not in name}
        sources = {
            str(path.relative_to(ROOT))
            for name in SHIPPED
            for path in (ROOT / name).rglob("*")
            if path.suffix == ".py" or path.name == "py.typed"
        }
        self.assertEqual(held, sources)

    def test_plugin(self) -> None:
        """There is a plugin, and it is the one that the documentation names."""
        self.assertIn("tabby-gateway", pluginNames())

    def test_install(self) -> None:
        """After C{pip install .}, C{twistd} has our commands and still has its own."""
        self.checkInstall(self.tree)

    def test_editableInstall(self) -> None:
        """After C{pip install -e .}, C{twistd} has our commands and still has its own."""
        self.checkInstall("--editable", self.tree)
