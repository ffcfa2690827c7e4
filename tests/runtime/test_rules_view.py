"""The rules that run, beside those in the file."""

import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from natmirror.rules import Backend, Override, OverrideKind, Overrides, load_rules
from natmirror.rules.text import describe
from natmirror.runtime.rules_view import RulesView
from tests.helpers.overrides import override
from tests.helpers.support import RULES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def test_the_file_is_compared_and_parsed_only_after_a_change(path: Path) -> None:
    parsed: list[int] = []
    rules = load_rules(path)
    view = RulesView(rules, Overrides, lambda: parsed.append(1))
    shown = view.show()
    assert (shown["path"], shown["running"]) == (str(path), describe(rules).splitlines())
    assert (shown["file"]["differs"], shown["file"]["differences"], shown["file"]["error"]) == (False, [], None)
    path.write_text("max-flows: 8192\n" + RULES)
    os.utime(path, ns=(1, 1_000_000_000))
    for _ in range(3):
        file = view.show()["file"]
    assert file["changed_at"] == "1970-01-01T00:00:01.000+00:00"
    assert file["differences"] == [f"- max-flows: {rules.max_flows}", "+ max-flows: 8192"]
    assert "max-flows: cannot change while natmirror runs; restart natmirror" in str(file["error"])
    assert len(parsed) == 2
    view.set(load_rules(path))
    assert view.show()["file"]["differs"] is False


def test_what_commands_have_changed_stands_beside_the_file(path: Path) -> None:
    rules = load_rules(path)
    added = Override(
        *(OverrideKind.ADD, "openflow", "c3", "10.20.0.15:6653", 0.0),
        backend=Backend("c3", IPv4Address("10.20.0.15"), 6653),
    )
    removed = override(rules, OverrideKind.REMOVE, "c1")
    overrides = Overrides({added.key: added, removed.key: removed})
    shown = RulesView(rules, lambda: overrides, lambda: None).show()
    assert shown["by_commands"] == [
        "- openflow: backend c1 10.20.0.11:6653 weight 1",
        "+ openflow: backend c3 10.20.0.15:6653 weight 1",
    ]
    assert "  backend c3 10.20.0.15:6653 weight 1" in shown["running"]
    assert shown["file"]["differs"] is False


def test_the_status_has_what_the_last_look_found(path: Path) -> None:
    view = RulesView(load_rules(path), Overrides, lambda: None)
    before = view.loaded()
    assert (before["file_differs"], before["file_error"]) == (False, None)
    path.write_text(RULES + "nonsense: 1\n")
    assert view.loaded() == before, "it waits for no disk"
    view.look()
    assert view.loaded()["file_differs"] and "nonsense" in str(view.loaded()["file_error"])
    path.write_text(RULES.replace("6653", "6654"))
    view.look()
    assert (view.loaded()["file_differs"], view.loaded()["file_error"]) == (True, None)
    view.set(load_rules(path))
    after = view.loaded()
    assert (after["file_differs"], after["file_error"]) == (False, None)
    assert len(after["version"]) == 8 and after["version"] not in ("", before["version"])
    assert view.show()["version"] == after["version"]


def test_the_version_is_that_of_the_rules_and_not_of_the_file(path: Path) -> None:
    version = RulesView(load_rules(path), Overrides, lambda: None).loaded()["version"]
    path.write_text("# the same rules\n" + RULES)
    assert RulesView(load_rules(path), Overrides, lambda: None).loaded()["version"] == version


def test_a_file_that_cannot_be_used_says_why(path: Path) -> None:
    view = RulesView(load_rules(path), Overrides, lambda: None)
    path.write_text(RULES + "nonsense: 1\n")
    file = view.show()["file"]
    assert file["differs"]
    assert "nonsense" in str(file["error"])
    path.unlink()
    assert view.show()["file"] == {
        "changed_at": None,
        "differs": True,
        "differences": [],
        "error": f"{path}: No such file or directory",
    }
