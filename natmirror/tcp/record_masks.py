"""Masks the sequence numbers in records for another host, with a key that both hosts have.

Records lie in a store. A reader of the store could use their numbers to reset production's connections and legs. So
each number is masked by a keyed hash of the record's nonce. The nonce is itself a keyed hash of the whole record (as in
RFC 5297). So no two different records share a nonce, and a host that takes the masks off can check that the record was
not altered and that its key is the same.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from natmirror.fastpath import siphash
from natmirror.rules import Pair

NONCE_LEN = 8


@dataclass(frozen=True, slots=True)
class Masks:
    """Nonces and masks with the key of a pair, 16 bytes."""

    pair_key: bytes = field(repr=False)

    def nonce(self, record: bytes) -> bytes:
        """Return the nonce of a record, which is given without masks."""
        return siphash(self.pair_key, b"nonce" + record).to_bytes(NONCE_LEN, "big")

    def of(self, nonce: bytes) -> Iterator[int]:
        """Yield the 32-bit masks of a record's numbers, in their order."""
        for index in count():
            yield siphash(self.pair_key, b"masks" + nonce + index.to_bytes(2, "big")) & 0xFFFF_FFFF


def masks(pair: Pair | None) -> Masks:
    """Return a pair's masks, by ``ha.key``. Without that key they depend on other rules that both hosts share: the URL
    of the store and the VRRP ids."""
    secret: tuple[object, ...] = ()
    if pair is not None:
        shared = (pair.state, pair.switch_side.vrrp_id, pair.pool_side.vrrp_id)
        secret = shared if pair.key is None else (pair.key,)
    return Masks(hashlib.blake2b(repr(secret).encode(), digest_size=16, person=b"natmirror pair").digest())
