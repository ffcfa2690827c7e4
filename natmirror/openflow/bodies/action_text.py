"""Writes actions and instructions as ``ovs-ofctl dump-flows --no-names`` does."""

from natmirror.openflow.bodies.action_sets import ActionSet
from natmirror.openflow.bodies.elements import (
    ALL_TABLES,
    Action,
    Actions,
    Instruction,
    Instructions,
    MatchField,
    ReservedPort,
)
from natmirror.openflow.bodies.field_text import (
    bytes_text,
    hex_text,
    ipv4_text,
    mac_text,
    nxm_name,
    ovs_name,
    port_text,
    value_text,
)
from natmirror.openflow.bodies.fields import BY_HEADER

_ALL_OF_METADATA = (1 << 64) - 1
_BITS = {**{field.name: field.bits for field in BY_HEADER.values()}, "vlan_vid": 12}
"""The bits of a field that move and load can name."""
_REASONS, _REASON_ACTION = ("no_match", "action", "invalid_ttl"), 1
_ALL_BYTES = 0xFFFF


def actions_text(actions: Actions) -> str:
    """Return a list of actions; ``drop`` for an empty one. A set is written in the order in which it was ordered."""
    return ",".join(map(action_text, actions.written if isinstance(actions, ActionSet) else actions)) or "drop"


def instructions_text(instructions: Instructions) -> str:
    """Return a flow's instructions; ``drop`` if it has none."""
    return ",".join(map(_instruction_text, instructions)) or "drop"


def _instruction_text(instruction: Instruction) -> str:
    name, args = instruction
    match name:
        case "apply_actions":
            return actions_text(args[0])
        case "write_actions":
            return f"write_actions({actions_text(args[0])})"
        case "write_metadata":
            value, mask = args
            return f"write_metadata:{hex_text(value)}" + ("" if mask == _ALL_OF_METADATA else f"/{mask:#x}")
        case "goto_table" | "meter":
            return f"{name}:{args[0]}"
        case "clear_actions":
            return name
    kind, body = args
    return f"{name}({kind},{bytes_text(body)})"


def action_text(action: Action) -> str:
    """Return one action. An opaque one is written with its bytes in hexadecimal."""
    name, args = action
    match name:
        case "output":
            return _output_text(*args)
        case "set_field":
            return f"set_field:{value_text(args[0])}->{ovs_name(args[0].name)}"
        case "mod_dl_src" | "mod_dl_dst":
            return f"{name}:{mac_text(args[0])}"
        case "mod_nw_src" | "mod_nw_dst":
            return f"{name}:{ipv4_text(args[0])}"
        case "enqueue":
            return f"enqueue:{port_text(args[0])}:{args[1]}"
        case "push_vlan" | "push_mpls" | "pop_mpls" | "push_pbb":
            return f"{name}:0x{args[0]:04x}"
        case "set_mpls_ttl":
            return f"set_mpls_ttl({args[0]})"
        case "set_tunnel" | "set_tunnel64":
            return f"{name}:{hex_text(args[0])}"
        case "resubmit":
            return _resubmit_text(*args)
        case "move":
            bits, source, source_bit, destination, bit = args
            return f"move:{_bits_text(source, source_bit, bits)}->{_bits_text(destination, bit, bits)}"
        case "load":
            return _load_text(args[0])
        case "note":
            return f"note:{args[0].hex('.')}"
        case "conjunction":
            clause, clauses, number = args
            return f"conjunction({number},{clause + 1}/{clauses})"
        case "controller":
            return _controller_text(*args)
        case "experimenter" | "unknown":
            number, body = args
            return f"{name}({number:#x},{bytes_text(body)})"
    return f"{name}:{args[0]}" if args else name


def _output_text(port: int, max_len: int | None = None) -> str:
    if max_len is not None:
        return f"CONTROLLER:{max_len}"
    text = port_text(port)
    return f"output:{text}" if text.isdigit() else text


def _controller_text(max_len: int, controller: int, reason: int) -> str:
    words = [] if reason == _REASON_ACTION else [f"reason={_REASONS[reason] if reason < len(_REASONS) else reason}"]
    words += [] if max_len == _ALL_BYTES else [f"max_len={max_len}"]
    words += [f"id={controller}"] if controller else []
    if reason == _REASON_ACTION and not controller:
        return f"CONTROLLER:{max_len}"
    return f"controller({','.join(words)})"


def _resubmit_text(port: int, table: int) -> str:
    port_word = "" if port == ReservedPort.ANY else port_text(port)
    if table == ALL_TABLES:
        return f"resubmit:{port_word or 'IN_PORT'}"
    return f"resubmit({port_word},{table})"


def _bits_text(name: str, first: int, bits: int) -> str:
    """Return a part of a field: without numbers the whole of it, with one number one bit."""
    if first == 0 and bits == _BITS.get(name):
        place = ""
    else:
        place = str(first) if bits == 1 else f"{first}..{first + bits - 1}"
    return f"{nxm_name(name)}[{place}]"


def _load_text(field: MatchField) -> str:
    mask = field.mask or 0
    first = (mask & -mask).bit_length() - 1
    return f"load:{hex_text(field.value >> first)}->{_bits_text(field.name, first, mask.bit_count())}"
