"""The elements of which the bodies of OpenFlow messages consist: ports, match fields, actions and instructions.

All are immutable, hashable and canonical. Match fields have the names of OpenFlow's OXM fields in lower case
(``eth_src``, ``ipv4_dst``, ``vlan_vid``; fields.py lists them) in all versions. Actions and instructions have the words
of ``ovs-ofctl``. Ports are 32 bits wide.
"""

from enum import IntEnum
from typing import Any, NamedTuple

NO_BUFFER = 0xFFFF_FFFF
ALL_TABLES = 0xFF
ANY_GROUP = 0xFFFF_FFFF
ALL_GROUPS = 0xFFFF_FFFC
ALL_METERS = 0xFFFF_FFFF


class MalformedBody(ValueError):
    """The bytes are no message of this type and version."""


class ReservedPort(IntEnum):
    """OFPP_* (1.3.5 §7.2.1). 1.0's 16-bit numbers are widened to these; its NONE is ANY."""

    UNSET = 0xFFFF_FFF7
    IN_PORT = 0xFFFF_FFF8
    TABLE = 0xFFFF_FFF9
    NORMAL = 0xFFFF_FFFA
    FLOOD = 0xFFFF_FFFB
    ALL = 0xFFFF_FFFC
    CONTROLLER = 0xFFFF_FFFD
    LOCAL = 0xFFFF_FFFE
    ANY = 0xFFFF_FFFF


class MatchField(NamedTuple):
    """A field with the value that it must have, or that set_field gives it.

    ``mask`` has a one for each bit that counts, and is None where all bits count. ``value`` has zeros elsewhere.
    """

    name: str
    value: int
    mask: int | None = None


Match = tuple[MatchField, ...]
"""The fields of a match, sorted by name, each name once. An empty match fits any packet."""


class Action(NamedTuple):
    """An action by its name, with arguments.

    ========================================  ==================================================================
    name                                      arguments
    ========================================  ==================================================================
    output                                    port; for CONTROLLER also the bytes to send, 65,535 for all
    enqueue                                   port, queue (1.0)
    group, set_queue, meter                   number
    set_field                                 MatchField, with a mask from 1.5 on
    mod_vlan_vid, mod_vlan_pcp, mod_dl_src,   new value (1.0); of mod_nw_tos all eight bits
    mod_dl_dst, mod_nw_src, mod_nw_dst,
    mod_nw_tos, mod_tp_src, mod_tp_dst
    strip_vlan, pop_vlan, pop_pbb, dec_ttl,   none (strip_vlan is 1.0's pop_vlan)
    dec_mpls_ttl, copy_ttl_in, copy_ttl_out
    push_vlan, push_mpls, pop_mpls, push_pbb  EtherType
    mod_nw_ttl, set_mpls_ttl                  time to live
    move                                      bits, source, its first bit, destination, its first bit (names)
    load                                      MatchField: the bits of a field that it sets (Open vSwitch)
    resubmit                                  port, table; ANY and ALL_TABLES for the current ones (Open vSwitch)
    set_tunnel, set_tunnel64                  tunnel id (Open vSwitch)
    controller                                bytes to send, controller's id, reason (Open vSwitch)
    conjunction                               clause from 0 on, number of clauses, id (Open vSwitch)
    note                                      bytes that the switch ignores (Open vSwitch)
    exit, pop_queue                           none (Open vSwitch)
    experimenter                              experimenter's id, body: opaque
    unknown                                   action type, body: opaque
    ========================================  ==================================================================
    """

    name: str
    args: tuple[Any, ...] = ()


Actions = tuple[Action, ...]


class Instruction(NamedTuple):
    """An instruction by its name, with arguments.

    In the order of execution (1.3.5 §5.9): meter (number), apply_actions (Actions, not empty), clear_actions,
    write_actions (Actions, as ``action_set`` orders them), write_metadata (value, mask), goto_table (number); after
    them stat_trigger, experimenter and unknown (type, body: opaque). 1.0's actions are one apply_actions.
    """

    name: str
    args: tuple[Any, ...] = ()


Instructions = tuple[Instruction, ...]


def in_port_of(match: Match) -> int:
    """Return the port that a match has; ANY if it has none."""
    for field in match:
        if field.name == "in_port":
            return field.value
    return ReservedPort.ANY
