"""IPsec policies: which one certainly blocks a packet."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from natmirror.linux.routes import Question
from natmirror.linux.xfrm import Policy, blocking, read_policies

CLIENTS, POOL = IPv4Network("10.10.0.0/24"), IPv4Network("10.20.0.0/24")
REQUEST = Question(IPv4Address("10.20.0.11"), IPv4Address("10.10.0.11"), "sw0", dport=6653)
BLOCK = Policy("fwd", 1, 7, True, CLIENTS, POOL)
ALLOW = Policy("fwd", 2, 7, False, CLIENTS, POOL)


@pytest.mark.parametrize(
    ("policies", "does_block"),
    [
        ([], False),
        ([BLOCK], True),
        ([ALLOW, BLOCK], False),
        ([BLOCK, ALLOW], False),
        ([BLOCK, Policy("fwd", 3, 8, False, CLIENTS, POOL)], True),
        ([Policy("fwd", 3, 1, False, POOL, CLIENTS), BLOCK], True),
        ([Policy("fwd", 3, 1, False, CLIENTS, POOL, dport=22), BLOCK], True),
        ([Policy("fwd", 3, 1, False, CLIENTS, POOL, dport=6653), BLOCK], False),
        ([Policy("fwd", 3, 1, False, CLIENTS, POOL, is_partial=True), BLOCK], False),
        ([Policy("fwd", 3, 1, False, CLIENTS, POOL, sport=40000), BLOCK], False),
        ([Policy("out", 4, 9, True, CLIENTS, POOL), ALLOW], True),
        ([Policy("fwd", 1, 7, True, CLIENTS, POOL, dport=6653)], True),
    ],
)
def test_the_first_policy_that_applies_decides(policies: list[Policy], *, does_block: bool) -> None:
    assert (blocking(policies, REQUEST) is not None) == does_block


def test_policies_are_read() -> None:
    assert all(policy.direction in ("fwd", "out") for policy in read_policies())
