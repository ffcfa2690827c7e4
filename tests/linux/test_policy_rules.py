"""Policy rules: those that refuse packets, from what a kernel has sent, and by what rules choose routes."""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg

from natmirror.linux.netlink import attribute
from natmirror.linux.policy_rules import Routing, refusing_rules, routing
from natmirror.linux.routes import Question, RouteSocket

# Linux 6.18, after: ip rule add from 10.9.2.3/8 to 10.99.0.0/16 blackhole prio 50; ip rule add iif lo prohibit prio 60
FROM_TABLE = (
    "3c0000002000020001000000ab2b000002000000fe0000010000000008000f00fe00000008000e00ffffffff05001500020000000800"
    "0600fe7f0000"
)
WITH_HOST_BITS = (
    "4c0000002000020001000000ab2b000002100800000000060000000008000f000000000008000e00ffffffff05001500000000000800"
    "060032000000080001000a630000080002000a090203"
)
BY_INTERFACE = (
    "440000002000020001000000ab2b000002000000000000080000000008000f000000000008000e00ffffffff0500150000000000070003"
    "006c6f0000080006003c000000"
)

TABLE, PRIORITY = attribute(15, struct.pack("=I", 100)), attribute(6, struct.pack("=I", 50))
MARK, IIF, ONE_PORT = (
    attribute(10, struct.pack("=I", 1)),
    attribute(3, b"sw0\0"),
    attribute(23, bytes.fromhex("fd19fd19")),
)
ALL_OF_IT, A_PART = attribute(28, b"\xff\xff"), attribute(28, b"\xff\x00")


class Netlink:
    """A netlink socket that has these rules."""

    def get_rules(self, family: int) -> list[Any]:
        rules = [fibmsg(bytes.fromhex(one)) for one in (BY_INTERFACE, FROM_TABLE, WITH_HOST_BITS)]
        for rule in rules:
            rule.decode()
        return rules


def test_the_kernel_keeps_the_host_bits_of_a_network_and_does_not_compare_them() -> None:
    first, second = refusing_rules(Netlink())
    assert str(first) == "priority 50 from 10.0.0.0/8 to 10.99.0.0/16 blackhole"
    assert str(second) == "priority 60 from all iif lo prohibit"
    to = IPv4Address("10.99.0.1")
    assert first.matches(Question(to, IPv4Address("10.200.0.1"), "sw0"))
    assert not first.matches(Question(to, IPv4Address("11.9.2.3"), "sw0"))


def rule(*values: bytes, tos: int = 0) -> bytes:
    return struct.pack("=BBBBBBBBI", 2, 0, 0, tos, 100, 0, 0, 1, 0) + b"".join(values)


class Kernel(RouteSocket):
    def __init__(self, *rules: bytes) -> None:
        self.rules = rules
        self.is_read = False

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        assert (kind, body) == (34, b"\x02" + bytes(11))
        yield from self.rules
        self.is_read = True


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        ([rule(TABLE), rule(PRIORITY, TABLE)], Routing.ALIKE),
        ([rule(TABLE), rule(IIF, TABLE)], Routing.BY_PACKET),
        ([rule(ONE_PORT, ALL_OF_IT, TABLE)], Routing.BY_PACKET),
        ([rule(ONE_PORT, A_PART, TABLE)], Routing.UNKNOWN),
        ([rule(attribute(24, bytes.fromhex("e803d007")), TABLE)], Routing.UNKNOWN),
        ([rule(MARK, TABLE), rule(IIF, TABLE)], Routing.UNKNOWN),
        ([rule(IIF, TABLE), rule(TABLE, tos=16)], Routing.UNKNOWN),
        ([rule(attribute(25, b"\x04"), TABLE)], Routing.UNKNOWN),
    ],
)
def test_rules_choose_by_what_questions_name_or_by_more(rules: list[bytes], kind: Routing) -> None:
    assert routing(Kernel(*rules)) is kind


def test_this_machine_has_rules() -> None:
    with RouteSocket() as kernel:
        assert routing(kernel) in Routing


def test_no_answer_is_left_for_the_next_question() -> None:
    kernel = Kernel(rule(MARK), rule(TABLE))
    assert routing(kernel) is Routing.UNKNOWN
    assert kernel.is_read
