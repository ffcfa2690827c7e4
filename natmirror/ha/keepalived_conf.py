"""keepalived.conf(5) for one host of a pair. Pure: facts about the host come as arguments."""

import re
from collections.abc import Container, Iterable
from ipaddress import IPv4Address

from natmirror.errors import HostError
from natmirror.rules import Host, Pair, Side

_WORD = re.compile(r"[A-Za-z0-9._+,:=/-]+")
_WORDS = re.compile(rf"{_WORD.pattern}( {_WORD.pattern})*")

# A restart of natmirror ends before the second health check can fail, so it moves no address.
_CHECK = """\
vrrp_script natmirror_health {{
    script "{command} health --api {api}"
    interval 1
    timeout 1
    fall 2
    rise 2
    init_fail
}}
"""

_HEAD = """\
# Written by natmirror for {host}, from section ha of its rules. Do not edit: change the rules, then run
# natmirror keepalived again.

global_defs {{
    router_id {host}
    vrrp_version 3                      # version 2 has no advert_int below 1 s
    vrrp_check_unicast_src
    vrrp_garp_master_delay 1            # repeat the ARP announcements after 1 s, for neighbours that missed them
    vrrp_garp_master_repeat 3
    vrrp_garp_master_refresh 10
    script_user {user}
    enable_script_security
}}
"""

# A host that returns becomes the backup: moving the addresses a second time would gain nothing.
_GROUP = """\
vrrp_sync_group natmirror {{              # the addresses of both sides move together
    group {{
        switch_side
        pool_side
    }}
    track_script {{
        natmirror_health
    }}
    notify "{command} role --api {api}"
    notify_stop "{command} role --api {api} fault"
}}
"""

_INSTANCE = """\
vrrp_instance {name} {{
    state BACKUP
    nopreempt                           # a host that returns becomes the backup
    interface {side.interface}
    virtual_router_id {side.vrrp_id}
    priority {host.priority}
    advert_int {advert_interval:g}
    unicast_src_ip {own}
    unicast_peer {{
        {peer}
    }}
    virtual_ipaddress {{
{addresses}
    }}
}}
"""


def choose(pair: Pair, name: str | None, own: Container[IPv4Address]) -> Host:
    """Return the host with this name, or else the one that has the addresses ``own``; HostError where there is none."""
    names = [host.name for host in pair.hosts]
    if name is not None:
        for host in pair.hosts:
            if host.name == name:
                return host
        raise HostError(f"the pair has no host {name}: its hosts are {' and '.join(names)}")
    found = pair.host_with(own)
    if found is None:
        raise HostError(f"this host has the addresses of neither {' nor '.join(names)}: choose one of them with --host")
    return found


def text(pair: Pair, host: Host, command: str, api: str, user: str) -> str:
    """Return the whole file for ``host``. ``command`` calls natmirror there, ``api`` is the path of its socket, and
    ``user`` runs the scripts."""
    for name, plain in ((command, _WORDS), (api, _WORD)):
        if not plain.fullmatch(name):
            raise HostError(
                f"keepalived.conf cannot contain {name!r}: give natmirror and its socket paths of letters,"
                " digits and . _ + , : = / - alone"
            )
    [peer] = [other for other in pair.hosts if other is not host]
    called = {"command": command, "api": api}
    sides = (
        ("switch_side", pair.switch_side, host.switch_side, peer.switch_side),
        ("pool_side", pair.pool_side, host.pool_side, peer.pool_side),
    )
    parts = [_HEAD.format(host=host.name, user=user), _CHECK.format(**called), _GROUP.format(**called)]
    parts += [
        _INSTANCE.format(
            name=name,
            side=side,
            host=host,
            advert_interval=pair.advert_interval,
            own=own,
            peer=other,
            addresses="\n".join(_addresses(side)),
        )
        for name, side, own, other in sides
    ]
    return "\n".join(parts)


def _addresses(side: Side) -> Iterable[str]:
    return (f"        {address} dev {side.interface}" for address in side.addresses)
