"""The verdict about masters beside a learning switch in production: an equal one, and two with planted bugs.

``make verdict`` runs all variants, and longer.
"""

import pytest

from natmirror.lab.topology import Lab, leftovers
from tests.live.verdict.measure import measure, mistakes
from tests.live.verdict.stage import Stage

pytestmark = [pytest.mark.live, pytest.mark.beside]

ANSWERS = 100


@pytest.mark.parametrize("version", ["1.0", "1.3"])
def test_an_equal_master_agrees_and_bugs_are_named(version: str) -> None:
    with Lab(switches=2) as lab, Stage(lab, version, ["shuffled", "noarp", "rewrite"], rate=10.0) as stage:
        outcomes, truth = measure(stage, ANSWERS, 60.0)
    assert leftovers() == []
    assert mistakes(outcomes, ANSWERS) == []
    assert truth.equal >= truth.count - 1, truth.different
