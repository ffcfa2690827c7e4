"""Writes the values of bodies as one line each, in the words of ``ovs-ofctl``."""

from collections.abc import Iterable

from natmirror.openflow.bodies.action_text import actions_text, instructions_text
from natmirror.openflow.bodies.elements import ALL_TABLES, ANY_GROUP, NO_BUFFER, Match, MatchField, ReservedPort
from natmirror.openflow.bodies.field_text import bytes_text, hex_text, mac_text, port_text
from natmirror.openflow.bodies.frames import frame_fields
from natmirror.openflow.bodies.group_text import group_mod_text, meter_mod_text
from natmirror.openflow.bodies.group_values import GroupMod, MeterMod
from natmirror.openflow.bodies.match_text import match_text
from natmirror.openflow.bodies.values import (
    AggregateStats,
    AsyncMask,
    Barrier,
    Body,
    BundleAdd,
    BundleControl,
    ErrorMessage,
    FlowCommand,
    FlowFlag,
    FlowMod,
    FlowRemoved,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    Opaque,
    PacketIn,
    PacketOut,
    PortMod,
    RoleRequest,
    SetAsync,
    TableMod,
    TableStatsReply,
    TableStatsRequest,
)

_DEFAULT_PRIORITY = 0x8000
_FLAG_WORDS = {flag: flag.name.lower() for flag in FlowFlag}
_REMOVED_REASONS = ("idle_timeout", "hard_timeout", "delete", "group_delete", "meter_delete", "eviction")
_PACKET_IN_REASONS = ("no_match", "action", "invalid_ttl", "action_set", "group", "packet_out")
_ROLES = ("nochange", "equal", "master", "slave")
_BUNDLE_REQUESTS = {0: "open", 2: "close", 4: "commit", 6: "discard"}
_SHOWN_OF_FRAMES = frozenset(
    (
        *("in_port", "eth_src", "eth_dst", "eth_type", "vlan_vid", "vlan_pcp", "ip_proto"),
        *("ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"),
        *("tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst"),
        *("icmpv4_type", "icmpv4_code", "icmpv6_type", "icmpv6_code", "ipv6_nd_target", "mpls_label"),
    )
)


def flow_text(flow: FlowMod | FlowStats) -> str:
    """Return a flow as a line of ``ovs-ofctl dump-flows --no-names --no-stats``, without the space at its beginning."""
    head = _head(flow)
    return f"{head}{' ' if head[-1:] not in ('', ' ') else ''}actions={instructions_text(flow.instructions)}"


def _head(flow: FlowMod | FlowStats) -> str:
    """Return all of a flow but its actions."""
    words = [f"cookie={hex_text(flow.cookie)}"] if flow.cookie else []
    words += [f"table={flow.table}"] if flow.table else []
    words += [f"idle_timeout={flow.idle_timeout}"] if flow.idle_timeout else []
    words += [f"hard_timeout={flow.hard_timeout}"] if flow.hard_timeout else []
    text = "".join(f"{word}, " for word in words) + _flags_text(flow.flags)
    text += f"importance={flow.importance}, " if flow.importance else ""
    return text + rule_text(flow.priority, flow.match)


def _flags_text(flags: int) -> str:
    """Return the words of flags, with a space behind each."""
    return "".join(f"{word} " for flag, word in _FLAG_WORDS.items() if flags & flag)


def rule_text(priority: int, match: Match) -> str:
    """Return priority and match: ``priority=10,arp,in_port=1``. The default priority, 32768, is left out."""
    words = [] if priority == _DEFAULT_PRIORITY else [f"priority={priority}"]
    return ",".join([*words, *filter(None, [match_text(match)])])


def flow_mod_text(mod: FlowMod) -> str:
    """Return a FLOW_MOD: its command, and the flow, or what a flow must have."""
    buffered = "" if mod.buffer_id == NO_BUFFER else f" buffer={mod.buffer_id:#x}"
    if mod.command is FlowCommand.ADD or (not mod.command.is_delete and mod.priority and not mod.cookie_mask):
        return f"{mod.command} {flow_text(mod)}{buffered}"  # in 1.0 MODIFY may add the flow, with all that it has
    words = ["table=all"] if mod.table == ALL_TABLES else [f"table={mod.table}"] if mod.table else []
    words += _cookie_words(mod.cookie, mod.cookie_mask)
    words.append(rule_text(mod.priority, mod.match) if mod.command.is_strict else match_text(mod.match))
    words += _out_words(mod.out_port, mod.out_group)
    parts = [str(mod.command), _flags_text(mod.flags).rstrip(), ",".join(filter(None, words))]
    if not mod.command.is_delete:
        parts.append(f"actions={instructions_text(mod.instructions)}{buffered}")
    return " ".join(filter(None, parts))


def _cookie_words(cookie: int, mask: int) -> Iterable[str]:
    if mask:
        yield f"cookie={cookie:#x}/{'-1' if mask == (1 << 64) - 1 else f'{mask:#x}'}"
    elif cookie:
        yield f"cookie={cookie:#x}"


def _out_words(port: int, group: int) -> Iterable[str]:
    if port != ReservedPort.ANY:
        yield f"out_port={port_text(port)}"
    if group != ANY_GROUP:
        yield f"out_group={group}"


def frame_text(frame: bytes, in_port: int) -> str:
    """Return what a frame is, as a match: ``tcp,in_port=1,dl_src=…``."""
    fields = frame_fields(frame, in_port)
    if not fields["vlan_vid"]:
        del fields["vlan_vid"], fields["vlan_pcp"]
    if in_port == ReservedPort.ANY:
        del fields["in_port"]
    return match_text(tuple(MatchField(name, value) for name, value in fields.items() if name in _SHOWN_OF_FRAMES))


def _packet_in(packet: PacketIn) -> str:
    words = [_reason(_PACKET_IN_REASONS, packet.reason), frame_text(packet.frame, packet.in_port)]
    if packet.table:
        words.insert(0, f"table={packet.table}")
    if packet.buffer_id != NO_BUFFER:
        words.append(f"buffer={packet.buffer_id:#x}")
    return f"packet_in {' '.join(words)} ({packet.total_len} bytes)"


def _packet_out(packet: PacketOut) -> str:
    if packet.buffer_id != NO_BUFFER:
        what = f"in_port={port_text(packet.in_port)} buffer={packet.buffer_id:#x}"
    else:
        what = frame_text(packet.frame, packet.in_port)
    return f"packet_out {what} actions={actions_text(packet.actions)}"


def _reason(words: tuple[str, ...], reason: int) -> str:
    return f"reason={words[reason] if reason < len(words) else reason}"


def _flow_removed(removed: FlowRemoved) -> str:
    flow = FlowStats(
        removed.table,
        removed.priority,
        removed.match,
        (),
        removed.cookie,
        removed.idle_timeout,
        removed.hard_timeout,
    )
    counters = f"duration={removed.duration:.3f}s n_packets={removed.packets} n_bytes={removed.bytes}"
    return f"flow_removed {_reason(_REMOVED_REASONS, removed.reason)} {_head(flow)} {counters}"


def _flow_stats_request(request: FlowStatsRequest) -> str:
    words = [] if request.table == ALL_TABLES else [f"table={request.table}"]
    words += [*_cookie_words(request.cookie, request.cookie_mask), match_text(request.match)]
    words += _out_words(request.out_port, request.out_group)
    kind = "aggregate" if request.is_aggregate else "flow"
    return f"{kind}_request {','.join(filter(None, words))}".rstrip()


def body_text(body: Body) -> str:
    """Return the line of any body."""
    match body:
        case FlowMod():
            return flow_mod_text(body)
        case PacketIn():
            return _packet_in(body)
        case PacketOut():
            return _packet_out(body)
        case FlowRemoved():
            return _flow_removed(body)
        case GroupMod():
            return group_mod_text(body)
        case MeterMod():
            return meter_mod_text(body)
        case BundleAdd():
            return f"bundle_add bundle={body.bundle_id} {body_text(body.body)}"
        case FlowStatsRequest():
            return _flow_stats_request(body)
        case FlowStatsReply():
            return f"flow_stats {'; '.join(map(flow_text, body.flows))}".rstrip()
        case ErrorMessage():
            return f"error type={body.kind} code={body.code}"
        case Opaque():
            return f"{body.name} {bytes_text(body.body)}".rstrip()
    return _setting_text(body)


def _setting_text(
    body: PortMod
    | TableMod
    | BundleControl
    | RoleRequest
    | SetAsync
    | Barrier
    | AggregateStats
    | TableStatsRequest
    | TableStatsReply,
) -> str:
    match body:
        case PortMod():
            return (
                f"port_mod port={port_text(body.port)} addr={mac_text(body.hardware_address)} "
                f"config={body.config:#x}/{body.mask:#x} advertise={body.advertise:#x}{_properties(body.properties)}"
            )
        case TableMod():
            table = "all" if body.table == ALL_TABLES else str(body.table)
            return f"table_mod table={table} config={body.config:#x}{_properties(body.properties)}"
        case BundleControl():
            kind = _BUNDLE_REQUESTS.get(body.kind, str(body.kind))
            return f"bundle_control bundle={body.bundle_id} {kind} flags={body.flags:#x}"
        case RoleRequest():
            role = _ROLES[body.role] if body.role < len(_ROLES) else str(body.role)
            return f"role_request role={role} generation={body.generation_id}"
        case SetAsync():
            words = (
                f"{one.kind.name.lower()}{'(slave)' if one.is_for_slave else ''}={one.reasons:#x}" for one in body.masks
            )
            return f"set_async {' '.join(words)}{_properties(body.properties)}"
        case AggregateStats():
            return f"aggregate_stats n_packets={body.packets} n_bytes={body.bytes} n_flows={body.flows}"
        case TableStatsReply():
            words = (f"table={one.table} active={one.active}" for one in body.tables)
            return f"table_stats {'; '.join(words)}".rstrip()
        case TableStatsRequest():
            return "table_request"
        case Barrier():
            return "barrier_request"


def _async_mask(mask: AsyncMask) -> str:
    return f"{mask.kind.name.lower()}{'(slave)' if mask.is_for_slave else ''}={mask.reasons:#x}"


def _properties(properties: tuple[tuple[int, bytes], ...]) -> str:
    return "".join(f" property{kind:#x}={bytes_text(rest)}" for kind, rest in properties)
