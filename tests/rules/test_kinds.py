"""The words that a rules key may choose between are listed once, and each has code that acts on it."""

import ast
import inspect
from enum import StrEnum
from pathlib import Path

import pytest

from natmirror.backends.probes import PROBES
from natmirror.errors import RulesError
from natmirror.rules import Balance, CheckKind, kinds, parse_rules
from tests.helpers.client_connection import engine
from tests.helpers.support import RULES

PACKAGE = Path(kinds.__file__).parent.parent
KINDS = [kind for _, kind in inspect.getmembers(kinds, inspect.isclass) if issubclass(kind, StrEnum) and list(kind)]
WORDS = {word.value for kind in KINDS for word in kind}


def compared_words(path: Path) -> set[str]:
    """Return the strings that a module compares something with."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            sides = [node.value]
        else:
            continue
        found.update(side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str))
    return found


ACT_ON_RULES = ("rules", "backends", "nat", "mirror", "engine", "replication", "runtime", "replay")
"""Packages. Elsewhere the same words may mean something else, such as options of the command line."""
SOURCES = [path for name in ACT_ON_RULES for path in sorted((PACKAGE / name).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_compares_with_a_word_of_a_kind(path: Path) -> None:
    assert compared_words(path) & WORDS == set(), "compare with the member of the enumeration in rules/kinds.py"


def test_each_kind_of_check_has_its_probe() -> None:
    assert list(PROBES) == list(CheckKind)


@pytest.mark.parametrize("balance", Balance)
def test_each_balance_has_a_scheduler(balance: Balance) -> None:
    assert engine(RULES.replace("    pool:\n", f"    pool:\n      balance: {balance}\n")).snapshot(0.0)["backends"]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("balance", kinds.Balance),
        ("hash", kinds.HashInput),
        ("when-none", kinds.WhenNone),
        ("when-down", kinds.WhenDown),
    ],
)
def test_a_pool_takes_each_word_of_its_kinds(key: str, kind: type[StrEnum]) -> None:
    for word in kind:
        pool = parse_rules(RULES.replace("    pool:\n", f"    pool:\n      {key}: {word}\n")).services[0].pool
        assert getattr(pool, key.replace("-", "_")) is word
    with pytest.raises(RulesError, match="expected " + " or ".join(kind)):
        parse_rules(RULES.replace("    pool:\n", f"    pool:\n      {key}: nonsense\n"))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("when-behind", kinds.WhenBehind),
        ("protocol", kinds.MirrorProtocol),
        ("reconnect", kinds.Reconnect),
        ("unsolicited", kinds.Unsolicited),
        ("statistics", kinds.Statistics),
        ("verdict", kinds.Verdict),
    ],
)
def test_a_mirror_takes_each_word_of_its_kinds(key: str, kind: type[StrEnum]) -> None:
    of_sessions = {*kinds.Unsolicited, *kinds.Statistics, *kinds.Verdict, kinds.Reconnect.NEXT_MESSAGE}
    for word in kind:
        more = ", protocol: openflow" if word in of_sessions else ""
        text = RULES.replace("10.20.0.13}", f"10.20.0.13, {key}: {word}{more}}}")
        assert getattr(parse_rules(text).services[0].mirrors[0], key.replace("-", "_")) is word
    with pytest.raises(RulesError, match="expected " + " or ".join(kind)):
        parse_rules(RULES.replace("10.20.0.13}", f"10.20.0.13, {key}: nonsense}}"))
