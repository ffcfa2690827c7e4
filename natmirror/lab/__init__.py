"""A load-balancer host between switches and controllers, in network namespaces: for demo, tests and captures.

topology.py makes the namespaces, loadbalancer.py runs natmirror in one of them, switch.py and openvswitch.py are
switches, controllers/ has the controllers. Begin with demo.py. Imports whatever it shows.
"""
