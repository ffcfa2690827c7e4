/* Looks at flows; looks.h says what they are for. */
#include "fastpath/looks.h"

#include <string.h>

#include "fastpath/packet.h"

#define RECENT_TIME 60.0 /* seconds: most connections that live are not silent for so long */
#define LATELY 10        /* looks: TCP sends again what is not acknowledged, at growing intervals */
#define PASSED_LATELY 5 /* looks: an idle connection that was well still says so for so long */
#define GREETING_TIME 1.0 /* seconds: a round trip, and more */
#define STUCK_SHARE 4 /* so many flows of a group are stuck for each one that passes */

/* Count an address among those that were met: 1, or 2 for several. */
static void meet(uint32_t *count, uint8_t *first, const uint8_t *address)
{
    if (!*count) {
        memcpy(first, address, 16);
        *count = 1;
    } else if (memcmp(first, address, 16)) {
        *count = 2;
    }
}

static void add(nm_tally *tally, const nm_flow *flow)
{
    tally->flows++;
    meet(&tally->clients, tally->client, flow->client);
    meet(&tally->backends, tally->backend, flow->backend);
}

/* Return whether look number `at` lies at most `most` looks before this one; 0 is none. */
static int is_within(uint32_t at, uint32_t look, uint32_t most) { return at && look - at <= most; }

/* Return the look since which something is so: an earlier one, this one, or 0. */
static uint32_t since(uint32_t before, int is_so, uint32_t look) { return !is_so ? 0 : before ? before : look; }

/* Return whether an end has sent more than the other one has acknowledged. */
static int is_unacked(const nm_half *sender, const nm_half *receiver)
{
    return sender->flags & NM_HALF_SEQ && receiver->flags & NM_HALF_ACK && diff(sender->end, receiver->ack) > 0;
}

/* Return whether an end offers no window. It answers window probes, whose byte it does not take, by the acknowledgement
 * that it has sent before (RFC 9293 3.8.6.1). */
static int is_window_closed(const nm_half *receiver)
{
    return receiver->flags & NM_HALF_ACK && diff(receiver->edge, receiver->ack) <= 0;
}

/* Return the number after the last byte of data that an end has sent; a FIN is no data. */
static uint32_t data_end(const nm_half *sender) { return sender->end - (sender->flags & NM_HALF_FIN ? 1 : 0); }

/* Return whether an end has sent data since the look before, when its numbers ended at was_end, or since it began. */
static int has_sent_data(const nm_half *sender, uint32_t was_end, int was_open)
{
    return sender->flags & NM_HALF_SEQ && (was_open ? diff(data_end(sender), was_end) > 0 : sender->bytes > 0);
}

/* Return whether an end has acknowledged data since the look before, when it had acknowledged all before was_ack, or
 * since it began. */
static int has_acked_data(const nm_half *receiver, const nm_half *sender, uint32_t was_ack, int was_open)
{
    if (!(receiver->flags & NM_HALF_ACK && sender->flags & NM_HALF_SEQ))
        return 0;
    uint32_t end = data_end(sender), acked = diff(receiver->ack, end) > 0 ? end : receiver->ack;
    return diff(acked, was_open ? was_ack : end - (uint32_t)sender->bytes) > 0;
}

/* Return whether the client of an established flow may still send something: it has not closed, nor given up. */
static int may_ask(const nm_flow *flow, uint32_t look)
{
    int asks = is_unacked(&flow->orig, &flow->reply);
    int is_idle = !asks && !is_unacked(&flow->reply, &flow->orig);
    return (asks || !(flow->orig.flags & NM_HALF_FIN)) && (is_idle || is_within(flow->looked.spoke_in, look, LATELY));
}

/* What has happened in a flow since the look before. */
typedef struct {
    int answered, reached;           /* see nm_service_look */
    int answered_data, reached_data;
    int connected;
} happened;

static happened compare(const nm_flow *flow, const nm_looked *was)
{
    const nm_half *orig = &flow->orig, *reply = &flow->reply;
    int was_open = was->state >= NM_STATE_ESTABLISHED;
    int was_reset = flow->state == NM_STATE_RESET && was->state != NM_STATE_RESET;
    int heard = (uint32_t)reply->packets != was->replies;
    /* A backend that gets nothing from its clients still repeats what it has sent: that is no answer. */
    int is_new = reply->end != was->reply_end || reply->ack != was->reply_ack;
    /* Of a connection from another host, both ends may at first only repeat what that host has passed. */
    int is_known = !(flow->flags & NM_FLOW_PICKED_UP);
    happened is = {
        .answered = heard && (is_known || was->replies) && (is_new || is_window_closed(reply) || was_reset),
        .reached = !nm_flow_is_unconfirmed(flow) && (is_known || was->requests) &&
                   flow->state >= NM_STATE_ESTABLISHED && orig->flags & NM_HALF_ACK && orig->ack != was->ack,
    };
    is.answered_data = is.answered && (has_sent_data(reply, was->reply_end, was_open) ||
                                       has_acked_data(reply, orig, was->reply_ack, was_open) ||
                                       (was_open && (is_window_closed(reply) || was_reset)));
    is.reached_data = is.reached && has_acked_data(orig, reply, was->ack, was_open);
    is.connected = is_known && !was_open && (is.reached || (is.answered && was_reset));
    return is;
}

static void note(nm_looked *looked, const nm_flow *flow, const happened *is, uint32_t look)
{
    if ((uint32_t)flow->orig.packets != looked->requests)
        looked->spoke_in = look;
    if ((uint32_t)flow->reply.packets != looked->replies)
        looked->heard_in = look;
    int is_late = looked->waits_from || looked->unreached_from;
    if (is->answered_data || is->reached_data)
        looked->passed_in = is_late ? 0 : look;
    looked->requests = (uint32_t)flow->orig.packets;
    looked->replies = (uint32_t)flow->reply.packets;
    looked->state = flow->state;
    looked->ack = flow->orig.ack;
    looked->reply_end = flow->reply.end;
    looked->reply_ack = flow->reply.ack;
}

/* Return the group of a flow's client: by a product with secret numbers, of which a client sees nothing; nm_siphash()
 * would cost more than the look itself. */
static nm_group *group_of(nm_service_look *look, const nm_flow *flow, const uint8_t *key)
{
    uint64_t client[2], secret[2];
    memcpy(client, flow->client, sizeof client);
    memcpy(secret, key, sizeof secret);
    return &look->groups[(client[0] * (secret[0] | 1) + client[1] * (secret[1] | 1)) >> 32 & (NM_GROUPS - 1)];
}

static void look_at(nm_flow *flow, uint32_t look, double now, const uint8_t *key, nm_service_look *of)
{
    nm_looked *looked = &flow->looked;
    int is_certain = !nm_flow_is_unconfirmed(flow);
    int has_opened = is_certain && flow->state >= NM_STATE_ESTABLISHED && flow->state < NM_STATE_TIME_WAIT;
    happened is = {0};
    int spoke = (uint32_t)flow->orig.packets != looked->requests;
    if (spoke || (uint32_t)flow->reply.packets != looked->replies || flow->state != looked->state) {
        is = compare(flow, looked);
        of->answered += (uint32_t)is.answered;
        of->answered_data += (uint32_t)is.answered_data;
        of->reached += (uint32_t)is.reached;
        of->reached_data += (uint32_t)is.reached_data;
        of->connected += (uint32_t)is.connected;
    }
    note(looked, flow, &is, look);

    int has_spoken = is_within(looked->spoke_in, look, LATELY), has_heard = is_within(looked->heard_in, look, LATELY);
    int is_quiet = !is.answered && !is.reached && has_spoken, is_old = now - flow->created_at > GREETING_TIME;
    int is_probe_answered = is_window_closed(&flow->reply) && looked->heard_in >= looked->spoke_in;
    int waits_now = has_opened && is_quiet && is_unacked(&flow->orig, &flow->reply) && !is_probe_answered;
    int is_deaf = has_opened && !is.reached && is_unacked(&flow->reply, &flow->orig) && !is_window_closed(&flow->orig);
    looked->waits_from = since(looked->waits_from, waits_now, look);
    looked->unreached_from = since(looked->unreached_from, is_deaf, look);
    int waits = looked->waits_from && looked->waits_from != look;
    int has_unacked = looked->unreached_from && looked->unreached_from != look;
    if (waits || has_unacked)
        looked->passed_in = 0;
    /* Where clients come and go, what passed before a fault would outnumber what it stops. */
    int has_ended = flow->state >= NM_STATE_TIME_WAIT;
    int is_acked = !has_ended || (!is_unacked(&flow->orig, &flow->reply) && !is_unacked(&flow->reply, &flow->orig));
    if (is_certain && is_within(looked->passed_in, look, has_ended ? 0 : PASSED_LATELY) && is_acked)
        group_of(of, flow, key)->passing++;
    if (has_opened && now - flow->came_at < RECENT_TIME) {
        int is_unreached = has_unacked && looked->spoke_in > looked->unreached_from && has_spoken && has_heard;
        of->asking += looked->waits_from == look;
        of->telling += looked->unreached_from == look;
        if (waits)
            add(&of->waiting, flow);
        if (is_unreached)
            add(&of->unreached, flow);
        if (waits || is_unreached) {
            add(&of->stuck, flow);
            group_of(of, flow, key)->stuck++;
        }
        if (waits || is_unreached || may_ask(flow, look))
            add(&of->open, flow);
    } else if (is_quiet && !flow->reply.packets && (flow->state == NM_STATE_SYN_SENT || !is_certain)) {
        add(&of->calling, flow);
        of->tries += (uint32_t)spoke;
    } else if (flow->state == NM_STATE_SYN_RECEIVED && has_heard && is_old) {
        add(&of->greeted, flow);
    }
    if (flow->state < NM_STATE_ESTABLISHED && has_spoken) {
        if (is_old)
            add(&of->unconnected, flow);
        else
            of->connecting++;
    }
}

static void count_groups(nm_service_look *look)
{
    for (uint32_t i = 0; i < NM_GROUPS; i++) {
        const nm_group *group = &look->groups[i];
        int is_stuck = group->stuck && group->stuck / STUCK_SHARE >= group->passing;
        look->stuck_groups += (uint32_t)is_stuck;
        look->passing_groups += (uint32_t)(!is_stuck && group->passing);
    }
}

uint32_t nm_gear_look(nm_gear *gear, uint32_t first, uint32_t max, uint32_t look, double now, nm_service_look *services,
                      uint32_t count)
{
    uint32_t id = first;
    for (; nm_flow_ids(gear->flows, id, &id, 1); id++) {
        if (!max--)
            return id;
        nm_flow *flow = nm_flow_by_id(gear->flows, id);
        int is_passed_on = !(flow->flags & (NM_FLOW_DIRECT | NM_FLOW_WATCHED | NM_FLOW_KILLED)) &&
                           !(flow->sharing & NM_GUEST);
        if (is_passed_on && flow->service_id < count)
            look_at(flow, look, now, gear->holders.key, &services[flow->service_id]);
    }
    for (uint32_t i = 0; i < count; i++)
        count_groups(&services[i]);
    return NM_NO_FLOW;
}
