"""The choice of the flows that a mirror gets: by its rules, client and backend, and by whether a flow is whole."""

from functools import lru_cache

from natmirror.fastpath import siphash
from natmirror.fastpath.flow_flags import is_ambiguous, is_mptcp
from natmirror.mirror.copies import MirroredFlow
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.prefixes import ClientNetworks
from natmirror.reasons import EndReason
from natmirror.rules import Mirror

_KEY = b"natmirror:sample"
"""A constant, so that every host samples the same clients, also after a restart."""

_networks = lru_cache(maxsize=256)(ClientNetworks)


def why_not_mirrored(mirror: Mirror, client: bytes, backend: Endpoint | None) -> EndReason | None:
    """Return the reason why the mirror does not get a client's connections with a backend, or None if it gets them.

    Either all connections of a client are sampled or none is, and a larger sample contains the smaller ones.
    """
    if endpoint_of(mirror) == backend:
        return EndReason.MIRROR_IS_BACKEND
    if mirror.only and client not in _networks(mirror.only):
        return EndReason.NOT_SELECTED
    if mirror.sample < 1 and siphash(_KEY, client) >= mirror.sample * (1 << 64):
        return EndReason.NOT_SAMPLED
    return EndReason.MIRROR_PAUSED if mirror.is_paused else None


def why_flow_not_mirrored(mirror: Mirror, flow: MirroredFlow, backend: Endpoint | None) -> EndReason | None:
    """Return the reason why the mirror does not get a flow whose SYNs have passed here, or None if it gets the flow."""
    reason = why_not_mirrored(mirror, flow.client[0], backend)
    if reason not in (None, EndReason.MIRROR_PAUSED):  # a pause may end
        return reason
    if is_ambiguous(flow.row):
        return EndReason.AMBIGUOUS
    return EndReason.MPTCP if is_mptcp(flow.row) else reason
