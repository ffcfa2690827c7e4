"""Whether the host has descriptors left for what takes several."""

import os
from contextlib import ExitStack

_PIPES = 4  # a child process takes as many; netlink's sockets and their event loop less


def require_descriptors() -> None:
    """Raise OSError if descriptors would run out halfway.

    Python's Popen before 3.11.4 (gh-87474) and pyroute2's IPRoute leak those that they have got by then, so each
    attempt would make it worse.
    """
    with ExitStack() as opened:
        for _ in range(_PIPES):
            for end in os.pipe():
                opened.callback(os.close, end)
