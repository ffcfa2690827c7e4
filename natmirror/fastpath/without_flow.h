/* Decide packets of no flow and no leg, and clients' packets of direct connections: most of the former belong to no
 * connection at all. The Python counterpart is
 * natmirror/engine/forwarding.py; tests compare the two. For C files only.
 *
 * Return the decision as nm_decide() does. Punted is only a packet that may begin a flow (a SYN that C cannot decide,
 * data), and one to which natmirror answers with a RST.
 */
#ifndef NATMIRROR_FASTPATH_WITHOUT_FLOW_H
#define NATMIRROR_FASTPATH_WITHOUT_FLOW_H

#include "fastpath/gear.h"
#include "fastpath/packet.h"

/* Decide a packet at PREROUTING: a client's to a service, a mirror's, or any other host's. */
int nm_decide_without_flow(nm_gear *gear, const nm_segment *seg, int checksum, double now);

/* Decide a client's packet of a direct connection. */
int nm_decide_direct(nm_gear *gear, const nm_segment *seg);

/* Decide a packet at FORWARD or OUTPUT: a backend's to a client, or any other host's. */
int nm_decide_unbound_reply(nm_gear *gear, const nm_segment *seg, int checksum, double now);

/* Pass a packet that was to be punted for NM_PUNT_NO_FLOW, but was refused a turn, without a flow; or drop it. Return that
 * reason where it cannot pass. */
int nm_pass_without_flow(nm_gear *gear, const nm_segment *seg, int is_orig, double now);

#endif
