"""The answers to a master's questions for flow, aggregate and table statistics, out of the model of its own rules.

No switch has these rules, so no frame has used them: all counters are 0. A rule's age counts from the master's order.
A table may have thousands of rules, so bodies_of() is a generator: it works in steps, and yields after each.
"""

from collections.abc import Generator, Iterable
from dataclasses import replace

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import ANY_GROUP, ReservedPort
from natmirror.openflow.bodies.statistics import (
    decode_table_stats,
    encode_aggregate_stats,
    encode_flow_stats,
    encode_table_stats,
)
from natmirror.openflow.bodies.values import AggregateStats, FlowStats, FlowStatsRequest, TableStats, TableStatsRequest
from natmirror.openflow.messages import V10, Message, Multipart, multipart_of
from natmirror.openflow.tables.entries import Rule, actions_of, group_ids_of, sends_to_port
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.packed import pack_match

MODELLED = frozenset((Multipart.FLOW, Multipart.AGGREGATE, Multipart.TABLE, Multipart.FLOW_STATS))
"""The multipart types that a model answers."""
_MAX_BODY_LEN = 60_000  # bytes of one part; a message has at most 65,535
_STEP = 32  # rules that one step looks at

Bodies = tuple[bytes, ...]
"""The bodies of an answer, one for each part."""
MALFORMED: Bodies = ()
"""Stands for the bodies of an answer to a question that is malformed."""


def bodies_of(
    model: Model, question: Message, now: float, *, tables: Iterable[bytes] = (), n_tables: int = 0
) -> Generator[None, None, Bodies | None]:
    """Return the bodies of the answer to a question of a type in MODELLED, as the generator's value; None if the model
    cannot tell. MalformedBody where the question is. ``tables``: what the switch has answered for table statistics."""
    if model.state.not_followed is not None:
        return None
    request = decode(question)
    kind = multipart_of(question)[0]
    if isinstance(request, TableStatsRequest):
        return table_bodies(model, tables, n_tables)
    if not isinstance(request, FlowStatsRequest):
        return None
    if request.is_aggregate:
        return (yield from aggregate_bodies(model, request))
    return (yield from flow_bodies(model, kind, request, now))


def flow_bodies(model: Model, multipart: int, request: FlowStatsRequest, now: float) -> Generator[None, None, Bodies]:
    """Return the bodies of the answer to a request for flow statistics, as the generator's value."""
    entries: list[bytes] = []
    for rule in (yield from _asked(model, request)):
        entries.append(encode_flow_stats(model.version, multipart, _stats_of(rule, now)))
        if not len(entries) % _STEP:
            yield
    return _parts(entries)


def aggregate_bodies(model: Model, request: FlowStatsRequest) -> Generator[None, None, Bodies]:
    """Return the body of the answer to a request for the sums over flows, as the generator's value."""
    rules = yield from _asked(model, request)
    return (encode_aggregate_stats(model.version, AggregateStats(0, 0, len(rules))),)


def table_bodies(model: Model, like: Iterable[bytes], n_tables: int) -> Bodies | None:
    """Return the bodies of the answer to a request for table statistics: those that the switch gave in production, with
    the model's numbers; without such ones, ``n_tables`` entries. 1.0's entries have names, so None without such ones.
    """
    version = model.version
    known = [one for body in like for one in decode_table_stats(version, body, has_more=False).tables]
    if not known:
        if version == V10:
            return None
        known = [TableStats(table, 0, 0, 0) for table in range(n_tables)]
    count = model.state.count_in
    return _parts(
        encode_table_stats(version, replace(one, active=count(one.table), lookups=0, matched=0)) for one in known
    )


def _asked(model: Model, request: FlowStatsRequest) -> Generator[None, None, list[Rule]]:
    """Return the rules that a request asks for, as the generator's value."""
    match = pack_match(request.match)
    covered = [rule for index in model.state.indexes(request.table) for rule in index.covered_by(match)]
    found: list[Rule] = []
    for number, rule in enumerate(covered):
        if _is_asked(rule, request):
            found.append(rule)
        if number % _STEP == _STEP - 1:
            yield
    return found


def _is_asked(rule: Rule, request: FlowStatsRequest) -> bool:
    if (rule.cookie ^ request.cookie) & request.cookie_mask:
        return False
    if request.out_port != ReservedPort.ANY and not sends_to_port(rule.instructions, request.out_port):
        return False
    return request.out_group == ANY_GROUP or request.out_group in group_ids_of(actions_of(rule.instructions))


def _stats_of(rule: Rule, now: float) -> FlowStats:
    return FlowStats(
        *rule.key,
        rule.instructions,
        rule.cookie,
        rule.idle_timeout,
        rule.hard_timeout,
        rule.flags,
        rule.importance,
        duration=max(0.0, now - rule.made_at),
    )


def _parts(entries: Iterable[bytes]) -> Bodies:
    """Join entries to bodies; an answer without entries has one empty body."""
    parts: list[list[bytes]] = [[]]
    length = 0
    for entry in entries:
        if length + len(entry) > _MAX_BODY_LEN and parts[-1]:
            parts.append([])
            length = 0
        parts[-1].append(entry)
        length += len(entry)
    return tuple(b"".join(part) for part in parts)
