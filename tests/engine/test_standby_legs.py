"""A standby host: it adopts records and sends nothing until it takes over."""

from typing import Any

import pytest

from natmirror.actions import Drop
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.endpoint import show
from natmirror.reasons import DropReason
from tests.helpers.client_connection import ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.leg_records import NOW, RECORD, answer, due, end_reasons, established, mirror_of, sealed
from tests.helpers.support import assert_adds_up, at


def standby(**change: Any) -> Engine:
    """Return a standby host that has adopted a record."""
    one = engine()
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed({**RECORD, **change}), NOW)
    return one


def test_a_standby_sends_nothing_and_counts_nothing() -> None:
    one = standby()
    assert one.handle_timer(NOW + 60) == []
    snapshot = one.snapshot(NOW)
    assert_adds_up(snapshot)
    mirror = snapshot["mirrors"][0]
    assert (mirror["client_bytes"], mirror["legs_adopted"], mirror["legs"]) == (0, 0, 1)
    one.replicated_legs.withdraw("openflow", "10.10.0.11:40001")
    assert (one.flow_ids(), one.take_events(), one.next_timer()) == ([], [], None)
    mirror = one.snapshot(NOW)["mirrors"][0]
    assert (mirror["legs"], mirror["legs_ended"], mirror["lost_bytes"]) == (0, {}, {})


def test_a_standby_that_stops_leaves_the_other_hosts_legs_alone() -> None:
    one = standby()
    assert one.close() == []
    assert_adds_up(one.snapshot(NOW))


def test_taking_over_asks_the_mirrors() -> None:
    one = standby()
    one.replicated_legs.take_over(NOW)
    connection = ClientConnection(one)
    assert due(connection) == [("A", 4, 4, b"")]
    assert mirror_of(connection)["legs_adopted"] == 1
    one.replicated_legs.withdraw("openflow", "10.10.0.11:40001")
    assert len(one.flow_ids()) == 1, "the connection is this host's own"


@pytest.mark.parametrize("who", ["client", "mirror"])
def test_a_packet_of_the_connection_activates_it(fast: bool, who: str) -> None:
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
    assert mirror_of(connection)["legs_adopted"] == 1
    assert end_reasons(connection) == []


def test_a_later_record_replaces_the_one_before() -> None:
    one = standby()
    leg = {**RECORD["legs"][0], "snd_una": seq.add(ISS, 31), "rcv_nxt": seq.add(MIRROR_ISS, 9)}  # type: ignore[index]
    one.replicated_legs.adopt(
        sealed({**RECORD, "client_nxt": seq.add(ISS, 41), "client_una": seq.add(ISS, 31), "legs": [leg]}), NOW
    )
    assert len(one.flow_ids()) == 1
    one.replicated_legs.take_over(NOW)
    connection = ClientConnection(one)
    assert due(connection) == [("A", 30, 9, b"")]
    assert mirror_of(connection)["client_bytes"] == 10


def test_bytes_that_passed_before_a_later_record_count_once(fast: bool) -> None:
    """The packets arrive here before the other host's last record."""
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


def test_a_record_of_a_newer_connection_replaces_the_one_before() -> None:
    one = standby(iss=5)
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


def test_a_record_does_not_touch_living_legs() -> None:
    one = engine()
    connection = established(one)
    assert connection.backend is not None
    one.replicated_legs.adopt(sealed({**RECORD, "backend": show(connection.backend)}), NOW)
    connection.from_client("PA", b"abc")
    assert [data for *_, data in connection.mirrored()] == [b"", b"", b"abc"]


def test_without_a_record_the_active_host_resets_a_mirror_and_a_standby_does_not() -> None:
    one = engine()
    one.replicated_legs.release()
    connection = ClientConnection(one)
    assert connection.from_mirror("A", 4, 11) == Drop(DropReason.MIRROR_WITHOUT_LEG)
    assert connection.to_mirror == []
    one.replicated_legs.take_over(NOW)
    connection.from_mirror("A", 4, 11)
    assert [flags for flags, *_ in connection.mirrored()] == ["R"]
