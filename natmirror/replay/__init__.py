"""Recorded captures through the same engine, with a mirror that answers ideally.

replay.py runs a capture, capture.py reads and writes pcap files. Imports engine and below.
"""
