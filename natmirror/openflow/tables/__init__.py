"""The flow tables of switches as a model: what production's switch has, and what it would have by a mirror's orders.

Begin with model.py, which follows a controller's orders; production.py adds what the switch says, mirror_model.py what
it cannot say about orders that it never got. state.py has the entries (entries.py), index.py finds rules by their match
(packed.py). flow_mods.py and group_mods.py say what an order changes, bundles.py collects those of a bundle, journal.py
undoes the refused ones. walk.py follows a frame (frame.py) through the tables, evidence.py draws conclusions from a
PACKET_IN. difference.py compares two states, statistics.py answers a master's questions for statistics.

No I/O, no clock: each function gets the time, in seconds.
"""
