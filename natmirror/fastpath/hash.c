/* The keyed hash; hash.h says what each function is for. */
#include "fastpath/hash.h"

#include "fastpath/packet.h"

static uint64_t rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static uint64_t little64(const uint8_t *at, size_t len)
{
    uint64_t value = 0;
    memcpy(&value, at, len);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t nm_siphash(const uint8_t *key, const uint8_t *data, size_t len)
{
    uint64_t k0 = little64(key, 8), k1 = little64(key + 8, 8);
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                     k1 ^ 0x7465646279746573u};
    size_t at = 0;
    for (;; at += 8) {
        size_t left = len - at;
        uint64_t word = left >= 8 ? little64(data + at, 8) : little64(data + at, left) | (uint64_t)(len & 0xff) << 56;
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
        if (left < 8)
            break;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t nm_hash_ends(const uint8_t *key, uint8_t family, const uint8_t *one, uint16_t one_port, const uint8_t *other,
                      uint16_t other_port)
{
    uint8_t tuple[36];
    size_t address = address_len(family);
    memcpy(tuple, one, address);
    memcpy(tuple + address, other, address);
    put16(tuple + 2 * address, one_port);
    put16(tuple + 2 * address + 2, other_port);
    return (uint32_t)nm_siphash(key, tuple, 2 * address + 4);
}
