"""Planted bugs of a learning switch with more than one table, and an equal one that answers in another order. The
comparison was made without them at hand."""

from dataclasses import replace

from tests.live.verdict.bugs import EVERY, answers, each, is_for_host, programme
from tests.live.verdict.orders import ANYTHING, Actions, Cause, Frame, Meter, Order, Output, Rule, Tag, Wait
from tests.live.verdict.pipeline import LEARNING_TABLE, MULTICAST, RATE, VLAN, Pipeline
from tests.live.verdict.variants import Bug, Variant

_HELD = 0.3  # seconds
_WIPED_AT = 30
_WRONG_MULTICAST = ("224.0.0.0", "248.0.0.0")


def _overtaken(cause: Cause, orders: list[Order]) -> list[Order]:
    """Answer some PACKET_INs after later ones."""
    return [Wait(_HELD), *orders] if cause.number % 5 == 0 else orders


def _mistagged(cause: Cause, rule: Rule) -> Rule:
    return replace(rule, actions=tuple(Tag(VLAN + 1) if isinstance(one, Tag) else one for one in rule.actions))


def _back(cause: Cause, rule: Rule) -> Rule:
    return replace(rule, actions=(Output("IN_PORT"),)) if is_for_host(cause, 2) else rule


def _unmetered(orders: list[Order]) -> list[Order]:
    return [replace(one, meter=None) if isinstance(one, Rule) else one for one in orders]


def _faster(orders: list[Order]) -> list[Order]:
    return [replace(one, rate=2 * RATE) if isinstance(one, Meter) else one for one in orders]


def _skipping(orders: list[Order]) -> list[Order]:
    return [replace(one, goto=LEARNING_TABLE + 1) if isinstance(one, Rule) and one.goto else one for one in orders]


def _hard(cause: Cause, rule: Rule) -> Rule:
    return replace(rule, idle_timeout=0, hard_timeout=rule.idle_timeout)


def _wrong_bit(orders: list[Order]) -> list[Order]:
    def changed(rule: Rule) -> Rule:
        match = tuple((name, _WRONG_MULTICAST if value == MULTICAST else value) for name, value in rule.match)
        return replace(rule, match=match)

    return [changed(one) if isinstance(one, Rule) else one for one in orders]


def _previous() -> Bug:
    """Make a controller that now and then acts on what it found out about the PACKET_IN before."""
    latest: list[Actions] = []

    def bug(cause: Cause | None, orders: list[Order]) -> list[Order]:
        if cause is None or cause.port is None:
            return orders
        before, latest[:] = list(latest), [one.actions for one in orders if isinstance(one, Frame)]
        if cause.number % EVERY >= 2 or not before:
            return orders
        return [replace(one, actions=before[0]) if isinstance(one, Rule | Frame) else one for one in orders]

    return bug


def _wiping(cause: Cause, orders: list[Order]) -> list[Order]:
    return [*orders, Rule(0, ANYTHING, (), command="DELETE")] if cause.number == _WIPED_AT else orders


def _eager(cause: Cause, orders: list[Order]) -> list[Order]:
    """Add the rule for the way back, too."""
    if cause.port is None:
        return orders
    rules = [one for one in orders if isinstance(one, Rule)]
    match = (("in_port", cause.port), ("eth_dst", cause.src), ("eth_src", cause.dst), ("eth_type", cause.eth_type))
    return [*orders, *(replace(one, match=match, actions=(Output(cause.in_port),)) for one in rules)]


PIPELINE_EQUAL = (
    Variant("pipeline", honest=Pipeline),
    Variant("overtaken", bug=answers(_overtaken), honest=Pipeline),
)
PIPELINE_BUGS = (
    Variant("vlan", r"(mod_vlan_vid:6|4102->vlan_vid).* for ", each(Rule, _mistagged), honest=Pipeline),
    Variant("inport", r"IN_PORT for output:2", each(Rule, _back), honest=Pipeline),
    Variant(
        "nometer",
        r"rule-different: goto_table:1 for meter:1,goto_table:1",
        programme(_unmetered),
        honest=Pipeline,
        versions=("1.3",),
    ),
    Variant(
        "rate",
        r"entry-different: meter.*rate=2000.* for meter.*rate=1000",
        programme(_faster),
        honest=Pipeline,
        versions=("1.3",),
    ),
    Variant("skip", r"goto_table:2 for .*goto_table:1", programme(_skipping), honest=Pipeline, versions=("1.3",)),
    Variant("hardidle", r"hard_timeout 1 for (0|none)|idle_timeout 0 for 1", each(Rule, _hard), honest=Pipeline),
    Variant("bit", r"rule-different: nw_dst=224.0.0.0/5 for ", programme(_wrong_bit), honest=Pipeline),
    Variant("previous", r"output:\d for ", _previous, honest=Pipeline),
    Variant("wipe", r"rule-deleted: ", answers(_wiping), honest=Pipeline),
    Variant("eager", r"rule-more: ", answers(_eager), honest=Pipeline),
)
