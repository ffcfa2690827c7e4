"""The TCP that natmirror speaks, and how it follows the TCP of others.

tracker.py follows a connection of production's. leg.py is a leg, the connection to a mirror: begin with the tables of
leg_states.py, which say what moves a leg and what ends it. sender.py and receiver.py are its halves, leg_numbers.py
what can be read of it, leg_packets.py its packets, leg_deadlines.py its timeouts. congestion.py, sack.py and
retransmit_timer.py are its rules of sending; path_mtu.py says how much a segment takes. resumption.py is what differs
about another host's leg, by leg_record.py's record of it. reassembler.py puts a stream in order. No I/O, no clock.
Imports fastpath, rules and net.
"""
