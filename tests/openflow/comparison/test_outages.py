"""A master that goes away and comes back: what it could not have known meanwhile is no difference, what it never orders
afterwards is one. And connections whose beginning was not seen: production may have more than is known of it."""

import pytest

from natmirror.openflow.bodies.elements import ALL_TABLES
from natmirror.openflow.bodies.values import FlowCommand
from tests.helpers.comparison import MIRROR, PRODUCTION, TABLE_MISS, Recorder, Scene, to_host
from tests.helpers.flow_tables import flow_mod

DELETE_ALL = flow_mod(FlowCommand.DELETE, table=ALL_TABLES)


def differing(found: Recorder) -> tuple[float, int]:
    """For how long the tables differed, and how many rules do at last."""
    return sum(one.differing_seconds for one in found.tables), found.tables[-1].differing_count


@pytest.fixture
def away() -> Scene:
    """A master that has crashed, with the tables of production."""
    one = Scene()
    one.both(TABLE_MISS, to_host(2, 2))
    one.wait(20.0)
    one.judge.ended(MIRROR, "reset", one.now, is_fault=True)
    return one


def test_an_outage_counts_as_an_end_of_the_session_alone(away: Scene) -> None:
    away.orders(PRODUCTION, to_host(3, 3), to_host(2, 4), flow_mod(FlowCommand.DELETE, match=to_host(5, 5).match))
    before = sum(one.seconds for one in away.recorder.tables)
    away.wait(60.0)
    assert sum(one.seconds for one in away.recorder.tables) == pytest.approx(before)
    away.join()
    away.wait(60.0)
    assert differing(away.recorder) == (0.0, 0)
    assert away.recorder.orders == []
    assert len(away.recorder.ends) == 1


def test_what_production_has_deleted_meanwhile_is_no_rule_more(away: Scene) -> None:
    away.orders(PRODUCTION, DELETE_ALL, TABLE_MISS)
    away.wait(60.0)
    away.join()
    away.wait(60.0)
    assert differing(away.recorder) == (0.0, 0)


def test_a_rule_of_the_programme_that_does_not_come_again_is_missing(away: Scene) -> None:
    away.wait(5.0)
    away.join()
    away.orders(MIRROR, DELETE_ALL, to_host(2, 2))
    away.wait(30.0)
    seconds, count = differing(away.recorder)
    assert count == 1
    assert seconds > 20.0
    assert away.recorder.tables[-1].differing == ("production: priority=0 actions=CONTROLLER:65535",)


def test_a_rule_that_the_master_does_not_make_afterwards_is_missing(away: Scene) -> None:
    away.orders(PRODUCTION, to_host(3, 3))
    away.wait(5.0)
    away.join()
    away.orders(MIRROR, TABLE_MISS)
    away.wait(30.0)
    assert differing(away.recorder)[1] == 0
    away.orders(PRODUCTION, to_host(4, 4))
    away.wait(30.0)
    assert differing(away.recorder)[1] == 1
    assert away.recorder.texts == ["a rule is missing: add priority=10,dl_dst=00:00:00:00:00:04 actions=output:4"]


def test_the_warm_up_begins_again_with_the_session(away: Scene) -> None:
    away.wait(5.0)
    away.join(warm_up=20.0)
    away.wait(1.0)
    away.orders(PRODUCTION, to_host(3, 3))
    away.wait(15.0)
    assert differing(away.recorder) == (0.0, 0)
    away.wait(30.0)
    assert differing(away.recorder)[1] == 1


@pytest.mark.parametrize("is_picked_up", [False, True])
def test_a_rule_that_production_may_have_made_before_is_no_rule_more(is_picked_up: bool) -> None:
    one = Scene(is_picked_up=is_picked_up)
    one.orders(MIRROR, TABLE_MISS)
    one.wait(30.0)
    assert differing(one.recorder)[1] == (0 if is_picked_up else 1)
    one.orders(PRODUCTION, DELETE_ALL)  # now all rules of production are known
    one.wait(30.0)
    assert differing(one.recorder)[1] == 1
    one.close()
