"""Interfaces, as the kernel shows them: whether it does ARP there."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.linux.interfaces import read_links
from natmirror.linux.netlink import attribute

ETHERNET, TUNNEL, LOOPBACK = 1, 65534, 772  # ARPHRD_*
NOARP = 1 << 7


class Kernel:
    """Shows one interface."""

    def __init__(self, device_type: int, flags: int, kind: str, bus: str) -> None:
        info = attribute(1, kind.encode()) if kind else b""
        self.body = struct.pack("=BBHiII", 0, 0, device_type, 2, flags, 0) + attribute(3, b"eth0\0")
        self.body += attribute(18, info) + (attribute(57, bus.encode() + b"\0") if bus else b"")

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        yield self.body


@pytest.mark.parametrize(
    ("device_type", "flags", "kind", "bus", "does_arp"),
    [
        (ETHERNET, 0, "", "pci", True),
        (ETHERNET, NOARP, "", "pci", False),
        (ETHERNET, NOARP, "vlan", "", False),
        (ETHERNET, NOARP, "ipvlan", "", None),
        (ETHERNET, NOARP, "", "usb", None),
        (TUNNEL, NOARP, "tun", "", None),
        (LOOPBACK, 0, "", "", None),
    ],
    ids=["on", "off", "off at a VLAN", "routed without ARP", "a modem", "no Ethernet", "lo"],
)
def test_arp_is_off_only_where_it_is_needed(
    device_type: int, flags: int, kind: str, bus: str, does_arp: bool | None
) -> None:
    kernel: Any = Kernel(device_type, flags, kind, bus)
    [(name, link)] = read_links(kernel).values()
    assert (name, link.does_arp) == ("eth0", does_arp)
