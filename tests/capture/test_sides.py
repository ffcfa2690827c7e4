"""The side that each packet belongs to, and packets that belong to none."""

from typing import Any

import pytest

from natmirror.capture.headers import Headers, read
from natmirror.capture.sides import Place, Side, Sorter
from tests.helpers.captured import STATUS, answer, connection
from tests.helpers.captures import fragments_of
from tests.helpers.support import C1, C2, CLIENT, MASTER, SERVICE, at, icmp_error, packet

OTHER = at("10.10.0.99", 1234)


def sorter(*connections: Any, status: Any = STATUS) -> Sorter:
    made = Sorter(CLIENT[0])
    found = answer(*connections)
    ends = [{"mirror": one["name"], "address": one["address"], "source": None} for one in status["mirrors"]]
    found["services"][0]["mirrors"] = ends[:1]
    made.learn_status(status)
    made.learn_answer(found)
    return made


def headers(raw: bytes) -> Headers:
    found = read(raw)
    assert found is not None
    return found


def side(made: Sorter, raw: bytes, device: str, way: str) -> str | None:
    found = made.side_of(headers(raw), device, is_outgoing=way == "out")
    return None if found is None else str(found[0])


@pytest.mark.parametrize(
    ("source", "destination", "device", "way", "expected"),
    [
        (CLIENT, SERVICE, "sw0", "in", "client side"),
        (CLIENT, C1, "pl0", "out", "backend side"),
        (C1, CLIENT, "pl0", "in", "backend side"),
        (SERVICE, CLIENT, "sw0", "out", "client side"),
        (CLIENT, MASTER, "natmirror0", "in", "made for m"),
        (CLIENT, MASTER, "pl0", "out", "copy to m"),
        (MASTER, CLIENT, "pl0", "in", "answers of m"),
        (CLIENT, C1, "natmirror0", "in", None),  # natmirror's own RST to a backend: seen again where it leaves
        (CLIENT, OTHER, "pl0", "out", None),
        (OTHER, SERVICE, "sw0", "in", None),
        (CLIENT, C2, "sw0", "in", "client side"),  # a direct connection
    ],
)
def test_ends_and_direction_tell_the_side(
    source: Any, destination: Any, device: str, way: str, expected: str | None
) -> None:
    assert side(sorter(connection()), packet(source, destination, "A", 1), device, way) == expected


def test_one_interface_for_all_sides() -> None:
    made = sorter(connection())
    ways = ((CLIENT, SERVICE, "in"), (CLIENT, C1, "out"), (C1, CLIENT, "in"), (SERVICE, CLIENT, "out"))
    found = [side(made, packet(source, to, "A", 1), "eth0", way) for source, to, way in ways]
    assert found == ["client side", "backend side", "backend side", "client side"]


def test_a_mirror_that_is_a_backend_of_other_connections() -> None:
    status = {**STATUS, "mirrors": [{"service": "openflow", "name": "m", "address": "10.20.0.12:6653"}]}
    copy, reply = packet(CLIENT, C2, "A", 1), packet(C2, CLIENT, "A", 1)
    with_c1 = sorter(connection(backend="c1"), status=status)
    assert (side(with_c1, copy, "pl0", "out"), side(with_c1, reply, "pl0", "in")) == ("copy to m", "answers of m")
    with_c2 = sorter(connection(backend="c2"), status=status)
    assert (side(with_c2, copy, "pl0", "out"), side(with_c2, reply, "pl0", "in")) == ("backend side", "backend side")


def test_a_client_that_connects_to_the_mirror_itself() -> None:
    made = sorter()
    there, back = packet(CLIENT, MASTER, "S", 1), packet(MASTER, CLIENT, "SA", 1)
    seen = ((there, "sw0", "in"), (there, "pl0", "out"), (back, "pl0", "in"), (back, "sw0", "out"))
    found = [side(made, raw, device, way) for raw, device, way in seen]
    assert found == ["client side", "backend side", "backend side", "client side"]


def test_mirrors_of_several_services_have_their_services_names() -> None:
    more = {"service": "redis", "name": "m", "address": "10.20.0.14:6379"}
    made = sorter(connection(), status={**STATUS, "mirrors": [*STATUS["mirrors"], more]})
    assert side(made, packet(CLIENT, MASTER, "A", 1), "pl0", "out") == "copy to openflow/m"
    assert side(made, packet(CLIENT, at("10.20.0.14", 6379), "A", 1), "pl0", "out") == "copy to redis/m"
    assert made.mirrors == ["openflow/m", "redis/m"]


def test_legs_with_an_address_of_this_host() -> None:
    made = Sorter(CLIENT[0])
    one = {**connection(), "legs": [{"mirror": "m", "address": "10.20.0.1:10240"}]}
    made.learn_answer(answer(one, source="10.20.0.1"))
    ours, others = at("10.20.0.1", 10240), at("10.20.0.1", 10241)
    assert made.sourced == {(ours[0], MASTER[0])}
    copy, reply, foreign = packet(ours, MASTER, "A", 1), packet(MASTER, ours, "A", 1), packet(others, MASTER, "A", 1)
    assert made.side_of(headers(copy), "pl0", is_outgoing=True) == (Side(Place.COPY, "m"), CLIENT[1])
    assert side(made, copy, "natmirror0", "in") == "made for m"
    assert side(made, reply, "pl0", "in") == "answers of m"
    assert side(made, foreign, "pl0", "out") is None
    for _ in range(10):
        made.learn_answer(answer(source="10.20.0.1"))
    assert side(made, copy, "pl0", "out") is None  # the port may have another client's leg by now


def test_a_mirror_on_this_host_has_its_copy_from_natmirrors_own_device() -> None:
    made = Sorter(CLIENT[0], [MASTER[0]])
    one = {**connection(), "legs": [{"mirror": "m", "address": "10.20.0.1:10240"}]}
    made.learn_answer(answer(one, source="10.20.0.1"))
    ours = at("10.20.0.1", 10240)
    reply = packet(MASTER, ours, "A", 1)
    assert side(made, packet(ours, MASTER, "A", 1), "natmirror0", "in") == "copy to m"
    assert (side(made, reply, "lo", "out"), side(made, reply, "lo", "in")) == (None, "answers of m")


def test_a_backend_that_was_removed_stays_known() -> None:
    made = sorter(connection())
    gone = answer()
    gone["services"][0]["pool"] = []
    made.learn_answer(gone)
    assert side(made, packet(C1, CLIENT, "A", 1), "pl0", "in") == "backend side"


def test_icmp_errors_stand_where_an_answer_would() -> None:
    made = sorter(connection())
    to_backend, to_mirror, to_client = (
        packet(*ends, "A", 1) for ends in ((CLIENT, C1), (CLIENT, MASTER), (SERVICE, CLIENT))
    )
    about = {
        "backend side": (icmp_error("10.20.0.1", "10.10.0.11", to_backend), "pl0"),
        "answers of m": (icmp_error("10.20.0.1", "10.10.0.11", to_mirror), "pl0"),
        "client side": (icmp_error("10.10.0.1", "10.10.0.100", to_client), "sw0"),
    }
    for expected, (raw, device) in about.items():
        assert side(made, raw, device, "in") == expected


def test_later_fragments_have_no_port_and_follow_their_addresses() -> None:
    made = sorter(connection())
    for piece in fragments_of(packet(CLIENT, SERVICE, "PA", 1, data=bytes(64)), 24):
        found = made.side_of(headers(piece), "sw0", is_outgoing=False)
        assert found is not None
        assert found[0] == Side(found[0].place) and str(found[0]) == "client side"


def test_hostile_packets_have_no_ends_or_some() -> None:
    whole = packet(CLIENT, SERVICE, "S", 1)
    assert headers(whole) == Headers(CLIENT[0], SERVICE[0], CLIENT[1], SERVICE[1], opens=True)
    for length in range(len(whole)):
        read(whole[:length])
    error = icmp_error("10.20.0.1", "10.10.0.11", whole)
    for length in range(len(error)):
        read(error[:length])
    assert read(whole[:19]) is None
    assert read(b"\x60" + whole[1:]) is None  # IPv6
    assert read(b"\x41" + whole[1:]) is None  # a header of four bytes
    assert read(whole[:9] + b"\x11" + whole[10:]) is None  # UDP
    assert read(error[:20] + b"\x08" + error[21:]) is None  # an echo request
    assert headers(whole[:22]) == Headers(CLIENT[0], SERVICE[0], None, None)
