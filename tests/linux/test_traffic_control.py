"""XDP programs, tc filters and qdiscs, as the kernel shows them."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.linux import traffic_control
from natmirror.linux.interfaces import Link
from natmirror.linux.netlink import attribute
from natmirror.linux.traffic_control import Traffic, read_traffic

QDISC, FILTER = 38, 46  # RTM_GET*
ROOT, CLSACT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF2


def shown(interface: int, handle: int, parent: int, info: int, kind: str, more: bytes = b"") -> bytes:
    return (
        struct.pack("=BBHiIII", 0, 0, 0, interface, handle, parent, info) + attribute(1, kind.encode() + b"\0") + more
    )


def queue(held: int, dropped: int) -> bytes:
    """Return TCA_STATS2 with the numbers of a queue."""
    return attribute(7, attribute(1, bytes(16)) + attribute(3, struct.pack("=5I", held, 100, dropped, 0, 0)))


class Kernel:
    """Has these qdiscs, and at each place the filters of its interface and parent."""

    def __init__(self) -> None:
        self.qdiscs: tuple[bytes, ...] = ()
        self.filters: dict[tuple[int, int], list[bytes]] = {}

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        _, _, _, interface, _, parent, _ = struct.unpack("=BBHiIII", body)
        yield from self.qdiscs if kind == QDISC else self.filters.get((interface, parent), [])


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    kernel = Kernel()
    monkeypatch.setattr(traffic_control, "RouteSocket", lambda: kernel)
    return kernel


def test_filters_and_qdiscs_are_named_with_the_command_that_removes_them(kernel: Any) -> None:
    kernel.qdiscs = (
        shown(2, 0, ROOT, 0, "fq_codel", queue(0, 4)),  # the kernel's own
        shown(2, 0xFFFF0000, CLSACT, 0, "clsact", queue(0, 7)),
        shown(3, 0x80010000, ROOT, 0, "tbf", queue(5, 1)),
        shown(4, 0x10000, ROOT, 0, "htb"),
    )
    kernel.filters = {
        (2, INGRESS): [
            shown(2, 0, INGRESS, 49152 << 16 | 8, "bpf"),  # the head of the list
            shown(2, 1, INGRESS, 49152 << 16 | 8, "bpf"),
        ],
        (3, 0x80010000): [shown(3, 0x80000800, 0x80010000, 10 << 16, "u32")],
    }
    found = read_traffic(kernel, {2: ("sw0", Link(1500, True)), 3: ("pl0", Link(1500, True))}, {"sw0", "pl0"})
    [bpf] = found["sw0"].attached
    assert (bpf.what, bpf.removal) == (
        "tc filter bpf with preference 49152 (ingress)",
        "tc filter del dev sw0 ingress pref 49152",
    )
    assert (found["sw0"].lost, found["sw0"].held) == ({"fq_codel": 4, "clsact": 7}, {"fq_codel": 0, "clsact": 0})
    assert (found["sw0"].may_change, found["pl0"].may_change) == (True, False)
    assert [one.removal for one in found["pl0"].attached] == [
        "tc qdisc del dev pl0 root",
        "tc filter del dev pl0 parent 8001: pref 10",
    ]
    assert found["pl0"].held == {"tbf": 5}


def test_the_interfaces_below_are_looked_at_too(kernel: Any) -> None:
    links = {
        2: ("eth0", Link(1500, True, master="br0", xdp=(("xdpdrv", 12),))),
        3: ("br0", Link(1500, True, is_bridge=True)),
        4: ("br0.5", Link(1500, True, below="br0")),
        5: ("eth1", Link(1500, True)),
    }
    found = read_traffic(kernel, links, {"br0.5", "natmirror0"})
    assert found.keys() == {"eth0", "br0", "br0.5"}
    [program] = found["eth0"].attached
    assert (program.what, program.removal) == ("XDP program 12", "ip link set eth0 xdpdrv off")
    assert found["br0"] == Traffic()


def test_of_many_filters_the_first_are_read(kernel: Any) -> None:
    kernel.qdiscs = (shown(2, 0xFFFF0000, CLSACT, 0, "ingress"),)
    kernel.filters = {
        (2, 0xFFFF0000): [shown(2, number, 0xFFFF0000, number << 16, "flower") for number in range(1, 999)]
    }
    [of] = read_traffic(kernel, {2: ("sw0", Link(1500, True))}, {"sw0"}).values()
    assert len(of.attached) == 256
    assert of.may_change
