"""The messages that wait to be sent to one master. Long answers are built only when they are taken."""

from collections import deque
from collections.abc import Iterator

_COST = 100  # bytes that Python needs for a message besides its bytes


class SendQueue:
    """Messages in their order, and their length in bytes."""

    def __init__(self) -> None:
        self.unsent_len = 0
        """Bytes that wait for take()."""
        self.answers_len = 0
        """Bytes of the answers that were added since the queue was last empty."""
        self._messages: deque[bytes | Iterator[bytes]] = deque()
        self._built_len = 0  # bytes of the whole messages among them

    @property
    def held(self) -> int:
        """Bytes of memory. Answers that are still to be built take none: the known switch has their parts."""
        return self._built_len + _COST * len(self._messages)

    def put(self, message: bytes) -> None:
        self._messages.append(message)
        self._built_len += len(message)
        self.unsent_len += len(message)

    def put_answer(self, answer: bytes | Iterator[bytes], length: int) -> None:
        """Add an answer of ``length`` bytes, whole or as an iterator over its messages."""
        self._messages.append(answer)
        self._built_len += len(answer) if isinstance(answer, bytes) else 0
        self.unsent_len += length
        self.answers_len += length

    def take(self, most: int | None = None) -> bytes:
        """Remove and return whole messages, of about ``most`` bytes together; by default all."""
        taken: list[bytes] = []
        length = 0
        while self._messages and (most is None or length < most):
            first = self._messages[0]
            raw = first if isinstance(first, bytes) else next(first, b"")
            if first is raw or not raw:
                self._messages.popleft()
            if first is raw:
                self._built_len -= len(raw)
            taken.append(raw)
            length += len(raw)
        self.unsent_len -= length
        if not self.unsent_len:
            self._messages.clear()
            self.answers_len = self._built_len = 0
        return b"".join(taken)
