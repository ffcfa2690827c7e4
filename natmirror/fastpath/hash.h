/* The keyed hash of all tables: a sender without the key cannot choose the bucket in which its packets land. */
#ifndef NATMIRROR_FASTPATH_HASH_H
#define NATMIRROR_FASTPATH_HASH_H

#include <stddef.h>
#include <stdint.h>

/* SipHash-2-4 (Aumasson, Bernstein: SipHash, INDOCRYPT 2012) under key[16]. */
uint64_t nm_siphash(const uint8_t *key, const uint8_t *data, size_t len);

/* The same hash over the addresses and ports of a connection's two ends; the family gives the length of an address. */
uint32_t nm_hash_ends(const uint8_t *key, uint8_t family, const uint8_t *one, uint16_t one_port, const uint8_t *other,
                      uint16_t other_port);

#endif
