/* Read TCP options; options.h says what each function is for. */
#include "fastpath/options.h"

#include "fastpath/packet.h"

#define OPT_END 0
#define OPT_NOP 1
#define OPT_WINDOW_SCALE 3
#define OPT_TIMESTAMPS 8
#define OPT_MPTCP 30
#define OPT_FAST_OPEN 34
#define OPT_EXPERIMENT 254

#define OPT_WINDOW_SCALE_LEN 3
#define OPT_TIMESTAMPS_LEN 10
#define FAST_OPEN_COOKIE_AT 2
#define EXPERIMENT_COOKIE_AT 4

/* Return the length of the option at `at`, a NOP included; 0 at the end of the options, and if it is malformed. */
static size_t option_len(const uint8_t *at, const uint8_t *end)
{
    if (at >= end || *at == OPT_END)
        return 0;
    if (*at == OPT_NOP)
        return 1;
    return at + 1 >= end || at[1] < 2 || at[1] > end - at ? 0 : at[1];
}

static uint32_t mptcp_subtype(const uint8_t *at, size_t len)
{
    return len > 2 ? 1u << (at[2] >> 4) : NM_MPTCP_NO_SUBTYPE;
}

static void take_option(const uint8_t *at, size_t len, nm_options *found)
{
    switch (at[0]) {
    case OPT_WINDOW_SCALE:
        if (len == OPT_WINDOW_SCALE_LEN)
            found->window_scale = at[2] > NM_MAX_WINDOW_SCALE ? NM_MAX_WINDOW_SCALE : at[2];
        break;
    case OPT_TIMESTAMPS:
        if (len == OPT_TIMESTAMPS_LEN) {
            found->has_timestamps = 1;
            found->tsval = get32(at + 2);
            found->tsecr = get32(at + 6);
        }
        break;
    case OPT_MPTCP:
        found->mptcp |= mptcp_subtype(at, len);
        break;
    case OPT_FAST_OPEN:
        found->has_cookie |= len > FAST_OPEN_COOKIE_AT;
        break;
    case OPT_EXPERIMENT:
        found->has_cookie |= len > EXPERIMENT_COOKIE_AT;
    }
}

void nm_read_options(const uint8_t *at, size_t len, nm_options *found)
{
    *found = (nm_options){.window_scale = NM_NO_WINDOW_SCALE};
    if (are_timestamps_alone(at, len)) {
        take_option(at + 2, OPT_TIMESTAMPS_LEN, found);
        return;
    }
    const uint8_t *end = at + len;
    for (size_t one; (one = option_len(at, end)); at += one)
        take_option(at, one, found);
}

uint32_t nm_mptcp_subtypes(const uint8_t *at, size_t len)
{
    nm_options found;
    nm_read_options(at, len, &found);
    return found.mptcp;
}

void nm_strip_mp_capable(uint8_t *at, size_t len)
{
    const uint8_t *end = at + len;
    for (size_t one; (one = option_len(at, end)); at += one)
        if (*at == OPT_MPTCP && mptcp_subtype(at, one) == NM_MPTCP_CAPABLE)
            memset(at, OPT_NOP, one);
}
