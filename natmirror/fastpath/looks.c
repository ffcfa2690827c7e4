/* Looks at flows; looks.h says what they are for. */
#include "fastpath/looks.h"

#include <string.h>

#include "fastpath/packet.h"

#define RECENT_TIME 60.0 /* seconds: most connections that live are not silent for so long */
#define LATELY 10        /* looks: TCP sends again what is not acknowledged, at growing intervals */
#define GREETING_TIME 1.0 /* seconds: a round trip, and more */

static void add(nm_tally *tally, const nm_flow *flow)
{
    tally->flows++;
    if (!tally->clients) {
        memcpy(tally->client, flow->client, sizeof tally->client);
        tally->clients = 1;
    } else if (memcmp(tally->client, flow->client, sizeof tally->client)) {
        tally->clients = 2;
    }
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

/* Return whether the client of an established flow may still send something: it has not closed, nor given up. */
static int may_ask(const nm_flow *flow, uint32_t look)
{
    int asks = is_unacked(&flow->orig, &flow->reply);
    int is_idle = !asks && !is_unacked(&flow->reply, &flow->orig);
    return (asks || !(flow->orig.flags & NM_HALF_FIN)) && (is_idle || is_within(flow->looked.spoke_in, look, LATELY));
}

static void look_at(nm_flow *flow, uint32_t look, double now, nm_service_look *of)
{
    nm_looked *was = &flow->looked;
    int is_certain = !nm_flow_is_unconfirmed(flow);
    int has_opened = is_certain && flow->state >= NM_STATE_ESTABLISHED && flow->state < NM_STATE_TIME_WAIT;
    int spoke = (uint32_t)flow->orig.packets != was->requests, heard = (uint32_t)flow->reply.packets != was->replies;
    /* A backend that gets nothing from its clients still repeats what it has sent: that is no answer. */
    int is_new = flow->reply.end != was->reply_end || flow->reply.ack != was->reply_ack;
    int answered = heard && (is_new || is_window_closed(&flow->reply) ||
                             (flow->state == NM_STATE_RESET && was->state != NM_STATE_RESET));
    int progressed = is_certain && flow->state >= NM_STATE_ESTABLISHED && flow->orig.flags & NM_HALF_ACK &&
                     flow->orig.ack != was->ack;
    was->requests = (uint32_t)flow->orig.packets;
    was->replies = (uint32_t)flow->reply.packets;
    was->state = flow->state;
    was->ack = flow->orig.ack;
    was->reply_end = flow->reply.end;
    was->reply_ack = flow->reply.ack;
    was->spoke_in = spoke ? look : was->spoke_in;
    was->heard_in = heard ? look : was->heard_in;
    of->answered += (uint32_t)answered;
    of->reached += (uint32_t)progressed;

    int is_quiet = !answered && !progressed && is_within(was->spoke_in, look, LATELY);
    int is_probe_answered = is_window_closed(&flow->reply) && was->heard_in >= was->spoke_in;
    int waits_now = has_opened && is_quiet && is_unacked(&flow->orig, &flow->reply) && !is_probe_answered;
    int is_deaf = has_opened && !progressed && is_unacked(&flow->reply, &flow->orig) && !is_window_closed(&flow->orig);
    was->waits_from = since(was->waits_from, waits_now, look);
    was->unreached_from = since(was->unreached_from, is_deaf, look);
    if (has_opened && now - flow->came_at < RECENT_TIME) {
        int waits = was->waits_from && was->waits_from != look;
        int is_unreached = was->unreached_from && was->spoke_in > was->unreached_from &&
                           is_within(was->spoke_in, look, LATELY) && is_within(was->heard_in, look, LATELY);
        of->asking += was->waits_from == look;
        if (waits)
            add(&of->waiting, flow);
        if (is_unreached)
            add(&of->unreached, flow);
        if (waits || is_unreached || may_ask(flow, look))
            add(&of->open, flow);
    } else if (is_quiet && !flow->reply.packets && (flow->state == NM_STATE_SYN_SENT || !is_certain)) {
        add(&of->calling, flow);
        of->tries += (uint32_t)spoke;
    } else if (flow->state == NM_STATE_SYN_RECEIVED && is_within(was->heard_in, look, LATELY) &&
               now - flow->created_at > GREETING_TIME) {
        add(&of->greeted, flow);
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
            look_at(flow, look, now, &services[flow->service_id]);
    }
    return NM_NO_FLOW;
}
