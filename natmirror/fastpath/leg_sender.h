/* What legs in their steady state send: nothing is lost, closing or closed. natmirror/tcp/sender.py, congestion.py and
 * retransmit_timer.py have the same rules; tests hold the two against each other. This header serves #include and cffi's
 * cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_LEG_SENDER_H
#define NATMIRROR_FASTPATH_LEG_SENDER_H

#include <stdint.h>

#include "fastpath/leg_table.h"
#include "fastpath/out_buffer.h"

/* Start the retransmission timer for new data up to number end (RFC 6298 5.1). */
void nm_start_timer(nm_leg *leg, uint32_t end, double now);

/* Send what the mirror's window and the congestion window allow, at most NM_LEG_MAX_SEGMENTS at once: where that leaves
 * some, the leg is due again immediately (more_at). */
void nm_leg_output(nm_leg *leg, double now, nm_out *out);

/* Take an acknowledgement up to number ack, which is new, with the window that the mirror offers from there on, in bytes. */
void nm_leg_take_ack(nm_legs *legs, nm_leg *leg, uint32_t ack, uint32_t window, double now, nm_out *out);

/* Send an acknowledgement without data. */
void nm_leg_acknowledge(nm_leg *leg, nm_out *out);

/* Take len more bytes of the mirror's, which are in order: they are acknowledged, now or after NM_LEG_ACK_DELAY. */
void nm_leg_take_data(nm_leg *leg, uint32_t len, double now, nm_out *out);

/* Return when the leg is due next: its timers, or when it is given up; the second without those that C can serve, an
 * acknowledgement that is owed and data that is left to send. */
double nm_leg_deadline(const nm_leg *leg);
double nm_leg_python_deadline(const nm_leg *leg);

/* Serve the legs that are due, not all at once: send the acknowledgements that they owe, and the next data of one of them
 * that has some left. Stop at a leg with anything else to do, and return whether there is one: that is Python's. */
int nm_legs_acknowledge(nm_legs *legs, nm_out *out, double now);

#endif
