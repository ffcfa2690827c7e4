"""No address, name or secret of a dump's inputs is left in it, however it is written there."""

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.support.addresses import AddressMap
from natmirror.support.names import vocabulary
from natmirror.support.scrubber import Scrubber

KEY = bytes(range(32))
SPECIAL = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "169.0.0.0/8")

v4 = st.integers(1 << 24, (224 << 24) - 1).map(IPv4Address)
v4 = v4.filter(lambda one: not any(one in IPv4Network(net) for net in SPECIAL))
v6 = st.integers(0, (1 << 125) - 1).map(lambda bits: IPv6Address(1 << 125 | bits))
macs = st.binary(min_size=6, max_size=6).map(lambda raw: bytes((raw[0] & 0xFC | 4, *raw[1:])))
datapaths = st.integers(1 << 48, (1 << 64) - 1)
word = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=5, max_size=12).map(lambda text: f"x{text}z")
names = word.filter(lambda text: text not in vocabulary())
secret_values = st.text("ABCDEFGHabcdefgh0123456789!$%", min_size=16, max_size=30)

V4_FORMS: list[Callable[[IPv4Address], str]] = [
    str,
    lambda one: f"{one}:6653",
    lambda one: f"{one}/32",
    lambda one: f"[{one}]",
    lambda one: f"({one}).",
    lambda one: f"::ffff:{one}",
    lambda one: f"0x{one.packed.hex()}",
    lambda one: one.packed.hex().upper(),
    lambda one: one.packed[::-1].hex().upper() + ":1A2B",
    lambda one: f"src={one},dst={one}",
]
V6_FORMS: list[Callable[[IPv6Address], str]] = [
    str,
    lambda one: str(one).upper(),
    lambda one: one.exploded,
    lambda one: f"[{one}]:6653",
    lambda one: f"{one}%eth0",
    lambda one: f"{one}/128",
    lambda one: one.packed.hex(),
    lambda one: "".join(one.packed[at : at + 4][::-1].hex() for at in range(0, 16, 4)).upper(),
]
MAC_FORMS: list[Callable[[bytes], str]] = [
    lambda one: one.hex(":"),
    lambda one: one.hex(":").upper(),
    lambda one: one.hex("-"),
    lambda one: f"{one.hex()[:4]}.{one.hex()[4:8]}.{one.hex()[8:]}",
    lambda one: one.hex(),
]
DATAPATH_FORMS: list[Callable[[int], str]] = [
    lambda one: f"{one:016x}",
    lambda one: f"{one:016X}",
    lambda one: one.to_bytes(8).hex(":"),
    lambda one: f"0x{one:016x}",
    lambda one: f"datapath {one:x}",
]


@given(
    st.data(),
    st.lists(v4, max_size=6),
    st.lists(v6, max_size=4),
    st.lists(macs, max_size=4),
    st.lists(datapaths, max_size=3),
    st.lists(names, max_size=4, unique=True),
    st.lists(secret_values, max_size=2),
)
def test_no_original_is_left(
    data: st.DataObject,
    v4s: list[IPv4Address],
    v6s: list[IPv6Address],
    mac_list: list[bytes],
    datapath_list: list[int],
    name_list: list[str],
    secret_list: list[str],
) -> None:
    rules = {"services": [{"name": name, "backends": [{"name": f"{name}b"}]} for name in name_list]}
    kinds: list[tuple[list[Any], list[Any]]] = [
        *((v4s, V4_FORMS), (v6s, V6_FORMS), (mac_list, MAC_FORMS), (datapath_list, DATAPATH_FORMS)),
    ]
    pieces = [str(one) for one in v4s] + [str(one) for one in v6s] + [one.hex(":") for one in mac_list]
    originals: list[str] = list(name_list)
    for values, forms in kinds:
        for value in values:
            shown = data.draw(st.sampled_from(forms))(value)
            pieces.append(shown)
    for name in name_list:
        pieces += [f"{name}/{name}b", f"host {name.upper()}.", f'"{name}"', f"dev {name}b"]
    for secret in secret_list:
        pieces += [f"password: {secret}", f"redis://user:{secret}@10.1.1.1/0", f"and {secret} again"]
        originals.append(secret)
    text = data.draw(st.permutations(pieces).map("\n".join)) + "\n" + json.dumps({"datapath_id": 5})
    document = {"datapath_id": datapath_list[0] if datapath_list else None, **rules}
    scrubber = Scrubber(KEY, [text, json.dumps(document)], [document], text, ["x-own-host-z"])
    shown = scrubber.text(text) + scrubber.document(document)
    low = shown.lower()
    for values, forms in kinds:
        for value in values:
            for form in forms:
                written = re.escape(form(value).lower().strip("[]().").removesuffix(":6653").removesuffix(":1a2b"))
                assert not re.search(rf"(?<![\w.:]){written}(?![\w:])", low)
    for original in originals:
        assert original.lower() not in low
    if datapath_list:
        assert str(datapath_list[0]) not in shown


@given(st.lists(v4, min_size=2, max_size=20), st.integers(0, 24))
def test_addresses_keep_the_prefixes_that_they_share(addresses: list[IPv4Address], length: int) -> None:
    mapped = AddressMap(KEY, addresses, [])
    shown = {one: mapped.address(one) for one in addresses}
    assert len(set(shown.values())) == len(set(addresses))
    assert not set(shown.values()) & set(addresses)
    for one in addresses:
        for other in addresses:
            same = int(one) >> (32 - length) == int(other) >> (32 - length) if length else True
            if length >= 8:
                assert same == (int(shown[one]) >> (32 - length) == int(shown[other]) >> (32 - length))
        assert int(shown[one]) & 0xFF == int(one) & 0xFF


@given(st.lists(v6, min_size=2, max_size=8), st.integers(16, 128))
def test_so_do_those_of_ipv6(addresses: list[IPv6Address], length: int) -> None:
    mapped = AddressMap(KEY, addresses, [])
    shown = {one: mapped.address(one) for one in addresses}
    for one in addresses:
        for other in addresses:
            same = int(one) >> (128 - length) == int(other) >> (128 - length)
            assert same == (int(shown[one]) >> (128 - length) == int(shown[other]) >> (128 - length))


@given(v4, st.integers(9, 31))
def test_routes_still_make_sense(address: IPv4Address, length: int) -> None:
    interface = IPv4Interface(f"{address}/{length}")
    network = interface.network
    text = (
        f"{network} dev sw0 src {address}\ninet {interface} brd {network.broadcast_address}\n{network.network_address}"
    )
    scrubber = Scrubber(KEY, [text])
    route, inet, alone = scrubber.text(text).splitlines()
    shown = IPv4Network(route.split()[0])  # no host bits are set
    assert IPv4Address(route.split()[-1]) in shown
    assert inet.split()[1].partition("/")[0] == route.split()[-1]
    if IPv4Address(address) not in (network.network_address, network.broadcast_address):
        assert IPv4Address(inet.split()[3]) == shown.broadcast_address
    assert IPv4Address(alone) == shown.network_address


def test_what_has_a_meaning_of_its_own_stays() -> None:
    text = "0.0.0.0/0 127.0.0.1 255.255.255.0 224.0.0.18 ::1 ff02::1 fe80::/64 00:00:00:00:00:00 12:03:01 128.0.0.0/1"
    assert Scrubber(KEY, [text]).text(text) == text


def test_a_mark_of_zero_is_not_the_unspecified_address_of_ipv6() -> None:
    text = "tcp LISTEN [::]:22 [::1]:25\nmeta mark set 0x00000000 accept; ct mark 0x01000000 0x00000001"
    assert Scrubber(KEY, [text]).text(text) == text


def test_names_that_are_natmirrors_words_are_replaced_where_they_are_names() -> None:
    document = {
        "services": [{"service": "openflow"}],
        "mirrors": [{"service": "openflow", "name": "master", "state": "up", "address": "10.20.0.13:6653"}],
        "backends": [{"service": "openflow", "name": "acme-1", "state": "up"}],
        "protocol": "openflow",
    }
    text = (
        "protocol: openflow\nname: openflow\nmirror master of openflow is behind; drain openflow/acme-1; role master\n"
        'natmirror_mirror_legs{service="openflow",mirror="master"} 3\n'
    )
    scrubber = Scrubber(KEY, [text], [document], hosts=["lb7.example.net"])
    assert scrubber.text(text) == (
        "protocol: openflow\nname: service-1\nmirror mirror-1 of service-1 is behind; drain service-1/backend-1; role"
        ' master\nnatmirror_mirror_legs{service="service-1",mirror="mirror-1"} 3\n'
    )
    shown = json.loads(scrubber.document(document))
    assert shown["protocol"] == "openflow"
    assert [shown["mirrors"][0][key] for key in ("service", "name", "state")] == ["service-1", "mirror-1", "up"]
    assert scrubber.text("on lb7.example.net") == "on host-1"
    assert scrubber.mapping()["acme-1"] == "backend-1"


def test_a_secret_of_the_rules_is_replaced_wherever_it_stands_and_no_other_word_is() -> None:
    rules = "  key: abcdefgh12345678\n"
    text = "rules.yaml:3: ha.key: found abcdefgh12345678; set the key: natmirror keepalived"
    shown = Scrubber(KEY, [text], rules=rules).text(text + "; natmirror status")
    assert shown == "rules.yaml:3: ha.key: SECRET SECRET; set the key: SECRET keepalived; natmirror status"


def test_names_that_are_numbers_or_letters_are_replaced_where_they_are_names() -> None:
    document = {"backends": [{"service": "web-farm", "name": "1"}, {"service": "web-farm", "name": "b"}]}
    text = "backend web-farm/1 has 1 connection, web-farm/b none; plan b"
    shown = Scrubber(KEY, [text], [document]).text(text)
    assert shown == "backend service-1/backend-1 has 1 connection, service-1/backend-2 none; plan b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  key: 0123456789abcdef # of both", "  key: SECRET # of both"),
        ('{"password": "a b c d", "x": 1}', '{"password": "SECRET", "x": 1}'),
        ("state: redis://user:pw@[::1]:6379/0", "state: redis://SECRET@[::1]:6379/0"),
        ("key not set", "key not set"),
        ("key: null", "key: null"),
        ("Authorization is aGVsbG8gd29ybGQgMTIzNDU2Nzg5MCBhYmNkZWZnaGlq", "Authorization is TOKEN"),
        ('-A X -m comment --comment "ACME, floor 3" -j DROP', '-A X -m comment --comment "comment-1" -j DROP'),
        ('tcp dport 22 accept comment "by natmirror"', 'tcp dport 22 accept comment "comment-1"'),
        ("/home/bob/rules.yaml", "/home/user/rules.yaml"),
        ("2: eth0\n    alias to ACME\n", "2: eth0\n    alias removed\n"),
    ],
)
def test_secrets_and_words_of_the_operator_are_replaced(text: str, shown: str) -> None:
    assert Scrubber(KEY, [text]).text(text) == shown
