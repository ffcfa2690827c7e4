/* The invariants of packets without a flow. */
#ifndef FUZZ_CHECK_WITHOUT_FLOW_H
#define FUZZ_CHECK_WITHOUT_FLOW_H

#include "world.h"

/* Return the number of the service to which a packet goes; -1 if there is none. */
int service_at(const world *w, const uint8_t *packet);
/* Whether the packet had no flow and no leg. */
int is_without_flow(const world *w, const snapshot *before, const uint8_t *packet, int hook);
/* Whether only Python can decide such a packet: it may begin a flow, or a mirror's gets a RST. */
int needs_python_without_flow(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook,
                              int checksum);
/* Whether such a packet, if C decides it, comes past the service of another flow: the flow's backend would get it. */
int is_past_service(const world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum);
/* Check that such a packet, decided in C, has changed one counter at most, and no flow; but a direct connection may
 * have been opened. */
void check_without_flow(world *w, const snapshot *before, const uint8_t *packet, size_t len, int hook, int checksum);

#endif
