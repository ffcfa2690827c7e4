/* The flow table; flow_table.h says what each function is for.
 *
 * Rows are preallocated and found through two chained hash indexes.
 */
#include "fastpath/flow_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/hash.h"
#include "fastpath/packet.h"

#define NONE 0xffffffffu
#define PUT_BACK_AT_ONCE 256
#define CLIENT_ROWS 4096
#define ID_ROWS 2048
#define HALF_OPEN_SHARE 4 /* at most one row in four is for half open connections */

/* Rows in the order in which they entered the list. */
typedef struct {
    uint32_t oldest, newest, count;
} list;

struct nm_flows {
    nm_flow *rows;
    uint32_t *orig;  /* heads of chains, by the hash of client and service */
    uint32_t *reply; /* heads of chains, by the hash of backend and client */
    uint32_t *free;  /* a stack of row numbers */
    uint32_t max_flows;
    uint32_t free_count;
    uint32_t used_count; /* rows from here on were never used */
    uint32_t mask;
    list half_open, closed, idle;
    double timeouts[NM_STATES]; /* seconds */
    uint32_t announced_count;
    nm_changes *changes;
    nm_clients *clients;
    nm_plan *plan;
    nm_heap heap;
    uint8_t key[16];
};

/* The two indexes: by the addresses and ports of a packet from the client to the service, or from the backend to the
 * client. */
typedef enum { BY_CLIENT, BY_BACKEND } index_kind;

/* Return the head of the chain for a packet with these addresses and ports. */
static uint32_t *head_of(const nm_flows *flows, index_kind kind, uint8_t family, const uint8_t *src, uint16_t sport,
                         const uint8_t *dst, uint16_t dport)
{
    uint32_t hash = nm_hash_ends(flows->key, family, src, sport, dst, dport);
    return &(kind == BY_CLIENT ? flows->orig : flows->reply)[hash & flows->mask];
}

static uint32_t *head_of_flow(const nm_flows *flows, index_kind kind, const nm_flow *flow)
{
    if (kind == BY_CLIENT)
        return head_of(flows, kind, flow->family, flow->client, flow->client_port, flow->service, flow->service_port);
    return head_of(flows, kind, flow->family, flow->backend, flow->backend_port, flow->client, flow->client_port);
}

static uint32_t *next_of(nm_flow *flow, index_kind kind)
{
    return kind == BY_CLIENT ? &flow->next_orig : &flow->next_reply;
}

static void link_into(nm_flows *flows, index_kind kind, nm_flow *flow)
{
    uint32_t *head = head_of_flow(flows, kind, flow);
    *next_of(flow, kind) = *head;
    *head = flow->id;
}

static void unlink_from(nm_flows *flows, index_kind kind, nm_flow *flow)
{
    uint32_t *link = head_of_flow(flows, kind, flow);
    while (*link != flow->id)
        link = next_of(&flows->rows[*link], kind);
    *link = *next_of(flow, kind);
}

/* Inlined with a constant kind, so that no packet pays for the choice. */
static inline __attribute__((always_inline)) nm_flow *find(nm_flows *flows, index_kind kind, uint8_t family,
                                                           const uint8_t *src, uint16_t sport, const uint8_t *dst,
                                                           uint16_t dport)
{
    size_t address = address_len(family);
    uint32_t at = *head_of(flows, kind, family, src, sport, dst, dport);
    while (at != NONE) {
        nm_flow *flow = &flows->rows[at];
        int is_orig = kind == BY_CLIENT;
        if ((is_orig ? flow->client_port : flow->backend_port) == sport &&
            (is_orig ? flow->service_port : flow->client_port) == dport && flow->family == family &&
            !memcmp(is_orig ? flow->client : flow->backend, src, address) &&
            !memcmp(is_orig ? flow->service : flow->client, dst, address))
            return flow;
        at = *next_of(flow, kind);
    }
    return NULL;
}

static void free_parts(nm_flows *flows)
{
    free(flows->rows);
    free(flows->orig);
    free(flows->reply);
    free(flows->free);
    free(flows->heap.places);
    nm_clients_free(flows->clients);
    free(flows);
}

nm_flows *nm_flows_new(uint32_t max_flows, const uint8_t *key, nm_plan *plan)
{
    nm_flows *flows = calloc(1, sizeof *flows);
    uint32_t buckets = 1;
    if (!flows)
        return NULL;
    while (buckets < max_flows && buckets < 1u << 30)
        buckets <<= 1;
    flows->rows = calloc(max_flows, sizeof *flows->rows);
    flows->orig = malloc(buckets * sizeof *flows->orig);
    flows->reply = malloc(buckets * sizeof *flows->reply);
    flows->free = malloc(max_flows * sizeof *flows->free);
    flows->heap.places = malloc(max_flows * sizeof *flows->heap.places);
    flows->clients = nm_clients_new(max_flows, key);
    if (!flows->rows || !flows->orig || !flows->reply || !flows->free || !flows->heap.places || !flows->clients) {
        free_parts(flows);
        return NULL;
    }
    memset(flows->orig, 0xff, buckets * sizeof *flows->orig);
    memset(flows->reply, 0xff, buckets * sizeof *flows->reply);
    for (uint32_t i = 0; i < max_flows; i++)
        flows->free[i] = max_flows - 1 - i;
    flows->max_flows = flows->free_count = max_flows;
    flows->half_open = flows->closed = flows->idle = (list){.oldest = NONE, .newest = NONE};
    flows->mask = buckets - 1;
    flows->plan = plan;
    memcpy(flows->key, key, sizeof flows->key);
    return flows;
}

void nm_flows_free(nm_flows *flows)
{
    if (flows)
        free_parts(flows);
}

uint32_t nm_flow_count(const nm_flows *flows) { return flows->max_flows - flows->free_count; }

nm_flow *nm_flow_find_orig(nm_flows *flows, uint8_t family, const uint8_t *client, uint16_t client_port,
                           const uint8_t *service, uint16_t service_port)
{
    return find(flows, BY_CLIENT, family, client, client_port, service, service_port);
}

nm_flow *nm_flow_find_reply(nm_flows *flows, uint8_t family, const uint8_t *backend, uint16_t backend_port,
                            const uint8_t *client, uint16_t client_port)
{
    return find(flows, BY_BACKEND, family, backend, backend_port, client, client_port);
}

nm_flow *nm_flow_insert(nm_flows *flows, uint8_t family, const uint8_t *client, uint16_t client_port,
                   const uint8_t *service, uint16_t service_port, const uint8_t *backend, uint16_t backend_port)
{
    size_t address = address_len(family);
    if (!flows->free_count || nm_flow_find_orig(flows, family, client, client_port, service, service_port) ||
        nm_flow_find_reply(flows, family, backend, backend_port, client, client_port))
        return NULL;
    uint32_t id = flows->free[--flows->free_count];
    if (id >= flows->used_count)
        flows->used_count = id + 1;
    nm_flow *flow = &flows->rows[id];
    memset(flow, 0, sizeof *flow);
    flow->id = id;
    flow->family = family;
    memcpy(flow->client, client, address);
    memcpy(flow->service, service, address);
    memcpy(flow->backend, backend, address);
    flow->client_port = client_port;
    flow->service_port = service_port;
    flow->backend_port = backend_port;
    flow->first_leg = NM_NO_LEG;
    flow->older = flow->newer = NONE;
    flow->due = (nm_due){.due_at = INFINITY, .queued_at = INFINITY, .id = id};
    link_into(flows, BY_CLIENT, flow);
    link_into(flows, BY_BACKEND, flow);
    return flow;
}

static list *list_of(nm_flows *flows, const nm_flow *flow)
{
    if (flow->flags & NM_FLOW_HALF_OPEN)
        return &flows->half_open;
    return flow->flags & NM_FLOW_CLOSED ? &flows->closed : flow->flags & NM_FLOW_IDLE ? &flows->idle : NULL;
}

/* Count a flow among the closed ones of its service and its backend, or (by = -1) not any more. */
static void count_closed(nm_flows *flows, const nm_flow *flow, uint32_t by)
{
    if (flow->flags & NM_FLOW_DIRECT)
        return;
    flows->plan->services[flow->service_id].closed += by;
    if (flow->backend_id == NM_NO_BACKEND)
        return;
    nm_backend *backend = &flows->plan->backends[flow->backend_id];
    backend->closed += by;
    if (backend->total_open)
        __atomic_sub_fetch(backend->total_open, by, __ATOMIC_RELAXED);
}

static void leave(nm_flows *flows, nm_flow *flow)
{
    list *list = list_of(flows, flow);
    if (!list)
        return;
    if (flow->flags & NM_FLOW_CLOSED)
        count_closed(flows, flow, (uint32_t)-1);
    *(flow->older == NONE ? &list->oldest : &flows->rows[flow->older].newer) = flow->newer;
    *(flow->newer == NONE ? &list->newest : &flows->rows[flow->newer].older) = flow->older;
    list->count--;
    flow->flags &= (uint32_t)~(NM_FLOW_HALF_OPEN | NM_FLOW_CLOSED | NM_FLOW_IDLE);
}

static void join(nm_flows *flows, nm_flow *flow, uint32_t flag)
{
    if (flow->flags & flag)
        return;
    leave(flows, flow);
    if (flag == NM_FLOW_CLOSED)
        count_closed(flows, flow, 1);
    flow->flags |= flag;
    list *list = list_of(flows, flow);
    flow->older = list->newest;
    flow->newer = NONE;
    *(list->newest == NONE ? &list->oldest : &flows->rows[list->newest].newer) = flow->id;
    list->newest = flow->id;
    list->count++;
}

int nm_flow_is_unconfirmed(const nm_flow *flow)
{
    return (flow->flags & (NM_FLOW_LOOSE | NM_FLOW_VOUCHED)) == NM_FLOW_LOOSE && flow->state < NM_STATE_TIME_WAIT;
}

int nm_flow_is_half_open(const nm_flow *flow)
{
    return flow->state <= NM_STATE_SYN_RECEIVED || nm_flow_is_unconfirmed(flow);
}

/* Return what a flow counts as. Only a strict one does: anyone can forge packets of a connection that is not known. */
static uint8_t counts_as(const nm_flow *flow)
{
    if (!(flow->flags & NM_FLOW_LIMITED) || flow->flags & (NM_FLOW_DIRECT | NM_FLOW_LOOSE) ||
        flow->sharing & NM_GUEST || flow->state >= NM_STATE_TIME_WAIT)
        return NM_COUNTED_NOT;
    return flow->state <= NM_STATE_SYN_RECEIVED ? NM_COUNTED_HALF_OPEN : NM_COUNTED_OPEN;
}

static void count_as(nm_flows *flows, nm_flow *flow, uint8_t what)
{
    if (flow->counted != what)
        flow->counted = nm_client_count(flows->clients, flow->service_id, flow->family, flow->client, flow->counted, what,
                                        flow->created_at);
}

void nm_flow_recount(nm_flows *flows, nm_flow *flow) { count_as(flows, flow, counts_as(flow)); }

nm_clients *nm_flows_clients(const nm_flows *flows) { return flows->clients; }

static void log_change(nm_flows *flows, const nm_flow *flow, uint8_t kind)
{
    nm_changes *changes = flows->changes;
    if (!changes)
        return;
    if (changes->count == changes->max) {
        changes->missed++;
        return;
    }
    nm_change *change = &changes->rows[changes->count++];
    memcpy(change->client, flow->client, sizeof change->client);
    change->client_port = flow->client_port;
    change->service_id = flow->service_id;
    change->backend_id = flow->backend_id;
    change->family = flow->family;
    change->kind = kind;
}

static void set_announced(nm_flows *flows, nm_flow *flow, int is_announced, uint8_t kind)
{
    if (is_announced == !!(flow->sharing & NM_ANNOUNCED))
        return;
    flow->sharing ^= NM_ANNOUNCED;
    flows->announced_count += is_announced ? 1u : -1u;
    log_change(flows, flow, kind);
}

static void update_announced(nm_flows *flows, nm_flow *flow)
{
    int is_lasting = flow->state >= NM_STATE_ESTABLISHED && flow->state <= NM_STATE_CLOSING;
    if (flow->sharing & NM_PINNED && !(flow->sharing & NM_GUEST) && is_lasting && !nm_flow_is_half_open(flow))
        set_announced(flows, flow, 1, NM_CHANGE_BOUND);
    else
        set_announced(flows, flow, 0, is_lasting ? NM_CHANGE_FORGOTTEN : NM_CHANGE_ENDED);
}

void nm_flows_log_changes(nm_flows *flows, nm_changes *changes) { flows->changes = changes; }

uint32_t nm_flows_announced(const nm_flows *flows) { return flows->announced_count; }

void nm_flow_set_pinned(nm_flows *flows, nm_flow *flow, int is_pinned)
{
    flow->sharing = (uint8_t)(is_pinned ? flow->sharing | NM_PINNED : flow->sharing & ~NM_PINNED);
    update_announced(flows, flow);
}

void nm_flow_end(nm_flows *flows, nm_flow *flow)
{
    if (flow->sharing & NM_GUEST)
        log_change(flows, flow, NM_CHANGE_ENDED);
    set_announced(flows, flow, 0, NM_CHANGE_ENDED);
    flow->sharing = 0;
}

void nm_flow_announce(nm_flows *flows, const nm_flow *flow)
{
    if (flow->sharing & NM_ANNOUNCED)
        log_change(flows, flow, NM_CHANGE_BOUND);
}

void nm_flow_release(nm_flows *flows, nm_flow *flow)
{
    if (!(flow->flags & NM_FLOW_PYTHON_STATE)) {
        flow->flags |= NM_FLOW_PICKED_UP | NM_FLOW_LOOSE | NM_FLOW_VOUCHED;
        flow->orig.flags = flow->reply.flags = 0;
    }
    nm_flow_recount(flows, flow);
    if (!(flow->sharing & NM_PINNED))
        return;
    if (flow->sharing & NM_ANNOUNCED) { /* the host that passes it now announces its changes */
        flow->sharing ^= NM_ANNOUNCED;
        flows->announced_count--;
    }
    flow->sharing |= NM_GUEST;
    nm_flow_recount(flows, flow);
    flow->seen_at = 0.0;
    leave(flows, flow);
    nm_heap_remove(&flows->heap, &flow->due);
    flow->due.due_at = INFINITY;
}

static nm_flow *oldest_half_open(nm_flows *flows)
{
    while (flows->half_open.oldest != NONE) {
        nm_flow *flow = &flows->rows[flows->half_open.oldest];
        if (nm_flow_is_half_open(flow))
            return flow;
        leave(flows, flow); /* its binding has become certain meanwhile */
    }
    return NULL;
}

double nm_flow_answer_due(const nm_flow *flow) { return flow->created_at + NM_SYN_ANSWER_TIMEOUT; }

/* Return the time at which the flow expires if no packet passes before. */
static double deadline(const nm_flows *flows, const nm_flow *flow)
{
    if (flow->state == NM_STATE_SYN_SENT && !(flow->flags & NM_FLOW_UNANSWERED))
        return nm_flow_answer_due(flow);
    return flow->seen_at + (nm_flow_is_unconfirmed(flow) ? NM_UNCONFIRMED_TIMEOUT : flows->timeouts[flow->state]);
}

static nm_flow *longest_idle(nm_flows *flows, double now)
{
    for (int i = 0; i < PUT_BACK_AT_ONCE && flows->idle.oldest != NONE; i++) {
        nm_flow *flow = &flows->rows[flows->idle.oldest];
        if (deadline(flows, flow) <= now)
            return flow;
        leave(flows, flow); /* a packet has passed since */
    }
    return NULL;
}

nm_flow *nm_flows_victim(nm_flows *flows, int for_half_open, double now)
{
    uint32_t max_half_open = flows->max_flows / HALF_OPEN_SHARE + 1;
    if (for_half_open && flows->half_open.count >= max_half_open) {
        nm_flow *flow = oldest_half_open(flows);
        if (flows->half_open.count >= max_half_open)
            return flow;
    }
    if (flows->free_count)
        return NULL;
    if (flows->closed.oldest != NONE)
        return &flows->rows[flows->closed.oldest];
    nm_flow *flow = oldest_half_open(flows);
    return flow ? flow : longest_idle(flows, now);
}

int nm_flows_is_crowded(nm_flows *flows, double now) { return !flows->free_count || nm_flows_victim(flows, 1, now); }

/* Add a flow to its service's traffic. Direct connections belong to no service. */
static void add_traffic(nm_traffic *traffic, const nm_flow *flow)
{
    if (flow->flags & NM_FLOW_DIRECT)
        return;
    traffic->connections++;
    traffic->client_packets += flow->orig.packets;
    traffic->client_bytes += flow->orig.bytes;
    traffic->backend_packets += flow->reply.packets;
    traffic->backend_bytes += flow->reply.bytes;
}

void nm_flow_remove(nm_flows *flows, nm_flow *flow)
{
    if (flow->service_id < flows->plan->service_count)
        add_traffic(&flows->plan->services[flow->service_id].removed, flow);
    unlink_from(flows, BY_CLIENT, flow);
    unlink_from(flows, BY_BACKEND, flow);
    leave(flows, flow);
    count_as(flows, flow, NM_COUNTED_NOT);
    set_announced(flows, flow, 0, NM_CHANGE_FORGOTTEN);
    nm_heap_remove(&flows->heap, &flow->due);
    flow->family = 0; /* a free row's mark */
    flows->free[flows->free_count++] = flow->id;
}

nm_flow *nm_flow_by_id(nm_flows *flows, uint32_t id)
{
    return id < flows->used_count && flows->rows[id].family ? &flows->rows[id] : NULL;
}

uint32_t nm_flow_ids(const nm_flows *flows, uint32_t first, uint32_t *ids, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t id = first; id < flows->used_count && count < max; id++)
        if (flows->rows[id].family)
            ids[count++] = id;
    return count;
}

uint32_t nm_flow_ids_of(const nm_flows *flows, const nm_network *clients, uint16_t port, uint32_t *first, uint32_t *ids,
                        uint32_t max)
{
    uint32_t count = 0, id = *first, end = id < flows->used_count ? id + ID_ROWS : id;
    for (; id < flows->used_count && id < end && count < max; id++) {
        const nm_flow *flow = &flows->rows[id];
        if (flow->family && (get32(flow->client) & clients->mask) == clients->address && (!port || flow->client_port == port))
            ids[count++] = id;
    }
    *first = id < flows->used_count ? id : NM_NO_FLOW;
    return count;
}

uint32_t nm_flow_clients(const nm_flows *flows, uint8_t *addresses, uint8_t *are_answered, uint32_t max, int *is_cut)
{
    uint32_t count = 0;
    *is_cut = flows->used_count > CLIENT_ROWS;
    for (uint32_t id = 0; id < flows->used_count && id < CLIENT_ROWS; id++) {
        const nm_flow *flow = &flows->rows[id];
        if (flow->family != 4 || flow->flags & NM_FLOW_DIRECT || flow->sharing & NM_GUEST)
            continue;
        uint32_t at = 0;
        while (at < count && memcmp(addresses + 4 * at, flow->client, 4))
            at++;
        if (at == max) {
            *is_cut = 1;
            continue;
        }
        if (at == count) {
            memcpy(addresses + 4 * count++, flow->client, 4);
            are_answered[at] = 0;
        }
        are_answered[at] |= flow->state >= NM_STATE_ESTABLISHED && flow->state != NM_STATE_RESET &&
                            (flow->flags & (NM_FLOW_LOOSE | NM_FLOW_VOUCHED)) != NM_FLOW_LOOSE;
    }
    return count;
}

uint64_t nm_flow_client_bytes(const nm_flow *flow)
{
    if (!(flow->flags & NM_FLOW_HOLDS))
        return flow->orig.bytes;
    int is_known = flow->reply.flags & NM_HALF_ACK, is_recorded = flow->reply.flags & NM_HALF_RECORDED;
    if (!is_recorded && (!is_known || flow->flags & NM_FLOW_LOOSE))
        return 0; /* a loose flow's two ends may speak of different connections */
    uint32_t acked = is_recorded && (!is_known || diff(flow->proven, flow->reply.ack) > 0) ? flow->proven : flow->reply.ack;
    int32_t unacked = diff(flow->orig.end, acked);
    if (unacked > 0 && flow->orig.flags & NM_HALF_FIN)
        unacked--;
    if (unacked <= 0)
        return flow->orig.bytes;
    return flow->orig.bytes > (uint32_t)unacked ? flow->orig.bytes - (uint32_t)unacked : 0;
}

/* Return whether a flow counts as a connection of this host; of the half open ones, those do that have an account. */
static int is_connection(const nm_flow *flow)
{
    return flow->state < NM_STATE_TIME_WAIT && (flow->state >= NM_STATE_ESTABLISHED || flow->account) &&
           !(flow->flags & NM_FLOW_DIRECT) && !(flow->sharing & NM_GUEST) && !nm_flow_is_unconfirmed(flow);
}

void nm_flows_add_up(const nm_flows *flows, nm_account_sums *sums, uint32_t count, uint32_t *without_account,
                     uint32_t service_count)
{
    for (uint32_t id = 0; id < flows->used_count; id++) {
        const nm_flow *flow = &flows->rows[id];
        if (!flow->family || flow->account >= count)
            continue;
        sums[flow->account].client_bytes += nm_flow_client_bytes(flow);
        if (!is_connection(flow))
            continue;
        sums[flow->account].connections++;
        if (!flow->account && flow->service_id < service_count)
            without_account[flow->service_id]++;
    }
}

void nm_flows_traffic(const nm_flows *flows, nm_traffic *traffic, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        traffic[i] = i < flows->plan->service_count ? flows->plan->services[i].removed : (nm_traffic){0};
    for (uint32_t id = 0; id < flows->used_count; id++) {
        const nm_flow *flow = &flows->rows[id];
        if (flow->family && flow->service_id < count)
            add_traffic(&traffic[flow->service_id], flow);
    }
}

void nm_flows_set_timeouts(nm_flows *flows, const double *timeouts)
{
    memcpy(flows->timeouts, timeouts, sizeof flows->timeouts);
}

void nm_flow_renew_deadline(nm_flows *flows, nm_flow *flow)
{
    if (!(flow->sharing & NM_GUEST))
        nm_heap_set(&flows->heap, &flow->due, deadline(flows, flow));
}

void nm_flow_keep(nm_flows *flows, nm_flow *flow, double now)
{
    join(flows, flow, NM_FLOW_IDLE);
    nm_heap_set(&flows->heap, &flow->due, now + flows->timeouts[flow->state]);
}

/* Put a flow whose state has changed into its list, and set its deadline. */
static void follow_state(nm_flows *flows, nm_flow *flow)
{
    flow->sharing &= (uint8_t)~NM_GUEST;
    if (nm_flow_is_half_open(flow))
        join(flows, flow, NM_FLOW_HALF_OPEN);
    else if (flow->state >= NM_STATE_TIME_WAIT)
        join(flows, flow, NM_FLOW_CLOSED);
    else
        leave(flows, flow);
    update_announced(flows, flow);
    nm_heap_set(&flows->heap, &flow->due, deadline(flows, flow));
}

void nm_flow_touch(nm_flows *flows, nm_flow *flow, double now, int moved)
{
    flow->seen_at = now;
    if (moved || (flow->flags & NM_FLOW_HALF_OPEN && !nm_flow_is_half_open(flow)))
        follow_state(flows, flow);
    if (flow->flags & NM_FLOW_LIMITED)
        nm_flow_recount(flows, flow);
}

double nm_flows_next_due(nm_flows *flows) { return nm_heap_next(&flows->heap); }

double nm_flows_not_before(const nm_flows *flows) { return nm_heap_not_before(&flows->heap); }

nm_flow *nm_flows_due(nm_flows *flows, double now)
{
    for (int i = 0; i < PUT_BACK_AT_ONCE && nm_heap_is_due(&flows->heap, now); i++) {
        nm_due *due = flows->heap.places[0];
        nm_flow *flow = &flows->rows[due->id];
        double until = deadline(flows, flow);
        if (until <= now)
            return flow;
        if (flow->flags & NM_FLOW_IDLE)
            leave(flows, flow);
        nm_heap_set(&flows->heap, due, until);
    }
    return NULL;
}

int nm_flow_needs_python(const nm_flow *flow)
{
    return flow->flags & NM_FLOW_PYTHON_STATE || flow->state == NM_STATE_SYN_SENT;
}
