"""
The rules of the source tree that no linter knows: what may import what, what things are called, how long they get.

L{gateway} has four floors, and imports only point down. C{docs/explanation/architecture.md} has the reasons::

    Module("gateway.wire.tabby", "from gateway.net import relay").importsAny("gateway.net")
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

FLOORS = ("wire", "net", "domain", "service")
"""From the ground up."""

NOT_SANS_IO = {
    "asyncio",
    "autobahn",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "twisted",
    "txaio",
}
"""What brings a clock, a log or I/O, which the wire floor does without."""

SAYS_NOTHING = {
    "base", "common", "component", "engine", "handler", "helper", "helpers", "manager", "misc", "processor", "util", "utils",
}  # fmt: skip
"""Names that tell a reader nothing about what is inside."""

MODULE_LINES = 400
TAP_LINES = 80
TAC_LINES = 25


@dataclass(frozen=True, slots=True)
class Module:
    """A source file, and what it imports."""

    name: str
    source: str
    isPackage: bool = False

    def parse(self) -> ast.Module:
        return ast.parse(self.source)

    def package(self) -> list[str]:
        """The parts of the name of the package that relative imports start from."""
        parts = self.name.split(".")
        return parts if self.isPackage else parts[:-1]

    def floor(self) -> str | None:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 and parts[1] in FLOORS else None

    def imports(self) -> set[str]:
        """
        Every name imported anywhere in the file, also in functions and for type checking only.

        C{from a import b} counts as C{a} and C{a.b}, as C{b} may be a module.
        """
        found: set[str] = set()
        for node in ast.walk(self.parse()):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                package = self.package()
                above = package[: len(package) - node.level + 1] if node.level else []
                origin = ".".join(above + ([node.module] if node.module else []))
                found.add(origin)
                found.update(f"{origin}.{alias.name}" for alias in node.names)
        return found

    def importsAny(self, *packages: str) -> list[str]:
        """Those imports that are one of the packages, or are inside one."""
        return sorted(
            name
            for name in self.imports()
            if any(name == package or name.startswith(f"{package}.") for package in packages)
        )

    def reactorImports(self) -> list[int]:
        """The lines on which the process-wide reactor is imported as soon as the module is."""

        def imports(node: ast.AST) -> bool:
            match node:
                case ast.ImportFrom(module="twisted.internet"):
                    return any(alias.name == "reactor" for alias in node.names)
                case ast.Import():
                    return any(alias.name == "twisted.internet.reactor" for alias in node.names)
            return False

        def visit(node: ast.AST) -> Iterator[int]:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt) and imports(child):
                    yield child.lineno
                if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                    yield from visit(child)

        return list(visit(self.parse()))


def sourceTree() -> list[Module]:
    """Every module of L{gateway}."""
    modules = []
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        isPackage = parts[-1] == "__init__"
        modules.append(Module(".".join(parts[:-1] if isPackage else parts), path.read_text(), isPackage))
    return modules


def upwardImports(module: Module) -> list[str]:
    """What a module on a floor imports from the floors above, or from outside the floors."""
    floor = module.floor()
    if floor is None:
        return []
    above = FLOORS[FLOORS.index(floor) + 1 :]
    return module.importsAny("gateway.testing", "tests", *(f"gateway.{name}" for name in above))


class FloorTests(SynchronousTestCase):
    """Imports only point down."""

    def test_importsPointDown(self) -> None:
        """No module imports from a floor above its own, nor our fakes."""
        self.assertEqual({m.name: upwardImports(m) for m in sourceTree() if upwardImports(m)}, {})

    def test_everyModuleHasAFloor(self) -> None:
        """Only the package itself and the fakes that we ship stand outside the floors."""
        homeless = {m.name for m in sourceTree() if m.floor() is None}
        self.assertEqual(homeless - {"gateway", "gateway.testing"}, set())

    def test_wireIsSansIO(self) -> None:
        """The wire floor imports nothing that has a clock, a log or I/O."""
        wire = [m for m in sourceTree() if m.floor() == "wire"]
        self.assertEqual({m.name: m.importsAny(*NOT_SANS_IO) for m in wire if m.importsAny(*NOT_SANS_IO)}, {})

    def test_autobahnInOneFile(self) -> None:
        """Autobahn stays behind one module, so that it can be replaced there."""
        users = {m.name for m in sourceTree() if m.importsAny("autobahn", "txaio")}
        self.assertEqual(users - {"gateway.net.websocketchannel"}, set())

    def test_reactorComesByArgument(self) -> None:
        """Importing a module never installs the process-wide reactor."""
        self.assertEqual({m.name: m.reactorImports() for m in sourceTree() if m.reactorImports()}, {})


class NameTests(SynchronousTestCase):
    """Names say what a thing is."""

    def test_modules(self) -> None:
        """No module has a name that says nothing."""
        names = [m.name for m in sourceTree() if SAYS_NOTHING & set(re.split(r"[._]", m.name))]
        self.assertEqual(names, [])

    def test_classes(self) -> None:
        """No class ends in a word that says nothing."""
        vague = re.compile("(" + "|".join(word.capitalize() for word in SAYS_NOTHING - {"base"}) + ")$")
        names = [
            f"{module.name}.{node.name}"
            for module in sourceTree()
            for node in ast.walk(module.parse())
            if isinstance(node, ast.ClassDef) and vague.search(node.name)
        ]
        self.assertEqual(names, [])


class SizeTests(SynchronousTestCase):
    """Files stay small enough to be read at one sitting."""

    def test_modules(self) -> None:
        """A long module is split, or its docstring has a line C{Length:} with the reason."""
        undefended = [
            module.name
            for module in sourceTree()
            if len(module.source.splitlines()) > MODULE_LINES
            and not re.search(r"^Length: \S", ast.get_docstring(module.parse()) or "", re.MULTILINE)
        ]
        self.assertEqual(undefended, [])

    def test_taps(self) -> None:
        """A C{*_tap.py} only assembles, so it is short."""
        lengths = {m.name: len(m.source.splitlines()) for m in sourceTree() if m.name.endswith("_tap")}
        self.assertEqual({name: lines for name, lines in lengths.items() if lines > TAP_LINES}, {})

    def test_tacs(self) -> None:
        """A C{.tac} file is an example to start from, so it is shorter still."""
        lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "tac").glob("*.tac")}
        self.assertEqual({name: lines for name, lines in lengths.items() if lines > TAC_LINES}, {})


LEAN = (
    "__future__",
    "twisted.application.service",
    "twisted.internet.interfaces",
    "twisted.plugin",
    "twisted.python.reflect",
    "zope.interface",
)
"""What every C{twistd} has imported anyway when it looks for plugins."""


class PluginTests(SynchronousTestCase):
    """Our part of C{twisted.plugins}, a directory that other packages have a part in too."""

    def test_notAPackage(self) -> None:
        """There is no C{__init__.py}, which would hide Twisted itself."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_importsNothingHeavy(self) -> None:
        """Every C{twistd} on the machine imports our plugins, so they hold names only."""
        for path in (ROOT / "twisted" / "plugins").glob("*.py"):
            with self.subTest(path.name):
                found = Module(f"twisted.plugins.{path.stem}", path.read_text()).imports()
                self.assertEqual({name for name in found if not name.startswith(LEAN)}, set())


class ModuleTests(SynchronousTestCase):
    """The tests above see what they must forbid."""

    def test_absoluteImports(self) -> None:
        """Imports count in functions, behind C{TYPE_CHECKING}, and of a name that may be a module."""
        source = "if X:\n    import gateway.domain.tokens as t\ndef f():\n    from gateway import service\n"
        module = Module("gateway.net.relay", source)
        self.assertEqual(upwardImports(module), ["gateway.domain.tokens", "gateway.service"])

    def test_relativeImports(self) -> None:
        """A relative import is the same as the absolute one."""
        up = Module("gateway.wire.tabby", "from ..net import relay")
        self.assertEqual(upwardImports(up), ["gateway.net", "gateway.net.relay"])
        package = Module("gateway.wire", "from ..net import relay", isPackage=True)
        self.assertEqual(upwardImports(package), ["gateway.net", "gateway.net.relay"])
        down = Module("gateway.net.relay", "from . import peek\nfrom ..wire import tabby")
        self.assertEqual(upwardImports(down), [])

    def test_similarNames(self) -> None:
        """A package is not mistaken for another one whose name it begins with."""
        self.assertEqual(Module("gateway.wire.x", "import timeit, osmium").importsAny("time", "os"), [])

    def test_reactor(self) -> None:
        """The reactor may be imported in a function, and nowhere else."""
        inFunction = "def f():\n    from twisted.internet import reactor\n"
        self.assertEqual(Module("gateway.net.x", inFunction).reactorImports(), [])
        inBlock = "try:\n    from twisted.internet import defer, reactor\nfinally:\n    pass\n"
        self.assertEqual(Module("gateway.net.x", inBlock).reactorImports(), [2])
        self.assertEqual(Module("gateway.net.x", "import twisted.internet.reactor").reactorImports(), [1])
