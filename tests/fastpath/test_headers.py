"""The C headers include each other downwards only, and constants of both C and Python have one value."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

from natmirror._ffi import lib
from natmirror.actions import Hook
from natmirror.net.checksum import Checksum
from natmirror.net.packet import MPTCP_NO_SUBTYPE

PACKAGE = Path(__file__).parent.parent.parent / "natmirror"
FILES = sorted(path for path in PACKAGE.rglob("*.[ch]") if path.name != "_ffi.c")


def includes(path: Path) -> set[str]:
    return set(re.findall(r'^#include "([^"]+)"', path.read_text(encoding="ascii"), re.MULTILINE))


def test_headers_include_each_other_without_a_cycle() -> None:
    graph = {str(path.relative_to(PACKAGE)): includes(path) for path in FILES if path.suffix == ".h"}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(graph), "each header that is included is there"


def test_the_fast_path_includes_no_io() -> None:
    """The files of fastpath/ include neither process() nor the code that does I/O."""
    for path in PACKAGE.glob("fastpath/*.[ch]"):
        assert all(name.startswith("fastpath/") for name in includes(path)), path.name
    assert not any(name.startswith("linux/") for name in includes(PACKAGE / "_fastpath.c"))


def test_the_constants_of_net_equal_the_librarys() -> None:
    """``net`` is below the extension's package and has its own copies."""
    assert [Checksum.UNVERIFIED, Checksum.VALID, Checksum.PARTIAL] == [
        lib.NM_CHECKSUM_UNVERIFIED,
        lib.NM_CHECKSUM_VALID,
        lib.NM_CHECKSUM_PARTIAL,
    ]
    assert lib.NM_MPTCP_NO_SUBTYPE == MPTCP_NO_SUBTYPE
    assert (Hook.PREROUTING, Hook.FORWARD, Hook.OUTPUT) == (0, 2, 3), "the kernel's NF_INET_*"
