"""Reading other programs' rules: nftables and iptables-legacy only after a change there."""

import shutil
from collections.abc import Sequence

import pytest

from natmirror.linux import commands, rule_reader
from natmirror.linux.rule_reader import RuleReader

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
