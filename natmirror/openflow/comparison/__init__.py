"""Compares what a master would have done to a switch with what production's controller did.

Begin with results.py: what is found out about each PACKET_IN, each order that answers none, and each session. judge.py
is the judge of one connection, pair.py what it compares for one mirror, side.py one side's tables and orders. An order
is read once for all sides (readings.py), attributed to its cause (attribution.py, causes.py) and reduced to its effects
(effects.py). Then answers (answer_comparison.py, answers.py, comparable.py), programmes (programme.py, own_frames.py),
tables (table_comparison.py, lasting.py) and frames (frame_comparison.py) are compared, and differences put into words
(words.py, rule_words.py).

sums.py adds up the results of all connections, and verdict.py draws the conclusion.
"""
