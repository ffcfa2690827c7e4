"""The process that lets watched packets pass: restarted if it has ended, and never by the thread that beats."""

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.errors import HostError
from natmirror.linux.bypass import Watchdog


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as queue:
        one = Watchdog(queue.fileno(), 6654)
        one.start()
        yield one
        one.close()


def kill(watchdog: Watchdog) -> None:
    assert watchdog._process is not None
    watchdog._process.send_signal(signal.SIGKILL)
    watchdog._process.wait(5.0)


def test_a_beat_starts_nothing_and_raises_nothing(watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(watchdog)
    monkeypatch.setattr(subprocess, "Popen", None)
    for _ in range(3):
        watchdog.beat()


def test_another_process_gets_the_beats_over_the_same_descriptor(watchdog: Watchdog) -> None:
    first, pipe = watchdog._process, watchdog._pipe
    watchdog.mend()
    assert watchdog._process is first, "it lives"
    kill(watchdog)
    watchdog.mend()
    assert watchdog._process is not first
    assert watchdog._pipe == pipe
    assert not os.get_blocking(pipe)
    assert not os.get_inheritable(pipe)
    watchdog.beat()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_fork_that_is_refused_is_tried_again_and_leaks_nothing(
    watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    kill(watchdog)
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        for _ in range(2):
            with pytest.raises(HostError, match=os.strerror(number)):
                watchdog.mend()
    assert os.listdir("/proc/self/fd") == before
    watchdog.mend()
    assert watchdog._process is not None
    assert watchdog._process.poll() is None
