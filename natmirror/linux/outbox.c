/* The writer of synthesised packets; outbox.h describes its functions. */
#include "linux/outbox.h"

#include <linux/virtio_net.h>
#include <math.h>
#include <sys/uio.h>

#include "fastpath/packet.h"

#define MAX_USED 65536  /* limit on the bytes that wait */
#define MAX_WAITING 512 /* limit on the packets that wait, and that are grouped at once */
#define MAX_PARTS 64    /* parts of one write */
#define HEADERS_LEN (IP_MIN + TCP_MIN)
#define NONE MAX_WAITING

/* A packet's place in a group: the packets that are written as one. */
typedef struct {
    uint16_t next;     /* the next packet of the group, or NONE */
    uint16_t last;     /* in the group's first packet: the last packet; in the others: NONE */
    uint32_t data_len; /* in the first packet: bytes of data of the whole group */
    int parts;         /* in the first packet: parts of the write */
} place;

/* Return whether a packet is a small segment with all the data that its leg has at the moment (PSH). A segment that is
 * small because the mirror's window takes no more must not wait. */
static int is_small(const uint8_t *packet, const nm_send *one)
{
    const uint8_t *tcp = packet + IP_MIN;
    return one->len > HEADERS_LEN && one->len - HEADERS_LEN < one->segment_len && tcp[12] == TCP_MIN / 4 << 4 &&
           tcp[13] == (TCP_PSH | TCP_ACK);
}

static int may_wait(nl_outbox *outbox, const nm_out *out, double now)
{
    for (; outbox->examined < out->count; outbox->examined++)
        if (!is_small(out->bytes + out->sends[outbox->examined].at, &out->sends[outbox->examined]))
            return 0;
    return now < outbox->written_at + outbox->gather_time && out->used < MAX_USED && out->count < MAX_WAITING;
}

static int follows(const uint8_t *packet, uint32_t len, const uint8_t *before, const place *so_far, uint32_t most)
{
    const size_t ends_len = 2 * 4 + 2 * 2; /* addresses, ports */
    return !memcmp(packet + IP_MIN - 2 * 4, before + IP_MIN - 2 * 4, ends_len) &&
           get32(packet + IP_MIN + 4) == get32(before + IP_MIN + 4) + so_far->data_len &&
           so_far->data_len + len - HEADERS_LEN <= most && so_far->parts < MAX_PARTS;
}

/* Group adjacent small segments of each stream, and keep the order of its packets. */
static void group(const uint8_t *bytes, const nm_send *sends, uint32_t count, place *places)
{
    uint16_t newest[MAX_WAITING]; /* by a hash of the ports: the first packet of the latest group, or NONE */
    for (uint32_t slot = 0; slot < MAX_WAITING; slot++)
        newest[slot] = NONE;
    for (uint32_t i = 0; i < count; i++) {
        const nm_send *one = &sends[i];
        const uint8_t *packet = bytes + one->at;
        uint16_t *slot = &newest[(get16(packet + IP_MIN) + 31u * get16(packet + IP_MIN + 2)) % MAX_WAITING];
        place *first = *slot == NONE ? NULL : &places[*slot];
        places[i] = (place){.next = NONE, .last = (uint16_t)i, .data_len = one->len - HEADERS_LEN, .parts = 2};
        if (!is_small(packet, one)) {
            *slot = NONE;
        } else if (first && follows(packet, one->len, bytes + sends[*slot].at, first, sends[*slot].segment_len)) {
            places[first->last].next = (uint16_t)i;
            places[i].last = NONE;
            first->last = (uint16_t)i;
            first->data_len += one->len - HEADERS_LEN;
            first->parts++;
        } else {
            *slot = (uint16_t)i;
        }
    }
}

/* Make the first packet's headers those of the group: a length of len, acknowledgement and window of the last
 * packet. */
static void merge_headers(uint8_t *packet, const uint8_t *last, uint32_t len)
{
    uint8_t *tcp = packet + IP_MIN;
    put16(packet + 2, (uint16_t)len);
    put16(packet + 10, 0);
    put16(packet + 10, (uint16_t)~fold(sum_words(packet, IP_MIN)));
    memcpy(tcp + 8, last + IP_MIN + 8, 4); /* acknowledgement */
    memcpy(tcp + 14, last + IP_MIN + 14, 2); /* window */
    put16(tcp + 16, fold(sum_words(packet + 12, 8) + PROTO_TCP + len - IP_MIN));
}

/* Write a group, given its first packet. */
static void write_group(nl_outbox *outbox, uint8_t *bytes, const nm_send *sends, const place *places, uint32_t number)
{
    const nm_send *one = &sends[number];
    uint8_t *packet = bytes + one->at;
    uint32_t headers_len = IP_MIN + (uint32_t)(packet[IP_MIN + 12] >> 4) * 4;
    struct virtio_net_hdr header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = IP_MIN, .csum_offset = 16};
    struct iovec parts[MAX_PARTS] = {{&header, sizeof header}, {packet, one->len}};
    int count = 2;
    for (uint32_t next = places[number].next; next != NONE; next = places[next].next)
        parts[count++] = (struct iovec){bytes + sends[next].at + HEADERS_LEN, sends[next].len - HEADERS_LEN};
    if (count > 2)
        merge_headers(packet, bytes + sends[places[number].last].at, HEADERS_LEN + places[number].data_len);
    if (one->segment_len && one->len - headers_len > one->segment_len) {
        header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        header.hdr_len = (uint16_t)headers_len;
        header.gso_size = one->segment_len;
    }
    if (writev(outbox->fd, parts, count) < 0) {
        outbox->counters.packets_refused++;
        return;
    }
    outbox->counters.packets_sent++;
    outbox->counters.packets_joined += (uint64_t)count - 2;
}

void nl_outbox_send(nl_outbox *outbox, nm_out *out, double now)
{
    place places[MAX_WAITING];
    for (uint32_t start = 0; start < out->count; start += MAX_WAITING) {
        const nm_send *sends = out->sends + start;
        uint32_t count = out->count - start < MAX_WAITING ? out->count - start : MAX_WAITING;
        group(out->bytes, sends, count, places);
        for (uint32_t i = 0; i < count; i++)
            if (places[i].last != NONE)
                write_group(outbox, out->bytes, sends, places, i);
    }
    if (out->count)
        outbox->written_at = now;
    outbox->examined = 0;
    outbox->due_at = INFINITY;
    nm_out_clear(out);
}

void nl_outbox_gather(nl_outbox *outbox, nm_out *out, double now)
{
    if (out->count && may_wait(outbox, out, now))
        outbox->due_at = outbox->written_at + outbox->gather_time;
    else
        nl_outbox_send(outbox, out, now);
}
