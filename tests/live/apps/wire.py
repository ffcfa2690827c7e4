"""The protocol between test client and server: requests with their length, answered with their digest."""

import asyncio
import hashlib
import socket
import struct

LENGTH = struct.Struct("!I")
_SLOW_READ_LEN = 1 << 16
_IPPROTO_MPTCP = 262  # Python 3.11 has no name for it
ANSWER_LEN = hashlib.sha256().digest_size


def new_socket(*, mptcp: bool) -> socket.socket:
    """Return a socket of TCP, or of Multipath TCP. asyncio takes both for TCP's: it knows no other protocol."""
    made = socket.socket(proto=_IPPROTO_MPTCP if mptcp else 0)
    return socket.socket(made.family, made.type, 0, made.detach())


def answer_to(body: bytes) -> bytes:
    """Return the answer to a request: the digest of its body."""
    return hashlib.sha256(body).digest()


async def read_request(reader: asyncio.StreamReader, rate: float | None = None) -> bytes:
    """Read one request with its length, no faster than ``rate`` bytes a second; raise IncompleteReadError at the end
    of the stream."""
    head = await _read(reader, LENGTH.size, rate)
    return head + await _read(reader, LENGTH.unpack(head)[0], rate)


async def _read(reader: asyncio.StreamReader, count: int, rate: float | None) -> bytes:
    if rate is None:
        return await reader.readexactly(count)
    parts = bytearray()
    while len(parts) < count:
        part = await reader.read(min(count - len(parts), _SLOW_READ_LEN))
        if not part:
            raise asyncio.IncompleteReadError(bytes(parts), count)
        parts += part
        await asyncio.sleep(len(part) / rate)
    return bytes(parts)
