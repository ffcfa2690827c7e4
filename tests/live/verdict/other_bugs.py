"""Planted bugs that no prototype knew: the comparison was not made with them at hand."""

from dataclasses import replace

from tests.live.verdict.bugs import ARP, EVERY, IPV4, answers, each, is_miss, programme
from tests.live.verdict.orders import Cause, Elsewhere, Frame, Match, Order, Output, Rule, Wait
from tests.live.verdict.variants import Bug, Variant

OVERDUE = 2.5  # seconds: longer than a verdict waits for an answer


def _stale() -> Bug:
    """Make a controller that never notices that an address has moved to another port."""
    first: dict[tuple[int, str], int] = {}

    def bug(cause: Cause | None, orders: list[Order]) -> list[Order]:
        if cause is None:
            return orders
        first.setdefault((cause.datapath, cause.src), cause.in_port)
        port = first.get((cause.datapath, cause.dst))
        if port is None or port == cause.port:
            return orders
        return [replace(one, actions=(Output(port),)) if isinstance(one, Rule | Frame) else one for one in orders]

    return bug


def _once() -> Bug:
    """Make a controller that believes that a rule which it has added once is there for ever."""
    added: set[tuple[int, Match]] = set()

    def bug(cause: Cause | None, orders: list[Order]) -> list[Order]:
        if cause is None:
            return orders
        kept = [one for one in orders if not isinstance(one, Rule) or (cause.datapath, one.match) not in added]
        added.update((cause.datapath, one.match) for one in orders if isinstance(one, Rule))
        return kept

    return bug


def _deleting(cause: Cause, orders: list[Order]) -> list[Order]:
    if cause.number % EVERY or cause.port is None:
        return orders
    return [*orders, Rule(0, (("eth_dst", cause.src),), (), command="DELETE")]


def _elsewhere(cause: Cause, orders: list[Order]) -> list[Order]:
    if cause.number % EVERY or cause.port is None:
        return orders
    return [Elsewhere(one) if isinstance(one, Rule | Frame) else one for one in orders]


def _blackhole(cause: Cause, rule: Rule) -> Rule:
    return replace(rule, actions=()) if (cause.src[-1], cause.dst[-1]) == ("1", "2") else rule


def _widened(cause: Cause, rule: Rule) -> Rule:
    wide = (cause.src[:-1] + "0", "ff:ff:ff:ff:ff:f0")
    return replace(rule, match=tuple((name, wide if name == "eth_src" else value) for name, value in rule.match))


def _truncating(orders: list[Order]) -> list[Order]:
    return [
        replace(one, actions=(Output("CONTROLLER", 64),)) if isinstance(one, Rule) and is_miss(one) else one
        for one in orders
    ]


def _narrowed(cause: Cause, rule: Rule) -> Rule:
    """Add a field of ARP's that no other rule has."""
    return replace(rule, match=(*rule.match, ("arp_op", 2))) if cause.eth_type == ARP else rule


OTHER_BUGS = (
    Variant(
        "quiet", r"send_flow_rem|FLOW_REMOVED", each(Rule, lambda cause, rule: replace(rule, reports_removal=False))
    ),
    Variant("delete", r"rule-deleted: ", answers(_deleting)),
    Variant("stale", r"output:\d for output:\d", _stale),
    Variant("once", r"rule-missing: ", _once),
    Variant("table", r"table 1 for 0", each(Rule, lambda cause, rule: replace(rule, table=1)), versions=("1.3",)),
    Variant(
        "double",
        r"output:(\d),output:\1 for output:\1",
        each(Frame, lambda cause, frame: replace(frame, actions=frame.actions * 2)),
    ),
    Variant("hard", r"hard_timeout 3 for (0|none)", each(Rule, lambda cause, rule: replace(rule, hard_timeout=3))),
    Variant("blackhole", r"drop for output:2", each(Rule, _blackhole)),
    Variant(
        "overdue",
        r"answers came more than 2 s late",
        answers(lambda cause, orders: orders if cause.number % EVERY else [Wait(OVERDUE), *orders]),
    ),
    Variant("truncate", r"CONTROLLER:64 for CONTROLLER", programme(_truncating), versions=("1.3",)),
    Variant(
        "all",
        r"frame-different: .*ALL for FLOOD",
        each(Frame, lambda cause, frame: replace(frame, actions=(Output("ALL"),)) if cause.port is None else frame),
    ),
    Variant("elsewhere", r"no-answer|frame-missing|rule-missing", answers(_elsewhere)),
    Variant("wide", r"rule-different: eth_src", each(Rule, _widened), versions=("1.3",)),
    Variant("narrow", r"match also on (arp_op|nw_proto)", each(Rule, _narrowed)),
    Variant(
        "modify",
        r"mod(ify)? for add|rule-missing",
        each(Rule, lambda cause, rule: replace(rule, command="MODIFY")),
        versions=("1.3",),
    ),
    Variant(
        "mute",
        r"frame-missing: ",
        each(Frame, lambda cause, frame: None if cause.port is not None and cause.eth_type == IPV4 else frame),
    ),
)
