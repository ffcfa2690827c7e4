"""OpenFlow, as far as a session with a master needs it. No I/O, no clock, no packets.

Begin with session.py, which plays a switch to one master; answers.py has the switch's answers. messages.py has the
protocol's layout, framer.py cuts a stream into messages. observer.py follows a production connection and enters the
answers of its switch (datapath.py, ports.py) into directory.py. bodies/ decodes messages into values; decisions.py puts
the orders of controller and master side by side; tables/ models the flow tables that they make; handshake.py is for
health checks. Imports nothing of natmirror.
"""
