"""Which NFQUEUEs a program reads, as the kernel tells with CAP_NET_ADMIN alone."""

import os
import socket
import struct
from collections.abc import Collection, Iterable
from errno import ENODEV, EPERM

from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.netlink import attribute, message, messages

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_queue.h
_NETLINK_NETFILTER = 12
_NFQNL_MSG_CONFIG = 3 << 8 | 2
_NLM_F_ACK = 4
_NFQA_CFG_QUEUE_MAXLEN = 3
_ANSWER_LEN = 4096

_TIMEOUT = 1.0  # seconds; the kernel answers at once
_MAX_ASKED = 64


def unread_queues(chains: Iterable[BaseChain]) -> set[int]:
    """Return the queues of these rules that no program reads, looking at 64 of them at most. OSError where the kernel
    does not answer."""
    found = {rule.queues for chain in chains for rules in chain.chains.values() for rule in rules if rule.queues}
    numbers = sorted({number for one in found for number in range(one.first, one.last + 1)})[:_MAX_ASKED]
    return {number for number, error in _errors(numbers).items() if error == ENODEV}


def taken_queues(numbers: Collection[int]) -> set[int]:
    """Return those of these queues that a program reads. OSError where the kernel does not offer NFQUEUE."""
    errors = _errors(numbers)
    if others := set(errors.values()) - {ENODEV, EPERM}:
        raise OSError(min(others), os.strerror(min(others)))
    return {number for number, error in errors.items() if error == EPERM}


def _errors(numbers: Collection[int]) -> dict[int, int]:
    if not numbers:
        return {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
        kernel.settimeout(_TIMEOUT)
        return {number: _error(kernel, number) for number in numbers}


def _error(kernel: socket.socket, number: int) -> int:
    """Ask to change a queue that this socket has not bound: the kernel refuses with EPERM if another one has, else with
    ENODEV."""
    length = attribute(_NFQA_CFG_QUEUE_MAXLEN, struct.pack("!I", 1024))
    kernel.send(message(_NFQNL_MSG_CONFIG, _NLM_F_ACK, number, struct.pack("!BBH", 0, 0, number) + length))
    answer = next(messages(kernel.recv(_ANSWER_LEN)))
    return -int(struct.unpack_from("=i", answer.body)[0])
