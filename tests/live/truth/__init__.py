"""Random orders for a real Open vSwitch and for the model of its tables: both have the same rules after each burst.

orders.py makes them with os-ken, line.py speaks with the switch, comparison.py follows both, frames.py sends frames
through both. ``python -m
tests.live.truth`` does 10,000 orders in each version of OpenFlow.
"""
