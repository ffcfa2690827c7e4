"""Says why no natmirror answers: none runs, and perhaps an earlier one has left its rules; or one runs and does not
answer here."""

from natmirror.errors import HostError
from natmirror.linux import instance, iptables

_REMEDY = "start it again, or remove the rules with natmirror cleanup"


def explain() -> str:
    """Return what the operator should know and do, as the end of an error's line."""
    if (owner := instance.running()) is not None:
        return f"; natmirror runs in this network namespace, {owner}: is it busy, or does it have another --api?"
    try:
        left = iptables.left_behind()
    except HostError:  # no root
        return "; natmirror does not run. If it was killed, its iptables rules still hold the traffic: " + _REMEDY
    if not left:
        return "; natmirror does not run: start it with systemctl start natmirror, or natmirror --rules FILE"
    return (
        f"; natmirror does not run, but its iptables rules are still there ({', '.join(left)}), so the kernel drops the"
        f" packets of services with a pool: {_REMEDY}"
    )
