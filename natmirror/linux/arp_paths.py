"""Whether this host answers ARP requests, and gets answers to its own: what interfaces, settings and rules say.

The kernel answers a request if the interface does ARP, if arp_ignore lets it (arp_ignore() in net/ipv4/arp.c), and if
no rule of another program drops the request or the answer.
"""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from natmirror.linux.flights import EARLIEST, Flight, entering, leaving
from natmirror.linux.foreign_rules import BaseChain, Span, TestPacket, span_of
from natmirror.linux.hooks import ChainHook
from natmirror.linux.host_state import HostState
from natmirror.linux.interfaces import setting_of
from natmirror.linux.route_refusals import Break
from natmirror.linux.routes import Place
from natmirror.linux.rule_walk import RuleWalk, What

_ANY: Span = (0, 0xFFFFFFFF)
_OPCODES = {"request": 1, "reply": 2}
_OF_THE_INTERFACE, _IN_ITS_NETWORK, _NOT_HIDDEN, _NEVER = 1, 2, 3, 8
"""Values of arp_ignore: the kernel answers only for addresses of the interface, only for those in a network of the
interface that the asking host is in too, for none that is valid on this host alone (scope host), or for none."""

Network = IPv4Network | IPv4Address


class ArpPaths:
    """The ways of ARP packets between this host and its neighbours."""

    def __init__(self, host: HostState) -> None:
        self._host = host
        chains = [chain for chain in host.chains if chain.gets_arp]
        self._walk = RuleWalk(chains, host.surroundings) if chains else None

    def why_unanswered(self, link: str, address: IPv4Address, asking: IPv4Network) -> Break | None:
        """Return why the kernel answers no ARP request of these hosts for one of its own addresses; None if it does, or
        may."""
        details = self._host.details.get(link)
        if details is None or details.does_arp is None:
            return None
        if not details.does_arp:
            return _off(link)
        return self._why_ignored(link, address, asking) or self._why_dropped(
            _Arp("request", link, True, asking, address), _Arp("reply", link, False, address, asking)
        )

    def why_unresolved(self, hop: Place) -> Break | None:
        """Return why this host cannot find out a neighbour's MAC address; None if it knows it, or may find it out."""
        address, link = hop
        details, known = self._host.details.get(link), self._host.neighbours.get(hop)
        if details is None or details.does_arp is None or (known is None and link in self._host.static_links):
            return None
        if known is not None and (known.is_permanent or (details.does_arp and not known.is_unknown)):
            return None
        if not details.does_arp:
            return _off(link)
        network = next((one for one in self._host.links.get(link, ()) if address in one), address)
        return self._why_dropped(
            _Arp("request", link, False, None, address, network), _Arp("reply", link, True, address, None, network)
        )

    def _why_ignored(self, link: str, address: IPv4Address, asking: IPv4Network) -> Break | None:
        values = {name: self._host.arp_ignore.get(name, 0) for name in ("all", link)}
        value = max(values.values())
        own = self._host.own.get(link, ())
        is_here = any(one.ip == address for one in own)
        is_near = any(address in one.network and asking.subnet_of(one.network) for one in own)
        if value == _NEVER:
            mend = ""
        elif value in (_OF_THE_INTERFACE, _IN_ITS_NETWORK) and not is_here:
            mend = f"run: ip address add {address}/32 dev {link}\nor "
        elif (value == _IN_ITS_NETWORK and not is_near) or (value == _NOT_HIDDEN and address in self._host.hidden):
            mend = ""
        else:
            return None
        names = [name for name, one in values.items() if one]
        text = " and ".join(f"{setting_of(name, 'arp_ignore')} = {values[name]}" for name in names)
        zeros = " ".join(f"{setting_of(name, 'arp_ignore')}=0" for name in names)
        return Break(text, f"{mend}run: sysctl -w {zeros}", False)

    def _why_dropped(self, *packets: "_Arp") -> Break | None:
        problem, mends = "", []
        for packet in packets:
            for fate in () if self._walk is None else self._walk.fates(packet.flight(self._host)):
                if fate.what is What.DROPPED:
                    problem = problem or f"{fate.chain.place} drops {packet}, by {fate.by}"
                    mends.append(packet.passing(fate.chain))
        return Break(problem, f"run: {' && '.join(mends)}", False) if problem else None


class _Arp:
    """An ARP packet on an interface; an end that is None is any host. ``named``: what a remedy names in place of the
    other end."""

    def __init__(
        self,
        operation: str,
        link: str,
        is_received: bool,
        source: Network | None,
        target: Network | None,
        named: Network | None = None,
    ) -> None:
        self._operation, self._link, self._is_received = operation, link, is_received
        self._ends = [None if end is None else span_of(end) for end in (source, target)]
        self._is_by_target = operation == "request"
        self._named = named or (target if self._is_by_target else source)

    def flight(self, host: HostState) -> Flight:
        """Return how it looks at each hook."""
        source, target = (end or _ANY for end in self._ends)
        around, mark = host.surroundings, None if self._link in host.filtered else 0
        packet = TestPacket(source, target, arp=self._operation, mark=mark)
        if self._is_received:
            packet = replace(packet, iif=self._link)
            views = (*entering(around, packet), (ChainHook.ARP_IN, EARLIEST, packet))
        else:
            packet = replace(packet, oif=self._link)
            views = (*leaving(around, packet), (ChainHook.ARP_OUT, EARLIEST, packet))
        return Flight(str(self), views, "", ("", ""), is_production=False, is_arp=True)

    def passing(self, chain: BaseChain) -> str:
        """Return the command that lets it pass a chain."""
        if chain.place.startswith("arptables"):
            end = "-d" if self._is_by_target else "-s"
            return f"arptables -I {chain.name} --opcode {_OPCODES[self._operation]} {end} {self._named} -j ACCEPT"
        end = "daddr" if self._is_by_target else "saddr"
        start = chain.place.replace("nft", "nft insert rule", 1)
        return f"{start} arp operation {self._operation} arp {end} ip {self._named} accept"

    def __str__(self) -> str:
        words = "ARP requests" if self._operation == "request" else "ARP answers"
        return f"{words} {'from' if self._is_received else 'to'} hosts on {self._link}"


def _off(link: str) -> Break:
    return Break(f"ARP is off on {link} (NOARP)", f"run: ip link set {link} arp on", False)
