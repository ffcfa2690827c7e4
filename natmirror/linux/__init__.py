"""The only code that touches packets' way through the machine: netfilter queues, the kernel's rules, namespaces.

Begin with loop.py, which drives nfqueue.py's queues in C (loop.c), with outbox.c and tun.py as the way out.
queue_keeper.py looks after the queues, bypass.py lets packets of services without a pool pass while natmirror is
frozen. iptables.py and nftables.py install rules, preflight.py looks whether the machine is fit, instance.py is the
lock of a run, systemd.py talks to the service manager. Knows nothing of flows. Imports rules, net, actions, errors,
and the C library itself.
"""
