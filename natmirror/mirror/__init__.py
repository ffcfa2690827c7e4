"""Copies of what clients send, and the legs that bring them to mirrors.

Begin with mirroring.py: it feeds each mirrored flow's stream to its legs. legs.py drives the legs, ledger.py accounts
for each byte, guarded.py is the only door for production, so that a mistake in here costs copies and no packet.
sessions/ has the OpenFlow sessions with masters. Imports tcp, openflow, fastpath, rules and net.
"""
