"""The messages between natmirror and the process of the judges: JSON, after its length in four bytes.

======================================================== =============================================================
``{"id": 0, "limits": [800, 50], "compared": [[…]]}``    memory in bytes; service, name and address of each master
``{"id": 1, "ask": "look", "arguments": {…}}``           natmirror asks what was found (reports.py)
``{"id": 1, "answer": …}``                               the answer to question 1
``{"id": 1, "error": "…"}``                              the traceback of an internal error in place of it
``{"id": 0, "beat": [["openflow", "m", {…}], …]}``       the process is alive: service, master, and sums since the start
``{"id": 0, "statistics": [0, 7, 1, ["…"]]}``            thread, session, question and bodies, in base64
``{"id": 0, "fault": [0, "10.10.0.11:40001", "…"]}``     thread, client, and traceback of an internal error
======================================================== =============================================================
"""

from collections.abc import Iterator
from typing import Any

from natmirror.api.frames import LENGTH, decode, encode

__all__ = ["FrameReader", "encode"]


class FrameReader:
    """Reads messages of at most ``most`` bytes from the pieces of a stream."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._data = bytearray()

    def push(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """Take the next bytes, and yield the messages that are complete. ValueError where one is malformed."""
        self._data += piece
        while len(self._data) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._data)
            if length > self._most:
                raise ValueError(f"a message of {length} bytes")
            if len(self._data) < LENGTH.size + length:
                return
            text = bytes(self._data[LENGTH.size : LENGTH.size + length])
            del self._data[: LENGTH.size + length]
            yield decode(text)
