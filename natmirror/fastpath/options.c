/* Read TCP options; options.h says what each function is for. */
#include "fastpath/options.h"

#include "fastpath/packet.h"

#define OPT_END 0
#define OPT_NOP 1
#define OPT_WINDOW_SCALE 3
#define OPT_TIMESTAMPS 8
#define OPT_MPTCP 30

#define OPT_WINDOW_SCALE_LEN 3
#define OPT_TIMESTAMPS_LEN 10

/* Take one whole option of len bytes. */
static void take_option(const uint8_t *at, size_t len, nm_options *found)
{
    switch (at[0]) {
    case OPT_WINDOW_SCALE:
        found->window_scale = len != OPT_WINDOW_SCALE_LEN    ? NM_NO_WINDOW_SCALE
                              : at[2] > NM_MAX_WINDOW_SCALE ? NM_MAX_WINDOW_SCALE
                                                            : at[2];
        break;
    case OPT_TIMESTAMPS:
        found->has_timestamps = len == OPT_TIMESTAMPS_LEN;
        found->tsval = found->has_timestamps ? get32(at + 2) : 0;
        found->tsecr = found->has_timestamps ? get32(at + 6) : 0;
        break;
    case OPT_MPTCP:
        found->mptcp |= len > 2 ? 1u << (at[2] >> 4) : NM_MPTCP_NO_SUBTYPE;
    }
}

void nm_read_options(const uint8_t *at, size_t len, nm_options *found)
{
    *found = (nm_options){.window_scale = NM_NO_WINDOW_SCALE};
    if (are_timestamps_alone(at, len)) {
        take_option(at + 2, OPT_TIMESTAMPS_LEN, found);
        return;
    }
    for (const uint8_t *end = at + len; at < end && *at != OPT_END;) {
        if (*at == OPT_NOP) {
            at++;
            continue;
        }
        if (at + 1 >= end || at[1] < 2 || at[1] > end - at)
            break;
        take_option(at, at[1], found);
        at += at[1];
    }
}
