"""The packets of a leg: what its two halves want to say, as bytes on the wire."""

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

CHALLENGE_INTERVAL = 0.5  # RFC 5961 §7 asks for a limit; Linux's, in seconds

_SYN_OPTIONS = bytes((OPT_MSS, 4, MSS >> 8, MSS & 0xFF, OPT_NOP, OPT_WINDOW_SCALE, 3, SCALE))
_SYN_OPTIONS += bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))


def syn(leg: LegNumbers) -> bytes:
    """Return the SYN, which offers a segment size, a scale and selective acknowledgements, and no timestamps."""
    return packet(leg, leg.row.snd_una, SYN, ack=0, options=_SYN_OPTIONS)


def data(leg: LegNumbers, pieces: Iterable[Piece]) -> list[bytes]:
    """Return what the sender gave as packets, which may hold more data than a segment takes."""
    return [packet(leg, at, flags, payload=payload) for at, flags, payload in pieces]


def ack(leg: LegNumbers) -> bytes:
    """Return an acknowledgement, with the blocks that came ahead of their turn."""
    options = leg.receiver.sack_option() if uses_sack(leg.row) else b""
    return packet(leg, leg.sender.acceptable_seq, ACK, options=options)


def challenge(leg: LegNumbers, now: float) -> list[bytes]:
    """Return an acknowledgement that tells where the leg stands, unless one has just done so (RFC 5961 §7)."""
    if now - leg.challenged_at < CHALLENGE_INTERVAL:
        return []
    leg.challenged_at = now
    return [ack(leg)]


def reset(leg: LegNumbers, state: LegState) -> bytes:
    """Return the RST that ends a leg which was in ``state``."""
    if state is LegState.SYN_SENT:
        # Before the SYN-ACK there is no number that the mirror would take a RST for but the SYN's own.
        return packet(leg, leg.row.snd_max, RST, ack=0)
    return packet(leg, leg.row.snd_max, RST | ACK)


def packet(
    leg: LegNumbers, at: int, flags: int, *, payload: bytes = b"", ack: int | None = None, options: bytes = b""
) -> bytes:
    """Return a packet with the leg's number ``at``; without ``ack`` it acknowledges all that has come."""
    if ack is None:
        ack, leg.row.ack_at = leg.row.rcv_nxt, NEVER  # a delayed acknowledgement goes with it
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
