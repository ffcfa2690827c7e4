"""The connections whose bytes do not reach a mirror now, as the status counts them."""

from typing import Any

import pytest

from natmirror.fastpath import CLAIM_ALL
from natmirror.rules import parse_rules
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.leg_records import adopted_connection
from tests.helpers.support import CLIENT, RULES, assert_adds_up

WITHOUT_MIRRORS = RULES[: RULES.index("    mirrors:")]
SELECTIVE = RULES.replace("10.20.0.13}", "10.20.0.13, only: [10.10.0.128/25]}")


def counts(connection: ClientConnection) -> tuple[dict[str, int], dict[str, int]]:
    """Return the connections that are not copied to the master, and those that the rules leave out for it."""
    snapshot: Any = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    [mirror] = [one for one in snapshot["mirrors"] if one["name"] == "master"]
    return mirror["connections_not_copied"], mirror["connections_excluded"]


def test_a_connection_counts_from_the_end_of_its_copy_to_its_own_end(connection: ClientConnection) -> None:
    connection.establish()
    assert counts(connection) == ({}, {})
    connection.from_mirror("RA", 1, 1)
    assert counts(connection) == ({"mirror-reset": 1}, {})
    other = ClientConnection(connection.engine, client=(CLIENT[0], 2))
    other.connect()
    assert counts(connection) == ({"mirror-reset": 1}, {}), "the other one is copied"
    connection.from_client("RA")
    assert counts(connection) == ({}, {})


def test_a_copy_that_the_mirror_has_in_full_does_not_count(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("FA")
    connection.from_mirror("FA", 1, 2)
    connection.mirrored()
    assert connection.states == ["half-closed"]
    assert counts(connection) == ({}, {})


def test_a_connection_from_before_the_start_counts_once_it_is_certain(connection: ClientConnection, fast: bool) -> None:
    connection.syn()
    fresh = ClientConnection(engine(fast=fast))
    fresh.backend = connection.backend
    fresh.from_client("PA", b"on")
    assert counts(fresh) == ({}, {}), "anyone may have sent that"
    fresh.from_backend("PA", b"yes")
    fresh.from_client("A")
    assert counts(fresh) == ({"picked-up": 1}, {})


def test_connections_that_the_rules_leave_out_are_counted_apart(fast: bool) -> None:
    connection = ClientConnection(engine(SELECTIVE, fast=fast))
    connection.connect()
    assert counts(connection) == ({}, {"not-selected": 1})


@pytest.mark.parametrize("before", [WITHOUT_MIRRORS, RULES.replace("name: master", "name: older")])
def test_a_mirror_that_a_reload_adds_gets_no_older_connections(fast: bool, before: str) -> None:
    connection = ClientConnection(engine(before, fast=fast))
    connection.connect()
    connection.engine.reload(parse_rules(RULES))
    assert counts(connection) == ({"mirror-added": 1}, {})
    later = ClientConnection(connection.engine, client=(CLIENT[0], 2))
    later.connect()
    assert counts(connection) == ({"mirror-added": 1}, {})


def test_what_a_standby_host_does_not_copy_counts_once_it_passes_the_packets(fast: bool) -> None:
    two = RULES.replace("10.20.0.13}", "10.20.0.13}\n      - {name: spare, address: 10.20.0.14}")
    connection = adopted_connection(fast=fast, rules=two, is_standby=True)

    def spare() -> dict[str, int]:
        snapshot: Any = connection.engine.snapshot(connection.now)
        assert_adds_up(snapshot)
        not_copied: dict[str, int] = snapshot["mirrors"][1]["connections_not_copied"]
        return not_copied

    assert spare() == {}
    connection.engine.replicated_legs.take_over(connection.now)
    connection.engine.bindings.sweep(0, 100, CLAIM_ALL, connection.now)
    assert spare() == {"picked-up": 1}
