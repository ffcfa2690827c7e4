"""Copies of the bytes that clients send, and the legs that carry them to mirrors.

The nouns: a mirrored flow has a stream (copies.py, its states in copy_states.py). The stream has a copy for each
mirror. A leg (legs.py) carries the copy, or the copy has a reason why it has no leg. A method that moves a leg returns
the outcome, which leg_outcomes.py applies. ledger.py accounts for each byte, adoption.py continues another host's
copies, backpressure.py throttles clients, sessions/ has the OpenFlow sessions with masters. Begin with mirroring.py;
parts.py builds all of them. guarded.py is production's only door: a fault in here costs copies and no packet. Imports
tcp, openflow, fastpath, rules, net and actions.
"""
