"""What the causes of a difference have in common, and no agreeing cause has."""

from collections.abc import Iterable, Mapping

from natmirror.openflow.comparison.conditions import Agreed, Agreeing, Causes
from natmirror.openflow.comparison.results import DifferenceKind

Fields = Mapping[str, int]


def where(differing: Iterable[Fields], agreeing: Iterable[Fields]) -> str:
    causes, others = Causes(), Agreeing()
    for one in differing:
        causes.add(one)
    for one in agreeing:
        others.add(one)
    return causes.where(others)


def frame(**fields: int) -> Fields:
    return {"in_port": 1, "eth_type": 0x0800, "ip_proto": 6, "eth_src": 1, "eth_dst": 2, **fields}


def arp(**fields: int) -> Fields:
    return {"in_port": 1, "eth_type": 0x0806, "arp_op": 1, "eth_src": 1, "eth_dst": 2, **fields}


def test_the_kind_of_frame() -> None:
    assert where([arp(in_port=port) for port in (1, 2, 3)], [frame(in_port=port) for port in (1, 2, 3)]) == "arp"


def test_one_host() -> None:
    others = [frame(eth_dst=host, in_port=port) for host in (1, 2, 3) for port in (1, 2)]
    assert where([frame(eth_dst=4), frame(eth_dst=4, in_port=2), frame(eth_dst=4)], others) == (
        "dl_dst=00:00:00:00:00:04"
    )


def test_some_hosts() -> None:
    found = where([frame(eth_dst=host) for host in (4, 5, 4)], [frame(eth_dst=host) for host in (1, 2, 3)])
    assert found == "dl_dst=00:00:00:00:00:04 or dl_dst=00:00:00:00:00:05"


def test_a_port_of_a_protocol_comes_with_the_protocol() -> None:
    found = where([frame(ip_proto=17, udp_dst=53)] * 3, [frame(ip_proto=17, udp_dst=80)] * 3)
    assert found == "udp,tp_dst=53"


def test_nothing_where_agreeing_causes_have_the_values_too() -> None:
    assert where([frame()] * 5, [frame()] * 5) == ""


def test_nothing_by_few_causes() -> None:
    assert where([arp()] * 2, [frame()] * 9) == ""
    assert where([arp()] * 9, [frame()] * 2) == ""


def test_nothing_where_a_cause_lacks_the_field() -> None:
    assert where([arp(), arp(), {"in_port": 1}], [frame(in_port=1)] * 3) == ""


def test_many_values_are_nothing_in_common() -> None:
    assert where([frame(eth_dst=host) for host in range(100, 110)], [frame()] * 3) == ""


def test_however_many_agreeing_values_there_are_nothing_false_is_said() -> None:
    others = [frame(eth_dst=host * 7919) for host in range(20_000)]
    assert where([others[17], others[17], others[17]], others) == ""


def test_the_causes_of_two_engines_are_added_up() -> None:
    one, other = Causes(), Causes()
    for fields in (arp(in_port=1), arp(in_port=2)):
        one.add(fields)
    other.add(arp(in_port=3))
    one.merge(other)
    agreeing, more = Agreed(), Agreed()
    for port in (1, 2, 3):
        agreeing.add(frame(in_port=port), has_rules=False)
    more.merge(agreeing)
    assert one.count == 3
    assert one.where(more.copy().all) == "arp"


def test_a_missing_rule_is_compared_with_answers_that_have_rules() -> None:
    agreed = Agreed()
    for _ in range(3):
        agreed.add(arp(), has_rules=False)
        agreed.add(frame(), has_rules=True)
    causes = Causes()
    for _ in range(3):
        causes.add(arp())
    assert causes.where(agreed.beside(DifferenceKind.RULE_MISSING)) == "arp"
    assert causes.where(agreed.beside(DifferenceKind.FRAME_DIFFERENT)) == ""
