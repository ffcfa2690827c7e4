"""Run the host's programs, iptables and nft, each within a time limit."""

import os
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from natmirror.errors import HostError
from natmirror.linux import descriptors

TIMEOUT = 15.0
"""Seconds: iptables waits 5 s for another program's lock (-w 5), and changes thousands of rules in less than 10."""

READ_TIMEOUT = 3.0
"""Seconds for a program that only reads: it takes milliseconds, and while it hangs nothing else is checked."""
_REAP_TIMEOUT = 1.0
_NICER = 5
"""How much nicer these programs are: packets come first, but a program must not wait long for a busy core."""

_own: deque[int] = deque(maxlen=64)  # the process ids of the latest programs


class HangsError(HostError):
    """A program has not ended within its time limit."""


def is_own(pid: int) -> bool:
    """Return whether a process is one of the programs that run() has run lately."""
    return pid in _own


def run(
    command: Sequence[str],
    text: str | None = None,
    *,
    package: str,
    timeout: float = TIMEOUT,
    with_warnings: bool = False,
) -> str:
    """Run a command with ``text`` as its standard input; return its standard output, and ``with_warnings`` its standard
    error after that.

    HostError where the command cannot be started or fails, HangsError where it does not end within ``timeout`` seconds;
    then it is killed.
    ``package`` is the Debian package that contains the program, for the error message.
    """
    called = " ".join(command)
    try:
        with descriptors.enough():
            code, output, errors = _ended(command, text, timeout)
    except FileNotFoundError:
        raise HostError(f"{command[0]} is missing: install the package {package}") from None
    except subprocess.TimeoutExpired:
        raise HangsError(f"{called} did not end within {timeout:g} s and was killed") from None
    except (OSError, MemoryError) as error:
        why = (isinstance(error, OSError) and error.strerror) or "no memory"
        raise HostError(f"cannot run {called}: {why}") from None
    if code:
        lines = errors.strip().splitlines() or [f"exit code {code}"]
        raise HostError(f"{called} failed: {lines[0]}")
    return output + errors if with_warnings else output


def _ended(command: Sequence[str], text: str | None, timeout: float) -> tuple[int, str, str]:
    """Return the exit code, the standard output and the standard error of a command that has ended."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    _own.append(process.pid)
    with suppress(OSError):  # it may have ended
        os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICER)
    try:
        output, errors = process.communicate(text, timeout)
    finally:
        _end(process)
    return process.returncode, output, errors


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill a child that has not ended. Do not wait for one that hangs in the kernel: the wait would hang too."""
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_TIMEOUT)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError, ValueError):
                pipe.close()
