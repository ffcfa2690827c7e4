"""The addresses of ``metrics`` and ``api``: each needs a port that nothing else has there."""

import pytest

from natmirror.errors import RulesError
from natmirror.rules import parse_rules
from tests.helpers.support import RULES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metrics: 10.20.0.1:9653\napi: 10.20.0.1:9653\n", "api: .* found 10.20.0.1:9653 of metrics"),
        ("metrics: 0.0.0.0:9653\napi: 10.20.0.1:9653\n", "api: .* found 10.20.0.1:9653 of metrics"),
        ("metrics: 10.20.0.1:9653\napi: 0.0.0.0:9653\n", "api: .* found 0.0.0.0:9653 of metrics"),
        ("metrics: 0.0.0.0:6653\n", "metrics: .* found 0.0.0.0:6653 of the service openflow"),
        ("api: 10.10.0.100:6653\n", "api: .* found 10.10.0.100:6653 of the service openflow"),
    ],
)
def test_a_port_that_something_else_has_is_refused(text: str, message: str) -> None:
    with pytest.raises(RulesError, match=message):
        parse_rules(text + RULES)


def test_ports_and_addresses_of_their_own_are_taken() -> None:
    found = parse_rules("metrics: 0.0.0.0:9653\napi: 10.20.0.1:6653\n" + RULES)
    assert (str(found.metrics), str(found.api)) == ("0.0.0.0:9653", "10.20.0.1:6653")
