"""Whether backends are fit for new connections.

Begin with monitor.py: a thread that runs the checks. probes.py has the checks themselves, health.py the state that
their results lead to. admission.py sets a backend's share of the new connections: drain, slow start, failover. Imports
rules, openflow, net and errors.
"""
