/* The keyed hash of all tables, so that nobody outside can choose where his packets land. */
#ifndef NATMIRROR_FASTPATH_HASH_H
#define NATMIRROR_FASTPATH_HASH_H

#include <stddef.h>
#include <stdint.h>

/* SipHash-2-4 (Aumasson, Bernstein: SipHash, INDOCRYPT 2012) under key[16]. */
uint64_t nm_siphash(const uint8_t *key, const uint8_t *data, size_t len);

/* The same over two ends of a connection; the length of their addresses follows from the family. */
uint32_t nm_hash_ends(const uint8_t *key, uint8_t family, const uint8_t *one, uint16_t one_port, const uint8_t *other,
                      uint16_t other_port);

#endif
