"""Membership of an address in the client networks."""

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from natmirror.net.prefixes import ClientNetworks


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network:
    number, bits = draw(st.integers(0, 0xFFFF_FFFF)), draw(st.integers(0, 32))
    return IPv4Network((number, bits), strict=False)


@given(st.lists(networks(), max_size=4), st.data())
def test_membership_equals_that_of_ipaddress(some: list[IPv4Network], data: st.DataObject) -> None:
    near = [int(one.network_address) + off for one in some for off in (-1, 0, one.num_addresses - 1, one.num_addresses)]
    edges = [number for number in near if 0 <= number <= 0xFFFF_FFFF]
    number = data.draw(st.one_of(st.integers(0, 0xFFFF_FFFF), st.sampled_from(edges or [0])))
    address = IPv4Address(number)
    assert (address.packed in ClientNetworks(some)) == any(address in one for one in some)


def test_no_address_lies_in_no_network() -> None:
    assert bytes(4) not in ClientNetworks(())
