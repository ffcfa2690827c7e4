"""Whether a PACKET_IN tells anything about a master: only if its own rules would have sent it, too.

Judged when the master got it: by then its rules have come that the same frames have caused before. What the master does
with a PACKET_IN that it would never have got is no answer.
"""

from natmirror.openflow.comparison.causes import Cause
from natmirror.openflow.comparison.results import NotComparable
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.steps import Steps
from natmirror.openflow.tables.walk import Outcome, walk

GRACE = 0.5
"""Seconds for which a rule may be on its way to the switch: a PACKET_IN may be older."""
_BY_RULES = frozenset((0, 1, 3, 4))  # OFPR_* (1.5.1 §7.4.1): no match, action, action set, group
_MAX_ENDED = 8  # rules that one PACKET_IN shows to have ended


def why_not_comparable(
    mirror: MirrorModel, production: ProductionModel, cause: Cause, now: float
) -> Steps[NotComparable | None]:
    """Return why a PACKET_IN that a master gets now is not comparable; None if it is."""
    packet_in = cause.packet_in
    if production.state.not_followed is not None or packet_in.reason not in _BY_RULES:
        return NotComparable.NOT_KNOWN
    for _ in range(_MAX_ENDED):
        outcome = walk(mirror, cause.fields, now, table=packet_in.table, packed=cause.there)
        if outcome.goes_to_controller or any(now - rule.modified_at < GRACE for rule in outcome.met):
            mirror.note_use(outcome.met, now)
            return None
        if not mirror.end_idle(outcome.met, now):
            return _why_kept(mirror, production, cause, outcome, now)
        yield
    return NotComparable.NOT_KNOWN


def _why_kept(
    mirror: MirrorModel, production: ProductionModel, cause: Cause, outcome: Outcome, now: float
) -> NotComparable | None:
    """Return why a frame that the mirror's rules keep from the controller is not comparable.

    Where no rule of production's model has sent it, a rule has that was there before: the mirror's switch would have
    it, too.
    """
    if outcome.unknown is not None or outcome.may_go_to_controller:
        return NotComparable.NOT_KNOWN
    if outcome.is_doubtful and not _sends(production, cause, now):
        return NotComparable.NOT_KNOWN if outcome.met else None
    mirror.note_use(outcome.met, now)
    return NotComparable.OWN_RULE if outcome.outputs else NotComparable.NO_RULE


def _sends(model: Model, cause: Cause, now: float) -> bool:
    outcome = walk(model, cause.fields, now, table=cause.packet_in.table, packed=cause.there)
    return outcome.goes_to_controller
