"""What is known of threads."""

import os
import threading
import time

from natmirror.lab.process import wait_for
from natmirror.threads import NamedThread, busy_seconds, yield_to_packets


def test_a_thread_is_busy_while_it_runs_or_could_run() -> None:
    until, seen = threading.Event(), list[float]()

    def work() -> None:
        began_at = time.thread_time()
        while time.thread_time() - began_at < 0.05:
            pass
        seen.append(time.thread_time())
        until.wait()

    thread = NamedThread(work, "busy")
    assert busy_seconds(thread) == 0
    thread.start()
    wait_for(lambda: len(seen) == 1, "the thread")
    assert busy_seconds(thread) >= 0.04  # the kernel counts what has run since its last tick later
    until.set()
    wait_for(lambda: busy_seconds(thread) == 0, "its end in the kernel")


def test_a_thread_that_yields_to_packets_is_nicer_than_the_others_and_so_are_those_that_it_starts() -> None:
    until = threading.Event()
    threads = [NamedThread(until.wait, "child"), NamedThread(until.wait, "other")]

    def work() -> None:
        yield_to_packets()
        threads[0].start()
        until.wait()

    threads.append(NamedThread(work, "nicer"))
    threads[1].start()
    threads[2].start()
    wait_for(threads[0].is_alive, "the child")
    child, other, nicer = (os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in threads)
    assert other == os.getpriority(os.PRIO_PROCESS, os.getpid())
    assert child == nicer == min(19, other + 10)
    until.set()
