"""How a client's connection ends while an adopted leg waits for its mirror's answer."""

import pytest

from natmirror.net import seq
from natmirror.rules import Release
from tests.helpers.client_connection import ISS, ClientConnection
from tests.helpers.leg_records import adopted_connection, answer, due, end_reasons, mirror_of, sent_to_mirror
from tests.helpers.support import RULES, assert_adds_up


def test_a_fin_that_comes_before_the_answer_follows_the_last_byte(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    connection.from_client("FPA", b"abc")
    due(connection)
    answer(connection, 11)
    assert due(connection) == [("PA", 11, 4, b"abc"), ("FA", 14, 4, b"")]
    connection.from_mirror("FA", 4, 15)
    assert end_reasons(connection) == ["closed"]
    assert mirror_of(connection)["lost_bytes"] == {}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_fin_that_the_first_host_has_sent_is_not_sent_again(fast: bool, is_first: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    if is_first:
        connection.from_client("FA")
        answer(connection, 12)
        due(connection)
    else:
        answer(connection, 12)
        due(connection)
        connection.from_client("FA")
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"], sent_to_mirror(connection)) == (6, 6, [])
    connection.from_mirror("FA", 4, 12)
    assert sent_to_mirror(connection) == [("A", 12, 5, b"")]
    assert end_reasons(connection) == ["closed"]


def test_an_acknowledgement_past_the_clients_fin_is_a_mismatch(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    connection.from_client("FA")
    answer(connection, 20)
    assert sent_to_mirror(connection) == [("RA", 20, 4, b"")]
    assert end_reasons(connection) == ["no-record"]
    assert mirror_of(connection)["acked_bytes"] == 6


def test_a_reset_that_comes_before_the_answer_follows_the_last_byte(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    connection.from_client("PA", b"abc")
    due(connection)
    connection.from_client("RA")
    assert sent_to_mirror(connection) == []
    answer(connection, 11)
    assert due(connection) == [("PA", 11, 4, b"abc")]
    connection.from_mirror("A", 4, 14)
    assert sent_to_mirror(connection) == [("RA", 14, 4, b"")]
    assert end_reasons(connection) == ["client-reset"]


def test_a_connection_that_closes_before_the_answer_leaves_its_leg_the_usual_time(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert due(connection) == [("A", 4, 4, b"")]
    answer(connection, 11)
    assert due(connection) == [("FA", 11, 4, b"")]
    connection.from_mirror("FA", 4, 12)
    assert end_reasons(connection) == ["closed"]


def test_a_connection_that_is_forgotten_before_the_answer_ends_its_leg(fast: bool) -> None:
    connection = adopted_connection(fast=fast, rules=RULES.replace("10.20.0.13}", "10.20.0.13, linger: 60s}"))
    connection.from_client("PA", b"abc")
    connection.from_client("RA")
    due(connection)
    while (timer := connection.engine.next_timer()) is not None:
        assert all(flags == "A" for flags, *_ in due(connection, max(timer - connection.now, 0.0)))
    assert end_reasons(connection) == ["resume-timeout"]
    assert mirror_of(connection)["lost_bytes"] == {"resume-timeout": 9}
    assert connection.engine.snapshot(connection.now)["mirror_memory"]["used_bytes"] == 0


def test_a_new_connection_with_the_same_endpoints_replaces_the_leg(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    later = ClientConnection(connection.engine, iss=77)
    later.backend = connection.backend
    later.from_client("S", at=-1)
    later.syn_ack()
    later.from_client("A")
    assert [flags for flags, *_ in later.mirrored()] == ["S"], "the SYN clears the old leg at the mirror"
    assert end_reasons(connection) == ["resume-timeout"]
    assert_adds_up(connection.engine.snapshot(connection.now))


def test_what_a_mirror_has_counts_if_the_client_has_closed_before_it_says_so(fast: bool) -> None:
    connection = adopted_connection(fast=fast, sent=14, acked=4, release=Release.ACKNOWLEDGED)
    due(connection)
    connection.from_client("FA")
    answer(connection, 15)
    one = mirror_of(connection)
    assert (one["client_bytes"], one["acked_bytes"], one["pending_bytes"], one["lost_bytes"]) == (10, 10, 0, {})
    assert_adds_up(connection.engine.snapshot(connection.now))


def test_a_fin_whose_acknowledgement_came_first_follows_the_last_byte(fast: bool) -> None:
    connection = adopted_connection(fast=fast, release=Release.ACKNOWLEDGED)
    due(connection)
    answer(connection, 11)
    due(connection)
    connection.from_client("PA", b"abc")
    connection.from_backend("A")
    assert sent_to_mirror(connection) == [("PA", 11, 4, b"abc")]
    connection.from_client("A", at=14)  # it overtakes the FIN, and so does the next one
    connection.sent += 1
    connection.from_backend("A")
    connection.from_client("FA", at=13)
    assert sent_to_mirror(connection) == [("FA", 14, 4, b"")]


def test_a_record_may_count_a_fin_that_its_mirror_has(fast: bool) -> None:
    connection = adopted_connection(fast=fast, snd_una=seq.add(ISS, 11))
    due(connection)
    connection.from_client("FA", at=9)
    answer(connection, 11)
    connection.from_mirror("FA", 4, 11)
    assert end_reasons(connection) == ["closed"]
    assert mirror_of(connection)["lost_bytes"] == {}
