"""Compares what a master would have done to a switch with what production's controller did.

Begin with results.py: what is found out about each PACKET_IN, each order that answers none, and each session.
"""
