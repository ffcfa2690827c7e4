"""keepalived.conf(5) for one host of a pair. Pure: what the machine has to say comes as arguments."""

import re
from collections.abc import Container, Iterable
from ipaddress import IPv4Address

from natmirror.errors import HostError
from natmirror.rules import Host, Pair, Side

_WORD = re.compile(r"[A-Za-z0-9._+,:=/-]+")
_WORDS = re.compile(rf"{_WORD.pattern}( {_WORD.pattern})*")

# A restart of natmirror takes less than two looks at it, so it moves no address.
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
# Written by natmirror for {host}, from the section ha of its rules: change it there, and write this again.

global_defs {{
    router_id {host}
    vrrp_version 3                      # 2 knows no intervals below a second
    vrrp_check_unicast_src
    vrrp_garp_master_delay 1            # once more a second after the move, for neighbours that missed the first
    vrrp_garp_master_repeat 3
    vrrp_garp_master_refresh 10
    script_user {user}
    enable_script_security
}}
"""

# A host that returns stays the backup of the one that serves: moving the addresses a second time would gain nothing.
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
    nopreempt                           # a host that comes back does not take the address from the one that serves
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
    """The host with this name, or the one that has these addresses; HostError where neither is it."""
    names = " and ".join(host.name for host in pair.hosts)
    if name is not None:
        for host in pair.hosts:
            if host.name == name:
                return host
        raise HostError(f"the pair has {names}, no {name}")
    found = pair.host_with(own)
    if found is None:
        raise HostError(f"this host has the addresses of neither {names}: give the one that is meant with --host")
    return found


def text(pair: Pair, host: Host, command: str, api: str, user: str) -> str:
    """The whole file for ``host``. ``command`` and ``api``: how natmirror is called there, and its socket; ``user``: as
    whom."""
    for name, plain in ((command, _WORDS), (api, _WORD)):
        if not plain.fullmatch(name):
            raise HostError(f"keepalived.conf cannot hold the name {name!r}: give natmirror and its socket a plain one")
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
