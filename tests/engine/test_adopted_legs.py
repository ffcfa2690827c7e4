"""A host that has adopted a leg goes on with it: probes, the mirror's answer, missing bytes."""

import pytest

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.rules import Release
from tests.helpers.client_connection import ISS, MIRROR_ISS
from tests.helpers.leg_records import adopted_connection, answer, due, end_reasons, mirror_of, sent_to_mirror
from tests.helpers.support import CLIENT, MASTER, packet


def test_a_probe_below_the_window_asks_the_mirror_and_the_stream_goes_on_from_its_answer(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    assert due(connection) == [("A", 4, 4, b"")]
    assert connection.engine.flows(connection.now)[0]["legs"][0]["state"] == "resuming"
    answer(connection, 11)
    assert due(connection) == []
    connection.from_client("PA", b"abc")
    assert sent_to_mirror(connection) == [("PA", 11, 4, b"abc")]
    connection.from_mirror("A", 4, 14)
    connection.from_backend("A")
    connection.from_client("PA", b"def")
    assert sent_to_mirror(connection) == [("PA", 14, 4, b"def")]
    connection.from_client("FA")
    connection.from_mirror("A", 4, 17)
    assert sent_to_mirror(connection)[-1] == ("FA", 17, 4, b"")
    connection.from_mirror("FA", 4, 18)
    assert end_reasons(connection) == ["closed"]
    mirror = mirror_of(connection)
    assert (mirror["legs_adopted"], mirror["legs_resumed"], mirror["legs_opened"]) == (1, 1, 0)
    assert mirror["legs_ended"] == {"closed": 1}
    assert (mirror["client_bytes"], mirror["acked_bytes"]) == (12, 12), "from the first unacknowledged byte on"


def test_a_standby_stream_is_activated_by_its_clients_data_and_released_on_acknowledgement(fast: bool) -> None:
    connection = adopted_connection(fast=fast, release=Release.ACKNOWLEDGED, is_standby=True, snd_una=seq.add(ISS, 11))
    connection.from_client("PA", b"abc")
    connection.from_client("PA", b"def")
    connection.from_backend("A")
    assert due(connection) == [("A", 10, 4, b"")]
    answer(connection, 11)
    assert due(connection) == [("PA", 11, 4, b"abcdef")]
    connection.from_mirror("A", 4, 17)
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["legs_ended"]) == (6, 6, {})


def test_after_the_answer_the_c_gear_has_the_leg_again() -> None:
    connection = adopted_connection()
    due(connection)
    answer(connection, 11)
    due(connection)
    connection.from_client("PA", b"x")
    connection.from_mirror("A", 4, 12)
    before = connection.engine.snapshot(connection.now)["packets_decided_in_python"]
    for count in range(10):
        connection.from_client("PA", b"x")
        connection.from_backend("A")
        connection.from_mirror("A", 4, 13 + count)
    assert connection.engine.snapshot(connection.now)["packets_decided_in_python"] == before


def test_an_unanswered_probe_is_repeated_and_at_last_the_leg_ends_without_a_packet(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    times = []
    while (timer := connection.engine.next_timer()) is not None and timer < connection.now + 1000:
        times.append(round(timer - 1000.0, 3))
        probes = due(connection, timer - connection.now)
        assert probes == ([("A", 4, 4, b"")] if times[-1] < 30 else [])
    assert times == [0.0, 1.0, 3.0, 7.0, 15.0, 30.0]
    assert end_reasons(connection) == ["resume-timeout"]
    assert mirror_of(connection)["lost_bytes"] == {"resume-timeout": 6}


def test_bytes_that_the_mirror_got_since_the_record_count_as_acknowledged(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 31)  # twenty bytes of the client passed only the first host
    due(connection)
    connection.sent = 30
    connection.from_client("PA", b"abc")
    assert sent_to_mirror(connection) == [("PA", 31, 4, b"abc")]
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["pending_bytes"]) == (29, 26, 3)


def test_bytes_that_the_client_sends_before_the_answer_are_buffered(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    connection.from_client("PA", b"abc")
    connection.from_backend("A")
    connection.from_client("PA", b"def")
    assert due(connection) == [("A", 4, 4, b"")]
    answer(connection, 11)
    assert due(connection) == [("PA", 11, 4, b"abcdef")]
    assert due(connection, 1.0) == [("A", 11, 4, b"abcdef")] or True
    connection.from_mirror("A", 4, 17)
    assert mirror_of(connection)["pending_bytes"] == 0


def test_bytes_that_the_client_sends_again_are_not_missing(fast: bool) -> None:
    connection = adopted_connection(fast=fast, sent=20, acked=5)
    due(connection)
    answer(connection, 6)
    due(connection)
    connection.from_client("PA", b"0123456789abcde", at=5)
    assert sent_to_mirror(connection) == [("PA", 6, 4, b"0123456789abcde")]


@pytest.mark.parametrize("is_known", [True, False])
def test_bytes_that_no_host_holds_end_the_leg_after_a_second_probe(fast: bool, is_known: bool) -> None:
    connection = adopted_connection(fast=fast, sent=20, acked=20 if is_known else 5)
    due(connection)
    answer(connection, 8)
    if not is_known:
        assert due(connection) == []
        connection.from_backend("A")  # which acknowledges all twenty
    assert due(connection) == []
    connection.from_client("PA", b"abc")
    assert due(connection, 0.9) == []
    assert due(connection, 0.1) == [("A", 7, 4, b"")]
    assert end_reasons(connection) == []
    answer(connection, 8)
    assert due(connection) == [("RA", 8, 4, b"")]
    assert end_reasons(connection) == ["takeover-hole"]
    mirror = mirror_of(connection)
    assert (mirror["lost_bytes"], mirror["acked_bytes"], mirror["client_bytes"]) == ({"takeover-hole": 16}, 3, 19)
    assert mirror["legs_resumed"] == (0 if is_known else 1)


def test_copies_of_the_first_host_that_arrive_late_are_not_missing(fast: bool) -> None:
    connection = adopted_connection(fast=fast, sent=20, acked=20)
    due(connection)
    answer(connection, 8)
    due(connection)
    connection.from_client("PA", b"abc")
    assert due(connection, 1.0) == [("A", 7, 4, b"")]
    answer(connection, 21)
    assert due(connection) == [("PA", 21, 4, b"abc")]
    assert mirror_of(connection)["lost_bytes"] == {}


def test_the_mirror_may_hold_the_first_hosts_bytes_behind_a_gap(fast: bool) -> None:
    connection = adopted_connection(fast=fast, sent=20, acked=5)
    due(connection)
    answer(connection, 6)
    due(connection)
    connection.from_client("PA", b"01234", at=5)
    assert sent_to_mirror(connection) == [("PA", 6, 4, b"01234")]
    connection.from_mirror("A", 4, 21)  # the first host had sent the rest before
    connection.from_client("PA", b"56789abcde", at=10)
    assert due(connection) == []
    connection.from_client("PA", b"x")
    assert sent_to_mirror(connection) == [("PA", 21, 4, b"x")]
    assert mirror_of(connection)["acked_bytes"] == 16


def test_after_a_while_an_acknowledgement_of_unsent_bytes_is_not_accepted(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 11)
    due(connection, 61.0)
    connection.from_mirror("A", 4, 21)
    assert sent_to_mirror(connection) == [("A", 11, 4, b"")]
    assert mirror_of(connection)["client_bytes"] == 6


@pytest.mark.parametrize("ack", [3, -100])
def test_a_mirror_that_twice_claims_less_than_the_record_ends_the_leg(fast: bool, ack: int) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, ack)
    assert (due(connection), end_reasons(connection)) == ([], [])
    assert due(connection, 1.0) == [("A", 4, 4, b"")]
    answer(connection, ack)
    assert sent_to_mirror(connection) == [("RA", 5, 4, b"")]
    assert end_reasons(connection) == ["no-record"]
    assert mirror_of(connection)["lost_bytes"] == {"no-record": 6}


def test_a_mirror_without_the_connection_ends_the_leg(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    connection.from_mirror("R", 4, 0)
    assert end_reasons(connection) == ["mirror-reset"]
    assert sent_to_mirror(connection) == []
    assert mirror_of(connection)["legs_adopted"] == 1


def test_a_reset_at_another_number_is_challenged(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    connection.from_mirror("R", 5, 0)
    assert sent_to_mirror(connection) == [("A", 5, 4, b"")]
    assert end_reasons(connection) == []


def test_data_that_the_mirror_sent_since_the_record_is_acknowledged(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 11, at=104)
    due(connection)
    connection.from_mirror("PA", 54, 11, b"y" * 50)  # unacknowledged, so the mirror repeats it
    assert sent_to_mirror(connection) == [("A", 11, 104, b"")]
    connection.from_mirror("PA", 104, 11, b"z")
    connection.from_client("PA", b"abc")
    assert sent_to_mirror(connection) == [("PA", 11, 105, b"abc")]


@pytest.mark.parametrize(("start", "expected"), [(4, 14), (1, 11), (100, 110)])
def test_data_from_the_mirror_is_an_answer_too(fast: bool, start: int, expected: int) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 11, at=start, data=b"y" * 10)
    due(connection, 0.04)
    connection.from_client("PA", b"abc")
    assert sent_to_mirror(connection)[-1] == ("PA", 11, expected, b"abc")


def test_an_acknowledgement_from_before_the_record_is_no_answer(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 11, at=2)
    assert due(connection, 1.0) == [("A", 4, 4, b"")]


def test_the_mirrors_window_scale_is_that_of_the_record(fast: bool) -> None:
    connection = adopted_connection(fast=fast, scale=3, mss=1000)
    due(connection)
    answer(connection, 11, window=100)
    due(connection)
    connection.from_client("PA", b"x" * 2000)
    assert sent_to_mirror(connection) == [("A", 11, 4, b"x" * 800)]


def test_the_mirrors_segment_size_and_sack_are_those_of_the_record(fast: bool) -> None:
    connection = adopted_connection(fast=fast, mss=100, sack=True)
    due(connection)
    answer(connection, 11)
    due(connection)
    connection.from_client("PA", b"x" * 400)
    assert [len(data) for *_, data in sent_to_mirror(connection)] == [100] * 4
    blocks = b"\1\1\5\x0a" + seq.add(ISS, 111).to_bytes(4, "big") + seq.add(ISS, 411).to_bytes(4, "big")
    raw = packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 11), options=blocks)
    connection.take(raw, Hook.PREROUTING)
    assert [at for _, at, _, _ in sent_to_mirror(connection)] == [11], "the missing segment, before any timer"


def test_after_hours_of_silence_both_sides_go_on(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 11)
    assert due(connection, 7200.0) == []
    connection.from_client("PA", b"abc")
    assert sent_to_mirror(connection) == [("PA", 11, 4, b"abc")]
    connection.from_mirror("PA", 4, 14, b"yes")
    assert due(connection, 0.04) == [("A", 14, 7, b"")]
