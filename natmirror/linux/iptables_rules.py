"""The content of our iptables chains, as a pure function of the rules."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from natmirror.linux.nftables import MARKS, MARKS_MASK
from natmirror.linux.tun import NAME as TUN_NAME
from natmirror.rules import LEG_PORTS, Backend, Mirror, Rules, Service
from natmirror.rules.shards import ALL, Shard

NAT_QUEUE = 6653
"""The first thread's queue for NAT and legs; it fails closed. Each further thread's has a number higher by two."""
WATCH_QUEUE = 6654
"""The first thread's queue for services without a pool; it fails open. Each further thread's has a number higher by
two."""

FROM_ITS_ROUTE = "-m rpfilter"
"""Matches packets that come in on an interface by which the route to their source leads, of several equal routes any
(ip-rpfilter in iptables-extensions(8)). Without --loose, which tests only that there is a route; without
--accept-local, because a local mirror's packets come in on the loopback interface, which always matches."""

_BURST_SHARE = 5
"""A fifth of a second's packets may come at once: as much as a client sends after a wait for acknowledgements."""
_EXPIRE_MS = 1000
"""When the kernel forgets a client that is silent: its burst is full again by then."""
_ICMP_ERRORS = (3, 11, 12)  # destination unreachable, time exceeded, parameter problem (RFC 792)

PREFIX = "NATMIRROR-"
"""Begins the name of each chain of natmirror's, in all versions."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One of our chains. The built-in chain ``parent`` jumps to it for packets that ``match``.

    The match keeps other packets from the chain's rules. Testing all rules without a hit costs a packet about as much
    as all of natmirror's work.
    """

    table: str
    name: str
    parent: str
    match: str = ""

    @property
    def jump(self) -> str:
        """Return the jump as a rule, without -A or -D."""
        return " ".join(filter(None, (self.parent, self.match, "-j", self.name)))


OURS = Chain("raw", "NATMIRROR-OURS", "PREROUTING", f"-i {TUN_NAME}+")
"""Synthesised packets come in through our own device, and belong to no connection that conntrack knows."""
PRE = Chain("raw", "NATMIRROR-PRE", "PREROUTING", f"! -i {TUN_NAME}+ -p tcp")
PRE_ERRORS = Chain("raw", "NATMIRROR-PRE-ICMP", "PREROUTING", "-p icmp")
FORWARD = Chain("mangle", "NATMIRROR-FWD", "FORWARD", "-p tcp")
FORWARD_ERRORS = Chain("mangle", "NATMIRROR-FWD-ICMP", "FORWARD", "-p icmp")
OUT = Chain("mangle", "NATMIRROR-OUT", "OUTPUT")
POST = Chain("mangle", "NATMIRROR-POST", "POSTROUTING", f"-m mark --mark {MARKS:#x}/{MARKS_MASK:#x}")
"""Packets that still have our mark: the nftables table should have translated them."""
GUARD = Chain("filter", "NATMIRROR-GUARD", "INPUT")

CHAINS = (GUARD, POST, FORWARD_ERRORS, FORWARD, OUT, OURS, PRE_ERRORS, PRE)
"""The chains in the order of their installation: the guard is installed first and removed last. Packets reach a chain
that was installed later before an earlier one."""
TABLES = tuple(dict.fromkeys(chain.table for chain in CHAINS))
"""The tables that have chains of ours, in the order of their installation."""


def contents(
    rules: Rules, threads: int = 1, *, checks_paths: bool = True, vrfs: Collection[str] = ()
) -> dict[Chain, list[str]]:
    """Return the rules of each chain for this number of threads, without ``-A CHAIN``. With ``checks_paths``, a packet
    is a mirror's only if it comes in where the route to the mirror leads, and so for backends of mirrored services.
    ``vrfs`` has the VRFs of this host (vrf.py)."""
    chains: dict[Chain, list[str]] = {chain: [] for chain in CHAINS}
    pools = [service.pool for service in rules.services if service.pool]
    members = {(member.address, member.port) for pool in pools for member in pool.members}
    chains[OURS].append("-j CT --notrack")
    for chain in (PRE, PRE_ERRORS):
        chains[chain] += [f"-i {vrf} -j RETURN" for vrf in vrfs]
    for clients, shard in _parts(rules, threads):
        for service in rules.services:
            if rules.limit_per_client is not None and service.pool is not None:
                chains[PRE].append(f"{_requests(clients, service)} {above(rules.limit_per_client)} -j DROP")
            _service(chains, clients, service, shard, members, checks_paths)
        for errors in _icmp_errors(shard):
            chains[FORWARD_ERRORS].append(f"-d {clients} {errors}")
            chains[OUT].append(f"-d {clients} {errors}")
    if any(service.pool for service in rules.services):
        # The table that should have translated the packet is gone: drop it rather than show a backend's address.
        chains[POST].append("-j DROP")
    for service in rules.services:
        if service.pool is not None:
            chains[PRE_ERRORS] += _errors_to(service.address)
            chains[GUARD] += [
                f"-s {network} -d {service.address}/32 -p tcp --dport {service.port} -j DROP"
                for network in rules.switches
            ]
        for mirror in service.mirrors:
            if mirror.source is not None:
                chains[PRE] += _answers_to_us(mirror, mirror.source, threads, checks_paths)
                chains[PRE_ERRORS] += _errors_to(mirror.source)
    if checks_paths:
        chains[PRE] += _from_backends(rules)
    chains[PRE] += _past_services(rules, threads)
    if checks_paths:
        chains[PRE] += _forged(rules)
    for chain, rule in _past_queue(rules):
        chains[chain].append(rule)
    # Fragments have no ports. The kernel reassembles them if a rule matches sockets, even if no packet reaches that
    # rule. Conntrack would reassemble them too, but also inspect each packet, and refuse some when its table is full.
    chains[GUARD].append(f"-i {TUN_NAME}+ -m socket -j RETURN")
    return {chain: list(dict.fromkeys(lines)) for chain, lines in chains.items()}


def _parts(rules: Rules, threads: int) -> Iterator[tuple[str, Shard]]:
    """Yield each part of a network of clients that one thread has."""
    for network in rules.switches:
        for shard in (Shard(number, threads) for number in range(threads)):
            clients = shard.clients_in(network)
            if clients is not None:
                yield clients, shard


def _service(
    chains: dict[Chain, list[str]],
    clients: str,
    service: Service,
    shard: Shard,
    members: Collection[tuple[IPv4Address, int]],
    checks_paths: bool,
) -> None:
    requests = _requests(clients, service)
    if service.pool is None:
        # A backend's own endpoint: natmirror drops packets of connections through the pool, which has the replies.
        is_backends = (service.address, service.port) in members
        chains[PRE].append(f"{requests} {_queue(NAT_QUEUE if is_backends else WATCH_QUEUE, shard, bypass=True)}")
        replies = f"-s {service.address}/32 -d {clients} -p tcp --sport {service.port}"
        for chain in (OUT,) if is_backends else (FORWARD, OUT):
            chains[chain].append(f"{replies} {_queue(WATCH_QUEUE, shard, bypass=True)}")
    else:
        chains[PRE].append(f"{requests} {_queue(NAT_QUEUE, shard)}")
        chains[FORWARD] += [
            f"-s {backend.address}/32 -d {clients} -p tcp --sport {backend.port} {_queue(NAT_QUEUE, shard)}"
            for backend in service.pool.members
        ]
    chains[PRE] += [
        f"{_from(mirror, clients, checks_paths)} {_queue(NAT_QUEUE, shard)}"
        for mirror in service.mirrors
        if mirror.source is None
    ]


def _requests(clients: str, target: Service | Backend) -> str:
    return f"-s {clients} -d {target.address}/32 -p tcp --dport {target.port}"


def above(limit: int) -> str:
    """Return the match for a client's packets that exceed ``limit`` a second, over all rules with this limit. The name
    has the limit, because the kernel keeps the limit with which a name was first used."""
    return (
        f"-m hashlimit --hashlimit-above {limit}/sec --hashlimit-burst {limit // _BURST_SHARE} --hashlimit-mode srcip"
        f" --hashlimit-name nm-{limit} --hashlimit-htable-expire {_EXPIRE_MS}"
    )


def _from(mirror: Mirror, destination: str, checks_paths: bool) -> str:
    check = f" {FROM_ITS_ROUTE}" if checks_paths and not mirror.asymmetric else ""
    return f"{_named(mirror, destination)}{check}"


def _named(source: Mirror | Backend, destination: str) -> str:
    return f"-s {source.address}/32 -d {destination} -p tcp --sport {source.port}"


def mirrored_members(rules: Rules) -> list[tuple[Backend, bool]]:
    """Return the members of the pools whose services have mirrors, and whether the paths of each are checked."""
    pools = [service.pool for service in rules.services if service.pool]
    asymmetric = {(member.address, member.port) for pool in pools if pool.asymmetric for member in pool.members}
    mirrors = [mirror for service in rules.services for mirror in service.mirrors]
    asymmetric |= {(mirror.address, mirror.port) for mirror in mirrors if mirror.asymmetric}
    return [
        (member, (member.address, member.port) not in asymmetric)
        for service in rules.services
        if service.pool and service.mirrors
        for member in service.pool.members
    ]


def _from_backends(rules: Rules) -> Iterator[str]:
    """Yield the rules that drop packets in a backend's name that do not come in where the route to it leads: a client
    that forges its backend's acknowledgements could have a mirror told what no backend has. The backend's own packets
    skip the rules that follow."""
    for network in rules.switches:
        for member, is_checked in mirrored_members(rules):
            if is_checked:
                yield f"{_named(member, str(network))} {FROM_ITS_ROUTE} -j RETURN"
                yield f"{_named(member, str(network))} -j DROP"


def _past_services(rules: Rules, threads: int) -> Iterator[str]:
    """Yield the rules for packets that clients send to a backend's own endpoint. natmirror drops those of a flow with
    that backend, which would take their data without a copy. All others pass, also while natmirror does not run: then
    it copies nothing."""
    for clients, shard in _parts(rules, threads):
        for member, _ in mirrored_members(rules):
            requests = _requests(clients, member)
            if rules.limit_per_client is not None:
                yield f"{requests} {above(rules.limit_per_client)} -j DROP"
            yield f"{requests} {_queue(NAT_QUEUE, shard, bypass=True)}"


def _forged(rules: Rules) -> Iterator[str]:
    """Yield the rules that drop packets in a mirror's name that no rule before has queued: no other program needs them,
    and a client would answer them with a RST."""
    for mirror in _never_passing(rules):
        if not mirror.asymmetric:
            yield from _dropped(mirror, rules)


def _past_queue(rules: Rules) -> Iterator[tuple[Chain, str]]:
    """Yield the rules for packets of a mirror that come past the table raw, as long as another program has flushed it:
    a client, or this host's kernel, would answer them with a RST, and so end the leg."""
    for mirror in _never_passing(rules):
        yield from ((FORWARD if mirror.source is None else GUARD, rule) for rule in _dropped(mirror, rules))


def _never_passing(rules: Rules) -> list[Mirror]:
    """Return the mirrors whose packets never pass on: all but backends, and ``direct`` ones."""
    passing = {(one.address, one.port) for service in rules.services if service.pool for one in service.pool.members}
    mirrors = [mirror for service in rules.services for mirror in service.mirrors]
    passing |= {(mirror.address, mirror.port) for mirror in mirrors if mirror.direct}
    return [mirror for mirror in mirrors if (mirror.address, mirror.port) not in passing]


def _dropped(mirror: Mirror, rules: Rules) -> Iterator[str]:
    if mirror.source is None:
        yield from (f"{_named(mirror, str(network))} -j DROP" for network in rules.switches)
    else:
        yield f"{_named(mirror, f'{mirror.source}/32')} --dport {LEG_PORTS[0]}:{LEG_PORTS[-1]} -j DROP"


def _answers_to_us(mirror: Mirror, source: IPv4Address, threads: int, checks_paths: bool) -> Iterator[str]:
    """Yield the rules for a mirror's answers to legs that have an address of this host. While natmirror does not run,
    the host's kernel may answer them: no other program has these connections."""
    for shard in (Shard(number, threads) for number in range(threads)):
        ports = f"{shard.leg_ports[0]}:{shard.leg_ports[-1]}"
        from_mirror = _from(mirror, f"{source}/32", checks_paths)
        yield f"{from_mirror} --dport {ports} {_queue(NAT_QUEUE, shard, bypass=True)}"


def _errors_to(address: IPv4Address) -> list[str]:
    return [f"-d {address}/32 {errors}" for errors in _icmp_errors(ALL)]


def _icmp_errors(shard: Shard) -> list[str]:
    return [f"-p icmp --icmp-type {kind} {_queue(NAT_QUEUE, shard, bypass=True)}" for kind in _ICMP_ERRORS]


def _queue(first: int, shard: Shard, *, bypass: bool = False) -> str:
    return f"-j NFQUEUE --queue-num {queue_number(first, shard)}" + (" --queue-bypass" if bypass else "")


def queue_number(first: int, shard: Shard) -> int:
    """Return the number of a thread's queue; ``first`` is NAT_QUEUE or WATCH_QUEUE."""
    return first + 2 * shard.number
