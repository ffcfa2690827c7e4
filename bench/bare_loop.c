/* The smallest possible NAT on an NFQUEUE: one service, one backend, no flows, no state. It shows the least that a loop
 * in C costs.
 *
 *   bare_loop QUEUE SERVICE BACKEND
 *
 * It receives batches from the queue, replaces one address by the other in both directions, and sends a batch's
 * verdicts at once. It checks nothing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BATCH = 32, DATAGRAM_MAX = 68 << 10, MAX_LEN = 8192, BUFFER_LEN = 32 << 20, IP_LEN = 20 };

static uint8_t datagrams[BATCH][DATAGRAM_MAX];

typedef struct {
    struct nlmsghdr header;
    struct nfgenmsg general;
    struct nlattr attribute;
    struct nfqnl_msg_verdict_hdr verdict;
    struct nlattr payload;
} answer;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t add(uint64_t sum, const uint8_t *at, size_t len)
{
    for (; len >= 4; at += 4, len -= 4) {
        uint32_t word;
        memcpy(&word, at, 4);
        sum += word;
    }
    if (len) {
        uint32_t word = 0;
        memcpy(&word, at, len);
        sum += word;
    }
    return sum;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* RFC 1624 */
static void update(uint8_t *checksum, const uint8_t *old, const uint8_t *fresh)
{
    uint16_t was, is;
    uint32_t from, to;
    memcpy(&was, checksum, 2);
    memcpy(&from, old, 4);
    memcpy(&to, fresh, 4);
    is = (uint16_t)~fold((uint64_t)(uint16_t)~was + (uint32_t)~from + to);
    memcpy(checksum, &is, 2);
}

static void rewrite(uint8_t *ip, size_t len, int is_partial, uint32_t service, uint32_t backend)
{
    uint8_t *tcp = ip + IP_LEN;
    uint32_t destination;
    memcpy(&destination, ip + 16, 4);
    int is_request = destination == service;
    uint8_t *at = ip + (is_request ? 16 : 12);
    uint32_t fresh = is_request ? backend : service;
    uint8_t old[4];
    memcpy(old, at, 4);
    memcpy(at, &fresh, 4);
    update(ip + 10, old, at);
    if (!is_partial) {
        update(tcp + 16, old, at);
        return;
    }
    memset(tcp + 16, 0, 2);
    uint64_t sum = add(htons(IPPROTO_TCP) + (uint64_t)htons((uint16_t)(len - IP_LEN)), ip + 12, 8);
    uint16_t checksum = (uint16_t)~fold(add(sum, tcp, len - IP_LEN));
    memcpy(tcp + 16, &checksum, 2);
}

/* Send one attribute of at most eight bytes; for flags also their mask, because the kernel wants both in one message.
*/ static void configure(int fd, uint16_t queue, uint16_t type, const void *value, uint16_t len) {
    struct {
        struct nlmsghdr header;
        struct nfgenmsg general;
        uint8_t attributes[32];
    } request = {
        .header = {.nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG, .nlmsg_flags = NLM_F_REQUEST},
        .general = {.version = NFNETLINK_V0, .res_id = htons(queue)},
    };
    size_t used = 0;
    for (int i = 0; i < (type == NFQA_CFG_FLAGS ? 2 : 1); i++) {
        struct nlattr attribute = {.nla_type = i ? NFQA_CFG_MASK : type, .nla_len = (uint16_t)(NLA_HDRLEN + len)};
        memcpy(request.attributes + used, &attribute, sizeof attribute);
        memcpy(request.attributes + used + NLA_HDRLEN, value, len);
        used += NLA_ALIGN(attribute.nla_len);
    }
    request.header.nlmsg_len = (uint32_t)(sizeof request - sizeof request.attributes + used);
    if (send(fd, &request, request.header.nlmsg_len, 0) < 0)
        die("send");
}

static int bind_queue(uint16_t number)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), on = 1, size = BUFFER_LEN;
    if (fd < 0)
        die("socket");
    struct nfqnl_msg_config_cmd bind_it = {.command = NFQNL_CFG_CMD_BIND, .pf = htons(AF_INET)};
    struct nfqnl_msg_config_params copy = {.copy_range = htonl(0xffff), .copy_mode = NFQNL_COPY_PACKET};
    uint32_t gso = htonl(NFQA_CFG_F_GSO), max_len = htonl(MAX_LEN);
    configure(fd, number, NFQA_CFG_CMD, &bind_it, sizeof bind_it);
    configure(fd, number, NFQA_CFG_PARAMS, &copy, 5);
    configure(fd, number, NFQA_CFG_FLAGS, &gso, sizeof gso);
    configure(fd, number, NFQA_CFG_QUEUE_MAXLEN, &max_len, sizeof max_len);
    setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    uint16_t number = (uint16_t)atoi(argv[1]);
    uint32_t service = inet_addr(argv[2]), backend = inet_addr(argv[3]);
    int fd = bind_queue(number);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct mmsghdr headers[BATCH] = {0};
        struct iovec in[BATCH], out[3 * BATCH];
        answer answers[BATCH];
        static const uint8_t padding[4];
        for (int i = 0; i < BATCH; i++) {
            in[i] = (struct iovec){datagrams[i], DATAGRAM_MAX};
            headers[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1};
        }
        int received = recvmmsg(fd, headers, BATCH, MSG_WAITFORONE, NULL), parts = 0;
        if (received < 0)
            die("recvmmsg");
        for (int i = 0; i < received; i++) {
            struct nlmsghdr header;
            memcpy(&header, datagrams[i], sizeof header);
            if (header.nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
                continue;
            uint8_t *payload = NULL, *end = datagrams[i] + header.nlmsg_len;
            size_t len = 0;
            uint32_t id = 0, info = 0;
            for (uint8_t *at = datagrams[i] + NLMSG_HDRLEN + sizeof(struct nfgenmsg); at < end;) {
                struct nlattr attribute;
                memcpy(&attribute, at, sizeof attribute);
                if (attribute.nla_type == NFQA_PACKET_HDR)
                    memcpy(&id, at + NLA_HDRLEN, sizeof id);
                if (attribute.nla_type == NFQA_SKB_INFO)
                    memcpy(&info, at + NLA_HDRLEN, sizeof info);
                if (attribute.nla_type == NFQA_PAYLOAD) {
                    payload = at + NLA_HDRLEN;
                    len = attribute.nla_len - (size_t)NLA_HDRLEN;
                }
                at += NLA_ALIGN(attribute.nla_len);
            }
            if (payload)
                rewrite(payload, len, ntohl(info) & NFQA_SKB_CSUMNOTREADY, service, backend);
            answers[i] = (answer){
                .header = {.nlmsg_len = (uint32_t)(sizeof(answer) + NLA_ALIGN(len)),
                           .nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT,
                           .nlmsg_flags = NLM_F_REQUEST},
                .general = {.version = NFNETLINK_V0, .res_id = htons(number)},
                .attribute = {.nla_len = NLA_HDRLEN + sizeof answers->verdict, .nla_type = NFQA_VERDICT_HDR},
                .verdict = {.verdict = htonl(NF_ACCEPT), .id = id},
                .payload = {.nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = NFQA_PAYLOAD},
            };
            out[parts++] = (struct iovec){&answers[i], sizeof answers[i]};
            out[parts++] = (struct iovec){payload, len};
            out[parts++] = (struct iovec){(void *)(uintptr_t)padding, NLA_ALIGN(len) - len};
        }
        if (parts && writev(fd, out, parts) < 0)
            perror("writev");
    }
}
