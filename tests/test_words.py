"""docs/words.md defines each term once, and the words that it retires are not used any more."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "natmirror"
PAGE = ROOT / "docs" / "words.md"
DEFINED, _, RETIRED = PAGE.read_text(encoding="utf-8").partition("## Not used\n")
ROW = re.compile(r'^\| <a id="[\w-]+"></a>\*\*(.+?)\*\* \| (.+) \| `(.+)` \|$', re.MULTILINE)
ROWS = ROW.findall(DEFINED)
TERMS = [term for terms, _, _ in ROWS for term in terms.split(", ")]
NOT_USED = [
    word for words in re.findall(r"^\| ([a-z, -]+) \| .+ \|$", RETIRED, re.MULTILINE) for word in words.split(", ")
]
NOT_USED = [word for word in NOT_USED if word != "not"]
SOURCES = [path for ending in ("py", "pyi", "c", "h") for path in PACKAGE.rglob(f"*.{ending}") if path.name != "_ffi.c"]
DOCUMENTS = [path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path != PAGE]


def test_each_line_of_the_tables_defines_a_word() -> None:
    lines = [line for line in DEFINED.splitlines() if line.startswith("| ") and not line.startswith("| word ")]
    wrong = [line for line in lines if not ROW.match(line)]
    assert not wrong, 'a line begins with: | <a id="new-word"></a>**new word** |'


def test_no_word_is_defined_twice() -> None:
    assert sorted(TERMS) == sorted(set(TERMS))


def test_each_word_has_an_anchor() -> None:
    anchors = re.findall(r'<a id="([^"]+)"></a>\*\*(.+?)\*\*', DEFINED)
    assert all(name == terms.split(", ")[0].lower().replace(" ", "-") for name, terms in anchors)
    assert len(anchors) == len(ROWS)


@pytest.mark.parametrize(("term", "module"), [(term, module) for term, _, module in ROWS])
def test_the_module_of_a_word_exists(term: str, module: str) -> None:
    assert (PACKAGE / module).is_file(), term


def test_no_word_is_defined_and_retired() -> None:
    assert NOT_USED
    assert set(TERMS) & set(NOT_USED) == set()


@pytest.mark.parametrize("word", NOT_USED)
def test_a_retired_word_is_not_used(word: str) -> None:
    pattern = re.compile(rf"(?<![^\W_]){word}(?![^\W_])", re.IGNORECASE)  # also as a part of a name
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in [*SOURCES, *DOCUMENTS]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found
