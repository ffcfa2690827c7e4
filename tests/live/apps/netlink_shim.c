/* A kernel that fails netfilter queues, for natmirror started with this library in LD_PRELOAD.
 *
 * The environment's NETLINK_SHIM names a directory. While it has one of these files, for each call that sends verdicts:
 *   refuse   fails with ENOBUFS
 *   swallow  succeeds, and the kernel gets nothing
 *   unbind-N first unbinds queue N where they are for it, once: the file is removed
 * and for each call that receives packets:
 *   deaf     fails with EIO
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int is_on(const char *name, int ends)
{
    char path[4096];
    const char *directory = getenv("NETLINK_SHIM");
    if (!directory)
        return 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return ends ? unlink(path) == 0 : access(path, F_OK) == 0;
}

static int has_verdicts(const struct msghdr *message)
{
    struct nlmsghdr header;
    if (!message->msg_iovlen || message->msg_iov[0].iov_len < sizeof header)
        return 0;
    memcpy(&header, message->msg_iov[0].iov_base, sizeof header);
    return header.nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT) ||
           header.nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT_BATCH);
}

static void unbind_if_wanted(int fd, const struct msghdr *verdicts)
{
    char name[64];
    struct {
        struct nlmsghdr header;
        struct nfgenmsg general;
        struct nlattr attribute;
        struct nfqnl_msg_config_cmd command;
    } request;
    memset(&request, 0, sizeof request);
    memcpy(&request.general, (char *)verdicts->msg_iov[0].iov_base + NLMSG_HDRLEN, sizeof request.general);
    snprintf(name, sizeof name, "unbind-%u", ntohs(request.general.res_id));
    if (!is_on(name, 1))
        return;
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.attribute.nla_len = NLA_HDRLEN + sizeof request.command;
    request.attribute.nla_type = NFQA_CFG_CMD;
    request.command.command = NFQNL_CFG_CMD_UNBIND;
    send(fd, &request, sizeof request, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "sendmsg");
    if (has_verdicts(message)) {
        if (is_on("refuse", 0)) {
            errno = ENOBUFS;
            return -1;
        }
        if (is_on("swallow", 0)) {
            ssize_t len = 0;
            for (size_t i = 0; i < message->msg_iovlen; i++)
                len += (ssize_t)message->msg_iov[i].iov_len;
            return len;
        }
        unbind_if_wanted(fd, message);
    }
    return real(fd, message, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    static int (*real)(int, struct mmsghdr *, unsigned, int, struct timespec *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "recvmmsg");
    if (is_on("deaf", 0)) {
        errno = EIO;
        return -1;
    }
    return real(fd, messages, count, flags, timeout);
}
