"""Policy rules (ip-rule(8)): those that refuse packets, and by what they choose the routes of packets."""

import socket
import struct
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Network

from pyroute2 import IPRoute

from natmirror.linux.netlink import attributes
from natmirror.linux.routes import REFUSING, Question, RouteSocket

_ANY = IPv4Network("0.0.0.0/0")

# linux/rtnetlink.h, linux/fib_rules.h
_GETRULE = 34
_HEADER = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr; the fourth byte is tos
_SRC, _IIF, _MARK, _TUNNEL, _OIF, _L3MDEV, _UIDS = 2, 3, 10, 12, 17, 19, 20
_IP_PROTO, _SPORTS, _DPORTS, _DSCP, _SPORT_MASK, _DPORT_MASK = 22, 23, 24, 25, 28, 29
_ASKED = {_SRC, _IIF, _OIF, _L3MDEV, _UIDS, _IP_PROTO, _SPORTS, _DPORTS}
_NOT_ASKED = {_MARK, _TUNNEL, _DSCP}


class Routing(Enum):
    """By what the policy rules choose the routes of packets."""

    ALIKE = auto()
    """By the destination alone: packets of this host and those that it forwards take the same routes."""
    BY_PACKET = auto()
    """Also by what a question to the kernel names, such as the source and the interface."""
    UNKNOWN = auto()
    """Also by what no question names, such as marks."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A policy rule that refuses packets, with the conditions that natmirror compares."""

    priority: int
    kind: str
    source: IPv4Network = _ANY
    to: IPv4Network = _ANY
    link: str | None = None
    """The interface by which packets come in; None: any."""

    def matches(self, packet: Question) -> bool:
        """Return whether a packet may be one that the rule refuses."""
        return (
            (self.source == _ANY or (packet.source is not None and packet.source in self.source))
            and packet.to in self.to
            and self.link in (None, packet.link)
        )

    def __str__(self) -> str:
        parts = [f"priority {self.priority} from {'all' if self.source == _ANY else self.source}"]
        parts += [f"to {self.to}"] if self.to != _ANY else []
        parts += [f"iif {self.link}"] if self.link else []
        return " ".join([*parts, self.kind])


def refusing_rules(netlink: IPRoute) -> list[PolicyRule]:
    """Return the policy rules that refuse packets, by priority. NetlinkError or OSError where the kernel does not
    answer."""
    found = [
        PolicyRule(
            rule.get_attr("FRA_PRIORITY") or 0,
            REFUSING[rule["action"]],
            _network(rule.get_attr("FRA_SRC"), rule["src_len"]),
            _network(rule.get_attr("FRA_DST"), rule["dst_len"]),
            rule.get_attr("FRA_IIFNAME"),
        )
        for rule in netlink.get_rules(family=socket.AF_INET)
        if rule["action"] in REFUSING
    ]
    return sorted(found, key=lambda rule: rule.priority)


def _network(address: str | None, prefix_len: int) -> IPv4Network:
    """Return the network that the kernel compares: it keeps the address as the operator wrote it, with host bits."""
    return IPv4Network((address or 0, prefix_len), strict=False)


def routing(kernel: RouteSocket) -> Routing:
    """Return by what the policy rules choose routes. OSError where the kernel does not answer."""
    found = Routing.ALIKE
    for body in list(kernel.dump(_GETRULE, _HEADER.pack(socket.AF_INET, *(0,) * 8))):  # leaves no answer unread
        values = attributes(body[_HEADER.size :])
        if body[3] or values.keys() & _NOT_ASKED or _has_many_ports(values):
            return Routing.UNKNOWN
        if values.keys() & _ASKED:
            found = Routing.BY_PACKET
    return found


def _has_many_ports(values: dict[int, bytes]) -> bool:
    """Return whether a rule names more than one port: the client's may be among them, which no question names."""
    ranges = [values[kind] for kind in (_SPORTS, _DPORTS) if kind in values]
    masks = [values[kind] for kind in (_SPORT_MASK, _DPORT_MASK) if kind in values]
    return any(one[:2] != one[2:4] for one in ranges) or any(one != b"\xff\xff" for one in masks)
