"""Questions to this machine's kernel about routes, which change nothing, and recorded answers."""

import socket
from ipaddress import IPv4Address

import pytest

from natmirror.linux.routes import Neighbour, Question, RouteSocket

LOCAL = IPv4Address("127.0.0.1")


def test_the_kernel_answers_each_question() -> None:
    some = [Question(IPv4Address(f"127.0.0.{last}"), LOCAL, dport=6653) for last in range(1, 41)]
    refused = Question(IPv4Address("240.0.0.1"), LOCAL, "lo")
    with RouteSocket() as routes:
        answers = routes.ask([*some, refused, *some, Question(LOCAL, link="no-such-link")])
    assert list(answers) == [*some, refused]
    assert answers[some[0]].is_local
    assert answers[some[39]].link == "lo"
    assert answers[some[39]].error == 0
    assert answers[refused].error != 0


class Kernel:
    """Answers each message with what Linux 6.18 has sent."""

    def __init__(self, *_: int) -> None:
        self.answers: list[bytes] = []

    def settimeout(self, seconds: float) -> None:
        pass

    def setsockopt(self, *_: int) -> None:
        pass

    def close(self) -> None:
        pass

    def send(self, message: bytes) -> None:
        self.answers += [bytes.fromhex(one) for one in RECORDED[message[4:6].hex(), message[23]]]

    def recv(self, _: int) -> bytes:
        return self.answers.pop(0)


NEIGHBOURS = (
    "4c0000001c000000000000007d7b0000020000000200000080000001080001000a0100090a00020002000000dead0000"
    "0800040000000000140003006c0000006c0000006c00000001000000"
    "4c0000001c000000010000007d7b0000020000000200000002000001080001000a0100020a0002004adbb1622b7a0000"
    "0800040004000000140003006b0000006b0000006b00000002000000"
    "400000001c000000020000007d7b0000020000000200000001000001080001000a01004d"
    "080004000500000014000300db1700006b0000006b00000002000000"
    "3800000002000000030000007d7b0000feffffff240000001e0001000300000000000000020000000200000000000000080001000a010032"
)
"""A permanent entry, one that is known, one that answers no ARP request, and none."""

END = "1400000003002200000000008842000000000000"
RECORDED = {  # by the type of the message and the type of the routes
    ("1a00", 6): ["2c00000018002200000000008842000002100000fe0300060000000008000f00fe000000080001000a630000", END],
    ("1a00", 7): ["2c000000180022000000000088420000020000004d0300070000000008000f004d0000000800060064000000", END],
    ("1e00", 0): [NEIGHBOURS],
    ("1a00", 8): ["2c00000018002200000000008842000002200000fe0300080000000008000f00fe000000080001000a620001", END],
}


def test_routes_that_refuse_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Kernel)
    with RouteSocket() as routes:
        assert [str(route) for route in routes.refusing()] == [
            "blackhole 10.99.0.0/16",
            "unreachable 0.0.0.0/0 table 77",
            "prohibit 10.98.0.1/32",
        ]


def test_neighbours_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Kernel)
    monkeypatch.setattr(socket, "if_nametoindex", lambda _: 2)
    places = [(IPv4Address(f"10.1.0.{last}"), "d0") for last in (9, 2, 77, 50)]
    with RouteSocket() as routes:
        assert list(routes.neighbours(places).items()) == [
            (places[0], Neighbour("02:00:00:00:de:ad", is_permanent=True, is_unknown=False)),
            (places[1], Neighbour("4a:db:b1:62:2b:7a", is_permanent=False, is_unknown=False)),
            (places[2], Neighbour("", is_permanent=False, is_unknown=True)),
        ]


def test_interfaces_with_permanent_neighbours_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Kernel)
    monkeypatch.setattr(socket, "if_indextoname", lambda index: f"d{index}")
    with RouteSocket() as routes:
        assert routes.static_links() == {"d2"}


def test_no_question_has_no_answer() -> None:
    with RouteSocket() as routes:
        assert routes.ask([]) == {}
        assert routes.neighbours([(LOCAL, "no-such-link")]) == {}
