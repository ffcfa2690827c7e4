"""A netfilter queue: bound through the netfilterqueue package, then driven on its descriptor through our own codec.

The package's own receive path gives no packet above 4,096 bytes and cuts larger ones on their way back; here segments
of 64 KiB come and go whole (NFQA_CFG_F_GSO), in batches.
"""

import socket
import struct
from collections import Counter, deque
from dataclasses import dataclass
from errno import EPERM, errorcode
from pathlib import Path
from typing import Protocol

from netfilterqueue import NetfilterQueue

from natmirror._ffi import ffi, lib
from natmirror.errors import HostError
from natmirror.linux.counters import IN_QUEUES_OF_C, QueueCounter

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
_REQUEST_ATTEMPTS = 10
_DEFERRED_TIMEOUT = 5.0
"""Seconds after which a packet whose verdict another thread owes counts as forgotten: its sender has sent it again."""
_IN_KERNEL = (QueueCounter.PACKETS_DROPPED_QUEUE_FULL, QueueCounter.PACKETS_DROPPED_BUFFER_FULL)
_KERNEL_QUEUES = Path("/proc/net/netfilter/nfnetlink_queue")


@dataclass(slots=True)
class Packet:
    """A packet that waits for its verdict; ``payload`` begins with the IP header."""

    id: int
    hook: int
    payload: bytes
    checksum: int
    truncated: bool


class PacketRow(Protocol):
    """``nq_packet``: a packet as the codec has received it, while its bytes lie there."""

    payload: object
    len: int
    id: int
    mark: int
    hook: int
    checksum: int
    truncated: int


def packet_of(raw: PacketRow) -> Packet:
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
        self._max_len = max_len
        self._fail_open = fail_open
        self._counted: Counter[QueueCounter] = Counter()
        self._backlog: deque[tuple[int, bytes | None, bool]] = deque()
        self._deferred: dict[int, float] = {}
        self.is_closed = False
        self.failure: str | None = None
        """Why the queue was closed, where that was not wanted."""
        self._bound = NetfilterQueue()
        try:
            self._bound.bind(number, _never_called, max_len=max_len)
        except OSError as error:
            raise HostError(f"cannot bind NFQUEUE {number}: {_why(error)}") from None
        self.fd = self._bound.get_fd()
        codec = lib.nq_new(self.fd, number)
        if codec == ffi.NULL:
            self._bound.unbind()
            raise HostError(f"no memory for NFQUEUE {number}")
        self.codec = ffi.gc(codec, lib.nq_free)
        """The C struct that the loop drives."""
        self._packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
        self._early: list[Packet] = []
        self._requests = 0
        self._probe_id: int | None = None
        self._emptied = 0
        try:
            self._socket = socket.fromfd(self.fd, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        except OSError as error:
            self._bound.unbind()
            raise HostError(f"NFQUEUE {number}: {error}") from None
        self._socket.setblocking(True)  # who does not want to wait says so in each call
        try:
            self._configure(max_len, _F_GSO | (_F_FAIL_OPEN if fail_open else 0))
        except OSError as error:
            self.close()
            raise HostError(f"NFQUEUE {number}: the kernel refuses the configuration: {error}") from None
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
        self._give(packet_id, payload, True)

    def drop(self, packet_id: int) -> None:
        """Let a packet vanish. Sent by flush()."""
        self._give(packet_id, None, False)

    def _give(self, packet_id: int, payload: bytes | None, accepts: bool) -> None:
        """Verdicts that find no room, because the kernel refuses those before them, wait here for the next flush()."""
        if self.is_closed:
            return  # the kernel has dropped the packet, and its id may be another packet's by now
        if self._deferred:
            self._deferred.pop(packet_id, None)
        if self._backlog or not self._put(packet_id, payload, accepts):
            self._backlog.append((packet_id, payload, accepts))

    def _put(self, packet_id: int, payload: bytes | None, accepts: bool) -> bool:
        """Whether there was room."""
        if payload is None:
            return bool(lib.nq_give(self.codec, packet_id, accepts, ffi.NULL, 0))
        return bool(lib.nq_give(self.codec, packet_id, accepts, payload, len(payload)))

    def flush(self) -> None:
        """Send the verdicts given since, in their order. What the kernel refuses stays for the next flush()."""
        if self.is_closed:
            return
        lib.nq_flush(self.codec)
        if self.has_backlog:
            while self._backlog and self._put(*self._backlog[0]):
                self._backlog.popleft()
            lib.nq_flush(self.codec)

    @property
    def has_backlog(self) -> bool:
        """Whether verdicts wait that found no room behind those that the kernel refuses."""
        return bool(self._backlog)

    @property
    def is_refused(self) -> bool:
        """Whether the kernel refuses verdicts at the moment."""
        return bool(lib.nq_is_refused(self.codec)) or self.has_backlog

    def defer(self, packet_id: int, now: float) -> None:
        """Another thread is to decide on a packet."""
        self._deferred[packet_id] = now

    def probe(self, now: float) -> None:
        """Have the kernel say whether it still holds packets that were decided on, and let go of them: take_answer().

        With ``fail_open`` they pass, else they are dropped: the kernel never got their verdicts. Call it while every
        packet that receive() or the loop gave is decided on, or deferred.
        """
        while self._deferred and now - next(iter(self._deferred.values())) > _DEFERRED_TIMEOUT:
            del self._deferred[next(iter(self._deferred))]
        if self.is_refused or not lib.nq_has_room(self.codec):
            return
        first_deferred = next(iter(self._deferred), None)
        last_decided = lib.nq_last_id(self.codec) if first_deferred is None else (first_deferred - 1) & 0xFFFF_FFFF
        self._requests += 1
        self._probe_id = self._requests
        self._emptied = lib.nq_emptied(self.codec)
        lib.nq_sweep(self.codec, last_decided, self._fail_open, self._probe_id)
        self.flush()

    def take_answer(self) -> int | None:
        """Return the kernel's answer to the last probe(), once: 0 where it held such packets, ENOENT where it held
        none, another errno where the queue is not ours; None while there is none."""
        if self._probe_id is None or lib.nq_acknowledged(self.codec) != self._probe_id:
            return None
        self._probe_id = None
        return int(lib.nq_answer(self.codec))

    @property
    def is_unanswered(self) -> bool:
        """Whether the kernel owes an answer to probe(), though all that it has sent since was read."""
        return self._probe_id is not None and lib.nq_emptied(self.codec) != self._emptied

    def count(self, name: QueueCounter) -> None:
        """Add one to a counter of what became of the queue."""
        self._counted[name] += 1

    @property
    def counters(self) -> dict[QueueCounter, int]:
        """What was counted under this queue's number; the kernel's own drops are not among it."""
        counted = {name: self._counted[name] for name in QueueCounter if name not in _IN_KERNEL}
        counters = lib.nq_queue_counters(self.codec)
        for name in IN_QUEUES_OF_C:
            counted[name] += getattr(counters, name)
        return counted

    def kernel_drops(self) -> dict[QueueCounter, int]:
        """What the kernel has dropped before we saw it: the queue was full, or our receive buffer was. Nothing where it
        cannot be read, as by others than root."""
        try:
            lines = _KERNEL_QUEUES.read_text().splitlines()
        except OSError:  # for one, no descriptors are left
            return {}
        for line in lines:
            fields = line.split()
            if int(fields[0]) == self.number:
                return dict(zip(_IN_KERNEL, (int(fields[5]), int(fields[6])), strict=True))
        return dict.fromkeys(_IN_KERNEL, 0)

    def close(self) -> None:
        """Give the queue back; what waits in it is dropped by the kernel, and verdicts for it are ignored."""
        if self.is_closed:
            return
        self.is_closed = True
        self._counted[QueueCounter.VERDICTS_NOT_SENT] += lib.nq_waiting(self.codec) + len(self._backlog)
        self._backlog.clear()
        self._socket.close()
        self._bound.unbind()

    def fail(self, why: str) -> None:
        """Close the queue, because of this."""
        self.failure = why
        self.close()

    def bind_again(self) -> "Queue":
        """Close the queue, and return one of the same number that goes on counting; HostError where the kernel
        refuses."""
        self.close()
        fresh = Queue(self.number, max_len=self._max_len, fail_open=self._fail_open)
        fresh._counted = Counter(self.counters)
        fresh.count(QueueCounter.REBINDS)
        for packet in fresh.early():
            fresh._give(packet.id, None, self._fail_open)
        fresh.flush()
        return fresh

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
        """Configure the queue and read the kernel's answer, which is there when the request has been sent, unless our
        receive buffer was full; packets that come meanwhile are kept."""
        kind = _NFNL_SUBSYS_QUEUE << 8 | _NFQNL_MSG_CONFIG
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, self.number) + attributes
        for _ in range(_REQUEST_ATTEMPTS):
            self._requests += 1
            emptied = lib.nq_emptied(self.codec)
            self._socket.send(
                struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK, self._requests, 0) + body
            )
            while lib.nq_emptied(self.codec) == emptied and not lib.nq_is_refused(self.codec):
                self._early += self.receive()
            if lib.nq_acknowledged(self.codec) == self._requests:
                break
        else:
            raise HostError(f"NFQUEUE {self.number}: the kernel does not answer a configuration request")
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
