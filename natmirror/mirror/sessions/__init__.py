"""OpenFlow sessions of mirrors' own: each master talks with a switch that natmirror plays.

sessions.py has all of them, master_session.py is one, read_queue.py hands over what production's connections say.
Imports openflow and mirror.
"""
