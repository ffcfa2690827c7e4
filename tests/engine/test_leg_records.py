"""The records of legs that an engine reports, and the records that it refuses."""

from typing import Any

import pytest

from natmirror.net import seq
from natmirror.net.endpoint import show
from natmirror.tcp.initial_numbers import InitialNumbers
from tests.helpers.client_connection import IRS, ISS, KEY, MIRROR_ISS, ClientConnection, engine
from tests.helpers.leg_records import NOW, RECORD, adopted_connection, established, records, sealed, unsealed
from tests.helpers.support import CLIENT, MASTER, at


@pytest.mark.parametrize("fast", [True, False])
def test_a_record_holds_the_positions_of_client_backend_and_mirror(fast: bool) -> None:
    one = engine(fast=fast)
    connection = established(one)
    connection.from_client("PA", b"0123456789")
    connection.from_backend("A")
    connection.from_mirror("PA", 1, 5, b"abc")
    assert connection.backend is not None
    [reported] = records(one)
    offset = InitialNumbers(KEY).first(CLIENT, MASTER, connection.now) - ISS & 0xFFFF_FFFF
    assert unsealed(reported) == {
        "format": 4,
        "service": "openflow",
        "client": "10.10.0.11:40001",
        "backend": show(connection.backend),
        "iss": ISS,
        "client_nxt": seq.add(ISS, 11),
        "client_una": seq.add(ISS, 11),
        "backend_nxt": seq.add(IRS, 1),
        "backend_scale": 0,
        "missing_to": None,
        "legs": [
            {
                "mirror": "master",
                "address": "10.20.0.13:6653",
                "local": "10.10.0.11:40001",
                "scale": 0,
                "our_scale": 7,
                "mss": 1460,
                "sack": False,
                "rcv_nxt": seq.add(MIRROR_ISS, 4),
                "snd_una": seq.add(ISS, 5),
                "offset": offset,
            }
        ],
    }
    assert sealed(unsealed(reported)) == reported


def test_a_record_is_reported_again_only_when_a_number_has_changed() -> None:
    one = engine()
    connection = established(one)
    assert len(records(one)) == 1
    assert records(one) == []
    assert len(records(one, everything=True)) == 1
    connection.from_client("PA", b"x")
    assert [unsealed(record)["client_nxt"] for record in records(one)] == [seq.add(ISS, 2)]
    connection.from_mirror("A", 1, 2)
    assert [unsealed(record)["legs"][0]["snd_una"] for record in records(one)] == [seq.add(ISS, 2)]
    assert one.replicated_legs.take_withdrawn() == []


def test_a_leg_has_a_record_only_while_it_is_established() -> None:
    one = engine()
    connection = ClientConnection(one)
    connection.connect()
    assert records(one) == []
    connection.connect_mirror()
    assert len(records(one)) == 1
    connection.from_client("FA")
    assert (records(one), one.replicated_legs.take_withdrawn()) == ([], [("openflow", "10.10.0.11:40001")])
    assert one.replicated_legs.take_withdrawn() == []


@pytest.mark.parametrize("end", ["mirror", "forgotten"])
def test_an_invalid_record_is_withdrawn_once(end: str) -> None:
    one = engine()
    connection = established(one)
    assert len(records(one)) == 1
    if end == "mirror":
        connection.from_mirror("R", 1, 1)
    else:
        connection.from_client("PA", b"its backend does not acknowledge this")
        connection.now += 8000.0
        one.handle_timer(connection.now)
    assert records(one) == []
    assert one.replicated_legs.take_withdrawn() == [("openflow", "10.10.0.11:40001")]
    assert one.replicated_legs.take_withdrawn() == []


def test_the_record_of_a_new_connection_with_the_same_endpoints_replaces_the_old_one() -> None:
    one = engine()
    connection = established(one)
    assert len(records(one)) == 1
    connection.from_client("R")
    later = ClientConnection(one, iss=77, irs=5000)
    later.connect()
    later.connect_mirror()
    assert [unsealed(record)["iss"] for record in records(one)] == [77]
    assert one.replicated_legs.take_withdrawn() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 1}, "format: expected 4, found 1"),
        ({"service": 5}, "service: expected text, found 5"),
        ({"client": "10.10.0.11"}, "client: expected an address and a port"),
        ({"client": "10.10.0.11:0"}, "client: expected an address and a port"),
        ({"client": "10.10.0:11"}, "client: "),
        ({"iss": -1}, "iss: expected 0..4294967295, found -1"),
        ({"client_nxt": 1 << 32}, "client_nxt: expected"),
        ({"client_una": "1"}, "client_una: expected"),
        ({"backend_nxt": None}, "backend_nxt: expected"),
        ({"missing_to": -1}, "missing_to: expected"),
        ({"missing_to": 5}, "nonce: the record was altered"),
        ({"backend_scale": 15}, "backend_scale: expected 0..14"),
        ({"legs": []}, "legs: expected"),
        ({"legs": [5]}, "legs: expected"),
        ({"legs": [{**RECORD["legs"][0], "scale": 15}]}, "scale: expected 0..14"),  # type: ignore[index]
        ({"legs": [{**RECORD["legs"][0], "local": None}]}, "local: expected"),  # type: ignore[index]
        ({"legs": [{**RECORD["legs"][0], "offset": -1}]}, "offset: expected"),  # type: ignore[index]
        ({"nonce": "0123"}, "nonce: expected 16 hex"),
        ({"nonce": "x" * 16}, "nonce: expected 16 hex"),
        ({"nonce": 5}, "nonce: expected text"),
        ({"nonce": "0123456789abcdef"}, "nonce: the record was altered"),
        ({"client": "10.10.0.12:40001"}, "nonce: the record was altered"),
        ({"client_nxt": 0}, "nonce: the record was altered"),
        ({"legs": RECORD["legs"]}, "nonce: the record was altered"),
    ],
)
def test_a_malformed_record_is_refused_and_changes_nothing(change: dict[str, Any], words: str) -> None:
    assert_refused({**sealed(RECORD), **change}, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service": "elsewhere"}, "there is no service elsewhere"),
        ({"client": "10.99.0.11:40001"}, "in no client network"),
        ({"backend": "10.10.0.100:6653"}, "service openflow cannot have one at 10.10.0.100:6653"),
        ({"backend": None}, "the rules of service openflow differ"),
        ({"client_nxt": ISS}, "client_nxt: expected no number below"),
        ({"legs": [{**RECORD["legs"][0], "our_scale": 8}]}, "our_scale: expected 7"),  # type: ignore[index]
    ],
)
def test_a_record_that_does_not_fit_the_rules_is_refused_and_changes_nothing(
    change: dict[str, Any], words: str
) -> None:
    assert_refused(sealed({**RECORD, **change}), words)


def assert_refused(record: dict[str, Any], words: str) -> None:
    one = engine()
    before = one.snapshot(NOW)
    with pytest.raises(ValueError, match=words):
        one.replicated_legs.adopt(record, NOW)
    assert one.snapshot(NOW) == before
    assert one.next_timer() is None


def test_values_that_are_no_record_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a record as a mapping"):
        engine().replicated_legs.adopt([], NOW)  # type: ignore[arg-type]


def test_an_adopted_connection_has_its_backend() -> None:
    for last in (11, 12):
        one = engine()
        one.replicated_legs.adopt(sealed({**RECORD, "backend": f"10.20.0.{last}:6653"}), NOW)
        connection = ClientConnection(one)
        connection.answered, connection.sent = 5, 10
        assert connection.from_client("A").dst == at(f"10.20.0.{last}", 6653)[0]


@pytest.mark.parametrize("fast", [True, False])
def test_a_leg_that_is_resuming_has_a_record_where_all_are_written(fast: bool) -> None:
    """Otherwise a host that has just taken over would remove the record from the store."""
    connection = adopted_connection(fast=fast)
    assert records(connection.engine) == []
    [record] = records(connection.engine, everything=True)
    assert unsealed(record) == {**RECORD, "missing_to": RECORD["client_una"]}
    assert connection.engine.replicated_legs.take_withdrawn() == []
