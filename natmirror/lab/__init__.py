"""A load-balancer host between switches and controllers, in network namespaces: for the demo, tests and captures.

topology.py makes the namespaces, loadbalancer.py runs natmirror in one of them, pair_host.py natmirror and keepalived
on one host of a pair. openvswitch.py runs a real switch, switch.py plays a synthetic one, swarm.py many of these;
controllers/ has the controllers. record.py records the captures in pcaps/. Begin with demo.py. Imports api, replay and
below.
"""
