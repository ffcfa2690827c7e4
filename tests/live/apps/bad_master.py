"""A master that accepts connections and misbehaves.

    python -m tests.live.apps.bad_master PORT reset|deaf|garbage|closing

``reset`` resets each connection at its first bytes; ``deaf`` never reads, so that its window stays closed;
``garbage`` reads, and answers each packet with one of random flags, numbers and data; ``closing`` closes its
side at the first bytes and reads on.
"""

import asyncio
import random
import socket
import struct
import sys

from natmirror.net.build import build
from natmirror.net.packet import PROTO_TCP, Segment, parse

_SMALL_BUFFER = 4096
_CHUNK_LEN = 1 << 16


def babble(port: int) -> None:
    """Answer each packet that arrives at the port with nonsense; call this when the socket is readable."""
    source = random.Random(1)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTO_TCP)
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    receiver.setblocking(False)

    def hear() -> None:
        heard = parse(receiver.recv(_CHUNK_LEN))
        if not isinstance(heard, Segment) or heard.dport != port:
            return
        ends = (heard.dst, heard.dport), (heard.src, heard.sport)
        at = source.choice([heard.ack, source.getrandbits(32), (heard.ack + source.randint(-9, 9)) & 0xFFFF_FFFF])
        ack = source.choice([heard.seq, source.getrandbits(32)])
        # No RST at the exact number: that would be no garbage but the end of the leg.
        flags = source.getrandbits(8) & (0xFF if at != heard.ack else ~0x04)
        noise = build(*ends, seq=at, ack=ack, flags=flags, window=1, payload=source.randbytes(source.randrange(90)))
        sender.sendto(noise, (socket.inet_ntoa(heard.src), 0))

    asyncio.get_running_loop().add_reader(receiver, hear)


async def main() -> None:
    """Misbehave until killed."""
    port, how = int(sys.argv[1]), sys.argv[2]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if how == "deaf":
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            return
        data = await reader.read(_CHUNK_LEN)
        if how == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
        if how == "closing":
            writer.write_eof()
        while data and how in ("garbage", "closing"):
            data = await reader.read(_CHUNK_LEN)
        if how == "closing":
            writer.close()

    listener = socket.create_server(("0.0.0.0", port), backlog=1024)
    if how == "deaf":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
    if how == "garbage":
        babble(port)
    server = await asyncio.start_server(serve, sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
