"""A reload: which rules may change, the merged rules of both, and their differences."""

from ipaddress import IPv4Network

import pytest

from natmirror.errors import RulesError
from natmirror.rules import parse_rules
from natmirror.rules.reload import merged, refuse_what_cannot_change
from natmirror.rules.text import differences
from tests.helpers.support import RULES

PLAIN = RULES[: RULES.index("    mirrors:")]
WITHOUT_C1 = RULES.replace("        - {name: c1, address: 10.20.0.11}\n", "")
OTHER = """
  - name: other
    address: 10.10.0.100
    port: 7000
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
"""
ELSEWHERE = "switches: [10.10.0.0/24]\nservices:" + OTHER


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"threads: 2\n{RULES}", "rules.yaml: threads: cannot change while natmirror runs; restart natmirror"),
        (f"max-flows: 2000\n{RULES}", "rules.yaml: max-flows: cannot change"),
        (f"known-switches: /var/lib/x\n{RULES}", "rules.yaml: known-switches: cannot change"),
        (
            RULES[: RULES.index("    pool:")] + "    mirrors: [{name: m, address: 10.20.0.13}]\n",
            "rules.yaml: services[0].pool: cannot change",
        ),
        (
            f"{RULES}  - {{name: w, address: 10.10.0.9, port: 80, mirrors: [{{name: m, address: 10.20.0.14}}]}}\n",
            "rules.yaml: services[1]: a first service without a pool cannot be added while natmirror runs",
        ),
    ],
)
def test_a_change_that_needs_a_restart_is_refused(text: str, error: str) -> None:
    with pytest.raises(RulesError, match=f"^{error.replace('[', '.').replace(']', '.')}"):
        refuse_what_cannot_change(parse_rules(RULES), parse_rules(text, "rules.yaml"))


def test_a_removed_service_with_connections_comes_back_with_a_pool_or_not_at_all() -> None:
    watched = "  - {name: w, address: 10.10.0.9, port: 80, mirrors: [{name: m, address: 10.20.0.14}]}\n"
    old = parse_rules(RULES + watched + OTHER)
    bare = OTHER.replace(
        "pool: {backends: [{name: c1, address: 10.20.0.11}]}", "mirrors: [{name: n, address: 10.20.0.14}]"
    )
    rest = parse_rules(RULES + watched)
    refuse_what_cannot_change(old, rest)
    with pytest.raises(RulesError, match=r"services\[2\]\.pool: cannot change"):
        refuse_what_cannot_change(merged(rest, [(old.services[2], None)]), parse_rules(RULES + watched + bare))


def test_all_other_changes_are_allowed() -> None:
    refuse_what_cannot_change(parse_rules(RULES), parse_rules(f"mirror-memory: 1MiB\n{RULES}{OTHER}"))
    refuse_what_cannot_change(parse_rules(RULES), parse_rules(ELSEWHERE))


def test_merged_rules_match_the_packets_of_both() -> None:
    old, new = parse_rules(RULES + OTHER), parse_rules(WITHOUT_C1.replace("10.10.0.0/24", "10.10.0.0/24, 10.11.0.0/24"))
    both = merged(new, [old])
    assert both.switches == (IPv4Network("10.10.0.0/24"), IPv4Network("10.11.0.0/24"))
    assert [service.name for service in both.services] == ["openflow", "other"]
    pool = both.services[0].pool
    assert pool is not None
    assert {backend.name for backend in pool.backends} == {"c1", "c2"}
    assert merged(new, []) == new


def test_merged_rules_add_only_removed_backends_with_connections() -> None:
    old, new = parse_rules(RULES + OTHER), parse_rules(WITHOUT_C1)
    pool, gone = old.services[0].pool, old.services[1]
    assert pool is not None
    both = merged(new, [(old.services[0], pool.backends[0]), (gone, None)])
    assert [len(service.pool.backends) for service in both.services if service.pool] == [2, 0]
    assert [service.mirrors for service in both.services] == [new.services[0].mirrors, ()]


def test_differences_are_listed_line_by_line() -> None:
    changed = WITHOUT_C1.replace("10.20.0.12}", "10.20.0.12, weight: 2}") + OTHER
    assert differences(parse_rules(RULES), parse_rules(changed)) == [
        "- openflow: backend c1 10.20.0.11:6653 weight 1",
        "- openflow: backend c2 10.20.0.12:6653 weight 1",
        "+ openflow: backend c2 10.20.0.12:6653 weight 2",
        "+ service other 10.10.0.100:7000",
        "+ other: balance maglev hash address",
        "+ other: backend c1 10.20.0.11:7000 weight 1",
        "+ other: when-none drop when-down reset mptcp strip",
        "+ other: health  not checked",
    ]
    assert differences(parse_rules(RULES), parse_rules(RULES)) == []


def test_another_order_is_a_difference_where_order_is_priority() -> None:
    head, c1, c2 = (part for part in PLAIN.replace("pool:\n", "pool:\n      balance: priority\n").split("        - "))
    assert differences(
        parse_rules("        - ".join((head, c1, c2))), parse_rules("        - ".join((head, c2, c1)))
    ) == [
        "- openflow: balance priority: c1, c2",
        "+ openflow: balance priority: c2, c1",
    ]
