"""Walks packets of production and of legs through other programs' rules: which of them do not get through, and where.

Only what is certain is reported: a rule with a condition that natmirror cannot judge may let a packet pass.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address
from operator import attrgetter
from typing import Any

from natmirror.linux.flights import Flight, Surroundings
from natmirror.linux.foreign_rules import (
    BaseChain,
    Rule,
    TestPacket,
    has_mark,
)
from natmirror.linux.hooks import ChainHook
from natmirror.linux.nftables import MARKS, MARKS_MASK

_MAX_DEPTH = 16
_MAX_RULES = 100_000  # on a packet's way through a base chain
_OURS = "natmirror"
_POLICY = "its policy"
_TRACKED = ("new", "established")


class What(Enum):
    """What becomes of a packet, as an operator reads it."""

    DROPPED = "drops"
    NOT_QUEUED = "keeps from natmirror's queue"
    REDIRECTED = "sends elsewhere"
    MARKED = "gives a mark of natmirror's own to"
    SOURCE_CHANGED = "changes the source of"


@dataclass(frozen=True, slots=True)
class Fate:
    """What certainly becomes of a packet, where, and by which rule."""

    what: What
    chain: BaseChain
    by: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a base chain may do with a packet, each with its first reason; the packet after it, and what marked it."""

    ends: dict[str, str]
    packet: TestPacket
    marked_by: str


def _our_chain(hook: ChainHook, priority: int) -> BaseChain:
    """Return natmirror's own rule that drops a packet with one of its marks that does not belong there."""
    rule = Rule((has_mark(attrgetter("mark"), MARKS_MASK, [MARKS]),), "collide")
    return BaseChain(_OURS, "marks", hook, priority, "accept", is_iptables=False, chains={"marks": [rule]})


_OUR_PLACES = ((ChainHook.PREROUTING, -299), (ChainHook.FORWARD, -149), (ChainHook.POSTROUTING, -150))
_OUR_CHAINS = tuple(_our_chain(*place) for place in _OUR_PLACES)


class RuleWalk:
    """The way through these chains on a host."""

    def __init__(self, chains: Sequence[BaseChain], host: Surroundings) -> None:
        self._chains = sorted([*_OUR_CHAINS, *chains], key=lambda one: (one.hook, one.priority))
        self._unread_queues = host.unread_queues
        self._passed: dict[tuple[str, TestPacket, bool], _Outcome] = {}
        self._jumps: dict[str, tuple[ChainHook, int]] = {}
        self._unknown: dict[str, Any] = {}
        for chain in self._chains:
            verdicts = {rule.verdict for rule in chain.chains[chain.name]}
            if "ours" in verdicts:
                self._jumps[chain.place] = chain.hook, chain.priority
            for rule in (rule for rules in chain.chains.values() for rule in rules):
                if rule.marks_connections:
                    self._unknown["connection_mark"] = None
                elif rule.verdict in ("dnat", "snat"):
                    self._unknown[f"is_{rule.verdict}"] = None

    def has_our_jump(self, chain: BaseChain) -> bool:
        """Return whether natmirror's jump to its queue stands in a chain."""
        return chain.place in self._jumps

    def views(self, flight: Flight, chain: BaseChain) -> list[TestPacket]:
        """Return how a packet may look in a chain."""
        return flight.at(chain, self._jumps)

    def fates(self, flight: Flight) -> Iterator[Fate]:
        """Yield what certainly becomes of a packet, until it does not go on."""
        changes = dict(self._unknown)
        marked: tuple[BaseChain, str] | None = None
        may_redirect = False
        for chain in self._chains:
            if (chain.translates and not flight.opens) or (chain.place == _OURS and not flight.is_production):
                continue
            views = [_changed(view, changes) for view in flight.at(chain, self._jumps)]
            is_new = any(view.state == "new" for view in views)
            if chain.translates:
                views = [replace(view, state="new") for view in views if view.state in _TRACKED]
            if not views:
                continue
            is_queued = flight.queued_at is not None and self._jumps.get(chain.place) == flight.queued_at
            outcomes = [self._pass(chain, view, is_queued) for view in views]
            ends = {end: why for outcome in outcomes for end, why in outcome.ends.items()}
            if "lost" in ends:
                return
            what = _what(ends, is_queued)
            if what is not None and (is_new or not chain.translates):
                where, by = chain, next(iter(ends.values()))
                if what is What.MARKED and marked is not None:
                    where, by = marked
                yield Fate(what, where, by)
                if what is not What.SOURCE_CHANGED:
                    return
            if chain.translates and chain.hook == ChainHook.PREROUTING:
                may_redirect = may_redirect or "redirect" in ends
                changes["is_dnat"] = None if may_redirect else False
            for name in ("mark", "is_tracked"):
                found = {getattr(outcome.packet, name) for outcome in outcomes}
                if found != {getattr(view, name) for view in views}:
                    changes[name] = found.pop() if len(found) == 1 else None
                    if name == "mark":
                        marked = chain, outcomes[0].marked_by

    def drops_only_invalid(self, chain: BaseChain, flight: Flight) -> bool:
        """Return whether a chain certainly drops a packet that conntrack calls INVALID, and may let others pass."""
        views = [view for view in flight.at(chain, self._jumps) if view.state in _TRACKED]
        invalid = [replace(view, state="invalid") for view in views]
        if chain.translates or not views or self._drops(chain, views):
            return False
        return self._drops(chain, invalid)

    def _drops(self, chain: BaseChain, views: list[TestPacket]) -> bool:
        return all(list(self._pass(chain, view, is_queued=False).ends) == ["drop"] for view in views)

    def _pass(self, chain: BaseChain, packet: TestPacket, is_queued: bool) -> _Outcome:
        key = chain.place, packet, is_queued
        if key not in self._passed:
            passage = _Passage(chain, packet, is_queued, self._unread_queues)
            ends = passage.walk(chain.name)
            if "fall" in ends:
                why = ends.pop("fall")
                ends.setdefault(chain.policy, why if chain.policy == "accept" else _POLICY)
            self._passed[key] = _Outcome(ends, passage.packet, passage.marked_by)
        return self._passed[key]


def _what(ends: dict[str, str], is_queued: bool) -> What | None:
    if len(ends) != 1:
        return None
    if is_queued and "accept" in ends:
        return What.NOT_QUEUED
    by_end = {
        "drop": What.DROPPED,
        "redirect": What.REDIRECTED,
        "collide": What.MARKED,
        "snat": What.SOURCE_CHANGED,
    }
    return by_end.get(next(iter(ends)))


def _changed(packet: TestPacket, changes: dict[str, Any]) -> TestPacket:
    if not changes:
        return packet
    packet = replace(packet, **changes)
    if not packet.is_tracked:
        packet = replace(packet, state=None if packet.is_tracked is None else "untracked")
    return replace(packet, is_dnat=False, is_snat=False) if packet.state == "untracked" else packet


class _Passage:
    """A packet's way through one base chain and those to which it jumps."""

    def __init__(self, chain: BaseChain, packet: TestPacket, is_queued: bool, unread_queues: Collection[int]) -> None:
        self.packet = packet
        self.marked_by = ""
        self._chains = chain.chains
        self._is_queued = is_queued
        self._unread_queues = set(unread_queues)
        self._rules_left = _MAX_RULES
        self._is_there = True  # the packet has certainly come to the current rule
        self._packets = {packet: packet}
        self._walked: dict[tuple[str, int, bool], tuple[dict[str, str], TestPacket, bool, str]] = {}

    def walk(self, name: str, depth: int = 0) -> dict[str, str]:
        """Return the possible ends of a chain, each with its first reason; ``fall`` is its last rule or a return. A
        chain to which many rules jump is walked once for each packet that comes to it."""
        before = name, id(self.packet), self._is_there  # equal packets are one object: it costs much to hash them
        marked_by, known = self.marked_by, self._walked.get(before)
        if known is None:
            self.marked_by = ""
            ends = self._walk_rules(name, depth)
            known = self._walked[before] = ends, self.packet, self._is_there, self.marked_by
        ends, self.packet, self._is_there, self.marked_by = known
        self.marked_by = self.marked_by or marked_by
        return ends.copy()

    def _walk_rules(self, name: str, depth: int) -> dict[str, str]:
        ends: dict[str, str] = {}
        if depth > _MAX_DEPTH:
            return {"lost": ""}
        for rule in self._chains.get(name, ()):
            self._rules_left -= 1
            if self._rules_left < 0:
                return {"lost": ""}
            answer: bool | None = True
            for condition in rule.conditions:
                found = condition(self.packet)
                if found is False:
                    break
                if found is None:
                    answer = None
            else:
                if self._apply(rule, answer is True, ends, depth):
                    return ends
        ends.setdefault("fall", "")
        return ends

    def _apply(self, rule: Rule, holds: bool, ends: dict[str, str], depth: int) -> bool:
        """Apply a rule that holds, or may hold; return whether the chain certainly ends there."""
        was_there = self._is_there
        self._is_there = was_there and holds
        for effect in rule.effects:
            before, after = self.packet, effect.on(self.packet, self._is_there)
            self.packet = self._packets.setdefault(after, after)
            if self.packet.mark != before.mark:
                self.marked_by = rule.text
        inner = self.walk(rule.target, depth + 1) if rule.verdict in ("jump", "goto") else self._ends_of(rule)
        goes_on = "fall" in inner and rule.verdict not in ("return", "goto")
        if goes_on:
            del inner["fall"]
        elif inner.get("fall") == "":
            inner["fall"] = rule.text
        if holds:
            self._is_there = self._is_there and not (goes_on and inner)
        else:
            self._is_there = was_there and not inner
        for end, why in inner.items():
            ends.setdefault(end, why)
        return holds and not goes_on

    def _ends_of(self, rule: Rule) -> dict[str, str]:
        """Return the possible ends of a rule that is no jump."""
        why = rule.text
        match rule.verdict:
            case "none":
                return {"fall": ""}
            case "return":
                return {"fall": why}
            case "ours":
                return {"ours": why} if self._is_queued else {"fall": ""}
            case "unknown":
                return {"accept": why, "drop": why}
            case "snat":
                return {"snat": why}
            case "dnat":
                return self._redirected(rule.target, why)
            case "queue":
                return self._queued(rule, why)
        return {rule.verdict: why}

    def _redirected(self, target: str, why: str) -> dict[str, str]:
        address, _, port = target.partition(":")
        try:
            to = int(IPv4Address(address)), int(port) if port else None
        except ValueError:
            return {"accept": why, "redirect": why}
        if (to[0], to[0]) == self.packet.dst and (to[1] is None or (to[1], to[1]) == self.packet.dport):
            return {"accept": why}
        return {"redirect": why}

    def _queued(self, rule: Rule, why: str) -> dict[str, str]:
        queues = rule.queues
        if queues is None or not self._unread_queues.issuperset(range(queues.first, queues.last + 1)):
            return {"accept": why, "drop": why}
        if queues.bypass:
            return {"accept": why}
        return {"drop": f"{why}, because no program reads queue {queues.first}"}
