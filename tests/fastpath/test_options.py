"""C and Python read the same TCP options from the same bytes."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror._ffi import ffi, lib
from natmirror.fastpath import NO_WINDOW_SCALE
from natmirror.net.packet import MPTCP_NO_SUBTYPE
from tests.helpers.support import CLIENT, SERVICE, packet, segment

TIMESTAMPS = struct.pack("!BBII", 8, 10, 0xFFFF_FFFF, 7)
WINDOW_SCALE = bytes((3, 3, 15))
MP_CAPABLE = bytes((30, 4, 0x01, 0x01))
MP_JOIN = bytes((30, 12, 0x10)) + bytes(9)
ABSENT = (None, None, 0)

PIECES = st.sampled_from(
    [b"\0", b"\1", b"\1\1", TIMESTAMPS, WINDOW_SCALE, MP_CAPABLE, MP_JOIN, b"\x1e\2", b"\x1e\1", b"\x08\x09", b"\3\2"]
) | st.binary(max_size=4)


def padded(options: bytes) -> bytes:
    options = options[:40]
    return options + bytes(-len(options) % 4)


def read_in_c(options: bytes) -> tuple[tuple[int, int] | None, int | None, int]:
    # A buffer of exactly this length, for the sanitizer to see a read past it.
    at, found = ffi.new("uint8_t[]", list(options)), ffi.new("nm_options *")
    lib.nm_read_options(at, len(options), found)
    timestamps = (found.tsval, found.tsecr) if found.has_timestamps else None
    return timestamps, None if found.window_scale == NO_WINDOW_SCALE else found.window_scale, found.mptcp


def read_in_python(options: bytes) -> tuple[tuple[int, int] | None, int | None, int]:
    parsed = segment(packet(CLIENT, SERVICE, "A", 1, 1, b"\x1e\4\x50\0data", options=options))
    return parsed.timestamps(), parsed.window_scale(), parsed.mptcp()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"", ABSENT),
        (b"\1\1" + TIMESTAMPS, ((0xFFFF_FFFF, 7), None, 0)),
        (TIMESTAMPS + b"\1\1", ((0xFFFF_FFFF, 7), None, 0)),
        (b"\1" + WINDOW_SCALE + b"\1\1" + TIMESTAMPS, ((0xFFFF_FFFF, 7), 14, 0)),
        (MP_CAPABLE, (None, None, 1)),
        (MP_JOIN + MP_CAPABLE, (None, None, 3)),
        (b"\1\1\x1e\2", (None, None, MPTCP_NO_SUBTYPE)),
        (b"\0\1\1\1" + MP_CAPABLE, ABSENT),  # behind the end of the options
        (b"\1\1\x1e\x03", ABSENT),  # reaches into the data
        (b"\1\1\1\x1e", ABSENT),
        (b"\x05\1\1\1" + MP_CAPABLE, ABSENT),  # a length below 2
        (TIMESTAMPS + b"\x08\2", ((0xFFFF_FFFF, 7), None, 0)),  # a wrong length: ignored, as in Linux
        (WINDOW_SCALE + b"\3\2\1\1\1", (None, 14, 0)),
        (WINDOW_SCALE + b"\3\4\5\6\1", (None, 14, 0)),
        (WINDOW_SCALE + b"\3\3\7\1\1", (None, 7, 0)),  # the last one counts
        (b"\3\1" + WINDOW_SCALE + b"\1\1\1", ABSENT),
    ],
)
def test_examples(options: bytes, expected: Any) -> None:
    assert read_in_c(options) == read_in_python(options) == expected


@given(st.lists(PIECES, max_size=12).map(b"".join).map(padded) | st.binary(max_size=40).map(padded))
def test_both_read_the_same(options: bytes) -> None:
    assert read_in_c(options) == read_in_python(options)
