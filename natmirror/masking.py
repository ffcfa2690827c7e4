"""How a record for another host carries the offset of a leg's numbers: masked with a key that both hosts have.

A leg's offset is the distance from the client's sequence numbers to those on the wire to the mirror. Records lie in a
store, so the offset stands there masked by a keyed hash of a nonce and the leg's ends.
"""

import hashlib
from dataclasses import dataclass

from natmirror.fastpath import siphash, subkey
from natmirror.initial import ends_of
from natmirror.packet import Endpoint
from natmirror.rules import Pair

NONCE_LEN = 8


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks offsets under the pair's key; ``own_key``, 16 bytes that this host alone has, makes the nonces."""

    pair_key: bytes
    own_key: bytes

    def nonce(self, local: Endpoint, mirror: Endpoint, offset: int) -> bytes:
        """Return the nonce of a leg's record: the same each time, for another leg between the two ends another one."""
        data = ends_of(local, mirror) + offset.to_bytes(4, "big")
        return siphash(self.own_key, data).to_bytes(NONCE_LEN, "big")

    def apply(self, offset: int, nonce: bytes, local: Endpoint, mirror: Endpoint) -> int:
        """Mask an offset, or take the mask off again."""
        return offset ^ (siphash(self.pair_key, nonce + ends_of(local, mirror)) & 0xFFFF_FFFF)


def masks(pair: Pair | None, own_key: bytes) -> Masks:
    """Return the masks of a pair's host: by ``ha.key``, or without one by what the hosts share anyway, the URL of the
    store and the VRRP ids."""
    secret: tuple[object, ...] = ()
    if pair is not None:
        anyway = (pair.state, pair.switch_side.vrrp_id, pair.pool_side.vrrp_id)
        secret = anyway if pair.key is None else (pair.key,)
    pair_key = hashlib.blake2b(repr(secret).encode(), digest_size=16, person=b"natmirror pair").digest()
    return Masks(pair_key, subkey(own_key, b"nonce"))
