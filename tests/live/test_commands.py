"""A reader who types what the documents say sees what they show; tests/live/commands.py says how it is compared."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.commands import ROOT, Mismatch, Walk, blocks, shows

WITH_COMMANDS = [
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("[th]*/*.md")))
    if blocks(path.read_text(encoding="utf-8"))
]


@pytest.mark.live
@pytest.mark.beside
@pytest.mark.parametrize("document", WITH_COMMANDS)
def test_a_documents_commands_do_what_it_says(document: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.live.commands", document],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tutorial_and_the_readme_are_among_them() -> None:
    assert {"README.md", "docs/tutorial/first-mirror.md"} <= set(WITH_COMMANDS)


@pytest.mark.parametrize(
    ("expected", "missing"),
    [
        ("backend  state\nweb/one  up", None),
        ("web/one  down", "web/one  down"),
        ("web/one up\nbackend state", "backend state"),
        ("pid 7, up 3.5 s", None),
        ("10.0.0.1:9 …", None),
        ("web/one up …", None),
        ("web/one u …", "web/one u …"),
        ("10.0.0.2:9 …", "10.0.0.2:9 …"),
        ("pid", "pid"),
    ],
)
def test_numbers_and_dots_stand_for_others_but_addresses_do_not(expected: str, missing: str | None) -> None:
    output = "backend     state\nweb/one     up\npid 4711, up 12 s\n10.0.0.1:8080 is an address\n"
    assert shows(output, expected) == missing


def test_a_block_is_run_if_its_fence_names_a_host() -> None:
    text = "```sh\nno\n```\n\n1. one\n\n   ```sh lb exit=3\n   yes\n     more\n   ```\n"
    (block,) = blocks(text)
    assert (block.words, block.text, block.value("exit")) == (("lb", "exit=3"), "yes\n  more\n", "3")


def test_blocks_that_are_run_again_are_so_together(tmp_path: Path) -> None:
    text = "```sh here again\necho >>log\n```\n```sh here again\nwc -l <log\n[ $(wc -l <log) = 3 ]\n```\n"
    with pytest.raises(Mismatch, match="exit code 1"):
        Walk(tmp_path, str).follow(blocks(text))
    Walk(tmp_path, str).follow(blocks(text + "```text shows\n3\n```\n"))
