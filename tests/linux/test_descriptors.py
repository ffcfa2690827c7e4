"""The reserve of descriptors, at the limit of this process."""

import os
import resource
import threading
from collections.abc import Iterator

import pytest

from natmirror.errors import HostError
from natmirror.linux import commands, descriptors


@pytest.fixture
def at_the_limit() -> Iterator[None]:
    """Let this process open no more descriptors than it has once the reserve is kept."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors.keep_reserve()
    highest = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    filling = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, before[1]))
    with pytest.raises(OSError, match="Too many open files"):
        while True:
            filling.append(os.open(os.devnull, os.O_RDONLY))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for descriptor in filling:
        os.close(descriptor)
    descriptors.give_up_reserve()


def test_programs_run_at_the_limit_again_and_again(at_the_limit: None) -> None:
    for _ in range(3):
        assert commands.run(["cat"], "rules", package="coreutils") == "rules"
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)


def test_a_use_inside_another_one_keeps_the_reserve_released(at_the_limit: None) -> None:
    with descriptors.enough():
        assert commands.run(["cat"], "rules", package="coreutils") == "rules"
        os.close(os.open(os.devnull, os.O_RDONLY))


def test_a_thread_that_hangs_leaves_the_other_threads_their_shares(at_the_limit: None) -> None:
    hangs, returns = threading.Event(), threading.Event()

    def hang() -> None:
        with descriptors.released(), descriptors.enough():
            hangs.set()
            returns.wait()

    thread = threading.Thread(target=hang)
    thread.start()
    hangs.wait()
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]  # by traffic
    for _ in range(3):
        assert commands.run(["cat"], "rules", package="coreutils") == "rules"
    with pytest.raises(OSError, match="Too many open files"):
        os.open(os.devnull, os.O_RDONLY)
    returns.set()
    thread.join()
    for descriptor in taken:
        os.close(descriptor)


def test_without_a_reserve_a_program_is_refused_at_the_limit(at_the_limit: None) -> None:
    descriptors.give_up_reserve()
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(44)]
    with pytest.raises(HostError, match="cannot run cat: Too many open files"):
        commands.run(["cat"], "rules", package="coreutils")
    for descriptor in taken:
        os.close(descriptor)
