"""Counters by name, made by counting."""

from collections import Counter


class Counters:
    """What happened, by name; packets that were dropped, by reason."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()

    def count(self, name: str, by: int = 1) -> None:
        """Add to the counter ``name``."""
        self.counters[name] += by

    def drop(self, reason: str) -> None:
        """Count a packet that was dropped."""
        self.drops[reason] += 1
