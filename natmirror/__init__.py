"""natmirror: a NAT and TCP mirror engine for load-balancer hosts."""

__version__ = "0.1.0"
