"""IPsec policies: which one certainly blocks a packet."""

import socket
import struct
import sys
from errno import EINVAL
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
    assert (blocking(policies, REQUEST, ("fwd", "out")) is not None) == does_block


def test_a_direction_that_the_settings_excuse_blocks_nothing() -> None:
    out = Policy("out", 4, 9, True, CLIENTS, POOL)
    assert blocking([BLOCK, out], REQUEST, ["out"]) == out
    assert blocking([BLOCK], REQUEST, ["out"]) is None
    assert blocking([BLOCK, out], REQUEST, []) is None


RECORDED = bytes.fromhex(
    f"0a140000{'00' * 12}0a0a0005{'00' * 20}02001818{'00' * 12}{'ff' * 32}{'00' * 48}c0940c6b{'00' * 12}"
    f"07000000020000000201{'00' * 6}0a0010{'00' * 9}"
)
"""What Linux 6.18 sends for: ip xfrm policy add src 10.10.0.5/24 dst 10.20.0.0/24 dir fwd priority 7 action block."""


def changed(*values: tuple[int, str]) -> bytes:
    """Return the policy with other bytes at these places."""
    body = bytearray(RECORDED)
    for at, value in values:
        body[at : at + len(value) // 2] = bytes.fromhex(value)
    return bytes(body)


class Kernel:
    """Answers the requests for the defaults, with an error where there are none, and for all policies."""

    def __init__(self, *policies: bytes, defaults: bytes = b"") -> None:
        self.left = list(policies)
        self.defaults = defaults
        self.asked = 0

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        pass

    def send(self, request: bytes) -> None:
        assert len(request) == int.from_bytes(request[:4], sys.byteorder)
        self.asked = int.from_bytes(request[4:6], sys.byteorder)

    def recv(self, _: int) -> bytes:
        if self.asked == 40:
            kind, body = (40, self.defaults) if self.defaults else (2, struct.pack("=i", -EINVAL))
        else:
            kind, body = (19, self.left.pop(0)) if self.left else (3, bytes(4))
        return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def read(monkeypatch: pytest.MonkeyPatch, *policies: bytes, defaults: bytes = b"") -> list[Policy]:
    monkeypatch.setattr(socket, "socket", lambda *_: Kernel(*policies, defaults=defaults))
    return read_policies()


def test_policies_are_read_by_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    out = changed((32, "19fdffff"), (44, "06"), (152, "05"), (156, "09"), (160, "01"))
    allow = changed((152, "06"), (161, "00"))
    assert read(monkeypatch, RECORDED, out, allow) == [
        Policy("out", 9, 5, True, CLIENTS, POOL, dport=6653),
        Policy("fwd", 2, 6, False, CLIENTS, POOL),
        Policy("fwd", 2, 7, True, CLIENTS, POOL),
    ]


def test_a_default_blocks_what_no_policy_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, defaults=b"\1\2\2\0") == []
    (found,) = read(monkeypatch, defaults=b"\2\1\2\0")  # what Linux 6.18 sends after setdefault fwd block
    assert blocking([found], REQUEST, ["fwd"]) == found
    assert blocking([found], REQUEST, ["out"]) is None
    assert (str(found), found.removal) == ("default fwd block", "ip xfrm policy setdefault fwd accept")
    allowing = read(monkeypatch, changed((161, "00"), (32, "0000"), (44, "00")), defaults=b"\2\1\2\0")
    assert [one.index for one in allowing] == [2, 0]
    assert blocking(allowing, REQUEST, ["fwd"]) is None


@pytest.mark.parametrize(
    "policy",
    [
        changed((0, "fd01"), (16, "fd00"), (40, "0a004040")),
        changed((44, "11")),
        changed((160, "00")),
        changed((160, "03")),
    ],
    ids=["of IPv6", "of UDP", "for received packets", "of a socket"],
)
def test_policies_for_no_forwarded_tcp_packets_are_left_out(monkeypatch: pytest.MonkeyPatch, policy: bytes) -> None:
    assert [one.index for one in read(monkeypatch, policy, changed((156, "09")))] == [9]


@pytest.mark.parametrize(
    "policy",
    [
        changed((48, "03")),
        changed((32, "1000fff0")),
        changed((36, "1000fff0")),
        RECORDED + bytes.fromhex("0c00150005000000ff000000"),
        RECORDED + bytes.fromhex("08001f0007000000"),
    ],
    ids=["interface", "destination ports", "source ports", "mark", "interface id"],
)
def test_a_policy_with_other_conditions_is_not_certain(monkeypatch: pytest.MonkeyPatch, policy: bytes) -> None:
    (found,) = read(monkeypatch, policy)
    assert found.is_partial
    assert blocking([found], REQUEST, ["fwd"]) is None


def test_nothing_is_certain_with_too_many_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(read(monkeypatch, *[RECORDED] * 999)) == 999
    assert read(monkeypatch, *[RECORDED] * 1000) == []
