"""Packets as bytes: parsing and building them, checksums, sequence numbers, ICMP errors. Nothing here knows a flow.

Begin with packet.py. Imports errors alone.
"""
