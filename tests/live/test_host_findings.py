"""Faults of the host, planted one at a time beside traffic: each is a finding, with its remedy, and ends with the
fault; natmirror repairs those of its own; and production loses no more than the fault itself costs. How soon each is
seen, ``python -m tests.live.faults`` measures."""

import pytest

from tests.live.faults import FAULTS
from tests.live.faults.stage import Stage, table
from tests.live.scene import Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]


@pytest.mark.parametrize("group", FAULTS)
def test_each_fault_of_the_host_is_seen_and_gone_with_it(scene: Scene, group: str) -> None:
    iptables, faults = FAULTS[group]
    stage = Stage(scene, iptables, faults)
    for fault in faults:
        stage.play(fault)
    outcomes = stage.end()
    print(table(outcomes))
    assert {one.fault.name: wrong for one in outcomes if (wrong := one.mistakes())} == {}
