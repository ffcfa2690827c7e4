"""By what the kernel's policy rules choose routes."""

import struct
from collections.abc import Iterator

import pytest

from natmirror.linux.policy_rules import Routing, routing
from natmirror.linux.routes import RouteSocket, attribute

TABLE, PRIORITY = attribute(15, struct.pack("=I", 100)), attribute(6, struct.pack("=I", 50))
MARK, IIF, ONE_PORT = (
    attribute(10, struct.pack("=I", 1)),
    attribute(3, b"sw0\0"),
    attribute(23, bytes.fromhex("fd19fd19")),
)
ALL_OF_IT, A_PART = attribute(28, b"\xff\xff"), attribute(28, b"\xff\x00")


def rule(*values: bytes, tos: int = 0) -> bytes:
    return struct.pack("=BBBBBBBBI", 2, 0, 0, tos, 100, 0, 0, 1, 0) + b"".join(values)


class Kernel(RouteSocket):
    def __init__(self, *rules: bytes) -> None:
        self.rules = rules

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        assert (kind, body) == (34, b"\x02" + bytes(11))
        yield from self.rules


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        ([rule(TABLE), rule(PRIORITY, TABLE)], Routing.ALIKE),
        ([rule(TABLE), rule(IIF, TABLE)], Routing.BY_PACKET),
        ([rule(ONE_PORT, ALL_OF_IT, TABLE)], Routing.BY_PACKET),
        ([rule(ONE_PORT, A_PART, TABLE)], Routing.UNKNOWN),
        ([rule(attribute(24, bytes.fromhex("e803d007")), TABLE)], Routing.UNKNOWN),
        ([rule(MARK, TABLE), rule(IIF, TABLE)], Routing.UNKNOWN),
        ([rule(IIF, TABLE), rule(TABLE, tos=16)], Routing.UNKNOWN),
        ([rule(attribute(25, b"\x04"), TABLE)], Routing.UNKNOWN),
    ],
)
def test_rules_choose_by_what_questions_name_or_by_more(rules: list[bytes], kind: Routing) -> None:
    assert routing(Kernel(*rules)) is kind


def test_this_machine_has_rules() -> None:
    with RouteSocket() as kernel:
        assert routing(kernel) in Routing
