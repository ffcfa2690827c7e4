"""Recorded captures through the same engine, with a mirror that answers ideally.

Begin with replay.py, which runs a capture. capture.py reads and writes pcap files, hooks.py finds the hook of a packet,
ideal_mirror.py answers for the mirrors, streams.py collects what they get. Imports engine and below.
"""
