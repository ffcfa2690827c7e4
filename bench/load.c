/* The load of the benchmark: one server, and one client for each measure. Single-threaded, epoll, no allocation per
 * message, so that the path between them is measured and not the load. A client prints one line of JSON.
 *
 *   load serve       --port P [--ports N] [--workers N] [--silent]
 *   load bulk        --to A --port P --connections N --seconds S
 *   load packets     (the same)
 *   load connections (the same), with --from A --sources N
 *   load latency     (the same), with --rate R
 *   load idle        --to A --port P --connections N --seconds S --from A --sources N
 *
 * The first byte of a client says what the server does with the connection: with SINK it reads, and at the end sends
 * the number of bytes; with ECHO it sends everything back. A mirror gets the same bytes and does the same.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_LEN = 32, BLOCK_LEN = 128 << 10, BATCH = 256, BACKLOG = 65535, MAX_FILES = 400000 };
enum { MAX_OPENING = 256, MAX_OUTSTANDING = 64, LISTENER = 1 };
enum { SINK = 'S', ECHO = 'E' };

static const double CONNECT_TIMEOUT = 10.0; /* seconds for opening the connections of a measure */
static const double END_TIMEOUT = 15.0;     /* seconds for the bytes that are in flight when the measure ends */
static const double WARM_UP = 0.3;          /* seconds at the beginning of `latency` that are not counted */
static const double LAST_TIMEOUT = 2.0;     /* seconds for the replies that are in flight when `latency` ends */

typedef struct {
    const char *to, *from;
    int port, ports, workers, sources, connections;
    double seconds, rate;
    bool silent;
} options;

/* A connection of a client. */
typedef struct {
    int fd;
    bool connected;
    size_t received;                      /* bytes of the message that is arriving */
    double started_at;
    double sent_at[MAX_OUTSTANDING];      /* a ring: when each request without a reply was sent */
    unsigned first, outstanding;
} connection;

/* A connection of the server, by descriptor. */
typedef struct {
    uint64_t bytes;
    char mode; /* LISTENER, SINK or ECHO; 0: no byte has come */
} peer;

static char block[BLOCK_LEN];
static struct epoll_event events[BATCH];

static void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Wait for events until `until`; return their number. */
static int wait_until(int poll, double until)
{
    double left = until - now();
    if (left < 0)
        left = 0;
    struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    int count = epoll_pwait2(poll, events, BATCH, &t, NULL);
    if (count < 0 && errno != EINTR)
        die("epoll: %s", strerror(errno));
    return count < 0 ? 0 : count;
}

static void watch(int poll, int operation, int fd, uint32_t what, uint64_t data)
{
    struct epoll_event event = {.events = what, .data.u64 = data};
    if (epoll_ctl(poll, operation, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void set(int fd, int level, int name, int value)
{
    if (setsockopt(fd, level, name, &value, sizeof value) < 0)
        die("setsockopt %d: %s", name, strerror(errno));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Samples of a duration, in seconds. */
typedef struct {
    double *values;
    size_t count, room;
} samples;

static void add(samples *s, double value)
{
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 4096;
        s->values = realloc(s->values, s->room * sizeof *s->values);
        if (!s->values)
            die("no memory");
    }
    s->values[s->count++] = value;
}

/* Return a quantile of sorted samples, in microseconds; 0 without samples. */
static double quantile_us(const samples *s, double q)
{
    return s->count ? 1e6 * s->values[(size_t)(q * (double)(s->count - 1))] : 0;
}

static void sort(samples *s)
{
    if (s->count)
        qsort(s->values, s->count, sizeof *s->values, compare);
}

/* The server */

static void listen_on(int poll, peer *peers, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* accepted sockets inherit it */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)
        die("port %d: %s", port, strerror(errno));
    peers[fd].mode = LISTENER;
    watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN, (uint64_t)fd);
}

static void accept_some(int poll, peer *peers, int listener)
{
    for (int i = 0; i < BATCH; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (fd >= MAX_FILES) {
            close(fd);
            return;
        }
        peers[fd] = (peer){0};
        watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN, (uint64_t)fd);
    }
}

static void serve_one(peer *p, int fd, bool silent)
{
    ssize_t count = recv(fd, block, sizeof block, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count > 0) {
        if (!p->mode)
            p->mode = silent ? SINK : block[0];
        p->bytes += (uint64_t)count;
        /* The load's clients always read their replies: close the connection of any other client. */
        if (p->mode == SINK || send(fd, block, (size_t)count, MSG_NOSIGNAL) == count)
            return;
    } else if (count == 0 && p->mode == SINK && !silent) {
        (void)!send(fd, &p->bytes, sizeof p->bytes, MSG_NOSIGNAL);
    }
    close(fd);
}

/* Each worker is a process, because the limit of open files applies to a process. */
static void serve(const options *o)
{
    for (int i = 1; i < o->workers && fork() > 0; i++)
        ;
    int poll = epoll_create1(0);
    peer *peers = calloc(MAX_FILES, sizeof *peers);
    if (!peers)
        die("no memory");
    for (int i = 0; i < o->ports; i++)
        listen_on(poll, peers, o->port + i);
    for (;;) {
        int count = epoll_wait(poll, events, BATCH, -1);
        for (int i = 0; i < count; i++) {
            int fd = (int)events[i].data.u64;
            if (peers[fd].mode == LISTENER)
                accept_some(poll, peers, fd);
            else
                serve_one(&peers[fd], fd, o->silent);
        }
    }
}

/* The clients */

/* Begin to connect from the n-th source address; return -1 where that fails at once. */
static int open_connection(const options *o, unsigned n)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (o->from) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(ntohl(inet_addr(o->from)) + n % (unsigned)o->sources);
        /* Have the kernel choose the port at connect(), when it knows the destination: that allows more than 64k
         * connections. */
        set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0)
            die("bind: %s", strerror(errno));
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    to.sin_addr.s_addr = inet_addr(o->to);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool failed(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error;
}

/* Open all connections of a measure, and watch them for the events `what`. */
static connection *connect_all(const options *o, int poll, uint32_t what)
{
    connection *all = calloc((size_t)o->connections, sizeof *all);
    int left = o->connections;
    double until = now() + CONNECT_TIMEOUT;
    if (!all)
        die("no memory");
    for (int i = 0; i < o->connections; i++) {
        if ((all[i].fd = open_connection(o, (unsigned)i)) < 0)
            die("cannot connect: %s", strerror(errno));
        watch(poll, EPOLL_CTL_ADD, all[i].fd, EPOLLOUT, (uint64_t)i);
    }
    while (left) {
        int count = wait_until(poll, until);
        for (int i = 0; i < count; i++) {
            connection *c = &all[events[i].data.u64];
            if (failed(c->fd))
                die("cannot connect: refused or reset");
            if (!c->connected) {
                c->connected = true;
                left--;
                watch(poll, EPOLL_CTL_MOD, c->fd, what, events[i].data.u64);
            }
        }
        if (left && now() > until)
            die("%d of %d connections did not come about within %g s", left, o->connections, CONNECT_TIMEOUT);
    }
    return all;
}

static void send_message(connection *c)
{
    if (send(c->fd, block, MESSAGE_LEN, MSG_NOSIGNAL) != MESSAGE_LEN)
        die("sending a message: %s", strerror(errno));
}

/* Read; return how many complete replies have come. */
static size_t take_replies(connection *c)
{
    char replies[MESSAGE_LEN * MAX_OUTSTANDING];
    ssize_t count = recv(c->fd, replies, sizeof replies, 0);
    if (count < 0 && errno == EAGAIN)
        return 0;
    if (count <= 0)
        die("a connection ended during the measure: %s", count ? strerror(errno) : "closed");
    c->received += (size_t)count;
    size_t whole = c->received / MESSAGE_LEN;
    c->received %= MESSAGE_LEN;
    return whole;
}

/* Send as fast as possible, close, and read the server's count of bytes. The time runs until then, so that bytes in
buffers
 * on the path do not count as throughput. */
static void bulk(const options *o)
{
    int poll = epoll_create1(0), left = o->connections;
    uint64_t sent = 0, arrived = 0, reported;
    memset(block, SINK, sizeof block);
    connection *all = connect_all(o, poll, EPOLLOUT);
    double start = now(), until = start + o->seconds;
    while (now() < until) {
        int count = wait_until(poll, until);
        for (int i = 0; i < count; i++) {
            ssize_t some = send(all[events[i].data.u64].fd, block, sizeof block, MSG_NOSIGNAL);
            if (some < 0 && errno != EAGAIN)
                die("sending: %s", strerror(errno));
            sent += some > 0 ? (uint64_t)some : 0;
        }
    }
    for (int i = 0; i < o->connections; i++) {
        shutdown(all[i].fd, SHUT_WR);
        watch(poll, EPOLL_CTL_MOD, all[i].fd, EPOLLIN, (uint64_t)i);
    }
    while (left) {
        int count = wait_until(poll, until + END_TIMEOUT);
        for (int i = 0; i < count; i++, left--) {
            int fd = all[events[i].data.u64].fd;
            if (recv(fd, &reported, sizeof reported, 0) != sizeof reported)
                die("the server did not report how many bytes arrived");
            arrived += reported;
            close(fd);
        }
        if (left && now() > until + END_TIMEOUT)
            die("the bytes of %d of %d connections did not arrive within %g s", left, o->connections, END_TIMEOUT);
    }
    if (arrived != sent)
        die("%llu bytes were sent, %llu arrived", (unsigned long long)sent, (unsigned long long)arrived);
    printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)arrived, now() - start);
}

/* Keep one message in flight on each connection. */
static void packets(const options *o)
{
    int poll = epoll_create1(0);
    uint64_t replies = 0;
    memset(block, ECHO, sizeof block);
    connection *all = connect_all(o, poll, EPOLLIN);
    double start = now(), until = start + o->seconds;
    for (int i = 0; i < o->connections; i++)
        send_message(&all[i]);
    while (now() < until) {
        int count = wait_until(poll, until);
        for (int i = 0; i < count; i++) {
            connection *c = &all[events[i].data.u64];
            if (take_replies(c)) {
                replies++;
                send_message(c);
            }
        }
    }
    double seconds = now() - start;
    /* Read the last replies without counting them: closing before that would reset the connections. */
    for (int left = o->connections; left && now() < until + LAST_TIMEOUT;) {
        int count = wait_until(poll, until + LAST_TIMEOUT);
        for (int i = 0; i < count; i++)
            left -= (int)take_replies(&all[events[i].data.u64]);
    }
    printf("{\"round_trips\": %llu, \"seconds\": %.6f}\n", (unsigned long long)replies, seconds);
}

/* The result of an event for a connection of `connections`. */
enum outcome { UNDER_WAY, ANSWERED, BROKEN };

static enum outcome advance(connection *c, uint32_t event)
{
    char reply[MESSAGE_LEN];
    if (event & EPOLLERR)
        return BROKEN;
    if (!c->connected && event & EPOLLOUT) {
        c->connected = true;
        if (send(c->fd, block, MESSAGE_LEN, MSG_NOSIGNAL) != MESSAGE_LEN)
            return BROKEN;
    }
    if (event & EPOLLIN) {
        ssize_t count = recv(c->fd, reply, sizeof reply, 0);
        if (count == 0 || (count < 0 && errno != EAGAIN))
            return BROKEN;
        c->received += count > 0 ? (size_t)count : 0;
        if (c->received == MESSAGE_LEN)
            return ANSWERED;
    }
    return UNDER_WAY;
}

/* Handle events until `until`; return how many connections ended. */
static int advance_all(connection *all, int poll, double until, samples *times, int *errors)
{
    int over = 0, count = wait_until(poll, until);
    for (int i = 0; i < count; i++) {
        connection *c = &all[events[i].data.u64];
        enum outcome outcome = advance(c, events[i].events);
        if (outcome == UNDER_WAY)
            continue;
        if (outcome == ANSWERED)
            add(times, now() - c->started_at);
        else
            ++*errors;
        close(c->fd);
        c->fd = -1;
        over++;
    }
    return over;
}

/* Connect, send one request, read one reply, close; `connections` at a time. */
static void connections(const options *o)
{
    int poll = epoll_create1(0), errors = 0, open = 0;
    unsigned opened = 0;
    samples times = {0};
    memset(block, ECHO, sizeof block);
    connection *all = calloc((size_t)o->connections, sizeof *all);
    if (!all)
        die("no memory");
    for (int i = 0; i < o->connections; i++)
        all[i].fd = -1;
    double start = now(), until = start + o->seconds;
    while (now() < until) {
        for (int i = 0; i < o->connections; i++) {
            if (all[i].fd >= 0)
                continue;
            all[i] = (connection){.started_at = now(), .fd = open_connection(o, opened++)};
            if (all[i].fd < 0)
                die("cannot connect: %s", strerror(errno));
            watch(poll, EPOLL_CTL_ADD, all[i].fd, EPOLLIN | EPOLLOUT | EPOLLET, (uint64_t)i);
            open++;
        }
        open -= advance_all(all, poll, until, &times, &errors);
    }
    double seconds = now() - start;
    size_t in_time = times.count;
    while (open && now() < until + LAST_TIMEOUT)
        open -= advance_all(all, poll, until + LAST_TIMEOUT, &times, &errors);
    sort(&times);
    printf("{\"connections\": %zu, \"errors\": %d, \"unanswered\": %d, \"seconds\": %.6f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f}\n",
           in_time, errors, open, seconds, quantile_us(&times, 0.5), quantile_us(&times, 0.99));
}

/* Send requests at a fixed rate, whether or not earlier ones have been answered. The first requests are not counted,
 * because another measure has the cost of opening connections. */
static void latency(const options *o)
{
    int poll = epoll_create1(0);
    uint64_t asked = 0, unanswered = 0, skipped = 0;
    samples times = {0}, lateness = {0};
    memset(block, ECHO, sizeof block);
    prctl(PR_SET_TIMERSLACK, 1); /* else each request may be up to 50 us late */
    connection *all = connect_all(o, poll, EPOLLIN);
    double start = now(), counted_from = start + WARM_UP, until = counted_from + o->seconds, due = start;
    while (due < until || (unanswered && now() < until + LAST_TIMEOUT)) {
        double at = now();
        if (due < until && at >= due) {
            connection *c = &all[asked % (unsigned)o->connections];
            if (at >= counted_from)
                add(&lateness, at - due);
            if (c->outstanding < MAX_OUTSTANDING) {
                c->sent_at[(c->first + c->outstanding++) % MAX_OUTSTANDING] = at;
                unanswered++;
                send_message(c);
            } else {
                skipped++;
            }
            due = start + (double)++asked / o->rate;
            continue;
        }
        int count = wait_until(poll, due < until ? due : until + LAST_TIMEOUT);
        at = now();
        for (int i = 0; i < count; i++) {
            connection *c = &all[events[i].data.u64];
            for (size_t replies = take_replies(c); replies && c->outstanding; replies--) {
                if (c->sent_at[c->first] >= counted_from)
                    add(&times, at - c->sent_at[c->first]);
                c->first = (c->first + 1) % MAX_OUTSTANDING;
                c->outstanding--;
                unanswered--;
            }
        }
    }
    sort(&times);
    sort(&lateness);
    printf("{\"replies\": %zu, \"unanswered\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"p999_us\": %.1f, \"max_us\": %.1f, \"late_p99_us\": %.1f}\n",
           times.count, (unsigned long long)unanswered + skipped, quantile_us(&times, 0.5), quantile_us(&times, 0.99),
           quantile_us(&times, 0.999), quantile_us(&times, 1), quantile_us(&lateness, 0.99));
}

/* Open connections that send no data, print their number, and keep them until this program is ended. */
static void idle(const options *o)
{
    int poll = epoll_create1(0), opening = 0, open = 0, errors = 0, lost = 0;
    unsigned begun = 0;
    double start = now(), until = start + o->seconds;
    struct linger at_once = {1, 0}; /* closes with a RST: 100,000 FINs would take long */
    bool *up = calloc(MAX_FILES, sizeof *up);
    if (!up)
        die("no memory");
    while (open + errors < o->connections && now() < until) {
        while (opening < MAX_OPENING && begun < (unsigned)o->connections) {
            int fd = open_connection(o, begun++);
            if (fd < 0) {
                errors++;
                continue;
            }
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, (uint64_t)fd);
            opening++;
        }
        int count = wait_until(poll, until);
        for (int i = 0; i < count; i++) {
            int fd = (int)events[i].data.u64;
            bool bad = events[i].events & (EPOLLERR | EPOLLHUP | EPOLLIN);
            if (up[fd]) {
                lost += bad;
                continue;
            }
            up[fd] = true;
            opening--;
            errors += bad;
            open += !bad;
        }
    }
    printf("{\"open\": %d, \"errors\": %d, \"seconds\": %.3f}\n", open, errors, now() - start);
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poll, events, BATCH, -1);
        for (int i = 0; i < count; i++)
            lost += (events[i].events & (EPOLLERR | EPOLLHUP | EPOLLIN)) != 0;
        if (lost) {
            printf("{\"lost\": %d}\n", lost);
            fflush(stdout);
        }
    }
}

static const struct {
    const char *name;
    void (*run)(const options *);
} COMMANDS[] = {
    {"serve", serve},     {"bulk", bulk},       {"packets", packets}, {"connections", connections},
    {"latency", latency}, {"idle", idle},
};

static options parse(int argc, char **argv)
{
    static const struct option KNOWN[] = {
        {"to", 1, 0, 't'},      {"from", 1, 0, 'f'},    {"port", 1, 0, 'p'},        {"ports", 1, 0, 'P'},
        {"workers", 1, 0, 'w'}, {"sources", 1, 0, 'S'}, {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'},
        {"rate", 1, 0, 'r'},    {"silent", 0, 0, 'q'},  {0, 0, 0, 0},
    };
    options o = {.ports = 1, .workers = 1, .sources = 1, .connections = 1, .seconds = 1, .rate = 1000};
    for (int key; (key = getopt_long(argc, argv, "", KNOWN, NULL)) >= 0;) {
        switch (key) {
        case 't': o.to = optarg; break;
        case 'f': o.from = optarg; break;
        case 'p': o.port = atoi(optarg); break;
        case 'P': o.ports = atoi(optarg); break;
        case 'w': o.workers = atoi(optarg); break;
        case 'S': o.sources = atoi(optarg); break;
        case 'c': o.connections = atoi(optarg); break;
        case 's': o.seconds = atof(optarg); break;
        case 'r': o.rate = atof(optarg); break;
        case 'q': o.silent = true; break;
        default: die("usage: see the top of load.c");
        }
    }
    return o;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    if (argc < 2)
        die("usage: see the top of load.c");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    options o = parse(argc - 1, argv + 1);
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        if (!strcmp(argv[1], COMMANDS[i].name))
            return COMMANDS[i].run(&o), 0;
    die("unknown: %s", argv[1]);
}
