"""Python reads C's constants from the library: no number is defined in both languages."""

import ast
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from natmirror._ffi import lib

PACKAGE = Path(__file__).parent.parent / "natmirror"
USERS_OF_THE_LIBRARY = {"engine", "fastpath", "linux", "mirror", "nat", "tcp"}
MODULES = sorted(PACKAGE.rglob("*.py"))
OUR_C_FILES = {path.name for path in PACKAGE.rglob("*.[ch]")}
IN_C = {(name, getattr(lib, name)) for name in dir(lib) if isinstance(getattr(lib, name), int | float)}


def number_constants(path: Path) -> Iterator[tuple[str, int | float, str]]:
    """Yield name and value of each number constant of a module, with its comment or docstring."""
    text = path.read_text(encoding="utf-8")
    lines, body = text.splitlines(), ast.parse(text).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.Assign) or node.end_lineno is None:
            continue
        comments = [line for line in lines[node.lineno - 2 : node.end_lineno] if "#" in line]
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            comments.append(str(following.value.value))
        pairs = [(target, node.value) for target in node.targets]
        for target, value in pairs:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            for name, number in zip(names, values, strict=False):
                try:
                    found = ast.literal_eval(number)
                except ValueError:
                    continue
                if isinstance(name, ast.Name) and isinstance(found, int | float):
                    yield name.id, found, "\n".join(comments)


def without_prefixes(name: str) -> set[str]:
    """Return a C name and its possible names in Python: NM_LEG_WINDOW, LEG_WINDOW, WINDOW."""
    return set(accumulate(reversed(name.split("_")), lambda done, part: f"{part}_{done}"))


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in USERS_OF_THE_LIBRARY],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_number_of_the_library_is_defined_again(path: Path) -> None:
    duplicates = {
        (name, in_c)
        for name, value, _ in number_constants(path)
        for in_c, same in IN_C
        if value == same and name.strip("_") in without_prefixes(in_c)
    }
    assert not duplicates


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_number_refers_to_a_c_file(path: Path) -> None:
    referring = {
        name for name, _, comments in number_constants(path) if OUR_C_FILES & set(re.findall(r"\w+\.[ch]\b", comments))
    }
    assert not referring


def test_a_number_that_is_defined_again_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('HALF_SEQ, HALF_ACK = 1, 2\n"""As in flow_table.h."""\n_LIMIT = 1.5  # see leg_sender.c\n')
    assert list(number_constants(module)) == [
        ("HALF_SEQ", 1, "As in flow_table.h."),
        ("HALF_ACK", 2, "As in flow_table.h."),
        ("_LIMIT", 1.5, "_LIMIT = 1.5  # see leg_sender.c"),
    ]
    assert without_prefixes("NM_HALF_SEQ") == {"NM_HALF_SEQ", "HALF_SEQ", "SEQ"}
