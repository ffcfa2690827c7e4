"""How a record for another host carries sequence numbers: masked, with a key that both hosts have.

Records lie in a store. A reader of it could reset production's connections by their numbers, and legs by theirs; so
each number stands there masked by a keyed hash of the record's nonce. The nonce is a keyed hash itself, of the whole
record (as in RFC 5297): no other record has the same, and a host that takes the masks off sees whether the record is as
it was written, and under the same key.
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
    """Nonces and masks under the key of a pair, 16 bytes."""

    pair_key: bytes = field(repr=False)

    def nonce(self, record: bytes) -> bytes:
        """Return the nonce of a record, given as it is without masks."""
        return siphash(self.pair_key, b"nonce" + record).to_bytes(NONCE_LEN, "big")

    def of(self, nonce: bytes) -> Iterator[int]:
        """Give masks of 32 bits for a record's numbers, one after the other."""
        for place in count():
            yield siphash(self.pair_key, b"masks" + nonce + place.to_bytes(2, "big")) & 0xFFFF_FFFF


def masks(pair: Pair | None) -> Masks:
    """Return the masks of a pair's host: by ``ha.key``, or without one by what the hosts share anyway, the URL of the
    store and the VRRP ids."""
    secret: tuple[object, ...] = ()
    if pair is not None:
        anyway = (pair.state, pair.switch_side.vrrp_id, pair.pool_side.vrrp_id)
        secret = anyway if pair.key is None else (pair.key,)
    return Masks(hashlib.blake2b(repr(secret).encode(), digest_size=16, person=b"natmirror pair").digest())
