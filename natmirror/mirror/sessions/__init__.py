"""OpenFlow sessions of mirrors' own: each master talks with a switch that natmirror plays.

The words: a connection that is read along has for each master a session (master_session.py, its states in
session_states.py). Begin with sessions.py, which takes what both ends and the masters say from read_queue.py, step by
step; relay.py gives it to the sessions, calls.py calls masters and keeps their orders, replies.py puts the backend's
bytes in order, totals.py counts. Imports openflow and mirror.
"""
