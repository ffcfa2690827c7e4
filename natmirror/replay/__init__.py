"""Replaying captures through the engine, with a mirror that answers ideally.

Begin with replay.py, which replays a capture. capture.py reads and writes pcap files, hooks.py finds the hook of a
packet, ideal_mirror.py answers for the mirrors, captured_numbers.py finds the legs' sequence numbers in a capture,
streams.py collects the bytes that mirrors get. Imports engine and below.
"""
