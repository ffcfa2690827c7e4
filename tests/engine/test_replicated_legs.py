"""Legs that another host goes on with: what it is told of them, and what it makes of that."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from natmirror.actions import Drop, Hook, Send
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.mirror.shown import MirrorEntry
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.endpoint import show
from natmirror.openflow.messages import Type
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from natmirror.rules.shards import Shard
from natmirror.tcp import leg_record
from natmirror.tcp.initial_numbers import InitialNumbers
from natmirror.tcp.leg_record import FlowRecord, LegRecord
from natmirror.tcp.record_masks import masks
from tests.helpers.openflow_sessions import AGAIN, hello, introduced, packet_in, request
from tests.helpers.session import ISS, KEY, MIRROR_ISS, Session, engine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, packet, segment, told

NOW = 1000.0
TWO = RULES.replace("10.20.0.13}", "10.20.0.13}\n      - {name: spare, address: 10.20.0.14}")
SPARE = at("10.20.0.14", 6653)


def established(one: Engine) -> Session:
    """A connection with a leg that stands."""
    session = Session(one)
    session.connect()
    session.connect_mirror()
    return session


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
    session = established(one)
    session.from_client("PA", b"0123456789")
    session.from_backend("A")
    session.from_mirror("PA", 1, 5, b"abc")
    assert session.backend is not None
    [told_of] = records(one)
    offset = InitialNumbers(KEY).first(CLIENT, MASTER, session.now) - ISS & 0xFFFF_FFFF
    assert unsealed(told_of) == {
        "format": 2,
        "service": "openflow",
        "client": "10.10.0.11:40001",
        "backend": show(session.backend),
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
    session = established(one)
    assert len(records(one)) == 1
    assert records(one) == []
    assert len(records(one, everything=True)) == 1
    session.from_client("PA", b"x")
    assert [unsealed(record)["client_nxt"] for record in records(one)] == [seq.add(ISS, 2)]
    session.from_mirror("A", 1, 2)
    assert [unsealed(record)["legs"][0]["snd_una"] for record in records(one)] == [seq.add(ISS, 2)]
    assert one.replicated_legs.take_withdrawn() == []


def test_a_leg_that_does_not_stand_yet_or_any_more_has_no_record() -> None:
    one = engine()
    session = Session(one)
    session.connect()
    assert records(one) == []
    session.connect_mirror()
    assert len(records(one)) == 1
    session.from_client("FA")
    assert (records(one), one.replicated_legs.take_withdrawn()) == ([], [("openflow", "10.10.0.11:40001")])
    assert one.replicated_legs.take_withdrawn() == []


@pytest.mark.parametrize("end", ["mirror", "forgotten"])
def test_a_record_that_holds_no_more_is_told_once(end: str) -> None:
    one = engine()
    session = established(one)
    assert len(records(one)) == 1
    if end == "mirror":
        session.from_mirror("R", 1, 1)
    else:
        session.now += 8000.0
        one.handle_timer(session.now)
    assert records(one) == []
    assert one.replicated_legs.take_withdrawn() == [("openflow", "10.10.0.11:40001")]
    assert one.replicated_legs.take_withdrawn() == []


def test_a_new_connection_of_the_same_ports_takes_the_place_of_the_old_record() -> None:
    one = engine()
    session = established(one)
    assert len(records(one)) == 1
    session.from_client("R")
    later = Session(one, iss=77)
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
        ({"format": 1}, "a record of format 1, not 2"),
        ({"service": 5}, "service: expected a text, found 5"),
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
        ({"nonce": 5}, "nonce: expected a text"),
        ({"nonce": "0123456789abcdef"}, "nonce: the record is not as it was written"),
        ({"client": "10.10.0.12:40001"}, "nonce: the record is not as it was written"),
        ({"client_nxt": 0}, "nonce: the record is not as it was written"),
        ({"legs": RECORD["legs"]}, "nonce: the record is not as it was written"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(change: dict[str, Any], words: str) -> None:
    refused({**sealed(RECORD), **change}, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service": "elsewhere"}, "there is no service elsewhere"),
        ({"client": "10.99.0.11:40001"}, "none of the clients"),
        ({"backend": "10.10.0.100:6653"}, "openflow can have none at 10.10.0.100:6653"),
        ({"backend": None}, "the service openflow has other rules"),
        ({"client_nxt": ISS}, "client_nxt: it lies before"),
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
    with pytest.raises(ValueError, match="a record is a mapping"):
        engine().replicated_legs.adopt([], NOW)  # type: ignore[arg-type]


def test_an_adopted_connection_has_its_backend() -> None:
    for last in (11, 12):
        one = engine()
        one.replicated_legs.adopt(sealed({**RECORD, "backend": f"10.20.0.{last}:6653"}), NOW)
        session = Session(one)
        session.answered, session.sent = 5, 10
        assert session.from_client("A").dst == at(f"10.20.0.{last}", 6653)[0]


# The second host


def second(*, fast: bool = True, rules: str = RULES, sent: int = 10, acked: int = 10, **leg: Any) -> Session:
    """The connection of RECORD at a host that has adopted it, as far as its client has come: ``sent`` bytes, of which
    the backend has acknowledged ``acked``. What its record says otherwise of the leg is in ``leg``."""
    one = engine(rules, fast=fast)
    session = Session(one)
    session.backend = at("10.20.0.11", 6653)
    session.sent, session.answered = sent, 5
    numbers = {"client_nxt": seq.add(ISS, 1 + sent), "client_una": seq.add(ISS, 1 + acked)}
    one.replicated_legs.adopt(sealed({**RECORD, **numbers, "legs": [{**RECORD["legs"][0], **leg}]}), session.now)  # type: ignore[index]
    return session


def due(session: Session, after: float = 0.0) -> list[tuple[str, int, int, bytes]]:
    """What is sent when so many seconds have passed: numbers count from the client's and the mirror's first."""
    session.now += after
    for send in session.engine.handle_timer(session.now):
        assert isinstance(send, Send)
        session.to_mirror += [segment(one) for one in finish(send.packet, send.segment_len)]
    return heard(session)


def heard(session: Session) -> list[tuple[str, int, int, bytes]]:
    """What was sent to the mirror since the last call."""
    return [(flags, seq.diff(at, ISS), seq.diff(ack, MIRROR_ISS), data) for flags, at, ack, data in session.mirrored()]


def answer(session: Session, ack: int, at: int = 4, *, window: int = 0xFFFF, data: bytes = b"") -> None:
    """The mirror says how far it has come."""
    raw = packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, at), seq.add(ISS, ack), data, window=window)
    assert session.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)


def mirror_of(session: Session) -> MirrorEntry:
    """The mirror's ledger, which adds up."""
    snapshot = session.engine.snapshot(session.now)
    assert_adds_up(snapshot)
    return snapshot["mirrors"][0]


def ends(session: Session) -> list[str]:
    """Why legs have ended since the last call."""
    return [event.reason for event in session.engine.take_events()]


def test_the_mirror_is_asked_below_its_window_and_the_stream_goes_on_where_it_says(fast: bool) -> None:
    session = second(fast=fast)
    assert due(session) == [("A", 4, 4, b"")]
    assert session.engine.flows(session.now)[0]["legs"][0]["state"] == "resuming"
    answer(session, 11)
    assert due(session) == []
    session.from_client("PA", b"abc")
    assert heard(session) == [("PA", 11, 4, b"abc")]
    session.from_mirror("A", 4, 14)
    session.from_backend("A")
    session.from_client("PA", b"def")
    assert heard(session) == [("PA", 14, 4, b"def")]
    session.from_client("FA")
    session.from_mirror("A", 4, 17)
    assert heard(session)[-1] == ("FA", 17, 4, b"")
    session.from_mirror("FA", 4, 18)
    assert ends(session) == ["closed"]
    mirror = mirror_of(session)
    assert (mirror["legs_adopted"], mirror["legs_resumed"], mirror["legs_opened"], mirror["legs_ended"]) == (
        1,
        1,
        0,
        {"closed": 1},
    )
    assert (mirror["client_bytes"], mirror["acked_bytes"]) == (12, 12), "from the first that was not acknowledged"


def test_once_it_goes_on_the_leg_is_cs_again() -> None:
    session = second()
    due(session)
    answer(session, 11)
    due(session)
    session.from_client("PA", b"x")
    session.from_mirror("A", 4, 12)
    before = session.engine.snapshot(session.now)["packets_decided_in_python"]
    for count in range(10):
        session.from_client("PA", b"x")
        session.from_backend("A")
        session.from_mirror("A", 4, 13 + count)
    assert session.engine.snapshot(session.now)["packets_decided_in_python"] == before


def test_a_probe_without_an_answer_is_repeated_and_at_last_the_leg_ends_without_a_word(fast: bool) -> None:
    session = second(fast=fast)
    times = []
    while (timer := session.engine.next_timer()) is not None and timer < session.now + 1000:
        times.append(round(timer - 1000.0, 3))
        probes = due(session, timer - session.now)
        assert probes == ([("A", 4, 4, b"")] if times[-1] < 30 else [])
    assert times == [0.0, 1.0, 3.0, 7.0, 15.0, 30.0]
    assert ends(session) == ["resume-timeout"]
    assert mirror_of(session)["lost_bytes"] == {"resume-timeout": 6}


def test_what_the_mirror_has_got_since_the_record_counts_as_acknowledged(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    answer(session, 31)  # twenty bytes that the client has sent through the first host alone
    due(session)
    session.sent = 30
    session.from_client("PA", b"abc")
    assert heard(session) == [("PA", 31, 4, b"abc")]
    mirror = mirror_of(session)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["pending_bytes"]) == (29, 26, 3)


def test_what_the_client_sends_meanwhile_is_kept_for_the_mirror(fast: bool) -> None:
    session = second(fast=fast)
    session.from_client("PA", b"abc")
    session.from_backend("A")
    session.from_client("PA", b"def")
    assert due(session) == [("A", 4, 4, b"")]
    answer(session, 11)
    assert due(session) == [("PA", 11, 4, b"abcdef")]
    assert due(session, 1.0) == [("A", 11, 4, b"abcdef")] or True
    session.from_mirror("A", 4, 17)
    assert mirror_of(session)["pending_bytes"] == 0


def test_bytes_that_the_client_sends_again_are_not_missing(fast: bool) -> None:
    session = second(fast=fast, sent=20, acked=5)
    due(session)
    answer(session, 6)
    due(session)
    session.from_client("PA", b"0123456789abcde", at=5)
    assert heard(session) == [("PA", 6, 4, b"0123456789abcde")]


@pytest.mark.parametrize("is_known", [True, False])
def test_bytes_that_nobody_holds_any_more_end_the_leg_after_the_mirror_was_asked_again(
    fast: bool, is_known: bool
) -> None:
    session = second(fast=fast, sent=20, acked=20 if is_known else 5)
    due(session)
    answer(session, 8)
    if not is_known:
        assert due(session) == []
        session.from_backend("A")  # it has acknowledged all twenty
    assert due(session) == []
    session.from_client("PA", b"abc")
    assert due(session, 0.9) == []
    assert due(session, 0.1) == [("A", 7, 4, b"")]
    assert ends(session) == []
    answer(session, 8)
    assert due(session) == [("RA", 8, 4, b"")]
    assert ends(session) == ["takeover-hole"]
    mirror = mirror_of(session)
    assert (mirror["lost_bytes"], mirror["acked_bytes"], mirror["client_bytes"]) == ({"takeover-hole": 16}, 3, 19)
    assert mirror["legs_resumed"] == (0 if is_known else 1)


def test_what_was_still_under_way_from_the_first_host_is_not_missing(fast: bool) -> None:
    session = second(fast=fast, sent=20, acked=20)
    due(session)
    answer(session, 8)
    due(session)
    session.from_client("PA", b"abc")
    assert due(session, 1.0) == [("A", 7, 4, b"")]
    answer(session, 21)
    assert due(session) == [("PA", 21, 4, b"abc")]
    assert mirror_of(session)["lost_bytes"] == {}


def test_the_mirror_may_hold_more_behind_a_gap(fast: bool) -> None:
    session = second(fast=fast, sent=20, acked=5)
    due(session)
    answer(session, 6)
    due(session)
    session.from_client("PA", b"01234", at=5)
    assert heard(session) == [("PA", 6, 4, b"01234")]
    session.from_mirror("A", 4, 21)  # the rest had come already, from the first host
    session.from_client("PA", b"56789abcde", at=10)
    assert due(session) == []
    session.from_client("PA", b"x")
    assert heard(session) == [("PA", 21, 4, b"x")]
    assert mirror_of(session)["acked_bytes"] == 16


def test_later_an_acknowledgement_of_what_was_never_sent_is_not_believed(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    answer(session, 11)
    due(session, 61.0)
    session.from_mirror("A", 4, 21)
    assert heard(session) == [("A", 11, 4, b"")]
    assert mirror_of(session)["client_bytes"] == 6


@pytest.mark.parametrize("ack", [3, -100])
def test_a_mirror_that_has_less_than_it_had_is_not_believed_twice(fast: bool, ack: int) -> None:
    session = second(fast=fast)
    due(session)
    answer(session, ack)
    assert (due(session), ends(session)) == ([], [])
    assert due(session, 1.0) == [("A", 4, 4, b"")]
    answer(session, ack)
    assert heard(session) == [("RA", 5, 4, b"")]
    assert ends(session) == ["no-record"]
    assert mirror_of(session)["lost_bytes"] == {"no-record": 6}


def test_a_mirror_without_the_connection_ends_the_leg(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    session.from_mirror("R", 4, 0)
    assert ends(session) == ["mirror-reset"]
    assert heard(session) == []
    assert mirror_of(session)["legs_adopted"] == 1


def test_a_reset_at_another_number_is_challenged(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    session.from_mirror("R", 5, 0)
    assert heard(session) == [("A", 5, 4, b"")]
    assert ends(session) == []


def test_what_the_mirror_has_sent_meanwhile_is_acknowledged(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    answer(session, 11, at=104)
    due(session)
    session.from_mirror("PA", 54, 11, b"y" * 50)  # nobody has acknowledged it: it comes again
    assert heard(session) == [("A", 11, 104, b"")]
    session.from_mirror("PA", 104, 11, b"z")
    session.from_client("PA", b"abc")
    assert heard(session) == [("PA", 11, 105, b"abc")]


@pytest.mark.parametrize(("start", "expected"), [(4, 14), (1, 11), (100, 110)])
def test_data_of_the_mirrors_is_an_answer_too(fast: bool, start: int, expected: int) -> None:
    session = second(fast=fast)
    due(session)
    answer(session, 11, at=start, data=b"y" * 10)
    due(session, 0.04)
    session.from_client("PA", b"abc")
    assert heard(session)[-1] == ("PA", 11, expected, b"abc")


def test_an_acknowledgement_from_before_the_record_is_no_answer(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    answer(session, 11, at=2)
    assert due(session, 1.0) == [("A", 4, 4, b"")]


def test_the_mirrors_window_is_scaled_as_it_was(fast: bool) -> None:
    session = second(fast=fast, scale=3, mss=1000)
    due(session)
    answer(session, 11, window=100)
    due(session)
    session.from_client("PA", b"x" * 2000)
    assert heard(session) == [("A", 11, 4, b"x" * 800)]


def test_the_mirrors_segment_size_and_selective_acknowledgements_are_as_they_were(fast: bool) -> None:
    session = second(fast=fast, mss=100, sack=True)
    due(session)
    answer(session, 11)
    due(session)
    session.from_client("PA", b"x" * 400)
    assert [len(data) for *_, data in heard(session)] == [100] * 4
    blocks = b"\1\1\5\x0a" + seq.add(ISS, 111).to_bytes(4, "big") + seq.add(ISS, 411).to_bytes(4, "big")
    raw = packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 11), options=blocks)
    session.take(raw, Hook.PREROUTING)
    assert [at for _, at, _, _ in heard(session)] == [11], "what the mirror lacks, before any timer"


def test_after_hours_of_silence_both_go_on(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    answer(session, 11)
    assert due(session, 7200.0) == []
    session.from_client("PA", b"abc")
    assert heard(session) == [("PA", 11, 4, b"abc")]
    session.from_mirror("PA", 4, 14, b"yes")
    assert due(session, 0.04) == [("A", 14, 7, b"")]


# How the client's connection may end meanwhile


def test_a_fin_that_comes_before_the_answer_follows_the_last_byte(fast: bool) -> None:
    session = second(fast=fast)
    session.from_client("FPA", b"abc")
    due(session)
    answer(session, 11)
    assert due(session) == [("PA", 11, 4, b"abc"), ("FA", 14, 4, b"")]
    session.from_mirror("FA", 4, 15)
    assert ends(session) == ["closed"]
    assert mirror_of(session)["lost_bytes"] == {}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_fin_that_the_first_host_has_passed_on_is_not_sent_again(fast: bool, is_first: bool) -> None:
    session = second(fast=fast)
    due(session)
    if is_first:
        session.from_client("FA")
        answer(session, 12)
        due(session)
    else:
        answer(session, 12)
        due(session)
        session.from_client("FA")
    mirror = mirror_of(session)
    assert (mirror["client_bytes"], mirror["acked_bytes"], heard(session)) == (6, 6, [])
    session.from_mirror("FA", 4, 12)
    assert heard(session) == [("A", 12, 5, b"")]
    assert ends(session) == ["closed"]


def test_an_acknowledgement_past_the_clients_fin_is_a_mismatch(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    session.from_client("FA")
    answer(session, 20)
    assert heard(session) == [("RA", 20, 4, b"")]
    assert ends(session) == ["no-record"]
    assert mirror_of(session)["acked_bytes"] == 6


def test_a_reset_that_comes_before_the_answer_follows_the_last_byte(fast: bool) -> None:
    session = second(fast=fast)
    session.from_client("PA", b"abc")
    due(session)
    session.from_client("RA")
    assert heard(session) == []
    answer(session, 11)
    assert due(session) == [("PA", 11, 4, b"abc")]
    session.from_mirror("A", 4, 14)
    assert heard(session) == [("RA", 14, 4, b"")]
    assert ends(session) == ["client-reset"]


def test_a_connection_that_closes_before_the_answer_leaves_its_leg_the_usual_time(fast: bool) -> None:
    session = second(fast=fast)
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    assert due(session) == [("A", 4, 4, b"")]
    answer(session, 11)
    assert due(session) == [("FA", 11, 4, b"")]
    session.from_mirror("FA", 4, 12)
    assert ends(session) == ["closed"]


def test_a_connection_that_is_forgotten_before_the_answer_takes_its_leg_along(fast: bool) -> None:
    session = second(fast=fast, rules=RULES.replace("10.20.0.13}", "10.20.0.13, linger: 60s}"))
    session.from_client("PA", b"abc")
    session.from_client("RA")
    due(session)
    while (timer := session.engine.next_timer()) is not None:
        assert all(flags == "A" for flags, *_ in due(session, max(timer - session.now, 0.0)))
    assert ends(session) == ["resume-timeout"]
    assert mirror_of(session)["lost_bytes"] == {"resume-timeout": 9}
    assert session.engine.snapshot(session.now)["mirror_memory"]["used_bytes"] == 0


def test_a_new_connection_of_the_same_ports_takes_the_legs_place(fast: bool) -> None:
    session = second(fast=fast)
    due(session)
    later = Session(session.engine, iss=77)
    later.backend = session.backend
    later.from_client("S", at=-1)
    later.syn_ack()
    later.from_client("A")
    assert [flags for flags, *_ in later.mirrored()] == ["S"], "which clears the old one at the mirror"
    assert ends(session) == ["resume-timeout"]
    assert_adds_up(session.engine.snapshot(session.now))


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
    assert (mirror["client_bytes"], mirror["legs_adopted"], mirror["legs"]) == (0, 0, 1)
    one.replicated_legs.withdraw("openflow", "10.10.0.11:40001")
    assert (one.flow_ids(), one.take_events(), one.next_timer()) == ([], [], None)
    mirror = one.snapshot(NOW)["mirrors"][0]
    assert (mirror["legs"], mirror["legs_ended"], mirror["lost_bytes"]) == (0, {}, {})


def test_a_host_that_ends_while_it_waits_leaves_the_others_legs_alone() -> None:
    one = waiting()
    assert one.close() == []
    assert_adds_up(one.snapshot(NOW))


def test_taking_over_asks_the_mirrors() -> None:
    one = waiting()
    one.replicated_legs.take_over(NOW)
    session = Session(one)
    assert due(session) == [("A", 4, 4, b"")]
    assert mirror_of(session)["legs_adopted"] == 1
    one.replicated_legs.withdraw("openflow", "10.10.0.11:40001")
    assert len(one.flow_ids()) == 1, "it is this host's now"


@pytest.mark.parametrize("who", ["client", "mirror"])
def test_so_does_a_packet_of_the_connection(fast: bool, who: str) -> None:
    one = engine(fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed(RECORD), NOW)
    session = Session(one)
    session.sent, session.answered = 10, 5
    if who == "client":
        session.from_client("PA", b"abc")
        assert due(session) == [("A", 4, 4, b"")]
    else:
        answer(session, 11)
        assert due(session) == []
    assert mirror_of(session)["legs_adopted"] == 1
    assert ends(session) == []


def test_a_later_record_takes_the_place_of_the_one_before() -> None:
    one = waiting()
    leg = {**RECORD["legs"][0], "snd_una": seq.add(ISS, 31), "rcv_nxt": seq.add(MIRROR_ISS, 9)}  # type: ignore[index]
    one.replicated_legs.adopt(
        sealed({**RECORD, "client_nxt": seq.add(ISS, 41), "client_una": seq.add(ISS, 31), "legs": [leg]}), NOW
    )
    assert len(one.flow_ids()) == 1
    one.replicated_legs.take_over(NOW)
    session = Session(one)
    assert due(session) == [("A", 30, 9, b"")]
    assert mirror_of(session)["client_bytes"] == 10


def test_what_passed_before_a_later_record_counts_once(fast: bool) -> None:
    """The addresses have come, the other host's last word has not."""
    one = engine(fast=fast)
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed(RECORD), NOW)
    session = Session(one)
    session.sent, session.answered = 30, 5
    session.from_client("A")
    leg = {**RECORD["legs"][0], "snd_una": seq.add(ISS, 31)}  # type: ignore[index]
    one.replicated_legs.adopt(
        sealed({**RECORD, "client_nxt": seq.add(ISS, 31), "client_una": seq.add(ISS, 31), "legs": [leg]}), NOW
    )
    one.replicated_legs.take_over(NOW)
    assert due(session) == [("A", 30, 4, b"")]
    answer(session, 31)
    mirror = mirror_of(session)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["pending_bytes"]) == (0, 0, 0)


def test_a_record_with_other_legs_or_of_a_newer_connection_does_too() -> None:
    one = waiting(iss=5)
    one.replicated_legs.adopt(sealed({**RECORD, "iss": 6}), NOW)
    one.replicated_legs.adopt(sealed({**RECORD, "iss": 6, "backend": "10.20.0.12:6653"}), NOW)
    assert [flow["backend"] for flow in one.flows(NOW)] == ["c2"]
    assert one.take_events() == []


def test_a_record_of_an_older_connection_or_another_backend_is_refused() -> None:
    one = engine()
    session = established(one)
    with pytest.raises(ValueError, match="has opened a new connection"):
        one.replicated_legs.adopt(sealed({**RECORD, "iss": 5}), NOW)
    assert session.backend is not None
    other = "10.20.0.11:6653" if session.backend == at("10.20.0.12", 6653) else "10.20.0.12:6653"
    with pytest.raises(ValueError, match="is served by"):
        one.replicated_legs.adopt(sealed({**RECORD, "backend": other}), NOW)


def test_legs_that_stand_are_left_alone() -> None:
    one = engine()
    session = established(one)
    assert session.backend is not None
    one.replicated_legs.adopt(sealed({**RECORD, "backend": show(session.backend)}), NOW)
    session.from_client("PA", b"abc")
    assert [data for *_, data in session.mirrored()] == [b"", b"", b"abc"]


def test_without_a_record_a_mirror_is_reset_but_not_by_a_host_that_waits() -> None:
    one = engine()
    one.replicated_legs.release()
    session = Session(one)
    assert session.from_mirror("A", 4, 11) == Drop(DropReason.MIRROR_WITHOUT_LEG)
    assert session.to_mirror == []
    one.replicated_legs.take_over(NOW)
    session.from_mirror("A", 4, 11)
    assert [flags for flags, *_ in session.mirrored()] == ["R"]


# The first host


def test_legs_that_are_handed_over_end_without_a_word(fast: bool) -> None:
    one = engine(fast=fast)
    session = established(one)
    session.from_client("PA", b"abc")
    session.mirrored()
    one.replicated_legs.release()
    assert ends(session) == ["released"]
    assert due(session, 300.0) == []
    session.from_client("PA", b"def")
    assert heard(session) == []
    assert mirror_of(session)["lost_bytes"] == {"released": 6}


def test_a_connection_that_comes_back_without_a_record_is_met_in_its_middle(fast: bool) -> None:
    one = engine(fast=fast)
    session = established(one)
    session.from_client("PA", b"abc")
    session.mirrored()
    one.replicated_legs.release()
    session.sent, session.answered = session.sent + 5000, session.answered + 5000
    one.replicated_legs.take_over(session.now)
    backend = session.backend_address
    assert session.from_client("PA", b"after").dst == backend
    session.from_backend("PA", b"answer")
    assert heard(session) == []
    snapshot = one.snapshot(session.now)
    assert snapshot["mirrors"][0]["lost_bytes"] == {"released": 3, "picked-up": 5}
    assert_adds_up(snapshot)
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    assert [flow["state"] for flow in one.flows(session.now)] == ["time-wait"], "its end is seen"


def test_there_and_back_again(fast: bool) -> None:
    """One connection at one host, at another, and at the first one again."""
    one, other = engine(fast=fast), engine(fast=fast)
    other.replicated_legs.release()
    session = established(one)
    session.from_client("PA", b"abc")
    session.from_backend("A")
    session.from_mirror("A", 1, 4)
    for first, then, text in ((one, other, b"defg"), (other, one, b"hij"), (one, other, b"kl")):
        for record in records(first, everything=True):
            then.replicated_legs.adopt(record, session.now)
        first.replicated_legs.release()
        then.replicated_legs.take_over(session.now)
        session.engine = then
        session.mirrored()
        assert due(session) == [("A", session.sent, 1, b"")]
        session.from_mirror("A", 1, 1 + session.sent)
        due(session)
        at_byte = 1 + session.sent
        session.from_client("PA", text)
        assert heard(session) == [("PA", at_byte, 1, text)]
        session.from_mirror("A", 1, 1 + session.sent)
        session.from_backend("A")
        assert mirror_of(session)["lost_bytes"] == {}
    assert [one.snapshot(session.now)["mirrors"][0]["acked_bytes"] for one in (one, other)] == [6, 6]


def test_a_record_of_a_leg_whose_backend_has_not_spoken_here_says_what_the_one_before_said() -> None:
    session = second()
    assert records(session.engine) == [], "the record of the first host holds"
    due(session)
    answer(session, 11)
    due(session)
    [record] = map(unsealed, records(session.engine))
    assert (record["client_una"], record["client_nxt"]) == (seq.add(ISS, 11), seq.add(ISS, 11))
    assert record["iss"] == ISS


# Which legs


def test_two_mirrors_may_stand_at_different_places(fast: bool) -> None:
    leg = RECORD["legs"][0]  # type: ignore[index]
    one = engine(TWO, fast=fast)
    far = {**leg, "mirror": "spare", "address": "10.20.0.14:6653", "snd_una": seq.add(ISS, 9)}
    one.replicated_legs.adopt(sealed({**RECORD, "client_una": seq.add(ISS, 5), "legs": [leg, far]}), NOW)
    session = Session(one)
    session.sent, session.answered = 10, 5
    assert sorted(due(session)) == [("A", 4, 4, b""), ("A", 8, 4, b"")]
    raw = packet(SPARE, CLIENT, "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 9))
    assert session.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    session.from_client("PA", b"456789xyz", at=4)
    assert due(session) == [("PA", 9, 4, b"89xyz")]
    answer(session, 5)
    assert due(session) == [("PA", 5, 4, b"456789xyz")]
    snapshot = one.snapshot(session.now)
    assert_adds_up(snapshot)
    assert [mirror["client_bytes"] for mirror in snapshot["mirrors"]] == [9, 9]
    session.from_client("PA", b"!", at=13)
    assert sorted(heard(session)) == [("PA", 14, 4, b"!")] * 2


def test_one_mirror_that_does_not_answer_costs_the_other_nothing_but_time(fast: bool) -> None:
    leg = RECORD["legs"][0]  # type: ignore[index]
    one = engine(TWO, fast=fast)
    one.replicated_legs.adopt(
        sealed({**RECORD, "legs": [leg, {**leg, "mirror": "spare", "address": "10.20.0.14:6653"}]}), NOW
    )
    session = Session(one)
    session.sent, session.answered = 10, 5
    session.from_client("PA", b"abc")
    due(session)
    answer(session, 11)
    for _ in range(10):
        sent = due(session, 5.0)
        if sent and sent[-1][3]:
            break
    assert (sent[-1], ends(session)) == (("PA", 11, 4, b"abc"), ["resume-timeout"])


@pytest.mark.parametrize(
    ("rules", "change", "reason"),
    [
        (RULES, {"local": "10.20.0.1:10240"}, "other-address"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), {}, "other-address"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), {"local": "10.20.0.1:80"}, "other-address"),
        (RULES, {"mirror": "another"}, "picked-up"),
        (RULES, {"address": "10.20.0.13:99"}, "picked-up"),
        (RULES.replace("10.20.0.13}", "10.20.0.11}"), {"address": "10.20.0.11:6653"}, "mirror-is-backend"),
        (RULES.replace("10.20.0.13}", "10.20.0.13, only: [10.10.0.99/32]}"), {}, "not-selected"),
    ],
)
def test_a_leg_that_cannot_go_on_here_leaves_the_connection_its_backend(
    rules: str, change: dict[str, Any], reason: str
) -> None:
    session = second(rules=rules, **change)
    assert due(session) == []
    assert session.from_client("PA", b"abc").dst == at("10.20.0.11", 6653)[0]
    assert mirror_of(session)["lost_bytes"] == {reason: 3}


def test_a_leg_with_an_address_of_ours_goes_on_from_there(fast: bool) -> None:
    session = second(
        fast=fast, rules=RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), local="10.20.0.1:10240"
    )
    due(session)
    raw = packet(MASTER, at("10.20.0.1", 10240), "A", seq.add(MIRROR_ISS, 4), seq.add(ISS, 11))
    assert session.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    session.from_client("PA", b"abc")
    due(session)
    assert session.engine.flows(session.now)[0]["legs"][0]["sent_bytes"] == 3


def test_clients_of_another_thread_are_refused() -> None:
    one = engine(shard=Shard(0, 2))
    with pytest.raises(ValueError, match="another thread's"):
        one.replicated_legs.adopt(sealed(RECORD), NOW)


def test_a_full_table_is_counted() -> None:
    one = engine(max_flows=1)
    established(one)
    one.replicated_legs.adopt(sealed({**RECORD, "client": "10.10.0.12:40001"}), NOW)
    assert one.snapshot(NOW)["counters"][EngineCounter.FLOWS_UNTRACKED] == 1


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
    assert len(due(Session(one))) == 1


@pytest.mark.parametrize("last", [11, 12])
def test_a_connection_that_was_met_before_its_record_came_goes_on_with_it(fast: bool, last: int) -> None:
    one = engine(fast=fast)
    session = Session(one)
    session.backend = at("10.20.0.11", 6653)
    session.sent, session.answered = 10, 5
    session.from_client("PA", b"abc")
    assert one.snapshot(NOW)["counters"][EngineCounter.FLOWS_PICKED_UP] == 1
    one.replicated_legs.adopt(sealed({**RECORD, "backend": f"10.20.0.{last}:6653"}), NOW)
    assert due(session) == [("A", 4, 4, b"")]
    answer(session, 14)  # the first host has passed them on as well
    assert due(session) == []
    session.backend = at(f"10.20.0.{last}", 6653)
    session.from_client("PA", b"def")
    assert heard(session) == [("PA", 14, 4, b"def")]
    mirror = mirror_of(session)
    assert (mirror["lost_bytes"], mirror["pending_bytes"]) == ({"picked-up": 3}, 3)
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
    session = second(fast=fast, rules=BOTH)
    session.engine.directory.restore(known, NOW)
    due(session)
    answer(session, 11)
    due(session)
    session.from_client("PA", packet_in(1))
    sent = {(one.dst, told(one.raw)[0]) for one in session.to_mirror}
    assert sent == {(MASTER[0], "PA"), (SPARE[0], "S")}
    assert heard(session)[0][3] == packet_in(1)


@pytest.mark.parametrize("elsewhere", [0, 5000])
def test_a_session_of_a_connection_that_comes_back_begins_anew_with_what_is_known(fast: bool, elsewhere: int) -> None:
    one = engine(AGAIN, fast=fast)
    session, master = introduced(one)
    one.replicated_legs.release()
    assert master.ended == "", "the other host calls the master anew"
    assert one.directory.living() == []
    session.sent, session.answered = session.sent + elsewhere, session.answered + elsewhere
    one.replicated_legs.take_over(session.now)
    session.from_client("PA", packet_in(1))
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 78))
    assert [(kind, xid) for kind, xid, _ in master.messages()][:2] == [(Type.HELLO, 1), (Type.FEATURES_REPLY, 78)]
    assert len(one.directory.living()) == 1
    session.from_client("FA")
    session.from_backend("FA")
    assert one.directory.clients(session.now) == [], "its end is known"


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


def opened_at(session: Session) -> int:
    """The number of the leg's first byte on the wire, once it stands."""
    session.connect()
    session.engine.read_sessions(session.now)
    [iss] = [number for letters, number, _, _ in session.mirrored() if letters == "S"]
    raw = packet(MASTER, session.client, "SA", MIRROR_ISS, seq.add(iss, 1))
    assert session.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    session.mirrored()
    return seq.add(iss, 1)


def moved(session: Session, then: Engine, told_of: list[dict[str, Any]]) -> None:
    """The connection goes on at another host, which knows these records."""
    then.replicated_legs.release()
    for record in told_of:
        then.replicated_legs.adopt(record, session.now)
    session.engine.replicated_legs.release()
    then.replicated_legs.take_over(session.now)
    session.engine = then


def from_mirror(session: Session, at_number: int, ack: int, data: bytes = b"") -> None:
    """The mirror sends, by the numbers on the wire."""
    session.take(packet(MASTER, session.client, "A", at_number, ack, data), Hook.PREROUTING)


def timers(session: Session) -> list[tuple[str, int, int, bytes]]:
    """What is due, by the numbers on the wire."""
    sends = session.engine.handle_timer(session.now)
    return [told(one) for send in sends if isinstance(send, Send) for one in finish(send.packet, send.segment_len)]


@pytest.mark.parametrize("key", ["", "  key: a secret of both hosts\n"])
def test_the_other_host_goes_on_with_the_legs_own_numbers(fast: bool, key: str) -> None:
    one, other = (host(secret, SHARED + key, fast=fast) for secret in (KEY, bytes(16)))
    session = Session(one)
    first = opened_at(session)
    session.from_client("PA", b"hello")
    session.from_backend("A")
    from_mirror(session, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
    moved(session, other, records(one))
    assert timers(session) == [("A", seq.add(first, 4), seq.add(MIRROR_ISS, 1), b"")]
    from_mirror(session, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
    assert timers(session) == []
    session.mirrored()
    for count in range(4):
        session.from_client("PA", b"again")
        session.from_backend("A")
        assert session.mirrored() == [("PA", seq.add(first, 5 + 5 * count), seq.add(MIRROR_ISS, 1), b"again")]
        from_mirror(session, seq.add(MIRROR_ISS, 1), seq.add(first, 10 + 5 * count))
    assert mirror_of(session)["lost_bytes"] == {}


def test_a_record_holds_no_number_of_the_clients_the_legs_or_the_mirrors() -> None:
    session = Session(host(KEY))
    first = opened_at(session)
    session.from_client("PA", b"hello")
    session.from_backend("A")
    from_mirror(session, seq.add(MIRROR_ISS, 1), first, b"answer")
    [record] = records(session.engine)
    numbers = {value for leg in record["legs"] for value in leg.values()} | {
        value for name, value in record.items() if name != "legs"
    }
    offset = seq.add(first, -ISS - 1)
    near = {seq.add(start, by) for start in (ISS, first, MIRROR_ISS, offset) for by in range(-8, 9)}
    assert not numbers & (near | {seq.add(0, -offset)})


def test_the_same_record_has_the_same_nonce_and_each_other_one_another() -> None:
    session = Session(host(KEY))
    opened_at(session)
    told_of = [records(session.engine, everything=True)[0] for _ in range(2)]
    assert told_of[0] == told_of[1]
    session.from_client("PA", b"hello")
    told_of += records(session.engine, everything=True)
    session.from_client("R")
    later = Session(session.engine, iss=77)
    opened_at(later)
    told_of += records(session.engine, everything=True)
    other = Session(session.engine, client=at("10.10.0.12", 40001))
    opened_at(other)
    told_of += records(session.engine)
    assert len({record["nonce"] for record in told_of}) == 4
    assert len({record["iss"] for record in told_of}) == 4


def test_a_host_with_another_key_ends_the_legs_by_name_and_shows_the_mirror_nothing(fast: bool) -> None:
    """Whatever its key makes of the numbers: of 64 keys some make numbers that look right."""
    for number in range(64):
        one = host(KEY, SHARED + "  key: the secret of one\n", fast=fast)
        other = host(KEY, SHARED + f"  key: the other's secret {number}\n", fast=fast)
        session = Session(one)
        first = opened_at(session)
        then = records(one)
        with pytest.raises(ValueError, match=r"another ha\.key"):
            other.replicated_legs.adopt(then[0], session.now)
        moved(session, other, [])
        assert timers(session) == []
        assert session.from_client("PA", b"hello").dst == session.backend_address
        from_mirror(session, seq.add(MIRROR_ISS, 1), first)
        assert session.mirrored() == [("R", first, 0, b"")], "the mirror is told"
        assert mirror_of(session)["lost_bytes"] == {"no-record": 5}


def test_a_leg_that_is_younger_than_all_records_ends_as_one_without(fast: bool) -> None:
    one, other = host(KEY, fast=fast), host(bytes(16), fast=fast)
    session = Session(one)
    first = opened_at(session)
    moved(session, other, [])
    session.from_client("PA", b"hello")
    session.from_backend("A")
    from_mirror(session, seq.add(MIRROR_ISS, 1), first)
    assert session.mirrored() == [("R", first, 0, b"")], "the mirror is told"
    session.from_client("PA", b"again")
    assert mirror_of(session)["lost_bytes"] == {"no-record": 10}


@pytest.mark.parametrize("iss", [77, ISS - (1 << 24), ISS + (1 << 28), ISS + (1 << 31)])
def test_so_does_one_whose_record_is_of_an_older_leg_of_the_same_ports(fast: bool, iss: int) -> None:
    one, other = host(KEY, fast=fast), host(bytes(16), fast=fast)
    session = Session(one)
    opened_at(session)
    session.from_client("PA", b"older")
    [record] = records(one)
    session.from_client("R")
    later = Session(one, iss=iss & 0xFFFF_FFFF)
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
        session = second(fast=fast)
        due(session)
        answer(session, ack, at_number)
        assert ends(session) == []
        due(session, 1.0)
        answer(session, ack, at_number)
        assert ends(session) == ["no-record"]


def test_a_host_alone_calls_it_mid_connection(fast: bool) -> None:
    session = Session(host(KEY, RULES, fast=fast))
    session.backend = at("10.20.0.11", 6653)
    session.from_client("PA", b"hello")
    assert mirror_of(session)["lost_bytes"] == {"picked-up": 5}
