"""The names in the documents exist: files, functions, types, constants."""

import re
from pathlib import Path

import pytest

from natmirror.rules import parse_rules

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *(f"docs/{path.parent.name}/{path.name}" for path in (ROOT / "docs").glob("[the]*/*.md")),
]
LINKED = {
    *DOCUMENTS,
    "CHANGELOG.md",
    *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
}
FOLDERS = ("natmirror", "tests", "bench", "docs", "scripts", "systemd", "rules", "pcaps", "monitoring")
SOURCES = {".py", ".pyi", ".c", ".h", ".yaml", ".yml", ".service", ""}
FOREIGN = {
    *("IFLA_AF_SPEC", "accept_local", "fib_multipath_hash_policy"),  # Linux
    *("first.yaml", "rules.yaml", "switches.json"),  # an operator's
}

FILES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
FILE_NAMES = {path.name for path in FILES} | {path.name for path in ROOT.glob("*")}
TEXT = "\n".join(
    path.read_text(encoding="utf-8")
    for path in [*FILES, ROOT / "Makefile", ROOT / "pyproject.toml"]
    if path.suffix in SOURCES and path.name not in ("_ffi.c", Path(__file__).name) and "__pycache__" not in path.parts
)
WORDS = set(re.findall(r"\w+", TEXT))


def named(text: str) -> list[str]:
    """Return the files and identifiers between backticks: words that end like a file name, have an underscore, or are
    written in CamelCase."""
    found = []
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for word in re.findall(r"[\w/]+\.(?:pyi|py|md|yaml|[ch])\b|\w+", quoted):
            last = word.rpartition("/")[2]
            if "." in last or re.search(r"\w_\w|^[A-Z][a-z]+[A-Z]", last):
                found.append(last)
    return found


def test_names_are_found() -> None:
    assert all(
        named((ROOT / document).read_text(encoding="utf-8")) for document in ("ARCHITECTURE.md", "docs/security.md")
    )


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: str) -> set[str]:
    """Return the anchors of a page: those of its headings, and those that it sets itself."""
    return {*map(anchor, re.findall(r"^#+ (.+)$", page, re.MULTILINE)), *re.findall(r'<a id="([^"]+)">', page)}


@pytest.mark.parametrize("document", sorted(LINKED))
def test_links_have_a_target(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, place = target.partition("#")
        page = path.parent / file if file else path
        assert page.exists(), target
        if place:
            assert place in anchors(page.read_text(encoding="utf-8")), target


def exists(test: str) -> bool:
    """Return whether a cell of a table names a test, as `file::function`, that exists."""
    found = re.fullmatch(r"`(\S+)::(\w+)`", test)
    if found is None:
        return False
    return bool(re.search(rf"^def {found[2]}\(", (ROOT / found[1]).read_text(encoding="utf-8"), re.MULTILINE))


def test_each_requirement_of_a_nat_names_its_test() -> None:
    text = (ROOT / "docs/requirements.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:REQ|§).*\|$", text, re.MULTILINE)
    assert len(rows) > 30
    for row in rows:
        _, answer, test = (cell.strip() for cell in row.strip("|").split("|"))
        assert exists(test) or ("::" not in test and answer.startswith(("do not apply", "does not apply"))), row


def test_each_attack_names_its_test() -> None:
    text = (ROOT / "docs/hostile.md").read_text(encoding="utf-8")
    _, _, *rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        *_, test = (cell.strip() for cell in row.strip("|").split("|"))
        assert exists(test), row


def test_each_limit_in_the_readme_names_its_test() -> None:
    limits = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## What it does not do")[2].partition("\n## ")[0]
    )
    tests = re.findall(r"<!-- (\S+) -->", limits)
    assert len(tests) == limits.count("\n- **")
    assert all((ROOT / test).is_file() for test in tests)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_all_names_in_a_document_exist(document: str) -> None:
    names = named((ROOT / document).read_text(encoding="utf-8"))
    missing = {name for name in names if name not in (FILE_NAMES if "." in name else WORDS | FILE_NAMES)}
    assert missing - FOREIGN == set()


@pytest.mark.parametrize(("document", "most"), [("ARCHITECTURE.md", 250), ("README.md", 150)])
def test_a_document_is_short_enough_to_be_read_whole(document: str, most: int) -> None:
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= most
    too_long = [line for line in lines if len(line) > 120]
    assert too_long == [], "lines longer than 120 characters"


SERVICE = "services:\n  - name: openflow\n    address: 10.10.0.100\n    port: 6653\n"
POOL = "    pool: {backends: [{name: c1, address: 10.20.0.11}]}\n"
WHAT_IS_LEFT_OUT = {
    "switches:": "",
    "services:": "",
    "known-switches:": "",
    "pool:": SERVICE,
    "mirrors:": SERVICE + POOL,
    "release:": SERVICE + POOL,
    "per-client:": SERVICE + POOL,
}
"""What examples lack, by their first key."""


def examples() -> list[tuple[str, str]]:
    """Return the documents' pieces of rules, each with its document."""
    found = [
        (name, re.findall(r"^```yaml\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.M | re.S))
        for name in DOCUMENTS
    ]
    return [(name, text) for name, texts in found for text in texts]


@pytest.mark.parametrize(("document", "text"), examples())
def test_examples_are_rules(document: str, text: str) -> None:
    first = text.split()[0]
    is_of_the_top = first in ("ha:", "limit-per-client:", "metrics:", "api:")
    whole = text + SERVICE + POOL if is_of_the_top else WHAT_IS_LEFT_OUT[first] + text
    parse_rules(
        whole if re.search("^switches:", whole, re.MULTILINE) else "switches: [10.10.0.0/24]\n" + whole, document
    )


PAGES_FOR_OPERATORS = (
    "README.md",
    *(f"docs/{name}.md" for name in ("rules", "running", "interruptions", "pair", "openflow", "security")),
)


@pytest.mark.parametrize("document", PAGES_FOR_OPERATORS)
def test_rules_keys_and_reasons_are_in_the_reference(document: str) -> None:
    reference = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    named_words = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", (ROOT / document).read_text(encoding="utf-8")))
    assert {word for word in named_words if f"`{word}`" not in reference} <= {"redis-server"}


def test_the_index_of_the_how_to_guides_has_each() -> None:
    folder = ROOT / "docs/how-to"
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "index.md").read_text(encoding="utf-8")))
    assert linked == {path.name for path in folder.glob("*.md")} - {"index.md"}


def test_the_tutorial_installs_natmirror_as_the_page_does_whose_commands_are_tested_in_a_bare_system() -> None:
    page = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    tutorial = (ROOT / "docs/tutorial/first-mirror.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"^(?:python3 -m venv|install -Dm644 systemd/|systemd-sysusers|systemctl enable).*", tutorial, re.M
    )
    assert len(lines) == 6
    assert [line for line in lines if f"    {line}\n" not in page] == []
