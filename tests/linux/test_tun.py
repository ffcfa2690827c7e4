"""What of the TUN device differs, from the kernel's answer; no device is made."""

import socket
from typing import Any

import pytest

from natmirror.linux.tun import TunDevice, _differences, _raw_state
from natmirror.linux.vrf import ProductionVrf

SETTINGS = {"rp_filter": 2, "accept_local": 1, "forwarding": 1, "proxy_arp": 0}
UP = 1


class Answer(dict[str, Any]):
    """A netlink message as pyroute2 returns it."""

    def get_attr(self, name: str) -> Any:
        return self["attrs"][name]


def link(name: str = "natmirror0", flags: int = UP, master: int | None = None, **settings: int) -> Answer:
    spec = Answer(attrs={"AF_INET": SETTINGS | settings})
    return Answer(flags=flags, attrs={"IFLA_IFNAME": name, "IFLA_MASTER": master, "IFLA_AF_SPEC": spec})


@pytest.mark.parametrize(
    ("answer", "addresses", "said"),
    [
        (link(), ["192.0.0.8"], []),
        (link("natmirror7"), ["10.0.0.1", "192.0.0.8"], []),
        (link("foo"), ["192.0.0.8"], ["it has another name"]),
        (link(flags=0), ["192.0.0.8"], ["it is down"]),
        (link(), [], ["it lacks the address 192.0.0.8"]),
        (link(rp_filter=1, forwarding=0), ["192.0.0.8"], ["rp_filter is 1, not 2", "forwarding is 0, not 1"]),
        (link(proxy_arp=1), ["192.0.0.8"], []),
        (link(master=5), ["192.0.0.8"], ["it is in another device"]),
    ],
)
def test_each_setting_of_ours_counts_and_no_other(answer: Answer, addresses: list[str], said: list[str]) -> None:
    assert list(_differences(answer, addresses, None)) == said


def test_what_the_kernel_says_of_a_device_stays_the_same_while_packets_pass() -> None:
    index = socket.if_nametoindex("lo")
    before = _raw_state(index)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW):
        sender.sendto(b"counted", ("127.0.0.1", 9))
        assert _raw_state(index) == before
    flags, name, settings, *addresses = before
    assert flags[0] & UP
    assert name[4:] == b"lo\0"
    assert len(settings) > 4 * len(SETTINGS)
    assert bytes((127, 0, 0, 1)) in b"".join(addresses)


def test_a_device_that_is_as_it_was_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    class Netlink:
        def __enter__(self) -> "Netlink":
            reads.append("device")
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def get_links(self, index: int) -> list[Answer]:
            return [link()]

        def get_addr(self, family: int, index: int) -> list[Answer]:
            return [Answer(attrs={"IFA_LOCAL": address}) for address in addresses]

    addresses, said = ["192.0.0.8"], [b"1"]
    monkeypatch.setattr("natmirror.linux.tun.IPRoute", Netlink)
    monkeypatch.setattr("natmirror.linux.tun._raw_state", lambda index: list(said))
    device = TunDevice(ProductionVrf())
    assert [device.differences(), device.differences()] == [[], []]
    assert len(reads) == 1
    addresses.clear()
    said[0] = b"2"
    assert [device.differences(), device.differences()] == [["it lacks the address 192.0.0.8"]] * 2
    assert len(reads) == 3, "what differs is read again"


def test_a_closed_device_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    device = TunDevice(ProductionVrf())
    monkeypatch.setattr(device, "differences", lambda: ["it is missing"])
    device.repair()
    assert device.fd == -1
