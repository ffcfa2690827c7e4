"""Describe the extension ``natmirror._ffi`` to cffi; setup.py runs this from the source root.

API mode: the compiler sees the real headers, so Python cannot assume another layout than C's.
``NATMIRROR_STRICT=1`` in the environment turns the compiler's warnings into errors, ``NATMIRROR_SANITIZE=1`` builds
with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import os
import re
from pathlib import Path

from cffi import FFI

PACKAGE = Path("natmirror")
SOURCES = sorted(
    path for folder in (".", "fastpath", "linux") for path in PACKAGE.glob(f"{folder}/*.c") if path.name != "_ffi.c"
)
# The headers that Python sees, each after those that it includes. The other headers are for C files only.
HEADERS = (
    *("fastpath/flow_states.h", "fastpath/tcp_constants.h", "fastpath/options.h", "fastpath/hash.h", "fastpath/heap.h"),
    *("fastpath/checksum_states.h", "fastpath/budget.h", "fastpath/byte_ring.h", "fastpath/client_limits.h"),
    *("fastpath/plan.h", "fastpath/flow_table.h", "fastpath/times.h", "fastpath/leg_table.h"),
    *("fastpath/out_buffer.h", "fastpath/leg_sender.h", "fastpath/maglev.h", "fastpath/turns.h", "fastpath/gear.h"),
    *("fastpath/flow_lifecycle.h", "fastpath/held_bytes.h", "fastpath/looks.h"),
    "_fastpath.h",
    *("linux/nfqueue.h", "linux/outbox.h", "linux/priority.h", "linux/loop.h"),
)

# cffi's generated wrappers have unused parameters. This pragma covers the generated file only.
PREAMBLE = '#pragma GCC diagnostic ignored "-Wunused-parameter"\n'


def declarations(header: str) -> str:
    """Return the part of a C header that cffi's cdef() understands: declarations, and constants for the compiler to
    fill in.

    Of the preprocessor's lines, only ``#define NAME number`` and ``#define NAME integer-expression`` remain.
    """
    without_comments = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
    lines = []
    for line in without_comments.splitlines():
        define = re.match(r"\s*#\s*define\s+(\w+)[ \t]+(\S+)", line)
        if define and re.fullmatch(r"\d+\.\d+", define[2]):
            lines.append(f"static const double {define[1]};")
        elif define:  # a plain number may be an array's length
            lines.append(f"#define {define[1]} {define[2] if define[2].isdigit() else '...'}")
        elif not line.lstrip().startswith("#"):
            lines.append(line)
    return "\n".join(lines)


def builder() -> FFI:
    """Return the FFI object that setup.py's ``cffi_modules`` names."""
    headers = [PACKAGE / header for header in HEADERS]
    ffi = FFI()
    for header in headers:
        ffi.cdef(declarations(header.read_text(encoding="ascii")))
    # No contraction: C must round as Python does, or the two gears' timers drift apart.
    flags = ["-O2", "-ffp-contract=off", "-Wall", "-Wextra"]
    if os.environ.get("NATMIRROR_STRICT") == "1":
        flags.append("-Werror")
    sanitizers = []
    if os.environ.get("NATMIRROR_SANITIZE") == "1":
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]
    ffi.set_source(
        "natmirror._ffi",
        PREAMBLE + "".join(f'#include "{header.relative_to(PACKAGE)}"\n' for header in headers),
        sources=[str(source) for source in SOURCES],
        depends=[str(header) for header in sorted(PACKAGE.rglob("*.h"))],
        libraries=["m"],
        include_dirs=[str(PACKAGE)],
        extra_compile_args=[*flags, *sanitizers],
        extra_link_args=sanitizers,
    )
    return ffi


ffibuilder = builder()
