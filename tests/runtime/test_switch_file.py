"""The file of known switches."""

import os
from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.runtime import switch_file, whole_file

SWITCHES = [{"client": "10.10.0.11:40001", "datapath_id": 7, "auxiliary_id": 0, "version": 4, "answers": []}]


def test_switches_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "run" / "known.json"
    assert switch_file.load(file) == []
    switch_file.save(file, SWITCHES)
    assert switch_file.load(file) == SWITCHES
    switch_file.save(file, [])
    assert switch_file.load(file) == []
    assert [path.name for path in file.parent.iterdir()] == ["known.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 2, "switches": []}', '{"format": 1, "switches": {}}', "ä"]
)
def test_a_malformed_file_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "known.json"
    file.write_text(text)
    with pytest.raises(HostError, match=r"known\.json: "):
        switch_file.load(file)


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"known\.json: "):
        switch_file.save(tmp_path / "file" / "known.json", SWITCHES)


def test_a_file_is_on_the_disk_before_it_replaces_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "known.json"
    switch_file.save(file, [])
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(fd: int) -> None:
        done.append(f"sync {os.readlink(f'/proc/self/fd/{fd}')}")
        fsync(fd)

    def noted_replace(one: Path, to: Path) -> Path:
        done.append(f"replace {one}")
        return replace(one, to)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    switch_file.save(file, SWITCHES)
    beside = done[1].removeprefix("replace ")
    assert done == [f"sync {beside}", f"replace {beside}", f"sync {tmp_path}"]
    assert (file.stat().st_mode & 0o077, switch_file.load(file)) == (0, SWITCHES)


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "known.json"
    switch_file.save(file, SWITCHES)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostError, match=r"known\.json: No space left"):
        switch_file.save(file, [])
    assert switch_file.load(file) == SWITCHES
    assert [path.name for path in tmp_path.iterdir()] == ["known.json"]


def test_what_a_killed_run_was_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".known.json.abc", ".known2.json.abc", "known.json"):
        (tmp_path / name).touch()
    whole_file.remove_unfinished(tmp_path / "known.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".known2.json.abc", "known.json"]
