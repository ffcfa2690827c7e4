"""The planted bugs that a prototype knew, and how bugs are made."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from tests.live.verdict.orders import ANYTHING, Cause, Crash, Frame, Group, Order, Output, Rule, SetField, Wait
from tests.live.verdict.variants import Bug, Variant

Kind = TypeVar("Kind", Rule, Frame)
ARP, IPV4 = 0x0806, 0x0800
LATENESS = 0.2  # seconds
EVERY = 20  # PACKET_INs of which one is hit by a bug that is seldom
CRASH_AT = 40


def each(kind: type[Kind], change: Callable[[Cause, Kind], Kind | None]) -> Callable[[], Bug]:
    """Return a bug that changes, or with None leaves out, the orders of one kind that answer a PACKET_IN."""

    def bug(cause: Cause | None, orders: list[Order]) -> list[Order]:
        if cause is None:
            return orders
        changed = [change(cause, one) if isinstance(one, kind) else one for one in orders]
        return [one for one in changed if one is not None]

    return lambda: bug


def answers(change: Callable[[Cause, list[Order]], list[Order]]) -> Callable[[], Bug]:
    """Return a bug that changes answers."""
    return lambda: lambda cause, orders: orders if cause is None else change(cause, orders)


def programme(change: Callable[[list[Order]], list[Order]]) -> Callable[[], Bug]:
    """Return a bug that changes the programme for a new switch."""
    return lambda: lambda cause, orders: change(orders) if cause is None else orders


def is_for_host(cause: Cause, number: int) -> bool:
    """Return whether the destination is this host of a switch; its address says which one it is."""
    return int(cause.dst.rpartition(":")[2], 16) == number


def _wrong_port(cause: Cause, rule: Rule) -> Rule:
    return replace(rule, actions=(Output(3),)) if is_for_host(cause, 2) else rule


def _flood(cause: Cause, orders: list[Order]) -> list[Order]:
    return [Frame((Output("FLOOD"),))]


def _without_group(orders: list[Order]) -> list[Order]:
    return [replace(one, port=3) if isinstance(one, Group) else one for one in orders]


def is_miss(order: Order) -> bool:
    """Return whether an order adds the rule that sends all other frames to the controller."""
    return isinstance(order, Rule) and order.match == ANYTHING


_DNS = Rule(20, (("eth_type", IPV4), ("ip_proto", 17), ("udp_dst", 53)), ())

BUGS = (
    Variant("priority", r"priority 11 for 10", each(Rule, lambda cause, rule: replace(rule, priority=11))),
    Variant("port", r"output:3 for output:2", each(Rule, _wrong_port)),
    Variant(
        "noarp", r"rule-missing: .*\barp\b", each(Rule, lambda cause, rule: None if cause.eth_type == ARP else rule)
    ),
    Variant("flood", r"frame-different: .*FLOOD for output:\d", answers(_flood)),
    Variant("extra", r"rule-more: .*tp_dst=53", programme(lambda orders: [*orders, _DNS])),
    Variant("timeout", r"idle_timeout 50 for 1", each(Rule, lambda cause, rule: replace(rule, idle_timeout=50))),
    Variant("slow", r"come 2\d\d ms later", answers(lambda cause, orders: [Wait(LATENESS), *orders])),
    Variant("silent", r"no-answer", answers(lambda cause, orders: [] if cause.number % EVERY == 7 else orders)),
    Variant(
        "nofield",
        r"without in_port",
        each(Rule, lambda cause, rule: replace(rule, match=tuple(one for one in rule.match if one[0] != "in_port"))),
    ),
    Variant(
        "crash",
        r"session-ended",
        answers(lambda cause, orders: [Crash()] if cause.number == CRASH_AT else orders),
    ),
    Variant(
        "nomiss",
        r"rule-missing: .*CONTROLLER",
        programme(lambda orders: [one for one in orders if not is_miss(one)]),
        versions=("1.3",),
    ),
    Variant("group", r"entry-different: .*output:3", programme(_without_group), versions=("1.3",)),
    Variant(
        "rewrite",
        r"(set_field|mod_dl_src):.*output:\d for output:\d",
        each(
            Rule, lambda cause, rule: replace(rule, actions=(SetField("eth_src", "02:00:00:00:00:99"), *rule.actions))
        ),
    ),
)
