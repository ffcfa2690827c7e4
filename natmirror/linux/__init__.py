"""The only code that touches the machine: netfilter queues, sockets, iptables and nftables, namespaces.

loop.py drives nfqueue.py's queues in C, iptables.py and nftables.py install rules, preflight.py looks whether the
machine is fit. Knows nothing of flows; imports fastpath, rules and net.
"""
