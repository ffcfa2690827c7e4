"""The hooks of the kernel at which other programs' chains stand, and what nftables and iptables call them."""

from enum import IntEnum, auto


class ChainHook(IntEnum):
    """A hook. The members stand in the order in which a packet comes to them."""

    INGRESS = auto()
    """Of an interface, before all other hooks."""
    BRIDGE_IN = auto()
    """Of a bridge that is an interface of this host: what comes through it to the host."""
    ARP_IN = auto()
    """Of ARP: what comes to the host."""
    PREROUTING = auto()
    FORWARD = auto()
    POSTROUTING = auto()
    ARP_OUT = auto()
    """Of ARP: what comes from the host."""
    BRIDGE_OUT = auto()
    """Of a bridge that is an interface of this host: what comes from the host."""
    EGRESS = auto()
    """Of an interface, after all other hooks."""


_IP = {"prerouting": ChainHook.PREROUTING, "forward": ChainHook.FORWARD, "postrouting": ChainHook.POSTROUTING}

OF_NFTABLES: dict[str, dict[str, ChainHook]] = {
    "ip": _IP,
    "inet": {**_IP, "ingress": ChainHook.INGRESS},
    "arp": {"input": ChainHook.ARP_IN, "output": ChainHook.ARP_OUT},
    "netdev": {"ingress": ChainHook.INGRESS, "egress": ChainHook.EGRESS},
    "bridge": {
        **{"prerouting": ChainHook.BRIDGE_IN, "input": ChainHook.BRIDGE_IN},
        **{"output": ChainHook.BRIDGE_OUT, "postrouting": ChainHook.BRIDGE_OUT},
    },
}
"""The hooks of each family of tables, by the words of nft(8)."""

ARP_FAMILIES = ("arp", "netdev", "bridge")
"""The families of tables whose chains get ARP packets."""

OF_IPTABLES = {name.upper(): hook for name, hook in _IP.items()}
"""The hooks of the built-in chains of iptables."""
