"""The only code that touches the machine: netfilter queues, sockets, iptables, namespaces."""
