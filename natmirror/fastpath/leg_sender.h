/* The sending of legs in their steady state, and the packets for it. sender.py, congestion.py and retransmit_timer.py have the rules;
 * tests hold the two against each other. For C files only. */
#ifndef NATMIRROR_FASTPATH_LEG_SENDER_H
#define NATMIRROR_FASTPATH_LEG_SENDER_H

#include "fastpath/leg_table.h"

/* Room for one more packet of len bytes; NULL where there is no memory for it. */
uint8_t *nm_out_reserve(nm_out *out, uint32_t len, uint32_t segment_len);

/* The retransmission timer runs for new data up to number end (RFC 6298 5.1). */
void nm_start_timer(nm_leg *leg, uint32_t end, double now);

/* Send what the mirror's window and the congestion window allow; at most 512 segments in one call: where that leaves some,
 * the leg is due again at once (more_at). */
void nm_leg_output(nm_leg *leg, double now, nm_out *out);

/* The mirror has acknowledged up to number ack, which is new, and offers window bytes from there on. */
void nm_leg_take_ack(nm_legs *legs, nm_leg *leg, uint32_t ack, uint32_t window, double now, nm_out *out);

/* An acknowledgement without data. */
void nm_leg_acknowledge(nm_leg *leg, nm_out *out);

/* len bytes more of the mirror's have come in their turn: they are acknowledged, now or soon. */
void nm_leg_take_data(nm_leg *leg, uint32_t len, double now, nm_out *out);

/* When the leg is due next: its timers, or when it is given up; the same but for an acknowledgement that is owed and for
 * what is left to send. */
double nm_leg_deadline(const nm_leg *leg);
double nm_leg_python_deadline(const nm_leg *leg);

#endif
