"""The ceiling of what all legs together hold back for their mirrors."""


class Memory:
    """Bytes taken, of a ``limit``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Take ``count`` bytes, if they are there."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Give ``count`` bytes back."""
        self.used -= count
