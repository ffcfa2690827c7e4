"""Interfaces, as the kernel shows them: whether it does ARP there."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.linux.interfaces import Link, read_links
from natmirror.linux.netlink import attribute

ETHERNET, TUNNEL, LOOPBACK = 1, 65534, 772  # ARPHRD_*
NOARP = 1 << 7


class Kernel:
    """Shows these interfaces, eth2 first."""

    def __init__(self, *links: tuple[int, int, bytes]) -> None:
        self.links = [
            struct.pack("=BBHiII", 0, 0, device_type, index, flags, 0) + attribute(3, b"eth%d\0" % index) + more
            for index, (device_type, flags, more) in enumerate(links, 2)
        ]

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        yield from self.links


def link(*links: tuple[int, int, bytes]) -> Link:
    kernel: Any = Kernel(*links)
    return dict(read_links(kernel).values())["eth2"]


def kind(name: str) -> bytes:
    return attribute(18, attribute(1, name.encode()))


def bus(name: str) -> bytes:
    return attribute(57, name.encode() + b"\0")


OVER_ETH3 = attribute(5, struct.pack("=I", 3))


@pytest.mark.parametrize(
    ("links", "does_arp"),
    [
        ([(ETHERNET, 0, bus("pci"))], True),
        ([(ETHERNET, NOARP, bus("pci"))], False),
        ([(ETHERNET, NOARP, kind("bond"))], False),
        ([(ETHERNET, NOARP, kind("vlan") + OVER_ETH3), (ETHERNET, 0, bus("pci"))], False),
        ([(ETHERNET, NOARP, kind("vlan") + OVER_ETH3), (ETHERNET, NOARP, bus("ccwgroup"))], None),
        ([(ETHERNET, NOARP, kind("ipvlan"))], None),
        ([(ETHERNET, NOARP, bus("usb"))], None),
        ([(ETHERNET, 0, bus("usb"))], True),
        ([(TUNNEL, NOARP, kind("tun"))], None),
        ([(LOOPBACK, 0, b"")], None),
    ],
)
def test_arp_is_off_only_where_it_is_needed(links: list[tuple[int, int, bytes]], does_arp: bool | None) -> None:
    assert link(*links).does_arp == does_arp


def test_a_macvlan_is_beside_another_interface() -> None:
    below = (ETHERNET, 0, bus("pci"))
    assert link((ETHERNET, 0, kind("macvlan") + OVER_ETH3), below).beside == "eth3"
    assert link((ETHERNET, 0, kind("vlan") + OVER_ETH3), below).beside is None
    elsewhere = kind("macvlan") + OVER_ETH3 + attribute(37, bytes(4))
    assert link((ETHERNET, 0, elsewhere), below).beside is None, "in another network namespace"


def test_the_xdp_programs_of_an_interface() -> None:
    def programs(*numbers: tuple[int, int]) -> bytes:
        return attribute(
            43, attribute(2, b"\2") + b"".join(attribute(kind, struct.pack("=I", n)) for kind, n in numbers)
        )

    assert link((ETHERNET, 0, programs((4, 12), (6, 12)))).xdp == (("xdpgeneric", 12),)
    assert link((ETHERNET, 0, programs((5, 3), (6, 12)))).xdp == (("xdpdrv", 3), ("xdpgeneric", 12))
    assert link((ETHERNET, 0, attribute(43, attribute(2, b"\0")))).xdp == ()
