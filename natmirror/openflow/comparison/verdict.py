"""The verdict on a master, from what was found: AGREES, DIFFERS or TOO LITTLE, with the reasons in words.

A share of equal answers says nothing by itself. A master without a rule for unknown packets would be asked nothing, so
that both of its two comparable answers are equal; one with a rule too many, or one that is slow, answers all alike. So
each verdict also looks at the share that is comparable, at the tables, at orders that answer nothing, at sessions, and
at the lag.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from natmirror.openflow.comparison.found import Found
from natmirror.openflow.comparison.lags import quantile
from natmirror.openflow.comparison.noise import Weighed, comparable, weigh
from natmirror.openflow.comparison.numbers import duration, share, times
from natmirror.openflow.comparison.results import AnswerResult, DifferenceKind, NotComparable
from natmirror.openflow.comparison.shown import Verdict
from natmirror.openflow.tables.state import NotFollowed

AT_LEAST = 100
"""Fewer comparable answers are too few: a difference in 3 of 100 answers would be missed in 5 of 100 cases (the rule of
three)."""
_LEAST_COMPARABLE = 0.5
"""A master of which less is comparable would have got other PACKET_INs than those that were seen."""
_SLOW = 0.1
"""Seconds by which the median answer may come later than production's, or than the twin's: masters of the same version
on a busy host are late by some milliseconds."""
_SLOW_ANSWERS = 20
_LATE = 0.01
"""The share of answers that may come more than two seconds late, because a host was busy, beyond the twin's."""
_TABLES = 0.01
"""Tables that are equal now may have differed for this share of the time: rules that expire by a clock do not do so at
the same moment everywhere."""
_TABLES_OF_TWIN = 0.1
"""Tables may differ for a share of the time that is larger by this than the twin's."""
_FRAMES_OF_TWIN, _WALKS = 0.1, 100
"""Frames may leave alike for a share that is smaller by this than the twin's, if so many were tried of each."""
_WITHOUT_SESSION = 0.01
"""The share of the switches' connections for which the master may have no session now: some always begin."""
_ROUNDING = 1e-9
_LATER_ASKS = (DifferenceKind.RULE_MISSING, DifferenceKind.RULE_DIFFERENT, DifferenceKind.RULE_DELETED)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a verdict asks for: comparable answers at least, and the percentage of equal ones below which it differs.
    100: each difference of an answer counts."""

    at_least: int = AT_LEAST
    fail_below: float = 100.0


@dataclass(slots=True)
class Outcome:
    """A verdict with its reasons. ``notes`` has what it does not rest on."""

    verdict: Verdict
    reasons: list[str]
    notes: list[str]
    differences: list[Weighed] = field(default_factory=list)


_WHY = ": natmirror legs --state none shows why"


def judge(found: Found, twin: Found | None, limits: Limits, paused: str | None = None) -> Outcome:
    """Return the verdict on a master. ``twin`` is what was found about the mirror that runs production's version.
    ``paused`` is the master's name as commands take it, if a command has paused it."""
    differences = weigh(found, twin)
    differs = [
        *_answers(found, twin, differences, limits),
        *_unasked(found, differences),
        *_tables(found, twin, limits),
        *_frames(found, twin),
        *_lag(found, twin),
    ]
    lacks = list(_lacks(found, twin, limits, paused))
    if not _are_enough_equal(found, twin, limits):
        lacks += _hidden(differences)
    notes = [*_allowed(found, twin, differences, limits), *_notes(found, twin, differences)]
    if differs:
        return Outcome(Verdict.DIFFERS, differs, [*lacks, *notes], differences)
    return Outcome(Verdict.TOO_LITTLE if lacks else Verdict.AGREES, lacks, notes, differences)


def in_words(one: Weighed, found: Found) -> str:
    """Return a difference with what all of its causes have in common."""
    where = one.signature.where(found.agreed)
    return one.signature.text + (f", all where {where}" if where else "")


# What differs


def _answers(found: Found, twin: Found | None, differences: Sequence[Weighed], limits: Limits) -> Iterator[str]:
    of, results = comparable(found), found.window.results
    counted = [one for one in differences if one.is_counted and one.signature.family.is_asked]
    equal, late = results[AnswerResult.EQUAL], results[AnswerResult.LATE]
    if of and not _are_enough_equal(found, twin, limits) and (counted or (twin is None and equal + late < of)):
        most = f"; most of all {in_words(counted[0], found)} ({times(counted[0].count)})" if counted else ""
        unequal = of - equal
        are = "is" if unequal == 1 else "are"
        yield f"{unequal} of {of} comparable answers {are} not equal ({share(unequal, of)}){most}"
    late_of_twin = 0.0 if twin is None else twin.window.results[AnswerResult.LATE] / max(comparable(twin), 1)
    if of and late / of > late_of_twin + _LATE:
        yield f"{late} of {of} answers came more than 2 s late"


def _are_enough_equal(found: Found, twin: Found | None, limits: Limits) -> bool:
    of_twin = 0.0 if twin is None else _different_share(twin)
    return limits.fail_below < 100 and _different_share(found) - of_twin <= 1 - limits.fail_below / 100 + _ROUNDING


def _different_share(found: Found) -> float:
    of = comparable(found)
    return 1 - found.window.results[AnswerResult.EQUAL] / of if of else 0.0


def _unasked(found: Found, differences: Sequence[Weighed]) -> Iterator[str]:
    counted = [one for one in differences if one.is_counted and not one.signature.family.is_asked]
    for one in counted[:2]:
        yield f"{in_words(one, found)} ({times(one.count)})"
    if more := len(counted[2:]):
        yield f"{more} more difference{' that answers' if more == 1 else 's that answer'} no PACKET_IN"


def _tables(found: Found, twin: Found | None, limits: Limits) -> Iterator[str]:
    window, now = found.window, found.tables.differing_count
    if not window.table_seconds or not (now or window.differing_seconds):
        return
    part = window.differing_seconds / window.table_seconds
    limit, is_now = max(_TABLES, 1 - limits.fail_below / 100), bool(now) and limits.fail_below >= 100
    if twin is not None and twin.window.table_seconds:
        of_twin = twin.window.differing_seconds / twin.window.table_seconds
        limit, is_now = max(limit, of_twin + _TABLES_OF_TWIN), is_now and of_twin < _TABLES
    if part <= limit and not is_now:
        return
    rules = f"; {now} rule{' differs' if now == 1 else 's differ'} now" if now else ""
    yield f"the tables differed for {share(window.differing_seconds, window.table_seconds)} of the time{rules}"


def _frames(found: Found, twin: Found | None) -> Iterator[str]:
    """Compare what the tables do with frames beside a twin whose tables differ by chance as well."""
    window = found.window
    if twin is None or min(window.walked, twin.window.walked) < _WALKS:
        return
    alike, of_twin = window.alike / window.walked, twin.window.alike / twin.window.walked
    if alike < of_twin - _FRAMES_OF_TWIN:
        shares = share(window.alike, window.walked), share(twin.window.alike, twin.window.walked)
        yield f"only {shares[0]} of the frames leave the switch alike by both tables, with the twin's {shares[1]}"


def _lag(found: Found, twin: Found | None) -> Iterator[str]:
    lags, median = found.window.lags, quantile(found.window.lags, 0.5)
    base = None if twin is None else quantile(twin.window.lags, 0.5)
    if median is not None and sum(lags.values()) >= _SLOW_ANSWERS and median - (base or 0.0) > _SLOW:
        beside = "" if base is None else f" (the twin's {duration(base)})"
        yield f"its answers come {duration(median)} later than production's, at the median{beside}"


# What is too little


def _lacks(found: Found, twin: Found | None, limits: Limits, paused: str | None) -> Iterator[str]:
    results, of = found.window.results, comparable(found)
    total, reasons = sum(results.values()), found.window.not_comparable
    sessions, connections = found.tables.sessions, found.tables.connections
    if paused is not None:
        yield f"a command has paused the mirror: natmirror mirror resume {paused}"
    elif not sessions:
        yield f"the master has no session now{_WHY if connections else ''}"
    elif sessions < (1 - _WITHOUT_SESSION) * connections:
        yield f"only {sessions} of {connections} connections of switches have a session that is compared{_WHY}"
    if of < limits.at_least:
        warm = reasons[NotComparable.WARM_UP]
        rest = f"; {warm} more came in the warm-up" if warm else ""
        yield f"{of} comparable answers, of {limits.at_least} that are needed{rest}"
    asked = total - reasons[NotComparable.WARM_UP]
    if of < _LEAST_COMPARABLE * asked:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common() if count)
        yield f"only {of} of {total} PACKET_INs are comparable ({share(of, total)}): {why}"
    if not found.window.table_seconds:
        yield "the flow tables were not compared"
    tables = found.tables
    if not_followed := sum(tables.not_followed.values()):
        why = ", ".join(f"{count} {reason}" for reason, count in tables.not_followed.most_common())
        yield f"the tables of {not_followed} of {tables.connections} switches are not followed: {why}"
    if twin is not None and comparable(twin) < limits.at_least:
        yield f"the twin has {comparable(twin)} comparable answers, of {limits.at_least} that are needed"


def _hidden(differences: Sequence[Weighed]) -> Iterator[str]:
    """Name the differences beside a twin that nothing could tell from chance."""
    if hidden := [one for one in differences if one.has_few_hosts and not one.is_counted]:
        count = sum(one.count for one in hidden)
        yield (
            f"{count} difference{'' if count == 1 else 's'} cannot be told from chance ({hidden[0].signature.text}):"
            " the twin draws values for each host, and too few hosts were seen"
        )


# What the operator should know


def _allowed(found: Found, twin: Found | None, differences: Sequence[Weighed], limits: Limits) -> Iterator[str]:
    counted = sum(one.count for one in differences if one.is_counted and one.signature.family.is_asked)
    if counted and _are_enough_equal(found, twin, limits):
        are = "difference of answers is" if counted == 1 else "differences of answers are"
        yield f"{counted} {are} let pass, since {limits.fail_below:g} % of equal answers are enough"


def _notes(found: Found, twin: Found | None, differences: Sequence[Weighed]) -> Iterator[str]:
    window = found.window
    families = [one.signature.family for one in differences if one.is_counted]
    if any(one.kind in _LATER_ASKS and one.field != "actions" for one in families):
        yield (
            "with other rules in the switch the master would get other PACKET_INs, often more, than those that"
            " production's rules let through"
        )
    if found.tables.differing_count and window.walked and window.alike == window.walked:
        yield "all frames that were tried leave the switch alike by both tables"
    if noise := [one for one in differences if not one.is_counted and not one.has_few_hosts]:
        count = sum(one.count for one in noise)
        yield (
            f"{count} difference{' does' if count == 1 else 's do'} not count: the twin has as many, or so few more"
            " that it may be chance"
        )
    if twin is None and any(one.signature.text.endswith(": other values") for one in differences):
        yield "a value changes from answer to answer: if production draws it by lot, name a twin in the rules"
    if lack := max(found.tables.lacked_memory, found.tables.not_followed[NotFollowed.NO_MEMORY]):
        yield (
            f"memory was short for {_connections(lack)}: raise mirror-memory in the rules (docs/verdict.md says by how"
            " much)"
        )
    if found.tables.left_out:
        yield (
            f"the process that compares was behind, and left out messages of {_connections(found.tables.left_out)}:"
            " other work takes the processor time of this host (docs/verdict.md says how much it needs)"
        )
    if window.other_differences:
        yield f"{window.other_differences} more differences are counted without their words"
    if found.earlier_differences:
        yield f"{found.earlier_differences} differences came before: --since with an earlier time shows them"


def _connections(count: int) -> str:
    return f"{count} connection of a switch" if count == 1 else f"{count} connections of switches"
