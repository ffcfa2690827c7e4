/* Arbitrary datagrams through the codec of netfilter queues: what it finds has to lie inside of what it was given.
 *
 * Then every packet that it found gets a verdict, so that the writing half is driven to its limits too; the descriptor
 * is none, and sending fails.
 */
#include <stdlib.h>
#include <string.h>

#include "_nfqueue.h"
#include "must.h"

#define NO_DESCRIPTOR (-1)

static nq *queue;

static void check(const nq_packet *packet, const uint8_t *datagram, size_t len)
{
    must(packet->checksum <= NQ_PARTIAL);
    must(packet->truncated <= 1);
    if (!packet->payload) {
        must(packet->len == 0);
        return;
    }
    must(packet->payload >= datagram && packet->payload <= datagram + len);
    must(packet->len <= (size_t)(datagram + len - packet->payload));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!queue)
        must((queue = nq_new(NO_DESCRIPTOR, 1)) != NULL);
    if (!size)
        return 0;
    int max = data[0] % NQ_BATCH + 1;
    size_t len = size - 1;
    uint8_t *datagram = malloc(len);
    nq_packet *packets = malloc((size_t)max * sizeof *packets);
    must(datagram && packets);
    memcpy(datagram, data + 1, len);
    uint64_t before = nq_queue_counters(queue)->packets;
    int count = nq_parse(queue, datagram, len, packets, max);
    must(count >= 0 && count <= max);
    must(nq_queue_counters(queue)->packets == before + (uint64_t)count);
    for (int i = 0; i < count; i++) {
        check(&packets[i], datagram, len);
        if (packets[i].truncated)
            nq_drop(queue, packets[i].id);
        else if (packets[i].mark)
            nq_accept_marked(queue, packets[i].id, packets[i].mark);
        else
            nq_accept(queue, packets[i].id, packets[i].payload, packets[i].len);
    }
    free(packets);
    free(datagram);
    return 0;
}
