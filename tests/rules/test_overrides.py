"""Overrides as values: what they change in the rules, which of them fit other rules, and their form in a file."""

import json
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.api.values import MAX_WEIGHT as MAX_WEIGHT_OF_API
from natmirror.errors import RulesError
from natmirror.rules import Backend, Override, OverrideKind, Overrides, Rules, parse_rules
from natmirror.rules.added_backend import checked_backend
from natmirror.rules.overrides import read_override
from natmirror.rules.pool_keys import MAX_WEIGHT
from tests.helpers.overrides import override
from tests.helpers.support import RULES

BASE = parse_rules(RULES)
WITHOUT_C2 = RULES.replace("        - {name: c2, address: 10.20.0.12}\n", "")
C3 = Backend("c3", IPv4Address("10.20.0.15"), 6653, 2, 50)
ADD = Override(OverrideKind.ADD, "openflow", "c3", "10.20.0.15:6653", 5.0, backend=C3)
REMOVE = override(BASE, OverrideKind.REMOVE, "c1")


def both(*some: Override) -> Overrides:
    return Overrides({one.key: one for one in some})


def backends(rules: Rules) -> list[str]:
    [service] = rules.services
    return [] if service.pool is None else [one.name for one in service.pool.backends]


def test_added_and_removed_backends_and_pauses_are_applied_to_the_rules() -> None:
    pause = override(BASE, OverrideKind.PAUSE, "master")
    changed = both(ADD, REMOVE, pause).applied(BASE)
    assert backends(changed) == ["c2", "c3"]
    assert [mirror.is_paused for mirror in changed.services[0].mirrors] == [True]
    others = both(override(BASE, OverrideKind.DRAIN, "c1"), override(BASE, OverrideKind.WEIGHT, "c2", weight=3))
    assert others.applied(BASE) is BASE
    assert both(ADD).applied(both().applied(BASE)) != BASE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RULES, {"add", "remove", "drain"}),
        (RULES + "      - {name: audit, address: 10.20.0.14}\n", {"add", "remove", "drain"}),
        (RULES.replace("name: c2, address: 10.20.0.12", "name: c3, address: 10.20.0.12"), {"remove"}),
        (RULES.replace("10.20.0.12", "10.20.0.15"), {"remove"}),
        (RULES.replace("10.20.0.11", "10.20.0.16"), {"add", "drain"}),
        (RULES.replace("name: openflow", "name: other"), set()),
        (RULES.replace("10.10.0.0/24", "10.10.0.0/24, 10.20.0.15/32"), {"remove"}),
        (RULES.replace("10.20.0.13", "10.20.0.15, protocol: openflow"), {"remove"}),
    ],
)
def test_what_fits_other_rules_stays(text: str, expected: set[str]) -> None:
    drain = Override(OverrideKind.DRAIN, "openflow", "c3", "10.20.0.15:6653", 6.0)
    rules = parse_rules(text)
    fitting = both(ADD, REMOVE, drain).fitting(rules)
    assert {str(one.kind) for one in fitting} == expected
    assert fitting.fitting(rules) == fitting


def test_no_pool_is_left_without_a_backend() -> None:
    assert both(REMOVE).fitting(parse_rules(WITHOUT_C2)) == both()
    assert both(REMOVE, ADD).fitting(parse_rules(WITHOUT_C2)) == both(REMOVE, ADD)


def test_a_backend_of_a_removed_ones_name_may_be_elsewhere() -> None:
    moved = Override(
        *(OverrideKind.ADD, "openflow", "c1", "10.20.0.15:6653", 5.0),
        backend=Backend("c1", IPv4Address("10.20.0.15"), 6653),
    )
    fitting = both(moved, REMOVE).fitting(BASE)
    [service] = fitting.applied(BASE).services
    assert service.pool is not None
    assert [(one.name, str(one.address)) for one in service.pool.backends] == [
        *(("c2", "10.20.0.12"), ("c1", "10.20.0.15")),
    ]


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"name": "c2"}, "expected a unique name, found c2 again"),
        ({"address": "10.20.0.12"}, r"expected a unique address and port, found 10\.20\.0\.12:6653 of c2 again"),
        ({"address": "10.10.0.7"}, "address: expected an address outside the switches' network"),
        ({"address": "10.10.0.100"}, "address: expected an address outside the switches' network"),
        ({"address": "10.20.0.99"}, r"address: expected the address of another host, found 10\.20\.0\.99, its own"),
        ({"address": "::1"}, "address: expected an IPv4 address, found ::1"),
        ({"address": "127.0.0.1"}, "address: expected the address of one host"),
        ({"port": 0}, r"port: expected 1\.\.65535, found 0"),
        ({"port": "x"}, r"port: expected 1\.\.65535, found x"),
        ({"weight": 1001}, r"weight: expected 1\.\.1000"),
        ({"max-connections": 0}, "max-connections: expected 1"),
        ({"name": "a b"}, "name: expected a name of letters"),
    ],
)
def test_an_added_backend_passes_the_checks_of_a_rules_file(keys: dict[str, Any], error: str) -> None:
    [service] = BASE.services
    wanted = {"name": "c3", "address": "10.20.0.15", **keys}
    taken = {IPv4Address("10.20.0.99"): "its own"}
    with pytest.raises(RulesError, match=rf"^backend {wanted['name']} of openflow: {error}"):
        checked_backend(BASE, service.name, wanted, taken)
    assert checked_backend(BASE, service.name, {"name": "c3", "address": "10.20.0.15"}, taken).port == service.port


def test_by_priority_an_added_backend_has_no_weight() -> None:
    rules = parse_rules(RULES.replace("    pool:\n", "    pool:\n      balance: priority\n"))
    [service] = rules.services
    with pytest.raises(RulesError, match="weight: expected no weight with balance priority"):
        checked_backend(rules, service.name, {"name": "c3", "address": "10.20.0.15", "weight": 2})
    plain = Backend("c3", IPv4Address("10.20.0.15"), 6653)
    one = Override(OverrideKind.ADD, "openflow", "c3", "10.20.0.15:6653", 5.0, backend=plain)
    assert both(one).fitting(rules) == both(one)


@pytest.mark.parametrize(
    "one",
    [
        *(ADD, REMOVE, override(BASE, OverrideKind.WEIGHT, "c1", at=1.5, kept=True, weight=7)),
        Override(OverrideKind.DRAIN, "openflow", "c1", "10.20.0.11:6653", 1.0, until=61.0),
        override(BASE, OverrideKind.PAUSE, "master"),
    ],
)
def test_an_override_is_read_as_it_was_written(one: Override) -> None:
    assert read_override(json.loads(json.dumps(one.plain()))) == one


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(kind=st.sampled_from(OverrideKind), key=st.sampled_from(sorted(ADD.plain())), value=_ANYTHING)
def test_nothing_malformed_is_read(kind: OverrideKind, key: str, value: Any) -> None:
    plain = {**ADD.plain(), "kind": str(kind), key: value}
    try:
        found = read_override(plain)
    except (KeyError, TypeError, ValueError):
        return
    assert read_override(json.loads(json.dumps(found.plain()))) == found
    both(found).fitting(BASE).applied(BASE)


def test_the_api_takes_the_weights_that_the_rules_take() -> None:
    assert MAX_WEIGHT_OF_API == MAX_WEIGHT
