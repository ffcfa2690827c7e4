"""Legs that a host releases, and connections that come back to it."""

from natmirror.net import seq
from tests.helpers.client_connection import ISS, ClientConnection, engine
from tests.helpers.leg_records import (
    NOW,
    RECORD,
    adopted_connection,
    answer,
    due,
    end_reasons,
    established,
    mirror_of,
    records,
    sealed,
    sent_to_mirror,
    unsealed,
)
from tests.helpers.support import assert_adds_up


def test_released_legs_end_without_a_packet(fast: bool) -> None:
    one = engine(fast=fast)
    connection = established(one)
    connection.from_client("PA", b"abc")
    connection.mirrored()
    one.replicated_legs.release()
    assert end_reasons(connection) == ["released"]
    assert due(connection, 300.0) == []
    connection.from_client("PA", b"def")
    assert sent_to_mirror(connection) == []
    assert mirror_of(connection)["lost_bytes"] == {"released": 6}


def test_a_connection_that_comes_back_without_a_record_is_picked_up(fast: bool) -> None:
    one = engine(fast=fast)
    connection = established(one)
    connection.from_client("PA", b"abc")
    connection.mirrored()
    one.replicated_legs.release()
    connection.sent, connection.answered = connection.sent + 5000, connection.answered + 5000
    one.replicated_legs.take_over(connection.now)
    backend = connection.backend_address
    assert connection.from_client("PA", b"after").dst == backend
    connection.from_backend("PA", b"answer")
    assert sent_to_mirror(connection) == []
    snapshot = one.snapshot(connection.now)
    assert snapshot["mirrors"][0]["lost_bytes"] == {"released": 3, "picked-up": 5}
    assert_adds_up(snapshot)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [flow["state"] for flow in one.flows(connection.now)] == ["time-wait"], "its close is tracked"


def test_a_leg_moves_to_the_other_host_and_back(fast: bool) -> None:
    """A connection moves to the other host, back, and to the other host again."""
    one, other = engine(fast=fast), engine(fast=fast)
    other.replicated_legs.release()
    connection = established(one)
    connection.from_client("PA", b"abc")
    connection.from_backend("A")
    connection.from_mirror("A", 1, 4)
    for first, then, text in ((one, other, b"defg"), (other, one, b"hij"), (one, other, b"kl")):
        for record in records(first, everything=True):
            then.replicated_legs.adopt(record, connection.now)
        first.replicated_legs.release()
        then.replicated_legs.take_over(connection.now)
        connection.engine = then
        connection.mirrored()
        assert due(connection) == [("A", connection.sent, 1, b"")]
        connection.from_mirror("A", 1, 1 + connection.sent)
        due(connection)
        at_byte = 1 + connection.sent
        connection.from_client("PA", text)
        assert sent_to_mirror(connection) == [("PA", at_byte, 1, text)]
        connection.from_mirror("A", 1, 1 + connection.sent)
        connection.from_backend("A")
        assert mirror_of(connection)["lost_bytes"] == {}
    assert [one.snapshot(connection.now)["mirrors"][0]["acked_bytes"] for one in (one, other)] == [6, 6]


def test_an_adopted_leg_without_a_reply_here_keeps_its_records_numbers() -> None:
    connection = adopted_connection()
    assert records(connection.engine) == [], "the first host's record is still valid"
    due(connection)
    answer(connection, 11)
    due(connection)
    [record] = map(unsealed, records(connection.engine))
    assert (record["client_una"], record["client_nxt"]) == (seq.add(ISS, 11), seq.add(ISS, 11))
    assert record["iss"] == ISS


def test_after_a_release_the_record_of_a_new_connection_replaces_the_old_one() -> None:
    one = engine()
    established(one)
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed({**RECORD, "iss": 5}), NOW)
    one.replicated_legs.take_over(NOW)
    assert len(due(ClientConnection(one))) == 1
