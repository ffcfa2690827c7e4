"""Tables of iptables-legacy as the kernel gives them; no table is made."""

import ctypes
import errno
import socket
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from natmirror.linux import legacy_tables
from natmirror.linux.legacy_tables import fingerprint, without_counters


def entry(source: bytes, packets: int, more: bytes = b"") -> bytes:
    """Return a struct ipt_entry with a match or a target after it."""
    length = 112 + len(more)
    return source.ljust(88, b"\0") + struct.pack("=HHIQQ", 112, length, 0, packets, 60 * packets) + more


class Kernel:
    """Tables of iptables-legacy, behind getsockopt() as ip_tables.c has it: a question has the right length, and the
    one for entries the right size, or it is refused."""

    def __init__(self, **tables: bytes) -> None:
        self.tables = tables
        self.asked: list[str] = []
        self.changes_meanwhile = b""

    def fileno(self) -> int:
        return 5

    def getsockopt(self, file: int, level: int, option: int, buffer: Any, length: Any) -> int:
        assert (file, level, length._obj.value) == (5, socket.IPPROTO_IP, len(buffer))
        question, name = buffer.raw, buffer.raw[:32].rstrip(b"\0")
        self.asked.append(name.decode())
        entries = self.tables[name.decode()]
        size = struct.pack("=I", len(entries))
        if option == 64 and len(question) == 84:  # IPT_SO_GET_INFO: hooks, their entries and underflows, number, size
            buffer.raw = question[:32] + struct.pack("=11I", *range(11)) + struct.pack("=I", 4) + size
            self.tables[name.decode()] += self.changes_meanwhile
            return 0
        assert option == 65  # IPT_SO_GET_ENTRIES
        if question[32:36] != size or len(question) != 40 + len(entries):
            ctypes.set_errno(errno.EAGAIN)
            return -1
        buffer.raw = question[:40] + entries
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    made = Kernel(filter=entry(b"\x0a\0\0\1", 5, b"target" * 8), nat=entry(b"", 0), mangle=entry(b"", 0))
    monkeypatch.setattr(legacy_tables, "_libc", made)
    monkeypatch.setattr(socket, "socket", lambda *arguments: nullcontext(made))
    monkeypatch.setattr(legacy_tables, "NAMES", tmp_path / "names")
    legacy_tables.NAMES.write_text("nat\nfilter\nmangle\n")
    return made


def test_the_entries_of_those_tables_are_asked_for_that_are_there(kernel: Kernel) -> None:
    tables = ("filter", "nat", "raw")
    before = fingerprint(tables)
    assert kernel.asked == ["nat", "nat", "filter", "filter"]
    kernel.tables["filter"] = entry(b"\x0a\0\0\1", 8, b"target" * 8)
    kernel.tables["mangle"] = entry(b"\x0a\0\0\x09", 0)
    assert fingerprint(tables) == before, "counters, and another table"
    kernel.tables["filter"] += entry(b"\x0a\0\0\2", 0)
    assert fingerprint(tables) not in (before, None)
    kernel.tables["filter"] = entry(b"\x0a\0\0\1", 0, b"target" * 8)
    assert fingerprint(tables) == before
    legacy_tables.NAMES.write_text("nat\n")
    assert fingerprint(tables) not in (before, None), "a table has been removed"


def test_a_table_that_changes_between_two_questions_is_unknown(kernel: Kernel) -> None:
    kernel.changes_meanwhile = entry(b"\x0a\0\0\2", 0)
    assert fingerprint(["filter"]) is None
    kernel.changes_meanwhile = b""
    assert fingerprint(["filter"]) is not None


def test_counters_do_not_count_and_everything_else_does() -> None:
    first, second = entry(b"\x0a\0\0\1", 5, b"target" * 8), entry(b"\x0a\0\0\2", 0, b"other" * 8)
    read = without_counters(first + second)
    assert read == without_counters(entry(b"\x0a\0\0\1", 9, b"target" * 8) + entry(b"\x0a\0\0\2", 7, b"other" * 8))
    assert read != without_counters(second + first)
    assert read != without_counters(first + entry(b"\x0a\0\0\3", 0, b"other" * 8))
    assert read != without_counters(first + entry(b"\x0a\0\0\2", 0, b"OTHER" * 8))


def test_entries_that_make_no_sense_end_the_walk() -> None:
    assert without_counters(bytes(300)) == bytes(300)
    assert without_counters(b"short") == b"short"


def test_without_tables_or_rights_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("socket.socket", lambda *arguments: nullcontext())
    monkeypatch.setattr(legacy_tables, "NAMES", tmp_path / "missing")
    assert fingerprint(["raw"]) == "", "the kernel has no iptables-legacy"
    monkeypatch.setattr(legacy_tables, "NAMES", tmp_path)
    assert fingerprint(["raw"]) is None
