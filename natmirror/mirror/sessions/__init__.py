"""OpenFlow sessions with masters: natmirror plays the switch to each master.

The nouns: natmirror observes a production connection, and has a session with each master for it (master_session.py, its
states in session_states.py). Begin with sessions.py, which takes the bytes of both ends and of the masters from
read_queue.py, message by message. relay.py passes them to the sessions, open_sessions.py opens legs to masters and
keeps their orders, replies.py puts the backend's bytes in order, totals.py counts. Imports openflow and mirror.
"""
