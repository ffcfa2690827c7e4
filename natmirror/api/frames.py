"""The messages between natmirror and the process that serves its API: JSON, after its length in four bytes.

The API's process asks with the number ``id``, which it chooses; each answer has the number of its question.

============================================================ =========================================================
``{"id": 1, "get": "flows", "arguments": {…}}``              ask for a resource, or for the first part of a list
``{"id": 1, "get": "status", "first": true, …}``             the same, but do not have it wait for others' answers
``{"id": 1, "more": true}``                                  ask for the next part of this list
``{"id": 2, "command": "drain", "arguments": {…}}``          give a command
``{"id": 2, "withdraw": true}``                              the client has given up: no more parts, no command
``{"id": 0}``                                                the process is alive
``{"id": 1, "answer": …, "at": 17.5, "more": true}``         the answer and its time; ``more``: the list goes on
``{"id": 2, "error": "…", "status": 400}``                   why there is none, and the status code for the client
============================================================ =========================================================
"""

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any

LENGTH = struct.Struct("!I")
"""The length of a message, which is before it."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as bytes."""
    text = json.dumps(message).encode()
    return LENGTH.pack(len(text)) + text


async def read(reader: asyncio.StreamReader, most: int) -> dict[str, Any] | None:
    """Return the next message; None where the other process has ended. ValueError where it is malformed, or has more
    than ``most`` bytes."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > most:
            raise ValueError(f"a message of {length} bytes")
        text = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None
    return decode(text)


def decode(text: bytes) -> dict[str, Any]:
    """Return a message from the bytes after its length. ValueError where it is malformed."""
    try:
        message = json.loads(text)
    except RecursionError:
        raise ValueError("a message that is nested too deeply") from None
    if not isinstance(message, dict) or not isinstance(message.get("id"), int):
        raise ValueError("a message without a number")
    return message
