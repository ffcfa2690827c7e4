"""The packet loop, with a socket in place of the kernel."""

import os
import socket
import struct
from array import array
from typing import Any

from natmirror._ffi import ffi, lib
from natmirror.fastpath import NEVER, Gear, Memory, Plan, PlannedService
from natmirror.linux.loop import BoundQueue, Loop, LoopEvent
from natmirror.linux.nfqueue import Queue
from natmirror.net.build import build
from natmirror.net.packet import ACK
from tests.helpers.nfqueue import queued
from tests.helpers.support import C1, CLIENT, SERVICE

PREROUTING = 0
FAR = 1e9


class Stage:
    """A loop with one queue. The test has the other ends of the queue's socket and of the socket for outgoing
    packets."""

    def __init__(self) -> None:
        self.gear = Gear(4, Memory(1 << 20), bytes(16))
        self.plan = Plan(self.gear.handle)
        self.plan.put_service(0, PlannedService(SERVICE, array("H", [0])))
        self.plan.put_backend(0, 0, C1)
        self.socket, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kernel.setblocking(False)
        self.wake_read, self.wake_write = socket.socketpair()
        self.out, out = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.out.setblocking(False)
        self.out_socket = out
        self.codec = ffi.gc(lib.nq_new(self.socket.fileno(), 1), lib.nq_free)
        self.timer = os.fdopen(lib.nl_timer(), "rb", buffering=0)
        fields = {
            "gear": self.gear.handle,
            "outbox": {"fd": out.fileno(), "gather_time": 0.005, "due_at": NEVER},
            "wake_fd": self.wake_read.fileno(),
        }
        fields |= {"timer_fd": self.timer.fileno(), "armed_at": NEVER}
        self.loop: Any = ffi.new("nl_loop *", fields)
        self.loop.queues[0] = self.codec
        self.loop.queue_count = 1

    def close(self) -> None:
        for end in (self.socket, self.kernel, self.wake_read, self.wake_write, self.out, self.out_socket, self.timer):
            end.close()

    def queue(self, number: int, payload: bytes, *, mark: int = 0) -> None:
        """Queue a packet, as the kernel does."""
        self.kernel.send(queued(number, payload, hook=PREROUTING, mark=mark))

    def run(self, until: float = FAR) -> LoopEvent:
        return LoopEvent(lib.nl_run(self.loop, until))

    def drop(self) -> None:
        """Drop the punted packet, as Python does."""
        lib.nq_drop(self.codec, self.loop.punted.id)
        lib.nl_decided(self.loop)

    def verdicts(self) -> list[tuple[int, int]]:
        """Return the verdicts since the last call, in order: packet number and verdict."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                sent = self.kernel.recv(1 << 20)
            except BlockingIOError:
                return found
            while sent:
                length = struct.unpack_from("=I", sent)[0]
                _, _, verdict, number = struct.unpack_from("=HHII", sent, 20)
                found.append((socket.ntohl(number), socket.ntohl(verdict)))
                sent = sent[length:]


def data(number: int) -> bytes:
    return build(CLIENT, SERVICE, seq=number, ack=1, flags=ACK, window=100, payload=b"x")


def new_loop(stage: Stage, queue: Queue) -> Loop:
    out_fd, wake_fd = stage.out_socket.fileno(), stage.wake_read.fileno()
    return Loop(stage.gear.handle, [BoundQueue(queue, False)], out_fd=out_fd, wake_fd=wake_fd, gathers=False)
