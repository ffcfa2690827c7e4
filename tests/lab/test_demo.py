"""The demo's handling of SIGTERM, without a lab."""

import os
import signal
from collections.abc import Iterator

import pytest

from natmirror.lab.demo import interrupt_at_sigterm


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    interrupt_at_sigterm()
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_sigterm_ends_the_demo_as_ctrl_c_does() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_sigterm_in_a_forked_child_does_not_clean_up_for_its_parent() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # delivers the signal
        finally:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
