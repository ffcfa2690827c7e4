"""What is to be sent to one master: whole messages, of which long answers are put together only as they are taken."""

from collections import deque
from collections.abc import Iterator


class SendQueue:
    """Messages in their order, and how many bytes they are."""

    def __init__(self) -> None:
        self.unsent_len = 0
        """Bytes that wait for take()."""
        self.answers_len = 0
        """Bytes of answers among what was put here since the queue was empty last."""
        self._messages: deque[bytes | Iterator[bytes]] = deque()

    def put(self, message: bytes) -> None:
        """Add a message."""
        self._messages.append(message)
        self.unsent_len += len(message)

    def put_answer(self, answer: bytes | Iterator[bytes], length: int) -> None:
        """Add an answer of ``length`` bytes, whole or as an iterator over its messages."""
        self._messages.append(answer)
        self.unsent_len += length
        self.answers_len += length

    def take(self, most: int | None = None) -> bytes:
        """Remove and return whole messages: as many as have about ``most`` bytes, all by default."""
        taken: list[bytes] = []
        length = 0
        while self._messages and (most is None or length < most):
            first = self._messages[0]
            raw = first if isinstance(first, bytes) else next(first, b"")
            if first is raw or not raw:
                self._messages.popleft()
            taken.append(raw)
            length += len(raw)
        self.unsent_len -= length
        if not self.unsent_len:
            self._messages.clear()
            self.answers_len = 0
        return b"".join(taken)
