"""The choice of the clients that a mirror gets: a pure function of its rules and the client's address."""

from functools import lru_cache

from natmirror.fastpath import siphash
from natmirror.net.prefixes import ClientNetworks
from natmirror.reasons import EndReason
from natmirror.rules import Mirror

_KEY = b"natmirror:sample"
"""A published constant, so that every host samples the same clients, also after a restart."""

_networks = lru_cache(maxsize=256)(ClientNetworks)


def why_not_mirrored(mirror: Mirror, client: bytes) -> EndReason | None:
    """Return the reason why the mirror does not get a client's connections; None where it does.

    Either all connections of a client are sampled or none is, and a larger sample contains the smaller ones.
    """
    if mirror.only and client not in _networks(mirror.only):
        return EndReason.NOT_SELECTED
    if siphash(_KEY, client) >= mirror.sample * (1 << 64):
        return EndReason.NOT_SAMPLED
    return None
