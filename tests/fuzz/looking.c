/* Looks at flows; looking.h says what the function is for. */
#include "looking.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fastpath/looks.h"
#include "must.h"

static void check_looked(const nm_flow *now, uint32_t look)
{
    const nm_looked *at = &now->looked;
    must(at->requests == (uint32_t)now->orig.packets && at->replies == (uint32_t)now->reply.packets);
    must(at->ack == now->orig.ack && at->reply_end == now->reply.end && at->reply_ack == now->reply.ack);
    must(at->state == now->state && at->spoke_in <= look && at->heard_in <= look);
    must(at->waits_from <= look && at->unreached_from <= look && at->passed_in <= look);
}

/* Check flows of a service, of which the look has met so many, or more. */
static void check_tally(const snapshot *of, uint16_t service_id, const nm_tally *tally, uint32_t most)
{
    int is_of_service = !tally->clients;
    must(tally->flows <= most && tally->clients <= 2 && tally->clients <= tally->flows);
    must(tally->backends <= 2 && tally->backends <= tally->flows);
    must(!tally->flows == !tally->clients && !tally->flows == !tally->backends);
    for (uint32_t id = 0; id < MAX_FLOWS; id++)
        is_of_service |= of->rows[id].family && of->rows[id].service_id == service_id &&
                         !memcmp(of->rows[id].client, tally->client, sizeof tally->client);
    must(is_of_service);
}

static void check_service(const snapshot *of, uint16_t service_id, const nm_service_look *one, uint32_t met,
                          int is_again)
{
    check_tally(of, service_id, &one->open, met);
    check_tally(of, service_id, &one->calling, met - one->open.flows);
    check_tally(of, service_id, &one->greeted, met - one->open.flows - one->calling.flows);
    check_tally(of, service_id, &one->waiting, one->open.flows);
    check_tally(of, service_id, &one->unreached, one->open.flows);
    check_tally(of, service_id, &one->stuck, one->waiting.flows + one->unreached.flows);
    check_tally(of, service_id, &one->unconnected, met - one->open.flows);
    must(one->connecting <= met - one->open.flows - one->unconnected.flows);
    must(one->stuck.flows >= one->waiting.flows && one->stuck.flows >= one->unreached.flows);
    must(one->asking <= one->open.flows - one->waiting.flows && one->telling <= met && one->tries <= one->calling.flows);
    must(one->answered_data <= one->answered && one->answered <= met && one->connected <= met);
    must(one->reached_data <= one->reached && one->reached <= met);
    must(one->stuck_groups + one->passing_groups <= NM_GROUPS && one->stuck_groups <= one->stuck.flows);
    must(!is_again || !(one->answered || one->reached || one->connected || one->tries));
}

uint32_t look(world *w, uint32_t first, uint32_t max, uint32_t count, int is_again)
{
    snapshot before, now;
    uint32_t met[SERVICES] = {0}, expected = NM_NO_FLOW;
    nm_service_look *services = calloc(count, sizeof *services);
    must(services || !count);
    take_snapshot(w, &before);
    uint32_t next = nm_gear_look(w->gear, first, max, ++w->looks, w->now, services, count);
    take_snapshot(w, &now);
    for (uint32_t id = first; id < MAX_FLOWS && expected == NM_NO_FLOW; id++) {
        nm_flow *was = &before.rows[id];
        if (!was->family)
            continue;
        if (!max--) {
            expected = id;
        } else if (was->service_id < count && !(was->flags & (NM_FLOW_DIRECT | NM_FLOW_WATCHED | NM_FLOW_KILLED)) &&
                   !(was->sharing & NM_GUEST)) {
            check_looked(&now.rows[id], w->looks);
            was->looked = now.rows[id].looked;
            met[was->service_id]++;
        }
    }
    must(next == expected && !memcmp(&before, &now, sizeof now));
    for (uint16_t i = 0; i < count; i++)
        check_service(&now, i, &services[i], met[i], is_again);
    free(services);
    return next;
}
