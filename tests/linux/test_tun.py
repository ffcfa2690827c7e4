"""What of the TUN device differs, from the kernel's answer; no device is made."""

from typing import Any

import pytest

from natmirror.linux.tun import TunDevice, _differences

SETTINGS = {"rp_filter": 2, "accept_local": 1, "forwarding": 1, "proxy_arp": 0}
UP = 1


class Answer(dict[str, Any]):
    """A netlink message as pyroute2 returns it."""

    def get_attr(self, name: str) -> Any:
        return self["attrs"][name]


def link(name: str = "natmirror0", flags: int = UP, **settings: int) -> Answer:
    spec = Answer(attrs={"AF_INET": SETTINGS | settings})
    return Answer(flags=flags, attrs={"IFLA_IFNAME": name, "IFLA_AF_SPEC": spec})


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
    ],
)
def test_each_setting_of_ours_counts_and_no_other(answer: Answer, addresses: list[str], said: list[str]) -> None:
    assert list(_differences(answer, addresses)) == said


def test_a_closed_device_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    device = TunDevice()
    monkeypatch.setattr(device, "differences", lambda: ["it is missing"])
    device.repair()
    assert device.fd == -1
