"""Netlink messages as the kernel sends them, and the kernel's end of a queue."""

import socket
import struct
from typing import Any

from natmirror._ffi import ffi, lib

PACKET, ERROR, VERDICT, CONFIG = 0x300, 2, 0x301, 0x302
NUMBER = 7


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes, *, number: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, number, 0) + body + bytes(-len(body) % 4)


def queued(
    packet_id: int, payload: bytes, *, hook: int = 2, info: int | None = None, cut: bool = False, mark: int = 0
) -> bytes:
    body = struct.pack("!BBH", 2, 0, NUMBER) + attribute(1, struct.pack("!IHB", packet_id, 0x800, hook))
    if mark:
        body += attribute(3, struct.pack("!I", mark))
    if info is not None:
        body += attribute(14, struct.pack("!I", info))
    if cut:
        body += attribute(13, struct.pack("!I", 60_000))
    return message(PACKET, body + attribute(10, payload))


class Codec:
    """The codec at one end of a socket pair; the test is the kernel at the other end."""

    def __init__(self) -> None:
        self.kernel, self.ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.queue = ffi.gc(lib.nq_new(self.ours.fileno(), NUMBER), lib.nq_free)
        self._packets = ffi.new("nq_packet[]", lib.NQ_BATCH)

    def parse(self, datagram: bytes) -> list[tuple[int, int, bytes, int, int]]:
        return self._shown(lib.nq_parse(self.queue, datagram, len(datagram), self._packets, lib.NQ_BATCH))

    def receive(self) -> list[tuple[int, int, bytes, int, int]]:
        return self._shown(lib.nq_receive(self.queue, self._packets, False))

    def counters(self) -> Any:
        return lib.nq_queue_counters(self.queue)

    def close(self) -> None:
        self.kernel.close()
        self.ours.close()

    def _shown(self, count: int) -> list[tuple[int, int, bytes, int, int]]:
        return [
            (one.id, one.hook, ffi.buffer(one.payload, one.len)[:] if one.len else b"", one.checksum, one.truncated)
            for one in self._packets[0:count]
        ]


BATCH = 0x303
FILLER = bytes(1000)


def fill(end: socket.socket) -> None:
    """Fill the socket, so that no further message to the kernel fits."""
    end.setblocking(False)
    try:
        while True:
            end.send(FILLER)
    except BlockingIOError:
        pass


def messages(kernel: socket.socket) -> list[tuple[int, int, int, bytes]]:
    """Return kind, packet id, verdict and payload of each message that has arrived."""
    kernel.setblocking(False)
    found: list[tuple[int, int, int, bytes]] = []
    while True:
        try:
            sent = kernel.recv(1 << 20)
        except BlockingIOError:
            return found
        while sent and sent != FILLER:
            length, kind = struct.unpack_from("=IH", sent)
            _, _, verdict, packet_id = struct.unpack_from("=HHII", sent, 20)
            payload = sent[36 : 32 + struct.unpack_from("=H", sent, 32)[0]] if length > 32 else b""
            found.append((kind, socket.ntohl(packet_id), socket.ntohl(verdict), payload))
            sent = sent[length:]


class Bound:
    """A socket pair in place of a bound queue."""

    kernels: list[socket.socket]

    def bind(self, number: int, callback: object, max_len: int) -> None:
        kernel, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernels.append(kernel)

    def get_fd(self) -> int:
        return self._ours.fileno()

    def unbind(self) -> None:
        self._ours.close()


def answer(kernel: socket.socket, error: int) -> None:
    """Answer the next request, as the kernel does."""
    request = kernel.recv(1 << 20)
    kernel.send(message(ERROR, struct.pack("=i", -error) + request[:16]))
