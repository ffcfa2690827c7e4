"""Faults of a host, as a list: how each is planted and removed, what natmirror says about it, and what production may
lose. ``python -m tests.live.faults`` plants them one at a time beside traffic, and prints a table.

Begin with fault.py. A row belongs into host_faults.py (settings, addresses and programs of the host and of those around
it), route_faults.py (routes and interfaces), rule_faults.py (other programs' rules), filter_faults.py (XDP and tc),
kernel_faults.py (what natmirror itself has put into the kernel, and repairs) or check_faults.py (what may look like a
backend's fault). ``Stage`` has the traffic, and plants.
"""

from tests.live.faults.check_faults import CHECK_FAULTS
from tests.live.faults.fault import Fault, Loss
from tests.live.faults.filter_faults import FILTER_FAULTS
from tests.live.faults.host_faults import HOST_FAULTS, JUDGES_KILLED, SILENT_BACKEND
from tests.live.faults.kernel_faults import DEVICE_FAULTS, kernel_rule_faults
from tests.live.faults.route_faults import ROUTE_FAULTS
from tests.live.faults.rule_faults import RULE_FAULTS

FAULTS: dict[str, tuple[str, tuple[Fault, ...]]] = {
    "kernel": ("nft", (*DEVICE_FAULTS[:2], *kernel_rule_faults("nft", "legacy"))),
    "routes": ("nft", ROUTE_FAULTS),
    "host": ("nft", (SILENT_BACKEND, *HOST_FAULTS)),
    "rules": ("nft", RULE_FAULTS),
    "filters": ("nft", (*FILTER_FAULTS, *CHECK_FAULTS)),
    "legacy": ("legacy", (JUDGES_KILLED, *DEVICE_FAULTS[2:], *kernel_rule_faults("legacy", "nft"))),
}
"""The faults in the order in which they are planted, by groups, each with the iptables with which its natmirror runs.
Those of the TUN device are apart: the keeper slows down after five repairs within a minute, and may need two for one of
them. The silent backend is the first: after other faults the few clients here may avoid it for a while, and then
nothing shows it."""

__all__ = ["FAULTS", "Fault", "Loss"]
