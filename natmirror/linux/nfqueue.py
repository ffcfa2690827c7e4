"""A netfilter queue: bound through the netfilterqueue package, then driven on its descriptor through our own codec.

The package's own receive path gives no packet above 4,096 bytes and cuts larger ones on their way back; here segments
of 64 KiB come and go whole (NFQA_CFG_F_GSO), in batches.
"""

import select
import socket
import struct
from dataclasses import dataclass
from errno import EPERM, errorcode
from pathlib import Path
from typing import Any

from netfilterqueue import NetfilterQueue

from natmirror._ffi import ffi, lib
from natmirror.errors import HostError

# linux/netfilter/nfnetlink_queue.h
_NFNL_SUBSYS_QUEUE, _NFQNL_MSG_CONFIG = 3, 2
_NFQA_CFG_PARAMS, _NFQA_CFG_QUEUE_MAXLEN, _NFQA_CFG_MASK, _NFQA_CFG_FLAGS = 2, 3, 4, 5
_F_FAIL_OPEN, _F_GSO = 1 << 0, 1 << 2
_COPY_PACKET = 2
_COPY_RANGE = 0xFFFF
# linux/netlink.h
_SOL_NETLINK, _NETLINK_NO_ENOBUFS, _NETLINK_CAP_ACK = 270, 5, 10
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_NETLINK_NETFILTER = 12
# asm-generic/socket.h: without the limit of net.core.[rw]mem_max, for those who administer the network
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

_RECEIVE_BUFFER = 32 << 20
_SEND_BUFFER = 4 << 20
LONGEST_WAIT = 0.004
"""Seconds that a call may wait for packets: as long others may have to wait for the thread's attention. The kernel
makes whole ticks of it and one more: 8 ms with 250 a second; of 5 ms it would make 12."""
_ANSWER_TIMEOUT = 2.0
_KERNEL_QUEUES = Path("/proc/net/netfilter/nfnetlink_queue")


@dataclass(slots=True)
class Packet:
    """A packet that waits for its verdict; ``payload`` begins with the IP header."""

    id: int
    hook: int
    payload: bytes
    checksum: int
    truncated: bool


def packet_of(raw: Any) -> Packet:
    """A copy of a packet that the codec has received."""
    payload = ffi.buffer(raw.payload, raw.len)[:] if raw.len else b""
    return Packet(raw.id, raw.hook, payload, raw.checksum, bool(raw.truncated))


class Queue:
    """One queue of this network namespace.

    It holds at most ``max_len`` packets; further ones are dropped, or with ``fail_open`` pass. HostError where the
    kernel refuses, as it does without CAP_NET_ADMIN or when another program has the queue.
    """

    def __init__(self, number: int, *, max_len: int = 8192, fail_open: bool = False) -> None:
        self.number = number
        self._bound = NetfilterQueue()
        try:
            self._bound.bind(number, _never_called, max_len=max_len)
        except OSError as error:
            raise HostError(f"cannot bind NFQUEUE {number}: {_why(error)}") from None
        self.fd = self._bound.get_fd()
        self._socket = socket.fromfd(self.fd, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.setblocking(True)  # who does not want to wait says so in each call
        codec = lib.nq_new(self.fd, number)
        if codec == ffi.NULL:
            raise MemoryError(f"no memory for queue {number}")
        self.codec = ffi.gc(codec, lib.nq_free)
        """The C struct that the loop drives."""
        self._packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
        self._early: list[Packet] = []
        self._requests = 0
        try:
            self._configure(max_len, _F_GSO | (_F_FAIL_OPEN if fail_open else 0))
        except BaseException:
            self.close()
            raise

    def receive(self) -> list[Packet]:
        """The packets that wait, at most a batch; none where there are none. Truncated ones are dropped here."""
        count = lib.nq_receive(self.codec, self._packets, False)
        if count < 0:
            raise HostError(f"NFQUEUE {self.number}: {errorcode.get(-count, -count)} while receiving")
        packets = [packet_of(packet) for packet in self._packets[0:count]]
        for packet in packets:
            if packet.truncated:
                self.drop(packet.id)
        return [packet for packet in packets if not packet.truncated]

    def early(self) -> list[Packet]:
        """The packets that came while the queue was being configured; asked for once."""
        early, self._early = self._early, []
        return early

    def accept(self, packet_id: int, payload: bytes | None = None) -> None:
        """Let a packet pass, as ``payload`` where given. Sent by flush()."""
        lib.nq_accept(self.codec, packet_id, payload or ffi.NULL, len(payload) if payload else 0)

    def drop(self, packet_id: int) -> None:
        """Let a packet vanish. Sent by flush()."""
        lib.nq_drop(self.codec, packet_id)

    def flush(self) -> None:
        """Send the verdicts given since, in their order."""
        lib.nq_flush(self.codec)

    @property
    def counters(self) -> dict[str, int]:
        """What the codec has counted, by name."""
        counters = lib.nq_queue_counters(self.codec)
        return {name: getattr(counters, name) for name, _ in ffi.typeof("nq_counters").fields}

    def kernel_drops(self) -> dict[str, int]:
        """What the kernel has dropped before we saw it: the queue was full, or our receive buffer was. Nothing where it
        cannot be read, as by others than root."""
        try:
            lines = _KERNEL_QUEUES.read_text().splitlines()
        except OSError:  # for one, no descriptors are left
            return {}
        for line in lines:
            fields = line.split()
            if int(fields[0]) == self.number:
                return {"queue_full": int(fields[5]), "buffer_full": int(fields[6])}
        return {"queue_full": 0, "buffer_full": 0}

    def close(self) -> None:
        """Give the queue back; what waits in it is dropped by the kernel."""
        self._socket.close()
        self._bound.unbind()

    def _configure(self, max_len: int, flags: int) -> None:
        for level, option, value in (
            (_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1),
            (_SOL_NETLINK, _NETLINK_CAP_ACK, 1),
            (socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER),
            (socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER),
            (socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, round(LONGEST_WAIT * 1e6))),
        ):
            self._socket.setsockopt(level, option, value)
        self._request(
            _attribute(_NFQA_CFG_PARAMS, struct.pack("!IB", _COPY_RANGE, _COPY_PACKET))
            + _attribute(_NFQA_CFG_QUEUE_MAXLEN, struct.pack("!I", max_len))
            + _attribute(_NFQA_CFG_FLAGS, struct.pack("!I", flags))
            + _attribute(_NFQA_CFG_MASK, struct.pack("!I", _F_GSO | _F_FAIL_OPEN))
        )

    def _request(self, attributes: bytes) -> None:
        """Configure the queue and wait for the kernel's answer; packets that come meanwhile are kept."""
        self._requests += 1
        kind = _NFNL_SUBSYS_QUEUE << 8 | _NFQNL_MSG_CONFIG
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, self.number) + attributes
        self._socket.send(
            struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK, self._requests, 0) + body
        )
        while lib.nq_acknowledged(self.codec) != self._requests:
            if not select.select([self.fd], [], [], _ANSWER_TIMEOUT)[0]:
                raise HostError(f"NFQUEUE {self.number}: the kernel does not answer a configuration request")
            self._early += self.receive()
        if answer := lib.nq_answer(self.codec):
            raise HostError(
                f"NFQUEUE {self.number}: the kernel refuses the configuration: {errorcode.get(answer, answer)}"
            )


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _why(error: OSError) -> str:
    if error.errno == EPERM or "permission" in str(error).lower():
        return "another program has it, or CAP_NET_ADMIN is missing (run as root)"
    return str(error) or "the kernel refuses; is another program bound to it?"


def _never_called(packet: object) -> None:
    """The package asks for a callback; its receive loop is not used."""
