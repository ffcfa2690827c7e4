"""Overrides in words: for events, for answers to commands, and as the API shows them."""

from collections.abc import Iterable

from natmirror.api import times
from natmirror.rules import Override, OverrideKind, Overrides, Rules
from natmirror.rules.overrides import has_subject
from natmirror.runtime.shown import OverrideEntry

_MAX_NAMES = 20  # known names that an error lists


def lost(before: Overrides, after: Overrides) -> list[Override]:
    """Return the overrides that are only in the first of these."""
    return [one for one in before if one.key not in after.by_key]


def text_of(one: Override) -> str:
    """Return what an override says, in a few words."""
    match one.kind:
        case OverrideKind.WEIGHT:
            return f"{one.subject} has weight {one.weight}"
        case OverrideKind.DRAIN:
            return f"{one.subject} is drained"
        case OverrideKind.PAUSE:
            return f"mirror {one.subject} is paused"
        case OverrideKind.ADD:
            return f"{one.subject} at {one.place} is added"
        case OverrideKind.REMOVE:
            return f"{one.subject} at {one.place} is removed"


def why_dropped(one: Override, rules: Rules) -> str:
    """Return why an override does not fit the rules, as the end of a sentence."""
    if one.kind is OverrideKind.ADD:
        if has_subject(rules, one):
            return "the rules have it now"
        return "the rules have another backend of its name or address, or would refuse it"
    if one.kind is OverrideKind.REMOVE and has_subject(rules, one):
        return "the rules have no other backend in its pool"
    return f"the rules no longer have {one.name} at {one.place}"


def known(names: Iterable[str]) -> str:
    """Return the known names for an error."""
    found = list(names)
    more = len(found) - _MAX_NAMES
    return ", ".join(found[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def shown(one: Override) -> OverrideEntry:
    """Return an override as values for JSON."""
    return {
        "kind": one.kind,
        "service": one.service,
        "backend": None if one.is_of_mirror else one.name,
        "mirror": one.name if one.is_of_mirror else None,
        "weight": one.weight if one.backend is None else one.backend.weight,
        "resets_at": None if one.until is None else times.show(one.until),
        "since": times.show(one.at),
        "address": one.place,
        "kept": one.is_kept,
    }
