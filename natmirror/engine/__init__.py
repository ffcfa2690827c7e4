"""The engine: packets and the time go in, decisions and packets to be sent come out. No I/O, no clock.

Begin with forwarding.py, which walks a packet through, then engine.py, which composes the parts. failover.py ends
connections of failed backends, icmp_errors.py translates errors, mirror_endpoints.py knows where mirrors are, the
replicated_* files hold what another host's connections need here, report.py and counters.py what is reported of all.
Imports all of the core below: mirror, nat, tcp, openflow, fastpath, rules, net and actions.
"""
