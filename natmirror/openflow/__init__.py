"""OpenFlow, as far as a mirror's session has to speak it: no I/O, no clock, no knowledge of packets.

messages.py has the protocol's layout, framer.py cuts a stream into messages. observer.py reads production's connection,
datapath.py keeps what a switch has said, and session.py speaks with one master as that switch. Imports nothing of ours
but errors.
"""
