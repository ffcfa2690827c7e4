"""The file of known switches."""

from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.runtime import switch_file

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
