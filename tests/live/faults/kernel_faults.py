"""Other programs change what natmirror has put into the kernel: natmirror repairs it."""

from tests.live.faults.fault import Fault, Loss

_DEVICE = "natmirror0"
_LEAVE_ALONE = "leave the interfaces natmirror* alone"


def _device_fault(name: str, plant: str) -> Fault:
    return Fault(name, ("tun-repaired",), plant, "", _LEAVE_ALONE, repairs="TUN device", keeps_copies=True)


DEVICE_FAULTS = (
    _device_fault("TUN device without its address", f"ip address flush dev {_DEVICE}"),
    _device_fault("TUN device down", f"ip link set {_DEVICE} down"),
    _device_fault("TUN device with another sysctl", f"sysctl -qw net.ipv4.conf.{_DEVICE}.rp_filter=1"),
    _device_fault("TUN device deleted", f"ip link delete {_DEVICE}"),
)


def kernel_rule_faults(backend: str, other: str) -> tuple[Fault, ...]:
    """Return the faults of a natmirror that uses this iptables, ``nft`` or ``legacy``, and not the other one. -w: all
    hosts of the lab share the lock of iptables-legacy."""
    by = "let iptables-" if backend == "nft" else "let an unknown program"
    return (
        Fault(
            f"a chain flushed ({backend})",
            ("rules-repaired",),
            f"iptables-{backend} -w -t raw -F NATMIRROR-PRE",
            "",
            by,
            loses=Loss.TIME,
            repairs=f"iptables-{backend} table raw",
            keeps_copies=True,
        ),
        Fault(
            f"the table raw flushed ({backend})",
            ("rules-repaired",),
            f"iptables-{backend} -w -t raw -F",
            "",
            by,
            loses=Loss.TIME,
            repairs=f"iptables-{backend} table raw",
            keeps_copies=True,
        ),
        Fault(
            f"older rules restored ({backend})",
            ("rules-repaired",),
            f"iptables-{backend}-save | grep -v 'A NATMIRROR-.*10.20.0.12' >old; iptables-{backend}-restore -w 9 old",
            "",
            by,
            loses=Loss.CONNECTIONS,
            repairs=f"iptables-{backend} table mangle",
        ),
        Fault(
            f"a rule above natmirror's ({backend})",
            ("rules-repaired",),
            f"iptables-{backend} -w -t mangle -I FORWARD -j ACCEPT",
            f"iptables-{backend} -w -t mangle -D FORWARD -j ACCEPT",
            by,
            loses=Loss.TIME,
            repairs=f"iptables-{backend} table mangle",
        ),
        Fault(
            f"an earlier natmirror's rules restored ({other})",
            ("old-rules-removed",),
            f"iptables-{backend}-save -t raw | iptables-{other}-restore -w 9 --noflush",
            "",
            "save the host's iptables rules again without those of natmirror",
            loses=Loss.TIME,
            repairs=f"iptables-{other}",
        ),
        Fault(
            f"nftables table deleted ({backend})",
            ("rules-repaired",),
            "nft delete table ip natmirror",
            "",
            "let nft (pid ",
            loses=Loss.TIME,
            repairs="nftables table natmirror",
        ),
    )
