"""The only code that changes how packets pass through this host: netfilter queues, kernel rules, the TUN device.

Begin with loop.py: its C part (loop.c) receives packets from the queues of nfqueue.py, and sends synthesised packets
through outbox.c to the device of tun.py. queue_monitor.py checks the queues; bypass.py lets packets of services without
a pool pass while natmirror is frozen. iptables.py installs the rules of iptables_rules.py, nftables.py a table,
preflight.py checks the host by what host_state.py reads, route_checks.py its routes by the kernel's answers
(routes.py), vrf.py says in which VRFs production passes, rule_findings.py looks at other programs' rules, arp_checks.py
at ARP, reachability.py whether its own packets leave it, instance.py holds the lock of a run, and systemd.py talks to
the service manager. Knows nothing of flows. Imports rules, net, findings, actions, errors, and the C library itself.
"""
