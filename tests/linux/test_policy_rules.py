"""Policy rules that refuse packets, from what a kernel has sent."""

from ipaddress import IPv4Address
from typing import Any

from pyroute2.netlink.rtnl.fibmsg import fibmsg

from natmirror.linux.policy_rules import refusing_rules
from natmirror.linux.routes import Question

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
