/* The fuzzer's input, read byte by byte; after its end all bytes are zero. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *at;
    size_t left;
} input;

static inline uint8_t take8(input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

static inline uint16_t take16(input *in)
{
    uint8_t low = take8(in);
    return (uint16_t)(low | take8(in) << 8);
}

static inline uint32_t take32(input *in)
{
    uint16_t low = take16(in);
    return low | (uint32_t)take16(in) << 16;
}

#endif
