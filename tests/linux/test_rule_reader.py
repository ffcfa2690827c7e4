"""Reading other programs' rules: nftables and iptables-legacy only after a change there."""

import json
import shutil
from collections.abc import Sequence

import pytest

from natmirror.linux import commands, rule_reader
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.unknown_form import UnknownFormError

SAVED = "*filter\n:FORWARD {policy} [0:0]\nCOMMIT\n"


def test_rules_are_read_again_only_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    numbers: list[int | None] = [7, 7, 8, None, None]

    def run(command: Sequence[str], package: str) -> str:
        runs.append(command[0])
        return '{"nftables": []}' if command[0] == "nft" else SAVED.format(policy="DROP")

    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(rule_reader, "generation", lambda: numbers.pop(0))
    monkeypatch.setattr(rule_reader, "legacy_is_in_use", lambda: False)
    monkeypatch.setattr(rule_reader, "fingerprint", lambda tables: "")
    monkeypatch.setattr(shutil, "which", lambda program: program)
    reader, both = RuleReader(), ["iptables-nft-save", "nft"]
    for expected in (both, [], both, both, both):
        runs.clear()
        assert [one.place for one in reader.read()] == ["iptables-nft -t filter FORWARD"]
        assert runs == expected
    prints = ["a", "a", "b", None, None]
    monkeypatch.setattr(rule_reader, "legacy_is_in_use", lambda: True)
    monkeypatch.setattr(rule_reader, "generation", lambda: 9)
    monkeypatch.setattr(rule_reader, "fingerprint", lambda tables: prints.pop(0))
    for expected in ([*both, "iptables-legacy-save"], [], *[["iptables-legacy-save"]] * 3):
        runs.clear()
        assert [one.place for one in reader.read()] == [
            "iptables-nft -t filter FORWARD",
            "iptables-legacy -t filter FORWARD",
        ]
        assert runs == expected


def test_a_chain_that_is_gone_is_not_reported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"family": "inet", "table": "fw", "handle": 1}
    chain = {**head, "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
    rulesets: list[list[dict[str, object]]] = [[{"chain": chain}], [], [{"chain": chain}], []]
    numbers = iter(range(4))
    monkeypatch.setattr(
        commands, "run", lambda command, package: json.dumps({"nftables": rulesets[0]}) if command[0] == "nft" else ""
    )
    monkeypatch.setattr(rule_reader, "generation", lambda: next(numbers))
    monkeypatch.setattr(rule_reader, "fingerprint", lambda tables: "")
    monkeypatch.setattr(shutil, "which", lambda program: program)
    reader = RuleReader()
    for expected in (["nft inet fw f"], [], ["nft inet fw f"], []):
        assert [one.place for one in reader.read()] == expected
        del rulesets[0]


@pytest.mark.parametrize(
    ("saved", "ruleset", "command"),
    [
        ("*filter\n-A OTHER -j DROP\n", '{"nftables": []}', "iptables-nft-save"),
        ("*filter\n:FORWARD\n", '{"nftables": []}', "iptables-nft-save"),
        ("", "", "nft -j -s list ruleset"),
        ("", '{"nftables": [{"chain": {"family": "inet"}}]}', "nft -j -s list ruleset"),
        ("", "[]", "nft -j -s list ruleset"),
    ],
)
def test_rules_in_an_unknown_form_are_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, saved: str, ruleset: str, command: str
) -> None:
    monkeypatch.setattr(commands, "run", lambda command, package: ruleset if command[0] == "nft" else saved)
    monkeypatch.setattr(rule_reader, "generation", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda program: program)
    with pytest.raises(UnknownFormError, match=command):
        RuleReader().read()
