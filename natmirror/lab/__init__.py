"""A load-balancer host between switches and controllers, in network namespaces: for the demo, tests and captures.

topology.py makes the namespaces, loadbalancer.py runs natmirror in one of them, pair_host.py two of those as a pair.
switch.py and openvswitch.py are switches, swarm.py many of them; controllers/ has the controllers. record.py records
the captures in pcaps/. Begin with demo.py. Imports api, replay and below.
"""
