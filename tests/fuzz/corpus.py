"""Seeds for the fuzzers, from captures: the packets of real sessions, in the form that each target reads.

    python tests/fuzz/corpus.py CAPTURES DIRECTORY    writes a directory in it for each target

A capture NAME.pcap has its rules in NAME.yaml, which say what packets are a client's, a backend's or a mirror's.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from natmirror._ffi import lib
from natmirror.net.build import build
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import endpoint_of
from natmirror.net.packet import (
    ACK,
    FIN,
    OPT_MPTCP,
    OPT_MSS,
    OPT_NOP,
    OPT_TIMESTAMPS,
    OPT_WINDOW_SCALE,
    PSH,
    RST,
    SYN,
    Malformed,
    Segment,
    parse,
)
from natmirror.replay.capture import Capture
from natmirror.rules import Rules, load_rules

_CLIENT, _BACKEND, _MIRROR = 0, 1, 2
_HOOKS = (0, 1, 0)  # PREROUTING, FORWARD, PREROUTING: places in the target's own table

# The steps of fuzz_process.c, and the kinds of its flows and services.
_RAW, _WAIT, _DUE, _SET_FLOW, _CALL, _FROM_CALLER, _TO_CALLER, _SET_CALLER, _STRAY = 3, 4, 5, 6, 11, 12, 13, 14, 15
_SET_LEG, _REOPEN, _MEMORY, _WRITE, _SWEEP, _SHARE, _CHANGE_PLAN, _DRAIN, _LOOK = 7, 8, 9, 10, 16, 17, 18, 19, 20
_HOW_VALID, _HOW_PARTIAL, _HOW_OPTIONS, _HOW_PUSH, _HOW_FLAGS, _HOW_SEQ, _HOW_ACK = 1, 2, 4, 16, 32, 64, 128
_RELATIVE, _MENDED, _CALLERS = 4, 8, 16
_OTHER_HOOK, _OTHER_PORT = 64, 128
_SUSPECTED, _TRUSTED, _KNOWN, _REMOVED, _VICTIM, _FOR_HALF_OPEN, _HOLDS = 3, 1, 4, 8, 16, 32, 64
_ANNOUNCE, _CLAIM_SEEN, _CLAIM_ALL, _RELEASE, _STANDBY, _WHOLE = 1, 2, 4, 8, 16, 32
_ADOPT, _LOG_CHANGES, _RELEASE_ONE, _ANNOUNCE_ONE, _END_ONE, _WITHDRAW, _TOUCH, _OWN = 0, 1, 2, 3, 4, 5, 6, 128
_FLOWS_WITH_LEGS = (1, 2, 3, 8)
_PICKED_UP_WITH_TAKERS = (7, 8, 9)
_FLOWS_WITH_TAKERS = (*_FLOWS_WITH_LEGS, 6, 7, 9)
_LEG_OF_FLOW = {1: 0, 2: 1, 3: 3, 8: 4}
_ODD_BYTES, _ODD_AGAIN, _UNSTEADY = 1, 2, 1
_TO_KEPT, _REPLIES, _SWAMPED = 8, 16, 32
_ALL_SERVICES, _WHOLE_LOOK = 4, 8
_OF_CLIENT, _OF_CALLER, _OF_MIRROR, _OF_BACKEND, _THROTTLES, _FIN, _MIRROR_WITHOUT_LEG = 0, 1, 2, 3, 16, 128, 32
_SERVICES, _CALLERS_OF_SERVICE, _BACKENDS = range(0, 64, 16), range(12), range(8)
_MAX_STEPS = 60
_MAX_HALF_OPEN, _MAX_CALLERS = 6, 10
_CLIENT_END, _SERVICE_END = (bytes((10, 10, 0, 11)), 40000), (bytes((10, 10, 0, 100)), 6653)

# The first bytes: orderly, buffers and budget, first number, scale (and whether mirrors throttle clients), window,
# segment size, which flows hold bytes, and with a crowd which allocation fails.
_ALL_HOLD, _NONE_HOLDS = 0xFF, 0
_ROOMY = struct.pack("<BBIBHHB", 0, 15, 0xFFFF_F000, 7, 0xFFFF, 1460, _ALL_HOLD)
_TOLD_AT_ONCE = struct.pack("<BBIBHHB", 0, 15, 0xFFFF_F000, 7, 0xFFFF, 1460, _NONE_HOLDS)
_THROTTLING = struct.pack("<BBIBHHB", 0, 15, 0xFFFF_F000, 0x87, 0xFFFF, 1460, _ALL_HOLD)
_CROWDED = struct.pack("<BBIBHHBB", 0, 0xEF, 0xFFFF_F000, 7, 0xFFFF, 1460, _ALL_HOLD, 1)
_NARROW = struct.pack("<BBIBHHB", 1, 1 << 4 | 1 << 2 | 2, 0x7FFF_F000, 0, 0x2000, 536, _NONE_HOLDS)
_NARROW_HOLDING = struct.pack("<BBIBHHB", 0, 15, 0x7FFF_F000, 0, 0x2000, 536, _ALL_HOLD)
_NARROW_AT_ONCE = struct.pack("<BBIBHHB", 0, 15, 0x7FFF_F000, 0, 0x2000, 536, _NONE_HOLDS)
_SHORT_OF_MEMORY = struct.pack("<BBIBHHB", 0, 2, 0xFFFF_F000, 7, 0xFFFF, 1460, _ALL_HOLD)

_NLMSG_ERROR, _PACKET_MESSAGE = 2, 3 << 8
_PACKET_HDR, _PAYLOAD, _CAP_LEN, _SKB_INFO = 1, 10, 13, 14
_WAITING_CHECKSUM, _HAS_SEGMENTS = 1, 2
_MESSAGES = 3
_MAX_PAYLOAD = 256


def session(capture: Path) -> Iterator[tuple[int, Segment]]:
    """Return the TCP packets of a capture that belong to the rules, each with its owner."""
    whose = _Roles(load_rules(capture.with_suffix(".yaml")))
    for captured in Capture(capture):
        try:
            parsed = parse(captured.packet or b"")
        except Malformed:
            continue
        if isinstance(parsed, Segment) and (role := whose.role(parsed)) is not None:
            yield role, parsed


class _Roles:
    def __init__(self, loaded: Rules) -> None:
        services = loaded.services
        self._services = {endpoint_of(service) for service in services}
        pools = [service.pool for service in services if service.pool is not None]
        self._backends = {endpoint_of(backend) for pool in pools for backend in pool.backends}
        self._mirrors = {endpoint_of(mirror) for service in services for mirror in service.mirrors}

    def role(self, segment: Segment) -> int | None:
        """Return the packet's owner, or None for packets captured twice, before and after their translation."""
        if (segment.dst, segment.dport) in self._services:
            return _CLIENT
        if (segment.src, segment.sport) in self._backends:
            return _BACKEND
        return _MIRROR if (segment.src, segment.sport) in self._mirrors else None


def raw_steps(packets: list[tuple[int, Segment]], flow: int) -> Iterator[bytes]:
    """Return the packets, with the sequence numbers of the target's flow."""
    for role, segment in packets:
        which = _LEG_OF_FLOW[flow] if role == _MIRROR else flow
        how = role + 1 | _RELATIVE | _MENDED
        yield struct.pack("<BBBBH", _RAW, which, how, _HOOKS[role], len(segment.raw)) + segment.raw
        if role == _MIRROR:
            yield bytes((_WAIT, 20, _DUE))


def near_steps(packets: list[tuple[int, Segment]], flow: int) -> Iterator[bytes]:
    """Return the same session in the target's form, without the bytes."""
    for role, segment in packets:
        which = _LEG_OF_FLOW[flow] if role == _MIRROR else flow
        how = _HOW_PUSH if segment.flags & PSH else 0
        odd = 1 if role == _MIRROR and segment.payload_len else 0
        head = struct.pack("<BBBBH", role, which, how, odd, segment.window)
        length = _length(segment.payload_len) if role != _MIRROR or odd else b""
        yield head + length + bytes((_WAIT, 10))


def _length(count: int) -> bytes:
    """Return a number of bytes in the target's form, approximate for large ones."""
    if count <= 255:
        return bytes((1, count))
    if count < 4096:
        return bytes((5, count // 16))
    return bytes((6, 0)) if count < 60000 else bytes((7, 0))


def raw_calls(packets: list[tuple[int, Segment]], service: int) -> Iterator[bytes]:
    """Return the packets of both ends, in a flow that the gear opens."""
    yield call(service)
    for role, segment in packets:
        if role != _MIRROR:
            how = role + 1 | _RELATIVE | _MENDED | _CALLERS
            yield struct.pack("<BBBBH", _RAW, 0, how, _HOOKS[role], len(segment.raw)) + segment.raw


def call(which: int, seq: int = 0, options: bytes = b"") -> bytes:
    """A caller's SYN, with options whose length is a multiple of four."""
    how = _HOW_VALID | _HOW_SEQ | (_HOW_OPTIONS if options else 0)
    return bytes((_CALL, which, how, 0, seq)) + (bytes((len(options) // 4,)) + options if options else b"")


def stray(which: int, whose: int, how: int = _HOW_VALID, flags: int = SYN | ACK) -> bytes:
    """A backend's SYN-ACK to a caller without a flow."""
    return bytes((_STRAY, which, whose, how | _HOW_FLAGS, flags))


def without_syn(which: int) -> bytes:
    """A caller's data without a SYN before it."""
    return bytes((_CALL, which, _HOW_VALID | _HOW_FLAGS | _HOW_ACK, ACK | PSH)) + _length(100)


def said(step: int, which: int, flags: int = ACK, length: int = 0, options: bytes = b"") -> bytes:
    """The next packet of a caller's flow, with options whose length is a multiple of four."""
    how = _HOW_VALID | _HOW_FLAGS | (_HOW_OPTIONS if options else 0)
    head = bytes((step, which, how, flags, 0xFF, 0xFF)) + _length(length)
    return head + (bytes((len(options) // 4,)) + options if options else b"")


def syn_ack(which: int, options: bytes = b"") -> bytes:
    """Return the backend's SYN-ACK."""
    return said(_TO_CALLER, which, SYN | ACK, options=options)


def opened(which: int) -> bytes:
    """Return a whole handshake."""
    return syn_ack(which) + said(_FROM_CALLER, which)


def closed(which: int) -> bytes:
    """The end of a connection, in order."""
    ends = ((_FROM_CALLER, FIN | ACK), (_TO_CALLER, ACK), (_TO_CALLER, FIN | ACK), (_FROM_CALLER, ACK))
    return b"".join(said(step, which, flags) for step, flags in ends)


_PAUSE = bytes((_WAIT, 255, _DUE))
_MINUTE = _PAUSE * 2


def flood_of() -> bytes:
    """SYNs from all callers to all services."""
    return b"".join(call(service + one) for one in _CALLERS_OF_SERVICE for service in _SERVICES)


def fill_of() -> bytes:
    """As many established connections as there is room for."""
    return b"".join(call(16 + one) + opened(one) for one in range(_MAX_CALLERS))


def room() -> dict[str, bytes]:
    """Return the eviction of flows, and later packets of the evicted ones."""
    minute, flood, fill = _MINUTE, flood_of(), fill_of()
    asked = bytes((_SET_CALLER, 0, _VICTIM, _SET_CALLER, 0, _VICTIM | _FOR_HALF_OPEN))
    strays = b"".join(
        stray(one, whose, how) for one in (1, 64) for whose in _BACKENDS for how in (_HOW_VALID, _HOW_PARTIAL)
    )
    others = b"".join(stray(2, whose | more) for whose in _BACKENDS for more in (_OTHER_HOOK, _OTHER_PORT))
    others += b"".join(stray(2, whose, flags=flags) for whose in _BACKENDS for flags in (SYN, SYN | ACK | RST))
    seeds = {"strays": strays + asked + flood + strays + minute + flood + strays}
    seeds["strays-others"] = flood + others + minute + others
    picked_up = b"".join(map(without_syn, range(_MAX_CALLERS)))
    heard = b"".join(said(_TO_CALLER, one, length=10) for one in range(_MAX_CALLERS))
    seeds["picked-up"] = picked_up + asked + flood + heard + asked + call(16) + asked + strays + flood + minute
    seeds["picked-up-heard"] = (
        picked_up + heard[: len(heard) // 2] + asked + fill + asked + heard + strays + asked + flood
    )
    seeds["picked-up-few"] = b"".join(map(without_syn, range(_MAX_HALF_OPEN))) + said(_TO_CALLER, 0, length=10) + asked
    seeds["picked-up-reset"] = (
        b"".join(without_syn(one) + said(_FROM_CALLER, 0, RST) for one in range(_MAX_CALLERS)) + asked + flood
    )
    direct = b"".join(stray(one, 0) + said(_TO_CALLER, 0) for one in range(3))
    seeds["direct"] = direct + flood + b"".join(said(_TO_CALLER, one, length=10) for one in range(8)) + minute * 3
    seeds["over"] = fill + closed(0) + closed(1) + asked + flood + b"".join(map(closed, range(3, 9))) + asked + flood
    resets = b"".join(call(48 + one) + syn_ack(0) + call(48 + one) + said(_FROM_CALLER, 0, RST) for one in range(4))
    seeds["reset-early"] = resets + asked + flood
    return seeds


def repeats() -> dict[str, bytes]:
    """Return repeated SYNs, in time or late, and different ones."""
    with_data = bytes((_CALL, 0, _HOW_VALID | _HOW_ACK, 0)) + _length(10)
    others = (
        with_data
        + call(0, 1)
        + b"".join(bytes((_CALL, 0, _HOW_VALID | _HOW_FLAGS, one)) for one in (SYN | FIN, SYN | RST))
    )
    scaled = [bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, scale)) for scale in (3, 5)]
    joins = bytes((OPT_MPTCP, 12, 0x10)) + bytes(9)
    known_to = bytes((_SET_CALLER, 0, _KNOWN))
    seeds = {
        f"call-offers-{which}": b"".join(call(which, options=one) for one in (b"", *scaled, joins)) + opened(0)
        for which in _SERVICES
    }
    seeds["call-early"] = call(0) + syn_ack(0) + without_syn(0)  # data before the handshake is complete
    seeds["call-other"] = call(0) + bytes((_WAIT, 1)) + others
    seeds["call-accepted"] = (
        call(0) + syn_ack(0) + bytes((_WAIT, 200)) + call(0) + with_data + call(0) + known_to + call(0)
    )
    seeds["call-late"] = (
        call(0) + bytes((_WAIT, 39)) + call(0) + bytes((_WAIT, 8)) + call(0) + call(1) + bytes((_WAIT, 40)) + call(1)
    )
    of_tapped = call(48) + syn_ack(1) + bytes((_SET_CALLER, 1, _KNOWN)) + call(48) + said(_FROM_CALLER, 1, RST)
    seeds["call-known"] = call(0) + known_to + call(0) + of_tapped
    return seeds


def sweep(how: int) -> bytes:
    """Return sweeps of all flows, three at a time."""
    return bytes((_SWEEP, how | _WHOLE, 0, 2))


def shared() -> dict[str, bytes]:
    """Return pinned flows, guests, and changes of both."""
    others = b"".join(bytes((_SHARE, _ADOPT, one, whose)) for one, whose in zip(range(8), _BACKENDS, strict=True))
    others += b"".join(bytes((_SHARE, _ADOPT, one, 64 | one)) for one in (14, 15))
    talk = b"".join(said(step, one, length=9) for step in (_FROM_CALLER, _TO_CALLER) for one in range(4))
    turned = b"".join(bytes((_CHANGE_PLAN, service, how)) for service in (0, 1, 3) for how in (5, 12, 128 + 9))
    pinned = bytes((_CHANGE_PLAN, 0, 0, _CHANGE_PLAN, 1, 0))
    hows = (
        0,
        _ANNOUNCE,
        _CLAIM_SEEN,
        _CLAIM_ALL,
        _RELEASE,
        _STANDBY,
        _RELEASE | _STANDBY,
        _ANNOUNCE | _CLAIM_ALL | _RELEASE,
    )
    seeds = {}
    for how in hows:
        seeds[f"sweep-{how}"] = fill_of() + turned + sweep(how) + talk + sweep(how) + sweep(0) + _MINUTE
        seeds[f"guests-{how}"] = others + talk + sweep(how) + turned + sweep(how) + closed(0) + sweep(_CLAIM_ALL) + talk
        seeds[f"picked-up-{how}"] = (
            pinned + b"".join(map(without_syn, range(6))) + sweep(how) + talk + sweep(how) + flood_of()
        )
    for what in (_LOG_CHANGES, _RELEASE_ONE, _ANNOUNCE_ONE, _END_ONE, _WITHDRAW, _TOUCH):
        each = b"".join(
            bytes((_SHARE, what | own, one, how)) for own in (0, _OWN) for one in range(3) for how in (2, 1)
        )
        seeds[f"share-{what}"] = call(16) + opened(0) + others + each + talk + each + turned + sweep(_ANNOUNCE) + each
    for flow in _PICKED_UP_WITH_TAKERS:  # one acknowledgement ends a guest's FIN and its copies
        fin = bytes((_SET_FLOW, flow, _FIN, lib.NM_STATE_ESTABLISHED, _SHARE, _RELEASE_ONE | _OWN, flow, 0))
        seeds[f"share-fin-{flow}"] = fin + acks(flow)
    few = b"".join(bytes((_SHARE, _LOG_CHANGES, 0, most)) + fill_of() + sweep(_ANNOUNCE) for most in (0, 2, 255, 18))
    return seeds | {"changes-few": few, "none-open": bytes((_CHANGE_PLAN, 0, 128, _CHANGE_PLAN, 3, 128)) + flood_of()}


def of_callers() -> dict[str, bytes]:
    """Return flows that the gear opens, from begin to end, and a full table."""
    pause, minute, flood, fill = _PAUSE, _MINUTE, flood_of(), fill_of()
    looks = bytes((_LOOK, _ALL_SERVICES | _WHOLE_LOOK, 0, 0, _LOOK, 2, 1, 5))
    seeds = room() | repeats() | shared()
    seeds |= {"flood": flood + minute * 2, "flood-answered": flood + b"".join(map(syn_ack, range(5))) + flood + minute}
    seeds["full"] = fill + flood + b"".join(map(closed, range(_MAX_CALLERS))) + fill + pause + flood
    known = b"".join(call(one) + bytes((_SET_CALLER, one, _KNOWN)) for one in range(_MAX_HALF_OPEN + 1))
    seeds["known"] = known + flood + minute
    for flags in (RST | ACK, SYN | RST | ACK):
        refused = [call(one) + said(_TO_CALLER, 0, flags) + call(one, 1) for one in _SERVICES]
        seeds[f"refused-{flags}"] = b"".join(refused)
    for service in _SERVICES:
        talk = said(_FROM_CALLER, 0, ACK | PSH, 100) + said(_TO_CALLER, 0, ACK | PSH, 1000)
        life = call(service) + opened(0) + talk + closed(0)
        reset = call(service, 9) + opened(0) + talk + said(_TO_CALLER, 0, RST) + call(service, 10)
        suspected = bytes((_SET_CALLER, service, _SUSPECTED)) + life + bytes((_SET_CALLER, service, _TRUSTED)) + life
        again = call(service) + bytes((_WAIT, 50)) + call(service) + pause + call(service) + opened(0)
        holds = call(service) + bytes((_SET_CALLER, 0, _HOLDS)) + opened(0) + talk + closed(0)
        removed = call(service) + bytes((_SET_CALLER, 0, _REMOVED)) + life
        looked = looks.join((call(service), syn_ack(0), said(_FROM_CALLER, 0), talk, talk, closed(0), minute, b""))
        lives = {
            "holds": holds,
            "life": life + life + minute,
            "reset": reset,
            "suspected": suspected,
            "again": again + pause,
            "looked": looked,
        }
        seeds |= {f"{name}-{service}": one for name, one in (lives | {"removed": removed}).items()}
    late = bytes((_FROM_CALLER, 0, _HOW_VALID | _HOW_FLAGS | _HOW_ACK, ACK, 0xFF, 0xFF)) + _length(0)
    late += struct.pack("<b", -100)  # it has not got the last bytes
    ends = call(0) + opened(0) + said(_FROM_CALLER, 0, FIN | ACK) + said(_TO_CALLER, 0)
    seeds["unreached"] = ends + looks + said(_TO_CALLER, 0, ACK | PSH, 100) + looks + late + looks
    for one in _CALLERS_OF_SERVICE:  # services that share backends, with clients that have left the other service
        lives_of = [call(service + one) + opened(index) + closed(index) for index, service in enumerate(_SERVICES)]
        seeds[f"shared-{one}"] = b"".join(lives_of) + b"".join(call(service + one, 1) for service in _SERVICES)
    everybody = {f"process/callers-{name}": _ROOMY + one for name, one in seeds.items()}
    return everybody | {
        f"process/throttling-{name}": _THROTTLING + seeds[name] for name in ("life-48", "again-48", "flood")
    }


def sends(flow: int, length: int, ahead: int = 0, odd: int = 0, options: bytes = b"", window: int = 0xFFFF) -> bytes:
    """Return a client's data, ``ahead`` bytes after its next one."""
    how = _HOW_VALID | (_HOW_SEQ if ahead else 0) | (_HOW_OPTIONS if options else 0)
    return struct.pack("<BBBBH", _CLIENT, flow, how, odd, window) + _length(length) + _rest(ahead, "<b", options)


def acks(flow: int, count: int | None = None, length: int = 0, options: bytes = b"", window: int = 0xFFFF) -> bytes:
    """Return the acknowledgement of a backend for ``count`` bytes more than before, or for all."""
    how = _HOW_VALID | (_HOW_ACK if count is not None else 0) | (_HOW_OPTIONS if options else 0)
    return struct.pack("<BBBBH", _BACKEND, flow, how, 0, window) + _length(length) + _rest(count, "<h", options)


def _rest(number: int | None, form: str, options: bytes) -> bytes:
    """Return the numbers and options that follow a packet's length."""
    return (struct.pack(form, number) if number else b"") + (bytes((len(options) // 4,)) + options if options else b"")


def stamped(value: int, echo: int) -> bytes:
    """Return the timestamps option."""
    return struct.pack("!BBBBII", OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10, value, echo)


def last_hop(flow: int) -> bytes:
    """Return a client's next data, in a packet that this host drops."""
    whole = build(_CLIENT_END, _SERVICE_END, seq=1, ack=1, flags=ACK, window=1, payload=b"four")
    raw = whole[:8] + b"\1" + whole[9:]
    return struct.pack("<BBBBH", _RAW, flow, _CLIENT + 1 | _RELATIVE | _MENDED, 0, len(raw)) + raw


def blind(flow: int, side: int) -> bytes:
    """Return data, acknowledgements and a RST of a forger who knows no numbers."""
    packets = [
        build(_CLIENT_END, _SERVICE_END, seq=number << 28, ack=(9 - number) << 28, flags=flags, window=99, payload=data)
        for number in (4, 5)
        for flags, data in ((ACK, b"forged"), (ACK, b""), (FIN | ACK, b"x"), (RST, b""))
    ]
    return b"".join(
        struct.pack("<BBBBH", _RAW, flow, side + 1 | _MENDED, _HOOKS[side], len(raw)) + raw for raw in packets
    )


def held() -> dict[str, bytes]:
    """Return bytes that wait for their acknowledgement, and what the two ends make of them."""
    seeds = {}
    for flow in _FLOWS_WITH_TAKERS:
        data = b"".join(sends(flow, length) for length in (10, 200, 1, 1460))
        seeds[f"partial-{flow}"] = data + acks(flow, 4) + acks(flow, 206, 30) + acks(flow, 1) + data + acks(flow)
        seeds[f"unseen-{flow}"] = data + sends(flow, 10, 100) + acks(flow, 1) + acks(flow) + data + acks(flow, 20000)
        again = sends(flow, 50, odd=_ODD_AGAIN) + sends(flow, 100, -60) + sends(flow, 2000, odd=_ODD_AGAIN)
        seeds[f"again-{flow}"] = data + again + acks(flow, 100) + again + acks(flow)
        other = sends(flow, 50, odd=_ODD_AGAIN | _ODD_BYTES)
        seeds[f"other-{flow}"] = data + acks(flow) + other + data + other + data + acks(flow)
        seeds[f"both-{flow}"] = b"".join(data + acks(flow, 300, 500) for _ in range(4))
        probe = sends(flow, 1, window=0)
        shut = acks(flow, window=0) + sends(flow, 4080) * 2 + sends(flow, 32) + acks(flow, window=0)
        seeds[f"probe-{flow}"] = shut + probe + acks(flow, window=0) + probe + acks(flow) + probe + acks(flow)
        taken = sends(flow, 9, options=stamped(1000, 0)) + acks(flow, options=stamped(5000, 1000))
        taken += sends(flow, 9, options=stamped(1010, 5000)) + acks(flow, options=stamped(5005, 1010))
        old = sends(flow, 9, options=stamped(900, 5005)) + acks(flow, options=stamped(4000, 1010))
        seeds[f"stamps-{flow}"] = taken + old + taken
        multipath = bytes((OPT_MPTCP, 12, 0x20)) + bytes(9)
        seeds[f"mptcp-{flow}"] = data + sends(flow, 9, options=multipath) + data + acks(flow, 3, 9, multipath) + data
        seeds[f"refused-{flow}"] = data + last_hop(flow) + acks(flow, 9) + last_hop(flow) + data + acks(flow)
        large = sends(flow, 65000) * 4 + sends(flow, 5000) * 2
        seeds[f"large-{flow}"] = (
            large + acks(flow) + acks(flow, -100) + large + acks(flow, 30000) + acks(flow) + bytes((_DUE,))
        )
        for side in (_CLIENT, _BACKEND):
            seeds[f"blind-{side}-{flow}"] = (
                blind(flow, side) + data + blind(flow, side) + acks(flow, 10) + blind(flow, side)
            )
        ends = bytes((_SET_FLOW, flow, _FIN, 0))
        seeds[f"fin-{flow}"] = data + ends + acks(flow) + data + ends + blind(flow, _BACKEND) + acks(flow, length=9)
        seeds[f"fin-first-{flow}"] = ends + acks(flow, 4, 9) + data + acks(flow)
        seeds[f"python-{flow}"] = bytes((_WRITE, flow)) + _length(100) + data + bytes((_WRITE, flow)) + acks(flow)
        for fails in range(4):
            memory = bytes((_MEMORY, 1 << 4 | fails))
            seeds[f"answer-{fails}-{flow}"] = sends(flow, 10) + memory + acks(flow, 4, 2000) + acks(flow, length=9)
            seeds[f"memory-{fails}-{flow}"] = memory + data + memory + acks(flow, 4) + memory + acks(flow) + data
        seeds[f"reopened-{flow}"] = data + bytes((_REOPEN, 128 | flow)) + data + acks(flow, 100)
    unsteady = bytes((_SET_LEG, 1, _UNSTEADY, 0))
    two = b"".join(sends(2, 100) for _ in range(5)) + acks(2, 150)
    seeds["unsteady"] = two + unsteady + two + unsteady + two + bytes((_REOPEN, 2)) + two + acks(2)
    firsts = {"held": _ROOMY, "at-once": _TOLD_AT_ONCE, "short": _SHORT_OF_MEMORY}
    firsts |= {"narrow": _NARROW_HOLDING, "narrow-at-once": _NARROW_AT_ONCE}
    return {f"process/{first}-{name}": firsts[first] + seed for first in firsts for name, seed in seeds.items()}


def drain(kind: int, number: int, rest: int = 0) -> bytes:
    """Leave a client, a caller, a mirror or a backend so many tokens, or a flow's backend for the client."""
    return bytes((_DRAIN, kind | number << 2, rest))


def dry() -> dict[str, bytes]:
    """Return what peers send when they have no turn left, or one."""
    moment, seeds = bytes((_WAIT, 1)), {}
    for flow in _FLOWS_WITH_TAKERS:
        data, ahead = sends(flow, 10) + sends(flow, 200), sends(flow, 10, 100)
        again, other = sends(flow, 50, odd=_ODD_AGAIN), sends(flow, 50, odd=_ODD_AGAIN | _ODD_BYTES)
        for rest in (*range(3), *range(_TO_KEPT, _TO_KEPT + 3)):
            empty = drain(_OF_CLIENT, flow, rest) + drain(_OF_CLIENT, flow, rest | _REPLIES)
            for name, one in {"ahead": ahead, "again": again, "other": other, "data": data + data}.items():
                seeds[f"{name}-{rest}-{flow}"] = data + empty + one + acks(flow, 4) + moment + data + acks(flow)
                seeds[f"hole-{name}-{rest}-{flow}"] = data + empty + acks(flow, 5000) + one + acks(flow) + moment + data
            gaps = bytes((_SET_FLOW, flow, _THROTTLES, 20)) + data + empty + acks(flow, 50, 100) + acks(flow, window=9)
            seeds[f"throttled-{rest}-{flow}"] = gaps + moment + acks(flow) + data
            unsteady = b"".join(bytes((_SET_LEG, leg, _UNSTEADY, 0)) for leg in range(5))
            seeds[f"unsteady-{rest}-{flow}"] = data + unsteady + empty + data + acks(flow, 60) + moment + data
    for rest in (*range(3), *range(_TO_KEPT, _TO_KEPT + 3), _SWAMPED | _TO_KEPT):
        callers = b"".join(drain(_OF_CALLER, one, rest) for one in range(0, 16, 4))
        backends = b"".join(drain(_OF_BACKEND, one, rest) for one in _BACKENDS)
        begun = b"".join(map(without_syn, range(0, 64, 5)))
        suspects = b"".join(bytes((_SET_CALLER, one, _SUSPECTED)) for one in range(0, 64, 4))
        talk = b"".join(
            said(step, 0, flags, 9) for flags in (ACK, FIN | ACK, ACK, RST) for step in (_FROM_CALLER, _TO_CALLER)
        )
        seeds[f"callers-{rest}"] = suspects + callers + flood_of() + begun + moment + flood_of() + begun
        seeds[f"talk-{rest}"] = call(48) + opened(0) + callers + talk + talk
        answers = b"".join(stray(one, whose) for one in range(3) for whose in _BACKENDS)
        without_syns = b"".join(
            bytes((_STRAY, 1, whose, _HOW_VALID | _HOW_FLAGS | _HOW_ACK, ACK)) + _length(9) for whose in _BACKENDS
        )
        others = b"".join(stray(one, _MIRROR_WITHOUT_LEG | one, flags=ACK) for one in range(2))
        seeds[f"backends-{rest}"] = without_syns + others + backends + answers + without_syns + others
        mirrors = b"".join(drain(_OF_MIRROR, leg, rest) for leg in range(13))
        odd = b"".join(struct.pack("<BBBBHH", _MIRROR, leg, _HOW_VALID | _HOW_ACK, 0, 1, 9) for leg in range(13))
        seeds[f"mirrors-{rest}"] = mirrors + odd + odd + moment + odd + bytes((_DUE,))
    return {f"process/dry-{name}": _ROOMY + seed for name, seed in seeds.items()}


def tables() -> dict[str, bytes]:
    """Return pools of each size, with equal, similar and very different weights."""
    seeds = {}
    for size in range(8):
        for count in (1, 2, 7, 63):
            for kind in range(4):
                rows = (
                    struct.pack("<IIBB", 7919 * one, 104729 * one, kind, 37 * one & 255) for one in range(count + 1)
                )
                takes = b"".join(bytes((70 * one & 255, one, one)) for one in range(count + 1))
                seeds[f"maglev/{size}-{count}-{kind}"] = bytes((size, count)) + b"".join(rows) + takes
    return seeds


def as_it_is(packet: bytes) -> bytes:
    """A packet of the plain flow's client, whose checksum the kernel vouches for."""
    return struct.pack("<BBBBH", _RAW, 0, 0, Checksum.VALID << 2, len(packet)) + packet


def rare() -> dict[str, bytes]:
    """Return packets that no capture has and no fuzzer finds quickly: options that end too late, contradictory
    lengths."""
    tails = ((OPT_WINDOW_SCALE, 3), (OPT_WINDOW_SCALE,), (OPT_WINDOW_SCALE, 255), (OPT_WINDOW_SCALE, 0), (OPT_MSS, 4))
    options = [bytes((OPT_NOP,) * (4 - len(tail)) + tail) for tail in tails]
    options += [bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 15)), bytes((OPT_NOP,) * 40)]
    seeds = {f"process/options-{number}": _ROOMY + call(0) + syn_ack(0, one) for number, one in enumerate(options)}
    capable, join = bytes((OPT_MPTCP, 4, 1, 1)), bytes((OPT_MPTCP, 12, 0x10)) + bytes(9)
    for number, one in enumerate((capable, capable + join, join + capable, bytes((OPT_NOP, OPT_NOP, OPT_MPTCP, 2)))):
        for which in range(0, 64, 16):  # a caller of each service
            seeds[f"process/mptcp-{number}-{which}"] = _ROOMY + call(which, options=one) + syn_ack(which, one)
    whole = build(_CLIENT_END, _SERVICE_END, seq=0xFFFF_F000, ack=0xFFF, flags=ACK, window=1, payload=b"four")
    broken = [whole[:end] for end in range(len(whole))] + [whole + b"\0"]
    for at, value in ((0, 0x44), (0, 0x46), (0, 0x4F), (0, 0x65), (3, 43), (3, 45), (6, 0x20), (32, 0x40), (32, 0xF0)):
        broken.append(whole[:at] + bytes((value,)) + whole[at + 1 :])
    seeds["process/broken"] = _ROOMY + b"".join(as_it_is(packet) for packet in broken)
    return seeds


def messages(packets: list[tuple[int, Segment]]) -> bytes:
    """Return a datagram of the kernel's with several packets, then its answer to a request."""
    out = b""
    for number, (role, segment) in enumerate(packets):
        attributes = _attribute(_PACKET_HDR, struct.pack("!IHBx", number, 0x0800, _HOOKS[role]))
        info = number % 3 * _WAITING_CHECKSUM | number % 2 * _HAS_SEGMENTS
        attributes += _attribute(_SKB_INFO, struct.pack("!I", info))
        if len(segment.raw) > _MAX_PAYLOAD:
            attributes += _attribute(_CAP_LEN, struct.pack("!I", len(segment.raw)))
        out += _message(_PACKET_MESSAGE, b"\2\0\0\1" + attributes + _attribute(_PAYLOAD, segment.raw[:_MAX_PAYLOAD]))
    return out + _message(_NLMSG_ERROR, struct.pack("=i", -2) + bytes(12) + struct.pack("=I", 1) + bytes(4))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def write(captures: Path, directory: Path) -> int:
    """Write all seeds and return their number."""
    seeds = rare() | of_callers() | held() | dry() | tables()
    for capture in sorted(captures.glob("*.pcap")):
        if capture.name.endswith(".out.pcap"):
            continue
        packets = list(session(capture))
        for start in range(0, len(packets), _MAX_STEPS):
            some = packets[start : start + _MAX_STEPS]
            name = f"{capture.stem}-{start}"
            for flow in _FLOWS_WITH_LEGS:
                seeds[f"process/{name}-raw-{flow}"] = _ROOMY + b"".join(raw_steps(some, flow))
                seeds[f"process/{name}-near-{flow}"] = _NARROW + b"".join(near_steps(some, flow))
            for service in _SERVICES:
                seeds[f"process/{name}-called-{service}"] = _ROOMY + b"".join(raw_calls(some, service))
            seeds[f"process/{name}-crowded"] = _CROWDED + b"".join(near_steps(some, 1))
            seeds[f"nfqueue/{name}"] = bytes((31,)) + messages(some[:_MESSAGES])
    for name, seed in seeds.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seed)
    return len(seeds)


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), Path(sys.argv[2])), "seeds")
