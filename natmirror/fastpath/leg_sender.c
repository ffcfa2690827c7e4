/* Send for legs in their steady state; leg_sender.h says what each function is for. */
#include "fastpath/leg_sender.h"

#include <math.h>
#include <stdlib.h>

#include "fastpath/packet.h"
#include "fastpath/tcp_constants.h"

#define HEADERS_LEN (IP_MIN + TCP_MIN)
#define ACKNOWLEDGED_AT_ONCE 256 /* legs in one call, because packets wait meanwhile */
#define MAX_DATA_LEN (0xffff - HEADERS_LEN)
#define DONT_FRAGMENT 0x4000
#define TTL 64

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Write one packet. Python's counterpart: build.synthesise(). */
static void emit(nm_leg *leg, uint32_t at, uint8_t flags, uint32_t data_len, nm_out *out)
{
    uint32_t len = HEADERS_LEN + data_len;
    leg->ack_at = INFINITY;
    uint8_t *ip = nm_out_reserve(out, len, leg->mss);
    if (!ip)
        return;
    uint8_t *tcp = ip + IP_MIN;
    memset(ip, 0, HEADERS_LEN);
    ip[0] = 0x45;
    put16(ip + 2, (uint16_t)len);
    put16(ip + 6, DONT_FRAGMENT);
    ip[8] = TTL;
    ip[9] = PROTO_TCP;
    memcpy(ip + 12, leg->local, 4);
    memcpy(ip + 16, leg->mirror, 4);
    put16(ip + 10, (uint16_t)~fold(sum_words(ip, IP_MIN)));
    put16(tcp, leg->local_port);
    put16(tcp + 2, leg->mirror_port);
    put32(tcp + 4, at + leg->seq_offset);
    put32(tcp + 8, leg->rcv_nxt);
    tcp[12] = TCP_MIN / 4 << 4;
    tcp[13] = flags;
    put16(tcp + 14, NM_LEG_WINDOW);
    put16(tcp + 16, fold(sum_words(ip + 12, 8) + PROTO_TCP + len - IP_MIN));
    nm_leg_copy(leg, at - leg->buffer_seq, tcp + TCP_MIN, data_len);
}

void nm_start_timer(nm_leg *leg, uint32_t end, double now)
{
    if (!(leg->flags & NM_LEG_SAMPLING)) {
        leg->flags |= NM_LEG_SAMPLING;
        leg->sample_end = end;
        leg->sample_at = now;
    }
    if (leg->rto_at == INFINITY)
        leg->rto_at = now + leg->rto;
}

/* The counterpart of Sender.output() in Python, for a leg without a loss to repair and with an open stream. */
void nm_leg_output(nm_leg *leg, double now, nm_out *out)
{
    uint32_t end = leg->buffer_seq + leg->buffered, allowed = NM_LEG_MAX_SEGMENTS * leg->mss;
    leg->more_at = INFINITY;
    if (leg->buffered && leg->snd_nxt == leg->snd_una && now - leg->sent_at > leg->rto)
        leg->cwnd = least(leg->cwnd, NM_INITIAL_SEGMENTS * leg->mss);
    for (;;) {
        uint32_t in_flight = leg->snd_nxt - leg->snd_una;
        int64_t left = diff(end, leg->snd_nxt);
        int64_t in_window = diff(leg->snd_una + leg->window, leg->snd_nxt);
        int64_t in_network = (int64_t)leg->cwnd - in_flight;
        int64_t size = in_window < in_network ? in_window : in_network;
        if (size > left)
            size = left;
        if (size <= 0)
            break;
        if (allowed < leg->mss) {
            leg->more_at = now;
            break;
        }
        if (size == left && left <= allowed) {
            /* All of it leaves now: in as few packets as possible, none of them a remnant that costs as much as a
             * large one. */
            int64_t packets = (left + MAX_DATA_LEN - 1) / MAX_DATA_LEN;
            size = (left + packets - 1) / packets;
        } else {
            size = least((uint32_t)size, least(allowed, MAX_DATA_LEN));
            if (size >= leg->mss)
                size -= size % leg->mss;
            else if (in_flight)
                break; /* RFC 9293 3.8.6.2.1: no silly windows */
        }
        uint32_t at = leg->snd_nxt;
        leg->snd_nxt = leg->snd_max = at + (uint32_t)size;
        allowed -= (uint32_t)size;
        leg->sent_bytes += (uint64_t)size;
        nm_start_timer(leg, leg->snd_nxt, now);
        leg->sent_at = now;
        emit(leg, at, TCP_ACK | (size == left ? TCP_PSH : 0), (uint32_t)size, out);
    }
}

/* The counterpart of retransmit_timer.acknowledged() in Python. */
static void take_sample(nm_legs *legs, nm_leg *leg, uint32_t ack, double now)
{
    if (leg->flags & NM_LEG_SAMPLING && diff(ack, leg->sample_end) >= 0) {
        double round_trip = now - leg->sample_at;
        leg->flags &= (uint8_t)~NM_LEG_SAMPLING;
        nm_leg_note_round_trip(legs, leg, round_trip);
        if (!(leg->flags & NM_LEG_MEASURED)) {
            leg->flags |= NM_LEG_MEASURED;
            leg->srtt = round_trip;
            leg->rttvar = round_trip / 2;
        } else {
            leg->rttvar += (fabs(leg->srtt - round_trip) - leg->rttvar) / 4;
            leg->srtt += (round_trip - leg->srtt) / 8;
        }
    }
    if (!(leg->flags & NM_LEG_MEASURED)) {
        leg->rto = NM_RTO_INITIAL;
        return;
    }
    leg->rto = leg->srtt + fmax(NM_RTO_GRANULARITY, 4 * leg->rttvar);
    leg->rto = fmin(fmax(leg->rto, NM_RTO_MIN), NM_RTO_MAX);
}

/* The counterpart of Congestion.new_ack() in Python, for a leg without a loss to repair. */
static void widen_window(nm_leg *leg, uint32_t acked, uint32_t flight)
{
    leg->duplicates = 0;
    if (leg->cwnd < leg->ssthresh) {
        if (2 * (uint64_t)flight >= leg->cwnd)
            leg->cwnd += least(acked, NM_SLOW_START_SEGMENTS * leg->mss);
    } else if ((uint64_t)flight + leg->mss >= leg->cwnd) {
        leg->cwnd_acked += acked;
        if (leg->cwnd_acked >= leg->cwnd) {
            leg->cwnd_acked -= leg->cwnd;
            leg->cwnd += leg->mss;
        }
    }
    leg->cwnd = least(leg->cwnd, NM_MAX_CWND);
}

void nm_leg_take_ack(nm_legs *legs, nm_leg *leg, uint32_t ack, uint32_t window, double now, nm_out *out)
{
    uint32_t flight = leg->snd_nxt - leg->snd_una, acked = ack - leg->snd_una;
    if (acked) {
        uint32_t data = least(ack - leg->buffer_seq, leg->buffered);
        leg->snd_una = ack;
        nm_leg_note_lag(legs, leg, now);
        nm_leg_drop(legs, leg, data, ack);
        leg->acked_bytes += data;
        leg->progress_at = now;
        take_sample(legs, leg, ack, now);
        leg->rto_at = leg->snd_nxt != ack ? now + leg->rto : INFINITY;
        widen_window(leg, acked, flight);
    }
    leg->window = window;
    if (leg->max_window < window)
        leg->max_window = window;
    nm_leg_output(leg, now, out);
}

void nm_leg_acknowledge(nm_leg *leg, nm_out *out)
{
    uint32_t edge = leg->snd_una + leg->window;
    emit(leg, diff(leg->snd_max, edge) <= 0 ? leg->snd_max : edge, TCP_ACK, 0, out);
}

void nm_leg_take_data(nm_leg *leg, uint32_t len, double now, nm_out *out)
{
    leg->rcv_nxt += len;
    leg->consumed_bytes += len;
    if (len > leg->mss || leg->ack_at < INFINITY)
        nm_leg_acknowledge(leg, out);
    else
        leg->ack_at = now + NM_LEG_ACK_DELAY;
}

double nm_leg_deadline(const nm_leg *leg)
{
    return fmin(fmin(leg->ack_at, leg->more_at), nm_leg_python_deadline(leg));
}

/* The counterpart of Leg.next_timer() in Python, while the client is connected and the mirror's window is open. */
double nm_leg_python_deadline(const nm_leg *leg)
{
    double due = fmin(leg->rto_at, leg->widen_at);
    if (leg->buffered || leg->snd_una != leg->snd_max)
        return fmin(due, leg->progress_at + leg->stall_timeout);
    return fmin(due, leg->heard_at + leg->idle_timeout);
}

int nm_legs_acknowledge(nm_legs *legs, nm_out *out, double now)
{
    nm_leg *leg;
    for (int count = 0; count < ACKNOWLEDGED_AT_ONCE && (leg = nm_legs_due(legs, now)); count++) {
        int has_unsent = now >= leg->more_at;
        if (!(leg->flags & NM_LEG_STEADY) || (now < leg->ack_at && !has_unsent) || now >= nm_leg_python_deadline(leg))
            return 1;
        if (has_unsent) {
            nm_leg_output(leg, now, out);
            count = ACKNOWLEDGED_AT_ONCE; /* sending takes as long as the acknowledgements of all other legs together */
        } else {
            nm_leg_acknowledge(leg, out);
        }
        nm_leg_set_due(legs, leg, nm_leg_deadline(leg));
    }
    return 0;
}
