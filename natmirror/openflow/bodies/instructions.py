"""Decodes and encodes instructions (1.3.5 §7.2.4). 1.0 has actions instead, which are executed at once."""

from enum import IntEnum
from struct import Struct

from natmirror.openflow.bodies.action_sets import action_set
from natmirror.openflow.bodies.actions import decode_actions, encode_actions
from natmirror.openflow.bodies.elements import Instruction, Instructions, MalformedBody
from natmirror.openflow.messages import V10

_HEAD = Struct("!HH")
_GOTO_BODY, _METADATA_BODY, _METER_BODY, _CLEAR_BODY = Struct("!B3x"), Struct("!4xQQ"), Struct("!I"), Struct("!4x")


class _Kind(IntEnum):
    """OFPIT_*."""

    GOTO_TABLE = 1
    WRITE_METADATA = 2
    WRITE_ACTIONS = 3
    APPLY_ACTIONS = 4
    CLEAR_ACTIONS = 5
    METER = 6
    STAT_TRIGGER = 7
    EXPERIMENTER = 0xFFFF


_ACTIONS_AT = 4  # after padding
_ORDER = {
    "meter": 0,
    "apply_actions": 1,
    "clear_actions": 2,
    "write_actions": 3,
    "write_metadata": 4,
    "goto_table": 5,
    "stat_trigger": 6,
    "experimenter": 7,
    "unknown": 8,
}
"""The order of execution (1.3.5 §5.9)."""


def decode_instructions(version: int, raw: bytes) -> Instructions:
    """Decode instructions into the order of their execution. Those without an effect are left out."""
    if version == V10:
        actions = decode_actions(version, raw)
        return (Instruction("apply_actions", (actions,)),) if actions else ()
    found: list[Instruction] = []
    kinds: set[int] = set()
    at, end = 0, len(raw)
    while at < end:
        kind, length = _HEAD.unpack_from(raw, at)
        if length < 8 or length & 7 or at + length > end:
            raise MalformedBody(f"an instruction has {length} bytes")
        if kind in kinds and kind != _Kind.EXPERIMENTER:
            raise MalformedBody(f"the flow has two instructions of type {kind}")
        kinds.add(kind)
        one = _decode(version, kind, raw[at + 4 : at + length])
        if one is not None:
            found.append(one)
        at += length
    if len(found) > 1:
        found.sort(key=lambda one: _ORDER[one.name])
    return tuple(found)


def _decode(version: int, kind: int, body: bytes) -> Instruction | None:
    match kind:
        case _Kind.APPLY_ACTIONS:
            actions = decode_actions(version, body[_ACTIONS_AT:])
            return Instruction("apply_actions", (actions,)) if actions else None
        case _Kind.GOTO_TABLE:
            return Instruction("goto_table", _GOTO_BODY.unpack(body))
        case _Kind.WRITE_ACTIONS:
            actions = action_set(decode_actions(version, body[_ACTIONS_AT:]))
            return Instruction("write_actions", (actions,)) if actions else None
        case _Kind.WRITE_METADATA:
            metadata, mask = _METADATA_BODY.unpack(body)
            return Instruction("write_metadata", (metadata & mask, mask)) if mask else None
        case _Kind.CLEAR_ACTIONS:
            return Instruction("clear_actions", _CLEAR_BODY.unpack(body))
        case _Kind.METER:
            return Instruction("meter", _METER_BODY.unpack(body))
        case _Kind.STAT_TRIGGER:
            return Instruction("stat_trigger", (kind, body))
        case _Kind.EXPERIMENTER:
            return Instruction("experimenter", (kind, body))
    return Instruction("unknown", (kind, body))


def encode_instructions(version: int, instructions: Instructions) -> bytes:
    """Return instructions as bytes. ValueError for what the version does not have."""
    if version == V10:
        if any(one.name != "apply_actions" for one in instructions):
            raise ValueError("OpenFlow 1.0 has no instructions but actions")
        return b"".join(encode_actions(version, one.args[0]) for one in instructions)
    return b"".join(_encode(version, one) for one in instructions)


def _encode(version: int, instruction: Instruction) -> bytes:
    args = instruction.args
    match instruction.name:
        case "apply_actions":
            return _wrap(_Kind.APPLY_ACTIONS, bytes(_ACTIONS_AT) + encode_actions(version, args[0]))
        case "write_actions":
            return _wrap(_Kind.WRITE_ACTIONS, bytes(_ACTIONS_AT) + encode_actions(version, args[0]))
        case "clear_actions":
            return _wrap(_Kind.CLEAR_ACTIONS, _CLEAR_BODY.pack())
        case "write_metadata":
            return _wrap(_Kind.WRITE_METADATA, _METADATA_BODY.pack(*args))
        case "goto_table":
            return _wrap(_Kind.GOTO_TABLE, _GOTO_BODY.pack(*args))
        case "meter":
            return _wrap(_Kind.METER, _METER_BODY.pack(*args))
    return _wrap(*args)


def _wrap(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(kind, _HEAD.size + len(body)) + body
