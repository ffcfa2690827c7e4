"""The TCP that natmirror speaks, and how it follows the TCP of others.

tracker.py follows a connection of production's. leg.py is a leg, the connection to a mirror: sender.py and receiver.py
are its halves, leg_states.py its states, congestion.py, sack.py and retransmit_timer.py its sending rules.
resumption.py goes on with another host's leg by leg_record.py's record of it. No I/O, no clock. Imports fastpath,
rules and net.
"""
