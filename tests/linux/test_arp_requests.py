"""ARP requests, as bytes: who asks in vain, and what counts for nothing."""

from collections import deque
from ipaddress import IPv4Address

import pytest

from natmirror.linux import arp_requests
from natmirror.linux.arp_requests import ArpRequests

SERVICE, CLIENT, OTHER = (IPv4Address(f"10.10.0.{last}") for last in (100, 11, 12))


def request(sender: IPv4Address, target: IPv4Address = SERVICE, *, head: str = "0001080006040001") -> bytes:
    return bytes.fromhex(head) + bytes(6) + sender.packed + bytes(6) + target.packed


class Socket:
    """A socket on an interface."""

    def __init__(self, link: str) -> None:
        self.link = link
        self.packets: deque[bytes] = deque()
        self.is_closed = False

    def recv(self, length: int) -> bytes:
        if not self.packets:
            raise BlockingIOError
        return self.packets.popleft()[:length]

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Socket]:
    opened: dict[str, Socket] = {}

    def listening(link: str) -> Socket:
        opened[link] = Socket(link)
        return opened[link]

    monkeypatch.setattr(arp_requests, "_listening", listening)
    return opened


def test_a_host_that_asks_twice_asks_in_vain_until_production_passes(sockets: dict[str, Socket]) -> None:
    requests = ArpRequests()
    assert requests.in_vain({"sw0"}) == {}
    sockets["sw0"].packets += [request(CLIENT), request(OTHER)]
    assert requests.in_vain({"sw0"}) == {}
    sockets["sw0"].packets.append(request(CLIENT))
    assert requests.in_vain({"sw0"}) == {("sw0", SERVICE): CLIENT}
    sockets["sw0"].packets.append(request(OTHER))
    requests.forget()
    assert requests.in_vain({"sw0"}) == {}


def test_natmirror_listens_where_it_is_asked_to_and_nowhere_else(sockets: dict[str, Socket]) -> None:
    requests = ArpRequests()
    requests.in_vain({"sw0", "pl0"})
    sockets["pl0"].packets += [request(CLIENT)] * 2
    assert requests.in_vain({"sw0"}) == {}
    assert sockets["pl0"].is_closed and not sockets["sw0"].is_closed
    assert requests.in_vain({"sw0", "pl0"}) == {}, "that was before"
    requests.close()
    assert sockets["sw0"].is_closed


@pytest.mark.parametrize(
    "packet",
    [
        request(SERVICE),
        request(IPv4Address(0)),
        request(CLIENT, head="0001080006040002"),
        request(CLIENT, head="0006080006040001"),
        request(CLIENT)[:-1],
        b"",
    ],
    ids=["gratuitous", "probe", "reply", "no Ethernet", "short", "empty"],
)
def test_other_arp_packets_count_for_nothing(sockets: dict[str, Socket], packet: bytes) -> None:
    requests = ArpRequests()
    requests.in_vain({"sw0"})
    sockets["sw0"].packets += [packet] * 3
    assert requests.in_vain({"sw0"}) == {}


def test_a_flood_is_bounded(sockets: dict[str, Socket]) -> None:
    requests = ArpRequests()
    requests.in_vain({"sw0"})
    for start in range(0, 6000, 200):
        sockets["sw0"].packets += [request(IPv4Address(0x0A000001 + start + number)) for number in range(200)]
        requests.in_vain({"sw0"})
    assert len(requests._tries) == 4096
