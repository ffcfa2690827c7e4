"""The files and names in the steps of CONTRIBUTING.md exist, and all existing kinds follow these steps."""

import ast
import re
from enum import StrEnum
from pathlib import Path
from unittest.mock import Mock

import pytest

from natmirror.api.resources import ROUTES, Kind
from natmirror.backends.probes import PROBES
from natmirror.cli.commands import main as cli
from natmirror.engine.counters import EngineCounter
from natmirror.events import EventKind
from natmirror.linux import iptables_rules
from natmirror.linux.iptables_rules import CHAINS, Chain
from natmirror.openflow.answers import ANSWERED
from natmirror.openflow.comparison import signatures
from natmirror.openflow.comparison.results import DifferenceKind
from natmirror.rules import kinds
from natmirror.rules.keys import SECTIONS
from natmirror.rules.tables import Section
from natmirror.runtime.api_control import commands

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("## To add something")[2].partition("\n## ")[0]
QUOTED = re.findall(r"`([^`]+)`", SECTION)
PLACES = [one for one in QUOTED if "/" in one]
NAMES = {one for one in QUOTED if re.fullmatch(r"_?[A-Z][a-zA-Z]+(\.(?!md)\w+)?|_[a-z]\w+|[a-z]+_\w+", one)}
KINDS = re.findall(r"^\*\*([^*]+)\*\*", SECTION, re.MULTILINE)


def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def defined(path: str) -> set[str]:
    """Return the names that a module defines; those inside a class have the class's name in front."""
    found: set[str] = set()

    def enter(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                enter(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    enter(ast.parse(source(path)).body, "")
    return found


def paragraph(title: str) -> str:
    return SECTION.partition(f"**{title}**")[2].partition("\n**")[0]


def test_the_list_of_kinds_is_complete() -> None:
    wanted = "scheduler", "key of the rules", "health check", "counter", "OpenFlow message", "mirror policy", "command"
    assert [one.partition(" ")[2] for one in KINDS] == [
        *wanted,
        *("kind of event", "kind of difference", "rule in the kernel"),
    ]


@pytest.mark.parametrize("title", KINDS)
def test_each_kind_has_a_list_of_steps(title: str) -> None:
    assert "\n1. " in paragraph(title)


@pytest.mark.parametrize("place", PLACES)
def test_the_places_to_change_exist(place: str) -> None:
    path, _, symbol = place.partition(":")
    assert (ROOT / path).exists()
    if symbol:
        assert symbol in defined(path)


def test_names_without_a_file_are_in_a_file_of_the_same_list() -> None:
    for title in KINDS:
        quoted = re.findall(r"`([^`]+)`", paragraph(title))
        files = [ROOT / one.partition(":")[0] for one in quoted if "/" in one]
        texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        for name in quoted:
            if name in NAMES:
                assert any(re.search(rf"\b{name.rpartition('.')[2]}\b", text) for text in texts), f"{title}: {name}"


@pytest.mark.parametrize("balance", kinds.Balance)
def test_schedulers_follow_the_steps(balance: kinds.Balance) -> None:
    makes_it = f"case Balance.{balance.name}:" in source("natmirror/nat/service_tables.py")
    assert makes_it, "ServiceTables.new_scheduler makes none"
    assert f"`{balance}`" in source("docs/reference/rules.md"), "run make reference"
    assert f"| `{balance}`" in source("docs/rules.md"), "the table of balance in docs/rules.md has no line for it"


@pytest.mark.parametrize("counter", EngineCounter)
def test_counters_are_counted(counter: EngineCounter) -> None:
    engine = (path for path in (ROOT / "natmirror/engine").glob("*.py") if path.name != "counters.py")
    users = [path.name for path in engine if f"EngineCounter.{counter.name}" in path.read_text(encoding="utf-8")]
    assert users, f"nothing in natmirror/engine counts {counter}"


@pytest.mark.parametrize("kind", kinds.CheckKind)
def test_health_checks_follow_the_steps(kind: kinds.CheckKind) -> None:
    assert PROBES[kind].__name__ in defined("natmirror/backends/probes.py")
    assert f"`{kind}`" in source("docs/reference/rules.md")
    assert f"CheckKind.{kind.name}" in source("tests/backends/test_probes.py")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_keys_of_the_rules_follow_the_steps(section: Section) -> None:
    text, page = source("natmirror/rules/text.py"), source("docs/reference/rules.md")
    for key in section.keys:
        assert f".{key.name.replace('-', '_')}" in text, "no text"
        assert f"| `{key.name}` |" in page


@pytest.mark.parametrize(
    "policy",
    [kinds.WhenBehind, kinds.MirrorProtocol, kinds.Reconnect, kinds.Unsolicited, kinds.Statistics, kinds.Verdict],
)
def test_mirror_policies_follow_the_steps(policy: type[StrEnum]) -> None:
    packages = [path for path in (ROOT / "natmirror").rglob("*.py") if path.name not in ("kinds.py", "file.py")]
    used = " ".join(path.read_text(encoding="utf-8") for path in packages)
    assert re.search(rf"\b{policy.__name__}\.[A-Z_]+\b", used)
    assert all(f"`{word}`" in source("docs/reference/rules.md") for word in policy)


COMMANDS = commands(Mock(), Mock(), overrides=Mock(), pools=Mock(), engines=(), reloader=Mock())
_WORDS = {
    "release-kernel": "cleanup",
    "pause": "mirror pause",
    "resume": "mirror resume",
    "add": "backend add",
    "remove": "backend remove",
}
"""The commands of the API that have other words on the command line."""


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_follow_the_steps(command: str) -> None:
    assert command in [route.name for route in ROUTES if route.kind is Kind.COMMAND]
    word = _WORDS.get(command, command)
    assert word.split()[0] in cli.commands
    assert f"## natmirror {word}\n" in source("docs/reference/commands.md")


@pytest.mark.parametrize("kind", EventKind)
def test_kinds_of_events_follow_the_steps(kind: EventKind) -> None:
    sources = [path for path in (ROOT / "natmirror").rglob("*.py") if path.name != "kinds.py"]
    assert any(f"EventKind.{kind.name}" in path.read_text(encoding="utf-8") for path in sources)
    assert f"| `{kind}` |" in source("docs/reference/state.md")


@pytest.mark.parametrize("kind", DifferenceKind)
def test_kinds_of_differences_follow_the_steps(kind: DifferenceKind) -> None:
    assert kind in signatures._ALIKE
    assert f"| `{kind}` |" in source("docs/reference/state.md")


def test_a_masters_questions_have_handlers() -> None:
    assert all(f"Type.{kind.name}: Answers." in source("natmirror/openflow/answers.py") for kind in ANSWERED)


def test_each_chain_is_installed_and_removed() -> None:
    assert {one for one in vars(iptables_rules).values() if isinstance(one, Chain)} == set(CHAINS)


def test_counters_in_c_are_read_by_name() -> None:
    header, rows = source("natmirror/fastpath/gear.h"), source("natmirror/fastpath/rows.py")
    report = source("natmirror/engine/report.py")
    body = re.findall(r"typedef struct \{([^}]*)\} nm_counters;", header)
    assert body, "nm_counters"
    counted = set(re.findall(r"uint64_t (\w+);", body[0]))
    assert counted
    assert counted <= set(EngineCounter)
    assert all(f"    {name}: " in rows and f"EngineCounter.{name.upper()}," in report for name in counted)
