"""A check that enough file descriptors are free for calls that open several."""

import os
from contextlib import ExitStack

_PIPES = 4  # starting a child process opens this number; netlink sockets and their event loop take fewer descriptors


def require_descriptors() -> None:
    """Raise OSError if descriptors would run out halfway through such a call.

    Python's Popen before 3.11.4 (gh-87474) and pyroute2's IPRoute then leak the descriptors that they have opened, so
    each attempt would make the shortage worse.
    """
    with ExitStack() as opened:
        for _ in range(_PIPES):
            for end in os.pipe():
                opened.callback(os.close, end)
