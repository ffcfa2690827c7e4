"""The rules of one flow table, found by what they match.

Rules with the same mask share a dictionary from the values of the masked bits to rules (the tuple space search of
Srinivasan, Suri and Varghese, 1999, which Open vSwitch uses too). So to find the rule for a frame costs one look-up for
each mask in use, and not one comparison for each rule.
"""

from collections.abc import Iterator

from natmirror.openflow.tables.entries import Rule
from natmirror.openflow.tables.packed import HIDDEN, PackedFrame, PackedMatch, covers, overlaps

MAX_MASKS = 512
"""Masks of one table that are in use, and as many rules with fields that frames do not show."""


class RuleIndex:
    """The rules of one table."""

    def __init__(self) -> None:
        self._by_mask: dict[int, dict[int, list[Rule]]] = {}  # the rules of one value: the highest priority first
        self._special: dict[Rule, None] = {}
        """Rules whose match has fields without a place in a packed match."""
        self.count = 0

    def has_room_for(self, match: PackedMatch) -> bool:
        """Return whether a rule may be added: each mask in use costs time for each frame."""
        if match.others:
            return len(self._special) < MAX_MASKS
        return len(self._by_mask) < MAX_MASKS or match.mask in self._by_mask

    def add(self, rule: Rule) -> None:
        self.count += 1
        if rule.packed.others:
            self._special[rule] = None
            return
        alike = self._by_mask.setdefault(rule.packed.mask, {}).setdefault(rule.packed.value, [])
        at = next((at for at, one in enumerate(alike) if one.key.priority < rule.key.priority), len(alike))
        alike.insert(at, rule)

    def remove(self, rule: Rule) -> None:
        self.count -= 1
        if rule.packed.others:
            del self._special[rule]
            return
        by_value = self._by_mask[rule.packed.mask]
        alike = by_value[rule.packed.value]
        alike.remove(rule)
        if not alike:
            del by_value[rule.packed.value]
            if not by_value:
                del self._by_mask[rule.packed.mask]

    def find(self, frame: PackedFrame) -> list[Rule]:
        """Return the rules of the highest priority that match a frame: usually one, or none. Rules of equal priority
        may overlap; then the switch decides which one it uses (1.3.5 §5.3)."""
        best: list[Rule] = []
        for mask, by_value in self._by_mask.items():
            if mask & ~frame.present:
                continue
            alike = by_value.get(frame.value & mask)
            if alike is None:
                continue
            if not best or alike[0].key.priority > best[0].key.priority:
                best = [alike[0]]
            elif alike[0].key.priority == best[0].key.priority:
                best.append(alike[0])
        return best

    def may_match(self, frame: PackedFrame) -> Iterator[Rule]:
        """Yield the rules of which only the switch knows if they match a frame: they have fields that the frame's bytes
        do not show, such as the state of a connection, and all their other fields match."""
        for rule in self._special:
            if not rule.packed.mask & ~(frame.present | HIDDEN):
                shown = rule.packed.mask & frame.present
                if not (rule.packed.value ^ frame.value) & shown:
                    yield rule
        for mask, by_value in self._by_mask.items():
            missing = mask & ~frame.present
            if missing and not missing & ~HIDDEN:
                shown = mask & frame.present
                for value, alike in by_value.items():
                    if not (value ^ frame.value) & shown:
                        yield from alike

    def covered_by(self, match: PackedMatch) -> list[Rule]:
        """Return the rules whose frames are all frames of ``match``."""
        found = [rule for rule in self._special if covers(match, rule.packed)]
        if match.others:
            return found
        for mask, by_value in self._by_mask.items():
            if mask == match.mask:
                found += by_value.get(match.value, ())
            elif mask & match.mask == match.mask:
                for value, alike in by_value.items():
                    if not (value ^ match.value) & match.mask:
                        found += alike
        return found

    def overlapping(self, match: PackedMatch) -> Iterator[Rule]:
        """Yield the rules that a frame of ``match`` may have too."""
        for rule in self._special:
            if overlaps(rule.packed, match):
                yield rule
        for mask, by_value in self._by_mask.items():
            common = mask & match.mask
            if common == mask:
                yield from by_value.get(match.value & mask, ())
                continue
            wanted = match.value & common
            for value, alike in by_value.items():
                if value & common == wanted:
                    yield from alike
