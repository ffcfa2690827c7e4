"""Pauses in long work: a thread that works without one keeps a packet thread from its core until the kernel's next
tick, 4 ms at worst."""

import time

_PAUSE = 0.002  # seconds: a packet thread that is busy most of the time makes up for what it has missed


def give_way() -> None:
    """Let packet threads run, if they wait for this core or for Python's lock."""
    time.sleep(_PAUSE)
