"""Which differences count beside a twin: a mirror that runs production's own version.

What such a mirror does otherwise than production is no difference between versions, but chance or timing in both: a
controller may draw its timeouts by lot. So a difference counts if the master has it more often than the twin, in the
same field with the same value, and more often than chance explains. No field is left out of the comparison: a priority
11 counts though production draws 10 or 12.

The same PACKET_INs are answered by both mirrors, and compared with the same answers of production. That makes the two
counts rise and fall together, so the test says too rarely, not too often, that they differ.

Chance may draw a value for each answer, or once for each host. The twin shows which: in what it does otherwise than
production in the same field, answers about one host are alike or not (hosts.py). If they are, hosts are counted in
place of answers; a few of many answers about a host are no draw for it, but as many answers as they are alike count as
one. Where the twin never differs in a field, chance draws nothing there, and each answer counts.

Ends of sessions are no share of answers. Both mirrors have had sessions for the same time, so each end is as likely the
master's as the twin's if chance alone ends them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from natmirror.openflow.comparison.found import Found
from natmirror.openflow.comparison.hosts import PLACES, differing_hosts, repetition, share_about_hosts
from natmirror.openflow.comparison.proportions import chance_of_more
from natmirror.openflow.comparison.results import AnswerResult, DifferenceKind
from natmirror.openflow.comparison.signatures import Family, Level, Signature

MAX_CHANCE = 0.01
"""One verdict of a hundred on an equal controller may call chance a difference. The limit is divided by the number of
tests that a verdict makes (Bonferroni)."""
_ALIKE = 2.0
"""From how many answers of the twin about a host that are like one on, hosts are counted."""
_DRAWN = 0.1
"""Hosts are counted only if so large a part differs of the twin's answers about those hosts of which any does."""
_MANY = 1000
"""As many occasions for each end of a session make Fisher's test the binomial one."""
_TIMEOUT = "_timeout="
"""In the line of a rule that leaves the switch by itself: a controller makes such rules as answers, a little late or
again, but not as its programme."""


@dataclass(slots=True)
class Weighed:
    """A signature, how often it was found, and whether it counts."""

    signature: Signature
    count: int
    is_counted: bool = True
    twin_count: int | None = None
    chance: float | None = None
    """None where nothing is compared by rates: without a twin, and for what answers no PACKET_IN."""
    has_few_hosts: bool = False
    """Whether it does not count because hosts are counted, and so few were seen that nothing could."""


def comparable(found: Found) -> int:
    """Return the number of comparable answers."""
    results = found.window.results
    return sum(results.values()) - results[AnswerResult.NOT_COMPARABLE]


def weigh(found: Found, twin: Found | None) -> list[Weighed]:
    """Return the differences, each with whether it counts: what counts first, then the most frequent."""
    weighed = [Weighed(one, count) for one, _, count in found.signatures if count]
    if twin is not None:
        _compare(weighed, found, twin)
    return sorted(weighed, key=lambda one: (not one.is_counted, -one.count, one.signature.first_at))


def _compare(weighed: Sequence[Weighed], found: Found, twin: Found) -> None:
    levels = {one.family: level for one, level, _ in found.signatures}
    levels_of_twin = {one.family: level for one, level, _ in twin.signatures}
    families = {one.signature.family for one in weighed if one.signature.family.is_asked}
    tests = sum(one.signature.family.is_asked for one in weighed) + len(families)
    limit = MAX_CHANCE / max(tests, 1)
    of_twin = comparable(twin)
    noise = {family: _Noise(family, found, twin) for family in families}
    is_quiet = not twin.window.results[AnswerResult.DIFFERS] + twin.window.results[AnswerResult.UNANSWERED]
    for one in weighed:
        family = one.signature.family
        has_values = Level.NOTHING not in (levels[family], levels_of_twin.get(family, Level.TEXT))
        one.twin_count = _count(twin, family, one.signature if has_values else None)
        if family.kind is DifferenceKind.SESSION_ENDED:
            ends = sum(other.count for other in weighed if other.signature.family == family)
            one.is_counted = _are_more_ends(ends, _count(twin, family, None), limit)
        elif not family.is_asked:
            one.is_counted = not _count(twin, family, None) and (
                is_quiet or _is_more_than_chance(one, found, of_twin, limit)
            )
        elif has_values:
            one.chance = noise[family].chance([one], one.signature, one.twin_count)
            one.is_counted = one.chance < limit
    for family in families:
        members = [one for one in weighed if one.signature.family == family]
        if any(one.is_counted and one.chance is not None for one in members):
            continue
        whole = noise[family].chance(members, None, _count(twin, family, None))
        for one in members:
            one.chance = whole if one.chance is None else min(one.chance, whole)
            one.is_counted = whole < limit
            one.has_few_hosts = noise[family].least_chance >= limit


class _Noise:
    """What chance makes of one family."""

    def __init__(self, family: Family, found: Found, twin: Found) -> None:
        self._found, self._twin = found, twin
        self._theirs = [one for one, _, count in twin.signatures if one.family == family and count]
        self._repetition, self._place = max((self._repetition_by(place), place) for place in PLACES)
        differing = [one.hosts.by(self._place) for one in self._theirs]
        is_drawn = share_about_hosts(differing, twin.hosts.by(self._place)) >= _DRAWN
        self._counts_hosts = is_drawn and self._repetition >= _ALIKE

    def _repetition_by(self, place: str) -> float:
        """Return how many of the twin's answers about a host are like one."""
        answers = self._twin.hosts.by(place)
        found = sum(one.count * repetition(one.hosts.by(place), answers) for one in self._theirs)
        return found / max(sum(one.count for one in self._theirs), 1)

    def chance(self, ones: Sequence[Weighed], signature: Signature | None, count_of_twin: int) -> float:
        """Return the probability of so many differences, or more, beside the twin's: of those with a signature's value,
        or with None of the whole family."""
        of, of_twin = comparable(self._found), comparable(self._twin)
        count, count_of_twin = min(sum(one.count for one in ones), of), min(count_of_twin, of_twin)
        if not self._counts_hosts:
            numbers = (count, of, count_of_twin, of_twin)
            return chance_of_more(*(round(number / max(self._repetition, 1.0)) for number in numbers))
        theirs = [one for one in self._theirs if signature is None or _is_same(one, signature)]
        sides = (
            ([one.signature for one in ones], self._found, count / max(of, 1)),
            (theirs, self._twin, count_of_twin / max(of_twin, 1)),
        )
        mine, others = (
            differing_hosts([one.hosts.by(self._place) for one in some], found.hosts.by(self._place), share)
            for some, found, share in sides
        )
        return chance_of_more(*mine, *others)

    @property
    def least_chance(self) -> float:
        """The probability of the largest difference that there can be: about all hosts, beside none of the twin's."""
        if not self._counts_hosts:
            return 0.0
        of, of_twin = (sum(map(bool, found.hosts.by(self._place))) for found in (self._found, self._twin))
        return chance_of_more(of, of, 0, of_twin)


def _are_more_ends(count: int, count_of_twin: int, limit: float) -> bool:
    """Return whether sessions have ended more often than the twin's, and than chance explains: any, if the twin's have
    not."""
    both = _MANY * (count + count_of_twin)
    return not count_of_twin or chance_of_more(count, both, count_of_twin, both) < limit


def _is_more_than_chance(one: Weighed, found: Found, of_twin: int, limit: float) -> bool:
    """Return whether a difference that answers no PACKET_IN, and that the twin does not have, is more than one that
    happens now and then beside a noisy production: it is about rules that stay, or it is frequent."""
    of = comparable(found)
    return _lasts(one.signature) or chance_of_more(min(one.count, of), of, 0, of_twin) < limit


def _lasts(signature: Signature) -> bool:
    """Return whether the rules of a difference stay in the switch, as those of a programme do, or are not known."""
    if signature.example is None:
        return True
    evidence = signature.example.evidence
    return not any(_TIMEOUT in line for line in (*evidence.production, *evidence.mirror))


def _count(twin: Found, family: Family, signature: Signature | None) -> int:
    """Return how often the twin differs in a family, or in it with a signature's value."""
    return sum(
        count
        for one, _, count in twin.signatures
        if one.family == family and (signature is None or _is_same(one, signature))
    )


def _is_same(one: Signature, other: Signature) -> bool:
    """Return whether two signatures of a family have the same value, or without values the same text."""
    return one.value == other.value if one.value or other.value else one.text == other.text
