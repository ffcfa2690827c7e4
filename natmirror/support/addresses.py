"""Pseudonyms of addresses: the same for the same address, and with the same prefixes in common.

Two addresses with their first n bits in common have pseudonyms with their first n bits in common, so that routes, rules
and networks still make sense. From the second octet of an IPv4 address on, each bit is turned over or not by a keyed
hash of the bits before it (J. Xu and others, "Prefix-preserving IP address anonymization", 2002); the first octet
becomes one that no address in the dump begins with, so that no pseudonym is the address of something else there. The
last octet stays: it tells hosts of a network apart, and by it packet threads divide clients. IPv6 is treated likewise,
from the third octet on. Addresses with a meaning of their own stay: loopback, link-local prefixes, multicast, masks.
"""

import hashlib
import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_KEPT_NETWORKS = [
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
]  # multicast, class E, broadcast, and most masks
_KEPT_V6 = [IPv6Network("::/127"), IPv6Network("ff00::/8")]
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2: an IPv4 address
_LINK_LOCAL_V4 = IPv4Network("169.254.0.0/16")
_LINK_LOCAL = IPv6Network("fe80::/64")
_SOLICITED = IPv6Network("ff02::1:ff00:0/104")  # RFC 4291 §2.7.1: the last bits of a host's address
_UNICAST_OCTETS = [octet for octet in range(1, 224) if octet not in (127, 169)]
_GLOBAL_V6 = range(0x2000, 0x4000)
_LOCAL_V6 = range(0xFC00, 0xFE00)  # RFC 4193
_KEPT_BITS = 8
_FIRST_BITS = 8
_MULTICAST_MACS = (b"\x01\x00\x5e", b"\x01\x80\xc2")
_V6_MULTICAST_MAC = b"\x33\x33"
_OWN_MAC = 2  # of the first octet: administered locally


class AddressMap:
    """The pseudonyms of addresses. ``key`` is random; ``known`` has all addresses of the dump."""

    def __init__(self, key: bytes, known: Iterable[Address], networks: Iterable[Network] = ()) -> None:
        self._key = key
        known = list(known)
        used = {address.packed[0] for address in known if isinstance(address, IPv4Address)}
        self._octets = _shuffled(key, _UNICAST_OCTETS, used & {*_UNICAST_OCTETS})
        hextets = {int.from_bytes(address.packed[:2]) for address in known if isinstance(address, IPv6Address)}
        local = {hextet for hextet in hextets if hextet in _LOCAL_V6}
        self._hextets = _shuffled(key, _GLOBAL_V6, hextets - local) | _shuffled(key, _LOCAL_V6, local)
        self._ends: dict[Address, tuple[Network, bool]] = {}
        for network in networks:
            if 0 < network.prefixlen < network.max_prefixlen - _KEPT_BITS:
                self._ends.setdefault(network.network_address, (network, False))
                self._ends.setdefault(network.broadcast_address, (network, True))

    def address(self, address: Address) -> Address:
        """Return the pseudonym of an address. The first and the last one of a known network become its pseudonym's."""
        if (end := self._ends.get(address)) is None:
            return self._plain(address)
        network = self.network(end[0])
        return network.broadcast_address if end[1] else network.network_address

    def network(self, network: Network) -> Network:
        """Return the pseudonym of a network."""
        if network.prefixlen < _FIRST_BITS:
            return network  # it holds a great part of all addresses
        mapped = self._plain(network.network_address)
        return type(network)((int(mapped), network.prefixlen), strict=False)

    def _plain(self, address: Address) -> Address:
        if isinstance(address, IPv4Address):
            return self._v4(address)
        return self._v6(address)

    def _v4(self, address: IPv4Address) -> IPv4Address:
        if any(address in network for network in _KEPT_NETWORKS):
            return address
        if address in _LINK_LOCAL_V4:
            return IPv4Address(self._turned(address.packed, 2, 1))
        first = self._octets.get(address.packed[0], address.packed[0])
        return IPv4Address(bytes((first, *self._turned(address.packed, 1, 1)[1:])))

    def _v6(self, address: IPv6Address) -> IPv6Address:
        value = int(address)
        if address in _MAPPED:
            return IPv6Address(value >> 32 << 32 | int(self.address(IPv4Address(value & 0xFFFFFFFF))))
        if address in _SOLICITED:
            return IPv6Address(value >> 24 << 24 | self._hash(b"solicited", value & 0xFFFFFF) & 0xFFFFFF)
        if any(address in network for network in _KEPT_V6):
            return address
        if address in _LINK_LOCAL:
            if not value & (1 << 64) - 1:
                return address
            return IPv6Address(value >> 64 << 64 | self._hash(b"link", value))
        first = self._hextets.get(value >> 112, value >> 112)
        return IPv6Address(first.to_bytes(2) + self._turned(address.packed, 2)[2:])

    def _turned(self, packed: bytes, known: int, kept: int = 0) -> bytes:
        """Return an address with each bit between its ``known`` first octets and its ``kept`` last ones turned over or
        not, by the bits before it."""
        turned = bytearray(packed)
        for at in range(known, len(packed) - kept):
            turned[at] = _turned(self._key, packed[:at], packed[at])
        return bytes(turned)

    def mac(self, mac: bytes) -> bytes:
        """Return the pseudonym of a MAC address; groups, all ones and all zeros stay."""
        if mac[:2] == _V6_MULTICAST_MAC:
            return mac[:3] + self._hash(b"group", int.from_bytes(mac)).to_bytes(8)[:3] if mac[2] == 0xFF else mac
        if mac in (bytes(6), b"\xff" * 6) or mac[:3] in _MULTICAST_MACS:
            return mac
        hashed = self._hash(b"mac", int.from_bytes(mac)).to_bytes(8)
        return bytes((hashed[0] & 0xFC | _OWN_MAC, *hashed[1:6]))

    def datapath(self, number: int) -> int:
        """Return the pseudonym of a datapath id; 0 stays."""
        return self._hash(b"datapath", number) if number else 0

    def _hash(self, kind: bytes, value: int) -> int:
        return _hash(self._key, kind, value)


@lru_cache(maxsize=1 << 16)
def _hash(key: bytes, kind: bytes, value: int) -> int:
    """Return 64 bits that only the key's holder can compute."""
    digest = hashlib.blake2b(value.to_bytes(17), key=key, digest_size=8, person=kind[:16])
    return int.from_bytes(digest.digest())


def _turned(key: bytes, before: bytes, octet: int) -> int:
    """Return what stands for an octet behind these."""
    bits, beginning, found = _bits(key, before), 1, 0
    for at in reversed(range(8)):
        bit = octet >> at & 1
        found |= (bit ^ bits >> beginning & 1) << at
        beginning = 2 * beginning + bit
    return found


@lru_cache(maxsize=1 << 18)
def _bits(key: bytes, before: bytes) -> int:
    """Return a bit for each beginning of an octet behind these, from none of its bits to seven: whether the next one is
    turned over. A beginning is its bits behind a one."""
    return int.from_bytes(hashlib.blake2b(before, key=key, digest_size=32, person=b"octets").digest())


def _shuffled(key: bytes, every: Sequence[int], used: set[int]) -> dict[int, int]:
    """Map the numbers in use to some of ``every``, each to one of its own; as far as possible to numbers that are not
    in use."""
    shuffle = random.Random(key)
    free = [number for number in every if number not in used]
    shuffle.shuffle(free)
    wanted = sorted(used)
    if len(wanted) > len(free):
        taken = [number for number in every if number in used]
        shuffle.shuffle(taken)
        free += taken
    return dict(zip(wanted, free, strict=False))
