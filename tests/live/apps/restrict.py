"""Run a command with the systemd unit's limits on memory, system calls and address families: restrict.py COMMAND...

Without a systemd-analyze that lists its groups, system calls are not limited.
"""

import ctypes
import errno
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from natmirror.linux.systemd import take_variables
from tests.helpers.unitfile import lines, settings

# linux/prctl.h, linux/seccomp.h, linux/audit.h, linux/bpf_common.h
PR_SET_SECCOMP, PR_SET_MDWE = 22, 65
SECCOMP_MODE_FILTER, RET_ALLOW, RET_ERRNO, RET_KILL = 2, 0x7FFF0000, 0x00050000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16

libc = ctypes.CDLL(None, use_errno=True)


def prctl(*arguments: object) -> None:
    if libc.prctl(*arguments, *(ctypes.c_ulong(0),) * (5 - len(arguments))):
        raise OSError(ctypes.get_errno(), f"prctl{arguments}")


def calls(group: str) -> Iterator[str]:
    """Return the system calls in one of systemd's groups."""
    environment = dict(os.environ)
    take_variables(environment)  # systemd-analyze 257 notifies the manager of its end, and the test reads nothing yet
    command = ["systemd-analyze", "--no-pager", "syscall-filter", group]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    words = done.stdout.split("\n")[1:]
    for word in (word.strip() for word in words):
        if word.startswith("@"):
            yield from calls(word)
        elif word and not word.startswith("#"):
            yield word


def allowed() -> set[str]:
    """Return the system calls that the unit's filter allows."""
    found: set[str] = set()
    for line in lines("SystemCallFilter"):
        named = line.removeprefix("~").split()
        group = {call for word in named for call in (calls(word) if word.startswith("@") else [word])}
        found = found - group if line.startswith("~") else found | group
    return found


def numbers() -> dict[str, int]:
    """Return all system calls of this machine."""
    text = subprocess.run(
        ["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.MULTILINE)}


def program(calls: list[int], socket_call: int, families: list[int]) -> bytes:
    """Return the filter in BPF."""
    lines = [(LOAD, 0, 0, ARCHITECTURE_AT), (EQUALS, 1, 0, ARCHITECTURES[platform.machine()]), (RETURN, 0, 0, RET_KILL)]
    lines.append((LOAD, 0, 0, NUMBER_AT))
    for call in calls:
        lines += [(EQUALS, 0, 1, call), (RETURN, 0, 0, RET_ALLOW)]
    lines += [(EQUALS, 1, 0, socket_call), (RETURN, 0, 0, RET_ERRNO | errno.EPERM), (LOAD, 0, 0, FIRST_ARGUMENT_AT)]
    for family in families:
        lines += [(EQUALS, 0, 1, family), (RETURN, 0, 0, RET_ALLOW)]
    lines.append((RETURN, 0, 0, RET_ERRNO | errno.EAFNOSUPPORT))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def main() -> None:
    libc.prctl(PR_SET_MDWE, *map(ctypes.c_ulong, (1, 0, 0, 0)))  # Linux 6.3; older ones do without
    if shutil.which("systemd-analyze") and platform.machine() in ARCHITECTURES:
        by_name = numbers()
        some = [by_name[name] for name in sorted(allowed() & set(by_name)) if name != "socket"]
        families = [int(getattr(socket, name)) for name in settings("RestrictAddressFamilies")]
        code = program(some, by_name["socket"], families)
        buffer = ctypes.create_string_buffer(code)
        whole = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
        prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), whole)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
