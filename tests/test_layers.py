"""Imports only go down, the core does not depend on the machine, and no file is too long.

A new package takes its place in tests/helpers/layers.py; inside a package there are no circular imports.
"""

import ast
from pathlib import Path

import pytest

from tests.helpers.layers import LAYERS, row

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "natmirror"

MAX_LEVELS = 10
CORE = {
    "actions",
    "engine",
    "errors",
    "fastpath",
    "histograms",
    "mirror",
    "nat",
    "net",
    "openflow",
    "reasons",
    "rules",
    "tcp",
}
FORBIDDEN_IN_CORE = {"asyncio", "os", "random", "select", "signal", "socket", "subprocess", "threading", "time"}
IMPORTED_BY_LINUX = {"_ffi", "actions", "errors", "findings", "histograms", "net", "reasons", "rules", "threads"}
USERS_OF_THE_EXTENSION = {"fastpath", "linux"}
IMPORT_NOTHING = ("natmirror", "natmirror.cli", "natmirror.ha")
"""Packages that ``natmirror health`` imports: it runs every second, so their ``__init__`` imports nothing."""
MAX_LINES = {".py": 400, ".c": 600, ".h": 600}
ABOVE_THE_LIMIT: set[str] = set()
"""Files that exceed the limit and have to be split."""
GENERATED = {"_ffi.c"}


def name_of(path: Path) -> str:
    """Return the dotted name of a module of the package from its file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [name for name in FILES if name != "natmirror"]
SOURCES = sorted(
    path
    for folder in (PACKAGE, ROOT / "bench")
    for path in folder.rglob("*")
    if path.suffix in MAX_LINES and path.name not in GENERATED
)


def imports(module: str, *, when_imported: bool = False) -> set[str]:
    """Return the dotted names that a module imports, anywhere or only at the top level; of natmirror the modules
    themselves, not their members."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if when_imported else ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                found.add(member if member in FILES or member == "natmirror._ffi" else str(node.module))
    return found


def unit(module: str) -> str:
    """Return the package of natmirror, or the top-level module, that a module belongs to."""
    return module.split(".")[1]


def ours(module: str) -> set[str]:
    """Return the units that a module imports from, except its own."""
    found = {unit(name) for name in imports(module) if name.startswith("natmirror.")}
    return found - {unit(module)}


def test_there_are_not_too_many_layers() -> None:
    assert len(LAYERS) <= MAX_LEVELS


def test_layers_name_only_existing_packages() -> None:
    assert {name for layer in LAYERS for name in layer} - {"_ffi"} - {unit(module) for module in MODULES} == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    upwards = {name for name in ours(module) if row(name) <= row(unit(module))}
    assert not upwards, f"{module} imports from its own row or one above: {sorted(upwards)}"


def test_there_are_no_circular_imports() -> None:
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "a circular import: " + " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for name in sorted(imports(module) & FILES.keys() - {module}):
                visit(name, (*trail, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", [name for name in MODULES if unit(name) in CORE])
def test_the_core_has_no_clock_and_no_io(module: str) -> None:
    assert ours(module) <= CORE | {"_ffi"}
    assert not {name.split(".")[0] for name in imports(module)} & FORBIDDEN_IN_CORE


@pytest.mark.parametrize("module", [name for name in MODULES if unit(name) == "linux"])
def test_linux_does_not_depend_on_flows(module: str) -> None:
    assert ours(module) <= IMPORTED_BY_LINUX


def test_only_its_users_import_the_extension() -> None:
    assert {unit(module) for module in MODULES if "natmirror._ffi" in imports(module)} <= USERS_OF_THE_EXTENSION


@pytest.mark.parametrize("module", IMPORT_NOTHING)
def test_packages_of_the_health_command_import_nothing(module: str) -> None:
    assert imports(module, when_imported=True) == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if str(path.relative_to(ROOT)) not in ABOVE_THE_LIMIT:
        assert lines <= MAX_LINES[path.suffix], f"{lines} lines: split it by its jobs"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_module_is_imported(path: Path) -> None:
    """Shared code of tests is in tests/helpers, in a conftest.py or, for live tests, in tests/live."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    modules = {part for name in names if name.split(".")[0] in {"tests", "None"} for part in name.split(".")}
    shared = {name for name in modules if name.startswith("test_")}
    assert not shared, f"move what is shared out of {sorted(shared)}"


@pytest.mark.parametrize("package", sorted(path.parent for path in PACKAGE.rglob("__init__.py")), ids=str)
def test_each_package_has_a_docstring_as_its_map(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    assert text
    assert 3 <= len(text.splitlines()) <= 10
