"""Legs that another host goes on with: what it is told of them, and what it makes of that."""

import json
from typing import Any

import pytest

from natmirror import seq, takeover
from natmirror.engine import Engine
from natmirror.packet import show
from tests.session import ISS, MIRROR_ISS, Session, engine
from tests.support import at

NOW = 1000.0


def established(one: Engine) -> Session:
    """A connection with a leg that stands."""
    session = Session(one)
    session.connect()
    session.connect_mirror()
    return session


def records(one: Engine, **options: bool) -> list[dict[str, Any]]:
    """What an engine tells, as it comes out of JSON at the other end."""
    told: list[dict[str, Any]] = json.loads(json.dumps(one.leg_records(one.mirrored_ids(), **options)))
    return told


@pytest.mark.parametrize("fast", [True, False])
def test_a_record_tells_where_client_backend_and_mirror_stand(fast: bool) -> None:
    one = engine(fast=fast)
    session = established(one)
    session.from_client("PA", b"0123456789")
    session.from_backend("A")
    session.from_mirror("PA", 1, 5, b"abc")
    assert session.backend is not None
    assert records(one) == [
        {
            "format": 1,
            "service": "openflow",
            "client": "10.10.0.11:40001",
            "backend": show(session.backend),
            "iss": ISS,
            "client_nxt": seq.add(ISS, 11),
            "client_una": seq.add(ISS, 11),
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
                }
            ],
        }
    ]
    assert takeover.parse(records(one, everything=True)[0]).plain() == records(one, everything=True)[0]


def test_a_record_is_told_again_only_when_something_has_moved() -> None:
    one = engine()
    session = established(one)
    assert len(records(one)) == 1
    assert records(one) == []
    assert len(records(one, everything=True)) == 1
    session.from_client("PA", b"x")
    assert [record["client_nxt"] for record in records(one)] == [seq.add(ISS, 2)]
    session.from_mirror("A", 1, 2)
    assert [record["legs"][0]["snd_una"] for record in records(one)] == [seq.add(ISS, 2)]
    assert one.take_gone_records() == []


def test_a_leg_that_does_not_stand_yet_or_any_more_has_no_record() -> None:
    one = engine()
    session = Session(one)
    session.connect()
    assert records(one) == []
    session.connect_mirror()
    assert len(records(one)) == 1
    session.from_client("FA")
    assert (records(one), one.take_gone_records()) == ([], [("openflow", "10.10.0.11:40001")])
    assert one.take_gone_records() == []


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
    assert one.take_gone_records() == [("openflow", "10.10.0.11:40001")]
    assert one.take_gone_records() == []


def test_a_new_connection_of_the_same_ports_takes_the_place_of_the_old_record() -> None:
    one = engine()
    session = established(one)
    assert len(records(one)) == 1
    session.from_client("R")
    later = Session(one, iss=77)
    later.connect()
    later.connect_mirror()
    assert [record["iss"] for record in records(one)] == [77]
    assert one.take_gone_records() == []


RECORD = {
    "format": 1,
    "service": "openflow",
    "client": "10.10.0.11:40001",
    "backend": "10.20.0.11:6653",
    "iss": ISS,
    "client_nxt": seq.add(ISS, 11),
    "client_una": seq.add(ISS, 11),
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
        }
    ],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "a record of format 2, not 1"),
        ({"service": "elsewhere"}, "there is no service elsewhere"),
        ({"service": 5}, "service: expected a text, found 5"),
        ({"client": "10.10.0.11"}, "client: expected an address and a port"),
        ({"client": "10.10.0.11:0"}, "client: expected an address and a port"),
        ({"client": "10.10.0:11"}, "client: "),
        ({"client": "10.99.0.11:40001"}, "none of the clients"),
        ({"backend": "10.20.0.99:6653"}, "openflow has none at 10.20.0.99:6653"),
        ({"backend": None}, "the service openflow has other rules"),
        ({"iss": -1}, "iss: expected 0..4294967295, found -1"),
        ({"client_nxt": 1 << 32}, "client_nxt: expected"),
        ({"client_una": "1"}, "client_una: expected"),
        ({"legs": []}, "legs: expected"),
        ({"legs": [5]}, "legs: expected"),
        ({"legs": [{**RECORD["legs"][0], "scale": 15}]}, "scale: expected 0..14"),  # type: ignore[index]
        ({"legs": [{**RECORD["legs"][0], "our_scale": 8}]}, "our_scale: expected 7"),  # type: ignore[index]
        ({"legs": [{**RECORD["legs"][0], "local": None}]}, "local: expected"),  # type: ignore[index]
    ],
)
def test_nonsense_is_refused_and_changes_nothing(change: dict[str, Any], words: str) -> None:
    one = engine()
    before = one.snapshot(NOW)
    with pytest.raises(ValueError, match=words):
        one.adopt({**RECORD, **change}, NOW)
    assert one.snapshot(NOW) == before
    assert one.next_timer() is None


def test_what_is_no_record_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="a record is a mapping"):
        engine().adopt([], NOW)  # type: ignore[arg-type]


def test_an_adopted_connection_has_its_backend() -> None:
    for last in (11, 12):
        one = engine()
        one.adopt({**RECORD, "backend": f"10.20.0.{last}:6653"}, NOW)
        session = Session(one)
        session.answered, session.sent = 5, 10
        assert session.from_client("A").dst == at(f"10.20.0.{last}", 6653)[0]
