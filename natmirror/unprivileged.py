"""Programs without capabilities: whatever such a program runs cannot regain them (capabilities(7), no_new_privs).

Linux has capabilities for each thread, and a program inherits those of the thread that starts it. So a thread of its
own gives its capabilities up and starts the program; natmirror's other threads keep theirs.
"""

import ctypes
import os
import pwd
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from errno import EAGAIN

from natmirror.threads import NamedThread

# linux/prctl.h, linux/capability.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64
_SESSION_NICE = "10"  # packets come first
_OOM_SCORE = 800  # of 1,000: the kernel kills this process rather than the one that passes packets
_END_TIMEOUT = 2.0  # seconds
_NO_ONE = 65_534  # the kernel's overflow user and group, which own no files

_Sets = ctypes.c_uint32 * 6
"""The effective, permitted and inheritable capabilities, 32 in each number."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def confine(most_memory: int) -> None:
    """Give up all rights, and leave memory to others: call it first in a program of natmirror's own. ``most_memory`` is
    the limit on its address space in bytes. A unit forbids some of these calls."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of natmirror ends this process
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(_OOM_SCORE))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most_memory, most_memory))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))  # none of its threads goes before packets
    give_up_rights()


def leave_processor_in_session() -> None:
    """Have this process's session take little of a processor that others want.

    The process is as nice as the thread that starts it. Where each session has an equal share (sched(7), "The autogroup
    feature"), that means nothing between this session and natmirror's.
    """
    with suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as file:
        file.write(_SESSION_NICE)


def leave_processor() -> None:
    """Have this process run only where nothing else wants the processor: whatever does takes it at once (sched(7),
    "SCHED_IDLE"). The kernel compares so inside a control group, or a session, only."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def drop_capabilities() -> None:
    """Give up the calling thread's capabilities, for good, and all that a program could get which this thread starts.
    OSError where the kernel refuses.

    Root's programs get the bounding set, which only CAP_SETPCAP can empty, and the inheritable set, which only capset()
    can. A root without CAP_SETPCAP, or one for whom a service manager forbids capset() as the unit does, keeps them.
    The programs of other users get neither.
    """
    _empty_bounding_set()
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), _Sets())


def _empty_bounding_set() -> None:
    for number in range(_MAX_CAPABILITIES):
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def give_up_rights() -> None:
    """Give up this process's capabilities and, if it is root's and the kernel lets it, root: it becomes the user
    natmirror, or the one without files if there is none. Call it before the process has threads."""
    if os.geteuid() == 0:
        with suppress(OSError):
            user, group = _user()
            _empty_bounding_set()
            os.setgroups([])
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
    drop_capabilities()


def _user() -> tuple[int, int]:
    try:
        found = pwd.getpwnam("natmirror")
    except KeyError:
        return _NO_ONE, _NO_ONE
    return found.pw_uid, found.pw_gid


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    keep: Sequence[int] = (),
    errors: int | None = subprocess.DEVNULL,
    is_ours: bool = False,
    has_session: bool = True,
) -> "subprocess.Popen[bytes]":
    """Start a command without capabilities, in a session of its own, or else (``has_session``) only in a process group
    of its own. Of natmirror's descriptors it gets those of ``keep``, and ``errors`` as its standard error (None:
    natmirror's own). OSError or ValueError where that fails.

    ``is_ours``: if natmirror is root's, the program gets root's rights, and calls give_up_rights() itself once it has
    read its code, which only root may be able to read.
    """
    outcome: list[subprocess.Popen[bytes] | Exception] = []

    def run() -> None:
        try:
            if not is_ours or os.geteuid() != 0:
                drop_capabilities()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                pass_fds=keep,
                start_new_session=has_session,
                process_group=None if has_session else 0,
            )
            with suppress(OSError):
                resource.prlimit(process.pid, resource.RLIMIT_RTPRIO, (0, 0))  # it does not go before packets
            outcome.append(process)
        except Exception as error:
            outcome.append(error)

    thread = NamedThread(run, "program")
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


def end(process: "subprocess.Popen[bytes]") -> str:
    """Wait for the end of a process, and kill it if it does not end; return how it has ended."""
    try:
        code = process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait(_END_TIMEOUT)
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
