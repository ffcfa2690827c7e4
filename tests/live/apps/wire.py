"""What test client and server say to each other: requests with their length, answered with their digest."""

import asyncio
import hashlib
import struct

LENGTH = struct.Struct("!I")
ANSWER_LEN = hashlib.sha256().digest_size


def answer_to(body: bytes) -> bytes:
    """The answer to a request: the digest of its body."""
    return hashlib.sha256(body).digest()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request with its length; raises IncompleteReadError at the end of the stream."""
    head = await reader.readexactly(LENGTH.size)
    return head + await reader.readexactly(LENGTH.unpack(head)[0])
