"""IPsec policies (ip-xfrm(8)) that block packets which this host forwards."""

import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from natmirror.linux.netlink import attributes, message, messages
from natmirror.linux.routes import Question

# linux/netlink.h, linux/xfrm.h
_NETLINK_XFRM = 6
_GETPOLICY, _NEWPOLICY, _GETDEFAULT, _DONE, _ERROR = 21, 19, 40, 3, 2
_DUMP = 0x300
_POLICY_ID_LEN = 64  # struct xfrm_userpolicy_id
_DEFAULTS = {1: "fwd", 2: "out"}
"""The direction by its place in struct xfrm_userpolicy_default, which has a byte for each."""
_BLOCK_BY_DEFAULT = 1  # XFRM_USERPOLICY_BLOCK
# struct xfrm_userpolicy_info: the selector, lifetimes, priority, index, direction, action
_POLICY = struct.Struct("=4s12x4s12x2s2s2s2sHBBB3xiI96xIIBB2x")
_POLICY_LEN = 168
_MARK, _IF_ID = 21, 31  # XFRMA_MARK, XFRMA_IF_ID
_BLOCK = 1
_ANY = IPv4Network("0.0.0.0/0")
_LAST = 1 << 32  # after each priority
_DIRECTIONS = {1: "out", 2: "fwd"}
_MAX_POLICIES = 1000
_MAX_LEN = 1 << 16
_TIMEOUT = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy for forwarded packets. ``is_partial``: it has conditions that natmirror does not compare. ``index`` 0:
    it is the default of its direction, for packets to which no other one applies."""

    direction: str
    index: int
    priority: int
    blocks: bool
    source: IPv4Network
    to: IPv4Network
    sport: int = 0
    dport: int = 0
    """0: any port."""
    is_partial: bool = False

    def matches(self, packet: Question) -> bool | None:
        """Return whether the policy applies to a packet; None if it may."""
        if packet.to not in self.to or packet.source is None or packet.source not in self.source:
            return False
        ports = ((self.sport, packet.sport), (self.dport, packet.dport))
        if any(own and port and own != port for own, port in ports):
            return False
        return None if self.is_partial or any(own and not port for own, port in ports) else True

    @property
    def removal(self) -> str:
        """The command that ends it."""
        if not self.index:
            return f"ip xfrm policy setdefault {self.direction} accept"
        return f"ip xfrm policy delete index {self.index} dir {self.direction}"

    def __str__(self) -> str:
        if not self.index:
            return f"default {self.direction} block"
        return f"src {self.source} dst {self.to} dir {self.direction}"


def blocking(policies: Sequence[Policy], packet: Question, directions: Iterable[str]) -> Policy | None:
    """Return the policy of one of these directions that certainly blocks a packet, or None. ``policies`` stand by
    priority, and the first one of a direction that applies decides."""
    for direction in directions:
        applying = [one for one in policies if one.direction == direction and one.matches(packet) is not False]
        if applying and applying[0].matches(packet) and applying[0].blocks:
            equal = [one for one in applying if one.priority == applying[0].priority]
            if all(one.blocks for one in equal):
                return applying[0]
    return None


def read_policies() -> list[Policy]:
    """Return the policies for forwarded packets by priority, a bounded number, and those that block by default; none
    where the kernel has no IPsec."""
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM) as kernel:
        kernel.settimeout(_TIMEOUT)
        found = _defaults(kernel)
        kernel.send(message(_GETPOLICY, _DUMP, 1, bytes(_POLICY_ID_LEN)))
        while len(found) < _MAX_POLICIES:
            for answer in messages(kernel.recv(_MAX_LEN)):
                if answer.kind in (_DONE, _ERROR):
                    return sorted(found, key=lambda one: one.priority)
                if answer.kind == _NEWPOLICY and (policy := _parsed(answer.body)) is not None:
                    found.append(policy)
    return []


def _defaults(kernel: socket.socket) -> list[Policy]:
    """Return the defaults that block (ip xfrm policy setdefault); none of a kernel that has no such defaults."""
    kernel.send(message(_GETDEFAULT, 0, 1, bytes(4)))
    answer = next(messages(kernel.recv(_MAX_LEN)))
    return [
        Policy(direction, 0, _LAST, True, _ANY, _ANY)
        for place, direction in _DEFAULTS.items()
        if answer.kind == _GETDEFAULT and answer.body[place] == _BLOCK_BY_DEFAULT
    ]


def _parsed(body: bytes) -> Policy | None:
    (
        to,
        source,
        dport,
        dport_mask,
        sport,
        sport_mask,
        family,
        to_len,
        source_len,
        protocol,
        link,
        _,
        priority,
        index,
        direction,
        action,
    ) = _POLICY.unpack_from(body)
    if family not in (socket.AF_UNSPEC, socket.AF_INET) or direction not in _DIRECTIONS:
        return None
    if protocol not in (0, socket.IPPROTO_TCP):
        return None
    conditions = attributes(body[_POLICY_LEN:])
    is_partial = bool(link) or _MARK in conditions or _IF_ID in conditions
    return Policy(
        _DIRECTIONS[direction],
        index,
        priority,
        action == _BLOCK,
        IPv4Network((IPv4Address(source), source_len), strict=False),
        IPv4Network((IPv4Address(to), to_len), strict=False),
        sport=_port(sport, sport_mask),
        dport=_port(dport, dport_mask),
        is_partial=is_partial or any(mask not in (b"\0\0", b"\xff\xff") for mask in (dport_mask, sport_mask)),
    )


def _port(port: bytes, mask: bytes) -> int:
    return int.from_bytes(port) if mask == b"\xff\xff" else 0
