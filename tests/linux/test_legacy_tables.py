"""Tables of iptables-legacy as the kernel gives them; no table is made."""

import struct
from contextlib import nullcontext
from pathlib import Path

import pytest

from natmirror.linux import legacy_tables
from natmirror.linux.legacy_tables import fingerprint, without_counters


def entry(source: bytes, packets: int, more: bytes = b"") -> bytes:
    """Return a struct ipt_entry with a match or a target after it."""
    length = 112 + len(more)
    return source.ljust(88, b"\0") + struct.pack("=HHIQQ", 112, length, 0, packets, 60 * packets) + more


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
