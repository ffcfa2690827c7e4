"""Builds the packets of a leg."""

from collections.abc import Iterable

from natmirror.fastpath import LEG_WINDOW, NEVER
from natmirror.fastpath.leg_flags import uses_sack
from natmirror.net.build import synthesise
from natmirror.net.packet import ACK, OPT_MSS, OPT_NOP, OPT_SACK_PERMITTED, OPT_WINDOW_SCALE, RST, SYN
from natmirror.tcp.leg_numbers import LegNumbers
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.path_mtu import MSS
from natmirror.tcp.receiver import SCALE
from natmirror.tcp.sender import Piece

CHALLENGE_INTERVAL = 0.5  # seconds; RFC 5961 §7 asks for a limit, and this is Linux's

_SYN_OPTIONS = bytes((OPT_MSS, 4, MSS >> 8, MSS & 0xFF, OPT_NOP, OPT_WINDOW_SCALE, 3, SCALE))
_SYN_OPTIONS += bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))


def syn(leg: LegNumbers) -> bytes:
    """Return the SYN: it offers a segment size, a window scale and selective acknowledgements, but no timestamps."""
    return packet(leg, leg.row.snd_una, SYN, ack=0, options=_SYN_OPTIONS)


def data(leg: LegNumbers, pieces: Iterable[Piece]) -> list[bytes]:
    """Return the sender's pieces as packets, which may hold more data than one segment: the kernel cuts them."""
    return [packet(leg, at, flags, payload=payload) for at, flags, payload in pieces]


def ack(leg: LegNumbers) -> bytes:
    """Return an acknowledgement, which reports the out-of-order data by SACK blocks."""
    options = leg.receiver.sack_option() if uses_sack(leg.row) else b""
    return packet(leg, leg.sender.acceptable_seq, ACK, options=options)


def challenge(leg: LegNumbers, now: float) -> list[bytes]:
    """Return a challenge ACK, unless the last one was sent less than CHALLENGE_INTERVAL ago (RFC 5961 §7)."""
    if now - leg.challenged_at < CHALLENGE_INTERVAL:
        return []
    leg.challenged_at = now
    return [ack(leg)]


def reset(leg: LegNumbers, state: LegState) -> bytes:
    """Return the RST for a leg that ends in ``state``."""
    if state is LegState.SYN_SENT:
        # Before its SYN-ACK the mirror accepts a RST only at the number that follows the SYN.
        return packet(leg, leg.row.snd_max, RST, ack=0)
    return packet(leg, leg.row.snd_max, RST | ACK)


def packet(
    leg: LegNumbers, at: int, flags: int, *, payload: bytes = b"", ack: int | None = None, options: bytes = b""
) -> bytes:
    """Return a packet with the leg's sequence number ``at``. Without ``ack`` it acknowledges all data that arrived."""
    if ack is None:
        ack, leg.row.ack_at = leg.row.rcv_nxt, NEVER  # this packet serves as the delayed acknowledgement
    return synthesise(
        leg.local_endpoint,
        leg.mirror_endpoint,
        seq=leg.outward(at),
        ack=ack,
        flags=flags,
        window=LEG_WINDOW,
        options=options,
        payload=payload,
    )
