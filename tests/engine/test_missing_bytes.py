"""Bytes that pass one host, while their acknowledgement passes the other one, which takes over."""

from typing import Any

import pytest

from natmirror.net import seq
from natmirror.rules import Release
from tests.helpers.client_connection import ISS, ClientConnection, engine
from tests.helpers.leg_records import answer, due, end_reasons, mirror_of, records, sent_to_mirror, unsealed


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


def test_another_connection_of_the_same_ports_gets_nothing(fast: bool, connection: ClientConnection) -> None:
    connection.from_client("PA", b"abc")
    second = taken_over(connection, fast)
    second.from_backend("A")
    later = ClientConnection(engine(fast=fast, release=Release.ACKNOWLEDGED), iss=77, irs=5000)
    later.establish()
    later.from_client("PA", b"abc")
    assert deliver(later, records(second.engine)) == []
