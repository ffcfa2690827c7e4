"""Addresses that stand for the clients of a network."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from natmirror.linux.sampled_clients import connected_links, sample


@pytest.mark.parametrize(
    ("network", "addresses"),
    [
        ("10.10.0.0/24", ["10.10.0.2", "10.10.0.254"]),
        ("10.10.0.0/31", ["10.10.0.0"]),
        ("10.10.0.7/32", ["10.10.0.7"]),
        ("10.10.0.1/32", []),
        ("127.0.0.0/8", []),
        ("128.0.0.0/1", ["128.0.0.1"]),
    ],
)
def test_a_sample_has_an_address_of_each_end_at_which_a_host_can_be(network: str, addresses: list[str]) -> None:
    taken = {IPv4Address("10.10.0.1")}
    assert [str(one) for one in sample(IPv4Network(network), taken)] == addresses


def test_an_interface_is_connected_to_a_network_that_its_own_contains() -> None:
    links = {"sw0": [IPv4Network("10.10.0.0/16")], "br-x": [IPv4Network("10.10.0.0/27")]}
    assert connected_links(IPv4Network("10.10.0.0/24"), links) == ["sw0"]
    assert connected_links(IPv4Network("10.0.0.0/8"), links) == []
