"""A match, and the fields of a frame, as integers, so that comparing two of them costs one operation for all fields.

Each field has its bits at a fixed place of one large integer. A match is then a mask and a value; a frame is the mask
of the fields that it has, and their values. A field without a place, such as an experimenter's, is kept beside them.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from natmirror.openflow.bodies.elements import Match, MatchField
from natmirror.openflow.bodies.fields import BASIC, FIELDS, HEADERS


def _places() -> dict[str, tuple[int, int, int]]:
    """Return the place of each field: its first bit, the mask of its value, and the same mask at its place. The usual
    fields come first, so that most integers are short."""
    places, at = {}, 0
    for name, field in sorted(FIELDS.items(), key=lambda one: (HEADERS[one[0]][0] != BASIC, one[1].bits > 64)):
        places[name] = (at, field.all_ones, field.all_ones << at)
        at += field.bits
    return places


_PLACES = _places()
_HIDDEN_NAMES = (
    *("ct_", "tun_", "recirc_id", "dp_hash", "conj_id", "ip_frag", "nw_ttl", "mpls_", "pbb_", "tcp_flags"),
    *("pkt_mark", "ipv6_exthdr", "packet_type"),
)
HIDDEN = sum(bits for name, (_, _, bits) in _PLACES.items() if name.startswith(_HIDDEN_NAMES))
"""The bits of the fields that a frame may have though its PACKET_IN does not show them."""


NO_OTHERS: frozenset[MatchField] = frozenset()


class PackedMatch(NamedTuple):
    """A match: a frame is covered if it has all bits of ``mask`` and they have the values of ``value``."""

    mask: int
    value: int
    others: frozenset[MatchField] = NO_OTHERS
    """Fields without a place."""


class PackedFrame(NamedTuple):
    """A frame's fields: the bits that it has, and their values."""

    present: int
    value: int


ALL = PackedMatch(0, 0)
"""The match that covers each frame."""


def pack_match(match: Match) -> PackedMatch:
    """Return a match as integers."""
    mask_bits, value_bits, others = 0, 0, []
    for one in match:
        name, value, mask = one
        place = _PLACES.get(name)
        if place is None:
            others.append(one)
            continue
        shift, full, bits = place
        if mask is None:
            mask_bits |= bits
            value_bits |= (value & full) << shift
        else:
            mask_bits |= (mask & full) << shift
            value_bits |= (value & mask & full) << shift
    return PackedMatch(mask_bits, value_bits, frozenset(others) if others else NO_OTHERS)


def pack_frame(fields: Mapping[str, int]) -> PackedFrame:
    """Return a frame's fields as integers; fields without a place are left out."""
    present, value_bits = 0, 0
    for name, value in fields.items():
        place = _PLACES.get(name)
        if place is not None:
            shift, full, bits = place
            present |= bits
            if value:
                value_bits |= (value & full) << shift
    return PackedFrame(present, value_bits)


def covers(general: PackedMatch, special: PackedMatch) -> bool:
    """Return whether all frames of ``special`` are frames of ``general`` too (1.3.5 §6.4: a command that is not strict
    applies to the rules that its match covers)."""
    return (
        special.mask & general.mask == general.mask
        and not (special.value ^ general.value) & general.mask
        and general.others <= special.others
    )


def overlaps(one: PackedMatch, other: PackedMatch) -> bool:
    """Return whether a frame can have both matches. A field without a place excludes nothing, unless the same field has
    two values without masks."""
    if (one.value ^ other.value) & one.mask & other.mask:
        return False
    return not (one.others and other.others and _exclude_each_other(one.others, other.others))


def _exclude_each_other(one: Iterable[MatchField], other: Iterable[MatchField]) -> bool:
    exact = {field.name: field.value for field in one if field.mask is None}
    return any(field.mask is None and exact.get(field.name, field.value) != field.value for field in other)
