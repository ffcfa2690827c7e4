"""The engine: packets and the time go in, verdicts and packets to be sent come out. No I/O, no clock.

Begin with engine.py, then forwarding.py: what becomes of a packet. failover.py ends connections of failed backends,
icmp_errors.py translates errors, the replicated_* files hold what another host's connections need here. Imports all of
the core below: mirror, nat, tcp, openflow, fastpath, rules and net.
"""
