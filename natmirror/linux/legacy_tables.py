"""Whether a program has changed the tables of iptables-legacy, by asking the kernel: it sends no notifications.

Running iptables-legacy-save would cost a hundred times as much, and packets would wait for it on a busy core.
"""

import ctypes
import hashlib
import socket
import struct
from collections.abc import Collection
from pathlib import Path

from natmirror.linux import descriptors

NAMES = Path("/proc/net/ip_tables_names")
"""The tables that programs have made. To ask the kernel for another one would make it."""

# linux/netfilter_ipv4/ip_tables.h
_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("=32sI5I5III")  # struct ipt_getinfo: the last two are the number and the size of the entries
_ENTRIES_AT = 40  # in struct ipt_get_entries, after the name and the size
# struct ipt_entry: next_offset, and counters of packets and bytes
_NEXT_AT, _COUNTERS_AT, _ENTRY_LEN = 90, 96, 112

_libc = ctypes.CDLL(None, use_errno=True)


def fingerprint(tables: Collection[str]) -> str | None:
    """Return a text that changes whenever a program changes one of these tables, but not with their counters; None
    where the kernel does not say."""
    digest = hashlib.sha256()
    try:
        with descriptors.enough(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as asking:
            for table in NAMES.read_text().split():
                if table in tables:
                    digest.update(table.encode() + without_counters(_entries(asking, table.encode())))
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    return digest.hexdigest()


def without_counters(entries: bytes) -> bytes:
    """Return a table's entries with counters of zero."""
    cleared, at = bytearray(entries), 0
    while at + _ENTRY_LEN <= len(cleared):
        cleared[at + _COUNTERS_AT : at + _ENTRY_LEN] = bytes(_ENTRY_LEN - _COUNTERS_AT)
        at += max(_ENTRY_LEN, struct.unpack_from("=H", entries, at + _NEXT_AT)[0])
    return bytes(cleared)


def _entries(asking: socket.socket, table: bytes) -> bytes:
    """Return a table's entries. OSError where the kernel refuses, or a program has just changed their number."""
    *_, size = _INFO.unpack(_ask(asking, _GET_INFO, table.ljust(_INFO.size, b"\0")))
    question = struct.pack("=32sI4x", table, size) + bytes(size)
    return _ask(asking, _GET_ENTRIES, question)[_ENTRIES_AT:]


def _ask(asking: socket.socket, option: int, question: bytes) -> bytes:
    """Return the answer to a question, which getsockopt() writes over it."""
    buffer, length = ctypes.create_string_buffer(question, len(question)), ctypes.c_uint32(len(question))
    if _libc.getsockopt(asking.fileno(), socket.IPPROTO_IP, option, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "iptables-legacy does not answer")
    return buffer.raw
