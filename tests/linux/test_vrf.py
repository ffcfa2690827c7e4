"""VRFs: which ones the host has, in which of them production passes, and what follows for rules and questions."""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from natmirror.linux import routes, vrf
from natmirror.linux.interfaces import Link
from natmirror.linux.iptables_rules import PRE, PRE_ERRORS, contents
from natmirror.linux.netlink import attribute, attributes
from natmirror.linux.routes import Answer, Question, RouteSocket
from natmirror.linux.vrf import ProductionVrf, of_clients
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

CLIENTS, BACKENDS = IPv4Network("10.10.0.0/24"), IPv4Network("10.20.0.0/24")
OIF = 4  # linux/rtnetlink.h: RTA_OIF


def interface(index: int, name: str, kind: str = "", *, slave_kind: str = "", master: int = 0) -> bytes:
    info = attribute(1, kind.encode() + b"\0") + attribute(4, slave_kind.encode() + b"\0")
    body = struct.pack("=BBHiII", 0, 0, 1, index, 1 << 16, 0)
    body += attribute(3, name.encode() + b"\0") + attribute(18, info)
    return body + (attribute(10, struct.pack("=I", master)) if master else b"")


def address(index: int, text: str, prefix_len: int = 24) -> bytes:
    return struct.pack("=BBBBI", 2, prefix_len, 0, 0, index) + attribute(2, IPv4Address(text).packed)


class Kernel:
    """A host with a VRF for each side, and one for its management."""

    vrf: str | None = None

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        if kind == 22:
            yield from (address(9, "192.0.2.1"), address(5, "10.10.0.1"), address(6, "10.20.0.1"))
            return
        yield interface(2, "vrf-b", "vrf")
        yield interface(3, "vrf-a", "vrf")
        yield interface(4, "br0", "bridge")
        yield interface(5, "sw0", slave_kind="vrf", master=3)
        yield interface(6, "pl0", slave_kind="vrf", master=2)
        yield interface(7, "eth7", slave_kind="bridge", master=4)

    def ask(self, questions: list[Question]) -> dict[Question, Answer]:
        assert self.vrf == "vrf-a", "the routes are those of the clients"
        return {one: Answer(link="pl0") for one in questions}


def test_the_vrfs_of_clients_and_backends_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vrf, "RouteSocket", Kernel)
    found = ProductionVrf()
    found.look(parse_rules(RULES))
    assert (found.all, found.of_clients, found.of_backends) == (("vrf-a", "vrf-b"), "vrf-a", "vrf-b")


def test_a_host_that_does_not_answer_keeps_the_vrfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vrf, "RouteSocket", Kernel)
    found = ProductionVrf()
    found.look(parse_rules(RULES))

    def refuse() -> Any:
        raise OSError

    monkeypatch.setattr(vrf, "RouteSocket", refuse)
    found.look(parse_rules(RULES))
    assert found.of_clients == "vrf-a"


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ({"mg0": [BACKENDS], "sw0": [CLIENTS]}, "vrf-a"),
        ({"sw0": [IPv4Network("10.10.0.96/28")]}, "vrf-a"),  # the service's network; clients are behind a router
        ({"mg0": [BACKENDS]}, None),
        ({"gone": [CLIENTS]}, None),
    ],
)
def test_production_is_where_the_clients_are(networks: dict[str, list[IPv4Network]], expected: str | None) -> None:
    details = {"sw0": Link(1500, has_carrier=True, vrf="vrf-a"), "mg0": Link(1500, has_carrier=True)}
    assert of_clients(parse_rules(RULES), details, networks) == expected


def test_packets_that_a_vrf_passes_on_are_left_alone() -> None:
    filled = contents(parse_rules(RULES), vrfs=("vrf-a", "vrf-b"))
    for chain in (PRE, PRE_ERRORS):
        assert filled[chain][:2] == ["-i vrf-a -j RETURN", "-i vrf-b -j RETURN"]


def test_only_questions_about_this_hosts_own_packets_name_the_vrf() -> None:
    names = routes._Names()
    own, forwarded = Question(IPv4Address("10.20.0.11")), Question(IPv4Address("10.20.0.11"), link="lo")
    index = names.index("lo")
    asked = [attributes(routes._packed(one, "lo", names)[12:]) for one in (own, forwarded)]
    assert asked[0][OIF] == struct.pack("=I", index)
    assert OIF not in asked[1]
    with RouteSocket() as kernel:
        assert kernel.vrf is None
