"""Programs without capabilities: whatever such a program runs cannot regain them (capabilities(7), no_new_privs).

Linux has capabilities for each thread, and a program inherits those of the thread that starts it. So a thread of its
own gives its capabilities up and starts the program; natmirror's other threads keep theirs.
"""

import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from errno import EAGAIN
from threading import Thread

# linux/prctl.h, linux/capability.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64

_Sets = ctypes.c_uint32 * 6
"""The effective, permitted and inheritable capabilities, 32 in each number."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def drop_capabilities() -> None:
    """Give up the calling thread's capabilities, for good, and all that a program could get which this thread starts.
    OSError where the kernel refuses.

    Root's programs get the bounding set, which only CAP_SETPCAP can empty, and the inheritable set, which only capset()
    can. The systemd unit forbids capset(); the programs of another user than root get neither set.
    """
    for number in range(_MAX_CAPABILITIES):
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    result = _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), _Sets())
    if os.geteuid() == 0:
        _check(result)


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    keep: Sequence[int] = (),
    errors: int = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start a command without capabilities, in a session of its own. Of natmirror's descriptors it gets those of
    ``keep``, and ``errors`` as its standard error. OSError or ValueError where that fails."""
    outcome: list[subprocess.Popen[bytes] | Exception] = []

    def run() -> None:
        try:
            drop_capabilities()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                pass_fds=keep,
                start_new_session=True,
            )
            outcome.append(process)
        except Exception as error:
            outcome.append(error)

    thread = Thread(target=run, name="starts a program", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise BlockingIOError(EAGAIN, "no more threads") from None
    thread.join()
    result = outcome.pop()
    if isinstance(result, Exception):
        try:
            raise result
        finally:
            del result  # or this frame and the exception's traceback would refer to each other
    return result


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
