/* Looks: passes over all flows that tell, for each service, whether backends answer and whether clients get that.
 *
 * A look compares each flow with what it was at the look before, so packets pay nothing for it. No I/O, no clock, no
 * policy. This header serves #include and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_LOOKS_H
#define NATMIRROR_FASTPATH_LOOKS_H

#include <stdint.h>

#include "fastpath/gear.h"

/* Some flows of a service. */
typedef struct {
    uint32_t flows;
    uint32_t clients;    /* the addresses of their clients: 0, 1, or 2 for several */
    uint32_t backends;   /* the same for their backends */
    uint8_t client[16];  /* one of them */
    uint8_t backend[16]; /* one of them */
} nm_tally;

/* The flows of those clients whose addresses have the same hash. */
typedef struct {
    uint32_t stuck;
    uint32_t passing;
} nm_group;

#define NM_GROUPS 64

/* What the flows of a service show. Only open, waiting, unreached, stuck and passing flows are certain: anyone can
 * forge a SYN. */
typedef struct {
    uint32_t answered;      /* flows whose backend has sent or acknowledged something new since the look before, or has
                               reset them, or has sent something while its window is closed: it answers window probes */
    uint32_t answered_data; /* of these, all but those in which this was only a SYN-ACK, a refused SYN, or a FIN */
    uint32_t reached;       /* flows whose client has acknowledged something new since the look before */
    uint32_t reached_data;  /* of these, those in which this was data */
    uint32_t connected;     /* new flows whose handshake was completed or refused since the look before */
    uint32_t connecting;    /* flows that may be unconnected at the next look */
    uint32_t asking;        /* open flows that may be waiting at the next look */
    uint32_t telling;       /* open flows that may be unreached at the next look */
    uint32_t tries;         /* calling flows whose client has sent something since the look before */
    nm_tally open;      /* established flows with a packet in the last minute, of clients that have neither closed them nor
                           given up */
    nm_tally waiting;   /* of these: the client has lately sent data that the backend has left unacknowledged since the
                           look before, or longer, and it has sent nothing new; no window probe that was answered */
    nm_tally unreached; /* of the open ones: the backend has lately sent something that the client, whose window is not
                           closed, has left unacknowledged since an earlier look, after which the client was alive: it has
                           sent something */
    nm_tally stuck;     /* of the open ones: those that wait or are unreached */
    nm_tally calling;   /* the client has lately sent a SYN, or data of a connection that is not known here, and the
                           backend has sent nothing */
    nm_tally greeted;   /* the backend has sent its SYN-ACK, a second ago or longer, which the client has not acknowledged */
    nm_tally unconnected; /* new flows: the client has sent its SYN a second ago or longer, and has lately sent more,
                             but its handshake is not complete */
    nm_group groups[NM_GROUPS]; /* the stuck flows, and those that pass: data was acknowledged lately and at once, and
                                   nothing has waited for an acknowledgement since; of flows that have ended, only those
                                   in which this was since the look before */
    uint32_t stuck_groups;   /* at the end of a look: the groups of which four fifths of the flows or more are stuck. No
                                client can spoil more than one, so many flows of few clients decide nothing */
    uint32_t passing_groups; /* the others that have such flows */
} nm_service_look;

/* Look at up to max flows, beginning with number first, and add them to their services' looks: an array of count, by
 * the service's number. Looks are numbered in turn, from 1 on. Return the number to continue with, or NM_NO_FLOW after
 * the last. */
uint32_t nm_gear_look(nm_gear *gear, uint32_t first, uint32_t max, uint32_t look, double now, nm_service_look *services,
                      uint32_t count);

#endif
