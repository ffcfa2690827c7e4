"""What hostile packets carry: TCP options, flags, bytes, and OpenFlow messages of all kinds."""

from random import Random
from struct import pack

from natmirror.net.packet import (
    OPT_MSS,
    OPT_NOP,
    OPT_SACK,
    OPT_SACK_PERMITTED,
    OPT_TIMESTAMPS,
    OPT_WINDOW_SCALE,
)
from natmirror.openflow.messages import HEADER, NICIRA, TYPES, V10, Multipart, Type, build, hello
from tests.helpers.comparison import flow_mod_message, frame, packet_out, to_host
from tests.helpers.comparison import packet_in as seen_packet
from tests.helpers.flow_tables import output
from tests.helpers.openflow import (
    ALL,
    features,
    flow_removed,
    multipart,
    packet_in,
    port,
    port_status,
    request,
)
from tests.helpers.openflow_bodies import corpus
from tests.live.truth.orders import Orders

_FLAGS = ("S", "SA", "A", "A", "A", "PA", "PA", "PA", "FA", "FPA", "R", "RA", "", "SFRPA", "SR", "SF", "F", "P")
WINDOWS = (0, 1, 100, 500, 65_535, 65_535)
_MSS = (0, 1, 48, 536, 1460, 65_535)
_LARGEST = 60_000  # bytes: what generic receive offload makes of a window


def _samples(version: int) -> list[bytes]:
    """Return messages that change tables, and those that say what has become of them."""
    frames = [frame(src, dst) for src in (1, 2) for dst in (1, 2, 3)]
    orders = Orders(version, 1)
    found = [raw for _ in range(60) for raw in orders.order()] + orders.delete_all()
    for data in frames:
        found += [seen_packet(data, version=version).raw, seen_packet(data, version=version, buffer_id=7).raw] * 3
        found += [packet_out(data, output(port), version=version).raw for port in (1, 2)]
        found += [flow_mod_message(to_host(dst, dst), version=version).raw for dst in (1, 2, 3)]
    return found + corpus(version)


SAMPLES = {version: _samples(version) for version in ALL}


class Payloads:
    """Draws everything that a packet may carry."""

    def __init__(self, random: Random, *, has_bodies: bool) -> None:
        """``has_bodies``: the messages of controllers and switches have sensible bodies, too."""
        self._random = random
        self._has_bodies = has_bodies
        self._broken_part = random.choice((0.0, 0.02, 0.3))

    def flags(self) -> str:
        """Return letters of flags, plausible and implausible ones."""
        return self._random.choice(_FLAGS)

    def window(self) -> int:
        return self._random.choice(WINDOWS)

    def syn_options(self) -> bytes:
        """Return options as a SYN of some stack has them."""
        draw = self._random
        out = bytes((OPT_MSS, 4)) + pack("!H", draw.choice(_MSS)) if draw.random() < 0.7 else b""
        if draw.random() < 0.5:
            out += bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, draw.choice((0, 2, 7, 14, 255))))
        if draw.random() < 0.5:
            out += bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))
        return out

    def options(self) -> bytes:
        """Return any options, malformed ones too."""
        draw = self._random
        if draw.random() < 0.5:
            return b""
        out = b""
        for _ in range(draw.randrange(1, 4)):
            out += draw.choice(
                (
                    self.syn_options(),
                    bytes((OPT_NOP,)),
                    bytes((OPT_TIMESTAMPS, 10)) + draw.randbytes(8),
                    bytes((30, 12)) + draw.randbytes(10),  # MPTCP
                    draw.randbytes(draw.randrange(1, 6)),
                )
            )
        return _padded(out[:40])

    def sack(self, near: int) -> bytes:
        """Return selective acknowledgements near a number."""
        count = self._random.randrange(1, 5)
        edges = [
            (near + self._random.choice((0, 1, 100, 1460, 3000, 60_000, -1))) & 0xFFFF_FFFF for _ in range(2 * count)
        ]
        return bytes((OPT_NOP, OPT_NOP, OPT_SACK, 2 + 8 * count)) + pack(f"!{2 * count}I", *edges)

    def data(self, *, version: int | None = None) -> bytes:
        """Return a segment's data, often none; with a version mostly OpenFlow messages of it."""
        draw = self._random
        chance = draw.random() - (0.3 if version is None else 0.0)
        if chance < 0.25:
            return draw.randbytes(draw.choice((1, 2, 10, 100))) if version is None else b""
        if chance < 0.35:
            large = draw.choice((1460, 20_000, _LARGEST))
            return bytes(large) if version is None else packet_in(version, 0, bytes(large))
        one = draw.choice(ALL) if version is None else version
        return b"".join(
            self._broken(one) if draw.random() < self._broken_part else self.message(one)
            for _ in range(draw.randrange(1, 4))
        )

    def message(self, version: int) -> bytes:
        """Return one sensible OpenFlow message, of a switch or of a controller."""
        draw = self._random
        if self._has_bodies and draw.random() < 0.6:
            return draw.choice(SAMPLES[version])
        number, xid, more = draw.randrange(4), draw.choice((1, 2, 3, 0xFFFF_FFFF)), draw.random() < 0.3
        ids = {"datapath_id": draw.choice((1, 2)), "auxiliary_id": draw.choice((0, 0, 1))}
        described = port(version, number)
        kind = draw.choice(tuple(Multipart))
        asked = request(version, xid, kind, draw.randbytes(draw.choice((0, 0, 8))), flags=more)
        ports = described if version == V10 else b""
        return draw.choice(
            (
                hello(version, xid),
                build(version, Type.FEATURES_REQUEST, xid),
                features(version, xid, **ids, ports=ports),
                asked,
                multipart(version, xid, kind, described * draw.randrange(3), more=more),
                multipart(version, xid, kind, bytes(draw.choice((1056, 12_000))), more=more),
                port_status(version, draw.randrange(4), described),
                packet_in(version, xid, draw.randbytes(40)),
                flow_removed(version),
                build(version, Type.ERROR, xid, draw.randbytes(4) + asked),
                build(version, Type.BARRIER_REQUEST, xid),
                build(version, Type.ECHO_REQUEST, xid, b"x"),
                build(version, Type.BARRIER_REPLY, xid),
                build(version, Type.EXPERIMENTER, xid, pack("!III", NICIRA, draw.choice((10, 17, 25)), number)),
                self._of_any_type(version, xid),
                self._of_any_type(version, xid),
            )
        )

    def _of_any_type(self, version: int, xid: int) -> bytes:
        draw = self._random
        body = draw.randbytes(draw.choice((0, 1, 8, 24, 100)))
        return HEADER.pack(version, draw.randrange(len(TYPES[version]) + 2), 8 + len(body), xid) + body

    def _broken(self, version: int) -> bytes:
        """Return bytes that are no message: with another version, an impossible length, cut short, or any."""
        draw, whole = self._random, self.message(version)
        return draw.choice(
            (
                bytes((9,)) + whole[1:],
                hello(draw.choice(ALL), 1),
                whole[:2] + draw.choice((0, 7, 0xFFFF)).to_bytes(2, "big") + whole[4:],
                whole[: draw.randrange(len(whole))],
                draw.randbytes(9),
            )
        )


def _padded(options: bytes) -> bytes:
    return options + bytes((OPT_NOP,)) * (-len(options) % 4)
