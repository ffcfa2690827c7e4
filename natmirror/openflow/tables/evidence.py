"""What a PACKET_IN proves about production's rules: the switch has no rule that would have kept the frame.

A rule whose idle timeout ends leaves without a word, unless it reports its removal. The next frame that it would have
matched then comes to the controller.
"""

from collections.abc import Mapping

from natmirror.openflow.bodies.elements import ReservedPort
from natmirror.openflow.bodies.values import PacketIn
from natmirror.openflow.tables.entries import actions_of, sends_to_port
from natmirror.openflow.tables.frame import entering, is_cut_off
from natmirror.openflow.tables.packed import PackedFrame
from natmirror.openflow.tables.production import ProductionModel, Removal
from natmirror.openflow.tables.steps import Steps

_BY_RULES = (0, 1)  # OFPR_NO_MATCH and OFPR_ACTION (1.3.5 §7.4.1): a rule of the message's table sent the frame
_MAX_RULES = 8  # rules that one frame proves to be gone


def prove_gone(
    model: ProductionModel, packet_in: PacketIn, fields: Mapping[str, int], packed: PackedFrame, now: float
) -> Steps[list[Removal]]:
    """Remove the rules that a PACKET_IN proves to be gone, and return them. ``fields`` are the frame's, and ``packed``
    the same as integers.

    Only a rule that may be gone anyway is removed: a PACKET_IN may be older than the rule.
    """
    removals: list[Removal] = []
    if packet_in.reason not in _BY_RULES or is_cut_off(fields):
        return removals
    entered = entering(packed)
    while (index := model.state.index(packet_in.table)) is not None and len(removals) < _MAX_RULES:
        found = index.find(entered)
        if len(found) != 1 or not model.is_doubtful(found[0], now):
            break
        rule = found[0]
        if sends_to_port(rule.instructions, ReservedPort.CONTROLLER) or any(
            one.name not in ("output", "enqueue", "set_field") for one in actions_of(rule.instructions)
        ):
            break  # it may have sent the frame itself
        removals.append((yield from model.prove_gone(rule, now)))
    return removals
