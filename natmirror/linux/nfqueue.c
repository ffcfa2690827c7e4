/* The codec of netfilter queues; nfqueue.h describes its functions.
 *
 * Every length in a message is checked against the bytes that were received, even though the kernel sent them.
 */
#define _GNU_SOURCE
#include "linux/nfqueue.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* One datagram: a packet of at most 64 KiB and its attributes. */
#define DATAGRAM_MAX (68 * 1024)
/* Verdicts are sent when this number of bytes has gathered: the kernel refuses a message larger than the socket's
 * buffer. */
#define VERDICTS_MAX (512 * 1024)
#define VERDICT_MAX (68 * 1024)
#define CONFIG_LEN (NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) + 2 * (NLA_HDRLEN + sizeof(uint32_t)))
/* Reserved bytes of verdicts[] for a verdict whose payload is not copied: it takes up to 40, and a cut 68. */
#define SMALL_VERDICT 72
#define MAX_PARTS 512 /* the kernel takes twice as many (UIO_MAXIOV) */
#define PARTS_OF_VERDICT 3
/* Room for the verdicts of the packets that were received last, while the kernel refuses verdicts. */
#define RESERVED_BYTES (NQ_BATCH * SMALL_VERDICT)
#define RESERVED_PARTS ((NQ_BATCH + 1) * PARTS_OF_VERDICT)
#define MAX_ERRNO 4095 /* linux/err.h */

#define PACKET_MESSAGE ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET)
#define VERDICT_MESSAGE ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT)
#define CONFIG_MESSAGE ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_CONFIG)
#define BATCH_MESSAGE ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT_BATCH)

struct nq {
    int fd;
    uint16_t number;
    uint32_t acknowledged;
    int answer;
    uint32_t last_id;
    uint32_t emptied;
    uint8_t is_refused;  /* the kernel has refused the waiting verdicts */
    int failure;         /* the errno of a refusal other than for lack of memory; or 0 */
    uint32_t waiting;    /* messages that wait to be sent */
    size_t verdicts_len; /* bytes of these messages, including payloads that are stored elsewhere */
    size_t used;         /* bytes of verdicts[] */
    int first;           /* index of the first of parts[] that has not been sent */
    int part_count;
    struct iovec parts[MAX_PARTS];
    nq_counters counters;
    uint8_t verdicts[VERDICTS_MAX + VERDICT_MAX + RESERVED_BYTES];
    uint8_t datagrams[NQ_BATCH][DATAGRAM_MAX];
};

nq *nq_new(int fd, uint16_t number)
{
    nq *queue = calloc(1, sizeof *queue);
    if (queue) {
        queue->fd = fd;
        queue->number = number;
    }
    return queue;
}

void nq_free(nq *queue) { free(queue); }

nq_counters *nq_queue_counters(nq *queue) { return &queue->counters; }

int nq_fd(const nq *queue) { return queue->fd; }

uint32_t nq_acknowledged(const nq *queue) { return queue->acknowledged; }

int nq_answer(const nq *queue) { return queue->answer; }

uint32_t nq_last_id(const nq *queue) { return queue->last_id; }

uint32_t nq_emptied(const nq *queue) { return queue->emptied; }

uint32_t nq_waiting(const nq *queue) { return queue->waiting; }

int nq_is_refused(const nq *queue) { return queue->is_refused; }

int nq_failure(const nq *queue) { return queue->failure; }

int nq_has_room(const nq *queue)
{
    return queue->used <= VERDICTS_MAX && queue->part_count + PARTS_OF_VERDICT + RESERVED_PARTS <= MAX_PARTS;
}

/* Note the kernel's answer to one of our messages. It answers a verdict only if the verdict failed, and a numbered
 * request always. */
static void take_answer(nq *queue, const uint8_t *message, size_t len)
{
    int32_t error;
    struct nlmsghdr request;
    if (len < NLMSG_HDRLEN + sizeof error + sizeof request) {
        queue->counters.messages_malformed++;
        return;
    }
    memcpy(&error, message + NLMSG_HDRLEN, sizeof error);
    memcpy(&request, message + NLMSG_HDRLEN + sizeof error, sizeof request);
    if (error > 0 || error < -MAX_ERRNO) {
        queue->counters.messages_malformed++;
        return;
    }
    if (request.nlmsg_seq) {
        queue->acknowledged = request.nlmsg_seq;
        queue->answer = -error;
    } else if (error == -ENOENT) {
        queue->counters.verdicts_late++;
    } else if (error) {
        queue->counters.verdicts_refused++;
    }
}

/* Parse the attributes behind struct nfgenmsg; return 0 where the message is malformed. */
static int parse_attributes(const uint8_t *at, size_t len, nq_packet *packet)
{
    int have_header = 0, has_segments = 0;
    packet->checksum = NM_CHECKSUM_VALID;
    while (len >= NLA_HDRLEN) {
        struct nlattr attribute;
        memcpy(&attribute, at, sizeof attribute);
        if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > len)
            return 0;
        const uint8_t *value = at + NLA_HDRLEN;
        size_t value_len = attribute.nla_len - (size_t)NLA_HDRLEN;
        switch (attribute.nla_type & NLA_TYPE_MASK) {
        case NFQA_PACKET_HDR: {
            struct nfqnl_msg_packet_hdr header;
            if (value_len < sizeof header)
                return 0;
            memcpy(&header, value, sizeof header);
            packet->id = ntohl(header.packet_id);
            packet->hook = header.hook;
            have_header = 1;
            break;
        }
        case NFQA_PAYLOAD:
            packet->payload = value;
            packet->len = (uint32_t)value_len;
            break;
        case NFQA_CAP_LEN:
            packet->truncated = 1;
            break;
        case NFQA_MARK:
            if (value_len < sizeof packet->mark)
                return 0;
            memcpy(&packet->mark, value, sizeof packet->mark);
            packet->mark = ntohl(packet->mark);
            break;
        case NFQA_TIMESTAMP:
            if (value_len < sizeof(struct nfqnl_msg_packet_timestamp))
                return 0;
            packet->arrival = value;
            break;
        case NFQA_SKB_INFO: {
            uint32_t info;
            if (value_len < sizeof info)
                return 0;
            memcpy(&info, value, sizeof info);
            info = ntohl(info);
            has_segments = (info & NFQA_SKB_GSO) != 0;
            packet->checksum = info & NFQA_SKB_CSUMNOTREADY          ? NM_CHECKSUM_PARTIAL
                               : info & NFQA_SKB_CSUM_NOTVERIFIED ? NM_CHECKSUM_UNVERIFIED
                                                                  : NM_CHECKSUM_VALID;
            break;
        }
        default:
            break;
        }
        size_t step = NLA_ALIGN(attribute.nla_len);
        if (step >= len)
            break;
        at += step;
        len -= step;
    }
    packet->can_cut = packet->truncated && has_segments;
    return have_header;
}

int nq_parse(nq *queue, const uint8_t *datagram, size_t len, nq_packet *packets, int max)
{
    int count = 0;
    while (len >= NLMSG_HDRLEN && count < max) {
        struct nlmsghdr header;
        memcpy(&header, datagram, sizeof header);
        if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > len) {
            queue->counters.messages_malformed++;
            break;
        }
        size_t body = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
        if (header.nlmsg_type == NLMSG_ERROR) {
            take_answer(queue, datagram, header.nlmsg_len);
        } else if (header.nlmsg_type == PACKET_MESSAGE) {
            nq_packet *packet = &packets[count];
            memset(packet, 0, sizeof *packet);
            if (header.nlmsg_len >= body && parse_attributes(datagram + body, header.nlmsg_len - body, packet)) {
                queue->counters.packets_received++;
                queue->counters.packets_truncated += packet->truncated;
                queue->counters.packets_missed += packet->id - queue->last_id - 1;
                queue->last_id = packet->id;
                count++;
            } else {
                queue->counters.messages_malformed++;
            }
        }
        size_t step = NLMSG_ALIGN(header.nlmsg_len);
        if (step >= len)
            break;
        datagram += step;
        len -= step;
    }
    return count;
}

double nq_arrived_at(const nq_packet *packet)
{
    struct nfqnl_msg_packet_timestamp noted;
    if (!packet->arrival)
        return 0;
    memcpy(&noted, packet->arrival, sizeof noted);
    return (double)be64toh(noted.sec) + (double)be64toh(noted.usec) / 1e6;
}

int nq_receive(nq *queue, nq_packet *packets, int waits)
{
    struct mmsghdr headers[NQ_BATCH];
    struct iovec vectors[NQ_BATCH];
    if (queue->is_refused)
        return 0; /* the receive buffers hold payloads of verdicts that wait */
    memset(headers, 0, sizeof headers);
    for (int i = 0; i < NQ_BATCH; i++) {
        vectors[i].iov_base = queue->datagrams[i];
        vectors[i].iov_len = DATAGRAM_MAX;
        headers[i].msg_hdr.msg_iov = &vectors[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    int received = recvmmsg(queue->fd, headers, NQ_BATCH, waits ? MSG_WAITFORONE : MSG_DONTWAIT, NULL);
    queue->emptied += received < NQ_BATCH;
    if (received < 0) {
        if (errno == ENOBUFS)
            queue->counters.receive_buffer_overruns++;
        return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -errno;
    }
    int count = 0;
    for (int i = 0; i < received; i++) {
        if (headers[i].msg_hdr.msg_flags & MSG_TRUNC)
            queue->counters.messages_malformed++;
        else
            count += nq_parse(queue, queue->datagrams[i], headers[i].msg_len, packets + count, NQ_BATCH - count);
    }
    return count;
}

static void put_attribute(uint8_t *at, uint16_t type, const void *value, size_t len)
{
    struct nlattr attribute = {.nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = type};
    memcpy(at, &attribute, sizeof attribute);
    memcpy(at + NLA_HDRLEN, value, len);
    memset(at + NLA_HDRLEN + len, 0, NLA_ALIGN(len) - len);
}

static const uint8_t PADDING[NLA_ALIGNTO];

static void add_part(nq *queue, const void *at, size_t len)
{
    queue->verdicts_len += len;
    struct iovec *last = queue->part_count ? &queue->parts[queue->part_count - 1] : NULL;
    if (last && (const uint8_t *)last->iov_base + last->iov_len == at)
        last->iov_len += len;
    else if (len)
        queue->parts[queue->part_count++] = (struct iovec){(void *)(uintptr_t)at, len};
}

/* Reserve len bytes of verdicts[] as the next part to be sent. */
static uint8_t *add_written(nq *queue, size_t len)
{
    uint8_t *at = queue->verdicts + queue->used;
    queue->used += len;
    add_part(queue, at, len);
    return at;
}

/* Write the head of a verdict, before `more` bytes of attributes. */
static void put_head(nq *queue, uint16_t type, uint32_t request, uint32_t id, uint32_t verdict, size_t more)
{
    size_t head = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
    size_t len = head + NLA_HDRLEN + NLA_ALIGN(sizeof(struct nfqnl_msg_verdict_hdr));
    struct nlmsghdr header = {.nlmsg_len = (uint32_t)(len + more),
                              .nlmsg_type = type,
                              .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | (request ? NLM_F_ACK : 0)),
                              .nlmsg_seq = request};
    struct nfgenmsg general = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(queue->number)};
    struct nfqnl_msg_verdict_hdr decided = {.verdict = htonl(verdict), .id = htonl(id)};
    uint8_t *at = add_written(queue, len);
    memcpy(at, &header, sizeof header);
    memcpy(at + NLMSG_HDRLEN, &general, sizeof general);
    put_attribute(at + head, NFQA_VERDICT_HDR, &decided, sizeof decided);
    queue->waiting++;
}

/* Return whether a message with so many copied bytes fits. If it does not, although the caller must ask nq_has_room()
 * first, count it as never sent. */
static int fits(nq *queue, size_t copied)
{
    if (queue->used + SMALL_VERDICT + copied <= sizeof queue->verdicts &&
        queue->part_count + PARTS_OF_VERDICT <= MAX_PARTS)
        return 1;
    queue->counters.verdicts_not_sent++;
    return 0;
}

/* Flush if little room is left. Refused verdicts are sent again only by the caller's nq_flush(). */
static void flush_if_full(nq *queue)
{
    if (!queue->is_refused && (queue->verdicts_len >= VERDICTS_MAX || !nq_has_room(queue)))
        nq_flush(queue);
}

/* Write a verdict. The payload is copied, unless it `stays` in its place until it is sent. */
static void put_verdict(nq *queue, uint32_t id, uint32_t verdict, const uint8_t *payload, size_t len, int stays)
{
    if (len > 0xffff - NLA_HDRLEN) {
        verdict = NF_DROP;
        len = 0;
        queue->counters.packets_oversized++;
    }
    if (!fits(queue, stays ? 0 : len))
        return;
    put_head(queue, VERDICT_MESSAGE, 0, id, verdict, len ? NLA_HDRLEN + NLA_ALIGN(len) : 0);
    if (len && stays) {
        struct nlattr attribute = {.nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = NFQA_PAYLOAD};
        memcpy(add_written(queue, sizeof attribute), &attribute, sizeof attribute);
        add_part(queue, payload, len);
        add_part(queue, PADDING, NLA_ALIGN(len) - len);
    } else if (len) {
        put_attribute(add_written(queue, NLA_HDRLEN + NLA_ALIGN(len)), NFQA_PAYLOAD, payload, len);
    }
    flush_if_full(queue);
}

void nq_accept(nq *queue, uint32_t id, const uint8_t *payload, size_t len)
{
    put_verdict(queue, id, NF_ACCEPT, payload, len, 0);
}

void nq_accept_packet(nq *queue, const nq_packet *packet)
{
    put_verdict(queue, packet->id, NF_ACCEPT, packet->payload, packet->len, 1);
}

void nq_accept_marked(nq *queue, uint32_t id, uint32_t mark)
{
    uint32_t value = htonl(mark);
    queue->counters.packets_translated_by_kernel++;
    if (!fits(queue, 0))
        return;
    put_head(queue, VERDICT_MESSAGE, 0, id, NF_ACCEPT, NLA_HDRLEN + sizeof value);
    put_attribute(add_written(queue, NLA_HDRLEN + sizeof value), NFQA_MARK, &value, sizeof value);
    flush_if_full(queue);
}

void nq_drop(nq *queue, uint32_t id) { put_verdict(queue, id, NF_DROP, NULL, 0, 0); }

/* Write a message that sets or clears NFQA_CFG_F_GSO. Without it the kernel cuts packets before it queues them. */
static void put_gso(nq *queue, uint32_t flags)
{
    struct nlmsghdr header = {.nlmsg_len = CONFIG_LEN, .nlmsg_type = CONFIG_MESSAGE, .nlmsg_flags = NLM_F_REQUEST};
    struct nfgenmsg general = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(queue->number)};
    uint32_t mask = htonl(NFQA_CFG_F_GSO);
    uint8_t *at = add_written(queue, CONFIG_LEN);
    memcpy(at, &header, sizeof header);
    memcpy(at + NLMSG_HDRLEN, &general, sizeof general);
    at += NLMSG_HDRLEN + NLMSG_ALIGN(sizeof general);
    flags = htonl(flags);
    put_attribute(at, NFQA_CFG_FLAGS, &flags, sizeof flags);
    put_attribute(at + NLA_HDRLEN + sizeof flags, NFQA_CFG_MASK, &mask, sizeof mask);
    queue->waiting++;
}

/* The verdict NF_QUEUE puts the packet into the queue once more. The kernel handles both messages in their order. */
void nq_cut(nq *queue, uint32_t id)
{
    if (!fits(queue, 0))
        return;
    queue->counters.packets_cut++;
    put_gso(queue, 0);
    put_head(queue, VERDICT_MESSAGE, 0, id, NF_QUEUE_NR((uint32_t)queue->number), 0);
    flush_if_full(queue);
}

void nq_stop_cutting(nq *queue)
{
    if (fits(queue, 0))
        put_gso(queue, NFQA_CFG_F_GSO);
}

int nq_give(nq *queue, uint32_t id, int accepts, const uint8_t *payload, size_t len)
{
    if (!nq_has_room(queue))
        return 0;
    put_verdict(queue, id, accepts ? NF_ACCEPT : NF_DROP, payload, len, 0);
    return 1;
}

void nq_probe(nq *queue, uint32_t id, int accepts, uint32_t request)
{
    if (fits(queue, 0))
        put_head(queue, BATCH_MESSAGE, request, id, accepts ? NF_ACCEPT : NF_DROP, 0);
}

/* Return 0 or an errno. */
static int send_parts(nq *queue, struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    return sendmsg(queue->fd, &message, 0) < 0 ? errno : 0;
}

static void forget_sent(nq *queue)
{
    queue->verdicts_len = queue->used = 0;
    queue->first = queue->part_count = 0;
    queue->waiting = 0;
    queue->is_refused = 0;
}

/* Send the first message that waits, alone; return 0 or an errno. */
static int send_first(nq *queue)
{
    struct iovec parts[PARTS_OF_VERDICT];
    struct nlmsghdr header; /* put_head() has written it in one piece */
    memcpy(&header, queue->parts[queue->first].iov_base, sizeof header);
    size_t left = header.nlmsg_len;
    int count = 0;
    for (; left && count < PARTS_OF_VERDICT; count++) {
        parts[count] = queue->parts[queue->first + count];
        if (parts[count].iov_len > left)
            parts[count].iov_len = left;
        left -= parts[count].iov_len;
    }
    int error = send_parts(queue, parts, count);
    if (error)
        return error;
    struct iovec *last = &queue->parts[queue->first + count - 1];
    size_t sent = parts[count - 1].iov_len;
    last->iov_base = (uint8_t *)last->iov_base + sent;
    last->iov_len -= sent;
    queue->first += last->iov_len ? count - 1 : count;
    queue->verdicts_len -= header.nlmsg_len;
    queue->waiting--;
    return 0;
}

/* Return whether the kernel refused a message for a passing lack of memory, so that it can be sent again. */
static int is_transient(int error)
{
    return error == ENOBUFS || error == ENOMEM || error == EAGAIN || error == EINTR;
}

int nq_flush(nq *queue)
{
    if (!queue->part_count)
        return 1;
    int error = send_parts(queue, queue->parts + queue->first, queue->part_count - queue->first);
    if (!error) {
        forget_sent(queue);
        return 1;
    }
    queue->counters.verdict_sends_refused++;
    if (is_transient(error) || error == EMSGSIZE) /* the kernel may take a small message where it refuses a large one */
        for (error = 0; queue->waiting && !error;)
            error = send_first(queue);
    if (!queue->waiting) {
        forget_sent(queue);
        return 1;
    }
    queue->is_refused = 1;
    queue->failure = is_transient(error) ? 0 : error;
    return 0;
}
