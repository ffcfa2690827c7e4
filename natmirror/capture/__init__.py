"""``natmirror capture``: the packets of one client on all sides of natmirror, in one pcapng file.

A **side** is a place where an operator would run tcpdump: the clients', the backends', the copy to a mirror, a mirror's
answers. linux/packet_socket.py gets copies of the packets, which a ``Recorder`` holds for two seconds, so that they
leave in the order of time, with the comments that ``Story`` makes of what the API answers meanwhile. ``Sorter`` says
which side each packet belongs to. The engine takes no part in this.
"""
