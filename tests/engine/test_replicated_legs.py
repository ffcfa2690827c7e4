"""Legs that another host goes on with: what it is told of them, and what it makes of that."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from natmirror.actions import Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.endpoint import show
from natmirror.openflow.messages import Type
from natmirror.rules import parse_rules
from natmirror.rules.shards import Shard
from natmirror.tcp import leg_record
from natmirror.tcp.initial_numbers import InitialNumbers
from natmirror.tcp.leg_record import FlowRecord, LegRecord
from natmirror.tcp.record_masks import masks
from tests.helpers.client_connection import ISS, KEY, MIRROR_ISS, ClientConnection, engine
from tests.helpers.openflow_sessions import AGAIN, hello, introduced, packet_in, request
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, packet, segment, told

NOW = 1000.0
TWO = RULES.replace("10.20.0.13}", "10.20.0.13}\n      - {name: spare, address: 10.20.0.14}")
SPARE = at("10.20.0.14", 6653)


def established(one: Engine) -> ClientConnection:
    """A connection with a leg that stands."""
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    return connection


def records(one: Engine, **options: bool) -> list[dict[str, Any]]:
    """What an engine tells, as it comes out of JSON at the other end."""
    told: list[dict[str, Any]] = json.loads(
        json.dumps(one.replicated_legs.records(one.replicated_legs.ids(), **options))
    )
    return told


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A record as the other host writes it, from its values without masks."""
    legs = tuple(LegRecord(**leg) for leg in record["legs"])
    values = {name: value for name, value in record.items() if name != "format"}
    return FlowRecord(**{**values, "legs": legs}).plain(masks(None))


def unsealed(record: dict[str, Any]) -> dict[str, Any]:
    """The values of a record that a host of RULES has written, without their masks."""
    values = asdict(leg_record.parse(record, masks(None)))
    return {"format": record["format"], **values, "legs": list(values["legs"])}


@pytest.mark.parametrize("fast", [True, False])
def test_a_record_tells_where_client_backend_and_mirror_stand(fast: bool) -> None:
    one = engine(fast=fast)
    connection = established(one)
    connection.from_client("PA", b"0123456789")
    connection.from_backend("A")
    connection.from_mirror("PA", 1, 5, b"abc")
    assert connection.backend is not None
    [told_of] = records(one)
    offset = InitialNumbers(KEY).first(CLIENT, MASTER, connection.now) - ISS & 0xFFFF_FFFF
    assert unsealed(told_of) == {
        "format": 2,
        "service": "openflow",
        "client": "10.10.0.11:40001",
        "backend": show(connection.backend),
        "iss": ISS,
        "client_nxt": seq.add(ISS, 11),
        "client_una": seq.add(ISS, 11),
        "backend_scale": 0,
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
    assert sealed(unsealed(told_of)) == told_of


def test_a_record_is_told_again_only_when_something_has_moved() -> None:
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


def test_a_leg_that_does_not_stand_yet_or_any_more_has_no_record() -> None:
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
def test_a_record_that_holds_no_more_is_told_once(end: str) -> None:
    one = engine()
    connection = established(one)
    assert len(records(one)) == 1
    if end == "mirror":
        connection.from_mirror("R", 1, 1)
    else:
        connection.now += 8000.0
        one.handle_timer(connection.now)
    assert records(one) == []
    assert one.replicated_legs.take_withdrawn() == [("openflow", "10.10.0.11:40001")]
    assert one.replicated_legs.take_withdrawn() == []


def test_a_new_connection_of_the_same_ports_takes_the_place_of_the_old_record() -> None:
    one = engine()
    connection = established(one)
    assert len(records(one)) == 1
    connection.from_client("R")
    later = ClientConnection(one, iss=77)
    later.connect()
    later.connect_mirror()
    assert [unsealed(record)["iss"] for record in records(one)] == [77]
    assert one.replicated_legs.take_withdrawn() == []


RECORD = {
    "format": 2,
    "service": "openflow",
    "client": "10.10.0.11:40001",
    "backend": "10.20.0.11:6653",
    "iss": ISS,
    "client_nxt": seq.add(ISS, 11),
    "client_una": seq.add(ISS, 11),
    "backend_scale": 0,
    "legs": [
        {
            "mirror": "master",
            "address": "10.20.0.13:6653",
            "local": "10.10.0.11:40001",
            "scale": 3,
            "our_scale": 7,
            "mss": 1460,
            "sack": True,
            "rcv_nxt": seq.add(MIRROR_ISS, 4),
            "snd_una": seq.add(ISS, 5),
            "offset": 0x9E37_79B9,
        }
    ],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 1}, "format: expected 2, found 1"),
        ({"service": 5}, "service: expected text, found 5"),
        ({"client": "10.10.0.11"}, "client: expected an address and a port"),
        ({"client": "10.10.0.11:0"}, "client: expected an address and a port"),
        ({"client": "10.10.0:11"}, "client: "),
        ({"iss": -1}, "iss: expected 0..4294967295, found -1"),
        ({"client_nxt": 1 << 32}, "client_nxt: expected"),
        ({"client_una": "1"}, "client_una: expected"),
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
def test_nonsense_is_refused_and_changes_nothing(change: dict[str, Any], words: str) -> None:
    refused({**sealed(RECORD), **change}, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service": "elsewhere"}, "there is no service elsewhere"),
        ({"client": "10.99.0.11:40001"}, "in no client network"),
        ({"backend": "10.10.0.100:6653"}, "service openflow can have none at 10.10.0.100:6653"),
        ({"backend": None}, "the rules of service openflow differ"),
        ({"client_nxt": ISS}, "client_nxt: expected no number below"),
        ({"legs": [{**RECORD["legs"][0], "our_scale": 8}]}, "our_scale: expected 7"),  # type: ignore[index]
    ],
)
def test_so_is_what_does_not_fit_here(change: dict[str, Any], words: str) -> None:
    refused(sealed({**RECORD, **change}), words)


def refused(record: dict[str, Any], words: str) -> None:
    one = engine()
    before = one.snapshot(NOW)
    with pytest.raises(ValueError, match=words):
        one.replicated_legs.adopt(record, NOW)
    assert one.snapshot(NOW) == before
    assert one.next_timer() is None


def test_what_is_no_record_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a record as a mapping"):
        engine().replicated_legs.adopt([], NOW)  # type: ignore[arg-type]


def test_an_adopted_connection_has_its_backend() -> None:
    for last in (11, 12):
        one = engine()
        one.replicated_legs.adopt(sealed({**RECORD, "backend": f"10.20.0.{last}:6653"}), NOW)
        connection = ClientConnection(one)
        connection.answered, connection.sent = 5, 10
        assert connection.from_client("A").dst == at(f"10.20.0.{last}", 6653)[0]


# The second host


def second(*, fast: bool = True, rules: str = RULES, sent: int = 10, acked: int = 10, **leg: Any) -> ClientConnection:
    """The connection of RECORD at a host that has adopted it, as far as its client has come: ``sent`` bytes, of which
    the backend has acknowledged ``acked``. What its record says otherwise of the leg is in ``leg``."""
    one = engine(rules, fast=fast)
    connection = ClientConnection(one)
    connection.backend = at("10.20.0.11", 6653)
    connection.sent, connection.answered = sent, 5
    numbers = {"client_nxt": seq.add(ISS, 1 + sent), "client_una": seq.add(ISS, 1 + acked)}
    one.replicated_legs.adopt(sealed({**RECORD, **numbers, "legs": [{**RECORD["legs"][0], **leg}]}), connection.now)  # type: ignore[index]
    return connection


def due(connection: ClientConnection, after: float = 0.0) -> list[tuple[str, int, int, bytes]]:
    """What is sent when so many seconds have passed: numbers count from the client's and the mirror's first."""
    connection.now += after
    for send in connection.engine.handle_timer(connection.now):
        assert isinstance(send, Send)
        connection.to_mirror += [segment(one) for one in finish(send.packet, send.segment_len)]
    return heard(connection)


def heard(connection: ClientConnection) -> list[tuple[str, int, int, bytes]]:
    """What was sent to the mirror since the last call."""
    return [
        (flags, seq.diff(at, ISS), seq.diff(ack, MIRROR_ISS), data) for flags, at, ack, data in connection.mirrored()
    ]


def answer(connection: ClientConnection, ack: int, at: int = 4, *, window: int = 0xFFFF, data: bytes = b"") -> None:
    """The mirror says how far it has come."""
    raw = packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, at), seq.add(ISS, ack), data, window=window)
    assert connection.take(raw, Hook.PREROUTING) == Drop("consumed")


def mirror_of(connection: ClientConnection) -> dict[str, Any]:
    """The mirror's ledger, which adds up."""
    snapshot = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    mirror: dict[str, Any] = snapshot["mirrors"][0]
    return mirror


def ends(connection: ClientConnection) -> list[str]:
    """Why legs have ended since the last call."""
    return [event.reason for event in connection.engine.take_events()]


def test_the_mirror_is_asked_below_its_window_and_the_stream_goes_on_where_it_says(fast: bool) -> None:
    connection = second(fast=fast)
    assert due(connection) == [("A", 4, 4, b"")]
    assert connection.engine.flows(connection.now)[0]["legs"][0]["state"] == "resuming"
    answer(connection, 11)
    assert due(connection) == []
    connection.from_client("PA", b"abc")
    assert heard(connection) == [("PA", 11, 4, b"abc")]
    connection.from_mirror("A", 4, 14)
    connection.from_backend("A")
    connection.from_client("PA", b"def")
    assert heard(connection) == [("PA", 14, 4, b"def")]
    connection.from_client("FA")
    connection.from_mirror("A", 4, 17)
    assert heard(connection)[-1] == ("FA", 17, 4, b"")
    connection.from_mirror("FA", 4, 18)
    assert ends(connection) == ["closed"]
    mirror = mirror_of(connection)
    assert (mirror["adopted"], mirror["resumed"], mirror["opened"], mirror["ended"]) == (1, 1, 0, {"closed": 1})
    assert (mirror["client_bytes"], mirror["acked_bytes"]) == (12, 12), "from the first that was not acknowledged"


def test_once_it_goes_on_the_leg_is_cs_again() -> None:
    connection = second()
    due(connection)
    answer(connection, 11)
    due(connection)
    connection.from_client("PA", b"x")
    connection.from_mirror("A", 4, 12)
    before = connection.engine.snapshot(connection.now)["punts"]
    for count in range(10):
        connection.from_client("PA", b"x")
        connection.from_backend("A")
        connection.from_mirror("A", 4, 13 + count)
    assert connection.engine.snapshot(connection.now)["punts"] == before


def test_a_probe_without_an_answer_is_repeated_and_at_last_the_leg_ends_without_a_word(fast: bool) -> None:
    connection = second(fast=fast)
    times = []
    while (timer := connection.engine.next_timer()) is not None and timer < connection.now + 1000:
        times.append(round(timer - 1000.0, 3))
        probes = due(connection, timer - connection.now)
        assert probes == ([("A", 4, 4, b"")] if times[-1] < 30 else [])
    assert times == [0.0, 1.0, 3.0, 7.0, 15.0, 30.0]
    assert ends(connection) == ["no-answer"]
    assert mirror_of(connection)["lost_bytes"] == {"no-answer": 6}


def test_what_the_mirror_has_got_since_the_record_counts_as_acknowledged(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    answer(connection, 31)  # twenty bytes that the client has sent through the first host alone
    due(connection)
    connection.sent = 30
    connection.from_client("PA", b"abc")
    assert heard(connection) == [("PA", 31, 4, b"abc")]
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["pending_bytes"]) == (29, 26, 3)


def test_what_the_client_sends_meanwhile_is_kept_for_the_mirror(fast: bool) -> None:
    connection = second(fast=fast)
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
    connection = second(fast=fast, sent=20, acked=5)
    due(connection)
    answer(connection, 6)
    due(connection)
    connection.from_client("PA", b"0123456789abcde", at=5)
    assert heard(connection) == [("PA", 6, 4, b"0123456789abcde")]


@pytest.mark.parametrize("is_known", [True, False])
def test_bytes_that_nobody_holds_any_more_end_the_leg_after_the_mirror_was_asked_again(
    fast: bool, is_known: bool
) -> None:
    connection = second(fast=fast, sent=20, acked=20 if is_known else 5)
    due(connection)
    answer(connection, 8)
    if not is_known:
        assert due(connection) == []
        connection.from_backend("A")  # it has acknowledged all twenty
    assert due(connection) == []
    connection.from_client("PA", b"abc")
    assert due(connection, 0.9) == []
    assert due(connection, 0.1) == [("A", 7, 4, b"")]
    assert ends(connection) == []
    answer(connection, 8)
    assert due(connection) == [("RA", 8, 4, b"")]
    assert ends(connection) == ["takeover-hole"]
    mirror = mirror_of(connection)
    assert (mirror["lost_bytes"], mirror["acked_bytes"], mirror["client_bytes"]) == ({"takeover-hole": 16}, 3, 19)
    assert mirror["resumed"] == (0 if is_known else 1)


def test_what_was_still_under_way_from_the_first_host_is_not_missing(fast: bool) -> None:
    connection = second(fast=fast, sent=20, acked=20)
    due(connection)
    answer(connection, 8)
    due(connection)
    connection.from_client("PA", b"abc")
    assert due(connection, 1.0) == [("A", 7, 4, b"")]
    answer(connection, 21)
    assert due(connection) == [("PA", 21, 4, b"abc")]
    assert mirror_of(connection)["lost_bytes"] == {}


def test_the_mirror_may_hold_more_behind_a_gap(fast: bool) -> None:
    connection = second(fast=fast, sent=20, acked=5)
    due(connection)
    answer(connection, 6)
    due(connection)
    connection.from_client("PA", b"01234", at=5)
    assert heard(connection) == [("PA", 6, 4, b"01234")]
    connection.from_mirror("A", 4, 21)  # the rest had come already, from the first host
    connection.from_client("PA", b"56789abcde", at=10)
    assert due(connection) == []
    connection.from_client("PA", b"x")
    assert heard(connection) == [("PA", 21, 4, b"x")]
    assert mirror_of(connection)["acked_bytes"] == 16


def test_later_an_acknowledgement_of_what_was_never_sent_is_not_believed(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    answer(connection, 11)
    due(connection, 61.0)
    connection.from_mirror("A", 4, 21)
    assert heard(connection) == [("A", 11, 4, b"")]
    assert mirror_of(connection)["client_bytes"] == 6


@pytest.mark.parametrize("ack", [3, -100])
def test_a_mirror_that_has_less_than_it_had_is_not_believed_twice(fast: bool, ack: int) -> None:
    connection = second(fast=fast)
    due(connection)
    answer(connection, ack)
    assert (due(connection), ends(connection)) == ([], [])
    assert due(connection, 1.0) == [("A", 4, 4, b"")]
    answer(connection, ack)
    assert heard(connection) == [("RA", 5, 4, b"")]
    assert ends(connection) == ["no-record"]
    assert mirror_of(connection)["lost_bytes"] == {"no-record": 6}


def test_a_mirror_without_the_connection_ends_the_leg(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    connection.from_mirror("R", 4, 0)
    assert ends(connection) == ["mirror-reset"]
    assert heard(connection) == []
    assert mirror_of(connection)["adopted"] == 1


def test_a_reset_at_another_number_is_challenged(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    connection.from_mirror("R", 5, 0)
    assert heard(connection) == [("A", 5, 4, b"")]
    assert ends(connection) == []


def test_what_the_mirror_has_sent_meanwhile_is_acknowledged(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    answer(connection, 11, at=104)
    due(connection)
    connection.from_mirror("PA", 54, 11, b"y" * 50)  # nobody has acknowledged it: it comes again
    assert heard(connection) == [("A", 11, 104, b"")]
    connection.from_mirror("PA", 104, 11, b"z")
    connection.from_client("PA", b"abc")
    assert heard(connection) == [("PA", 11, 105, b"abc")]


@pytest.mark.parametrize(("start", "expected"), [(4, 14), (1, 11), (100, 110)])
def test_data_of_the_mirrors_is_an_answer_too(fast: bool, start: int, expected: int) -> None:
    connection = second(fast=fast)
    due(connection)
    answer(connection, 11, at=start, data=b"y" * 10)
    due(connection, 0.04)
    connection.from_client("PA", b"abc")
    assert heard(connection)[-1] == ("PA", 11, expected, b"abc")


def test_an_acknowledgement_from_before_the_record_is_no_answer(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    answer(connection, 11, at=2)
    assert due(connection, 1.0) == [("A", 4, 4, b"")]


def test_the_mirrors_window_is_scaled_as_it_was(fast: bool) -> None:
    connection = second(fast=fast, scale=3, mss=1000)
    due(connection)
    answer(connection, 11, window=100)
    due(connection)
    connection.from_client("PA", b"x" * 2000)
    assert heard(connection) == [("A", 11, 4, b"x" * 800)]


def test_the_mirrors_segment_size_and_selective_acknowledgements_are_as_they_were(fast: bool) -> None:
    connection = second(fast=fast, mss=100, sack=True)
    due(connection)
    answer(connection, 11)
    due(connection)
    connection.from_client("PA", b"x" * 400)
    assert [len(data) for *_, data in heard(connection)] == [100] * 4
    blocks = b"\1\1\5\x0a" + seq.add(ISS, 111).to_bytes(4, "big") + seq.add(ISS, 411).to_bytes(4, "big")
    raw = packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 11), options=blocks)
    connection.take(raw, Hook.PREROUTING)
    assert [at for _, at, _, _ in heard(connection)] == [11], "what the mirror lacks, before any timer"


def test_after_hours_of_silence_both_go_on(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    answer(connection, 11)
    assert due(connection, 7200.0) == []
    connection.from_client("PA", b"abc")
    assert heard(connection) == [("PA", 11, 4, b"abc")]
    connection.from_mirror("PA", 4, 14, b"yes")
    assert due(connection, 0.04) == [("A", 14, 7, b"")]


# How the client's connection may end meanwhile


def test_a_fin_that_comes_before_the_answer_follows_the_last_byte(fast: bool) -> None:
    connection = second(fast=fast)
    connection.from_client("FPA", b"abc")
    due(connection)
    answer(connection, 11)
    assert due(connection) == [("PA", 11, 4, b"abc"), ("FA", 14, 4, b"")]
    connection.from_mirror("FA", 4, 15)
    assert ends(connection) == ["closed"]
    assert mirror_of(connection)["lost_bytes"] == {}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_fin_that_the_first_host_has_passed_on_is_not_sent_again(fast: bool, is_first: bool) -> None:
    connection = second(fast=fast)
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
    assert (mirror["client_bytes"], mirror["acked_bytes"], heard(connection)) == (6, 6, [])
    connection.from_mirror("FA", 4, 12)
    assert heard(connection) == [("A", 12, 5, b"")]
    assert ends(connection) == ["closed"]


def test_an_acknowledgement_past_the_clients_fin_is_a_mismatch(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    connection.from_client("FA")
    answer(connection, 20)
    assert heard(connection) == [("RA", 20, 4, b"")]
    assert ends(connection) == ["no-record"]
    assert mirror_of(connection)["acked_bytes"] == 6


def test_a_reset_that_comes_before_the_answer_follows_the_last_byte(fast: bool) -> None:
    connection = second(fast=fast)
    connection.from_client("PA", b"abc")
    due(connection)
    connection.from_client("RA")
    assert heard(connection) == []
    answer(connection, 11)
    assert due(connection) == [("PA", 11, 4, b"abc")]
    connection.from_mirror("A", 4, 14)
    assert heard(connection) == [("RA", 14, 4, b"")]
    assert ends(connection) == ["client-reset"]


def test_a_connection_that_closes_before_the_answer_leaves_its_leg_the_usual_time(fast: bool) -> None:
    connection = second(fast=fast)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert due(connection) == [("A", 4, 4, b"")]
    answer(connection, 11)
    assert due(connection) == [("FA", 11, 4, b"")]
    connection.from_mirror("FA", 4, 12)
    assert ends(connection) == ["closed"]


def test_a_connection_that_is_forgotten_before_the_answer_takes_its_leg_along(fast: bool) -> None:
    connection = second(fast=fast, rules=RULES.replace("10.20.0.13}", "10.20.0.13, linger: 60s}"))
    connection.from_client("PA", b"abc")
    connection.from_client("RA")
    due(connection)
    while (timer := connection.engine.next_timer()) is not None:
        assert all(flags == "A" for flags, *_ in due(connection, max(timer - connection.now, 0.0)))
    assert ends(connection) == ["no-answer"]
    assert mirror_of(connection)["lost_bytes"] == {"no-answer": 9}
    assert connection.engine.snapshot(connection.now)["mirror_memory"]["used_bytes"] == 0


def test_a_new_connection_of_the_same_ports_takes_the_legs_place(fast: bool) -> None:
    connection = second(fast=fast)
    due(connection)
    later = ClientConnection(connection.engine, iss=77)
    later.backend = connection.backend
    later.from_client("S", at=-1)
    later.syn_ack()
    later.from_client("A")
    assert [flags for flags, *_ in later.mirrored()] == ["S"], "which clears the old one at the mirror"
    assert ends(connection) == ["no-answer"]
    assert_adds_up(connection.engine.snapshot(connection.now))


# A host that waits


def waiting(**change: Any) -> Engine:
    """A host that does not pass the packets and has adopted a record."""
    one = engine()
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed({**RECORD, **change}), NOW)
    return one


def test_a_host_that_waits_says_nothing_and_counts_nothing() -> None:
    one = waiting()
    assert one.handle_timer(NOW + 60) == []
    snapshot = one.snapshot(NOW)
    assert_adds_up(snapshot)
    mirror = snapshot["mirrors"][0]
    assert (mirror["client_bytes"], mirror["adopted"], mirror["legs"]) == (0, 0, 1)
    one.replicated_legs.withdraw("openflow", "10.10.0.11:40001")
    assert (one.flow_ids(), one.take_events(), one.next_timer()) == ([], [], None)
    mirror = one.snapshot(NOW)["mirrors"][0]
    assert (mirror["legs"], mirror["ended"], mirror["lost_bytes"]) == (0, {}, {})


def test_a_host_that_ends_while_it_waits_leaves_the_others_legs_alone() -> None:
    one = waiting()
    assert one.close() == []
    assert_adds_up(one.snapshot(NOW))


def test_taking_over_asks_the_mirrors() -> None:
    one = waiting()
    one.replicated_legs.take_over(NOW)
    connection = ClientConnection(one)
    assert due(connection) == [("A", 4, 4, b"")]
    assert mirror_of(connection)["adopted"] == 1
    one.replicated_legs.withdraw("openflow", "10.10.0.11:40001")
    assert len(one.flow_ids()) == 1, "it is this host's now"


@pytest.mark.parametrize("who", ["client", "mirror"])
def test_so_does_a_packet_of_the_connection(fast: bool, who: str) -> None:
    one = engine(fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed(RECORD), NOW)
    connection = ClientConnection(one)
    connection.sent, connection.answered = 10, 5
    if who == "client":
        connection.from_client("PA", b"abc")
        assert due(connection) == [("A", 4, 4, b"")]
    else:
        answer(connection, 11)
        assert due(connection) == []
    assert mirror_of(connection)["adopted"] == 1
    assert ends(connection) == []


def test_a_later_record_takes_the_place_of_the_one_before() -> None:
    one = waiting()
    leg = {**RECORD["legs"][0], "snd_una": seq.add(ISS, 31), "rcv_nxt": seq.add(MIRROR_ISS, 9)}  # type: ignore[index]
    one.replicated_legs.adopt(
        sealed({**RECORD, "client_nxt": seq.add(ISS, 41), "client_una": seq.add(ISS, 31), "legs": [leg]}), NOW
    )
    assert len(one.flow_ids()) == 1
    one.replicated_legs.take_over(NOW)
    connection = ClientConnection(one)
    assert due(connection) == [("A", 30, 9, b"")]
    assert mirror_of(connection)["client_bytes"] == 10


def test_what_passed_before_a_later_record_counts_once(fast: bool) -> None:
    """The addresses have come, the other host's last word has not."""
    one = engine(fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed(RECORD), NOW)
    connection = ClientConnection(one)
    connection.sent, connection.answered = 30, 5
    connection.from_client("A")
    leg = {**RECORD["legs"][0], "snd_una": seq.add(ISS, 31)}  # type: ignore[index]
    one.replicated_legs.adopt(
        sealed({**RECORD, "client_nxt": seq.add(ISS, 31), "client_una": seq.add(ISS, 31), "legs": [leg]}), NOW
    )
    one.replicated_legs.take_over(NOW)
    assert due(connection) == [("A", 30, 4, b"")]
    answer(connection, 31)
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["pending_bytes"]) == (0, 0, 0)


def test_a_record_with_other_legs_or_of_a_newer_connection_does_too() -> None:
    one = waiting(iss=5)
    one.replicated_legs.adopt(sealed({**RECORD, "iss": 6}), NOW)
    one.replicated_legs.adopt(sealed({**RECORD, "iss": 6, "backend": "10.20.0.12:6653"}), NOW)
    assert [flow["backend"] for flow in one.flows(NOW)] == ["c2"]
    assert one.take_events() == []


def test_a_record_of_an_older_connection_or_another_backend_is_refused() -> None:
    one = engine()
    connection = established(one)
    with pytest.raises(ValueError, match="has opened a new connection"):
        one.replicated_legs.adopt(sealed({**RECORD, "iss": 5}), NOW)
    assert connection.backend is not None
    other = "10.20.0.11:6653" if connection.backend == at("10.20.0.12", 6653) else "10.20.0.12:6653"
    with pytest.raises(ValueError, match="is served by"):
        one.replicated_legs.adopt(sealed({**RECORD, "backend": other}), NOW)


def test_legs_that_stand_are_left_alone() -> None:
    one = engine()
    connection = established(one)
    assert connection.backend is not None
    one.replicated_legs.adopt(sealed({**RECORD, "backend": show(connection.backend)}), NOW)
    connection.from_client("PA", b"abc")
    assert [data for *_, data in connection.mirrored()] == [b"", b"", b"abc"]


def test_without_a_record_a_mirror_is_reset_but_not_by_a_host_that_waits() -> None:
    one = engine()
    one.replicated_legs.release()
    connection = ClientConnection(one)
    assert connection.from_mirror("A", 4, 11) == Drop("mirror-without-leg")
    assert connection.to_mirror == []
    one.replicated_legs.take_over(NOW)
    connection.from_mirror("A", 4, 11)
    assert [flags for flags, *_ in connection.mirrored()] == ["R"]


# The first host


def test_legs_that_are_handed_over_end_without_a_word(fast: bool) -> None:
    one = engine(fast=fast)
    connection = established(one)
    connection.from_client("PA", b"abc")
    connection.mirrored()
    one.replicated_legs.release()
    assert ends(connection) == ["handed-over"]
    assert due(connection, 300.0) == []
    connection.from_client("PA", b"def")
    assert heard(connection) == []
    assert mirror_of(connection)["lost_bytes"] == {"handed-over": 6}


def test_a_connection_that_comes_back_without_a_record_is_met_in_its_middle(fast: bool) -> None:
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
    assert heard(connection) == []
    snapshot = one.snapshot(connection.now)
    assert snapshot["mirrors"][0]["lost_bytes"] == {"handed-over": 3, "mid-connection": 5}
    assert_adds_up(snapshot)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [flow["state"] for flow in one.flows(connection.now)] == ["time-wait"], "its end is seen"


def test_there_and_back_again(fast: bool) -> None:
    """One connection at one host, at another, and at the first one again."""
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
        assert heard(connection) == [("PA", at_byte, 1, text)]
        connection.from_mirror("A", 1, 1 + connection.sent)
        connection.from_backend("A")
        assert mirror_of(connection)["lost_bytes"] == {}
    assert [one.snapshot(connection.now)["mirrors"][0]["acked_bytes"] for one in (one, other)] == [6, 6]


def test_a_record_of_a_leg_whose_backend_has_not_spoken_here_says_what_the_one_before_said() -> None:
    connection = second()
    assert records(connection.engine) == [], "the record of the first host holds"
    due(connection)
    answer(connection, 11)
    due(connection)
    [record] = map(unsealed, records(connection.engine))
    assert (record["client_una"], record["client_nxt"]) == (seq.add(ISS, 11), seq.add(ISS, 11))
    assert record["iss"] == ISS


# Which legs


def test_two_mirrors_may_stand_at_different_places(fast: bool) -> None:
    leg = RECORD["legs"][0]  # type: ignore[index]
    one = engine(TWO, fast=fast)
    far = {**leg, "mirror": "spare", "address": "10.20.0.14:6653", "snd_una": seq.add(ISS, 9)}
    one.replicated_legs.adopt(sealed({**RECORD, "client_una": seq.add(ISS, 5), "legs": [leg, far]}), NOW)
    connection = ClientConnection(one)
    connection.sent, connection.answered = 10, 5
    assert sorted(due(connection)) == [("A", 4, 4, b""), ("A", 8, 4, b"")]
    raw = packet(SPARE, CLIENT, "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 9))
    assert connection.take(raw, Hook.PREROUTING) == Drop("consumed")
    connection.from_client("PA", b"456789xyz", at=4)
    assert due(connection) == [("PA", 9, 4, b"89xyz")]
    answer(connection, 5)
    assert due(connection) == [("PA", 5, 4, b"456789xyz")]
    snapshot = one.snapshot(connection.now)
    assert_adds_up(snapshot)
    assert [mirror["client_bytes"] for mirror in snapshot["mirrors"]] == [9, 9]
    connection.from_client("PA", b"!", at=13)
    assert sorted(heard(connection)) == [("PA", 14, 4, b"!")] * 2


def test_one_mirror_that_does_not_answer_costs_the_other_nothing_but_time(fast: bool) -> None:
    leg = RECORD["legs"][0]  # type: ignore[index]
    one = engine(TWO, fast=fast)
    one.replicated_legs.adopt(
        sealed({**RECORD, "legs": [leg, {**leg, "mirror": "spare", "address": "10.20.0.14:6653"}]}), NOW
    )
    connection = ClientConnection(one)
    connection.sent, connection.answered = 10, 5
    connection.from_client("PA", b"abc")
    due(connection)
    answer(connection, 11)
    for _ in range(10):
        sent = due(connection, 5.0)
        if sent and sent[-1][3]:
            break
    assert (sent[-1], ends(connection)) == (("PA", 11, 4, b"abc"), ["no-answer"])


@pytest.mark.parametrize(
    ("rules", "change", "reason"),
    [
        (RULES, {"local": "10.20.0.1:10240"}, "other-address"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), {}, "other-address"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), {"local": "10.20.0.1:80"}, "other-address"),
        (RULES, {"mirror": "another"}, "mid-connection"),
        (RULES, {"address": "10.20.0.13:99"}, "mid-connection"),
        (RULES.replace("10.20.0.13}", "10.20.0.11}"), {"address": "10.20.0.11:6653"}, "own-backend"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, only: [10.10.0.99/32]}"), {}, "not-selected"),
    ],
)
def test_a_leg_that_cannot_go_on_here_leaves_the_connection_its_backend(
    rules: str, change: dict[str, Any], reason: str
) -> None:
    connection = second(rules=rules, **change)
    assert due(connection) == []
    assert connection.from_client("PA", b"abc").dst == at("10.20.0.11", 6653)[0]
    assert mirror_of(connection)["lost_bytes"] == {reason: 3}


def test_a_leg_with_an_address_of_ours_goes_on_from_there(fast: bool) -> None:
    connection = second(
        fast=fast, rules=RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), local="10.20.0.1:10240"
    )
    due(connection)
    raw = packet(MASTER, at("10.20.0.1", 10240), "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 11))
    assert connection.take(raw, Hook.PREROUTING) == Drop("consumed")
    connection.from_client("PA", b"abc")
    due(connection)
    assert connection.engine.flows(connection.now)[0]["legs"][0]["sent_bytes"] == 3


def test_clients_of_another_thread_are_refused() -> None:
    one = engine(shard=Shard(0, 2))
    with pytest.raises(ValueError, match="belongs to another thread"):
        one.replicated_legs.adopt(sealed(RECORD), NOW)


def test_a_full_table_is_counted() -> None:
    one = engine(max_flows=1)
    established(one)
    one.replicated_legs.adopt(sealed({**RECORD, "client": "10.10.0.12:40001"}), NOW)
    assert one.snapshot(NOW)["counters"]["flows_refused"] == 1


def test_an_adopted_connection_is_not_half_open() -> None:
    one = engine(max_flows=4)
    one.replicated_legs.adopt(sealed(RECORD), NOW)
    for port in range(50_000, 50_020):
        one.receive(packet((CLIENT[0], port), SERVICE, "S", 1), Hook.PREROUTING, NOW)
    assert "10.10.0.11:40001" in [flow["client"] for flow in one.flows(NOW)]


def test_a_host_that_has_handed_over_believes_that_the_client_has_connected_anew_elsewhere() -> None:
    one = engine()
    established(one)
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed({**RECORD, "iss": 5}), NOW)
    one.replicated_legs.take_over(NOW)
    assert len(due(ClientConnection(one))) == 1


@pytest.mark.parametrize("last", [11, 12])
def test_a_connection_that_was_met_before_its_record_came_goes_on_with_it(fast: bool, last: int) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.backend = at("10.20.0.11", 6653)
    connection.sent, connection.answered = 10, 5
    connection.from_client("PA", b"abc")
    assert one.snapshot(NOW)["counters"]["flows_picked_up"] == 1
    one.replicated_legs.adopt(sealed({**RECORD, "backend": f"10.20.0.{last}:6653"}), NOW)
    assert due(connection) == [("A", 4, 4, b"")]
    answer(connection, 14)  # the first host has passed them on as well
    assert due(connection) == []
    connection.backend = at(f"10.20.0.{last}", 6653)
    connection.from_client("PA", b"def")
    assert heard(connection) == [("PA", 14, 4, b"def")]
    mirror = mirror_of(connection)
    assert (mirror["lost_bytes"], mirror["pending_bytes"]) == ({"mid-connection": 3}, 3)
    assert len(one.flow_ids()) == 1


BOTH = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors:
      - {name: master, address: 10.20.0.13}
      - {name: other, address: 10.20.0.14, protocol: openflow, reconnect: next-message}
"""


def test_a_session_beside_the_leg_begins_anew_at_the_next_message(fast: bool) -> None:
    before = engine(AGAIN)
    introduced(before)
    [known] = [before.directory.plain(client, NOW) for client in before.directory.clients(NOW)]
    assert known is not None
    connection = second(fast=fast, rules=BOTH)
    connection.engine.directory.restore(known, NOW)
    due(connection)
    answer(connection, 11)
    due(connection)
    connection.from_client("PA", packet_in(1))
    sent = {(one.dst, told(one.raw)[0]) for one in connection.to_mirror}
    assert sent == {(MASTER[0], "PA"), (SPARE[0], "S")}
    assert heard(connection)[0][3] == packet_in(1)


@pytest.mark.parametrize("elsewhere", [0, 5000])
def test_a_session_of_a_connection_that_comes_back_begins_anew_with_what_is_known(fast: bool, elsewhere: int) -> None:
    one = engine(AGAIN, fast=fast)
    connection, master = introduced(one)
    one.replicated_legs.release()
    assert master.ended == "", "the other host calls the master anew"
    assert one.directory.living() == []
    connection.sent, connection.answered = connection.sent + elsewhere, connection.answered + elsewhere
    one.replicated_legs.take_over(connection.now)
    connection.from_client("PA", packet_in(1))
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 78))
    assert [(kind, xid) for kind, xid, _ in master.messages()][:2] == [(Type.HELLO, 1), (Type.FEATURES_REPLY, 78)]
    assert len(one.directory.living()) == 1
    connection.from_client("FA")
    connection.from_backend("FA")
    assert one.directory.clients(connection.now) == [], "its end is known"


def test_a_switch_that_left_while_another_host_passed_it_is_forgotten(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    introduced(one)
    one.replicated_legs.release()
    [client] = one.directory.clients(NOW)
    one.directory.withdraw(client)
    assert one.directory.clients(NOW) == []


# Records of legs with numbers of their own, at two hosts with keys of their own

SHARED = (
    RULES
    + """
ha:
  hosts:
    - {name: lb1, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 200}
    - {name: lb2, switch-side: 10.10.0.3, pool-side: 10.20.0.3, priority: 100}
  switch-side: {interface: eth0, addresses: [10.10.0.100/24], vrrp-id: 10}
  pool-side: {interface: eth1, addresses: [10.20.0.100/24], vrrp-id: 20}
  state: redis://10.20.0.9:6379/0
"""
)


def host(key: bytes, rules: str = SHARED, *, fast: bool = True) -> Engine:
    """A host of the pair, its legs as they are on the wire."""
    return Engine(parse_rules(rules), key=key, fast=fast)


def opened_at(connection: ClientConnection) -> int:
    """The number of the leg's first byte on the wire, once it stands."""
    connection.connect()
    connection.engine.read_sessions(connection.now)
    [iss] = [number for letters, number, _, _ in connection.mirrored() if letters == "S"]
    raw = packet(MASTER, connection.client, "SA", MIRROR_ISS, seq.add(iss, 1))
    assert connection.take(raw, Hook.PREROUTING) == Drop("consumed")
    connection.mirrored()
    return seq.add(iss, 1)


def moved(connection: ClientConnection, then: Engine, told_of: list[dict[str, Any]]) -> None:
    """The connection goes on at another host, which knows these records."""
    then.replicated_legs.release()
    for record in told_of:
        then.replicated_legs.adopt(record, connection.now)
    connection.engine.replicated_legs.release()
    then.replicated_legs.take_over(connection.now)
    connection.engine = then


def from_mirror(connection: ClientConnection, at_number: int, ack: int, data: bytes = b"") -> None:
    """The mirror sends, by the numbers on the wire."""
    connection.take(packet(MASTER, connection.client, "A", at_number, ack, data), Hook.PREROUTING)


def timers(connection: ClientConnection) -> list[tuple[str, int, int, bytes]]:
    """What is due, by the numbers on the wire."""
    sends = connection.engine.handle_timer(connection.now)
    return [told(one) for send in sends if isinstance(send, Send) for one in finish(send.packet, send.segment_len)]


@pytest.mark.parametrize("key", ["", "  key: a secret of both hosts\n"])
def test_the_other_host_goes_on_with_the_legs_own_numbers(fast: bool, key: str) -> None:
    one, other = (host(secret, SHARED + key, fast=fast) for secret in (KEY, bytes(16)))
    connection = ClientConnection(one)
    first = opened_at(connection)
    connection.from_client("PA", b"hello")
    connection.from_backend("A")
    from_mirror(connection, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
    moved(connection, other, records(one))
    assert timers(connection) == [("A", seq.add(first, 4), seq.add(MIRROR_ISS, 1), b"")]
    from_mirror(connection, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
    assert timers(connection) == []
    connection.mirrored()
    for count in range(4):
        connection.from_client("PA", b"again")
        connection.from_backend("A")
        assert connection.mirrored() == [("PA", seq.add(first, 5 + 5 * count), seq.add(MIRROR_ISS, 1), b"again")]
        from_mirror(connection, seq.add(MIRROR_ISS, 1), seq.add(first, 10 + 5 * count))
    assert mirror_of(connection)["lost_bytes"] == {}


def test_a_record_holds_no_number_of_the_clients_the_legs_or_the_mirrors() -> None:
    connection = ClientConnection(host(KEY))
    first = opened_at(connection)
    connection.from_client("PA", b"hello")
    connection.from_backend("A")
    from_mirror(connection, seq.add(MIRROR_ISS, 1), first, b"answer")
    [record] = records(connection.engine)
    numbers = {value for leg in record["legs"] for value in leg.values()} | {
        value for name, value in record.items() if name != "legs"
    }
    offset = seq.add(first, -ISS - 1)
    near = {seq.add(start, by) for start in (ISS, first, MIRROR_ISS, offset) for by in range(-8, 9)}
    assert not numbers & (near | {seq.add(0, -offset)})


def test_the_same_record_has_the_same_nonce_and_each_other_one_another() -> None:
    connection = ClientConnection(host(KEY))
    opened_at(connection)
    told_of = [records(connection.engine, everything=True)[0] for _ in range(2)]
    assert told_of[0] == told_of[1]
    connection.from_client("PA", b"hello")
    told_of += records(connection.engine, everything=True)
    connection.from_client("R")
    later = ClientConnection(connection.engine, iss=77)
    opened_at(later)
    told_of += records(connection.engine, everything=True)
    other = ClientConnection(connection.engine, client=at("10.10.0.12", 40001))
    opened_at(other)
    told_of += records(connection.engine)
    assert len({record["nonce"] for record in told_of}) == 4
    assert len({record["iss"] for record in told_of}) == 4


def test_a_host_with_another_key_ends_the_legs_by_name_and_shows_the_mirror_nothing(fast: bool) -> None:
    """Whatever its key makes of the numbers: of 64 keys some make numbers that look right."""
    for number in range(64):
        one = host(KEY, SHARED + "  key: the secret of one\n", fast=fast)
        other = host(KEY, SHARED + f"  key: the other's secret {number}\n", fast=fast)
        connection = ClientConnection(one)
        first = opened_at(connection)
        then = records(one)
        with pytest.raises(ValueError, match=r"ha\.key differ"):
            other.replicated_legs.adopt(then[0], connection.now)
        moved(connection, other, [])
        assert timers(connection) == []
        assert connection.from_client("PA", b"hello").dst == connection.backend_address
        from_mirror(connection, seq.add(MIRROR_ISS, 1), first)
        assert connection.mirrored() == [("R", first, 0, b"")], "the mirror is told"
        assert mirror_of(connection)["lost_bytes"] == {"no-record": 5}


def test_a_leg_that_is_younger_than_all_records_ends_as_one_without(fast: bool) -> None:
    one, other = host(KEY, fast=fast), host(bytes(16), fast=fast)
    connection = ClientConnection(one)
    first = opened_at(connection)
    moved(connection, other, [])
    connection.from_client("PA", b"hello")
    connection.from_backend("A")
    from_mirror(connection, seq.add(MIRROR_ISS, 1), first)
    assert connection.mirrored() == [("R", first, 0, b"")], "the mirror is told"
    connection.from_client("PA", b"again")
    assert mirror_of(connection)["lost_bytes"] == {"no-record": 10}


@pytest.mark.parametrize("iss", [77, ISS - (1 << 24), ISS + (1 << 28), ISS + (1 << 31)])
def test_so_does_one_whose_record_is_of_an_older_leg_of_the_same_ports(fast: bool, iss: int) -> None:
    one, other = host(KEY, fast=fast), host(bytes(16), fast=fast)
    connection = ClientConnection(one)
    opened_at(connection)
    connection.from_client("PA", b"older")
    [record] = records(one)
    connection.from_client("R")
    later = ClientConnection(one, iss=iss & 0xFFFF_FFFF)
    later.now += 20.0
    first = opened_at(later)
    later.from_client("PA", b"hello")
    later.from_backend("PA", b"answer")
    assert [data for *_, data in later.mirrored()] == [b"hello"]
    moved(later, other, [record])
    copied = b""
    for _ in range(40):
        probes = timers(later)
        later.from_client("PA", b"more!")
        later.from_backend("A")
        sends = [*probes, *later.mirrored()]
        copied += b"".join(data for *_, data in sends)
        if any(letters == "A" and not data for letters, _, _, data in sends):
            from_mirror(later, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
        later.now += 1.0
    assert copied == b"", "nothing that does not belong there"
    assert set(ends(later)) <= {"no-record", "takeover-hole"}
    mirror = mirror_of(later)
    assert mirror["pending_bytes"] == 0
    assert set(mirror["lost_bytes"]) <= {"no-record", "takeover-hole"}
    assert mirror["legs"] == 0


def test_a_mirror_with_another_connection_is_recognised_at_its_second_answer(fast: bool) -> None:
    for at_number, ack in ((4, 11 + (1 << 30) + 10), (4 - (1 << 29), 11), (4 + (1 << 30) + 1, 11)):
        connection = second(fast=fast)
        due(connection)
        answer(connection, ack, at_number)
        assert ends(connection) == []
        due(connection, 1.0)
        answer(connection, ack, at_number)
        assert ends(connection) == ["no-record"]


def test_a_host_alone_calls_it_mid_connection(fast: bool) -> None:
    connection = ClientConnection(host(KEY, RULES, fast=fast))
    connection.backend = at("10.20.0.11", 6653)
    connection.from_client("PA", b"hello")
    assert mirror_of(connection)["lost_bytes"] == {"mid-connection": 5}
