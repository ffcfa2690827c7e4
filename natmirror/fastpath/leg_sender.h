/* Send and acknowledge for legs in their steady state: established, with no loss to repair. The Python counterparts are
 * natmirror/tcp/sender.py, congestion.py and retransmit_timer.py; tests compare the two. This header serves #include
 * and cffi's cdef() alike.
 */
#ifndef NATMIRROR_FASTPATH_LEG_SENDER_H
#define NATMIRROR_FASTPATH_LEG_SENDER_H

#include <stdint.h>

#include "fastpath/leg_table.h"
#include "fastpath/out_buffer.h"

/* Start the retransmission timer for new data up to number end (RFC 6298 5.1). */
void nm_start_timer(nm_leg *leg, uint32_t end, double now);

/* Send what the mirror's window and the congestion window allow, at most NM_LEG_MAX_SEGMENTS. If data is left after
 * that, the leg is due again at once (more_at). */
void nm_leg_output(nm_leg *leg, double now, nm_out *out);

/* Take an acknowledgement up to number ack; window: bytes that the mirror offers from there on. */
void nm_leg_take_ack(nm_legs *legs, nm_leg *leg, uint32_t ack, uint32_t window, double now, nm_out *out);

/* Send an acknowledgement without data. */
void nm_leg_acknowledge(nm_leg *leg, nm_out *out);

/* Consume len more bytes of the mirror, in order; acknowledge them now or after NM_LEG_ACK_DELAY. */
void nm_leg_take_data(nm_leg *leg, uint32_t len, double now, nm_out *out);

/* Return the leg's next deadline. The second leaves out the deadlines that C serves itself: a delayed
 * acknowledgement, and data left to send. */
double nm_leg_deadline(const nm_leg *leg);
double nm_leg_python_deadline(const nm_leg *leg);

/* Serve a bounded number of the legs that are due: send their delayed acknowledgements, and the next data of one leg
 * that has data left. Stop at a leg that needs Python, and return whether there is one. */
int nm_legs_acknowledge(nm_legs *legs, nm_out *out, double now);

#endif
