"""Imports go downwards only, and the core knows nothing of the machine. A new module takes its place in LAYERS."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "natmirror"

# Lowest first. A module imports from rows below its own, never from its own: nat and mirror do not know each other.
# linux and lab are packages; what happens inside them is their own affair.
LAYERS = [
    {
        "actions",
        "errors",
        "exitcodes",
        "legstate",
        "queuehealth",
        "seq",
        "stats",
        "timers",
        "units",
        "_ffi",
        "_fastpath_build",
        "faults",
    },
    {"asking", "packet", "ranges", "yamlfile"},
    {"fastpath", "rules", "sack", "scalars", "throttle"},
    {"fitness", "hafile", "initial", "keepalived", "openflow", "reloading", "role", "rulestext"},
    {"masking", "rulesfile"},
    {
        "attempts",
        "balance",
        "congestion",
        "health",
        "icmp",
        "pool",
        "receiver",
        "rtt",
        "selection",
        "stream",
        "takeover",
    },
    {"registry", "sender", "shards", "tcp"},
    {"legbase"},
    {"mirror", "nat"},
    {"resuming"},
    {"ledger", "legs", "reading"},
    {"guard", "holding", "shadow"},
    {"legreport", "shadowing"},
    {"mirroring"},
    {"teardown"},
    {"guarded"},
    {"bindings", "failover", "handover", "icmperrors"},
    {"passage"},
    {"engine"},
    {
        "answering",
        "api",
        "capture",
        "chores",
        "exchange",
        "ha",
        "known",
        "linux",
        "logs",
        "model",
        "probes",
        "report",
        "sums",
    },
    {"queuekeeper"},
    {"duty", "orders", "replaynumbers", "worker"},
    {"files", "inplace", "mailbox", "replay", "shared", "steering"},
    {"overview", "upkeep"},
    {"changeover"},
    {"runner"},
    {"lab"},
    {"cli"},
    {"entry"},
    {"__main__"},
]
OUTSIDE_CORE = {
    "answering",
    "api",
    "asking",
    "changeover",
    "chores",
    "duty",
    "entry",
    "files",
    "exchange",
    "ha",
    "inplace",
    "known",
    "linux",
    "logs",
    "mailbox",
    "lab",
    "overview",
    "runner",
    "steering",
    "upkeep",
    "shared",
    "worker",
    "replay",
    "replaynumbers",
    "capture",
    "cli",
    "__main__",
    "_fastpath_build",
    "orders",
    "probes",
    "queuekeeper",
}
# linux serves whoever wants the machine; of ours it knows these alone.
KNOWN_TO_LINUX = {"actions", "errors", "packet", "rules", "shards", "stats", "_ffi"}
USERS_OF_THE_EXTENSION = {
    "natmirror.fastpath",
    "natmirror.linux.bypass",
    "natmirror.linux.loop",
    "natmirror.linux.nfqueue",
}
FORBIDDEN_IN_CORE = {"asyncio", "os", "random", "select", "signal", "socket", "subprocess", "threading", "time"}


def name_of(path: Path) -> str:
    """Return the dotted name of the module in a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [name for name in FILES if name != "natmirror"]


def imports(module: str) -> set[str]:
    """Return the dotted names that a module imports, wherever in its text; of our packages the very module."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                member = f"{source}.{alias.name}"
                found.add(member if member in FILES or member == "natmirror._ffi" else source)
    return found


def unit(module: str) -> str:
    """Return a module's name in LAYERS."""
    return module.split(".")[1]


def ours(module: str) -> set[str]:
    """Return which units of LAYERS a module imports from, its own left out."""
    found = {unit(name) for name in imports(module) if name.startswith("natmirror.")}
    return found - {unit(module)}


def row(name: str) -> int:
    rows = [index for index, layer in enumerate(LAYERS) if name in layer]
    assert len(rows) == 1, f"natmirror.{name} has to stand in exactly one row of LAYERS"
    return rows[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    upwards = {name for name in ours(module) if row(name) >= row(unit(module))}
    assert not upwards, f"{module} imports from its own layer or one above: {sorted(upwards)}"


@pytest.mark.parametrize("module", [name for name in MODULES if unit(name) not in OUTSIDE_CORE])
def test_core_has_no_clock_and_no_machine(module: str) -> None:
    assert not ours(module) & OUTSIDE_CORE
    assert not {name.split(".")[0] for name in imports(module)} & FORBIDDEN_IN_CORE


@pytest.mark.parametrize("module", [name for name in MODULES if unit(name) == "linux"])
def test_linux_knows_nothing_of_flows(module: str) -> None:
    assert ours(module) <= KNOWN_TO_LINUX


def test_extension_is_imported_in_two_places_only() -> None:
    users = {module for module in FILES if "natmirror._ffi" in imports(module)}
    assert users <= USERS_OF_THE_EXTENSION


def test_table_has_no_module_that_is_gone() -> None:
    assert set().union(*LAYERS) - {"_ffi"} - {unit(module) for module in MODULES} == set()
