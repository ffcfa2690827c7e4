"""Decodes FLOW_MOD and FLOW_REMOVED: 1.0.0 §5.3.3 and §5.4.3, 1.3.5 §7.3.4.1 and §7.4.2, 1.5.1 §7.3.4.2 and §7.4.2."""

from struct import Struct

from natmirror.openflow.bodies.elements import MalformedBody, Match
from natmirror.openflow.bodies.instructions import decode_instructions
from natmirror.openflow.bodies.matches import decode_fields, decode_match
from natmirror.openflow.bodies.oxs import decode_stats
from natmirror.openflow.bodies.v10_matches import V10_MATCH_LEN, decode_v10_match
from natmirror.openflow.bodies.v10_ports import widen_port
from natmirror.openflow.bodies.values import FlowCommand, FlowFlag, FlowMod, FlowRemoved
from natmirror.openflow.messages import V10, V14, V15

_V10_FLOW_MOD, _FLOW_MOD = Struct("!QHHHHIHH"), Struct("!QQBBHHHIIIHH")
_NICIRA_FLOW_MOD = Struct("!QHHHHIHHH6x")  # nx_flow_mod of Open vSwitch
_V10_FLOW_REMOVED, _FLOW_REMOVED, _V15_FLOW_REMOVED = Struct("!QHBxIIH2xQQ"), Struct("!QHBBIIHHQQ"), Struct("!BBHHHQ")
_V10_WILDCARDS = Struct("!I")
_V10_ALL_WILDCARDS = (1 << 22) - 1
_HIGHEST_PRIORITY = 0xFFFF
_COMMANDS = tuple(FlowCommand)
_COOKIE = "cookie"
"""The field by which NXT_FLOW_MOD compares the cookies of flows; a modification then adds nothing."""
_ALL_OF_COOKIE = (1 << 64) - 1
_BILLION = 1_000_000_000


def decode_flow_mod(version: int, body: bytes) -> FlowMod:
    """Decode a FLOW_MOD."""
    if version == V10:
        match = decode_v10_match(body, 0)
        fields = _V10_FLOW_MOD.unpack_from(body, V10_MATCH_LEN)
        if not _V10_WILDCARDS.unpack_from(body)[0] & _V10_ALL_WILDCARDS:
            # 1.0.0 §3.4: an entry without wildcards has the highest priority
            fields = (*fields[:4], _HIGHEST_PRIORITY, *fields[5:])
        return _v10_flow_mod(match, fields, body[V10_MATCH_LEN + _V10_FLOW_MOD.size :])
    cookie, mask, table, number, idle, hard, priority, buffer_id, out_port, group, flags, importance = (
        _FLOW_MOD.unpack_from(body)
    )
    match, at = decode_match(body, _FLOW_MOD.size)
    command = _command(number)
    if command.is_delete:
        return FlowMod(
            command,
            table,
            priority if command.is_strict else 0,
            match,
            (),
            cookie & mask,
            mask,
            out_port=out_port,
            out_group=group,
        )
    instructions = decode_instructions(version, body[at:])
    if command is FlowCommand.ADD:
        importance = importance if version >= V14 else 0
        return FlowMod(
            command, table, priority, match, instructions, cookie, 0, idle, hard, flags, importance, buffer_id=buffer_id
        )
    # 1.3.5 §6.4: a modification leaves the timeouts, the flags and the cookie as they are
    return FlowMod(
        command,
        table,
        priority if command.is_strict else 0,
        match,
        instructions,
        cookie & mask,
        mask,
        flags=flags & FlowFlag.RESET_COUNTS,
        buffer_id=buffer_id,
    )


def _command(number: int) -> FlowCommand:
    if number >= len(_COMMANDS):
        raise MalformedBody(f"the FLOW_MOD has the command {number}")
    return _COMMANDS[number]


def _v10_flow_mod(match: Match, fields: tuple[int, ...], actions: bytes, cookie_mask: int = 0) -> FlowMod:
    """Return the value of 1.0's FLOW_MOD, or of Open vSwitch's extension of it. MODIFY adds a flow if there is none.

    With another extension the command's upper byte is the flow table.
    """
    cookie, number, idle, hard, priority, buffer_id, out_port, flags = fields
    table, command = number >> 8, _command(number & 0xFF)
    if command.is_delete:
        return FlowMod(
            command,
            table,
            priority if command.is_strict else 0,
            match,
            (),
            cookie & cookie_mask,
            cookie_mask,
            out_port=widen_port(out_port),
        )
    instructions = decode_instructions(V10, actions)
    return FlowMod(
        command, table, priority, match, instructions, cookie, cookie_mask, idle, hard, flags, buffer_id=buffer_id
    )


def decode_nicira_flow_mod(body: bytes) -> FlowMod:
    """Decode NXT_FLOW_MOD, a FLOW_MOD with NXM fields in OpenFlow 1.0. ``body`` begins after the subtype."""
    *fields, match_len = _NICIRA_FLOW_MOD.unpack_from(body)
    at = _NICIRA_FLOW_MOD.size
    end = at + match_len
    if end > len(body):
        raise MalformedBody("the match is cut off")
    match = decode_fields(body, at, end)
    actions = body[at + (match_len + 7 & ~7) :]
    cookies = [one for one in match if one.name == _COOKIE]
    if not cookies:
        return _v10_flow_mod(match, tuple(fields), actions)
    match = tuple(one for one in match if one.name != _COOKIE)
    cookie, mask = cookies[0].value, cookies[0].mask
    return _v10_flow_mod(match, (cookie, *fields[1:]), actions, _ALL_OF_COOKIE if mask is None else mask)


def decode_flow_removed(version: int, body: bytes) -> FlowRemoved:
    """Decode a FLOW_REMOVED."""
    if version == V10:
        cookie, priority, reason, seconds, nanoseconds, idle, packets, octets = _V10_FLOW_REMOVED.unpack_from(
            body, V10_MATCH_LEN
        )
        match = decode_v10_match(body, 0)
        duration = seconds + nanoseconds / _BILLION
        return FlowRemoved(0, priority, match, cookie, reason, idle, 0, duration, packets, octets)
    if version == V15:
        table, reason, priority, idle, hard, cookie = _V15_FLOW_REMOVED.unpack_from(body)
        match, at = decode_match(body, _V15_FLOW_REMOVED.size)
        stats, _ = decode_stats(body, at)
        duration, packets, octets = stats.duration, stats.packets, stats.bytes
        return FlowRemoved(table, priority, match, cookie, reason, idle, hard, duration, packets, octets)
    cookie, priority, reason, table, seconds, nanoseconds, idle, hard, packets, octets = _FLOW_REMOVED.unpack_from(body)
    match, _ = decode_match(body, _FLOW_REMOVED.size)
    duration = seconds + nanoseconds / _BILLION
    return FlowRemoved(table, priority, match, cookie, reason, idle, hard, duration, packets, octets)
