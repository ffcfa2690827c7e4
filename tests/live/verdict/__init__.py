"""A learning switch in production, and variants of it as masters at the same time: what does the verdict say of each?

``python -m tests.live.verdict`` runs them, and prints a table. Begin with variants.py, which says what a variant is;
bugs.py and other_bugs.py have the planted bugs, catalogue.py all variants by name. learning.py is the honest controller
in terms of orders.py, controller.py makes it an OpenFlow controller. stage.py is the lab, traffic.py what its hosts
send, measure.py a run, outcome.py what should have been said. truth.py compares natmirror's models with the switches,
and listing.py runs natmirror so that its models can be read.
"""
