"""A netfilter queue: the netfilterqueue package binds it, our own codec then reads and writes its socket.

The package's own receive path cuts packets above 4,096 bytes. The codec receives and returns segments of 64 KiB whole
(NFQA_CFG_F_GSO), in batches.
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
from natmirror.linux.netlink import attribute, message

# linux/netfilter/nfnetlink_queue.h
_NFNL_SUBSYS_QUEUE, _NFQNL_MSG_CONFIG = 3, 2
_NFQA_CFG_PARAMS, _NFQA_CFG_QUEUE_MAXLEN, _NFQA_CFG_MASK, _NFQA_CFG_FLAGS = 2, 3, 4, 5
_F_FAIL_OPEN, _F_GSO = 1 << 0, 1 << 2
_COPY_PACKET = 2
_COPY_RANGE = 0xFFFF
# linux/netlink.h
_SOL_NETLINK, _NETLINK_NO_ENOBUFS, _NETLINK_CAP_ACK = 270, 5, 10
_NLM_F_ACK = 4
_NETLINK_NETFILTER = 12
# asm-generic/socket.h: with CAP_NET_ADMIN these exceed net.core.[rw]mem_max
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

_RECEIVE_BUFFER = 32 << 20
_RECEIVE_BUFFER_OF_OPEN = 8 << 20
"""Bytes, which the kernel doubles; then they hold 20,000 small packets, or 240 of 64 KiB."""
_LONGEST_QUEUE = 1 << 30
_SEND_BUFFER = 4 << 20
LONGEST_WAIT = 0.004
"""Seconds for which a receiving call may block; other threads may have to wait for this thread as long. The kernel
rounds it up to whole ticks and adds one: 4 ms become 8 ms at 250 ticks a second, 5 ms would become 12 ms."""
_REQUEST_ATTEMPTS = 10
_DEFERRED_TIMEOUT = 5.0
"""Seconds for which a packet may wait for another thread's verdict; after that its sender has sent it again."""
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
    """``nq_packet``: a packet in the codec's receive buffers, valid until the next receiving call."""

    payload: object
    arrival: object
    len: int
    id: int
    mark: int
    hook: int
    checksum: int
    truncated: int
    can_cut: int


def packet_of(raw: PacketRow) -> Packet:
    """Return a copy of a packet that the codec has received."""
    payload = ffi.buffer(raw.payload, raw.len)[:] if raw.len else b""
    return Packet(raw.id, raw.hook, payload, raw.checksum, bool(raw.truncated))


class Queue:
    """One queue of this network namespace.

    It holds at most ``max_len`` packets; the kernel drops further ones. With ``fail_open`` the receive buffer is the
    only limit, and the kernel lets further packets pass: it counts none that exceed ``max_len``, but gives those that
    exceed the buffer a number, so that natmirror notices. HostError where the kernel refuses, as it does without
    CAP_NET_ADMIN or while another program is bound to the queue.
    """

    def __init__(self, number: int, *, max_len: int = 8192, fail_open: bool = False) -> None:
        self.number = number
        self._max_len = max_len = _LONGEST_QUEUE if fail_open else max_len
        self._fail_open = fail_open
        self._counted: Counter[QueueCounter] = Counter()
        self._backlog: deque[tuple[int, bytes | None, bool]] = deque()
        self._deferred: dict[int, float] = {}
        self.is_closed = False
        self.failure: str | None = None
        """Why the queue was closed by fail(); None: it has not failed."""
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
        """The C struct that the loop uses."""
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
        self._socket.setblocking(True)  # calls that must not block say so with a flag
        try:
            self._configure(max_len, _F_GSO | (_F_FAIL_OPEN if fail_open else 0))
        except OSError as error:
            self.close()
            raise HostError(f"NFQUEUE {number}: the kernel refuses the configuration: {error}") from None
        except BaseException:
            self.close()
            raise

    def receive(self) -> list[Packet]:
        """Return waiting packets, at most a batch, without blocking. Drop truncated ones. HostError where the socket
        fails."""
        count = lib.nq_receive(self.codec, self._packets, False)
        if count < 0:
            raise HostError(f"NFQUEUE {self.number}: {errorcode.get(-count, -count)} while receiving")
        packets = [packet_of(packet) for packet in self._packets[0:count]]
        for packet in packets:
            if packet.truncated:
                self.drop(packet.id)
        return [packet for packet in packets if not packet.truncated]

    def early(self) -> list[Packet]:
        """Return the packets that came while the queue was being configured, once."""
        early, self._early = self._early, []
        return early

    def accept(self, packet_id: int, payload: bytes | None = None) -> None:
        """Let a packet pass, as ``payload`` if given. flush() sends the verdict."""
        self._give(packet_id, payload, True)

    def drop(self, packet_id: int) -> None:
        """Drop a packet. flush() sends the verdict."""
        self._give(packet_id, None, False)

    def _give(self, packet_id: int, payload: bytes | None, accepts: bool) -> None:
        """Give a verdict to the codec. If it has no room because the kernel refuses earlier ones, keep the verdict for
        the next flush()."""
        if self.is_closed:
            return  # the kernel has dropped the packet, and may have given its id to another one
        if self._deferred:
            self._deferred.pop(packet_id, None)
        if self._backlog or not self._put(packet_id, payload, accepts):
            self._backlog.append((packet_id, payload, accepts))

    def _put(self, packet_id: int, payload: bytes | None, accepts: bool) -> bool:
        """Give a verdict to the codec; return whether it had room."""
        if payload is None:
            return bool(lib.nq_give(self.codec, packet_id, accepts, ffi.NULL, 0))
        return bool(lib.nq_give(self.codec, packet_id, accepts, payload, len(payload)))

    def flush(self) -> None:
        """Send the verdicts given since the last call, in order. Those that the kernel refuses wait for the next
        call."""
        if self.is_closed:
            return
        lib.nq_flush(self.codec)
        if self.has_backlog:
            while self._backlog and self._put(*self._backlog[0]):
                self._backlog.popleft()
            lib.nq_flush(self.codec)

    @property
    def has_backlog(self) -> bool:
        """Return whether verdicts wait for room in the codec."""
        return bool(self._backlog)

    @property
    def is_refused(self) -> bool:
        """Return whether the kernel refuses verdicts at the moment."""
        return bool(lib.nq_is_refused(self.codec)) or self.has_backlog

    def defer(self, packet_id: int, now: float) -> None:
        """Note that another thread decides a packet."""
        self._deferred[packet_id] = now

    def probe(self, now: float) -> None:
        """Ask the kernel whether it still holds packets that have verdicts: take_answer() returns its answer.

        If it does, it never got these verdicts. The same message makes the kernel drop the packets, or let them pass
        with ``fail_open``. Call it only while every received packet is decided or deferred.
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
        lib.nq_probe(self.codec, last_decided, self._fail_open, self._probe_id)
        self.flush()

    def take_answer(self) -> int | None:
        """Return the kernel's answer to the last probe(), once: 0 where it held such packets, ENOENT where it held
        none, another errno where the queue is not bound to our socket; None: there is no answer yet."""
        if self._probe_id is None or lib.nq_acknowledged(self.codec) != self._probe_id:
            return None
        self._probe_id = None
        return int(lib.nq_answer(self.codec))

    @property
    def is_unanswered(self) -> bool:
        """Return whether probe() has no answer although everything that the kernel has sent since was read."""
        return self._probe_id is not None and lib.nq_emptied(self.codec) != self._emptied

    def count(self, name: QueueCounter) -> None:
        """Add one to a counter of this queue number."""
        self._counted[name] += 1

    @property
    def counters(self) -> dict[QueueCounter, int]:
        """Return the counters of this queue number, except for the packets that the kernel has dropped."""
        counted = {name: self._counted[name] for name in QueueCounter if name not in _IN_KERNEL}
        counters = lib.nq_queue_counters(self.codec)
        for name in IN_QUEUES_OF_C:
            counted[name] += getattr(counters, name)
        return counted

    def kernel_drops(self) -> dict[QueueCounter, int]:
        """Return the counters of packets that the kernel has dropped because the queue, or our receive buffer, was
        full. Empty if the counters cannot be read, e.g. by a user other than root."""
        try:
            lines = _KERNEL_QUEUES.read_text().splitlines()
        except OSError:  # e.g. no permission, or no descriptors left
            return {}
        for line in lines:
            fields = line.split()
            if int(fields[0]) == self.number:
                return dict(zip(_IN_KERNEL, (int(fields[5]), int(fields[6])), strict=True))
        return dict.fromkeys(_IN_KERNEL, 0)

    def close(self) -> None:
        """Unbind the queue: the kernel drops the packets in it, and later verdicts are ignored."""
        if self.is_closed:
            return
        self.is_closed = True
        self._counted[QueueCounter.VERDICTS_NOT_SENT] += lib.nq_waiting(self.codec) + len(self._backlog)
        self._backlog.clear()
        self._socket.close()
        self._bound.unbind()

    def fail(self, why: str) -> None:
        """Close the queue, and note why it has failed."""
        self.failure = why
        self.close()

    def bind_again(self) -> "Queue":
        """Close the queue; return a newly bound one with the same number and counters. HostError where the kernel
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
            (socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_OF_OPEN if self._fail_open else _RECEIVE_BUFFER),
            (socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER),
            (socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, round(LONGEST_WAIT * 1e6))),
        ):
            self._socket.setsockopt(level, option, value)
        self._request(
            attribute(_NFQA_CFG_PARAMS, struct.pack("!IB", _COPY_RANGE, _COPY_PACKET))
            + attribute(_NFQA_CFG_QUEUE_MAXLEN, struct.pack("!I", max_len))
            + attribute(_NFQA_CFG_FLAGS, struct.pack("!I", flags))
            + attribute(_NFQA_CFG_MASK, struct.pack("!I", _F_GSO | _F_FAIL_OPEN))
        )

    def _request(self, attributes: bytes) -> None:
        """Configure the queue and read the kernel's answer; keep packets that come meanwhile for early().

        The answer is there as soon as the request has been sent, unless our receive buffer was full: then try again.
        """
        kind = _NFNL_SUBSYS_QUEUE << 8 | _NFQNL_MSG_CONFIG
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, self.number) + attributes
        for _ in range(_REQUEST_ATTEMPTS):
            self._requests += 1
            emptied = lib.nq_emptied(self.codec)
            self._socket.send(message(kind, _NLM_F_ACK, self._requests, body))
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


def _why(error: OSError) -> str:
    if error.errno == EPERM or "permission" in str(error).lower():
        return "another program is bound to it, or CAP_NET_ADMIN is missing: stop that program, or run as root"
    return str(error) or "the kernel refuses; another program may be bound to it"


def _never_called(packet: object) -> None:
    """Do nothing: the package requires a callback, but we do not use its receive loop."""
