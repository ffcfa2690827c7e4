"""Packets as bytes. Nothing in this package knows of flows.

packet.py parses packets, build.py rewrites and builds them, checksum.py computes checksums, icmp.py parses and
translates ICMP errors. endpoint.py and prefixes.py hold addresses, seq.py and ranges.py sequence numbers. Begin with
packet.py. Imports no other package of natmirror.
"""
