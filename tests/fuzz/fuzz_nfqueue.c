/* Arbitrary datagrams through the codec of netfilter queues: what it finds must lie inside its input.
 *
 * Then every packet that it found gets a verdict, so that the writing half is driven to its limits too. The kernel
 * refuses as the input says; what it takes has to be every verdict, whole and in order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>

#include "linux/nfqueue.h"
#include "must.h"

#define NO_DESCRIPTOR (-1)
#define MAX_EXPECTED (1 << 20)
#define WITHOUT_PAYLOAD 40 /* bytes at most */
/* A message that changes the queue's flags has the head of its second attribute where a verdict has its packet's id. */
#define CONFIG_WORD (8u | NFQA_CFG_MASK << 16)

static nq *queue;
/* The ids of verdicts that were given and that the kernel has not received. */
static uint32_t expected[MAX_EXPECTED];
static uint32_t given, arrived;
static uint8_t refusals; /* a bit for each of the next calls */
static size_t longest;   /* the longest message that the kernel takes */

ssize_t flaky_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t flaky_sendmsg(int fd, const struct msghdr *message, int flags)
{
    must(fd == NO_DESCRIPTOR && flags == 0);
    size_t len = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        len += message->msg_iov[i].iov_len;
    int is_refused = refusals & 1;
    refusals >>= 1;
    if (is_refused || len > longest) {
        errno = is_refused ? ENOBUFS : EMSGSIZE;
        return -1;
    }
    uint8_t *whole = malloc(len), *at = whole;
    must(whole != NULL);
    for (size_t i = 0; i < message->msg_iovlen; at += message->msg_iov[i++].iov_len)
        memcpy(at, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    for (at = whole; at < whole + len;) {
        struct nlmsghdr header;
        uint32_t id;
        must((size_t)(whole + len - at) >= sizeof header);
        memcpy(&header, at, sizeof header);
        must(header.nlmsg_len >= 32 && header.nlmsg_len <= (size_t)(whole + len - at));
        memcpy(&id, at + 28, sizeof id);
        must(arrived < given && id == expected[arrived++ % MAX_EXPECTED]);
        at += NLMSG_ALIGN(header.nlmsg_len);
    }
    free(whole);
    return (ssize_t)len;
}

static void check(const nq_packet *packet, const uint8_t *datagram, size_t len)
{
    must(packet->checksum <= NM_CHECKSUM_PARTIAL);
    must(packet->truncated <= 1);
    must(packet->can_cut <= packet->truncated);
    if (!packet->payload) {
        must(packet->len == 0);
        return;
    }
    must(packet->payload >= datagram && packet->payload <= datagram + len);
    must(packet->len <= (size_t)(datagram + len - packet->payload));
}

static void give(const nq_packet *packet)
{
    if (!nq_has_room(queue))
        return;
    if (packet->can_cut)
        expected[given++ % MAX_EXPECTED] = CONFIG_WORD;
    expected[given++ % MAX_EXPECTED] = __builtin_bswap32(packet->id);
    if (packet->can_cut) {
        nq_cut(queue, packet->id);
        if (!nq_has_room(queue))
            return;
        expected[given++ % MAX_EXPECTED] = CONFIG_WORD;
        nq_stop_cutting(queue);
    } else if (packet->truncated)
        nq_drop(queue, packet->id);
    else if (packet->mark)
        nq_accept_marked(queue, packet->id, packet->mark);
    else
        nq_accept(queue, packet->id, packet->payload, packet->len);
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
    uint64_t before = nq_queue_counters(queue)->packets_received;
    int count = nq_parse(queue, datagram, len, packets, max);
    must(count >= 0 && count <= max);
    must(nq_queue_counters(queue)->packets_received == before + (uint64_t)count);
    refusals = size > 1 ? data[size - 1] : 0;
    longest = WITHOUT_PAYLOAD + (size_t)data[0] * 64;
    for (int i = 0; i < count; i++) {
        check(&packets[i], datagram, len);
        give(&packets[i]);
    }
    must(nq_flush(queue) == !nq_is_refused(queue));
    must(nq_waiting(queue) == given - arrived);
    if (data[0] & 1) {
        refusals = 0;
        longest = SIZE_MAX;
        must(nq_flush(queue) && nq_waiting(queue) == 0);
    }
    must(nq_queue_counters(queue)->verdicts_not_sent == 0);
    free(packets);
    free(datagram);
    return 0;
}
