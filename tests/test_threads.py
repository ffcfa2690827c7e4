"""What is known of threads."""

import threading
import time

from natmirror.lab.process import wait_for
from natmirror.threads import NamedThread, busy_seconds


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
