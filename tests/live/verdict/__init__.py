"""A learning switch in production, and variants of it as masters at the same time: what does the verdict say of each?

``python -m tests.live.verdict`` runs them, and prints a table. Begin with variants.py, which says what a variant is;
bugs.py, other_bugs.py and pipeline_bugs.py have the planted bugs, catalogue.py all variants by name. learning.py and
pipeline.py are the honest controllers in terms of orders.py, controller.py makes them OpenFlow controllers. stage.py is
the lab, traffic.py what its hosts send, measure.py a run, outcome.py what should have been said. truth.py compares
natmirror's models with the switches, and listing.py runs natmirror so that its models can be read.
"""
