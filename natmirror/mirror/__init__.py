"""Copies of what clients send, and the legs that bring them to mirrors.

The words: a mirrored flow has a stream (copies.py, its states in copy_states.py); the stream has a copy for each
mirror, carried by a leg (legs.py), or a reason why there is none. What a method does to a leg it returns as an event,
applied in leg_outcomes.py. ledger.py accounts for each byte, adoption.py goes on with another host's copies,
backpressure.py holds clients back, sessions/ has the OpenFlow sessions with masters. Begin with mirroring.py; parts.py
puts all together; guarded.py is production's only door, so that a mistake in here costs copies and no packet. Imports
tcp, openflow, fastpath, rules, net and actions.
"""
