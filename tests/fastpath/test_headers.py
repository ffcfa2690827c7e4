"""The C headers include each other downwards only, and what C and Python both name has one value."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

from natmirror._ffi import lib
from natmirror.actions import Hook
from natmirror.net.checksum import Checksum

PACKAGE = Path(__file__).parent.parent.parent / "natmirror"
FILES = sorted(path for path in PACKAGE.rglob("*.[ch]") if path.name != "_ffi.c")


def includes(path: Path) -> set[str]:
    return set(re.findall(r'^#include "([^"]+)"', path.read_text(encoding="ascii"), re.MULTILINE))


def test_headers_include_each_other_without_a_circle() -> None:
    graph = {str(path.relative_to(PACKAGE)): includes(path) for path in FILES if path.suffix == ".h"}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(graph), "each header that is included is there"


def test_the_core_knows_nothing_of_the_machine() -> None:
    """The files of fastpath/ include neither process() nor the code that does I/O."""
    for path in PACKAGE.glob("fastpath/*.[ch]"):
        assert all(name.startswith("fastpath/") for name in includes(path)), path.name
    assert not any(name.startswith("linux/") for name in includes(PACKAGE / "_fastpath.c"))


def test_what_net_knows_without_the_library_is_what_the_library_says() -> None:
    """``net`` stands below the extension's door and types these again."""
    assert [Checksum.UNVERIFIED, Checksum.VALID, Checksum.PARTIAL] == [
        lib.NM_CHECKSUM_UNVERIFIED,
        lib.NM_CHECKSUM_VALID,
        lib.NM_CHECKSUM_PARTIAL,
    ]
    assert (Hook.PREROUTING, Hook.FORWARD, Hook.OUTPUT) == (0, 2, 3), "the kernel's NF_INET_*"
