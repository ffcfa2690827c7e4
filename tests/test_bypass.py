"""The process that passes packets while natmirror is frozen, in a thread over a socket pair; and its parent's side."""

import os
import select
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from errno import EAGAIN
from typing import Any

import pytest

from natmirror.linux import bypass
from natmirror.linux.bypass import Watchdog
from tests.test_nfqueue import NUMBER, VERDICT, queued
from tests.test_refused_verdicts import FILLER, fill, messages


def test_packets_whose_verdicts_are_refused_pass_later_also_after_the_heartbeat_is_back() -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard, heartbeat = os.pipe()
    fill(ours)
    for number in (1, 2):
        kernel.send(queued(number, b"x"))
    with ThreadPoolExecutor() as pool:
        served = pool.submit(bypass._serve, ours.fileno(), heard, NUMBER)
        peek = socket.MSG_PEEK | socket.MSG_DONTWAIT
        while select.select([ours], [], [], 0)[0]:  # until it has taken the packets, for want of a heartbeat
            assert ours.recv(1 << 10, peek)
            assert not served.done()
        os.write(heartbeat, b".")
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
        os.close(heartbeat)
        served.result(5.0)
    os.close(heard)
    kernel.close()
    ours.close()


def test_a_process_that_cannot_be_started_is_tried_again_and_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(EAGAIN, "no more processes")

    queue_fd, other = os.pipe()
    before = os.listdir("/proc/self/fd")
    watchdog = Watchdog(queue_fd, NUMBER)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", fail)
        with pytest.raises(OSError, match="no more processes"):
            watchdog.start()
        watchdog.move(queue_fd)
        for _ in range(5):
            watchdog.beat()
    assert os.listdir("/proc/self/fd") == before
    assert len(caplog.records) == 1
    watchdog.beat()
    assert watchdog._process is not None
    watchdog.release()
    watchdog.beat()
    assert watchdog._process is None, "its queue is not bound"
    watchdog.close()
    assert os.listdir("/proc/self/fd") == before
    os.close(queue_fd)
    os.close(other)
