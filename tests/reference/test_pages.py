"""The files in docs/reference are what the code gives."""

from pathlib import Path

from natmirror.reference.pages import FOLDER, PAGES, stale, write


def test_the_reference_is_up_to_date() -> None:
    assert stale(FOLDER) == [], "run make reference"


def test_a_file_that_differs_is_stale_and_so_is_one_that_is_no_page(tmp_path: Path) -> None:
    write(tmp_path)
    assert stale(tmp_path) == []
    changed = tmp_path / next(iter(PAGES))
    changed.write_text(changed.read_text() + "\n")
    (tmp_path / "notes.md").touch()
    assert stale(tmp_path) == sorted([changed.name, "notes.md"])


def test_a_missing_file_is_stale(tmp_path: Path) -> None:
    assert stale(tmp_path / "nowhere") == sorted(PAGES)
