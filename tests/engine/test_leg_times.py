"""The histograms of a mirror's lag and round trips are the same in both gears."""

from typing import Any

from tests.helpers.client_connection import ClientConnection, engine


def times(*, fast: bool) -> tuple[Any, Any]:
    session = ClientConnection(engine(fast=fast))
    session.connect()
    session.connect_mirror()
    acked = 1
    for pause in (0.0001, 0.003, 0.04, 3.0):
        session.from_client("PA", b"x" * 100)
        session.now += pause
        acked += 100
        session.from_mirror("A", 1, acked)
    [mirror] = session.engine.snapshot(session.now)["mirrors"]
    return mirror["leg_lag"], mirror["leg_rtt"]


def test_both_gears_note_the_same_times() -> None:
    lag, _ = times(fast=True)
    assert times(fast=True) == times(fast=False)
    assert [lag["at_most"][limit] for limit in ("0.0002", "0.005", "0.05", "2", "5", "+Inf")] == [1, 2, 3, 3, 4, 4]
