"""What looks at real packets find: nothing where clients and backends only behave in their own ways, and what stops
production where it stops; with a manual clock, a second from look to look."""

import pytest

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.rules import parse_rules
from natmirror.runtime.service_watch import ServiceWatch
from tests.helpers.client_connection import IRS, ClientConnection
from tests.helpers.looks import Scene
from tests.helpers.support import RULES, SERVICE, packet

UNMIRRORED = RULES[: RULES.index("    mirrors:")]
CLIENTS = tuple(f"10.10.0.{number}" for number in range(11, 19))
"""Maglev gives some of them c1, others c2."""


class Host:
    """A host whose clients talk, and which looks at them."""

    def __init__(self, *, fast: bool = True, is_patient: bool = False) -> None:
        self.scene = Scene(UNMIRRORED, fast=fast)
        pool = parse_rules(RULES).services[0].pool
        assert pool is not None
        self._pools = {"openflow": pool}
        self.watch = ServiceWatch(self.scene.now, is_patient=is_patient)
        self.clients: list[ClientConnection] = []

    def connect(self, *addresses: str) -> list[ClientConnection]:
        """Open a connection of each of these clients."""
        opened = [self.scene.connected(address) for address in addresses]
        self.clients += opened
        return opened

    def of(self, backend: str) -> list[ClientConnection]:
        """Return the connections with the backend whose address ends so."""
        address = bytes((10, 20, 0, int(backend)))
        return [one for one in self.clients if one.backend_address == address]

    def look(self) -> list[str]:
        """Let a second pass, and look; return the codes of what is found."""
        seen = self.scene.look(*self.clients)
        return [str(one.code) for one in self.watch.take({"openflow": seen}, self._pools, {}, self.scene.now)]

    @property
    def is_blamed(self) -> bool:
        return bool(self.watch.blamed)


@pytest.fixture(params=[True, False], ids=["C", "Python"])
def host(request: pytest.FixtureRequest) -> Host:
    host = Host(fast=request.param)
    host.connect(*CLIENTS)
    assert host.of("11") and host.of("12")
    talk(*host.clients)
    assert host.look() == []
    return host


def talk(*clients: ClientConnection) -> None:
    """Have each client ask, and its backend answer."""
    for one in clients:
        one.from_client("PA", b"question")
        one.from_backend("PA", b"answer")
        one.from_client("A")


def ask(*clients: ClientConnection) -> None:
    for one in clients:
        one.from_client("PA", b"question")


def ask_again(*clients: ClientConnection) -> None:
    """Have each client repeat the last thing that it has asked."""
    for one in clients:
        one.from_client("PA", b"question", at=one.sent - len(b"question"))


def window(one: ClientConnection, size: int, *, of_backend: bool) -> None:
    """Have an end acknowledge all, and offer this window."""
    client_next, backend_next = seq.add(one.iss, 1 + one.sent), seq.add(IRS, 1 + one.answered)
    assert one.backend is not None
    if of_backend:
        one.passed(packet(one.backend, one.client, "A", backend_next, client_next, window=size), Hook.FORWARD)
    else:
        one.passed(packet(one.client, SERVICE, "A", client_next, backend_next, window=size), Hook.PREROUTING)


def test_idle_clients(host: Host) -> None:
    assert all(host.look() == [] for _ in range(90))


def test_clients_that_have_died(host: Host) -> None:
    dead, living = host.clients[:3], host.clients[3:]
    for one in dead:  # their backends go on sending
        one.from_backend("PA", b"news")
    for _ in range(15):
        talk(living[0])
        assert host.look() == []
    ask(dead[0])
    for _ in range(15):  # no backend gets what one of them repeats
        ask_again(dead[0])
        talk(living[0])
        assert host.look() == []
    for _ in range(30):
        ask_again(dead[0])
        assert host.look() == [], "one client is none, though all others are idle"


def test_readers_that_are_slow(host: Host) -> None:
    """Backends take nothing for a while, then clients."""
    for of_backend in (True, False):
        for one in host.clients:
            window(one, 0, of_backend=of_backend)
        for second in range(20):
            for one in host.clients:
                if second % 4 == 0:  # a window probe (RFC 9293 3.8.6.1)
                    (one.from_client if of_backend else one.from_backend)("A", b"")
                    window(one, 0, of_backend=of_backend)
            assert host.look() == []
        for one in host.clients:
            window(one, 60_000, of_backend=of_backend)
        talk(*host.clients)
        assert host.look() == []


def test_questions_that_are_answered_half_a_minute_later(host: Host) -> None:
    ask(*host.clients)
    for one in host.clients:
        one.from_backend("A")
    assert all(host.look() == [] for _ in range(30))
    talk(*host.clients)
    assert host.look() == []


def test_a_backend_that_restarts(host: Host) -> None:
    """Its connections are reset, and new ones refused, while those of the other one are idle."""
    for one in host.of("11"):
        one.from_backend("R")
    for _ in range(6):
        refused = host.scene.client(CLIENTS[0])
        refused.syn()
        assert refused.backend is not None
        refused.passed(packet(refused.backend, refused.client, "RA", 0, seq.add(refused.iss, 1)), Hook.FORWARD)
        assert host.look() == []


def test_a_backend_that_dies_while_clients_of_the_other_one_are_idle(host: Host) -> None:
    ask(*host.of("11"))
    for _ in range(12):
        ask_again(*host.of("11"))
        assert host.look() == []


def test_a_takeover() -> None:
    """Connections come from another host: each client repeats what that host has passed, at its own time."""
    host = Host(is_patient=True)
    for address in CLIENTS:
        one = host.scene.client(address)
        sent = one.from_client("PA", b"question")
        one.backend = sent.dst, sent.dport
        one.from_backend("PA", b"answer")
        one.from_client("A")
        host.clients.append(one)
        assert host.look() == []
    for _ in range(3):
        talk(*host.clients)
        assert host.look() == []
    ask(*host.clients)
    for _ in range(5):
        ask_again(*host.clients)
        found = host.look()
    assert found == ["service-silent"]
    assert host.is_blamed, "it has passed here"


def short(host: Host, *, has_answer: bool) -> None:
    """Have two clients open a new connection and ask."""
    for one in host.connect(*CLIENTS[:2]):
        one.from_client("PA", b"question")
        if has_answer:
            one.from_backend("PA", b"answer")
            one.from_client("A")


def test_handshakes_pass_and_data_does_not(host: Host) -> None:
    ask(*host.clients)
    found = []
    for _ in range(5):
        short(host, has_answer=False)
        ask_again(*host.clients)
        found.append(host.look())
    assert found == [[], [], *[["service-silent"]] * 3]
    assert host.is_blamed
    talk(*host.clients)
    assert host.look() == []
    assert not host.is_blamed


def test_small_answers_pass_and_large_ones_do_not_reach_clients(host: Host) -> None:
    found = []
    for second in range(5):
        new = host.connect(*CLIENTS[:2])
        for one in new if second else host.clients:
            one.from_client("PA", b"question")
            one.from_backend("A")
            one.from_backend("PA", bytes(1000))
        for one in host.clients:
            if one not in new:  # it asks something else, and repeats its last acknowledgement
                lost = one.answered
                one.answered = 0
                one.from_client("PA", b"and?")
                one.answered = lost
        found.append(host.look())
    assert found[:2] == [[], []]
    assert found[2:] == [["clients-unreachable"]] * 3
    assert host.is_blamed


def test_new_connections_fail_while_others_go_on(host: Host) -> None:
    found = []
    for _ in range(6):
        for address in CLIENTS[:2]:
            host.scene.client(address).syn()
        talk(*host.clients)
        found.append(host.look())
    assert found == [[], [], *[["no-new-connections"]] * 4]
    assert not host.is_blamed
    host.connect(CLIENTS[0])
    assert host.look() == []


def test_a_packet_now_and_then(host: Host) -> None:
    """Of eight clients that ask, one gets its answer each second, after it has asked several times."""
    found = []
    for second in range(24):
        if second == 0:
            ask(*host.clients)
        ask_again(*host.clients)
        lucky = host.clients[second % len(CLIENTS)]
        lucky.from_backend("PA", b"answer")
        lucky.from_client("PA", b"question")
        found.append(host.look())
    assert found == [*[[]] * 3, *[["service-hardly-passes"]] * 21]
    assert host.is_blamed
    for _ in range(2):
        talk(*host.clients)
        found.append(host.look())
    assert found[-1] == []
    assert not host.is_blamed


def test_a_packet_now_and_then_where_connections_come_and_go(host: Host) -> None:
    """Those that have ended well before outnumber the others."""
    for _ in range(6):
        for one in host.connect(*CLIENTS, *CLIENTS):
            talk(one)
            close(one)
        talk(*host.clients[: len(CLIENTS)])
        assert host.look() == []
    lasting, found = host.clients[: len(CLIENTS)], []
    ask(*lasting)
    for second in range(5):
        ask_again(*lasting)
        lasting[second].from_backend("PA", b"answer")
        lasting[second].from_client("PA", b"question")
        found.append(host.look())
    assert found == [*[[]] * 3, *[["service-hardly-passes"]] * 2]


def close(one: ClientConnection) -> None:
    """Close a connection from both sides."""
    one.from_client("FA")
    one.from_backend("FA")
    one.from_client("A")
