"""The engine: packets and the time go in, decisions and packets to send come out. No I/O, no clock.

Begin with forwarding.py, which follows a packet step by step, then engine.py, which puts the parts together.
failover.py resets connections of failed backends, icmp_errors.py translates ICMP errors, mirror_endpoints.py knows the
mirrors' addresses. replicated_bindings.py and replicated_legs.py share connections with another host. report.py and
counters.py make the state that the API shows. Imports mirror, nat, tcp, openflow, fastpath, rules, net and actions.
"""
