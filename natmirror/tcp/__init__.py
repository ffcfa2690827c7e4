"""TCP: the tracker of production's connections, and the legs, our own connections to mirrors. No I/O, no clock.

tracker.py follows a connection of production, or C does in its place: following.py. leg.py is a leg: begin with the
tables of leg_states.py, which say what changes its state and what ends it. sender.py and receiver.py are its two
halves, leg_numbers.py its numbers, leg_packets.py its packets, leg_deadlines.py its timeouts. congestion.py, sack.py
and retransmit_timer.py decide when the sender sends, path_mtu.py the segment size, initial_numbers.py the initial
sequence number. leg_record.py is the record of a leg for another host, record_masks.py hides its numbers, resumption.py
continues such a leg. client_window.py throttles a client for slow mirrors. reassembler.py puts a stream in order.
Imports fastpath, rules and net.
"""
