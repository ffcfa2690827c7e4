"""Whether backends are fit for new connections.

probes.py asks them, health.py makes a state of the answers, admission.py a share of the new connections: drain, slow
start, failover. Imports rules and errors.
"""
