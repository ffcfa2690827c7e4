"""Replays captures through the engine, with an ideal mirror.

Begin with replay.py, which replays a capture. capture.py reads captures and writes pcap files, with pcapng.py,
link_layers.py, large_packets.py and fragments.py. hooks.py finds the hook of a packet, ideal_mirror.py answers for the
mirrors, captured_numbers.py finds the legs' sequence numbers in a capture, streams.py collects the bytes that mirrors
get, explanation.py says why nothing was mirrored. Imports engine and below.
"""
