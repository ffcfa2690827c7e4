"""The model of a switch's flow tables beside Open vSwitch, for a few hundred random orders in each version."""

import pytest

from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.topology import Lab
from natmirror.openflow.messages import VERSIONS
from tests.live.truth.comparison import Comparison

pytestmark = [pytest.mark.live, pytest.mark.beside]

ORDERS = 400


@pytest.fixture(scope="module")
def switch(lab: Lab) -> OpenVSwitch:
    return OpenVSwitch(lab, 1, protocols=",".join(f"OpenFlow{one.replace('.', '')}" for one in VERSIONS.values()))


@pytest.mark.parametrize("version", VERSIONS, ids=VERSIONS.values())
def test_the_model_has_the_switchs_rules_after_any_orders(switch: OpenVSwitch, version: int) -> None:
    figures = Comparison(switch.directory / "br0.mgmt", version, 1, switch.appctl).run(ORDERS)
    assert figures.differences == []
    assert figures.rules > 1000
    assert figures.refused > 20
    assert figures.removed > 10
    assert figures.frames > 5
