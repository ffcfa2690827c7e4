"""Seeds for the fuzzers, from captures: the packets of real sessions, in the form that each target reads.

    python tests/fuzz/corpus.py CAPTURES DIRECTORY    writes DIRECTORY/process and DIRECTORY/nfqueue

A capture NAME.pcap has its rules beside it, in NAME.yaml: they tell which packets are a client's, a backend's, a
mirror's.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from natmirror import rules
from natmirror.capture import read
from natmirror.packet import (
    ACK,
    OPT_MSS,
    OPT_NOP,
    OPT_WINDOW_SCALE,
    PSH,
    SYN,
    Checksum,
    Malformed,
    Segment,
    build,
    endpoint_of,
    parse,
)
from natmirror.rules import Rules

_CLIENT, _BACKEND, _MIRROR = 0, 1, 2
_HOOKS = (0, 1, 0)  # PREROUTING, FORWARD, PREROUTING: places in the target's own table

# The steps of fuzz_process.c, and what its flows are.
_FROM_BACKEND, _RAW, _WAIT, _DUE, _REOPEN = 1, 3, 4, 5, 8
_HOW_VALID, _HOW_OPTIONS, _HOW_PUSH, _HOW_FLAGS = 1, 4, 16, 32
_RELATIVE, _MENDED = 4, 8
_FLOWS_WITH_LEGS = (1, 2, 3)
_OPENING = 6
_LEG_OF_FLOW = {1: 0, 2: 1, 3: 3, _OPENING: 0}
_MAX_STEPS = 60
_MAX_NEWS = 256
_CLIENT_END, _SERVICE_END = (bytes((10, 10, 0, 11)), 40000), (bytes((10, 10, 0, 100)), 6653)
_REOPEN_OPENING = 132  # modulo the number of flows it is _OPENING; from 128 on it is a flow that opens again

# The first bytes: orderly, buffers and budget, first number, scale, window, segment size, and with a crowd which
# allocation fails.
_ROOMY = struct.pack("<BBIBHH", 0, 15, 0xFFFF_F000, 7, 0xFFFF, 1460)
_CROWDED = struct.pack("<BBIBHHB", 0, 0xEF, 0xFFFF_F000, 7, 0xFFFF, 1460, 1)
_NARROW = struct.pack("<BBIBHH", 1, 1 << 4 | 1 << 2 | 2, 0x7FFF_F000, 0, 0x2000, 536)

_NLMSG_ERROR, _PACKET_MESSAGE = 2, 3 << 8
_PACKET_HDR, _PAYLOAD, _CAP_LEN, _SKB_INFO = 1, 10, 13, 14
_WAITING_CHECKSUM = 1
_MESSAGES = 3
_MAX_PAYLOAD = 256


def session(capture: Path) -> Iterator[tuple[int, Segment]]:
    """The TCP packets of a capture that have a part in it, each with whose it is."""
    whose = _Roles(rules.load(capture.with_suffix(".yaml")))
    for captured in read(capture):
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
        """Whose the packet is; None for those that are there twice, before and after their translation."""
        if (segment.dst, segment.dport) in self._services:
            return _CLIENT
        if (segment.src, segment.sport) in self._backends:
            return _BACKEND
        return _MIRROR if (segment.src, segment.sport) in self._mirrors else None


def raw_steps(packets: list[tuple[int, Segment]], flow: int) -> Iterator[bytes]:
    """The packets themselves, with the numbers that the target's flow has come to."""
    for role, segment in packets:
        which = _LEG_OF_FLOW[flow] if role == _MIRROR else flow
        how = role + 1 | _RELATIVE | _MENDED
        yield struct.pack("<BBBBH", _RAW, which, how, _HOOKS[role], len(segment.raw)) + segment.raw
        if role == _MIRROR:
            yield bytes((_WAIT, 20, _DUE))


def near_steps(packets: list[tuple[int, Segment]], flow: int) -> Iterator[bytes]:
    """The same session as the target would build it, without the bytes."""
    for role, segment in packets:
        which = _LEG_OF_FLOW[flow] if role == _MIRROR else flow
        how = _HOW_PUSH if segment.flags & PSH else 0
        odd = 1 if role == _MIRROR and segment.payload_len else 0
        head = struct.pack("<BBBBH", role, which, how, odd, segment.window)
        length = _length(segment.payload_len) if role != _MIRROR or odd else b""
        yield head + length + bytes((_WAIT, 10))


def _length(count: int) -> bytes:
    """A number of bytes, as the target reads it: about right for the larger ones."""
    if count <= 255:
        return bytes((1, count))
    return bytes((5, count // 16)) if count < 4096 else bytes((6, 0))


def syn_ack(options: bytes) -> bytes:
    """A client opens, and its backend accepts with these options, whose length is a multiple of four."""
    how = _HOW_VALID | _HOW_FLAGS | (_HOW_OPTIONS if options else 0)
    head = bytes((_REOPEN, _REOPEN_OPENING, _FROM_BACKEND, _OPENING, how, SYN | ACK, 0xFF, 0xFF)) + _length(0)
    return head + (bytes((len(options) // 4,)) + options if options else b"")


def as_it_is(packet: bytes) -> bytes:
    """A packet of the plain flow's client, whose checksum the kernel vouches for."""
    return struct.pack("<BBBBH", _RAW, 0, 0, Checksum.VALID << 2, len(packet)) + packet


def rare() -> dict[str, bytes]:
    """What no capture has and no fuzzer is quick to find: options that end too late, lengths that contradict each
    other, more news than there is room for."""
    tails = ((OPT_WINDOW_SCALE, 3), (OPT_WINDOW_SCALE,), (OPT_WINDOW_SCALE, 255), (OPT_WINDOW_SCALE, 0), (OPT_MSS, 4))
    options = [bytes((OPT_NOP,) * (4 - len(tail)) + tail) for tail in tails]
    options += [bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 15)), bytes((OPT_NOP,) * 40)]
    seeds = {f"process/options-{number}": _ROOMY + syn_ack(one) for number, one in enumerate(options)}
    whole = build(_CLIENT_END, _SERVICE_END, seq=0xFFFF_F000, ack=0xFFF, flags=ACK, window=1, payload=b"four")
    broken = [whole[:end] for end in range(len(whole))] + [whole + b"\0"]
    for at, value in ((0, 0x44), (0, 0x46), (0, 0x4F), (0, 0x65), (3, 43), (3, 45), (6, 0x20), (32, 0x40), (32, 0xF0)):
        broken.append(whole[:at] + bytes((value,)) + whole[at + 1 :])
    seeds["process/broken"] = _ROOMY + b"".join(as_it_is(packet) for packet in broken)
    return seeds | {"process/news": _ROOMY + syn_ack(b"") * (_MAX_NEWS + 1)}


def messages(packets: list[tuple[int, Segment]]) -> bytes:
    """A datagram of the kernel's with several packets, then its answer to a request."""
    out = b""
    for number, (role, segment) in enumerate(packets):
        attributes = _attribute(_PACKET_HDR, struct.pack("!IHBx", number, 0x0800, _HOOKS[role]))
        attributes += _attribute(_SKB_INFO, struct.pack("!I", number % 3 * _WAITING_CHECKSUM))
        if len(segment.raw) > _MAX_PAYLOAD:
            attributes += _attribute(_CAP_LEN, struct.pack("!I", len(segment.raw)))
        out += _message(_PACKET_MESSAGE, b"\2\0\0\1" + attributes + _attribute(_PAYLOAD, segment.raw[:_MAX_PAYLOAD]))
    return out + _message(_NLMSG_ERROR, struct.pack("=i", -2) + bytes(12) + struct.pack("=I", 1) + bytes(4))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def write(captures: Path, directory: Path) -> int:
    """Write all seeds; gives how many there are."""
    seeds = rare()
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
            seeds[f"process/{name}-opening"] = _ROOMY + b"".join(raw_steps(some, _OPENING))
            seeds[f"process/{name}-crowded"] = _CROWDED + b"".join(near_steps(some, 1))
            seeds[f"nfqueue/{name}"] = bytes((31,)) + messages(some[:_MESSAGES])
    for name, seed in seeds.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seed)
    return len(seeds)


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), Path(sys.argv[2])), "seeds")
