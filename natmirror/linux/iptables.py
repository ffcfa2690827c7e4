"""Our iptables rules: chains of our own, each reached by one jump at the top of a built-in chain.

One iptables-restore, which is atomic, refills each table: packets meet the old rules or the new ones, never none. The
content of the chains is a pure function of the rules; only ``Firewall`` and ``cleanup`` run programs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from natmirror.errors import HostError
from natmirror.linux import commands
from natmirror.linux.nftables import MARKS, MARKS_MASK
from natmirror.linux.tun import NAME as TUN_NAME
from natmirror.rules import Mirror, Rules, Service
from natmirror.rules.shards import ALL, Shard

NAT_QUEUE = 6653
"""The first thread's queue for NAT and legs; it fails closed. Each further thread's has a number higher by two."""
WATCH_QUEUE = 6654
"""The first thread's queue for services without a pool; it fails open. Each further thread's has a number higher by
two."""

_ICMP_ERRORS = (3, 11, 12)  # destination unreachable, time exceeded, parameter problem (RFC 792)
_WAIT_SECONDS = "5"
_BURST_SHARE = 5
"""A fifth of a second's packets may come at once: as much as a client sends after a wait for acknowledgements."""
_EXPIRE_MS = 1000
"""When the kernel forgets a client that is silent: its burst is full again by then."""
_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
_BACKENDS = ("nft", "legacy")


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


def contents(rules: Rules, threads: int = 1) -> dict[Chain, list[str]]:
    """Return the rules of each chain for this number of threads, without ``-A CHAIN``."""
    chains: dict[Chain, list[str]] = {chain: [] for chain in CHAINS}
    chains[OURS].append("-j CT --notrack")
    for network in rules.switches:
        for shard in (Shard(number, threads) for number in range(threads)):
            clients = shard.clients_in(network)
            if clients is None:
                continue
            for service in rules.services:
                _service(chains, clients, service, shard, rules.limit_per_client)
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
                chains[PRE] += _answers_to_us(mirror, mirror.source, threads)
                chains[PRE_ERRORS] += _errors_to(mirror.source)
    # Fragments have no ports. The kernel reassembles them if a rule matches sockets, even if no packet reaches that
    # rule. Conntrack would reassemble them too, but also inspect each packet, and refuse some when its table is full.
    chains[GUARD].append(f"-i {TUN_NAME}+ -m socket -j RETURN")
    return {chain: list(dict.fromkeys(lines)) for chain, lines in chains.items()}


def _service(chains: dict[Chain, list[str]], clients: str, service: Service, shard: Shard, limit: int | None) -> None:
    requests = f"-s {clients} -d {service.address}/32 -p tcp --dport {service.port}"
    if limit is not None:
        # A service without a pool works without natmirror: what exceeds the limit passes unseen.
        chains[PRE].append(f"{requests} {above(limit)} -j {'RETURN' if service.pool is None else 'DROP'}")
    if service.pool is None:
        chains[PRE].append(f"{requests} {_queue(WATCH_QUEUE, shard, bypass=True)}")
        replies = f"-s {service.address}/32 -d {clients} -p tcp --sport {service.port}"
        for chain in (FORWARD, OUT):
            chains[chain].append(f"{replies} {_queue(WATCH_QUEUE, shard, bypass=True)}")
    else:
        chains[PRE].append(f"{requests} {_queue(NAT_QUEUE, shard)}")
        chains[FORWARD] += [
            f"-s {backend.address}/32 -d {clients} -p tcp --sport {backend.port} {_queue(NAT_QUEUE, shard)}"
            for backend in service.pool.members
        ]
    chains[PRE] += [
        f"-s {mirror.address}/32 -d {clients} -p tcp --sport {mirror.port} {_queue(NAT_QUEUE, shard)}"
        for mirror in service.mirrors
        if mirror.source is None
    ]


def above(limit: int) -> str:
    """Return the match for packets of a client that exceed so many a second, over all rules with this limit. The name
    has the limit, because the kernel keeps the limit with which a name was first used."""
    return (
        f"-m hashlimit --hashlimit-above {limit}/sec --hashlimit-burst {limit // _BURST_SHARE} --hashlimit-mode srcip"
        f" --hashlimit-name nm-{limit} --hashlimit-htable-expire {_EXPIRE_MS}"
    )


def _answers_to_us(mirror: Mirror, source: IPv4Address, threads: int) -> Iterator[str]:
    """Yield the rules for a mirror's answers to legs that have an address of this host. While natmirror does not run,
    the host's kernel may answer them: no other program has these connections."""
    for shard in (Shard(number, threads) for number in range(threads)):
        ports = f"{shard.leg_ports[0]}:{shard.leg_ports[-1]}"
        yield (
            f"-s {mirror.address}/32 -d {source}/32 -p tcp --sport {mirror.port} --dport {ports}"
            f" {_queue(NAT_QUEUE, shard, bypass=True)}"
        )


def _errors_to(address: IPv4Address) -> list[str]:
    return [f"-d {address}/32 {errors}" for errors in _icmp_errors(ALL)]


def _icmp_errors(shard: Shard) -> list[str]:
    return [f"-p icmp --icmp-type {kind} {_queue(NAT_QUEUE, shard, bypass=True)}" for kind in _ICMP_ERRORS]


def _queue(first: int, shard: Shard, *, bypass: bool = False) -> str:
    return f"-j NFQUEUE --queue-num {queue_number(first, shard)}" + (" --queue-bypass" if bypass else "")


def queue_number(first: int, shard: Shard) -> int:
    """Return the number of a thread's queue; ``first`` is NAT_QUEUE or WATCH_QUEUE."""
    return first + 2 * shard.number


def plan(rules: Rules, threads: int) -> str:
    """Return the input of iptables-restore at a start on a host that has none of our rules."""
    filled = contents(rules, threads)
    return "\n".join(_refill(table, filled, []) for table in _tables()).rstrip()


class Firewall:
    """Our rules in this network namespace. ``backend`` is ``nft`` or ``legacy``; None: the host's default."""

    def __init__(self, backend: str | None = None) -> None:
        self.backend = backend or _default_backend()
        self._filled: dict[Chain, list[str]] = {chain: [] for chain in CHAINS}

    def install(self, rules: Rules, threads: int) -> None:
        """Install the rules for this number of threads; they replace those that an earlier run has left. HostError
        where iptables refuses: then the host has the rules that it had before."""
        filled = contents(rules, threads)
        done: list[tuple[str, list[str]]] = []
        try:
            for table in _tables():
                before = self._saved(table)
                self._restore(_refill(table, filled, before))
                done.append((table, before))
        except HostError:
            for table, before in reversed(done):
                self._restore(_put_back(table, before))
            raise
        self._filled = filled

    def extend(self, rules: Rules, threads: int) -> None:
        """After install(), install a superset of the installed rules; leave tables without a change alone. HostError
        where iptables refuses: then nothing has changed."""
        self._change(contents(rules, threads), _tables())

    def reduce(self, rules: Rules, threads: int) -> None:
        """Like extend(), but with a subset of the installed rules: the guard is reduced last."""
        self._change(contents(rules, threads), _tables()[::-1])

    def _change(self, filled: dict[Chain, list[str]], tables: list[str]) -> None:
        changed = {chain.table for chain in CHAINS if filled[chain] != self._filled[chain]}
        if not changed:
            return
        tables = [table for table in tables if table in changed]
        try:
            self._restore("".join(_contents_only(table, filled) for table in tables))
        except HostError:
            self._restore("".join(_contents_only(table, self._filled) for table in reversed(tables)))
            raise
        self._filled = filled

    def remove(self) -> list[str]:
        """Remove all our chains and jumps, the guard last; return the names of the chains that were there. HostError
        where iptables refuses: it names the chains that may be left."""
        removed: list[str] = []
        tables = _tables()
        while tables:
            try:
                before = self._saved(tables[-1])
                names = [chain.name for chain in _chains_of(tables[-1]) if _is_declared(chain, before)]
                if names:
                    self._restore(_emptied(tables[-1], before))
            except HostError as error:
                left = ", ".join(chain.name for chain in reversed(CHAINS) if chain.table in tables)
                raise HostError(f"{error}; these chains stay: {left}") from None
            removed += names
            tables.pop()
        return removed

    def is_in_place(self) -> bool:
        """Return whether all our chains and jumps are there; a reload of the host's firewall may have removed them."""
        return all(
            _is_declared(chain, saved) and _jumps(chain, saved)
            for table in _tables()
            for saved in [self._saved(table)]
            for chain in _chains_of(table)
        )

    def forward_policy(self) -> tuple[str, bool]:
        """Return the policy of the filter table's FORWARD chain, and whether the chain has rules."""
        saved = self._saved("filter")
        policies = [line.split()[1] for line in saved if line.startswith(":FORWARD ")]
        return (policies[0] if policies else "ACCEPT"), any(line.startswith("-A FORWARD ") for line in saved)

    def can_limit(self, limit: int) -> bool:
        """Return whether iptables and the kernel have the match of a limit per client."""
        try:
            _run(
                [f"iptables-{self.backend}-restore", "-w", _WAIT_SECONDS, "--noflush", "--test"],
                f"*{PRE.table}\n-A {PRE.parent} {above(limit)} -j DROP\nCOMMIT\n",
            )
        except HostError:
            return False
        return True

    def _saved(self, table: str) -> list[str]:
        return _run([f"iptables-{self.backend}-save", "-t", table]).splitlines()

    def _restore(self, text: str) -> None:
        _run([f"iptables-{self.backend}-restore", "-w", _WAIT_SECONDS, "--noflush"], text)


def cleanup() -> list[str]:
    """Remove all our chains in both backends; return those that were there, as ``nft: NATMIRROR-PRE``."""
    removed = []
    for backend in _BACKENDS:
        if backend == "legacy" and not _legacy_is_in_use():
            continue  # iptables-legacy-save would make the kernel create the table
        removed += [f"{backend}: {name}" for name in Firewall(backend).remove()]
    return removed


def _tables() -> list[str]:
    return list(dict.fromkeys(chain.table for chain in CHAINS))


def _chains_of(table: str) -> list[Chain]:
    return [chain for chain in CHAINS if chain.table == table]


def _is_declared(chain: Chain, saved: list[str]) -> bool:
    return any(line.startswith(f":{chain.name} ") for line in saved)


def _jumps(chain: Chain, saved: list[str]) -> list[str]:
    """Return the jumps to the chain in all other chains, as rules without -A."""
    return [line[3:] for line in saved if line.startswith("-A ") and f" -j {chain.name} " in f"{line} "]


def _refill(table: str, filled: dict[Chain, list[str]], before: list[str]) -> str:
    """Return the restore input that gives each of the table's chains its rules, and one jump at the top of its
    parent."""
    lines = [f"*{table}"]
    lines += [f":{chain.name} - [0:0]" for chain in _chains_of(table)]
    for chain in _chains_of(table):
        lines += [f"-A {chain.name} {rule}" for rule in filled[chain]]
        lines += [f"-D {jump}" for jump in _jumps(chain, before)]
        lines.append(f"-I {_at_top(chain)}")
    return "\n".join([*lines, "COMMIT", ""])


def _contents_only(table: str, filled: dict[Chain, list[str]]) -> str:
    """Return the restore input that gives each of the table's chains its rules, and leaves the jumps alone."""
    lines = [f":{chain.name} - [0:0]" for chain in _chains_of(table)]
    lines += [f"-A {chain.name} {rule}" for chain in _chains_of(table) for rule in filled[chain]]
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def _at_top(chain: Chain) -> str:
    parent, rest = chain.jump.split(" ", 1)
    return f"{parent} 1 {rest}"


def _emptied(table: str, before: list[str]) -> str:
    """Return the restore input that removes the table's chains and their jumps."""
    present = [chain for chain in _chains_of(table) if _is_declared(chain, before)]
    lines = [f"*{table}"]
    lines += [f"-D {jump}" for chain in present for jump in _jumps(chain, before)]
    lines += [f"{command} {chain.name}" for command in ("-F", "-X") for chain in present]
    return "\n".join([*lines, "COMMIT", ""])


def _put_back(table: str, before: list[str]) -> str:
    """Return the restore input that undoes a refill: the chains as they were before, or none."""
    chains = _chains_of(table)
    lines = [f"*{table}"]
    lines += [f":{chain.name} - [0:0]" for chain in chains]
    lines += [f"-D {chain.jump}" for chain in chains]
    lines += list(_ours(before, chains))
    lines += [f"-X {chain.name}" for chain in chains if not _is_declared(chain, before)]
    return "\n".join([*lines, "COMMIT", ""])


def _ours(saved: list[str], chains: Iterable[Chain]) -> Iterator[str]:
    for chain in chains:
        yield from (line for line in saved if line.startswith(f"-A {chain.name} "))
        yield from (f"-I {jump.split(' ', 1)[0]} 1 {jump.split(' ', 1)[1]}" for jump in _jumps(chain, saved))


def _default_backend() -> str:
    return "nft" if "nf_tables" in _run(["iptables", "--version"]) else "legacy"


def _legacy_is_in_use() -> bool:
    try:
        return bool(_LEGACY_TABLES.read_text().strip())
    except OSError:
        return False


def _run(command: list[str], text: str | None = None) -> str:
    return commands.run(command, text, package="iptables")
