"""OpenFlow, as far as a session with a master has to speak it. No I/O, no clock, no packets.

Begin with session.py. messages.py has the protocol's layout, framer.py cuts a stream into messages. observer.py follows
a production connection and enters into directory.py what a switch (datapath.py, ports.py) has said. session.py plays
that switch to one master, answers.py has its answers. decisions.py compares what controller and master decide;
handshake.py is a health check's. Imports nothing of ours.
"""
