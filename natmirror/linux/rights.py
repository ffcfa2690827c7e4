"""The capability that natmirror needs for queues, rules and its TUN device."""

from contextlib import suppress
from pathlib import Path

from natmirror.errors import HostError

_CAP_NET_ADMIN = 1 << 12  # linux/capability.h


def has_net_admin(pid: int | str = "self") -> bool | None:
    """Return whether a process has CAP_NET_ADMIN; None where that cannot be read."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) & _CAP_NET_ADMIN)
    return None


def require_net_admin(what: str) -> None:
    """Raise HostError where this process lacks CAP_NET_ADMIN. ``what`` is what needs it."""
    if has_net_admin() is False:
        raise HostError(f"{what} needs root or CAP_NET_ADMIN: run it with sudo, or start the service natmirror")
