"""Runs all tests but the long ones: those in network namespaces in two parts side by side, and beside them all others
with a lower priority.

The live tests mostly wait, so the parts take nearly no time of their own. Tests that only wait for events, and so may
run beside others, are marked ``beside``: they are the second part. Its output, and that of the tests without
namespaces, comes after that of the first part, then the names of all tests that failed. Arguments are passed to each
part.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from typing import IO

NICENESS = 10


def start(marks: str, output: int, *options: str) -> "subprocess.Popen[bytes]":
    """Start pytest for the tests with these marks."""
    command = [sys.executable, "-m", "pytest", "-m", marks, *options, *sys.argv[1:]]
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def main() -> int:
    """Run all parts to their end; return the exit code."""
    with tempfile.TemporaryFile() as second, tempfile.TemporaryFile() as file:
        live = start("live and not beside and not soak", subprocess.PIPE)
        beside = start("beside", second.fileno(), "-p", "no:cacheprovider")
        os.nice(NICENESS)
        others = start("not live and not soak", file.fileno(), "-p", "no:cacheprovider")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all parts get it too, and end in order
        printed = b""
        assert live.stdout is not None
        while part := os.read(live.stdout.fileno(), 1 << 16):
            printed += part
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        codes = [live.wait(), beside.wait(), others.wait()]
        other = b"".join(_read(one) for one in (second, file))
        sys.stdout.buffer.write(other)
    failed = re.findall(rb"^(?:FAILED|ERROR) .*", printed + b"\n" + other, re.MULTILINE)
    print(*(["", "failing tests:", *(line.decode(errors="replace") for line in failed)] if failed else []), sep="\n")
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
