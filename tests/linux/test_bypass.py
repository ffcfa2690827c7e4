"""The bypass process, run in a thread over a socket pair, and its parent's side.

It is started again if it has ended, but never by the thread that beats.
"""

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from natmirror.errors import HostError
from natmirror.linux import bypass as bypass_module
from natmirror.linux.bypass import Bypass
from tests.helpers.nfqueue import FILLER, NUMBER, VERDICT, fill, messages, queued


def has_packets(queue: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return bool(queue.recv(1 << 10, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    return False


def test_refused_verdicts_are_sent_later_even_after_the_heartbeat_is_back() -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard, heartbeat = os.pipe()
    fill(ours)
    for number in (1, 2):
        kernel.send(queued(number, b"x"))
    with ThreadPoolExecutor() as pool, os.fdopen(heartbeat, "wb", buffering=0) as beats:
        served = pool.submit(bypass_module._serve, ours.fileno(), heard, NUMBER)
        while has_packets(ours):  # until it has received them, since the heartbeat is missing
            assert not served.done()
        beats.write(b".")
        kernel.settimeout(5.0)
        arrived: list[tuple[int, int, int, bytes]] = []
        while len(arrived) < 2:
            sent = kernel.recv(1 << 20)
            if sent != FILLER:
                found, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                found.send(sent)
                arrived += messages(other)
                found.close()
                other.close()
        assert arrived == [(VERDICT, 1, 1, b""), (VERDICT, 2, 1, b"")]
        beats.close()
        served.result(5.0)
    os.close(heard)
    kernel.close()
    ours.close()


@pytest.fixture
def bypass() -> Iterator[Bypass]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as queue:
        one = Bypass(queue.fileno(), 6654)
        one.start()
        yield one
        one.close()


def kill(bypass: Bypass) -> None:
    assert bypass._process is not None
    bypass._process.send_signal(signal.SIGKILL)
    bypass._process.wait(5.0)


def test_a_beat_starts_no_process_and_raises_no_error(bypass: Bypass, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(bypass)
    monkeypatch.setattr(subprocess, "Popen", None)
    for _ in range(3):
        bypass.beat()


def test_a_restarted_process_gets_the_beats_over_the_same_descriptor(bypass: Bypass) -> None:
    first, pipe = bypass._process, bypass._pipe
    bypass.mend()
    assert bypass._process is first, "it still runs"
    kill(bypass)
    bypass.mend()
    assert bypass._process is not first
    assert bypass._pipe == pipe
    assert not os.get_blocking(pipe)
    assert not os.get_inheritable(pipe)
    bypass.beat()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_refused_fork_is_tried_again_and_leaks_no_descriptor(
    bypass: Bypass, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    kill(bypass)
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        for _ in range(2):
            with pytest.raises(HostError, match=os.strerror(number)):
                bypass.mend()
    assert os.listdir("/proc/self/fd") == before
    bypass.mend()
    assert bypass._process is not None
    assert bypass._process.poll() is None


def test_no_process_is_started_while_the_queue_is_not_bound(bypass: Bypass) -> None:
    before = os.listdir("/proc/self/fd")
    bypass.release()
    bypass.mend()
    bypass.beat()
    assert bypass._process is None
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as queue:
        bypass.move(queue.fileno())
        bypass.mend()
        assert bypass._process is not None
        bypass.beat()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_queues_thread_waits_neither_for_a_fork_nor_for_a_stopped_process(
    bypass: Bypass, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bypass_module, "_END_TIMEOUT", 60.0)
    assert bypass._process is not None
    bypass._process.send_signal(signal.SIGSTOP)
    begun_at = time.monotonic()
    with bypass._lock, pytest.raises(HostError, match="being started"):
        bypass.release()
    assert bypass._process is not None
    bypass.release()
    assert bypass._process is None
    assert time.monotonic() - begun_at < 30.0
