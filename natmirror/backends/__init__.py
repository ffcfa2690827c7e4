"""Health checks of backends, and their shares of the new connections.

Begin with monitor.py, a thread that runs the checks. probes.py has the checks, health.py the state machine that their
results drive. admission.py sets a backend's share of the new connections: drain, slow start, failover, panic.
second_target.py asks whether the network works, and host_view.py says what the checks need to know of this host.
Imports rules, openflow, net and errors.
"""
