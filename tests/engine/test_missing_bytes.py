"""Bytes that pass one host, while their acknowledgement passes the other one, which takes over."""

from typing import Any

import pytest

from natmirror.fastpath.flow_flags import SKIPPED, UNSEEN
from natmirror.net import seq
from natmirror.rules import Release
from tests.helpers.client_connection import ISS, ClientConnection, engine
from tests.helpers.leg_records import answer, due, end_reasons, mirror_of, records, sealed, sent_to_mirror, unsealed


@pytest.fixture
def connection(fast: bool) -> ClientConnection:
    """A connection through the first host, which has copied ten bytes."""
    connection = ClientConnection(engine(fast=fast, release=Release.ACKNOWLEDGED))
    connection.establish()
    connection.from_client("PA", b"0123456789")
    connection.from_backend("A")
    connection.from_mirror("A", 1, 11)
    sent_to_mirror(connection)
    return connection


def taken_over(connection: ClientConnection, fast: bool) -> ClientConnection:
    """Return the connection at the second host, whose mirror has answered."""
    second = ClientConnection(engine(fast=fast, release=Release.ACKNOWLEDGED))
    second.backend, second.sent, second.answered = connection.backend, connection.sent, connection.answered
    second.engine.replicated_legs.release()
    for record in records(connection.engine):
        second.engine.replicated_legs.adopt(record, second.now)
    second.engine.replicated_legs.take_over(second.now)
    assert due(second) == [("A", 10, 1, b"")]
    answer(second, 11, at=1)
    return second


def missing_to(connection: ClientConnection) -> list[int | None]:
    """Return what the host's records report as missing; numbers count from the initial one."""
    ends = [unsealed(record)["missing_to"] for record in records(connection.engine, everything=True)]
    return [None if end is None else seq.diff(end, ISS) for end in ends]


def deliver(connection: ClientConnection, told: list[dict[str, Any]]) -> list[tuple[str, int, int, bytes]]:
    """Give the first host the second one's records; return what it sends to the mirror."""
    for record in told:
        connection.engine.replicated_legs.deliver_missing(record, connection.now)
    return due(connection)


def test_the_first_host_delivers_the_bytes_that_the_second_one_lacks(connection: ClientConnection, fast: bool) -> None:
    connection.from_client("PA", b"abc")
    second = taken_over(connection, fast)
    second.from_backend("A")  # of the bytes that passed the first host
    assert due(second) == []
    told = second.engine.replicated_legs.lacking_records()
    assert second.engine.replicated_legs.lacking_records() == []
    assert [unsealed(record)["missing_to"] for record in told] == [seq.add(ISS, 14)]
    assert sent_to_mirror(connection) == []
    assert deliver(connection, told) == [("PA", 11, 1, b"abc")]
    second.from_mirror("A", 1, 14)
    second.from_client("PA", b"def")
    second.from_backend("A")
    assert due(second, 1.0) == [("A", 13, 1, b"")]
    answer(second, 14, at=1)
    assert due(second) == [("PA", 14, 1, b"def")]
    second.from_mirror("A", 1, 17)
    assert (mirror_of(second)["lost_bytes"], end_reasons(second)) == ({}, [])
    assert [unsealed(record)["missing_to"] for record in records(second.engine)] == [None]


def test_bytes_of_which_the_second_host_has_a_version_are_its_own(connection: ClientConnection, fast: bool) -> None:
    connection.from_client("PA", b"abc")
    connection.from_client("PA", b"XYZ")
    second = taken_over(connection, fast)
    second.from_client("PA", b"def", at=13)
    second.from_backend("A")
    assert deliver(connection, records(second.engine)) == [("PA", 11, 1, b"abc")]


def test_bytes_without_an_acknowledgement_are_not_delivered(connection: ClientConnection, fast: bool) -> None:
    second = taken_over(connection, fast)
    connection.from_client("PA", b"abc")
    second.from_client("PA", b"d", at=13)
    assert deliver(connection, records(second.engine)) == []


def test_a_mirror_whose_position_the_second_host_does_not_know_gets_nothing(
    connection: ClientConnection, fast: bool
) -> None:
    connection.from_client("PA", b"abc")
    second = taken_over(connection, fast)
    second.from_backend("A")
    [record] = map(unsealed, records(second.engine))
    [leg] = record["legs"]
    assert deliver(connection, [sealed({**record, "legs": [{**leg, "mirror": "other"}]})]) == []
    assert deliver(connection, [sealed(record)]) == [("PA", 11, 1, b"abc")]


def test_another_connection_of_the_same_ports_gets_nothing(fast: bool, connection: ClientConnection) -> None:
    connection.from_client("PA", b"abc")
    second = taken_over(connection, fast)
    second.from_backend("A")
    later = ClientConnection(engine(fast=fast, release=Release.ACKNOWLEDGED), iss=77, irs=5000)
    later.establish()
    later.from_client("PA", b"abc")
    assert deliver(later, records(second.engine)) == []


def test_bytes_before_those_that_the_second_host_lacks_are_at_the_mirror_first(
    connection: ClientConnection, fast: bool
) -> None:
    """The first host delivers its own version of them too."""
    connection.from_client("PA", b"abc")
    connection.from_client("PA", b"def")
    second = taken_over(connection, fast)
    second.from_client("PA", b"XYZ", at=10)  # the version that the backend takes
    second.from_backend("A")
    assert due(second) == [("PA", 11, 1, b"XYZ")]
    assert missing_to(second) == [None]
    assert deliver(connection, second.engine.replicated_legs.lacking_records()) == []
    second.from_mirror("A", 1, 14)
    assert missing_to(second) == [17]
    assert deliver(connection, records(second.engine, everything=True)) == [("PA", 11, 1, b"abcdef")]


@pytest.mark.parametrize("flag", [SKIPPED, UNSEEN])
def test_a_version_that_passed_without_mirroring_is_the_second_hosts_own(
    connection: ClientConnection, fast: bool, flag: int
) -> None:
    connection.from_client("PA", b"abc")
    second = taken_over(connection, fast)
    second.from_backend("A")
    due(second)
    [number] = second.engine.replicated_legs.ids()
    row = second.engine._gear.flows.row(number)
    assert row is not None
    assert missing_to(second) == [14]
    row.flags |= flag  # test_turns.py and test_strange_paths.py have the packets that set it
    assert missing_to(second) == [None]
    assert deliver(connection, records(second.engine, everything=True)) == []


def test_a_version_with_far_numbers_on_a_flow_that_the_second_host_hardly_knows_is_its_own(
    connection: ClientConnection, fast: bool
) -> None:
    """It is not copied, because it may be anyone's. The record is far behind the connection."""
    second = taken_over(connection, fast)
    second.answered += 1_100_000
    second.from_client("PA", b"XYZ", at=65_000)
    second.from_backend("PA", b"reply")
    second.from_client("PA", b"d", at=65_003)
    second.sent = 65_004
    second.from_backend("A")
    due(second)
    assert missing_to(second) == [None]


@pytest.mark.parametrize(("own", "missing"), [(b"abc", None), (b"", 14)])
def test_a_version_that_passed_before_the_connection_was_adopted_is_this_hosts_own(
    connection: ClientConnection, fast: bool, own: bytes, missing: int | None
) -> None:
    if own:
        connection.from_client("PA", own)
    second = taken_over(connection, fast)
    second.from_client("PA", b"XYZ", at=10)
    connection.engine.replicated_legs.release()
    for record in records(second.engine):
        connection.engine.replicated_legs.adopt(record, connection.now)
    connection.engine.replicated_legs.take_over(connection.now)
    assert due(connection) == [("A", 10, 1, b"")]
    answer(connection, 11, at=1)
    connection.sent = 13
    connection.from_backend("A")
    due(connection)
    assert missing_to(connection) == [missing]
