"""A dump: its parts, each within its time, in an archive for its owner alone."""

import json
import os
import re
import stat
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from natmirror.cli.commands import main
from natmirror.errors import HostError
from natmirror.support import archive, dump, host_parts
from natmirror.support.collecting import Collected, Part, collect, output_of
from natmirror.support.own_parts import _without_comment
from natmirror.support.scrubber import Scrubber
from tests.helpers.api import served
from tests.helpers.top import leg, status_at

RULES = """# rules of ACME
switches: [198.18.7.0/24]   # floor 3
services:
  - name: acme-web
    address: 198.18.7.100
    port: 8443
    pool: {backends: [{name: pump-house, address: 203.0.113.5}]}
    mirrors: [{name: "tower#2", address: 203.0.113.9}]
ha:
  key: 0123456789abcdef
  state: redis://bob:wachtwoord@203.0.113.77:6379/0
"""
ORIGINALS = ("198.18.7", "203.0.113", "acme", "pump-house", "tower#2", "0123456789abcdef", "wachtwoord", "bob", "floor")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["support-dump", *map(str, words)], catch_exceptions=False)


def read(file: Path) -> dict[str, str]:
    with tarfile.open(file) as opened:
        members = opened.getmembers()
        assert all(one.name.startswith("natmirror-support/") and one.mode == 0o600 and not one.uname for one in members)
        texts = {one.name.partition("/")[2]: opened.extractfile(one) for one in members}
        return {name: text.read().decode() for name, text in texts.items() if text is not None}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


@pytest.fixture(autouse=True)
def few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's parts are those that are quick."""
    monkeypatch.setattr(host_parts, "_COMMANDS", host_parts._COMMANDS[-3:])


def test_before_the_first_start_there_is_a_dump_that_says_what_is_missing(tmp_path: Path, rules: Path) -> None:
    file, map_file = tmp_path / "d.tar.gz", tmp_path / "map.json"
    result = run("-o", file, "--map", map_file, "--rules", rules, "--api", tmp_path / "none.sock")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"d\.tar\.gz: \d+ parts, \d+ bytes; \d+ could not be had", result.stdout)
    texts = read(file)
    assert texts["status.json"].startswith("not available: no natmirror answers on ")
    assert "status.json" in texts["README.txt"] and "not available: no natmirror" in texts["README.txt"]
    assert texts["rules-file.yaml"].splitlines()[1:4] == [
        "services:",
        "  - name: service-1",
        "    address: " + (texts["rules-file.yaml"].split("address: ")[1].split()[0]),
    ]
    assert "key: SECRET" in texts["rules-file.yaml"]
    assert "exit code 2" in texts["rules-check.txt"]  # the section ha lacks some keys
    everything = "\n".join(texts.values()).lower()
    assert [one for one in ORIGINALS if one.lower() in everything] == []
    for one in (file, map_file):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
    mapping = json.loads(map_file.read_text())
    assert mapping["pump-house"] == "backend-1" and mapping["198.18.7.100"].endswith(".100")
    assert "wachtwoord" not in map_file.read_text()


def test_a_running_natmirror_tells_its_state(tmp_path: Path, rules: Path) -> None:
    path, file = tmp_path / "api.sock", tmp_path / "d.tar.gz"
    rows = {"legs": lambda: [leg(1)], "ended": list, "verdict": list, "events": list}
    documents = {"status": lambda: status_at(1) | {"rules": str(rules)}, "rules": lambda: {"running": ["backend x"]}}
    with served(path, {**documents, **rows}):
        assert run("-o", file, "--api", path).exit_code == 0
    texts = read(file)
    status = json.loads(texts["status.json"])
    [mirror] = status["mirrors"]
    assert (mirror["service"], mirror["name"], mirror["state"]) == ("service-1", "mirror-1", "up")
    address = mirror["address"].partition(":")[0]
    assert address.endswith(".13") and not address.startswith("10.20")
    assert 'mirror="mirror-1"' in texts["metrics.txt"]
    [row] = json.loads(texts["legs-behind.json"])["items"]
    assert row["client"].endswith(".11:1") and row["mirror"] == "mirror-1"
    assert json.loads(texts["events.json"]) == []
    assert "acme-web" not in texts["rules-file.yaml"]  # the running natmirror names its file


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Collected(Part("a.txt", "A.", str), "a", "", 0.0)]
    monkeypatch.setattr(dump, "gather", lambda *_: (found, Scrubber(b"k", [])))
    file = tmp_path / "d.tar.gz"
    file.write_text("mine")
    for words in (["-o", file], ["-o", tmp_path / "other.tar.gz", "--map", file]):
        result = run(*words)
        assert (result.exit_code, file.read_text()) == (1, "mine")
        assert result.stderr == f"natmirror: {file} exists already: remove it, or name another file\n"
    assert not (tmp_path / "other.tar.gz").exists()
    result = run("-o", tmp_path / "none" / "d.tar.gz")
    assert result.stderr.endswith("No such file or directory\n")


def test_a_part_that_hangs_or_fails_costs_itself_alone() -> None:
    def fail() -> Any:
        raise HostError("the host\nrefuses")

    def crash() -> Any:
        raise KeyError("x")

    parts = [
        Part("hangs", "", lambda: time.sleep(30), timeout=0.05),
        Part("fails", "", fail),
        Part("crashes", "", crash),
        Part("empty", "", str),
        Part("works", "", lambda: {"a": 1}),
    ]
    found = collect(parts)
    assert [one.error for one in found] == [
        "it did not come within 0.05 s",
        "the host refuses",
        "KeyError: 'x'",
        "",
        "",
    ]
    assert [one.content for one in found[3:]] == ["there is nothing here\n", {"a": 1}]


def test_a_command_that_does_not_end_is_killed_and_what_it_printed_stays() -> None:
    text = output_of(["sh", "-c", "echo begins; sleep 30; echo ends"], timeout=0.5)
    assert text.splitlines()[1:] == ["begins", "it did not end within 0.5 s and was killed"]
    assert output_of(["sh", "-c", "echo bad >&2; exit 3"]).splitlines()[1:] == ["bad", "exit code 3"]


def test_the_kernels_masks_stay_and_known_datapath_ids_do_not(tmp_path: Path) -> None:
    found = [
        Collected(Part("own.txt", "Own.", str), "switch 00000000deadbeef", "", 0.1),
        Collected(Part("kernel.txt", "Kernel.", str, is_of_kernel=True), "SigBlk: 0000000000014002", "", 0.1),
        Collected(Part("known.txt", "Known.", str, is_of_kernel=True), "flow 0000a1b2c3d4e5f6", "", 0.1),
        Collected(Part("json.json", "JSON.", str), {"datapath_id": 0xA1B2C3D4E5F6}, "", 0.1),
    ]
    scrubber = Scrubber(b"key", [one.content for one in found[:3]], [found[3].content])
    archive.write(tmp_path / "d.tar.gz", found, scrubber, 0.0)
    texts = read(tmp_path / "d.tar.gz")
    assert texts["kernel.txt"] == "SigBlk: 0000000000014002"
    assert "deadbeef" not in texts["own.txt"]
    assert int(texts["known.txt"].split()[1], 16) == json.loads(texts["json.json"])["datapath_id"] != 0xA1B2C3D4E5F6


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a: 1  # c", "a: 1"),
        ("# c", ""),
        ("a: x#y", "a: x#y"),
        ("a: 'x # y' # c", "a: 'x # y'"),
        ('a: ["x # y"] #c', 'a: ["x # y"]'),
        ("a: don't # c", "a: don't"),
    ],
)
def test_comments_of_rules_are_left_out(line: str, shown: str) -> None:
    assert _without_comment(line) == shown


def test_processes_are_found_whether_they_answer_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_parts, "_NATMIRROR", re.compile(re.escape(os.fsencode(sys.executable))))
    monkeypatch.setattr(os, "getpid", lambda: 0)
    text = host_parts._processes()
    assert "# threads: id, name, state" in text and "# limits" in text
