"""Which clients a mirror wants: a pure function of its rules and the client's address."""

from natmirror.fastpath import siphash
from natmirror.rules import Mirror

UNSAMPLED = "unsampled"
NOT_SELECTED = "not-selected"

_KEY = b"natmirror:sample"
"""Published, so that every host, and every start, samples the same clients."""


def why_not_mirrored(mirror: Mirror, client: bytes) -> str | None:
    """Why the mirror does not want a client, by its address; None where it does.

    All connections of a client are sampled or none is, and a larger sample contains the smaller ones.
    """
    number = int.from_bytes(client, "big")
    if mirror.only and not any(number & int(net.netmask) == int(net.network_address) for net in mirror.only):
        return NOT_SELECTED
    if siphash(_KEY, client) >= mirror.sample * (1 << 64):
        return UNSAMPLED
    return None
