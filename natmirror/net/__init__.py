"""Packets as bytes. Nothing here knows a flow.

packet.py parses them, build.py rewrites and makes them, checksum.py computes their sums, icmp.py reads and translates
errors; endpoint.py and prefixes.py hold addresses, seq.py and ranges.py sequence numbers. Begin with packet.py. Imports
nothing of ours.
"""
